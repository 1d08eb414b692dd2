"""How the grid draws its lines: as few segments as there are runs of equal nodes, each line once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.strip import Strip

from red_tui.console import labels
from red_tui.console.arrangement import GROUPINGS, Arrangement, Cell, Section
from red_tui.console.glyphs import COUNT_ORDER, STATE_NAMES, Glyphs
from red_tui.console.palette import styles
from red_tui.console.text import clip, plain

if TYPE_CHECKING:
    from red_tui.console.mirror import FederationMirror

ZOOMS = ("glyphs", "tiles", "counts")
LABEL_GAP = 2
_MARKED, _CURSOR = 8, 16


class GridCanvas(ScrollView, can_focus=True, inherit_bindings=False):
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
        self.shown: npt.NDArray[np.bool_] | None = None
        self.marks: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.cursor: int | None = None
        self.stale = False
        self._cursor_id: str | None = None
        self._wanted_x: int | None = None
        self._anchor: int | None = None
        self._version = 0
        self._labels: list[labels.Label] = []
        self._label_width = 0
        self._id_width = 4
        self._painted: dict[int, Hashable] = {}
        self._strips: LRUCache[Hashable, Strip] = LRUCache(1024)
        self._style_of: dict[Hashable, Style] = {}
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
        self._style_of.clear()
        self._palette = {}
        self._strips.clear()
        self._version += 1

    # -- drawing ---------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of the viewport: the titles, then lines of the arrangement."""
        key = self._painted[y] = self._key_at(y)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._titles() if y == 0 else self._draw(y - 1 + self.scroll_offset.y)
            self._strips[key] = strip
        x = self.scroll_offset.x
        return strip.crop_extend(x, x + self.size.width, self.rich_style)

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
            return (self._version, self.stale, line == 0, self.shown is None)
        section, within = found
        key: list[Hashable] = [self._version, self.stale, self.zoom, self._label_width, within == 0]
        if within == 0:
            key += [*self._label_parts(section, line), section.bundle.what if section.bundle is not None else ""]
        state = self.mirror.table.column("state")
        for cell in arrangement.cells(line):
            key.append(cell.x)
            if self.zoom == "counts":
                here = self.cursor is not None and bool(np.any(cell.rows == self.cursor))
                tally = np.bincount(state[cell.rows], minlength=len(STATE_NAMES)).tobytes()
                key += [tally, here, bool(self.marks[cell.rows].any())]
            else:
                key.append(self._codes(cell).tobytes())
            if self.zoom == "tiles":
                key.append(cell.rows.tobytes())
        return tuple(key)

    def _label_parts(self, section: Section, line: int) -> list[labels.Part]:
        assert self.arrangement is not None
        count = self.arrangement.section_count(line)
        return labels.parts(self.grouping, self._labels, section, count, self.mirror.hosts, self.glyphs)

    def _codes(self, cell: Cell) -> npt.NDArray[np.uint8]:
        """State, mark and cursor of each node of a cell, in one number."""
        codes = self.mirror.table.column("state")[cell.rows].astype(np.uint8)
        codes[self.marks[cell.rows]] |= _MARKED
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

    def _draw(self, line: int) -> Strip:
        arrangement = self.arrangement
        assert arrangement is not None
        found = arrangement.section_at(line)
        if found is None:
            return Strip.blank(self.size.width, self.rich_style) if line else self._nothing()
        section, within = found
        blank = self._style("text")
        segments = [Segment(" ", blank)]
        if within == 0:
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

    def _nothing(self) -> Strip:
        words = "no node matches the filter" if self.shown is not None else "this federation has no nodes"
        return Strip([Segment(f"  {words}", self._style("dim"))])

    def _draw_nodes(self, cell: Cell) -> list[Segment]:
        """One segment for each run of equal nodes."""
        codes = self._codes(cell)
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        segments: list[Segment] = []
        ids = self.mirror.table.ids
        for start, end in pairwise(bounds):
            code = int(codes[start])
            glyph = self.glyphs.states[code & 7]
            if self.zoom == "tiles":
                names = (clip(ids[int(row)], self._id_width).ljust(self._id_width) for row in cell.rows[start:end])
                text = "".join(f"{glyph} {name} " for name in names)
            else:
                text = glyph * (end - start)
            segments.append(Segment(text, self._node_style(code)))
        return segments

    def _draw_counts(self, cell: Cell) -> list[Segment]:
        """The number of nodes, and a bar of their states in the states' own signs."""
        tally = np.bincount(self.mirror.table.column("state")[cell.rows], minlength=len(STATE_NAMES))
        here = self.cursor is not None and bool(np.any(cell.rows == self.cursor))
        code = (_CURSOR if here else 0) | (_MARKED if self.marks[cell.rows].any() else 0)
        assert self.arrangement is not None
        width = self.arrangement.widths[cell.column]
        number = f"{len(cell.rows):<8,} " if width >= 14 else f"{len(cell.rows):,}".ljust(width)
        segments = [Segment(number, self._node_style(code) if code else self._style("text"))]
        told = [(name, int(tally[STATE_NAMES.index(name)])) for name in COUNT_ORDER]
        for name, part in _parts_of_bar(
            [(name, count) for name, count in told if count], min(width - 9, len(cell.rows))
        ):
            segments.append(Segment(self.glyphs.of(name) * part, self._style(name)))
        return segments

    def _node_style(self, code: int) -> Style:
        style = self._style_of.get((code, self.stale))
        if style is None:
            style = self._style(STATE_NAMES[code & 7])
            if code & _MARKED:
                style += self._style("marked")
            if code & _CURSOR:
                style += self._style("cursor")
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
                style = self.rich_style + self._palette["stale" if self.stale else name]
            self._style_of[key] = style
        return style


def _parts_of_bar(counts: Sequence[tuple[str, int]], width: int) -> list[tuple[str, int]]:
    """How many of `width` cells each state gets: its share, and none of them nothing."""
    total = sum(count for _, count in counts)
    if width < min(5, total) or width < len(counts):
        return []
    parts = {name: max(1, int(count * width / total)) for name, count in counts}
    largest = max(counts, key=lambda told: told[1])[0]
    parts[largest] = max(1, parts[largest] + width - sum(parts.values()))
    return list(parts.items())
