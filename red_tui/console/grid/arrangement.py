"""Where each node stands in the grid: sections are rows, roles are columns, and nothing loops over nodes.

All nodes are sorted once; what changes afterwards moves only the nodes that changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.states import STATES, NodeState

if TYPE_CHECKING:
    from red_tui.nodes.table import BoolArray, NodeTable
    from red_tui.protocol.snapshot import BundleStatus


Ints = npt.NDArray[np.integer[Any]]

GROUPINGS = ("bundle", "host", "state")
UNKNOWN = -1


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
    bundle: BundleStatus | None = None
    bundles: int = 0
    cpu: float = 0.0
    gpu: float = 0.0


class Sections:
    """The sections of a grouping, and which of them a node stands in.

    Args:
        items: The sections, top to bottom.
        column: The table's column that decides.
        lookup: Section by that column's value; the last one answers for -1, the last but one for all that is beyond.
    """

    def __init__(self, items: Sequence[Section], column: str, lookup: Ints) -> None:
        self.items = tuple(items)
        self._column = column
        self._lookup = lookup
        self.optional = np.array([section.kind != "bundle" for section in items], dtype=bool)
        """Which of them are hidden while they hold no node: they would say nothing."""

    def of(self, table: NodeTable, rows: Ints | slice) -> Ints:
        """The section of each of some rows; `UNKNOWN` where none is."""
        values = table.column(self._column)[rows]
        found: Ints = self._lookup[np.minimum(values, len(self._lookup) - 2)]
        return found

    def same_places(self, other: Sections) -> bool:
        """Whether every node stands in the same place with the other ones: only labels differ."""
        return (
            self._column == other._column
            and len(self.items) == len(other.items)
            and np.array_equal(self._lookup, other._lookup)
            and all(one.kind == two.kind for one, two in zip(self.items, other.items, strict=True))
        )


def sections_for(grouping: str, bundles: Sequence[BundleStatus], seated: Ints, hosts: Sequence[str] = ()) -> Sections:
    """The sections of a grouping.

    Args:
        grouping: One of `GROUPINGS`.
        bundles: The bundles that are known.
        seated: How many nodes sit in each bundle, by its index: some may be in one that is not known yet.
        hosts: Names of the hosts, in their order.
    """
    if grouping == "state":
        names = [str(state) for state in STATES if state is not NodeState.REMOVED]
        lookup = np.arange(len(STATES) + 2, dtype=np.int32)
        lookup[len(names) :] = UNKNOWN
        return Sections([Section("state", name) for name in names], "state", lookup)
    by_index = {bundle.idx: bundle for bundle in bundles}
    known = sorted({*by_index, *np.flatnonzero(seated).tolist()})
    lookup = np.full(max(known, default=-1) + 3, UNKNOWN, dtype=np.int32)
    rank = {name: place for place, name in enumerate(hosts)}
    sections = (_by_host if grouping == "host" else _by_bundle)(known, by_index, rank, lookup)
    lookup[-1] = len(sections)
    sections.append(Section("pool", "pool"))
    return Sections(sections, "bundle", lookup)


def _by_bundle(
    known: list[int], by_index: dict[int, BundleStatus], rank: dict[str, int], lookup: Ints
) -> list[Section]:
    known.sort(key=lambda i: (rank.get(by_index[i].host, len(rank)) if i in by_index else len(rank) + 1, i))
    sections = []
    for place, index in enumerate(known):
        bundle = by_index.get(index)
        lookup[index] = place
        cpu, gpu = (bundle.cpu, bundle.gpu) if bundle else (0.0, 0.0)
        sections.append(Section("bundle", str(index), bundle, 1, cpu, gpu))
    return sections


def _by_host(known: list[int], by_index: dict[int, BundleStatus], rank: dict[str, int], lookup: Ints) -> list[Section]:
    of_host: dict[str, list[int]] = {}
    for index in known:
        of_host.setdefault(by_index[index].host if index in by_index else "?", []).append(index)
    sections = []
    for place, name in enumerate(sorted(of_host, key=lambda name: (rank.get(name, len(rank)), name))):
        mine = of_host[name]
        lookup[mine] = place
        cpu = sum(by_index[index].cpu for index in mine if index in by_index)
        gpu = sum(by_index[index].gpu for index in mine if index in by_index)
        sections.append(Section("host", name, None, len(mine), cpu, gpu))
    return sections


GAP = 2
"""Cells between two role columns."""

SLACK = 8
"""Items by which a column grows at a time."""

COUNT_WIDTH = 44
"""Cells that a column of counts and bars wants."""


def fit_columns(
    names: Sequence[str], most: Sequence[int], available: int, item: int, single: bool, kept: Sequence[int] = ()
) -> list[int]:
    """Widths of columns.

    Args:
        names: Their titles.
        most: Nodes in the fullest cell of each.
        available: Cells for all together, gaps included.
        item: Cells that a node takes.
        single: Whether a cell is one line of counts.
        kept: Widths from before; they are given again unless they are too narrow, or far too wide.
    """
    if not names:
        return []
    room = available - GAP * (len(names) - 1)
    if single:
        least = [max(len(name), len(f"{count:,}")) for name, count in zip(names, most, strict=True)]
        needed = wanted = [max(low, COUNT_WIDTH if count > 1 else 0) for low, count in zip(least, most, strict=True)]
    else:
        least = [max(len(name), min(item * count, item)) for name, count in zip(names, most, strict=True)]
        needed = [max(low, item * count) for low, count in zip(least, most, strict=True)]
        wanted = [
            max(low, item * -(-count // SLACK) * SLACK) if count > 1 else low
            for low, count in zip(least, most, strict=True)
        ]
    fresh = share(wanted, least, room)
    if len(kept) == len(fresh) and sum(kept) <= max(room, sum(least)):
        full = sum(kept) >= room
        fits = all(
            have >= (min(need, 0.75 * new) if full else min(need, new))
            for have, need, new in zip(kept, needed, fresh, strict=True)
        )
        far = any(have > 2 * want + SLACK * item for have, want in zip(kept, wanted, strict=True))
        if fits and not far:
            return list(kept)
    return fresh


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


HIDDEN = -1
MANY_CELLS = 256
"""Number of cells from which all are sorted again instead of one by one."""


@dataclass(frozen=True)
class Cell:
    """The nodes of one section and role on one line.

    Attributes:
        key: The number of section and role.
        column: The role's column.
        x: Where it begins.
        rows: Rows of the table.
    """

    key: int
    column: int
    x: int
    rows: Ints


class Arrangement:
    """Nodes sorted into cells, and cells into lines.

    Args:
        table: The nodes.
        sections: The sections, top to bottom.
        shown: Mask of the rows that are shown; None for all.
    """

    def __init__(self, table: NodeTable, sections: Sections, shown: BoolArray | None = None) -> None:
        self.table = table
        # Beside the event loop the table may grow meanwhile: what is read later is cut to what was read first.
        self.length = len(table) if shown is None else min(len(table), len(shown))
        self._sections = sections
        self._shown = shown
        self.states = table.column("state")[: self.length].copy()
        visible = self.states != NodeState.REMOVED.code
        if shown is not None:
            visible &= shown[: self.length]
        role = table.column("role")[: self.length].copy()
        names = [str(name) for name in table.roles]
        present = np.bincount(role[visible], minlength=max(1, len(names)))
        codes = [code for code in range(len(names)) if present[code]]
        codes.sort(key=lambda code: (names[code] != "server", code))
        self.roles = [names[code] for code in codes]
        self._columns = max(1, len(codes))
        self._column_of = np.full(max(1, len(names)), HIDDEN, dtype=np.int32)
        self._column_of[codes] = np.arange(len(codes), dtype=np.int32)
        self._places = len(sections.items) * self._columns
        section_of = sections.of(table, slice(0, self.length))
        visible &= section_of != UNKNOWN
        self.key = np.where(visible, section_of * np.int32(self._columns) + self._column_of[role], np.int32(HIDDEN))
        self._sort()
        self.item = 1
        self.single = False
        self.widths: list[int] = []
        self.lay_out(80)

    def _sort(self) -> None:
        rows = np.flatnonzero(self.key >= 0).astype(np.int32)
        key = self.key[rows]
        small = key.astype(np.uint16) if self._places < 65536 else key  # two bytes sort by radix
        order = rows[np.argsort(small, kind="stable")]
        self._counts = np.bincount(key, minlength=self._places)
        ends = np.cumsum(self._counts)
        self._cells: dict[int, Ints] = {
            place: order[ends[place] - self._counts[place] : ends[place]]
            for place in np.flatnonzero(self._counts).tolist()
        }
        states = len(STATES)
        tally = np.bincount(key * states + self.states[rows], minlength=self._places * states)
        self.tally = tally.reshape(self._places, states)
        self.total = len(rows)

    # -- changes ---------------------------------------------------------------------------------

    @property
    def sections(self) -> Sequence[Section]:
        """The sections, top to bottom."""
        return self._sections.items

    def adopt(self, sections: Sections) -> bool:
        """Take sections over that differ in their labels only; False if the nodes have to be sorted again."""
        if not self._sections.same_places(sections):
            return False
        self._sections = sections
        return True

    def update(self, rows: Ints) -> bool | None:
        """Follow rows of the table that changed.

        Returns:
            Whether a node stands elsewhere now; None if the nodes have to be sorted again.
        """
        old, before = self.key[rows], self.states[rows]
        after = self.table.column("state")[rows]
        section = self._sections.of(self.table, rows)
        roles = self.table.column("role")[rows]
        if len(roles) and int(roles.max()) >= len(self._column_of):
            return None
        column = self._column_of[roles]
        visible = after != NodeState.REMOVED.code
        if self._shown is not None:
            visible &= self._shown[rows]
        if np.any((column[visible] == HIDDEN) | (section[visible] == UNKNOWN)):
            return None
        new = np.where(visible, section * np.int32(self._columns) + column, np.int32(HIDDEN))
        self.states[rows] = after
        self.key[rows] = new
        self._tally(old, before, -1)
        self._tally(new, after, 1)
        moved = old != new
        if not moved.any():
            return False
        left, came = moved & (old >= 0), moved & (new >= 0)
        leaving, coming = np.unique(old[left]), np.unique(new[came])
        if len(leaving) + len(coming) > MANY_CELLS:
            self._sort()
            self.lay_lines()
            return True
        for key in leaving.tolist():
            self._take_out(key, np.sort(rows[left & (old == key)]))
        for key in coming.tolist():
            self._put_in(key, np.sort(rows[came & (new == key)]))
        self.total += int(came.sum()) - int(left.sum())
        self.lay_lines()  # a section may have come, gone or grown: lines are never older than the cells on them
        return True

    def _tally(self, key: Ints, states: Ints, step: int) -> None:
        seen = key >= 0
        np.add.at(self.tally, (key[seen], states[seen]), step)

    def _take_out(self, key: int, rows: Ints) -> None:
        cell = self._cells.pop(key)
        if len(rows) < len(cell):
            self._cells[key] = np.delete(cell, np.searchsorted(cell, rows))
        self._counts[key] -= len(rows)

    def _put_in(self, key: int, rows: Ints) -> None:
        cell = self._cells.get(key)
        rows = rows.astype(np.int32)
        self._cells[key] = rows if cell is None else np.insert(cell, np.searchsorted(cell, rows), rows)
        self._counts[key] += len(rows)

    # -- lines -----------------------------------------------------------------------------------

    def lay_out(self, width: int, item: int = 1, single: bool = False, kept: Sequence[int] = ()) -> None:
        """Give columns their widths and sections their lines.

        Args:
            width: Cells for all role columns together.
            item: Cells that one node takes.
            single: Whether a cell is one line of counts instead of one item a node.
            kept: Widths from before, which stay as long as they do.
        """
        self.item, self.single = item, single
        counts = self._counts.reshape(-1, self._columns)
        most = counts.max(axis=0, initial=0).tolist()
        self.digits = [len(f"{count:,}") for count in most]
        self.widths = fit_columns(self.roles, most, width, item, single, kept)
        self.offsets = [sum(self.widths[:place]) + GAP * place for place in range(len(self.widths))]
        self.capacities = np.array([max(1, wide // item) for wide in self.widths] or [1], dtype=np.int64)
        self.lay_lines()

    def lay_lines(self) -> None:
        """Give each section that is shown as many lines as its fullest cell needs."""
        counts = self._counts.reshape(-1, self._columns)
        held = counts.sum(axis=1)
        self._visible = np.flatnonzero((held > 0) | ~self._sections.optional)
        if self.single:
            heights = np.ones(len(self._visible), dtype=np.int64)
        else:
            heights = np.maximum(1, (-(-counts[self._visible] // self.capacities)).max(axis=1, initial=0))
        gaps = np.zeros(len(self._visible), dtype=np.int64)
        if len(self._visible) > 1 and self.sections[int(self._visible[-1])].kind == "pool":
            gaps[-1] = 1
        self._ends = np.cumsum(heights + gaps)
        self._first = self._ends - heights
        self.lines = int(self._ends[-1]) if len(self._ends) else 0

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
        return None if within < 0 else (self.sections[int(self._visible[nth])], within)

    def section_count(self, line: int) -> int:
        """How many nodes the section of a line holds, servers left out."""
        nth = int(np.searchsorted(self._ends, line, side="right"))
        place = int(self._visible[nth]) * self._columns
        servers = int(self.roles[:1] == ["server"])
        return int(self._counts[place + servers : place + self._columns].sum())

    def cells(self, line: int) -> list[Cell]:
        """The cells with nodes on a line, left to right."""
        if self.section_at(line) is None or not self.roles:
            return []
        nth = int(np.searchsorted(self._ends, line, side="right"))
        within = line - int(self._first[nth])
        found = []
        for column in range(self._columns):
            key = int(self._visible[nth]) * self._columns + column
            rows = self._cells.get(key)
            if rows is None:
                continue
            if not self.single:
                start = within * int(self.capacities[column])
                rows = rows[start : start + int(self.capacities[column])]
            if len(rows):
                found.append(Cell(key, column, self.offsets[column], rows))
        return found

    # -- nodes -----------------------------------------------------------------------------------

    def shows(self, row: int) -> bool:
        """Whether a node is shown."""
        return 0 <= row < self.length and bool(self.key[row] >= 0) and bool(self.roles)

    def cell_of(self, row: int) -> Ints:
        """The rows of the cell in which a node stands."""
        return self._cells[int(self.key[row])] if self.shows(row) else np.empty(0, dtype=np.int32)

    def locate(self, row: int) -> tuple[int, int] | None:
        """Line and x of a node, or None if it is not shown."""
        if not self.shows(row):
            return None
        key = int(self.key[row])
        section, column = divmod(key, self._columns)
        nth = int(np.searchsorted(self._visible, section))
        if self.single:
            return int(self._first[nth]), self.offsets[column]
        place = int(np.searchsorted(self._cells[key], row))
        down, right = divmod(place, int(self.capacities[column]))
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
        here = self._first_of_cell(row) if self.single else row
        place = flat.index(here) + step if here in flat else 0
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
        for candidate in chain(range(target, self.lines if way > 0 else -1, way), range(target, line, -way)):
            found = self.near(candidate, x)
            if found is not None:
                return found
        return None

    def first(self) -> int | None:
        """The first node shown."""
        return int(self._cells[min(self._cells)][0]) if self._cells else None

    def last(self) -> int | None:
        """The last node shown; its cell's first one where cells are counted."""
        return int(self._cells[max(self._cells)][0 if self.single else -1]) if self._cells else None

    def between(self, one: int, other: int) -> Ints:
        """Rows from one node to another, in the order in which they stand; whole cells where cells are counted."""
        if not (self.shows(one) and self.shows(other)):
            return np.empty(0, dtype=np.int32)
        first, last = sorted((one, other), key=lambda row: (int(self.key[row]), row))
        keys = [key for key in sorted(self._cells) if self.key[first] <= key <= self.key[last]]
        cells = [self._cells[key] for key in keys]
        if not self.single:
            cells[-1] = cells[-1][: np.searchsorted(cells[-1], last) + 1]
            cells[0] = cells[0][np.searchsorted(cells[0], first) :]
        return np.concatenate(cells)

    def _first_of_cell(self, row: int) -> int:
        return int(self._cells[int(self.key[row])][0])

    def _line_rows(self, line: int) -> list[int]:
        if self.single:
            return [int(cell.rows[0]) for cell in self.cells(line)]
        return [int(row) for cell in self.cells(line) for row in cell.rows]


def warm_up() -> None:
    """Use once what numpy imports at its first use, which would hold up the first change by some 20 ms."""
    few = np.arange(3)
    np.unique(few, return_index=True)
    np.insert(np.delete(few, few[:1]), few[:1], few[:1])
