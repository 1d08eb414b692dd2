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
        self.text, self.cursor = text, len(text)
        self._draw()

    def on_key(self, event: events.Key) -> None:
        """Edit the line."""
        text, at = self.text, self.cursor
        steps = {"left": at - 1, "right": at + 1, "home": 0, "end": len(text)}
        if event.key == "enter":
            self._answer()
        elif event.key in steps:
            self.cursor = min(max(0, steps[event.key]), len(text))
        elif event.key == "backspace":
            self.text, self.cursor = text[: max(0, at - 1)] + text[at:], max(0, at - 1)
        elif event.key == "delete":
            self.text = text[:at] + text[at + 1 :]
        elif event.key == "ctrl+u":
            self.text, self.cursor = text[at:], 0
        elif event.character and event.is_printable:
            self.text, self.cursor = text[:at] + event.character + text[at:], at + 1
        else:
            return
        event.stop()
        event.prevent_default()
        self._draw()

    def on_paste(self, event: events.Paste) -> None:
        """Take the first line of what is pasted."""
        pasted = plain(event.text.split("\n")[0])
        self.text = self.text[: self.cursor] + pasted + self.text[self.cursor :]
        self.cursor += len(pasted)
        self._draw()

    def _answer(self) -> None:
        try:
            self._meaning(self.text)
        except RedError:
            return
        self.dismiss(self.text.strip())

    def _draw(self) -> None:
        start = max(0, self.cursor - WIDTH + 1)
        shown = self.text[start : start + WIDTH]
        at = self.cursor - start
        typed: Line = (("> ", "dim"), (shown[:at], "key"), ("|", "busy"), (shown[at:], "key"))
        lines: list[Line] = [*self._head, (), typed]
        try:
            told = self._meaning(self.text)
        except RedError as error:
            position = getattr(error, "position", None)
            message = error.message.partition(": ")[2] if position is not None else error.message
            if position is not None and self.text.strip():
                place = max(0, int(position) - start)
                lines.append(((" " * (2 + place + (place >= at)) + "^", "failed"),))
            lines += [((row, "failed" if self.text.strip() else "dim"),) for row in wrap(plain(message), WIDTH)]
        else:
            lines += [((row, "text"),) for text in told for row in wrap(plain(text), WIDTH)]
        self.body.show(lines)
