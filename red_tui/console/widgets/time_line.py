"""The line that tells where a replay stands: playing or not, the moment, the round, the event, how far it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from textual.content import Content
from textual.widget import Widget

from red_tui.console.config.themes import Glyphs
from red_tui.console.crash_guard import CrashGuard
from red_tui.console.text import clip, clock_time, duration
from red_tui.console.widgets.header import GAP, Part, Piece, chosen_of
from red_tui.protocol.snapshot import TimeLine

SHORTEST_BAR, LONGEST_BAR = 8, 32
SHORTEST_TEXT = 24
"""Cells in which it is worth while to tell what happened."""

_WORDS = {
    "playing": ("busy", "playing"),
    "paused": ("released", "paused"),
    "end": ("released", "at the end"),
    "following": ("ready", "following"),
}


class TimeLineBar(CrashGuard, Widget):
    """Draws one line; what does not fit is left out, least important first."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._glyphs = glyphs
        self._line = TimeLine()

    def show(self, line: TimeLine) -> None:
        """Show another moment; nothing is drawn if it says what is there already."""
        if line != self._line:
            self._line = line
            self.refresh()

    @property
    def text(self) -> str:
        """The line without styles."""
        return self.render().plain

    def render(self) -> Content:
        """The line."""
        line, room = self._line, self.size.width - 2
        if not line.state:
            return Content(" ")
        pieces = self._pieces(line)
        chosen = chosen_of(pieces, room)
        room -= sum(pieces[place].width for place in chosen)
        parts: list[Part] = []
        for place in sorted(chosen):
            parts += [(" " * (1 if pieces[place].joined or not parts else GAP), ""), *pieces[place].parts]
        parts.append((" " * GAP, ""))
        if room >= SHORTEST_BAR:
            width = room if room < LONGEST_BAR + 2 * GAP + SHORTEST_TEXT else LONGEST_BAR
            full, empty = self._bar(line, width)
            parts += [(full, "$red-busy"), (empty, "$red-bar-empty")]
            room -= width + GAP
        if room >= SHORTEST_TEXT:
            parts += [(" " * GAP, ""), (clip(line.text, room, self._glyphs.ellipsis), "$red-dim")]
        return Content.assemble(*parts)

    def _bar(self, line: TimeLine, width: int) -> tuple[str, str]:
        if line.position >= line.total:
            return self._glyphs.bar_full * width, ""
        span = line.end - line.start
        share = (line.moment - line.start) / span if span > 0 else line.position / max(1, line.total)
        return self._glyphs.bar(share, width)

    def _pieces(self, line: TimeLine) -> Sequence[Piece]:
        state, word = _WORDS.get(line.state, ("released", line.state))
        speed = "max" if line.speed is None else f"{line.speed:g}x"
        said: list[Part] = [(f"{self._glyphs.of(state)} {word}", f"bold $red-{state}")]
        if line.state in ("playing", "paused"):
            said.append((f" {speed}", "$red-bright"))
        after = max(0.0, line.moment - line.start)
        found = [
            Piece(tuple(said), 0),
            Piece(((_when(line), "$red-bright"),), 1),
            Piece(((f"+{duration(round(after))}", "$red-dim"),), 4, joined=True),
        ]
        if line.skipped >= 1:
            sign = ">>" if self._glyphs.ascii_only else "»"
            found.append(Piece(((f"{sign} {duration(round(line.skipped))} skipped", "$red-pending"),), 1))
        if line.rounds or line.round:
            rounds = f"{line.round:,}/{max(line.rounds, line.round):,}"
            found.append(Piece((("round ", "$red-dim"), (rounds, "$red-bright")), 2))
        events = f"{line.event:,}/{line.last_event:,}"
        found.append(Piece((("event ", "$red-dim"), (events, "$red-text")), 3))
        return found


def _when(line: TimeLine) -> str:
    """The moment on the clock, with its day where the journal has several."""
    first, last, now = (time.localtime(second) for second in (line.start, line.end, line.moment))
    day = f"{time.strftime('%Y-%m-%d', now)} " if first[:3] != last[:3] else ""
    return day + clock_time(line.moment)
