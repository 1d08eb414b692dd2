"""What stands left of a grid's cells: bundle, host, resources, or the name of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.console.config.themes import Glyphs
from red_tui.console.text import amount, clip, plural, short_count
from red_tui.nodes.states import STATES, NodeState

if TYPE_CHECKING:
    from red_tui.console.grid.arrangement import Section
    from red_tui.protocol.snapshot import HostStatus


Ints = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]


class Marks:
    """A mark per row of a table, with a tally by state that costs what changes."""

    def __init__(self, length: int = 0) -> None:
        self.mask: BoolArray = np.zeros(length, dtype=bool)
        self.tally = np.zeros(len(STATES), dtype=np.int64)
        self.count = 0
        self.version = 0

    def set(self, rows: Ints, on: bool, states: Ints) -> None:
        """Mark rows or take their marks away; `states` are those of the whole table."""
        turned = rows[self.mask[rows] != on]
        self.mask[turned] = on
        step = 1 if on else -1
        self.tally += step * np.bincount(states[turned], minlength=len(STATES))
        self.count += step * len(turned)
        self.version += 1

    def clear(self) -> None:
        """Take all marks away."""
        self.mask[:] = False
        self.tally[:] = 0
        self.count = 0
        self.version += 1

    def recount(self, states: Ints) -> None:
        """Tally again by the states of the whole table; what was removed loses its mark."""
        if not self.count:
            return
        self.mask[np.flatnonzero(self.mask & (states[: len(self.mask)] == NodeState.REMOVED.code))] = False
        rows = np.flatnonzero(self.mask)
        self.tally, self.count = np.bincount(states[rows], minlength=len(STATES)), len(rows)
        self.version += 1

    def grow(self, length: int) -> None:
        """Make room for new rows."""
        if length > len(self.mask):
            self.mask = np.concatenate([self.mask, np.zeros(length - len(self.mask), dtype=bool)])

    def follow(self, rows: Ints, before: Ints, after: Ints) -> None:
        """States of rows changed; a removed node loses its mark."""
        if not self.count:
            return
        marked = self.mask[rows]
        self.tally -= np.bincount(before[marked], minlength=len(STATES))
        self.tally += np.bincount(after[marked], minlength=len(STATES))
        gone = rows[marked & (after == NodeState.REMOVED.code)]
        if len(gone):
            self.mask[gone] = False
            self.tally[NodeState.REMOVED.code] -= len(gone)
            self.count -= len(gone)
            self.version += 1

    def rows(self) -> Ints:
        """The marked rows."""
        return np.flatnonzero(self.mask) if self.count else np.empty(0, dtype=np.int64)


Part = tuple[str, str]
"""A text and the name of its style."""


@dataclass(frozen=True)
class Label:
    """One column of labels."""

    title: str
    width: int
    right: bool

    def fit(self, text: str) -> str:
        """`text` in the column's width."""
        text = clip(text, self.width)
        return text.rjust(self.width) if self.right else text.ljust(self.width)


def columns(grouping: str, sections: Sequence[Section], width: int) -> list[Label]:
    """The label columns of a grouping that a grid of `width` cells has room for."""
    if grouping == "state":
        return [Label("state", 10, False), Label("nodes", 9, True)]
    hosts = [section.bundle.host for section in sections if section.bundle is not None]
    hosts += [section.name for section in sections if section.kind == "host"]
    found = [Label("host", min(max([4, *map(len, hosts)]), 20 if width >= 100 else 10), False)]
    if grouping == "bundle":
        found.insert(0, Label("bundle", 6, True))
    else:
        found.append(Label("bundles", 7, True))
        if width >= 90:
            found.append(Label("", 6, False))
    found.append(Label("cpu", 5, True))
    if any(section.gpu for section in sections):
        found.append(Label("gpu", 4, True))
    return found


def parts(
    grouping: str,
    labels: Sequence[Label],
    section: Section,
    count: int,
    hosts: Sequence[HostStatus],
    glyphs: Glyphs,
) -> list[Part]:
    """The labels of a section, one part a column."""
    if grouping == "state":
        glyph = glyphs.of(section.name)
        return [(labels[0].fit(f"{glyph} {section.name}"), section.name), (labels[1].fit(f"{count:,}"), "text")]
    if section.kind == "pool":
        room = sum(label.width for label in labels) + 2 * (len(labels) - 1)
        head = labels[0].fit("pool") if grouping == "bundle" else "pool"
        room -= len(head) + 2
        words = (f"{count:,} unplaced", plural(count, "node"), f"{short_count(count)} nodes") if count else ("",)
        told = next((told for told in words if len(told) <= room), short_count(count))
        return [(head, "text"), (told.ljust(room), "dim")]
    found: list[Part] = []
    for label in labels:
        found.append(_part(label, section, count, hosts, glyphs))
    return found


def _part(label: Label, section: Section, count: int, hosts: Sequence[HostStatus], glyphs: Glyphs) -> Part:
    bundle = section.bundle
    state = bundle.state if bundle is not None else "ready"
    quiet = "text" if count else "dim"
    if label.title == "bundle":
        return label.fit(section.name), {"pending": "pending", "lost": "failed"}.get(state, "text")
    if label.title == "host":
        if section.kind == "host":
            return label.fit(section.name), "text"
        words = {"pending": "pending", "lost": "lost"}
        return label.fit(words.get(state) or (bundle.host if bundle else "?")), (
            {"pending": "pending", "lost": "failed"}.get(state, "dim")
        )
    if label.title == "bundles":
        return label.fit(str(section.bundles)), "text"
    if label.title == "cpu":
        return label.fit(amount(section.cpu)), quiet
    if label.title == "gpu":
        return label.fit(amount(section.gpu) if section.gpu else glyphs.dash), quiet
    total = sum(host.cpu for host in hosts if host.name == section.name)
    full, empty = glyphs.bar(section.cpu / total if total else 0.0, label.width)
    return full + empty, "ready"
