"""What stands where the grid will be: the steps of connecting, or why it failed and what to do."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from red_tui.console.config.themes import Glyphs
from red_tui.console.text import clip_left, duration, plain
from red_tui.console.widgets.lists import Line, Lines, labelled, set_border, wrap
from red_tui.errors import RedError

_STEP_STYLES = {"running": "busy", "done": "ready", "failed": "failed"}


class Notice(Lines):
    """Lists the steps of connecting with their times, then the error if there is one."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._glyphs = glyphs
        self._steps: dict[str, tuple[str, str, float]] = {}
        self._error: RedError | None = None
        self._word = ""
        set_border(self, [("connecting", "$red-bright")])
        self.redraw()

    @property
    def running(self) -> bool:
        """Whether a step is under way."""
        return any(state == "running" for _, state, _ in self._steps.values())

    def begin(self) -> None:
        """Forget earlier steps."""
        self._steps.clear()
        self._error, self._word = None, ""
        set_border(self, [("connecting", "$red-bright")])
        self.redraw()

    def step(self, key: str, text: str, state: str, seconds: float) -> None:
        """A step began, went on or ended."""
        self._steps[key] = (plain(text), state, seconds)
        self.redraw()

    def advance(self, seconds: float) -> None:
        """Time goes by for what is under way."""
        if self._error is not None or not self.running:
            return
        for key, (text, state, spent) in self._steps.items():
            if state == "running":
                self._steps[key] = (text, state, spent + seconds)
        self.redraw()

    def word(self, text: str) -> None:
        """A line below the steps."""
        self._word = plain(text)
        self.redraw()

    def fail(self, error: RedError) -> None:
        """Show why it failed and what to do."""
        self._error = error
        for key, (text, state, spent) in self._steps.items():
            if state == "running":
                self._steps[key] = (text, "failed", spent)
        set_border(self, [("not connected", "$red-bright")])
        self.redraw()

    def redraw(self) -> None:
        """Draw steps, word and error."""
        lines: list[Line] = [()]
        if not self._steps and self._error is None:
            lines.append((("  ", "dim"), (f"{self._glyphs.of('starting')} connecting", "busy")))
        for text, state, seconds in self._steps.values():
            glyph = self._glyphs.of({"running": "starting", "done": "ready", "failed": "failed"}.get(state, "pending"))
            spent = f"  {duration(seconds if seconds < 1 and state != 'running' else int(seconds))}"
            lines.append(
                (
                    (f"  {glyph} ", _STEP_STYLES.get(state, "dim")),
                    (text, "text" if state == "running" else "dim"),
                    (spent if seconds >= 0.05 else "", "dim"),
                )
            )
        if self._word:
            lines += [(), *(((f"  {row}", "warn"),) for row in wrap(self._word, max(30, self.size.width - 4)))]
        if self._error is not None:
            lines += self._error_lines(self._error)
        self.show(lines)

    def on_resize(self) -> None:
        """Wrap to the new size."""
        self.redraw()

    def _title(self, error: RedError) -> str:
        reached = self._steps.get("connect", ("", "", 0.0))[1] == "done"
        if reached and type(error).__name__ == "NotConnected":
            return "the cluster answers, the federation does not"
        return _TITLES.get(type(error).__name__, "failed")

    def _error_lines(self, error: RedError) -> list[Line]:
        width = max(30, min(100, self.size.width - 4))
        lines: list[Line] = [
            (),
            ((f"  {self._glyphs.of('failed')} {self._title(error)}", "error"),),
        ]
        lines += [((f"  {row}", "text"),) for text in _message(error).split("\n") for row in wrap(plain(text), width)]
        where = _where(error, width)
        if where:
            lines += [(), *((("  ", "dim"), *row) for row in where)]
        keys: Line = (("  r", "key"), (" try again   ", "dim"), ("q", "key"), (" leave", "dim"))
        return [*lines, (), keys]


_TITLES = {
    "LayoutError": "the layout cannot be used",
    "NotConnected": "no cluster answers",
    "NameTaken": "the name is taken",
    "PlacementError": "the resources do not fit",
}


def _message(error: RedError) -> str:
    """What is wrong; of a file only its name, as a long path would break in the middle and `at` tells it."""
    file = str(error.fields.get("file") or "")
    name = PurePath(file).name
    return error.message.replace(file, name) if name else error.message


def _where(error: RedError, width: int) -> list[Line]:
    """Where it is and what may stand there, in rows of `width` cells."""
    fields = error.fields
    rows: list[Line] = []
    if fields.get("file"):
        place = ":".join(str(fields[name]) for name in ("file", "line", "column") if fields.get(name) is not None)
        # Cut on the left: file, line and column stand at the end.
        rows.append((("at".ljust(_LABEL), "dim"), (clip_left(plain(place), width - _LABEL), "dim")))
    told = {name: fields.get(name) for name in ("field", "allowed", "asked", "available", "holder", "address")}
    if isinstance(told["allowed"], (list, tuple)):
        told["allowed"] = ", ".join(map(str, told["allowed"]))
    for name, value in told.items():
        if value:
            rows += labelled(name, plain(value), width, "dim", _LABEL)
    return rows


_LABEL = len("available") + 1
