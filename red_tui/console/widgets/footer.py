"""The last line: the keys that matter now, or a word about what was just done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from red_tui.console.config.themes import Glyphs
from red_tui.console.crash_guard import CrashGuard
from red_tui.console.input.actions import ActionMap, Situation, key_name
from red_tui.console.text import clip, clock_time, duration, plain
from red_tui.console.widgets.header import GAP, Part, Piece, chosen_of
from red_tui.console.widgets.lists import wrap
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


MOST_LINES = 3
"""Lines that an error takes at most."""

PASSING = 8.0
"""Seconds after which a word that passes makes room for the keys."""

_LEVELS = {"info": "$red-bright", "good": "$red-ready", "warn": "$red-pending", "error": "$red-failed"}


class FooterLine(CrashGuard, Widget):
    """Draws keys with labels, as many as fit; a message takes their place until the next key, or for a while."""

    def __init__(self, glyphs: Glyphs, id: str | None = None) -> None:
        super().__init__(id=id)
        self._glyphs = glyphs
        self._keys: tuple[tuple[str, str, int], ...] = ()
        self._message: tuple[str, str] | None = None
        self._passing: Timer | None = None

    @property
    def message(self) -> str:
        """The message that is shown, or nothing."""
        return self._message[0] if self._message else ""

    @property
    def is_error(self) -> bool:
        """Whether the message that is shown is an error, which stays until it is seen."""
        return self._message is not None and self._message[1] == "error"

    def show_keys(self, keys: Sequence[tuple[str, str, int]]) -> None:
        """Tell these keys from now on: key, label and place, the most important first."""
        if tuple(keys) != self._keys:
            self._keys = tuple(keys)
            self.refresh()

    def say(self, text: str, level: str = "info", passes: bool = False) -> None:
        """Show a message in place of the keys; an empty one brings the keys back.

        Args:
            text: The message.
            level: `info`, `good`, `warn` or `error`.
            passes: Whether the keys come back by themselves after a while.
        """
        if self._passing is not None:
            self._passing.stop()
            self._passing = None
        if text and passes:
            self._passing = self.set_timer(PASSING, lambda: self.say(""))
        message = (plain(text), level) if text else None
        if message != self._message:
            self._message = message
            self._fit()
            self.refresh()

    def render(self) -> Content:
        """The line."""
        if self._message is not None:
            style = _LEVELS.get(self._message[1], "$red-bright")
            rows = self._rows(max(1, self.size.height))
            return Content("\n").join(Content.assemble(" ", (self._sign(row), style)) for row in rows)
        chosen: list[tuple[int, str, str]] = []
        room = self.size.width + 1
        for key, label, place in self._keys:
            width = len(key) + len(label) + 3
            if width <= room:
                room -= width
                chosen.append((place, key, label))
        shown = [(key, label) for _, key, label in sorted(chosen)]
        parts: list[tuple[str, str] | str] = [" "]
        for place, (key, label) in enumerate(shown):
            gap = "  " if place < len(shown) - 1 else ""
            parts += [(key, "bold $red-bright"), (f" {self._sign(label)}{gap}", "$red-dim")]
        return Content.assemble(*parts)

    def on_resize(self) -> None:
        """Take as many lines as the message needs in the new width."""
        self._fit()

    def _fit(self) -> None:
        """Take the lines that an error needs: what is wrong and what to do is no use cut off."""
        wanted = len(self._rows(MOST_LINES)) if self._message is not None and self._message[1] == "error" else 1
        if self.styles.height is None or self.styles.height.value != wanted:
            self.styles.height = wanted

    def _rows(self, most: int) -> list[str]:
        """The message in at most so many lines; one that points at a place in what is typed stays in its line."""
        assert self._message is not None
        text, width = self._message[0], max(1, (self.size.width or self.app.size.width) - 2)
        if most == 1 or len(text) <= width or text.startswith(" "):
            return [clip(text, width)]
        rows = wrap(text, width)
        return rows if len(rows) <= most else [*rows[: most - 1], clip(" ".join(rows[most - 1 :]), width)]

    def _sign(self, text: str) -> str:
        """`text` with the ellipsis that this terminal can show."""
        return text.replace("…", self._glyphs.ellipsis)


Told = tuple[str, str, int]
"""A key, its label, and its place in the line."""

_HERE: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "rounds": {"sort": (9, "other plots"), "copy": (12, "copy")},
    "placement": {"detail": (4, "its nodes"), "copy": (12, "copy")},
    "topology": {"zoom": (6, "drawn or listed"), "filter": (10, "filter")},
    "events": {"detail": (4, "all of it"), "pause": (5, "pause"), "filter": (6, "filter"), "copy": (12, "copy")},
    "nodes": {"sort": (6, "sort"), "columns": (6, "columns")},
}
"""What is told in a view besides what is told everywhere: rank and label by action id."""

_OF_NODES = frozenset({"build", "release", "rebuild", "mark", "filter", "detail"})
"""Actions that mean a node, told only where nodes are seen."""

_QUIET: Mapping[str, tuple[str, ...]] = {
    "wave": ("rounds", "placement", "topology", "events", "nodes"),
    "round": ("placement", "events"),
    "run": ("placement", "topology", "events", "nodes"),
}
"""Views in which an action is told only where there is much room."""

_NODES_SEEN = frozenset({"grid", "topology", "nodes"})
_SCREENS_RANK = 7


def footer_keys(actions: ActionMap, now: Situation) -> list[Told]:
    """What the last line tells, by importance."""
    here = _HERE.get(now.view, {})
    found = _screens(actions, now)
    for place, action in enumerate(actions.actions):
        unseen = action.id in _OF_NODES and now.view not in _NODES_SEEN
        rank, label = here.get(action.id, (0 if unseen else action.footer, action.label))
        if now.view in _QUIET.get(action.id, ()):
            rank += 10
        if action.id == "escape" and now.filtered:
            rank, label = 5, "clear filter"
        elif action.id == "escape" and now.view != "grid":
            rank = 6
        elif action.id == "escape":  # a message it would take away goes by itself
            rank, label = (rank, "unmark") if now.marks else (0, label)
        if rank and actions.keys[action.id] and action.possible(now) is None:
            found.append((rank, key_name(actions.keys[action.id][0]), label, place))
    found.sort(key=lambda told: told[0])
    return [(key, label, place) for _, key, label, place in found]


def _screens(actions: ActionMap, now: Situation) -> list[tuple[int, str, str, int]]:
    """The keys of the screens as one entry: `1-6` where one follows the other."""
    views = [(place, action) for place, action in enumerate(actions.actions) if action.id.startswith("view_")]
    keys = [actions.keys[action.id][0] for _, action in views if actions.keys[action.id]]
    if not keys or views[0][1].possible(now) is not None:
        return []
    follow = len(keys) > 1 and "".join(keys) in "123456789"
    told = f"{keys[0]}-{keys[-1]}" if follow else " ".join(map(key_name, keys))
    before = next((place for place, action in enumerate(actions.actions) if action.id == "command"), 0)
    return [(_SCREENS_RANK, told, "screens", before)]
