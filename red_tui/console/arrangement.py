"""Where each node stands in the grid: sections are rows, roles are columns, and nothing loops over nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.states import STATES, NodeState

if TYPE_CHECKING:
    from red_tui.console.mirror import Bundle
    from red_tui.nodes.table import BoolArray, NodeTable

Ints = npt.NDArray[np.integer[Any]]

GAP = 2
"""Cells between two role columns."""

GROUPINGS = ("bundle", "host", "state")


@dataclass(frozen=True)
class Section:
    """One row of the grid, over as many lines as its fullest cell needs.

    Attributes:
        kind: `bundle`, `host`, `state` or `pool`.
        name: Host's or state's name, or the bundle's index as text.
        bundle: The bundle of a `bundle` section.
        bundles: How many bundles a `host` section has.
        cpu: CPUs of the bundle, or of the host's bundles together.
        gpu: GPUs likewise.
    """

    kind: str
    name: str
    bundle: Bundle | None = None
    bundles: int = 0
    cpu: float = 0.0
    gpu: float = 0.0


@dataclass(frozen=True)
class Cell:
    """The nodes of one section and role on one line."""

    column: int
    x: int
    rows: Ints


def sections_for(
    grouping: str, bundles: Sequence[Bundle], table: NodeTable, hosts: Sequence[str] = ()
) -> tuple[list[Section], Ints]:
    """The sections of a grouping, and the section of each row of the table."""
    if grouping == "state":
        names = [str(state) for state in STATES if state is not NodeState.REMOVED]
        return [Section("state", name) for name in names], table.column("state").astype(np.int32)
    bundle_of = table.column("bundle")
    highest = int(bundle_of.max(initial=-1))
    by_index = {bundle.idx: bundle for bundle in bundles}
    used = np.unique(bundle_of[(bundle_of >= 0) & table.present()])
    known = sorted({*by_index, *used.tolist()})
    lookup = np.zeros(max([highest, *known], default=-1) + 2, dtype=np.int32)  # the last one answers for -1
    sections: list[Section] = []
    if grouping == "host":
        order = {name: place for place, name in enumerate(hosts)}
        names = list(dict.fromkeys(by_index[index].host if index in by_index else "?" for index in known))
        names.sort(key=lambda name: (order.get(name, len(order)), name))
        for place, name in enumerate(names):
            mine = [index for index in known if (by_index[index].host if index in by_index else "?") == name]
            lookup[mine] = place
            cpu = sum(by_index[index].cpu for index in mine if index in by_index)
            gpu = sum(by_index[index].gpu for index in mine if index in by_index)
            sections.append(Section("host", name, None, len(mine), cpu, gpu))
    else:
        rank = {name: place for place, name in enumerate(hosts)}
        known.sort(key=lambda i: (rank.get(by_index[i].host, len(rank)) if i in by_index else len(rank) + 1, i))
        for place, index in enumerate(known):
            bundle = by_index.get(index)
            lookup[index] = place
            sections.append(
                Section("bundle", str(index), bundle, 1, bundle.cpu if bundle else 0.0, bundle.gpu if bundle else 0.0)
            )
    lookup[-1] = len(sections)
    sections.append(Section("pool", "pool"))
    return sections, lookup[bundle_of]


class Arrangement:
    """Nodes sorted into cells, and cells into lines.

    Args:
        table: The nodes.
        sections: The sections, top to bottom.
        section_of: Section of each row of the table.
        shown: Mask of the rows that are shown.
    """

    def __init__(self, table: NodeTable, sections: Sequence[Section], section_of: Ints, shown: BoolArray) -> None:
        self.table = table
        rows = np.flatnonzero(shown)
        role = table.column("role")
        present = np.bincount(role[rows], minlength=len(table.roles)) if len(rows) else np.zeros(len(table.roles))
        codes = [code for code in range(len(table.roles)) if present[code]]
        codes.sort(key=lambda code: (str(table.roles[code]) != "server", code))
        self.roles = [str(table.roles[code]) for code in codes]
        column_of = np.zeros(max(1, len(table.roles)), dtype=np.int32)
        column_of[codes] = np.arange(len(codes))
        self.total = len(rows)
        self._columns = max(1, len(codes))
        places = len(sections) * self._columns
        key = section_of[rows] * np.int32(self._columns) + column_of[role[rows]]
        key = key.astype(np.uint16 if places < 65536 else np.int32)  # two bytes sort by radix
        self._key_of_row = np.full(len(table), -1, dtype=np.int32)
        self._key_of_row[rows] = key
        self._order = rows[np.argsort(key, kind="stable")]
        self._counts = np.bincount(key, minlength=places)
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self.sections = list(sections)
        self._lay = np.zeros(0, dtype=np.int64)
        self.lines = 0
        self.item = 1
        self.single = False
        self.widths: list[int] = []
        self.offsets: list[int] = []
        self._drop_empty(("state", "host"))
        self.lay_out(80)

    def _drop_empty(self, kinds: Sequence[str]) -> None:
        """Hide states without nodes and an empty pool: they say nothing."""
        counts = self._counts.reshape(-1, self._columns).sum(axis=1)
        self._visible = [
            place
            for place, section in enumerate(self.sections)
            if counts[place] or (section.kind not in kinds and section.kind != "pool")
        ]

    # -- lines -----------------------------------------------------------------------------------

    def lay_out(self, width: int, item: int = 1, single: bool = False) -> None:
        """Give columns their widths and sections their lines.

        Args:
            width: Cells for all role columns together.
            item: Cells that one node takes.
            single: Whether a cell is one line of counts instead of one item a node.
        """
        self.item, self.single = item, single
        counts = self._counts.reshape(-1, self._columns)
        if self.roles:
            narrow = 9 if single else 0
            least = [max(len(name), narrow, min(item * int(most), item)) for name, most in self._mosts(counts)]
            wanted = [
                max(low, 22 if single else item * int(most))
                for low, (_, most) in zip(least, self._mosts(counts), strict=True)
            ]
            self.widths = share(wanted, least, width - GAP * (len(self.roles) - 1))
        else:
            self.widths = []
        self.offsets = [sum(self.widths[:place]) + GAP * place for place in range(len(self.widths))]
        self.capacities = np.array([max(1, wide // item) for wide in self.widths] or [1], dtype=np.int64)
        if single:
            heights = np.ones(len(self._visible), dtype=np.int64)
        else:
            heights = np.maximum(1, (-(-counts[self._visible] // self.capacities)).max(axis=1, initial=0))
        gaps = np.array(
            [int(self.sections[place].kind == "pool" and nth > 0) for nth, place in enumerate(self._visible)],
            dtype=np.int64,
        )
        self._gaps = gaps
        self._ends = np.cumsum(heights + gaps)
        self._first = self._ends - heights
        self.lines = int(self._ends[-1]) if len(self._ends) else 0

    def _mosts(self, counts: Ints) -> list[tuple[str, int]]:
        most = counts.max(axis=0, initial=0)
        return [(name, int(most[column])) for column, name in enumerate(self.roles)]

    @property
    def width(self) -> int:
        """Cells that the role columns take."""
        return sum(self.widths) + GAP * max(0, len(self.widths) - 1)

    def section_at(self, line: int) -> tuple[Section, int] | None:
        """The section of a line and the line's number in it; None for a gap or beyond the end."""
        if not 0 <= line < self.lines:
            return None
        nth = int(np.searchsorted(self._ends, line, side="right"))
        within = line - int(self._first[nth])
        return None if within < 0 else (self.sections[self._visible[nth]], within)

    def section_count(self, line: int) -> int:
        """How many nodes the section of a line holds."""
        nth = int(np.searchsorted(self._ends, line, side="right"))
        place = self._visible[nth] * self._columns
        return int(self._starts[place + self._columns] - self._starts[place])

    def cells(self, line: int) -> list[Cell]:
        """The cells with nodes on a line, left to right."""
        if self.section_at(line) is None or not self.roles:
            return []
        nth = int(np.searchsorted(self._ends, line, side="right"))
        within = line - int(self._first[nth])
        found = []
        for column in range(self._columns):
            key = self._visible[nth] * self._columns + column
            start, end = int(self._starts[key]), int(self._starts[key + 1])
            if not self.single:
                start += within * int(self.capacities[column])
                end = min(end, start + int(self.capacities[column]))
            if start < end:
                found.append(Cell(column, self.offsets[column], self._order[start:end]))
        return found

    # -- nodes -----------------------------------------------------------------------------------

    def locate(self, row: int) -> tuple[int, int] | None:
        """Line and x of a node, or None if it is not shown."""
        if not 0 <= row < len(self._key_of_row) or self._key_of_row[row] < 0 or not self.roles:
            return None
        key = int(self._key_of_row[row])
        section, column = divmod(key, self._columns)
        nth = self._visible.index(section) if len(self._visible) < 64 else int(np.searchsorted(self._visible, section))
        if self.single:
            return int(self._first[nth]), self.offsets[column]
        cell = self._order[self._starts[key] : self._starts[key + 1]]
        down, right = divmod(int(np.searchsorted(cell, row)), int(self.capacities[column]))
        return int(self._first[nth]) + down, self.offsets[column] + right * self.item

    def near(self, line: int, x: int) -> int | None:
        """The node on a line that is nearest to `x`, or None if the line has none."""
        best, distance = None, 1 << 30
        for cell in self.cells(line):
            count = 1 if self.single else len(cell.rows)
            place = min(max(0, (x - cell.x) // self.item), count - 1)
            here = abs(x - (cell.x + place * self.item))
            if here < distance:
                best, distance = int(cell.rows[place]), here
        return best

    def beside(self, row: int, step: int) -> int | None:
        """The node `step` items to the right (left) on the lines, as one reads."""
        where = self.locate(row)
        if where is None:
            return self.first()
        line = where[0]
        flat = self._line_rows(line)
        place = flat.index(row) + step if row in flat else 0
        if 0 <= place < len(flat):
            return flat[place]
        line += 1 if step > 0 else -1
        while 0 <= line < self.lines:
            if flat := self._line_rows(line):
                return flat[0] if step > 0 else flat[-1]
            line += 1 if step > 0 else -1
        return None

    def above(self, row: int, step: int, x: int | None = None) -> int | None:
        """The node `step` lines down (up for less than 0), nearest to `x`, skipping lines without nodes."""
        where = self.locate(row)
        if where is None:
            return self.first()
        line, here = where
        x = here if x is None else x
        way = 1 if step > 0 else -1
        target = min(max(0, line + step), self.lines - 1)
        if target == line:
            return None
        for candidate in [*range(target, self.lines if way > 0 else -1, way), *range(target, line, -way)]:
            found = self.near(candidate, x)
            if found is not None:
                return found
        return None

    def first(self) -> int | None:
        """The first node shown."""
        return int(self._order[0]) if len(self._order) else None

    def last(self) -> int | None:
        """The last node shown."""
        return int(self._order[-1]) if len(self._order) else None

    def between(self, one: int, other: int) -> Ints:
        """Rows from one node to another, in the order in which they stand."""
        places = np.flatnonzero((self._order == one) | (self._order == other))
        if not len(places):
            return np.empty(0, dtype=np.int64)
        return self._order[places[0] : places[-1] + 1]

    def _line_rows(self, line: int) -> list[int]:
        if self.single:
            return [int(cell.rows[0]) for cell in self.cells(line)]
        return [int(row) for cell in self.cells(line) for row in cell.rows]


def share(wanted: Sequence[int], least: Sequence[int], available: int) -> list[int]:
    """Widths between `least` and `wanted`: small wishes come true, large ones share what remains."""
    widths = list(least)
    left = available - sum(widths)
    while left > 0:
        open_ = [place for place, width in enumerate(widths) if width < wanted[place]]
        if not open_:
            break
        each = max(1, left // len(open_))
        for place in open_:
            more = min(each, wanted[place] - widths[place], left)
            widths[place] += more
            left -= more
    return widths
