"""What stands left of a grid's cells: bundle, host, resources, or the name of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from red_tui.console.config.themes import Glyphs
from red_tui.console.text import amount, clip, plural, short_count

if TYPE_CHECKING:
    from red_tui.console.grid.arrangement import Section
    from red_tui.protocol.snapshot import HostStatus

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
