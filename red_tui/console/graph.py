"""Who is whose neighbour, as the link told it: the numbers of a topology, and its edges by rows of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.console.text import number, plain, plural

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
