"""Scrolled panels with bars of whole cells."""

from __future__ import annotations

from typing import ClassVar

from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar, ScrollBarRender


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
