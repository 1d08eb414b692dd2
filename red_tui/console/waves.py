"""Waves as an operator plans them: which nodes, in which order, how many at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.states import BUILDABLE

if TYPE_CHECKING:
    from red_tui.nodes.table import NodeTable
    from red_tui.selection import Query

Rows = npt.NDArray[np.integer[Any]]

ORDERS = ("id", "role", "least recently used", "random")
SPLITS = ("size", "count")


@dataclass(frozen=True)
class Waves:
    """Nodes split into waves; every node is in exactly one.

    Attributes:
        rows: All of them, in the order in which they are built.
        ends: Where each wave ends.
    """

    rows: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    ends: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def start(self, place: int) -> int:
        """Where a wave begins."""
        return int(self.ends[place - 1]) if place else 0

    def wave(self, place: int) -> Rows:
        """The rows of a wave."""
        return self.rows[self.start(place) : int(self.ends[place])]


def candidates(table: NodeTable, query: Query | None, marked: Rows | None = None) -> Rows:
    """Rows that can be built: of what a query matches, else of the marks, else of all but servers."""
    buildable = table.in_states(BUILDABLE)
    if query is not None:
        return np.flatnonzero(buildable & query.mask(table))
    if marked is not None and len(marked):
        return marked[buildable[marked]]
    server = np.array([str(roles) == "server" for roles in table.roles] or [False])
    return np.flatnonzero(buildable & ~server[table.column("role")])


def ordered(table: NodeTable, rows: Rows, order: str, seed: int) -> Rows:
    """Rows in the order in which they are built; equal ones as they stand in the table."""
    if order == "random":
        return np.random.default_rng(seed).permutation(rows)
    if order == "role":
        names = [str(roles) for roles in table.roles]
        rank = np.empty(max(1, len(names)), dtype=np.int64)
        rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        return rows[np.argsort(rank[table.column("role")[rows]], kind="stable")]
    if order == "least recently used":
        return rows[np.argsort(table.column("since")[rows], kind="stable")]
    return rows


def split(rows: Rows, by: str, number: int) -> Waves:
    """Waves of `number` nodes (`size`), or `number` waves whose sizes differ by one at most (`count`)."""
    if not len(rows):
        return Waves()
    number = max(1, number)
    if by == "size":
        ends = np.append(np.arange(number, len(rows), number), len(rows))
    else:
        number = min(number, len(rows))
        ends = np.cumsum(np.full(number, len(rows) // number) + (np.arange(number) < len(rows) % number))
    return Waves(rows, ends)
