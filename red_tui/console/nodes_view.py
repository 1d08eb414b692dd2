"""All nodes as a list, sorted by a column; its cost is the visible lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.console.chrome import set_border
from red_tui.console.glyphs import STATE_NAMES, Glyphs
from red_tui.console.lines import Line, Lines
from red_tui.console.text import clip, clock_time, duration, number, plural

if TYPE_CHECKING:
    from red_tui.console.mirror import Changes, FederationMirror

SORTS = ("id", "state", "role", "bundle", "rounds", "loss", "seconds", "since")


class NodesView(Lines):
    """Sorted rows of the table.  Only the lines in view are ever made."""

    def __init__(self, glyphs: Glyphs, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.glyphs = glyphs
        self.sort = SORTS[0]
        self._order: npt.NDArray[np.integer[Any]] = np.empty(0, dtype=np.int64)
        self._top = 0
        self.cursor_id: str | None = None
        self._mirror: FederationMirror | None = None
        self._shown: npt.NDArray[np.bool_] | None = None

    def filter(self, shown: npt.NDArray[np.bool_] | None) -> None:
        """Show these rows only."""
        self._shown = shown

    def next_sort(self) -> str:
        """Sort by the next column, and say by which."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        if self._mirror is not None:
            self.refresh_from(self._mirror)
        return self.sort

    def refresh_from(self, mirror: FederationMirror, changes: Changes | None = None) -> None:
        """Sort and draw the present data."""
        self._mirror = mirror
        if changes is not None and not (changes.full or len(changes.rows)):
            return
        table = mirror.table
        mask = table.present()
        if self._shown is not None and len(self._shown) == len(mask):
            mask = mask & self._shown
        rows = np.flatnonzero(mask)
        if self.sort != "id":
            keys = table.column(self.sort)[rows]
            if self.sort in ("rounds", "loss", "seconds", "since"):
                keys = -keys.astype(np.float64)
            rows = rows[np.argsort(keys, kind="stable")]
        self._order = rows
        if self.cursor_id is None and len(rows):
            self.cursor_id = table.ids[int(rows[0])]
        arrow = "v" if self.glyphs.ascii_only else "▾"
        set_border(self, [(f"{plural(len(rows), 'node')}, by {self.sort} {arrow}", "$red-bright")])
        self._draw()

    def move(self, way: str) -> None:
        """Move the cursor."""
        if self._mirror is None or not len(self._order):
            return
        page = max(1, self.size.height - 2)
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page, "home": -(1 << 40), "end": 1 << 40}
        place = min(max(0, self._place() + steps.get(way, 0)), len(self._order) - 1)
        self.cursor_id = self._mirror.table.ids[int(self._order[place])]
        self._draw()

    def on_resize(self) -> None:
        """Draw as many lines as there is room for."""
        self._draw()

    @property
    def _id_width(self) -> int:
        return max(12, min(24, self.size.width - 65))

    def _place(self) -> int:
        """Where the cursor's node stands in the order; the nearest line if it is gone."""
        assert self._mirror is not None
        row = None if self.cursor_id is None else self._mirror.table.row_of(self.cursor_id)
        found = np.flatnonzero(self._order == row) if row is not None else np.empty(0)
        return int(found[0]) if len(found) else min(self._top, max(0, len(self._order) - 1))

    def _draw(self) -> None:
        if self._mirror is None:
            return
        room = max(1, self.size.height - 1)
        place = self._place()
        self._top = min(max(self._top, place - room + 1), place)
        self._top = max(0, min(self._top, len(self._order) - room))
        head = f" {'state':<10} {'id':<{self._id_width}} {'role':<12} {'bundle':>6} {'rounds':>6}"
        head += f" {'loss':>7} {'took':>7}  since"
        lines: list[Line] = [((head, "dim"),)]
        lines += [self._line(int(row)) for row in self._order[self._top : self._top + room]]
        self.show(lines, place - self._top + 1 if len(self._order) else None)

    def _line(self, row: int) -> Line:
        assert self._mirror is not None
        table = self._mirror.table
        state = STATE_NAMES[int(table.column("state")[row])]
        bundle = table.value("bundle", row)
        seconds = table.value("seconds", row)
        return (
            (f" {self.glyphs.of(state)} {state:<8} ", state),
            (f"{clip(table.ids[row], self._id_width):<{self._id_width}} ", "text"),
            (f"{clip(str(table.role_of(row)), 12):<12} ", "dim"),
            (f"{bundle if bundle >= 0 else '':>6} {table.value('rounds', row):>6} ", "text"),
            (f"{number(table.value('loss', row)):>7} ", "text"),
            (f"{duration(seconds) if seconds == seconds else '':>7}  ", "dim"),
            (clock_time(table.value("since", row)), "dim"),
        )
