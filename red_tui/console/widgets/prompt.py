"""The line in which a filter or a command is typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label


class _Line(Input):
    """An input that leaves tab, up, down and escape to its prompt."""

    async def on_event(self, event: events.Event) -> None:
        prompt = self.parent
        if isinstance(event, events.Key) and isinstance(prompt, Prompt) and prompt.take_key(event.key):
            event.stop()
            return
        await super().on_event(event)


class Prompt(Horizontal):
    """Takes one line of text; completes it, recalls earlier ones, and says what is typed while it is typed."""

    class Changed(Message):
        """The text is another."""

        def __init__(self, kind: str, text: str) -> None:
            super().__init__()
            self.kind, self.text = kind, text

    class Submitted(Message):
        """Enter was pressed."""

        def __init__(self, kind: str, text: str) -> None:
            super().__init__()
            self.kind, self.text = kind, text

    class Cancelled(Message):
        """Escape was pressed."""

        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.kind = ""
        self._complete: Callable[[str], Sequence[str]] = _nothing
        self._history: dict[str, list[str]] = {}
        self._place = 0
        self._candidates: list[str] = []

    def compose(self) -> ComposeResult:
        """Sign and line."""
        yield Label("", id="prompt-sign", markup=False)
        line = _Line(select_on_focus=False, compact=True)
        line.cursor_blink = False
        yield line

    @property
    def line(self) -> Input:
        """The input."""
        return self.query_one(_Line)

    def open(self, kind: str, sign: str, text: str, complete: Callable[[str], Sequence[str]]) -> None:
        """Show the prompt.

        Args:
            kind: What messages carry.
            sign: What stands before the text.
            text: What it begins with.
            complete: Whole texts that a text could become.
        """
        self.kind = kind
        self._complete = complete
        self._place = len(self._history.get(kind, []))
        self._candidates = []
        self.query_one("#prompt-sign", Label).update(sign)
        self.line.value = text
        self.line.cursor_position = len(text)
        self.add_class("shown")
        # At once, not with the next message: what is typed ahead is text, and no key of the screen.
        self.screen.set_focus(self.line)

    def close(self) -> None:
        """Hide the prompt."""
        self.remove_class("shown")

    @property
    def shown(self) -> bool:
        """Whether it is open."""
        return self.has_class("shown")

    def remember(self, text: str) -> None:
        """Add a line to the history."""
        lines = self._history.setdefault(self.kind, [])
        if text and (not lines or lines[-1] != text):
            lines.append(text)
            del lines[:-200]

    def take_key(self, key: str) -> bool:
        """Act on a key that is not the input's; whether it was one."""
        if key == "escape":
            self.close()
            self.post_message(self.Cancelled(self.kind))
        elif key == "enter":
            self.post_message(self.Submitted(self.kind, self.line.value.strip()))
        elif key == "tab":
            self._next_candidate()
        elif key in ("up", "down"):
            self._recall(-1 if key == "up" else 1)
        else:
            self._candidates = []
            return False
        return True

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what is typed."""
        event.stop()
        if self.shown:
            self.post_message(self.Changed(self.kind, event.value))

    def _next_candidate(self) -> None:
        if not self._candidates:
            self._candidates = list(self._complete(self.line.value))
        if self._candidates:
            self._candidates.append(text := self._candidates.pop(0))
            self._write(text)

    def _recall(self, step: int) -> None:
        lines = self._history.get(self.kind, [])
        self._place = min(max(0, self._place + step), len(lines))
        self._write(lines[self._place] if self._place < len(lines) else "")

    def _write(self, text: str) -> None:
        self.line.value = text
        self.line.cursor_position = len(text)


def _nothing(text: str) -> Sequence[str]:
    return ()
