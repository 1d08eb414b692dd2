"""The last line: the keys that matter now, or a word about what was just done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from red_tui.console.config.themes import Glyphs
from red_tui.console.crash_guard import CrashGuard
from red_tui.console.input.actions import ActionMap, Situation, key_name
from red_tui.console.text import clip, plain
from red_tui.console.widgets.lists import wrap

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
