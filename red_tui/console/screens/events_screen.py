"""All events, newest first; those before what the console holds are asked for at the end of the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from red_tui.console.config.themes import Glyphs
from red_tui.console.text import clip, clock_time, plural
from red_tui.console.widgets.events_panel import event_line
from red_tui.console.widgets.lists import Line, labelled, set_border, wrap
from red_tui.console.widgets.node_list import ListView

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes, FederationMirror
    from red_tui.protocol.events import EventSummary


RECENT = 200
"""Events whose subjects decide how wide that column is."""


class EventsView(ListView):
    """Follows the newest event while that is selected; else stays on the selected one.  A filter keeps some of them."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(glyphs, **keywords)
        self.words = ""
        """What the events are filtered by: words that each must hold."""
        self.paused = False
        """Whether new events are held back."""
        self.whole = False
        """Whether nothing is older than what is shown."""
        self._held = -1
        self._subject_width = 8
        self._events: list[EventSummary] = []

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Take new events over."""
        fresh = self.mirror is not mirror or changes is None or changes.full or changes.history
        self.mirror = mirror
        if changes is not None and (changes.full or changes.history):
            self.whole = False
        if not fresh and not (changes is not None and changes.events):
            return
        current = self.current if self.place or self.paused else None
        if fresh or changes is None:
            self._events = [event for event in reversed(mirror.events) if self._wanted(event)]
        elif not self.paused:
            self._events = [*(e for e in reversed(changes.events) if self._wanted(e)), *self._events]
            del self._events[mirror.events.maxlen or len(self._events) :]
        if current is not None:
            self.place = next((nth for nth, event in enumerate(self._events) if event.seq == current.seq), self.place)
        recent = (len(event.subject or event.kind) for event in self._events[:RECENT])
        self._subject_width = min(16, max([8, *recent]))
        self._tell()
        self.draw()

    def pause(self, paused: bool) -> None:
        """Hold new events back, or show them again."""
        self.paused = paused
        if self.mirror is not None:
            self._held = self.mirror.events[-1].seq if self.mirror.events else -1
            self.refresh_from(self.mirror)

    def filter(self, words: str) -> None:
        """Show the events that hold all these words."""
        self.words, self.place = words, 0
        if self.mirror is not None:
            self.refresh_from(self.mirror)

    @property
    def current(self) -> EventSummary | None:
        """The selected event."""
        return self._events[self.place] if self.place < len(self._events) else None

    @property
    def at_end(self) -> bool:
        """Whether the oldest event that is shown is selected."""
        return self.place >= len(self._events) - 1

    def count(self) -> int:
        """How many events are shown."""
        return len(self._events)

    def nothing(self) -> str:
        """What is said where there are none."""
        return "no event holds these words" if self.words else "nothing has happened yet"

    def make_line(self, place: int) -> Line:
        """One event."""
        return event_line(self._events[place], self.glyphs, self._subject_width)

    def beside(self, width: int) -> tuple[str, list[Line]] | None:
        """The whole of the selected event, which its line may have no room for."""
        event = self.current
        if event is None:
            return "no event", []
        lines = labelled("time", clock_time(event.epoch), width)
        lines += labelled("kind", f"{event.kind} {self.glyphs.dot} {event.level}", width)
        return event.subject or event.kind, [*lines, (), *(((row, "text"),) for row in wrap(event.text, width))]

    def _wanted(self, event: EventSummary) -> bool:
        if self.paused and event.seq > self._held:
            return False
        if not self.words:
            return True
        text = f"{event.kind} {event.level} {event.subject} {event.text} {event.state}".lower()
        return all(word in text for word in self.words.lower().split())

    def _tell(self) -> None:
        told = plural(len(self._events), "event")
        title = [(told if self.whole else f"{told}, older ones at the end", "$red-bright")]
        if self.words:
            title.append((f" {self.glyphs.dot} with {clip(self.words, 32)}", "$red-pending"))
        if self.paused and self.mirror is not None:
            held = sum(event.seq > self._held for event in self.mirror.events)
            title.append((f" {self.glyphs.dot} paused, {held:,} new", "$red-pending"))
        set_border(self, title)
