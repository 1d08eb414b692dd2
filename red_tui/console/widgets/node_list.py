"""A list under lines that stay: only what is in view is made, at ten rows and at a million."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from textual import events

from red_tui.console.config.themes import Glyphs
from red_tui.console.widgets.lists import Line, Lines, set_border

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes, FederationMirror

COPIED = 200
"""Cells to which what is copied is wrapped."""


class ListView(Lines):
    """A list with a selected line.  What it lists stays the mirror's; it keeps a place in it."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.glyphs = glyphs
        self.mirror: FederationMirror | None = None
        self.place = 0
        self._top = 0
        self._fixed = 0

    # -- what subclasses tell --------------------------------------------------------------------

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Draw the mirror's present data."""
        raise NotImplementedError

    def count(self) -> int:
        """How many lines the list has."""
        raise NotImplementedError

    def make_line(self, place: int) -> Line:
        """One line of the list."""
        raise NotImplementedError

    def make_head(self) -> list[Line]:
        """The lines above the list, which stay."""
        return []

    def nothing(self) -> str:
        """What is said where the list is empty."""
        return "nothing is here"

    def beside(self, width: int) -> tuple[str, list[Line]] | None:
        """Title and lines that tell more of the selected line, for the panel beside the list."""
        return None

    def copied(self) -> str:
        """The selected line and what is told beside it, as text."""
        if not self.count():
            return ""
        line = "".join(text for text, _ in self.make_line(self.place)).strip()
        told = self.beside(COPIED)
        more = [] if told is None else ["".join(text for text, _ in row).rstrip() for row in told[1]]
        return "\n".join([line, *more]).strip()

    @property
    def what_is_selected(self) -> str:
        """What the selected line is called."""
        told = self.beside(COPIED)
        return told[0] if told is not None else "the selected line"

    # -- drawing and moving ----------------------------------------------------------------------

    def draw(self) -> None:
        """Draw the lines in view."""
        if self.mirror is None:
            return
        head, count = self.make_head(), self.count()
        self._fixed = len(head)
        room = max(1, self.size.height - len(head))
        self.place = min(max(0, self.place), max(0, count - 1))
        self._top = min(max(self._top, self.place - room + 1), self.place)
        self._top = max(0, min(self._top, count - room))
        body = [self.make_line(place) for place in range(self._top, min(count, self._top + room))]
        self.show(
            [*head, *(body or [((f"  {self.nothing()}", "dim"),)])],
            len(head) + self.place - self._top if count else None,
        )
        told = [(f"{self.place + 1:,} of {count:,}", "$red-dim")] if count > room else []
        set_border(self, None, told)

    def move(self, way: str) -> None:
        """Move the selection."""
        page = max(1, self.size.height - self._fixed - 1)
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page, "home": -(1 << 40), "end": 1 << 40}
        if way in steps:
            self.select(self.place + steps[way])

    def select(self, place: int) -> None:
        """Select a line."""
        self.place = min(max(0, place), max(0, self.count() - 1))
        self.draw()

    def on_resize(self) -> None:
        """Draw as many lines as there is room for."""
        self.draw()

    def on_click(self, event: events.Click) -> None:
        """Select the clicked line."""
        offset = event.get_content_offset(self)
        if offset is not None and self._fixed <= offset.y and self._top + offset.y - self._fixed < self.count():
            self.select(self._top + offset.y - self._fixed)


class NodeList(ListView):
    """A list whose lines are nodes: it has a cursor by id, and shows what the filter shows."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(glyphs, **keywords)
        self.cursor_id: str | None = None
        self.asked = ""
        """What the filter asks for, to be told."""

    def filter(self, shown: npt.NDArray[np.bool_] | None) -> None:
        """Show these rows only; None shows all."""
        raise NotImplementedError
