"""The grid: every node once, at its bundle and role, drawn line by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from textual import events
from textual.geometry import Size
from textual.message import Message

from red_tui.console.config.themes import COUNT_ORDER
from red_tui.console.connection.mirror import Changes
from red_tui.console.crash_guard import LARGE
from red_tui.console.grid import labels
from red_tui.console.grid.arrangement import Arrangement, Sections, sections_for
from red_tui.console.grid.canvas import LABEL_GAP, NO_MATCH, ZOOMS, GridCanvas
from red_tui.console.grid.labels import Marks
from red_tui.console.input.actions import key_name
from red_tui.console.text import clip, nodes_told, plain
from red_tui.console.widgets.lists import set_border
from red_tui.nodes.states import NodeState
from red_tui.protocol.update import PARTS

if TYPE_CHECKING:
    from red_tui.console.widgets.lists import Line
    from red_tui.selection import Query


Parts = list[tuple[str, str]]

FIRST_STEPS = {
    "wave": "builds as many nodes as there is room for",
    "round": "runs a round, and builds what it needs",
    "help": "tells all keys, and what the words mean",
}
"""What is said below nodes of which none is built, by action id."""


def frame_words(grid: Grid) -> tuple[Parts, Parts]:
    """Title and subtitle of the frame: nodes, filter and marks; the node under the cursor, and counts by state."""
    dot, mirror = grid.glyphs.dot, grid.mirror
    counts = {str(state): count for state, count in mirror.node_counts.items()}
    title = [(nodes_told(mirror.total, mirror.server_total), "$red-bright")]
    if grid.filtered_by is not None and grid.arrangement is not None:
        by = f" by {clip(grid.asked, 32)}" if grid.asked else ""
        title.append((f" {dot} {grid.arrangement.total:,} shown{by}", "$red-pending"))
    if part := grid.part_in_view():
        title.append((f" {dot} {part}", "$red-dim"))
    if grid.marks.count:
        title.append((f" {dot} {grid.marks.count:,} marked", "$red-busy"))
    # Where no panel beside the grid tells of it, the frame names the node under the cursor.
    named = grid.cursor_id is not None and not grid.app.has_class("wide")
    here = f"{clip(plain(grid.cursor_id or ''), 24)} {dot} " if named else ""
    told = "  ".join(f"{counts[name]:,} {name}" for name in COUNT_ORDER if counts[name])
    if len(here) + len(told) > grid.outer_size.width - 6:
        told = "  ".join(f"{grid.glyphs.of(name)} {counts[name]:,}" for name in COUNT_ORDER if counts[name])
    return title, [*([(here, "$red-bright")] if here else []), (told, "$red-dim")]


def hint_lines(grid: Grid) -> Sequence[Line]:
    """What to do where nothing is built yet, and that a filter hides all nodes."""
    if grid.filtered_by is not None:
        empty = grid.arrangement is not None and not grid.arrangement.total
        return [((f"  {NO_MATCH}", "pending"),)] if empty else []
    mirror, actions = grid.mirror, getattr(grid.app, "actions", None)
    untouched = mirror.total and mirror.node_counts[NodeState.VIRTUAL] == mirror.total and not mirror.round.number
    if actions is None or actions.read_only or not untouched or mirror.session.running:
        return []
    lines: list[Line] = [(("  no node has a process yet", "text"),)]
    for name, words in FIRST_STEPS.items():
        if actions.keys.get(name):
            lines.append(((f"  {key_name(actions.keys[name][0]):<3}", "key"), (words, "dim")))
    return lines


SCREENS = 3
"""Where a sign for each node takes more screens, they are a wall: counts are shown, unless the operator zooms."""


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

    class Arranged(Message):
        """The filter that was asked for is shown now."""

    # -- data in ---------------------------------------------------------------------------------

    def apply(self, changes: Changes) -> None:
        """Take over what changed in the mirror."""
        if changes.full:
            self._find_again()
            self.sort_nodes()
            return
        table, rows = self.mirror.table, changes.rows
        self.marks.grow(len(table))
        if len(rows):
            self._dirty.append(rows)
        if not self._follow(changes):
            self.sort_nodes()
        if self.cursor is not None and np.any(rows == self.cursor):
            self._tell()

    def _follow(self, changes: Changes) -> bool:
        """Move what changed, and nothing else; False if all nodes have to be sorted again."""
        arrangement, rows = self.arrangement, changes.rows
        if arrangement is None or arrangement.length != len(self.mirror.table):
            return False
        labelled = bool(changes.parts & {"bundles", "hosts"}) or self._undescribed != self.mirror.undescribed
        if labelled:
            if not arrangement.adopt(self.sections()):
                return False
            self._labelled = None
        before = arrangement.states[rows]
        if self.filtered_by is not None and self.shown is not None:
            self.shown[rows] = self.filtered_by.holds(self.mirror.table, rows)
        moved = arrangement.update(rows)
        if moved is None:
            return False
        self.marks.follow(rows, before, arrangement.states[rows])
        if moved or labelled:
            self.lay_out()
        else:
            self.refresh_changed()
            self._tell_counts()
        return True

    def forget(self, changes: Changes | None = None) -> Changes:
        """Forget all that was drawn; what has to be applied now, so that it is made again from the mirror."""
        self._version += 1
        self._strips.clear()
        self._dirty.clear()
        self.refresh()
        events = changes.events if changes is not None else ()
        return Changes(full=True, placement=True, parts=PARTS, events=events)

    def filter(self, query: Query | None) -> None:
        """Show what a query matches; None shows all.  Large tables are filtered beside the event loop."""
        self._wanted = query
        self.sort_nodes()

    def sort_nodes(self) -> None:
        """Filter and sort all nodes into cells again; the cursor stays on its node."""
        table, query, sections = self.mirror.table, self._wanted, self.sections()
        self._dirty.clear()

        def compute() -> tuple[Any, Arrangement]:
            shown = None if query is None else query.mask(table)
            return shown, Arrangement(table, sections, shown)

        def take(made: tuple[Any, Arrangement]) -> None:
            self._take(query, *made)

        if len(table) < LARGE:
            take(compute())
        else:
            self.latest.ask(compute, take)

    def _take(self, query: Query | None, shown: npt.NDArray[np.bool_] | None, made: Arrangement) -> None:
        """Show an arrangement, if the nodes it arranges are still those that there are."""
        table = self.mirror.table
        changed = np.unique(np.concatenate(self._dirty)) if self._dirty else None
        self._dirty.clear()
        fits = made.table is table and made.length == len(table) and made.adopt(self.sections())
        if fits and changed is not None:
            # Meanwhile rows changed, some perhaps between two looks at them.
            if shown is not None and query is not None:
                shown[changed] = query.holds(table, changed)
            fits = made.update(changed) is not None
        if not fits:
            self.sort_nodes()
            return
        before = self.arrangement
        place = before.locate(self.cursor) if before is not None and self.cursor is not None else None
        self.filtered_by, self.shown, self.arrangement = query, shown, made
        self.marks.recount(made.states)
        self._labelled = None
        self._id_width = min(24, max([4, *(_longest(segment) for segment in table.ids.segments)]))
        self.lay_out(place)
        self.post_message(self.Arranged())

    def sections(self) -> Sections:
        """What the lines of the grid stand for, as the nodes are grouped now."""
        hosts, self._undescribed = [host.name for host in self.mirror.hosts], self.mirror.undescribed
        return sections_for(self.grouping, self.mirror.bundles, self.mirror.seated, hosts)

    def _settle_cursor(self, place: tuple[int, int] | None = None) -> None:
        """Keep the cursor where a node is shown: at its own, else at one that stands where it stood."""
        arrangement = self.arrangement
        assert arrangement is not None
        if self.cursor is not None and arrangement.shows(self.cursor):
            self.place = arrangement.locate(self.cursor)
            return
        place = place or self.place
        found = None
        if place is not None:
            found = arrangement.near(min(place[0], max(0, arrangement.lines - 1)), place[1])
        self._set_cursor(self._start() if found is None else found)

    def lay_out(self, place: tuple[int, int] | None = None) -> None:
        """Fit columns and lines to the size, and draw all; a cursor whose node is hidden goes near `place`."""
        arrangement = self.arrangement
        if arrangement is None:
            return
        self._fit(arrangement)
        self._settle_cursor(place)  # only now is it known where nodes stand
        self._fit_extent(arrangement)
        self._tell_counts()
        self._scroll_to_cursor()
        self.refresh_changed()

    def _fit(self, arrangement: Arrangement) -> None:
        """Fit labels, zoom, columns and lines to the size."""
        width = self.scrollable_content_region.width or self.size.width
        if self._labelled != width:
            self._labelled = width
            self._labels = labels.columns(self.grouping, arrangement.sections, width)
            self._label_width = 1 + sum(label.width + LABEL_GAP for label in self._labels)
        self.zoom = self.chosen_zoom or self._fitting_zoom(arrangement, width)
        item = self._id_width + 3 if self.zoom == "tiles" else 1
        fitted = (self.zoom, self.grouping, width, self._label_width, *arrangement.roles)
        kept = self._fitted[1] if self._fitted[0] == fitted else ()
        arrangement.lay_out(max(10, width - self._label_width - 1), item, self.zoom == "counts", kept)
        self._fitted = (fitted, arrangement.widths)

    def _fitting_zoom(self, arrangement: Arrangement, width: int) -> str:
        """Signs, or counts where signs would be a wall; near the limit it stays at what it is."""
        height = (self.size.height or self.app.size.height) - 1
        if arrangement.total > height > 0:
            arrangement.lay_out(max(10, width - self._label_width - 1))
            if arrangement.lines > height * (SCREENS - (self.zoom == "counts")):
                return "counts"
        return ZOOMS[0]

    def _fit_extent(self, arrangement: Arrangement) -> None:
        """Tell how far there is to scroll."""
        extent = Size(max(self._label_width + arrangement.width, 1), arrangement.lines + 1)
        seen = self.scrollable_content_region.size
        if extent.width <= seen.width and extent.height <= seen.height:
            # A change of extent makes Textual lay out and draw the whole screen: what fits needs none.
            extent = Size(1, 1)
        elif extent.height > 4 * seen.height > 0:
            # For the same reason a long list grows and shrinks by half a screen at a time.
            step = max(1, seen.height // 2)
            extent = Size(extent.width, -(-extent.height // step) * step)
        self._extend(extent, seen)

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
        self.chosen_zoom = zoom
        self.lay_out()

    # -- cursor and marks ------------------------------------------------------------------------

    @property
    def cursor_id(self) -> str | None:
        """Id of the node under the cursor."""
        return self._cursor_id

    def marked_ids(self) -> list[str]:
        """Ids of the marked nodes, those that the filter hides included."""
        return self._table.ids.take(self.marks.rows())

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
        """Mark the node under the cursor, or take its mark away; where cells are counted, all of the cell."""
        if self.cursor is None or self.arrangement is None:
            return
        rows = self.arrangement.cell_of(self.cursor) if self.arrangement.single else np.array([self.cursor])
        self._mark(rows, not bool(self.marks.mask[rows].all()))
        self._anchor = self.cursor

    def mark_range(self) -> None:
        """Mark from the last marked node to the cursor."""
        if self.cursor is None or self.arrangement is None:
            return
        anchor = self.cursor if self._anchor is None else self._anchor
        self._mark(self.arrangement.between(anchor, self.cursor))
        self._anchor = self.cursor

    def mark_shown(self) -> None:
        """Mark all nodes that the filter shows."""
        if self.arrangement is not None:
            self._mark(np.flatnonzero(self.arrangement.key >= 0))

    def clear_marks(self) -> None:
        """Take all marks away."""
        self.marks.clear()
        self._anchor = None
        self._marked()

    def _mark(self, rows: npt.NDArray[np.integer[Any]], on: bool = True) -> None:
        assert self.arrangement is not None
        rows = rows[rows < self.arrangement.length]  # newer ones are about to be arranged
        self.marks.set(rows, on, self.arrangement.states)
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
        title, told = frame_words(self)
        set_border(self, title, told)

    def _hints(self) -> Sequence[Line]:
        return hint_lines(self)

    @property
    def asked(self) -> str:
        """What the filter asks for, to be told."""
        return "" if self.filtered_by is None else str(self.filtered_by)

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
        if row is not None and self.arrangement is not None:
            self.place = self.arrangement.locate(row)
        if changed:
            self._tell()
            if not self.app.has_class("wide"):
                self._tell_counts()

    def _tell(self) -> None:
        self.post_message(self.CursorMoved(self._cursor_id))

    def _find_again(self) -> None:
        """After a full update rows may be others: find cursor and marks by id."""
        table, rows = self.mirror.table, self.marks.rows()
        before = self._table.ids.segments
        if table.ids.segments[: len(before)] != before:
            found = (table.row_of(node_id) for node_id in self._table.ids.take(rows))
            rows = np.array([row for row in found if row is not None], dtype=np.int64)
        self._table = table
        self.marks = Marks(len(table))
        self.marks.set(rows, True, table.column("state"))
        self.cursor = None if self._cursor_id is None else table.row_of(self._cursor_id)
        self.arrangement, self._anchor = None, None

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
            self.scroll_to(y=target if target > 0 else 0, animate=False, immediate=True, force=True)
        left, item = self._label_width + x, self.arrangement.item
        if left + item > self.scroll_offset.x + self.size.width or left < self.scroll_offset.x:
            self.scroll_to(x=max(0, left + item - self.size.width), animate=False, immediate=True, force=True)


def _longest(segment: Any) -> int:
    return max(map(len, segment.ids), default=0) if hasattr(segment, "ids") else len(segment[len(segment) - 1])
