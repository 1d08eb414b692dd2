"""The wave planner: which nodes, how many at a time, in which order; where they go, and what does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from red_tui.console.crash_guard import later
from red_tui.console.dialogs.dialogs import Dialog
from red_tui.console.text import clip, duration, plain, plural
from red_tui.console.widgets.lists import Line, Lines, labelled, wrap
from red_tui.errors import RedError, SelectionError
from red_tui.nodes.states import BUILDABLE

if TYPE_CHECKING:
    from red_tui.console.connection.connection import ConsoleConnection
    from red_tui.console.connection.mirror import FederationMirror
    from red_tui.nodes.table import NodeTable
    from red_tui.selection import Query


Placed = Sequence[Any]
"""Node, bundle and host."""

MAX_LINES = 400


def spans(numbers: Sequence[int]) -> str:
    """Sorted numbers as `1-4, 7, 9-12`."""
    found = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        found.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(found)


def told_of(plan: Mapping[str, Any]) -> tuple[int, int]:
    """How many nodes a plan places and leaves out, those that it does not name included."""
    placed, left = plan.get("placed") or (), plan.get("left_out") or ()
    return int(plan.get("placed_count") or len(placed)), int(plan.get("left_out_count") or len(left))


def headline(plan: Mapping[str, Any]) -> str:
    """The plan in a sentence."""
    placed, left = told_of(plan)
    bundles = len({bundle for _, bundle, _ in plan.get("placed") or ()})
    more = "more than " if placed > len(plan.get("placed") or ()) else ""
    text = f"{plural(placed, 'node')} would go to {more}{plural(bundles, 'bundle')}" if placed else "no node fits"
    if plan.get("processes"):
        text += f", starting {plural(int(plan['processes']), 'process').replace('processs', 'processes')}"
        if plan.get("seconds") is not None:
            text += f" in about {duration(float(plan['seconds']))} at last time's pace"
    if plan.get("reserves"):
        text += ", after the bundles are reserved"
    if left:
        text += f"; {left:,} {'does' if left == 1 else 'do'} not fit"
    return text


def plan_lines(plan: Mapping[str, Any], width: int) -> list[Line]:
    """The plan, a line for each bundle, then what is left out by its reason."""
    lines: list[Line] = [((row, "text"),) for row in wrap(headline(plan), width)]
    if plan.get("no_room"):
        why = f"there is no room for the bundles now: {plain(plan['no_room'])}"
        lines += [(), *[((row, "pending"),) for row in wrap(why, width)]]
    lines += placed_lines(plan.get("placed") or (), width)
    placed, left = told_of(plan)
    unnamed = placed - len(plan.get("placed") or ())
    if unnamed > 0:
        lines.append(((f"and {plural(unnamed, 'more node')}", "dim"),))
    lines += left_lines(plan.get("left_out") or (), left, width)
    return lines


def placed_lines(placed: Sequence[Placed], width: int) -> list[Line]:
    """A line for each bundle with its nodes."""
    if not placed:
        return []
    of_bundle: dict[tuple[int, str], list[str]] = {}
    for node, bundle, host in placed:
        of_bundle.setdefault((int(bundle), plain(host)), []).append(plain(node))
    lines: list[Line] = [(), (("bundle  host        nodes", "dim"),)]
    for (bundle, host), nodes in sorted(of_bundle.items())[:MAX_LINES]:
        count = f"{len(nodes):,}: " if len(nodes) > 1 else ""
        told = clip(f"{count}{', '.join(nodes[:8])}", max(10, width - 20))
        lines.append(((f"{bundle:>6}  ", "text"), (clip(host, 10).ljust(12), "dim"), (told, "ready")))
    if len(of_bundle) > MAX_LINES:
        lines.append(((f"and {len(of_bundle) - MAX_LINES:,} more bundles", "dim"),))
    return lines


def left_lines(left_out: Sequence[Sequence[Any]], count: int, width: int) -> list[Line]:
    """What does not fit: each reason once, with those that it holds for."""
    if not left_out:
        return []
    by_reason: dict[str, list[str]] = {}
    for node, why in left_out:
        by_reason.setdefault(plain(why), []).append(plain(node))
    lines: list[Line] = [(), ((f"{plural(count, 'node')} left out", "pending"),)]
    for why, nodes in list(by_reason.items())[:MAX_LINES]:
        names = ", ".join(nodes[:4]) + (f" and {len(nodes) - 4:,} more" if len(nodes) > 4 else "")
        lines += labelled(clip(names, 40), why, width, label_width=min(44, len(clip(names, 40)) + 2))
    return lines


Rows = npt.NDArray[np.integer[Any]]

ORDERS = ("id", "role", "least recently used", "random")
SPLITS = ("size", "count")


@dataclass(frozen=True)
class PlannedWaves:
    """Nodes split into waves; every node is in exactly one.

    Attributes:
        rows: All of them, in the order in which they are built.
        ends: Where each wave ends.
    """

    rows: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    ends: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def start(self, place: int) -> int:
        """Where a wave begins."""
        return int(self.ends[place - 1]) if place else 0

    def wave(self, place: int) -> Rows:
        """The rows of a wave."""
        return self.rows[self.start(place) : int(self.ends[place])]


def candidates(table: NodeTable, query: Query | None, marked: Rows | None = None) -> Rows:
    """Rows that can be built: of what a query matches, else of the marks, else of all but servers."""
    buildable = table.in_states(BUILDABLE)
    if query is not None:
        return np.flatnonzero(buildable & query.mask(table))
    if marked is not None and len(marked):
        return marked[buildable[marked]]
    server = np.array([str(roles) == "server" for roles in table.roles] or [False])
    return np.flatnonzero(buildable & ~server[table.column("role")])


def ordered(table: NodeTable, rows: Rows, order: str, seed: int) -> Rows:
    """Rows in the order in which they are built; equal ones as they stand in the table."""
    if order == "random":
        return np.random.default_rng(seed).permutation(rows)
    if order == "role":
        names = [str(roles) for roles in table.roles]
        rank = np.empty(max(1, len(names)), dtype=np.int64)
        rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        return rows[np.argsort(rank[table.column("role")[rows]], kind="stable")]
    if order == "least recently used":
        return rows[np.argsort(table.column("since")[rows], kind="stable")]
    return rows


def split(rows: Rows, by: str, number: int) -> PlannedWaves:
    """Waves of `number` nodes (`size`), or `number` waves whose sizes differ by one at most (`count`)."""
    if not len(rows):
        return PlannedWaves()
    number = max(1, number)
    if by == "size":
        ends = np.append(np.arange(number, len(rows), number), len(rows))
    else:
        number = min(number, len(rows))
        ends = np.cumsum(np.full(number, len(rows) // number) + (np.arange(number) < len(rows) % number))
    return PlannedWaves(rows, ends)


REST = 0.2
PREVIEWED = 1000
"""Nodes whose places are asked for."""


@dataclass(frozen=True)
class Choices:
    """What is chosen in the planner."""

    query: str = ""
    by: str = SPLITS[0]
    number: int = 8
    order: str = ORDERS[0]
    seed: int = 7
    pause: int = 5


@dataclass(frozen=True)
class Answer:
    """What is to be built: the ids of each wave, and how long to wait between them."""

    choices: Choices
    waves: tuple[Rows, ...]


class WavePlanner(Dialog[Answer], inherit_bindings=False):
    """Fields above, waves below, what can be done at the bottom."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "field(-1)", show=False),
        Binding("down", "field(1)", show=False),
        Binding("left", "turn(-1)", show=False),
        Binding("right", "turn(1)", show=False),
        Binding("pageup", "wave(-1)", show=False),
        Binding("pagedown", "wave(1)", show=False),
        Binding("tab", "choose(1)", show=False),
        Binding("shift+tab", "choose(-1)", show=False),
        Binding("enter", "answer", show=False),
        Binding("escape", "cancel", show=False),
        Binding("ctrl+c", "cancel", show=False),
    ]
    FIELDS = ("nodes", "waves", "number", "order", "seed", "pause")

    def __init__(self, mirror: FederationMirror, session: ConsoleConnection, marked: Rows, choices: Choices) -> None:
        super().__init__("wave planner", (), "arrows and typing change, pgup/pgdn wave, tab, enter, esc", tall=True)
        self._mirror, self._session, self._marked = mirror, session, marked
        self.choices = choices
        self.field = 0
        self._come = True
        self.wave = 0
        self.choice = 0
        self.waves = PlannedWaves()
        self.error = ""
        self.preview: Mapping[str, Any] | None = None
        """The build plan of the waves that are looked at, once the federation has answered."""
        self._why = ""
        self.answers = Lines(classes="choices")

    def compose_more(self) -> ComposeResult:
        """What can be done."""
        yield self.answers

    def on_mount(self) -> None:
        """Plan at once."""
        self.call_after_refresh(self.plan)

    def on_resize(self) -> None:
        """Draw for the new width."""
        self.call_after_refresh(self._draw)

    # -- keys ------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """Type into the field: a query, or a number."""
        name = self._fields()[self.field]
        if name in ("waves", "order"):
            if event.key == "space":
                self.action_turn(1)
                event.stop()
            return
        value = str(getattr(self.choices, "query" if name == "nodes" else name))
        if event.key == "backspace":
            value = value[:-1]
        elif event.character and event.is_printable and (name == "nodes" or event.character.isdigit()):
            anew = name != "nodes" and (self._come or value == "0")
            value = event.character if anew else value + event.character
        else:
            return
        event.stop()
        self._come = False
        if name == "nodes":
            self.choices = replace(self.choices, query=value)
        else:
            self._set_number(name, min(50_000_000, int(value or 0)))
        self.plan()

    def action_field(self, step: int) -> None:
        """Another field."""
        self.field = (self.field + step) % len(self._fields())
        self._come = True
        self._draw()

    def action_turn(self, step: int) -> None:
        """Another value of a field with few of them; one more or less of a number."""
        name = self._fields()[self.field]
        if name == "waves":
            self.choices = replace(self.choices, by=_turned(SPLITS, self.choices.by, step))
        elif name == "order":
            self.choices = replace(self.choices, order=_turned(ORDERS, self.choices.order, step))
        elif name != "nodes":
            value = max(0 if name != "number" else 1, int(getattr(self.choices, name)) + step)
            self._set_number(name, value)
        else:
            return
        self.plan()

    def _set_number(self, name: str, value: int) -> None:
        changed: dict[str, Any] = {name: value}
        self.choices = replace(self.choices, **changed)

    def action_wave(self, step: int) -> None:
        """Look at another wave."""
        self.wave = min(max(0, self.wave + step), max(0, len(self.waves) - 1))
        self._draw()
        self._ask_soon()

    def action_choose(self, step: int) -> None:
        """Another answer gets the focus."""
        self.choice = (self.choice + step) % len(self._answers())
        self._draw()

    def action_answer(self) -> None:
        """Give the answer that has the focus."""
        if self.error:
            return  # enter ends typing for many: nothing is lost by it
        what = self._answers()[self.choice][0]
        if what == "close":
            self.dismiss(None)
        elif len(self.waves):
            places = [self.wave] if what == "one" else range(self.wave, len(self.waves))
            self.dismiss(Answer(self.choices, tuple(self.waves.wave(place) for place in places)))

    # -- planning --------------------------------------------------------------------------------

    def plan(self) -> None:
        """Split the nodes again, and ask where the waves would go."""
        query: Query | None = None
        self.error = ""
        if self.choices.query.strip():
            from red_tui.selection import parse

            try:
                query = parse(self.choices.query)
            except SelectionError as error:
                self.error = error.message.split("\n")[0]
                self._draw()
                return
        self.run_worker(later(self._split, query), name="split", group="split", exclusive=True)

    async def _split(self, query: Query | None) -> None:
        table, choices = self._mirror.table, self.choices

        def compute() -> PlannedWaves:
            rows = ordered(table, candidates(table, query, self._marked), choices.order, choices.seed)
            return split(rows, choices.by, choices.number)

        self.waves = await asyncio.to_thread(compute)
        self.wave = min(self.wave, max(0, len(self.waves) - 1))
        self.preview, self._why = None, ""
        self._draw()
        self._ask_soon()

    def _ask_soon(self) -> None:
        self.run_worker(later(self._ask), name="preview", group="preview", exclusive=True)

    async def _ask(self) -> None:
        if not len(self.waves):
            return
        await asyncio.sleep(REST)
        # All waves up to the one that is looked at stand when it is built: its places are what they leave.
        end = int(self.waves.ends[self.wave])
        start = 0 if end <= PREVIEWED else self.waves.start(self.wave)
        rows = self.waves.rows[start : min(end, start + PREVIEWED)]
        try:
            plan = await self._session.command("plan", {"ids": self._mirror.table.ids.take(rows)})
        except RedError as error:
            self.preview, self._why = None, error.message.split("\n")[0]
        else:
            self.preview, self._why = plan, ""
        self._draw()

    # -- drawing ---------------------------------------------------------------------------------

    def _fields(self) -> list[str]:
        return [name for name in self.FIELDS if name != "seed" or self.choices.order == "random"]

    def _answers(self) -> list[tuple[str, str]]:
        if not len(self.waves) or self.error:
            return [("close", "Close")]
        left = len(self.waves) - self.wave
        found = [("one", f"Build wave {self.wave + 1}")]
        if left > 1:
            pause = f", {duration(self.choices.pause)} apart" if self.choices.pause else ""
            found.append(("all", f"Build {left:,} waves{pause}"))
        return [*found, ("close", "Close")]

    def _draw(self) -> None:
        width = max(40, self.body.size.width - 1)
        self.body.show([*self._form(width), (), *self._preview(width)])
        found = self._answers()
        self.choice = min(self.choice, len(found) - 1)
        parts: list[tuple[str, str]] = []
        for place, (_, label) in enumerate(found):
            chosen = place == self.choice
            parts.append((f"[ {label} ]" if chosen else f"  {label}  ", "key" if chosen else "text"))
        self.answers.show([tuple(parts)])

    def _form(self, width: int) -> list[Line]:
        choices = self.choices
        everything = f"the {len(self._marked):,} marked" if len(self._marked) else "all that have no process"
        values = {
            "nodes": choices.query or f"({everything}; type a query)",
            "waves": f"by {choices.by}",
            "number": f"{choices.number:,} " + ("nodes each" if choices.by == "size" else "waves"),
            "order": choices.order,
            "seed": str(choices.seed),
            "pause": f"{choices.pause} s between waves",
        }
        lines: list[Line] = []
        for place, name in enumerate(self._fields()):
            chosen = place == self.field
            cursor = "_" if chosen and name == "nodes" and choices.query else ""
            lines.append(((f"{'>' if chosen else ' '} {name:<8}", "key" if chosen else "dim"),
                          (clip(values[name] + cursor, width - 12), "key" if chosen else "text")))  # fmt: skip
        if self.error:
            lines += [((row, "error"),) for row in wrap(self.error, width)]
        return lines

    def _preview(self, width: int) -> list[Line]:
        if self.error:
            return []
        if not len(self.waves):
            return [(("no node that is virtual or released is chosen", "pending"),)]
        ids, waves = self._mirror.table.ids, self.waves
        told = f"{plural(len(waves.rows), 'node')} in {plural(len(waves), 'wave')}"
        lines: list[Line] = [((told, "title"),)]
        room = max(3, self.body.size.height - len(self._form(width)) - 10)
        first = max(0, min(self.wave - room // 2, len(waves) - room))
        for place in range(first, min(len(waves), first + room)):
            rows = waves.wave(place)
            names = plain(ids[int(rows[0])])
            if len(rows) > 1:
                names += f" … {plain(ids[int(rows[-1])])}" if len(rows) > 2 else f", {plain(ids[int(rows[1])])}"
            here = place == self.wave
            lines.append((
                (f"{'>' if here else ' '} wave {place + 1:<4} ", "key" if here else "dim"),
                (f"{len(rows):>7,}  ", "text"),
                (clip(names, width - 24), "key" if here else "text"),
            ))  # fmt: skip
        if first + room < len(waves):
            lines.append(((f"  and {len(waves) - first - room:,} more", "dim"),))
        return [*lines, (), *self._places(width)]

    def _places(self, width: int) -> list[Line]:
        """Where the wave that is looked at would go."""
        if self._why:
            return [((row, "error"),) for row in wrap(self._why, width)]
        if self.preview is None:
            return [(("asking the federation where it would go…", "dim"),)]
        mine = set(self._mirror.table.ids.take(self.waves.wave(self.wave)[:PREVIEWED]))
        placed = [one for one in self.preview.get("placed") or () if one[0] in mine]
        left = [one for one in self.preview.get("left_out") or () if one[0] in mine]
        lines: list[Line] = []
        if placed:
            bundles = sorted({int(bundle) for _, bundle, _ in placed})
            hosts = sorted({plain(host) for _, _, host in placed if host})
            text = f"wave {self.wave + 1}: {plural(len(placed), 'node')} to bundle{'s' * (len(bundles) > 1)} "
            text += spans(bundles) + (f" on {', '.join(hosts)}" if hosts else "")
            lines += [((row, "ready"),) for row in wrap(text, width)[:4]]
        return [*lines, *left_lines(left, len(left), width)[1:]]


def _turned(values: tuple[str, ...], value: str, step: int) -> str:
    return values[(values.index(value) + step) % len(values)]
