"""The grid: every node once, at its bundle and role, drawn line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from textual import events
from textual.geometry import Size
from textual.message import Message

from red_tui.console import labels
from red_tui.console.arrangement import Arrangement, sections_for
from red_tui.console.canvas import LABEL_GAP, GridCanvas
from red_tui.console.chrome import set_border
from red_tui.console.glyphs import COUNT_ORDER
from red_tui.console.text import clip, plural

if TYPE_CHECKING:
    from red_tui.console.mirror import Changes


class Grid(GridCanvas, inherit_bindings=False):
    """Shows a mirror's nodes.  It keeps a cursor and marks, by node, and no other state of nodes."""

    class CursorMoved(Message):
        """The cursor stands on another node, or its node's row changed."""

        def __init__(self, node_id: str | None) -> None:
            super().__init__()
            self.node_id = node_id

        def can_replace(self, message: Message) -> bool:
            """Only the newest place matters."""
            return isinstance(message, Grid.CursorMoved)

    asked = ""
    """What the filter asks for, to be told."""

    # -- data in ---------------------------------------------------------------------------------

    def apply(self, changes: Changes, shown: npt.NDArray[np.bool_] | None) -> None:
        """Take over what changed in the mirror.

        Args:
            changes: What changed.
            shown: Mask of the rows that the filter shows; None for all.
        """
        filtered = not _same(shown, self.shown)
        self.shown = shown
        table = self.mirror.table
        if changes.full:
            self._find_again()
        elif len(self.marks) < len(table):
            self.marks = np.concatenate([self.marks, np.zeros(len(table) - len(self.marks), dtype=bool)])
        moved = self.grouping == "state" and len(changes.rows) > 0
        if changes.placement or filtered or moved or changes.parts & {"bundles", "hosts"}:
            self.sort_nodes()
        else:
            self.refresh_changed()
            self._tell_counts()
        if self.cursor is not None and (changes.full or np.any(changes.rows == self.cursor)):
            self._tell()

    def filter(self, shown: npt.NDArray[np.bool_] | None) -> None:
        """Show the rows of a mask only; None shows all."""
        if not _same(shown, self.shown):
            self.shown = shown
            self.sort_nodes()

    def sort_nodes(self) -> None:
        """Sort the nodes into cells anew; the cursor stays on its node."""
        table = self.mirror.table
        shown = table.present()
        if self.shown is not None:
            shown = shown & self.shown
        self.marks &= table.present()
        before = self.arrangement
        place = before.locate(self.cursor) if before is not None and self.cursor is not None else None
        sections, section_of = sections_for(
            self.grouping, self.mirror.bundles, table, [host.name for host in self.mirror.hosts]
        )
        self.arrangement = Arrangement(table, sections, section_of, shown)
        self._id_width = min(24, max([4, *(_longest(segment) for segment in table.ids.segments)]))
        if self.cursor is None or self.arrangement.locate(self.cursor) is None:
            found = None
            if place is not None:
                found = self.arrangement.near(min(place[0], max(0, self.arrangement.lines - 1)), place[1])
            self._set_cursor(self._start() if found is None else found)
        self.lay_out()

    def lay_out(self) -> None:
        """Fit columns and lines to the size, and draw all."""
        arrangement = self.arrangement
        if arrangement is None:
            return
        width = self.scrollable_content_region.width or self.size.width
        self._labels = labels.columns(self.grouping, arrangement.sections, width)
        self._label_width = 1 + sum(label.width + LABEL_GAP for label in self._labels)
        item = self._id_width + 3 if self.zoom == "tiles" else 1
        arrangement.lay_out(max(10, width - self._label_width - 1), item, self.zoom == "counts")
        extent = Size(max(self._label_width + arrangement.width, 1), arrangement.lines + 1)
        seen = self.scrollable_content_region.size
        if extent.width <= seen.width and extent.height <= seen.height:
            # A change of extent makes Textual lay out and draw the whole screen: what fits needs none.
            extent = Size(1, 1)
        if extent != self.virtual_size:
            self.virtual_size = extent
        self._tell_counts()
        self._scroll_to_cursor()
        self.refresh_changed()

    def set_stale(self, stale: bool) -> None:
        """Grey the grid while its data is old."""
        if stale != self.stale:
            self.stale = stale
            self.refresh_changed()

    def set_grouping(self, grouping: str) -> None:
        """Group by `bundle`, `host` or `state`."""
        self.grouping = grouping
        self.sort_nodes()

    def set_zoom(self, zoom: str) -> None:
        """Show `glyphs`, `tiles` or `counts`."""
        self.zoom = zoom
        self.lay_out()

    # -- cursor and marks ------------------------------------------------------------------------

    @property
    def cursor_id(self) -> str | None:
        """Id of the node under the cursor."""
        return self._cursor_id

    def marked_ids(self) -> list[str]:
        """Ids of the marked nodes, those that the filter hides included."""
        ids = self._table.ids
        return [ids[int(row)] for row in np.flatnonzero(self.marks)]

    def move(self, way: str) -> None:
        """Move the cursor: left, right, up, down, page_up, page_down, home, end."""
        arrangement = self.arrangement
        if arrangement is None:
            return
        page = max(1, self.size.height - 2)
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page}
        found: int | None
        if self.cursor is None:
            found = arrangement.first()
        elif way in steps:
            if self._wanted_x is None:
                where = arrangement.locate(self.cursor)
                self._wanted_x = where[1] if where else 0
            found = arrangement.above(self.cursor, steps[way], self._wanted_x)
        else:
            self._wanted_x = None
            found = {
                "left": lambda: arrangement.beside(self.cursor or 0, -1),
                "right": lambda: arrangement.beside(self.cursor or 0, 1),
                "home": arrangement.first,
                "end": arrangement.last,
            }[way]()
        if found is not None:
            self.go_to(found)

    def go_to(self, row: int) -> None:
        """Put the cursor on a node."""
        self._set_cursor(row)
        self._scroll_to_cursor()
        self.refresh_changed()

    def toggle_mark(self) -> None:
        """Mark the node under the cursor, or take its mark away."""
        if self.cursor is not None:
            self.marks[self.cursor] = not self.marks[self.cursor]
            self._anchor = self.cursor
            self._marked()

    def mark_range(self) -> None:
        """Mark from the last marked node to the cursor."""
        if self.cursor is None or self.arrangement is None:
            return
        anchor = self.cursor if self._anchor is None else self._anchor
        self.marks[self.arrangement.between(anchor, self.cursor)] = True
        self._anchor = self.cursor
        self._marked()

    def mark_shown(self) -> None:
        """Mark all nodes that the filter shows."""
        shown = self.mirror.table.present()
        self.marks |= shown if self.shown is None else shown & self.shown
        self._marked()

    def clear_marks(self) -> None:
        """Take all marks away."""
        self.marks[:] = False
        self._anchor = None
        self._marked()

    def _marked(self) -> None:
        self.refresh_changed()
        self._tell_counts()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the clicked node."""
        offset = event.get_content_offset(self)
        if self.arrangement is None or offset is None or offset.y < 1:
            return
        x = offset.x + self.scroll_offset.x - self._label_width
        found = self.arrangement.near(offset.y - 1 + self.scroll_offset.y, x)
        if found is not None:
            self.go_to(found)

    def on_resize(self) -> None:
        """Fit the columns to the new size."""
        self.lay_out()

    # -- inside ----------------------------------------------------------------------------------

    def _tell_counts(self) -> None:
        table, dot = self.mirror.table, self.glyphs.dot
        counts = {str(state): count for state, count in table.counts().items()}
        title = [(plural(sum(counts.values()), "node"), "$red-bright")]
        if self.shown is not None and self.arrangement is not None:
            by = f" by {clip(self.asked, 32)}" if self.asked else ""
            title.append((f" {dot} {self.arrangement.total:,} shown{by}", "$red-pending"))
        marked = int(self.marks.sum())
        if marked:
            title.append((f" {dot} {marked:,} marked", "$red-busy"))
        told = "  ".join(f"{counts[name]:,} {name}" for name in COUNT_ORDER if counts[name])
        if len(told) > self.outer_size.width - 6:
            told = "  ".join(f"{self.glyphs.of(name)} {counts[name]:,}" for name in COUNT_ORDER if counts[name])
        set_border(self, title, [(told, "$red-dim")])

    def _start(self) -> int | None:
        """Where the cursor begins: an operator's first question is about a client, not about the server."""
        assert self.arrangement is not None
        first = self.arrangement.first()
        if first is None or str(self.mirror.table.role_of(first)) != "server":
            return first
        beside = self.arrangement.beside(first, 1)
        return first if beside is None else beside

    def _set_cursor(self, row: int | None) -> None:
        node_id = None if row is None else self.mirror.table.ids[row]
        changed = node_id != self._cursor_id
        self.cursor, self._cursor_id = row, node_id
        if changed:
            self._tell()

    def _tell(self) -> None:
        self.post_message(self.CursorMoved(self._cursor_id))

    def _find_again(self) -> None:
        """After a full update rows may be others: find cursor and marks by id."""
        marked, table = self.marked_ids(), self.mirror.table
        self._table = table
        self.marks = np.zeros(len(table), dtype=bool)
        for node_id in marked:
            row = table.row_of(node_id)
            if row is not None:
                self.marks[row] = True
        self.cursor = None if self._cursor_id is None else table.row_of(self._cursor_id)
        self.arrangement = None

    def _scroll_to_cursor(self) -> None:
        if self.cursor is None or self.arrangement is None:
            return
        where = self.arrangement.locate(self.cursor)
        if where is None:
            return
        line, x = where
        view = self.size.height - 1
        top = self.scroll_offset.y
        if view > 0 and not top <= line < top + view:
            target = line if line < top else line - view + 1
            self.scroll_to(y=target if target > 0 else 0, animate=False, immediate=True)
        left, item = self._label_width + x, self.arrangement.item
        if left + item > self.scroll_offset.x + self.size.width or left < self.scroll_offset.x:
            self.scroll_to(x=max(0, left + item - self.size.width), animate=False, immediate=True)


def _same(one: npt.NDArray[np.bool_] | None, other: npt.NDArray[np.bool_] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _longest(segment: Any) -> int:
    return max(map(len, segment.ids), default=0) if hasattr(segment, "ids") else len(segment[len(segment) - 1])
