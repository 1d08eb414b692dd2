"""A scrollable list of styled lines: what panels, help, detail and tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.strip import Strip
from textual.widget import Widget

from red_tui.console.config.themes import laid_over, styles
from red_tui.console.crash_guard import CrashGuard

if TYPE_CHECKING:
    pass


class WholeCells(ScrollBarRender):
    """A bar whose ends are no fractions of cells: those take signs that are not ASCII."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "]
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "]


class Scrolled(ScrollView, inherit_bindings=False):
    """A scroll view that draws its bars so."""

    @property
    def vertical_scrollbar(self) -> ScrollBar:
        """The bar at the right."""
        return _of_whole_cells(super().vertical_scrollbar)

    @property
    def horizontal_scrollbar(self) -> ScrollBar:
        """The bar at the bottom."""
        return _of_whole_cells(super().horizontal_scrollbar)


def _of_whole_cells(bar: ScrollBar) -> ScrollBar:
    bar.renderer = WholeCells  # type: ignore[misc]  # Textual's way to give one bar a renderer of its own
    return bar


Part = tuple[str, str]
"""A text and the name of its style."""

Line = tuple[Part, ...]

ELLIPSIS = ("…", "~")
"""Ends a line that goes on where it cannot be seen, with and without Unicode."""


class LazyLines(Sequence[Line]):
    """Lines that are made when they are looked at: a list of any length costs what is in view.

    Args:
        count: How many there are.
        make: Makes the line of a number.
    """

    def __init__(self, count: int, make: Callable[[int], Line]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Line: ...

    @overload
    def __getitem__(self, place: slice) -> list[Line]: ...

    def __getitem__(self, place: int | slice) -> Line | list[Line]:
        if isinstance(place, slice):
            return [self._make(one) for one in range(*place.indices(self._count))]
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return self._make(place % self._count)


class Lines(CrashGuard, Scrolled, can_focus=False, inherit_bindings=False):
    """Draws lines that it is given; repaints those that changed."""

    def __init__(self, lines: Iterable[Line] = (), **keywords: Any) -> None:
        super().__init__(**keywords)
        self._lines: Sequence[Line] = list(lines)
        self._painted: dict[int, tuple[Line | None, bool]] = {}
        self._style_of: dict[str, Style] = {}
        self._base: Style | None = None
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

    def on_resize(self) -> None:
        """Learn whether all fits."""
        self._measure()

    def show(self, lines: Iterable[Line], selected: int | None = None) -> None:
        """Show other lines, with one of them selected."""
        self._lines = lines if isinstance(lines, LazyLines) else list(lines)
        self.selected = selected
        self._measure()
        top = self.scroll_offset.y
        for y, painted in self._painted.items():
            if y < self.size.height and painted != self._content(top + y):
                self.refresh(Region(0, y, self.size.width, 1))

    def _content(self, place: int) -> tuple[Line | None, bool]:
        """What stands on a line, and whether it is selected."""
        return (self._lines[place] if place < len(self._lines) else None), place == self.selected

    def reveal(self, place: int) -> None:
        """Scroll so that a line is seen."""
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if not top <= place < top + height:
            self.scroll_to(y=place if place < top else place - height + 1, animate=False, immediate=True, force=True)

    def scroll_by(self, lines: int) -> None:
        """Scroll down (up for less than 0)."""
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False, immediate=True, force=True)

    def notify_style_update(self) -> None:
        """Forget colours of another theme."""
        super().notify_style_update()
        self._base = None
        self._style_of.clear()

    @property
    def _base_style(self) -> Style:
        """The widget's own style, looked up once: Textual makes it again each time."""
        if self._base is None:
            self._base = self.rich_style
        return self._base

    def render_line(self, y: int) -> Strip:
        """One line of the viewport."""
        width = self.size.width
        line, chosen = self._painted[y] = self._content(self.scroll_offset.y + y)
        if line is None:
            return Strip.blank(width, self._base_style)
        ellipsis = ELLIPSIS[self.app.has_class("ascii")]
        segments = [Segment(text.replace("…", ellipsis), self._style(name, chosen)) for text, name in line]
        filler = self._style("text", True) if chosen else self._base_style
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
            first, *more = name.split("+")
            style = self._base_style + known.get(first, known["text"])
            for further in more:  # such as `ready+marked+cursor`
                style = laid_over(style, known[further])
            if chosen:
                style = laid_over(style, known["selected"])
            self._style_of[key] = style
        return style

    def _measure(self) -> None:
        widest = 0
        if self.styles.overflow_x != "hidden":
            widest = max((sum(cell_len(text) for text, _ in line) for line in self._lines), default=0)
        size = Size(widest, len(self._lines))
        height = self.styles.height
        if (
            not (height is not None and height.is_auto)
            and widest <= self.size.width
            and size.height <= self.size.height
        ):
            # Another extent makes Textual lay out and draw the whole screen: what fits needs none.
            size = Size(1, 1)
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


def set_border(widget: Widget, title: Iterable[Part] | None = None, subtitle: Iterable[Part] | None = None) -> None:
    """Write into a widget's border.

    Textual's own setters read markup and repaint the widget whole; ids and names must do neither.

    Args:
        widget: A widget with a border of one cell.
        title: Texts with styles for the top border; None leaves it.
        subtitle: The same for the bottom border.
    """
    width = widget.outer_size.width
    for name, parts, y in (("_border_title", title, -1), ("_border_subtitle", subtitle, widget.size.height)):
        if parts is None:
            continue
        content = Content.assemble(*parts) if parts else None
        if content != getattr(widget, name, None):
            setattr(widget, name, content)
            if width:
                widget.refresh(Region(-1, y, width, 1))
