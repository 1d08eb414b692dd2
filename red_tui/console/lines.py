"""A scrollable list of styled lines: what panels, help, detail and tables are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from red_tui.console.palette import styles

Part = tuple[str, str]
"""A text and the name of its style."""

Line = tuple[Part, ...]

ELLIPSIS = ("…", "~")
"""Ends a line that goes on where it cannot be seen, with and without Unicode."""


class Lines(ScrollView, can_focus=False, inherit_bindings=False):
    """Draws lines that it is given; repaints those that changed."""

    def __init__(self, lines: Iterable[Line] = (), **keywords: Any) -> None:
        super().__init__(**keywords)
        self._lines: list[Line] = list(lines)
        self._style_of: dict[str, Style] = {}
        self.selected: int | None = None

    @property
    def lines(self) -> Sequence[Line]:
        """The lines that are shown."""
        return self._lines

    @property
    def text(self) -> str:
        """The lines without styles."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._lines)

    def on_mount(self) -> None:
        """Learn the extent."""
        self._measure()

    def show(self, lines: Iterable[Line], selected: int | None = None) -> None:
        """Show other lines, with one of them selected."""
        before, was = self._lines, self.selected
        self._lines = list(lines)
        self.selected = selected
        self._measure()
        top, height = self.scroll_offset.y, self.size.height
        for y in range(height):
            place = top + y
            old = before[place] if place < len(before) else None
            new = self._lines[place] if place < len(self._lines) else None
            if old != new or (place in (was, selected) and was != selected):
                self.refresh(Region(0, y, self.size.width, 1))

    def reveal(self, place: int) -> None:
        """Scroll so that a line is seen."""
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if not top <= place < top + height:
            self.scroll_to(y=place if place < top else place - height + 1, animate=False, immediate=True)

    def scroll_by(self, lines: int) -> None:
        """Scroll down (up for less than 0)."""
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False, immediate=True)

    def notify_style_update(self) -> None:
        """Forget colours of another theme."""
        super().notify_style_update()
        self._style_of.clear()

    def render_line(self, y: int) -> Strip:
        """One line of the viewport."""
        place = self.scroll_offset.y + y
        width = self.size.width
        if place >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        chosen = place == self.selected
        ellipsis = ELLIPSIS[self.app.has_class("ascii")]
        segments = [
            Segment(text.replace("…", ellipsis), self._style(name, chosen)) for text, name in self._lines[place]
        ]
        filler = self._style("text", True) if chosen else self.rich_style
        left = self.scroll_offset.x
        strip = Strip(segments)
        seen = width - self.scrollbar_size_vertical if self.show_vertical_scrollbar else width
        if strip.cell_length > seen and self.styles.overflow_x == "hidden" and seen > 1:
            cut = Segment(ellipsis, self._style("dim", chosen))
            strip = Strip([*strip.crop_extend(0, seen - 1, filler), cut])
        return strip.crop_extend(left, left + width, filler).simplify()

    def _style(self, name: str, chosen: bool) -> Style:
        key = f"{name}{chosen}"
        style = self._style_of.get(key)
        if style is None:
            known = styles(self.app)
            style = self.rich_style + known.get(name, known["text"])
            if chosen:
                style += known["selected"]
            self._style_of[key] = style
        return style

    def _measure(self) -> None:
        widest = max((sum(cell_len(text) for text, _ in line) for line in self._lines), default=0)
        size = Size(widest if self.styles.overflow_x != "hidden" else 0, len(self._lines))
        if size != self.virtual_size:
            self.virtual_size = size


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells, broken at spaces where there are any."""
    width = max(1, width)
    lines: list[str] = []
    line, used = "", 0
    for word in text.split(" "):
        size = cell_len(word)
        if used and used + 1 + size <= width:
            line, used = f"{line} {word}", used + 1 + size
            continue
        if line or used:
            lines.append(line)
        while size > width:
            cut = width
            while cell_len(word[:cut]) > width:
                cut -= 1
            cut = max(1, cut)
            lines.append(word[:cut])
            word = word[cut:]
            size = cell_len(word)
        line, used = word, size
    return [*lines, line] if line or not lines else lines


def labelled(label: str, text: str, width: int, style: str = "text", label_width: int = 9) -> list[Line]:
    """A label in the margin and its text beside it, wrapped."""
    rows = wrap(text, width - label_width)
    return [
        ((label.ljust(label_width) if place == 0 else " " * label_width, "dim"), (row, style))
        for place, row in enumerate(rows)
    ]
