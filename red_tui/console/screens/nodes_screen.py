"""All nodes as a list, sorted by a column; its cost is the visible lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.console.config.themes import STATE_NAMES, Glyphs
from red_tui.console.connection.mirror import Changes, FederationMirror
from red_tui.console.crash_guard import LARGE, LatestTask
from red_tui.console.text import clip, clock_time, duration, nodes_told, number, plain
from red_tui.console.widgets.lists import Line, set_border
from red_tui.console.widgets.node_list import NodeList
from red_tui.errors import CommandRefused
from red_tui.nodes.table import NodeTable

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import FederationMirror


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: What it is called in settings and commands.
        width: Its cells; 0 takes what is left.
        right: Whether it stands at the right.
        sort: The table's column by which it sorts.
        down: Whether the highest comes first.
        write: What it says of a row.
    """

    name: str
    width: int
    right: bool
    sort: str
    down: bool
    write: Callable[[FederationMirror, int], str]

    def fit(self, text: str, width: int) -> str:
        """`text` in `width` cells."""
        text = clip(text, width)
        return text.rjust(width) if self.right else text.ljust(width)


def _state(mirror: FederationMirror, row: int) -> str:
    return STATE_NAMES[int(mirror.table.column("state")[row])]


def _bundle(mirror: FederationMirror, row: int) -> str:
    bundle = mirror.table.value("bundle", row)
    return str(bundle) if bundle >= 0 else ""


def _host(mirror: FederationMirror, row: int) -> str:
    return mirror.host_of(mirror.table.value("bundle", row))


def _seconds(mirror: FederationMirror, row: int) -> str:
    seconds = mirror.table.value("seconds", row)
    return duration(seconds) if seconds == seconds else ""


def _loss(mirror: FederationMirror, row: int) -> str:
    loss = mirror.table.value("loss", row)
    return number(loss) if loss == loss else ""


COLUMNS = {
    column.name: column
    for column in (
        Column("id", 0, False, "", False, lambda mirror, row: plain(mirror.table.ids[row])),
        Column("role", 12, False, "role", False, lambda mirror, row: str(mirror.table.role_of(row))),
        Column("bundle", 6, True, "bundle", False, _bundle),
        Column("host", 10, False, "bundle", False, _host),
        Column("rounds", 6, True, "rounds", True, lambda mirror, row: f"{mirror.table.value('rounds', row):,}"),
        Column("rebuilds", 8, True, "rebuilds", True, lambda mirror, row: str(mirror.table.value("rebuilds", row))),
        Column("loss", 8, True, "loss", True, _loss),
        Column("took", 7, True, "seconds", True, _seconds),
        Column("since", 8, False, "since", True, lambda mirror, row: clock_time(mirror.table.value("since", row))),
        Column("group", 5, True, "group", False, lambda mirror, row: str(mirror.table.value("group", row))),
        Column("state", 10, False, "state", False, _state),
    )
}
"""The state stands first in every list, with its sign; `id` follows it always."""

DEFAULT_COLUMNS = ("id", "role", "bundle", "rounds", "loss", "took", "since")


Rows = npt.NDArray[np.integer[Any]]


class NodesView(NodeList):
    """Sorted rows of the table.  The cursor stays on its node, by id."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(glyphs, **keywords)
        self.sort = "id"
        self.reverse = False
        self.columns: tuple[str, ...] = DEFAULT_COLUMNS
        self.order: Rows = np.empty(0, dtype=np.int64)
        self._place_of: Rows | None = None
        self._shown: npt.NDArray[np.bool_] | None = None
        self.latest = LatestTask(self, "order")
        self._table: NodeTable | None = None

    def filter(self, shown: npt.NDArray[np.bool_] | None) -> None:
        """Show these rows only."""
        self._shown = shown

    # -- order -----------------------------------------------------------------------------------

    def next_sort(self) -> str:
        """Sort by the next column that is shown, and say by which."""
        names = ["state", *self.columns]
        self.sort_by(names[(names.index(self.sort) + 1) % len(names)] if self.sort in names else "id")
        return self.sort

    def sort_by(self, name: str, reverse: bool = False) -> None:
        """Sort by a column.

        Raises:
            CommandRefused: If there is no such column.
        """
        if name not in COLUMNS:
            raise CommandRefused(f"there is no column {name!r}; there are {', '.join(COLUMNS)}")
        self.sort, self.reverse = name, reverse
        if self.mirror is not None:
            self.refresh_from(self.mirror)

    def show_columns(self, names: Sequence[str]) -> None:
        """Show these columns; `id` is always one of them.

        Raises:
            CommandRefused: If there is no such column.
        """
        unknown = [name for name in names if name not in COLUMNS]
        if unknown:
            raise CommandRefused(f"there is no column {unknown[0]!r}; there are {', '.join(COLUMNS)}")
        self.columns = tuple(dict.fromkeys(["id", *(name for name in names if name != "state")]))
        self.draw()

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Sort again where an order may be another, and draw."""
        self.mirror = mirror
        if changes is not None and not (changes.full or len(changes.rows)):
            return
        by_change = changes is not None and not changes.full and not changes.placement
        if by_change and self.sort == "id" and self._shown is None and self._table is mirror.table:
            self.draw()  # the order is the table's: only what the lines say changed
            return
        table, shown = mirror.table, self._shown
        column, down = COLUMNS[self.sort].sort, COLUMNS[self.sort].down != self.reverse

        def compute() -> tuple[NodeTable, Rows]:
            return table, sorted_rows(table, shown, column, down)

        if len(table) < LARGE:
            self._take(compute())
        else:
            self.draw()
            self.latest.ask(compute, self._take)

    def _take(self, sorted_: tuple[NodeTable, Rows]) -> None:
        table, rows = sorted_
        if self.mirror is None or table is not self.mirror.table:
            return
        self._table, self.order, self._place_of = table, rows, None
        if self.cursor_id is None and len(rows):
            self.cursor_id = table.ids[int(rows[0])]
        self.place = self._place()
        self._tell()
        self.draw()

    def _tell(self) -> None:
        assert self.mirror is not None
        arrow = ("^" if self.reverse else "v") if self.glyphs.ascii_only else ("▴" if self.reverse else "▾")
        told = nodes_told(self.mirror.total, self.mirror.server_total)
        title = [(told, "$red-bright")]
        if self._shown is not None:
            by = f" by {clip(self.asked, 32)}" if self.asked else ""
            title.append((f" {self.glyphs.dot} {len(self.order):,} shown{by}", "$red-pending"))
        set_border(self, [*title, (f" {self.glyphs.dot} sorted by {self.sort} {arrow}", "$red-dim")])

    def _place(self) -> int:
        """Where the cursor's node stands; the same line if it is gone."""
        assert self.mirror is not None
        row = None if self.cursor_id is None else self.mirror.table.row_of(self.cursor_id)
        found = np.flatnonzero(self.order == row) if row is not None else np.empty(0)
        return int(found[0]) if len(found) else min(self.place, max(0, len(self.order) - 1))

    # -- the list --------------------------------------------------------------------------------

    def go_to(self, node_id: str | None) -> None:
        """Put the cursor on a node."""
        self.cursor_id = node_id
        if self.mirror is not None and len(self.order):
            self.select(self._place())

    def select(self, place: int) -> None:
        """Select a line, and with it its node."""
        super().select(place)
        if self.mirror is not None and self.place < len(self.order):
            self.cursor_id = self.mirror.table.ids[int(self.order[self.place])]

    def count(self) -> int:
        """How many nodes are listed."""
        return len(self.order) if self.mirror is not None and self._table is self.mirror.table else 0

    def nothing(self) -> str:
        """What is said where there are none."""
        return "no node matches the filter" if self._shown is not None else "this federation has no nodes"

    def _fitting(self) -> list[tuple[str, int]]:
        """The columns that there is room for, with their widths."""
        room, found = self.size.width - 12, []
        names = [name for name in self.columns if name != "id"]
        for name in names:
            width = max(COLUMNS[name].width, len(name))
            if room - width - 1 >= 14:
                found.append((name, width))
                room -= width + 1
        return [("id", max(8, min(32, room - 1))), *found]

    def make_head(self) -> list[Line]:
        """The titles of the columns; that by which the list is sorted stands out."""
        parts = [(f" {'state':<10} ", "title" if self.sort == "state" else "dim")]
        for name, width in self._fitting():
            parts.append((COLUMNS[name].fit(name, width) + " ", "title" if self.sort == name else "dim"))
        return [tuple(parts)]

    def make_line(self, place: int) -> Line:
        """One node."""
        assert self.mirror is not None
        row = int(self.order[place])
        state = STATE_NAMES[int(self.mirror.table.column("state")[row])]
        parts = [(f" {self.glyphs.of(state)} {state:<8} ", state)]
        for name, width in self._fitting():
            column = COLUMNS[name]
            style = "text" if name in ("id", "loss", "bundle") else "dim"
            parts.append((column.fit(column.write(self.mirror, row), width) + " ", style))
        return tuple(parts)


def sorted_rows(table: NodeTable, shown: npt.NDArray[np.bool_] | None, column: str, down: bool) -> Rows:
    """Rows of the nodes that are shown, in the order of a column; what has no value comes last."""
    mask = table.present()
    if shown is not None:
        mask = mask & shown[: len(mask)]
    rows = np.flatnonzero(mask)
    if not column:
        return rows[::-1] if down else rows
    keys = table.column(column)[rows].astype(np.float64)
    if column == "bundle":
        keys[keys < 0] = np.nan
    order: Rows = rows[np.argsort(-keys if down else keys, kind="stable")]
    return order
