"""Which nodes are marked, and in which states they are, kept up with every change."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.states import STATES, NodeState

Ints = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]


class Marks:
    """A mark per row of a table, with a tally by state that costs what changes."""

    def __init__(self, length: int = 0) -> None:
        self.mask: BoolArray = np.zeros(length, dtype=bool)
        self.tally = np.zeros(len(STATES), dtype=np.int64)
        self.count = 0
        self.version = 0

    def set(self, rows: Ints, on: bool, states: Ints) -> None:
        """Mark rows or take their marks away; `states` are those of the whole table."""
        turned = rows[self.mask[rows] != on]
        self.mask[turned] = on
        step = 1 if on else -1
        self.tally += step * np.bincount(states[turned], minlength=len(STATES))
        self.count += step * len(turned)
        self.version += 1

    def clear(self) -> None:
        """Take all marks away."""
        self.mask[:] = False
        self.tally[:] = 0
        self.count = 0
        self.version += 1

    def recount(self, states: Ints) -> None:
        """Tally again by the states of the whole table; what was removed loses its mark."""
        if not self.count:
            return
        self.mask[np.flatnonzero(self.mask & (states[: len(self.mask)] == NodeState.REMOVED.code))] = False
        rows = np.flatnonzero(self.mask)
        self.tally, self.count = np.bincount(states[rows], minlength=len(STATES)), len(rows)
        self.version += 1

    def grow(self, length: int) -> None:
        """Make room for new rows."""
        if length > len(self.mask):
            self.mask = np.concatenate([self.mask, np.zeros(length - len(self.mask), dtype=bool)])

    def follow(self, rows: Ints, before: Ints, after: Ints) -> None:
        """States of rows changed; a removed node loses its mark."""
        if not self.count:
            return
        marked = self.mask[rows]
        self.tally -= np.bincount(before[marked], minlength=len(STATES))
        self.tally += np.bincount(after[marked], minlength=len(STATES))
        gone = rows[marked & (after == NodeState.REMOVED.code)]
        if len(gone):
            self.mask[gone] = False
            self.tally[NodeState.REMOVED.code] -= len(gone)
            self.count -= len(gone)
            self.version += 1

    def rows(self) -> Ints:
        """The marked rows."""
        return np.flatnonzero(self.mask) if self.count else np.empty(0, dtype=np.int64)
