"""What happened, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from red_tui.console.chrome import set_border
from red_tui.console.glyphs import Glyphs
from red_tui.console.lines import Line, Lines
from red_tui.console.text import clip, clock_time

if TYPE_CHECKING:
    from red_tui.console.mirror import Event, FederationMirror

_LEVEL_STYLES = {"good": "ready", "warn": "pending", "error": "failed"}
_STATES = {"done": "ready"}
"""A round's states that are told with a node's sign."""
_KIND_GLYPHS = {"wave": "starting", "round": "busy", "cluster": "released"}


def event_line(event: Event, glyphs: Glyphs, subject_width: int) -> Line:
    """Time, sign, subject and text of an event."""
    state = (
        _STATES.get(event.state, event.state)
        or {"error": "failed", "good": "ready"}.get(event.level)
        or _KIND_GLYPHS.get(event.kind, "")
    )
    glyph = glyphs.of(state) if state else glyphs.dot
    style = _LEVEL_STYLES.get(event.level) or (state if event.state else "text")
    subject = clip(event.subject or event.kind, subject_width).ljust(subject_width)
    return (
        (f" {clock_time(event.epoch)}  ", "dim"),
        (f"{glyph} {subject} ", style),
        (event.text, "text"),
    )


class EventsPanel(Lines):
    """Follows the events; paused it stays on what it shows."""

    def __init__(self, glyphs: Glyphs, limit: int = 100, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._glyphs = glyphs
        self._limit = limit
        self._newest = -1
        self._held: list[Event] | None = None
        set_border(self, [("events", "$red-bright")])

    @property
    def paused(self) -> bool:
        """Whether new events are held back."""
        return self._held is not None

    def toggle_pause(self, mirror: FederationMirror) -> bool:
        """Pause or go on; whether it is paused now."""
        self._held = None if self.paused else self._latest(mirror)
        self.update(mirror)
        return self.paused

    def update(self, mirror: FederationMirror) -> None:
        """Show the newest events, once a tick."""
        shown = self._latest(mirror) if self._held is None else self._held
        newest = shown[0].seq if shown else -1
        unseen = sum(1 for event in mirror.events if event.seq > newest) if self.paused else 0
        title = f"events · paused · {unseen} new" if unseen else "events · paused" if self.paused else "events"
        if self._glyphs.ascii_only:
            title = title.replace("·", "-")
        set_border(self, [(title, "$red-bright")])
        self.show(self._draw(shown))

    def _latest(self, mirror: FederationMirror) -> list[Event]:
        return list(islice(reversed(mirror.events), self._limit))

    def _draw(self, events: Iterable[Event]) -> list[Line]:
        found = list(events)
        if not found:
            return [((" nothing has happened yet", "dim"),)]
        width = min(16, max([8, *(len(event.subject or event.kind) for event in found)]))
        return [event_line(event, self._glyphs, width) for event in found]
