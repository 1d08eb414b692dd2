"""What the nodes of a host gave since its last record, in columns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from red_tui.nodes.runtime import numbers
from red_tui.nodes.template import Parameters

Failure = tuple[int, str, str, str]
"""(row, error, where, traceback) of a node that failed alone; `where` is the method that raised, or `GONE`."""

GONE = ""
"""In place of the method: the host does not have the node, which has to be built again."""

Given = tuple[int, float, float, float]
"""(row, number of examples, seconds, loss) of a node's work; the loss is an evaluation's."""

RECORD_ROWS = 2048
"""A record with so many nodes waits for no more."""

BLOCK_BYTES = 16_000_000
"""Updates that travel together hold about so many bytes at most."""

NAN = float("nan")


class Results:
    """What nodes gave since the last record.

    Attributes:
        given: Who came back, in order.
        metrics: What they reported, by name: as long as `given`.
        failed: Who failed.
        updates: Their updates, where each is wanted.
        states: By row, of nodes that keep one.
        bytes: Size of the updates.
        began: When the first of them began (monotonic).
    """

    def __init__(self) -> None:
        self.given: list[Given] = []
        self.metrics: dict[str, list[float]] = {}
        self.failed: list[Failure] = []
        self.updates: list[Parameters] = []
        self.states: dict[int, Any] = {}
        self.bytes = 0
        self.began = time.monotonic()

    @property
    def large(self) -> bool:
        """Whether they are to travel, however little time has passed."""
        return len(self.given) >= RECORD_ROWS or self.bytes >= BLOCK_BYTES

    def measure(self, metrics: Mapping[str, Any]) -> None:
        """What the next of `given` reported; what it does not report is NaN.

        Raises:
            TypeError: If a value is no number; then nothing is noted.
        """
        count = len(self.given)
        self.trim()
        plain = numbers(metrics)
        for name in plain:
            if name not in self.metrics:
                self.metrics[name] = [NAN] * count
        for name, column in self.metrics.items():
            column.append(plain.get(name, NAN))

    def trim(self) -> None:
        """Forget what was noted of a node that did not come to be one of `given`."""
        count = len(self.given)
        for column in self.metrics.values():
            del column[count:]

    def take_back(self, row: int) -> None:
        """A node that had come back has failed."""
        place = next(place for place, given in enumerate(self.given) if given[0] == row)
        del self.given[place]
        for column in self.metrics.values():
            del column[place]
        self.states.pop(row, None)

    def kept(self) -> list[Any]:
        """States in the order of `given`; None for nodes that keep none."""
        return [self.states.get(given[0]) for given in self.given]

    def record(self, phase: str = "fit", *, late: bool = False) -> dict[str, Any]:
        """The columns as plain data."""
        rows, weights, seconds, losses = zip(*self.given, strict=True) if self.given else ((),) * 4
        return {
            "rows": np.asarray(rows, dtype=np.int64),
            "weights": np.asarray(weights, dtype=np.float64),
            "seconds": np.asarray(seconds, dtype=np.float32),
            "metrics": {name: np.asarray(column, dtype=np.float64) for name, column in self.metrics.items()},
            "losses": np.asarray(losses if phase == "evaluate" else (), dtype=np.float64),
            "failed": self.failed,
            "late": late,
            "last": late,
            "payload": False,
            "small": False,
            "states": bool(self.states),
        }
