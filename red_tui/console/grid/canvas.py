"""How the grid draws its lines: as few segments as there are runs of equal nodes, each line once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from red_tui.console.config.themes import COUNT_ORDER, STATE_NAMES, Glyphs, laid_over, styles
from red_tui.console.crash_guard import CrashGuard, LatestTask
from red_tui.console.grid import labels
from red_tui.console.grid.arrangement import GROUPINGS, Arrangement, Cell, Section
from red_tui.console.grid.labels import Marks
from red_tui.console.text import clip, plain, short_count
from red_tui.console.textual_private import update_scroll_bars
from red_tui.console.widgets.lists import Line, Scrolled

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import FederationMirror
    from red_tui.selection import Query

NO_MATCH = "no node matches the filter"
ZOOMS = ("glyphs", "tiles", "counts")
LABEL_GAP = 2
_MARKED, _CURSOR = 8, 16
_LEAST_BAR, _MOST_BAR = 6, 24
"""Cells of a bar of states."""


class GridCanvas(CrashGuard, Scrolled, can_focus=True, inherit_bindings=False):
    """Draws an arrangement of a mirror's nodes, with cursor and marks.

    A line is drawn again only if its key says that it would look different; drawn lines are kept by key.

    Args:
        mirror: The data.
        glyphs: The signs.
    """

    def __init__(self, mirror: FederationMirror, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.mirror = mirror
        self._table = mirror.table
        self.glyphs = glyphs
        self.grouping = GROUPINGS[0]
        self.zoom = ZOOMS[0]
        self.chosen_zoom: str | None = None
        self.filtered_by: Query | None = None
        self.shown: npt.NDArray[np.bool_] | None = None
        self.marks = Marks()
        self.cursor: int | None = None
        self.stale = False
        self._cursor_id: str | None = None
        self._wanted_x: int | None = None
        self._anchor: int | None = None
        self.place: tuple[int, int] | None = None
        """Line and column of the cursor in the arrangement."""
        self._wanted: Query | None = None
        self.latest = LatestTask(self, "arrange")
        self._dirty: list[npt.NDArray[np.integer[Any]]] = []
        self._labelled: int | None = None
        self._undescribed = b""
        self._fitted: tuple[Hashable, Sequence[int]] = ((), ())
        self._marked_cells: dict[tuple[int, int], bool] = {}
        self._version = 0
        self._labels: list[labels.Label] = []
        self._label_width = 0
        self._id_width = 4
        self._painted: dict[int, Hashable] = {}
        self._strips: LRUCache[Hashable, Strip] = LRUCache(1024)
        self._style_of: dict[Hashable, Style] = {}
        self._base: Style | None = None
        self._palette: dict[str, Style] = {}
        self.arrangement: Arrangement | None = None

    def refresh_changed(self) -> None:
        """Repaint the visible lines whose content is another than what was painted."""
        for y in range(self.size.height):
            if y in self._painted and self._painted[y] != self._key_at(y):
                self.refresh(Region(0, y, self.size.width, 1))

    def notify_style_update(self) -> None:
        """Forget what was drawn in other colours."""
        super().notify_style_update()
        self._base = None
        self._style_of.clear()
        self._palette = {}
        self._strips.clear()
        self._version += 1

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Tell which lines are in view now."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._tell_counts()

    def _extend(self, extent: Size, seen: Size) -> None:
        """Take another extent over; where the bars stay as they are, without a layout of the whole screen."""
        if extent == self.virtual_size:
            return
        upright_only = self.show_vertical_scrollbar and not self.show_horizontal_scrollbar
        if upright_only and extent.height > seen.height and extent.width <= seen.width:
            self.set_reactive(Widget.virtual_size, extent)
            update_scroll_bars(self, extent)
        else:
            self.virtual_size = extent

    @abstractmethod
    def _tell_counts(self) -> None:
        """Write into the frame what is shown."""

    def part_in_view(self) -> str:
        """Which lines are in view, where not all are."""
        lines, height = 0 if self.arrangement is None else self.arrangement.lines, self.size.height - 1
        if lines <= height or height <= 0:
            return ""
        top = min(self.scroll_offset.y, lines - height)
        return f"lines {top + 1:,}{self.glyphs.dash}{top + height:,} of {lines:,}"

    # -- drawing ---------------------------------------------------------------------------------

    @property
    def _base_style(self) -> Style:
        """The widget's own style, looked up once: Textual makes it again each time."""
        if self._base is None:
            self._base = self.rich_style
        return self._base

    def render_line(self, y: int) -> Strip:
        """One line of the viewport: the titles, then lines of the arrangement."""
        key = self._painted[y] = self._key_at(y)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._titles() if y == 0 else self.draw_line(y - 1 + self.scroll_offset.y)
            self._strips[key] = strip
        x = self.scroll_offset.x
        return strip.crop_extend(x, x + self.size.width, self._base_style)

    def _key_at(self, y: int) -> Hashable:
        """All that the look of a viewport's line depends on."""
        if self.arrangement is None:
            return None
        if y == 0:
            return (self._version, self.stale, tuple(self._labels), *self.arrangement.roles, *self.arrangement.widths)
        return self._line_key(self.arrangement, y - 1 + self.scroll_offset.y)

    def _line_key(self, arrangement: Arrangement, line: int) -> Hashable:
        found = arrangement.section_at(line)
        if found is None:
            return (self._version, self.stale, line == 0, self.filtered_by is None, *self._hint_at(line))
        section, within = found
        labelled = self._is_labelled(line, within)
        key: list[Hashable] = [self._version, self.stale, self.zoom, self._label_width, within == 0, labelled]
        if labelled:
            key += [*self._label_parts(section, line), section.bundle.what if section.bundle is not None else ""]
        for cell in arrangement.cells(line):
            key += [cell.x, arrangement.widths[cell.column], arrangement.digits[cell.column]]
            if self.zoom == "counts":
                key += [arrangement.tally[cell.key].tobytes(), self._count_code(cell)]
            else:
                key.append(self._codes(cell).tobytes())
            if self.zoom == "tiles":
                key.append(cell.rows.tobytes())
        return tuple(key)

    def _is_labelled(self, line: int, within: int) -> bool:
        """Whether a line says of which section it is: the section's first one, and the first in view."""
        return within == 0 or line == self.scroll_offset.y

    def _label_parts(self, section: Section, line: int) -> list[labels.Part]:
        assert self.arrangement is not None
        count = self.arrangement.section_count(line)
        return labels.parts(self.grouping, self._labels, section, count, self.mirror.hosts, self.glyphs)

    def _codes(self, cell: Cell) -> npt.NDArray[np.uint8]:
        """State, mark and cursor of each node of a cell, in one number."""
        assert self.arrangement is not None
        codes = self.arrangement.table.column("state")[cell.rows].astype(np.uint8)
        if self.marks.count:
            codes[self.marks.mask[cell.rows]] |= _MARKED
        if self.cursor is not None:
            codes[cell.rows == self.cursor] |= _CURSOR
        return codes

    def _titles(self) -> Strip:
        title = self._style("dim")
        found = [Segment(" " + "".join(label.fit(label.title) + " " * LABEL_GAP for label in self._labels), title)]
        if self.arrangement is not None:
            for place, (name, width) in enumerate(zip(self.arrangement.roles, self.arrangement.widths, strict=True)):
                gap = "" if place == 0 else "  "
                found.append(Segment(gap + clip(plain(name), width).ljust(width), title))
        return Strip(found)

    def draw_line(self, line: int) -> Strip:
        """One line of the arrangement as it is painted now."""
        arrangement = self.arrangement
        assert arrangement is not None
        found = arrangement.section_at(line)
        if found is None:
            hint = self._hint_at(line)
            if hint:
                return Strip([Segment(text, self._style(style)) for text, style in hint])
            return Strip.blank(self.size.width, self._base_style) if line else self._nothing()
        section, within = found
        blank = self._style("text")
        segments = [Segment(" ", blank)]
        if self._is_labelled(line, within):
            for text, style in self._label_parts(section, line):
                segments += [Segment(text, self._style(style)), Segment(" " * LABEL_GAP, blank)]
        x = sum(segment.cell_length for segment in segments)
        for cell in arrangement.cells(line):
            start = self._label_width + cell.x
            if start > x:
                segments.append(Segment(" " * (start - x), blank))
            drawn = self._draw_counts(cell) if self.zoom == "counts" else self._draw_nodes(cell)
            segments += drawn
            x = start + sum(segment.cell_length for segment in drawn)
        if within == 0 and section.bundle is not None and section.bundle.what:
            segments.append(Segment(("  " if x > self._label_width else "") + section.bundle.what, self._style("dim")))
        return Strip(segments).simplify()

    def _hint_at(self, line: int) -> Line:
        """What is said in a line below the nodes, if anything is."""
        if self.arrangement is None or not 0 < self.arrangement.lines < line:
            return ()
        place, hints = line - self.arrangement.lines - 1, self._hints()
        return hints[place] if place < len(hints) else ()

    def _hints(self) -> Sequence[Line]:
        """What is said below the nodes."""
        return ()

    def _nothing(self) -> Strip:
        words = NO_MATCH if self.filtered_by is not None else "this federation has no nodes"
        return Strip([Segment(f"  {words}", self._style("dim"))])

    def _draw_nodes(self, cell: Cell) -> list[Segment]:
        """One segment for each run of equal nodes."""
        codes = self._codes(cell)
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        segments: list[Segment] = []
        ids = self._table.ids
        for start, end in pairwise(bounds):
            code = int(codes[start])
            glyph = self.glyphs.states[code & 7]
            if self.zoom == "tiles":
                names = (
                    clip(plain(ids[int(row)]), self._id_width).ljust(self._id_width) for row in cell.rows[start:end]
                )
                text = "".join(f"{glyph} {name} " for name in names)
            else:
                text = glyph * (end - start)
            segments.append(Segment(text, self._node_style(code)))
        return segments

    def _count_code(self, cell: Cell) -> int:
        """Whether the cursor stands in a cell, and whether a node of it is marked."""
        assert self.arrangement is not None
        here = self.cursor is not None and self.arrangement.shows(self.cursor)
        code = _CURSOR if here and self.arrangement.key[self.cursor] == cell.key else 0
        if self.marks.count:
            known = (self.marks.version, cell.key)
            if known not in self._marked_cells:
                if len(self._marked_cells) > 1024:
                    self._marked_cells.clear()
                self._marked_cells[known] = bool(self.marks.mask[cell.rows].any())
            code |= _MARKED if self._marked_cells[known] else 0
        return code

    def _draw_counts(self, cell: Cell) -> list[Segment]:
        """The number of nodes, a bar of their states in the states' own signs, and the number in each state."""
        assert self.arrangement is not None
        tally = self.arrangement.tally[cell.key]
        code, width = self._count_code(cell), self.arrangement.widths[cell.column]
        told = [(name, int(tally[STATE_NAMES.index(name)])) for name in COUNT_ORDER]
        told = [(name, count) for name, count in told if count]
        number = f"{sum(count for _, count in told):,}".rjust(self.arrangement.digits[cell.column])
        segments = [Segment(number, self._node_style(code) if code else self._style("text"))]
        left = width - len(number) - 1
        counts = [(f" {self.glyphs.of(name)} {short_count(count)}", name) for name, count in told]
        beside = sum(len(text) for text, _ in counts)
        counts = counts if len(told) > 1 and left - beside >= _LEAST_BAR else []
        bar = min(left - (beside if counts else 0), _MOST_BAR)
        segments.append(Segment(" ", self._style("text")))
        for name, part in _parts_of_bar(told, bar):
            segments.append(Segment(self.glyphs.of(name) * part, self._style(name)))
        return segments + [Segment(text, self._style(name)) for text, name in counts]

    def _node_style(self, code: int) -> Style:
        style = self._style_of.get((code, self.stale))
        if style is None:
            style = self._style(STATE_NAMES[code & 7])
            if code & _MARKED:
                style = laid_over(style, self._style("marked"))
            if code & _CURSOR:
                style = laid_over(style, self._style("cursor"))
            self._style_of[code, self.stale] = style
        return style

    def _style(self, name: str) -> Style:
        key = (name, self.stale)
        style = self._style_of.get(key)
        if style is None:
            if not self._palette:
                self._palette = styles(self.app)
            if name in ("cursor", "marked"):
                style = self._palette[name]
            else:
                style = self._base_style + self._palette["stale" if self.stale else name]
            self._style_of[key] = style
        return style


def _parts_of_bar(counts: Sequence[tuple[str, int]], width: int) -> list[tuple[str, int]]:
    """How many of `width` cells each state gets: its share, and none of them nothing."""
    total = sum(count for _, count in counts)
    width = min(width, total)
    if width < len(counts):
        return []
    parts = {name: max(1, int(count * width / total)) for name, count in counts}
    while (over := sum(parts.values()) - width) != 0:
        # What rounding gave too much or too little, the longest parts bear.
        longest = max(parts, key=lambda name: parts[name])
        parts[longest] -= min(over, parts[longest] - 1) if over > 0 else over
    return list(parts.items())
