"""What happened, the newest last."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from red_tui.console.config.themes import Glyphs
from red_tui.console.text import clip, clock_time
from red_tui.console.widgets.lists import Line, Lines, set_border

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import FederationMirror
    from red_tui.protocol.events import EventSummary

_LEVEL_STYLES = {"good": "ready", "warn": "pending", "error": "failed"}
_STATES = {"done": "ready"}
"""A round's states that are told with a node's sign."""
_KIND_GLYPHS = {"wave": "starting", "round": "busy"}


def event_line(event: EventSummary, glyphs: Glyphs, subject_width: int) -> Line:
    """Time, sign, subject and text of an event."""
    by_level = {"error": "failed", "good": "ready"}.get(event.level)
    by_kind = "" if event.level == "warn" else _KIND_GLYPHS.get(event.kind, "")
    state = _STATES.get(event.state, event.state) or by_level or by_kind
    glyph = glyphs.of(state) if state else glyphs.warn if event.level == "warn" else glyphs.dot
    style = _LEVEL_STYLES.get(event.level) or (state if event.state else "text")
    subject = clip(event.subject or event.kind, subject_width).ljust(subject_width)
    return (
        (f" {clock_time(event.epoch)}  ", "dim"),
        (f"{glyph} {subject} ", style),
        (event.text, "text"),
    )


class EventsPanel(Lines):
    """Follows the events, the newest one last; paused it stays on what it shows.

    A new event takes the next free line: only that line is written.  When none is free the panel moves on by some lines
    at once, as terminals do that jump rather than scroll.
    """

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._glyphs = glyphs
        self._first = -1
        self._last = -1
        self._width = 8
        self._mirror: FederationMirror | None = None
        self.paused = False
        """Whether new events are held back."""
        set_border(self, [("events", "$red-bright")])

    def toggle_pause(self, mirror: FederationMirror) -> bool:
        """Pause or go on; whether it is paused now."""
        self.paused = not self.paused
        self.update(mirror)
        return self.paused

    def on_resize(self) -> None:
        """Show as many as there is room for."""
        self._first = -1
        if self._mirror is not None and not self.paused:
            self.update(self._mirror)

    def update(self, mirror: FederationMirror) -> None:
        """Show the newest events, once a tick."""
        self._mirror = mirror
        newest = mirror.events[-1].seq if mirror.events else -1
        if self.paused:
            unseen = sum(1 for _ in takewhile(lambda event: event.seq > self._last, reversed(mirror.events)))
            title = f"events · paused · {unseen:,} new" if unseen else "events · paused"
            set_border(self, [(title.replace("·", self._glyphs.dot), "$red-bright")])
            return
        set_border(self, [("events", "$red-bright")])
        room = max(1, self.size.height)
        if newest < self._last:
            self._first = -1
        recent = list(islice(reversed(mirror.events), room))[::-1]
        shown = [event for event in recent if event.seq >= self._first]
        if len(shown) >= room and shown[0].seq > self._first >= 0:
            fresh = sum(event.seq > self._last for event in shown)
            shown = shown[-max(fresh, room - max(1, room // 3)) :]
        if shown:
            self._first, self._last = shown[0].seq, newest
        self.show(self._draw(shown))

    def _draw(self, events: list[EventSummary]) -> list[Line]:
        if not events:
            return [((" nothing has happened yet", "dim"),)]
        self._width = min(16, max([self._width, *(len(event.subject or event.kind) for event in events)]))
        return [event_line(event, self._glyphs, self._width) for event in events]
