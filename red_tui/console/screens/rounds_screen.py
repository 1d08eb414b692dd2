"""Rounds: the course of what they measured, and one line a round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from red_tui.console.config.themes import Glyphs
from red_tui.console.input.actions import key_name
from red_tui.console.text import clip, clock_time, duration, number, plural
from red_tui.console.widgets.lists import Line, labelled, set_border, wrap
from red_tui.console.widgets.node_list import ListView
from red_tui.console.widgets.plots import bars, course
from red_tui.protocol.snapshot import Measured, Spread

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes, FederationMirror
    from red_tui.protocol.snapshot import RoundSummary, Spread


_HIGH_FIRST = {"seconds": "slowest", "loss": "worst", "train loss": "worst"}
"""Measures of which the highest are what somebody looks for, and what they are called."""


def spread_lines(spread: Spread, width: int, ascii_only: bool) -> list[Line]:
    """Distributions, the nodes at their ends, and causes of failures, in lines of `width` cells."""
    lines: list[Line] = []
    for what, causes in (("failed", spread.failed), ("left out", spread.left_out)):
        if causes:
            lines += [(), ((f"{plural(sum(count for _, count, _ in causes), 'node')} {what}", "failed"),)]
        for why, count, ids in causes:
            names = ", ".join(ids) + (f" and {count - len(ids):,} more" if count > len(ids) else "")
            lines += [((f" {row}", "text"),) for row in wrap(f"{names}: {why}", width - 1)]
    for measured in spread.measures:
        lines += _measure_lines(measured, width, ascii_only)
    return lines


def _measure_lines(measured: Measured, width: int, ascii_only: bool) -> list[Line]:
    name, (low, tenth, first, middle, third, ninth, high) = measured.name, measured.quantiles
    head: Line = ((name, "title"), (f"  of {plural(measured.count, 'node')}", "dim"))
    if high <= low:
        return [(), (*head, (f"  all {number(low)}", "text"))]
    wide = max(1, min(3, (width - 2) // len(measured.bins)))
    drawn = [((f" {row}", "busy"),) for row in bars(np.asarray(measured.bins), wide, 2, ascii_only)]
    left, right = number(low), number(high)
    scale = f" {left}{right:>{max(1, wide * len(measured.bins) - len(left))}}"
    told = f"median {number(middle)}, half {number(first)} to {number(third)}, 80 % {number(tenth)} to {number(ninth)}"
    if not math.isnan(measured.mean):
        told += f", mean {number(measured.mean)} {'+-' if ascii_only else '±'} {number(measured.deviation, 2)}"
    if not math.isnan(measured.worst):
        told += f", worst tenth {number(measured.worst)}"
    word = _HIGH_FIRST.get(name)
    ends = [f"{word or 'highest'} {_named(measured.high)}"]
    if word is None:
        ends.insert(0, f"lowest {_named(measured.low)}")
    return [
        (),
        head,
        *drawn,
        ((scale, "dim"),),
        *(((f" {row}", "text"),) for text in (told, *ends) for row in wrap(text, width - 1)),
    ]


def _named(nodes: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{node} {number(value)}" for node, value in nodes)


PLOTTED = 5_000
"""Rounds that a plot goes back at most."""

BORDER, UNSIZED = 6, 60
"""Cells of a border's line that are no title, and the width of a list that has not been laid out yet."""

SPREADS_KEPT = 200
"""Rounds of which it is kept how their nodes did."""

Series = tuple[str, Callable[["RoundSummary"], "float | None"]]


class RoundsView(ListView):
    """One line a round, newest first, under plots of loss, metrics, duration and participation."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(glyphs, **keywords)
        self.first_series = 0
        self._seen = 0
        self._spreads: dict[tuple[int, float], Spread] = {}

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Draw the rounds."""
        before = self.mirror
        self.mirror = mirror
        anew = changes is not None and (changes.full or changes.history)
        if changes is not None and before is mirror and not (anew or "rounds" in changes.parts):
            return
        if changes is not None and self.place and not anew:
            fresh = mirror.round_count - self._seen
            self.place += max(0, fresh)  # the selection stays on its round
        self._seen = mirror.round_count
        told = [(plural(len(mirror.rounds), "round"), "$red-bright")]
        room = (self.outer_size.width or UNSIZED) - BORDER - len(told[0][0])
        best = mirror.round.best
        words = [f"best {clip(best.metric, 16)} {number(best.value)} in round {best.round}"] if best is not None else []
        for text in (*words, *self._hints()):
            if len(text) + 3 <= room:
                room -= len(text) + 3
                told.append((f" {self.glyphs.dot} {text}", "$red-dim" if text not in words else "$red-text"))
        set_border(self, told)
        self.draw()

    def _hints(self) -> list[str]:
        """The keys that tell more of a round and change the next ones, as they are bound."""
        actions = getattr(self.app, "actions", None)
        words = {"detail": "tells how its nodes did", "set": "changes the next rounds"}
        keys = {name: actions.keys.get(name) for name in words} if actions is not None else {}
        return [f"{key_name(bound[0])} {words[name]}" for name, bound in keys.items() if bound]

    def count(self) -> int:
        """How many rounds are over."""
        return len(self.mirror.rounds) if self.mirror is not None else 0

    @property
    def current(self) -> RoundSummary | None:
        """The selected round."""
        if self.mirror is None or not self.mirror.rounds:
            return None
        return self.mirror.rounds[-1 - min(self.place, len(self.mirror.rounds) - 1)]

    def nothing(self) -> str:
        """What is said before the first round is over."""
        if self.mirror is not None and self.mirror.timeline.state:
            return "no round is over at this moment: > goes to the end of the next one"
        return "no round is over yet: r runs one"

    def next_series(self) -> str:
        """Plot other measures first; which."""
        found = self._series()
        self.first_series = (self.first_series + 1) % max(1, len(found))
        self.draw()
        return found[self.first_series][0] if found else ""

    # -- plots -----------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        if self.mirror is None:
            return []
        recent = islice(reversed(self.mirror.rounds), 50)
        names = list(dict.fromkeys(name for result in recent for name in result.metrics))
        return sorted(names, key=lambda name: name != "accuracy")

    def _series(self) -> list[Series]:
        found: list[Series] = [("loss", lambda result: result.loss)]
        for name in self._names():
            found.append((name, lambda result, name=name: result.metrics.get(name)))  # type: ignore[misc]
        found.insert(2, ("seconds", lambda result: result.seconds))
        found.insert(3, ("nodes", lambda result: float(result.participants)))
        found.append(("train loss", lambda result: result.train_loss))
        found.append(("failed nodes", lambda result: float(result.failed)))
        return found

    def make_head(self) -> list[Line]:
        """The plots, as many as there is room for, and the titles of the columns."""
        width, height = self.size.width, self.size.height
        lines: list[Line] = []
        if self.count() > 1 and height >= 12:
            across = 3 if width >= 140 else 2 if width >= 56 else 1
            down = 2 if height >= 17 else 1
            tall = max(3, min(6, (height - 7) // down - 2)) if down == 2 else max(3, min(6, height - 9))
            found = self._series()
            found = found[self.first_series :] + found[: self.first_series]
            for start in range(0, down * across, across):
                lines += self._plots(found[start : start + across], width // across, tall)
        return [*lines, ((self.titles(), "dim"),)]

    def _plots(self, series: list[Series], width: int, height: int) -> list[Line]:
        assert self.mirror is not None
        rounds = list(islice(reversed(self.mirror.rounds), PLOTTED))[::-1]
        titles: list[tuple[str, str]] = []
        rows: list[list[tuple[str, str]]] = [[] for _ in range(height)]
        for name, measure in series:
            values = [measure(result) for result in rounds]
            last = next((value for value in reversed(values) if value is not None), None)
            told = f"{clip(name, 16)} "
            titles += [(f"{told:>9}", "dim"), (f"{number(last)}".ljust(width - max(9, len(told))), "key")]
            for row, text in zip(rows, course(values, width - 2, height, self.glyphs.ascii_only), strict=True):
                row += [(text[:9], "dim"), (text[9:].ljust(width - 9), "busy")]
        return [tuple(titles), *(tuple(row) for row in rows)]

    # -- the table -------------------------------------------------------------------------------

    def _columns(self) -> list[str]:
        room = self.size.width - 58
        return self._names()[: max(0, min(4, room // 11))]

    def titles(self) -> str:
        """The line above the list: a column for each thing that rounds measured."""
        head = f"{'round':>7}  {'loss':>9}" + "".join(f"  {clip(name, 9):>9}" for name in self._columns())
        out = f"  {'out':>6}" if self._shows_left_out() else ""
        return f"{head}  {'train loss':>10}  {'nodes':>7}  {'failed':>6}{out}  {'took':>7}  ended"

    def _shows_left_out(self) -> bool:
        """Whether the table has a column for nodes that were left out: if somebody was, of late."""
        recent = islice(reversed(self.mirror.rounds), 200) if self.mirror is not None else ()
        return any(result.left_out for result in recent)

    def make_line(self, place: int) -> Line:
        """One round."""
        assert self.mirror is not None
        result = self.mirror.rounds[-1 - place]
        state = "failed" if result.state == "failed" else "ready"
        measures = f"  {number(result.loss, 4):>9}"
        measures += "".join(f"  {number(result.metrics.get(name), 4):>9}" for name in self._columns())
        return (
            (f" {self.glyphs.of(state)} ", state),
            (f"{result.number:>4}", "text"),
            (measures, "text"),
            (f"  {number(result.train_loss, 4):>10}  {result.participants:>7,}", "dim"),
            (f"  {result.failed:>6,}", "failed" if result.failed else "dim"),
            *(
                ((f"  {result.left_out:>6,}", "failed" if result.left_out else "dim"),)
                if self._shows_left_out()
                else ()
            ),
            (f"  {duration(result.seconds):>7}  {clock_time(result.ended) if result.ended else ''}", "dim"),
        )

    def beside(self, width: int) -> tuple[str, list[Line]] | None:
        """All that is known of the selected round, and the nodes' last results."""
        result = self.current
        if result is None or self.mirror is None:
            return "no round yet", []
        lines: list[Line] = []
        state = "failed" if result.state == "failed" else "ready"
        lines.append((("state    ", "dim"), (f"{self.glyphs.of(state)} {result.state}", state)))
        for name, value in (("loss", result.loss), ("train", result.train_loss)):
            lines += labelled(name, number(value, 5), width) if value is not None else []
        for name, value in sorted(result.metrics.items()):
            lines += labelled(clip(name, 8), number(value, 5), width)
        told = f"{result.participants:,}" + f", {result.failed:,} failed" * bool(result.failed)
        lines += labelled("nodes", told + f", {result.left_out:,} left out" * bool(result.left_out), width)
        if result.evaluated:
            lines += labelled("judged", f"by {result.evaluated:,}", width)
        if result.examples:
            lines += labelled("examples", f"{result.examples:,.0f}", width)
        lines += labelled("took", duration(result.seconds), width)
        if result.ended:
            lines += labelled("ended", clock_time(result.ended), width)
        if result.error:
            lines += labelled("why", result.error, width, "failed")
        spread = self.spread_of(result)
        if spread is None:
            lines += [(), (("how its nodes did: asking the federation…", "dim"),)]
        elif not (spread.measures or spread.failed or spread.left_out):
            lines += [(), *(((row, "dim"),) for row in wrap(_unknown(spread), width))]
        else:
            lines += spread_lines(spread, width, self.glyphs.ascii_only)
        return f"round {result.number}", lines

    # -- how the nodes of the selected round did ---------------------------------------------------

    def spread_of(self, result: RoundSummary) -> Spread | None:
        """How the nodes of a round did; None while nobody has said so."""
        return result.spread if result.spread is not None else self._spreads.get(_key(result))

    @property
    def wants_spread(self) -> RoundSummary | None:
        """The selected round, if it is not known how its nodes did."""
        result = self.current
        return result if result is not None and self.spread_of(result) is None else None

    def take_spread(self, result: RoundSummary, spread: Spread) -> None:
        """Keep how the nodes of a round did."""
        self._spreads[_key(result)] = spread
        while len(self._spreads) > SPREADS_KEPT:
            del self._spreads[next(iter(self._spreads))]


def _unknown(spread: Spread) -> str:
    return (
        f"how its nodes did is not known here: {spread.why}"
        if spread.why
        else ("how its nodes did is not known any more")
    )


def _key(result: RoundSummary) -> tuple[int, float]:
    return result.number, result.ended
