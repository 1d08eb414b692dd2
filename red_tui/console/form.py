"""A line to fill in over the console: its meaning stands under it while it is typed, and errors at their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from red_tui.console.dialogs import Dialog
from red_tui.console.lines import Line, wrap
from red_tui.console.text import plain
from red_tui.errors import RedError

WIDTH = 66


class EditedLine:
    """A text with a cursor in it.

    Args:
        text: What it begins with; the cursor stands at its end.
    """

    def __init__(self, text: str = "") -> None:
        self.text, self.cursor = text, len(text)

    def take(self, event: events.Key) -> bool:
        """Edit by a key; whether it was one that edits."""
        text, at = self.text, self.cursor
        steps = {"left": at - 1, "right": at + 1, "home": 0, "end": len(text)}
        if event.key in steps:
            self.cursor = min(max(0, steps[event.key]), len(text))
        elif event.key == "backspace":
            self.text, self.cursor = text[: max(0, at - 1)] + text[at:], max(0, at - 1)
        elif event.key == "delete":
            self.text = text[:at] + text[at + 1 :]
        elif event.key == "ctrl+u":
            self.text, self.cursor = text[at:], 0
        elif event.character and event.is_printable:
            self.insert(event.character)
        else:
            return False
        return True

    def insert(self, text: str) -> None:
        """Put a text where the cursor is."""
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)

    def shown(self, width: int) -> tuple[Line, int]:
        """The line in at most `width` cells, and its cursor; and how many of its signs stand before what is shown."""
        start = max(0, self.cursor - width + 1)
        seen, at = self.text[start : start + width], self.cursor - start
        return ((seen[:at], "key"), ("|", "busy"), (seen[at:], "key")), start


class Form(Dialog[str], inherit_bindings=False):
    """One line of text; enter gives it, if `meaning` finds nothing wrong with it.

    Args:
        title: Of the frame.
        text: What it begins with.
        head: Lines above the text.
        meaning: What a text means, in lines; it raises with a `position` what is wrong with it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", show=False),
        Binding("ctrl+c", "cancel", show=False),
    ]

    def __init__(self, title: str, text: str, head: Sequence[Line], meaning: Callable[[str], Sequence[str]]) -> None:
        super().__init__(title, (), "enter does it, esc cancels")
        self._head, self._meaning = head, meaning
        self.line = EditedLine(text)
        self._draw()

    def on_key(self, event: events.Key) -> None:
        """Edit the line."""
        if event.key == "enter":
            self._answer()
        elif not self.line.take(event):
            return
        event.stop()
        event.prevent_default()
        self._draw()

    def on_paste(self, event: events.Paste) -> None:
        """Take the first line of what is pasted."""
        event.stop()
        self.line.insert(plain(event.text.split("\n")[0]))
        self._draw()

    def _answer(self) -> None:
        try:
            self._meaning(self.line.text)
        except RedError:
            return
        self.dismiss(self.line.text.strip())

    def _draw(self) -> None:
        shown, start = self.line.shown(WIDTH)
        text, at = self.line.text, self.line.cursor - start
        lines: list[Line] = [*self._head, (), (("> ", "dim"), *shown)]
        try:
            told = self._meaning(text)
        except RedError as error:
            position = getattr(error, "position", None)
            message = error.message.partition(": ")[2] if position is not None else error.message
            if position is not None and text.strip():
                place = max(0, int(position) - start)
                lines.append(((" " * (2 + place + (place >= at)) + "^", "failed"),))
            lines += [((row, "failed" if text.strip() else "dim"),) for row in wrap(plain(message), WIDTH)]
        else:
            lines += [((row, "text"),) for row_text in told for row in wrap(plain(row_text), WIDTH)]
        self.body.show(lines)
