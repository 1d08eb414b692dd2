"""What each node's rounds gave, in columns: its last metrics and its latest losses."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.failures import Cause
from red_tui.nodes.table import IntArray

LOSSES_KEPT = 60
METRICS_KEPT = 64
"""Metrics of single nodes that are kept: a name of its own for each node would make a column for each."""

Floats = npt.NDArray[np.floating[Any]]


class NodeScores:
    """Grows with the nodes that ever gave a result, not with the nodes that exist."""

    def __init__(self) -> None:
        self._slots: IntArray = np.empty(0, dtype=np.int32)
        self._used = 0
        self._metrics: dict[str, Floats] = {}
        self._losses: Floats = np.empty((0, LOSSES_KEPT), dtype=np.float32)
        self._counts: IntArray = np.empty(0, dtype=np.int64)

    def record(self, rows: IntArray, metrics: Mapping[str, Floats], losses: Floats) -> None:
        """Note one result each of some rows; a metric that is NaN was not reported."""
        slots = self._slots_of(rows)
        for name in metrics:
            if name not in self._metrics and len(self._metrics) < METRICS_KEPT:
                self._metrics[name] = np.full(len(self._counts), np.nan)
        for name, column in self._metrics.items():
            column[slots] = metrics.get(name, np.nan)
        self._losses[slots, self._counts[slots] % LOSSES_KEPT] = losses
        self._counts[slots] += 1

    def metrics_of(self, row: int) -> dict[str, float]:
        """The last metrics of a row."""
        slot = self._slot(row)
        if slot is None:
            return {}
        return {name: float(column[slot]) for name, column in self._metrics.items() if not math.isnan(column[slot])}

    def losses_of(self, row: int) -> list[float]:
        """The latest losses of a row, oldest first; NaN where it reported none."""
        slot = self._slot(row)
        if slot is None:
            return []
        count = int(self._counts[slot])
        if count <= LOSSES_KEPT:
            return [float(loss) for loss in self._losses[slot, :count]]
        return [float(loss) for loss in np.roll(self._losses[slot], -(count % LOSSES_KEPT))]

    def _slot(self, row: int) -> int | None:
        return int(self._slots[row]) if row < len(self._slots) and self._slots[row] >= 0 else None

    def _slots_of(self, rows: IntArray) -> IntArray:
        top = int(rows.max(initial=-1)) + 1
        if top > len(self._slots):
            grown = np.full(max(top, 2 * len(self._slots)), -1, dtype=np.int32)
            grown[: len(self._slots)] = self._slots
            self._slots = grown
        new = rows[self._slots[rows] < 0]
        if len(new):
            self._slots[new] = np.arange(self._used, self._used + len(new), dtype=np.int32)
            self._used += len(new)
            self._reserve(self._used)
        return self._slots[rows]

    def _reserve(self, length: int) -> None:
        capacity = len(self._counts)
        if length <= capacity:
            return
        more = max(length, 2 * capacity) - capacity
        self._counts = np.concatenate([self._counts, np.zeros(more, dtype=np.int64)])
        self._losses = np.concatenate([self._losses, np.full((more, LOSSES_KEPT), np.nan, dtype=np.float32)])
        for name, column in self._metrics.items():
            self._metrics[name] = np.concatenate([column, np.full(more, np.nan)])


@dataclass(frozen=True)
class NodeError:
    """What went wrong in a node the last time.

    Attributes:
        cause: The error.
        round: The round in which it happened; 0 before the first.
        time: Wall-clock second.
    """

    cause: Cause
    round: int
    time: float = field(default_factory=time.time)

    def __str__(self) -> str:
        return f"in round {self.round}: {self.cause.text}" if self.round else self.cause.text

    def to_wire(self) -> dict[str, Any]:
        """Plain data for a console."""
        return {
            "text": self.cause.text,
            "traceback": self.cause.traceback,
            "died": self.cause.died,
            "round": self.round,
            "time": self.time,
        }
