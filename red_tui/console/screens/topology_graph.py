"""A small graph drawn with characters: edges out of dots, nodes as the signs of their states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.console.text import clip, number, plain, plural
from red_tui.console.widgets.lists import Line

if TYPE_CHECKING:
    from red_tui.nodes.table import NodeTable


Ints = npt.NDArray[np.integer[Any]]
_NOBODY: Ints = np.empty(0, dtype=np.int64)

BY_RULE = frozenset({"star", "mesh"})
"""Topologies whose neighbours follow from the rule: their edges are never sent, and never kept."""

SERVED = frozenset({"star", "hierarchical"})
"""Topologies with the server in them."""


@dataclass(frozen=True)
class Graph:
    """One topology.

    Attributes:
        version: The version that an update names too.
        rule: Name of the rule.
        name: The rule with its numbers.
        nodes: Client nodes.
        edges: Pairs of neighbours.
        least: The smallest number of neighbours.
        mean: Their mean number.
        most: The largest number.
        parts: Parts without a path between them.
        gap: Spectral gap, where it is known.
        starts: Where the neighbours of each row begin in `others`; None where edges were not sent.
        others: Neighbours of all rows, one after the other.
    """

    version: tuple[int, ...]
    rule: str
    name: str
    nodes: int
    edges: int
    least: int
    mean: float
    most: int
    parts: int
    gap: float | None
    starts: Ints | None = None
    others: Ints = field(default_factory=lambda: _NOBODY)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Graph:
        """The graph that the link described."""
        facts = data.get("facts") or {}
        starts, others = None, _NOBODY
        if data.get("pairs") is not None:
            starts, others = _by_row(np.frombuffer(data["pairs"], dtype="<i4").reshape(-1, 2).astype(np.int64))
        gap = facts.get("gap")
        return cls(
            version=tuple(data.get("version") or ()),
            rule=plain(data.get("rule") or ""),
            name=plain(data.get("name") or data.get("rule") or ""),
            nodes=int(facts.get("nodes") or 0),
            edges=int(facts.get("edges") or 0),
            least=int(facts.get("least") or 0),
            mean=float(facts.get("mean") or 0.0),
            most=int(facts.get("most") or 0),
            parts=int(facts.get("parts") or 0),
            gap=None if gap is None else float(gap),
            starts=starts,
            others=others,
        )

    @property
    def told(self) -> bool:
        """Whether every node's neighbours are known here."""
        return self.rule in BY_RULE or self.starts is not None

    def members(self, table: NodeTable) -> npt.NDArray[np.bool_]:
        """Which rows are nodes of the topology: the server is one where it aggregates."""
        found: npt.NDArray[np.bool_] = table.present()
        server = _server(table)
        if self.rule not in SERVED and server is not None:
            found = found.copy()
            found[server] = False
        return found

    def neighbors(self, row: int, table: NodeTable) -> Ints:
        """Rows of a node's neighbours, in order."""
        if self.rule in BY_RULE:
            server = _server(table)
            if self.rule == "star" and row != server:
                return _NOBODY if server is None else np.array([server])
            members = self.members(table)
            if row >= len(members) or not members[row]:
                return _NOBODY
            rows = np.flatnonzero(members)
            others: Ints = rows[rows != row]
            return others
        if self.starts is None or row + 1 >= len(self.starts):
            return _NOBODY
        found = self.others[self.starts[row] : self.starts[row + 1]]
        known: Ints = found[found < len(table)]
        return known

    def degree(self, row: int, table: NodeTable) -> int:
        """How many neighbours a node has."""
        if self.rule in BY_RULE:
            if self.rule == "star":
                return self.nodes if row == _server(table) else 1
            return max(0, self.nodes - 1)
        if self.starts is None or row + 1 >= len(self.starts):
            return 0
        return int(self.starts[row + 1] - self.starts[row])

    def pairs_among(self, rows: Ints, table: NodeTable) -> Ints:
        """The edges between some rows, as pairs of places in `rows`."""
        place = np.full(max(len(table), 1), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        found = []
        for index, row in enumerate(rows.tolist()):
            others = place[self.neighbors(row, table)]
            found += [(index, other) for other in others[others > index].tolist()]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def told_in_numbers(self, up_to: str) -> str:
        """The numbers of the topology in one line."""
        degree = str(self.most) if self.least == self.most else f"{self.least:,}{up_to}{self.most:,}"
        mean = "" if self.least == self.most else f", mean {number(self.mean)}"
        parts = "connected" if self.parts == 1 else f"in {plural(self.parts, 'part')} without a path between them"
        words = [plural(self.nodes, "node"), plural(self.edges, "edge"), f"degree {degree}{mean}"]
        words += [parts] if self.parts else []
        return "   ".join([*words, f"spectral gap {number(self.gap)}"] if self.gap is not None else words)


def _by_row(pairs: Ints) -> tuple[Ints, Ints]:
    """Neighbours by row: where each row's begin, and all of them."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    length = int(both[:, 0].max()) + 1 if len(both) else 0
    starts = np.searchsorted(both[:, 0], np.arange(length + 1))
    return starts, np.ascontiguousarray(both[:, 1])


def _server(table: NodeTable) -> int | None:
    return table.row_of("server")


ASPECT = 2.5
"""Cells beside each other that look, and have to be kept apart, like one above the other."""

_LEVELLED = frozenset({"tree", "hierarchical"})
_ORDERED = frozenset({"ring", "line"})
_SAMPLES = 1440


def places_of(rule: str, count: int, pairs: Ints, width: int, height: int, label: int) -> Ints | None:
    """Cells (x, y) of the nodes; None if they find no room.

    Args:
        rule: Name of the topology's rule.
        count: Nodes; the first of a star or a hierarchy is the server.
        pairs: Edges as pairs of places.
        width: Cells across.
        height: Lines.
        label: Cells that a name takes beside its node, kept free where there is room.
    """
    if count == 0 or width < 8 or height < 3:
        return None
    found: Ints | None = None
    if rule == "grid":
        found = _lattice(count, math.ceil(math.sqrt(count)), width, height, label)
    elif rule in _LEVELLED:
        found = _levels(count, pairs, width, height)
    else:
        for beside in (label + 2, 1):
            found = _round(count, rule == "star", width, height, beside)
            if found is not None:
                break
    if found is None and rule not in _LEVELLED:
        across = max(1, min((width + 2) // 4, math.ceil(math.sqrt(count * width / ASPECT / height))))
        found = _lattice(count, across, width, height, 0, snake=rule in _ORDERED)
    return found


def _round(count: int, star: bool, width: int, height: int, beside: int) -> Ints | None:
    """On an ellipse, evenly as the eye sees it; the server of a star in the middle."""
    across, down = (width - 1) / 2 - beside, (height - 1) / 2
    ends = count - star
    if across < 3:
        return None
    if count == 1:
        return np.array([[width // 2, height // 2]])
    angles = np.linspace(0, 2 * math.pi, _SAMPLES + 1)
    x, y = across * np.sin(angles), -down * np.cos(angles)
    passed = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x) / ASPECT, np.diff(y)))])
    at = np.interp(np.arange(ends) * passed[-1] / max(1, ends), passed, np.arange(_SAMPLES + 1))
    chosen = np.rint(at).astype(np.int64)
    middle = [(width - 1) / 2, (height - 1) / 2]
    cells = np.rint(np.stack([x[chosen], y[chosen]], axis=1) + middle).astype(np.int64)
    if star:
        cells = np.concatenate([np.array([[width // 2, height // 2]]), cells])
    return cells if _apart(cells) else None


def _lattice(count: int, across: int, width: int, height: int, label: int, snake: bool = False) -> Ints | None:
    """In lines and columns; as a snake where neighbours follow each other."""
    lines = -(-count // across)
    wide = (width - 2 - label) / (across - 1) if across > 1 else 0.0
    tall = (height - 1) / (lines - 1) if lines > 1 else 0.0
    if (across > 1 and wide < 3) or (lines > 1 and tall < 2):
        return None
    wide, tall = min(wide, 18.0), min(tall, 6.0)
    place = np.arange(count)
    row, column = place // across, place % across
    if snake:
        column = np.where(row % 2 == 1, across - 1 - column, column)
    left = (width - label - (across - 1) * wide) / 2
    top = (height - 1 - (lines - 1) * tall) / 2
    return np.rint(np.stack([left + column * wide, top + row * tall], axis=1)).astype(np.int64)


def _levels(count: int, pairs: Ints, width: int, height: int) -> Ints | None:
    """By distance from the first node, each level from left to right."""
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for one, other in pairs.tolist():
        neighbours[one].append(other)
        neighbours[other].append(one)
    level = [-1] * count
    for root in range(count):
        if level[root] >= 0:
            continue
        level[root], queue = 0, [root]
        for one in queue:
            for other in neighbours[one]:
                if level[other] < 0:
                    level[other] = level[one] + 1
                    queue.append(other)
    depth = max(level) + 1
    if depth > 1 and (height - 1) / (depth - 1) < 2:
        return None
    cells = np.zeros((count, 2), dtype=np.int64)
    for depth_now in range(depth):
        mine = [place for place in range(count) if level[place] == depth_now]
        if width / len(mine) < 3:
            return None
        for index, place in enumerate(mine):
            y = depth_now * min(6.0, (height - 1) / max(1, depth - 1))
            cells[place] = (int((index + 0.5) * width / len(mine)), round(y))
    return cells


def _apart(cells: Ints) -> bool:
    """Whether no two nodes stand in one cell, or beside each other."""
    order = np.lexsort((cells[:, 0], cells[:, 1]))
    step = np.diff(cells[order], axis=0)
    return not bool(np.any((step[:, 1] == 0) & (step[:, 0] < 2)))


Dots = npt.NDArray[np.bool_]

_BRAILLE = 0x2800
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
NAME = 12
"""Cells of a node's name."""

CELLS_PER_EDGE = (9, 22)
"""Where there are fewer cells for each edge, only those of the node under the cursor are drawn; for ASCII, which is
coarser, more of them."""


class Drawing:
    """Nodes at their places, and the edges between them.

    Args:
        rule: Name of the topology's rule.
        names: Plain names of the nodes; the first of a star is the server's.
        pairs: Edges as pairs of places in `names`.
        width: Cells across.
        height: Lines.
        ascii_only: Whether dots are ASCII signs.
    """

    def __init__(
        self, rule: str, names: Sequence[str], pairs: Ints, width: int, height: int, ascii_only: bool = False
    ) -> None:
        self.names = names
        self.pairs = pairs
        self._width, self._height, self._ascii = width, height, ascii_only
        label = min(NAME, max(map(len, names), default=0))
        found = places_of(rule, len(names), pairs, width, height, label)
        self.fits = found is not None
        self.cells: Ints = found if found is not None else np.empty((0, 2), dtype=np.int64)
        self.dense = len(pairs) * CELLS_PER_EDGE[ascii_only] > width * height
        self._labels = self._place_labels() if self.fits else {}
        self._faint: Dots | None = None

    # -- finding ---------------------------------------------------------------------------------

    def towards(self, place: int, way: str) -> int:
        """The node that lies next in a direction (`left`, `right`, `up`, `down`); the same one if there is none."""
        step = (self.cells - self.cells[place]).astype(np.float64)
        step[:, 1] *= 2.0  # a cell is about twice as high as it is wide
        axis, sign = (0 if way in ("left", "right") else 1), (1 if way in ("right", "down") else -1)
        along, across = step[:, axis] * sign, np.abs(step[:, 1 - axis])
        cost = np.where(along > 0, along + 2.0 * across, np.inf)
        best = int(np.argmin(cost))
        return best if np.isfinite(cost[best]) else place

    def at(self, x: int, y: int) -> int | None:
        """The node at a cell, or beside it."""
        if not len(self.cells):
            return None
        distance = np.abs(self.cells - [x, y]).sum(axis=1)
        best = int(np.argmin(distance))
        return best if distance[best] <= 1 else None

    # -- drawing ---------------------------------------------------------------------------------

    def lines(
        self, signs: Sequence[str], styles: Sequence[str], cursor: int | None, near: frozenset[int]
    ) -> list[Line]:
        """The lines of the canvas.

        Args:
            signs: The nodes' signs.
            styles: And their styles.
            cursor: Place of the node whose edges stand out.
            near: Places of its neighbours.
        """
        if self._faint is None:
            self._faint = self._dots([] if self.dense else self.pairs.tolist(), gaps=True)
        strong = self._dots([] if cursor is None else [(cursor, other) for other in sorted(near)])
        text, style = self._cells(self._faint, strong)
        for x, y in self.cells.tolist():
            for free in (x - 1, x + 1):  # a node stands out from the edges that end in it
                if 0 <= free < self._width:
                    text[y][free], style[y][free] = " ", "text"
        for place, (x, y, name) in self._labels.items():
            how = "title" if place == cursor or place in near else "dim"
            for offset, sign in enumerate(f" {name} ", -1):
                if 0 <= x + offset < self._width:
                    text[y][x + offset], style[y][x + offset] = sign, how
        for place, (x, y) in enumerate(self.cells.tolist()):
            text[y][x], style[y][x] = signs[place], styles[place]
        return [_runs(row, how) for row, how in zip(text, style, strict=True)]

    def _place_labels(self) -> dict[int, tuple[int, int, str]]:
        """Where names find room beside their nodes."""
        taken: Dots = np.zeros((self._height, self._width), dtype=bool)
        for x, y in self.cells.tolist():
            taken[y, max(0, x - 1) : x + 2] = True
        found = {}
        for place, (x, y) in enumerate(self.cells.tolist()):
            name = clip(self.names[place], NAME, "~" if self._ascii else "…")
            right, left = x + 2, x - 1 - len(name)
            for begin in (right, left) if x >= (self._width - 1) // 2 else (left, right):
                inside = begin >= 0 and begin + len(name) <= self._width
                if inside and not taken[y, begin : begin + len(name)].any():
                    taken[y, max(0, begin - 1) : begin + len(name) + 1] = True
                    found[place] = (begin, y, name)
                    break
        return found

    def _dots(self, pairs: Sequence[Any], gaps: bool = False) -> Dots:
        """Dots of lines between nodes; with gaps they are fainter, also without colour."""
        wide, tall = (1, 1) if self._ascii else (2, 4)
        dots: Dots = np.zeros((self._height * tall, self._width * wide), dtype=bool)
        ends = self.cells * [wide, tall] + [wide // 2, tall // 2]
        for one, other in pairs:
            (x1, y1), (x2, y2) = ends[one], ends[other]
            count = int(max(abs(x2 - x1), abs(y2 - y1))) + 1
            along = np.linspace(0.0, 1.0, count)[:: 3 if gaps and not self._ascii else 1]
            dots[np.rint(y1 + (y2 - y1) * along).astype(int), np.rint(x1 + (x2 - x1) * along).astype(int)] = True
        return dots

    def _cells(self, faint: Dots, strong: Dots) -> tuple[list[list[str]], list[list[str]]]:
        if self._ascii:
            text = [["*" if s else ":" if f else " " for f, s in zip(*rows, strict=True)]
                    for rows in zip(faint.tolist(), strong.tolist(), strict=True)]  # fmt: skip
            lit = strong
        else:
            shape = (self._height, 4, self._width, 2)
            lit = np.asarray(strong.reshape(shape).any(axis=(1, 3)))
            shown = np.where(lit[:, None, :, None], strong.reshape(shape), faint.reshape(shape))
            codes = (shown * _BITS[None, :, None, :]).sum(axis=(1, 3))
            text = [[chr(_BRAILLE + code) if code else " " for code in row] for row in codes.tolist()]
        return text, [["busy" if one else "virtual" for one in row] for row in lit.tolist()]


def _runs(text: Sequence[str], styles: Sequence[str]) -> Line:
    """Cells as runs of equal style."""
    runs: list[tuple[str, str]] = []
    for sign, style in zip(text, styles, strict=True):
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + sign, style)
        else:
            runs.append((sign, style))
    return tuple(runs)
