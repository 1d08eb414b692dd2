"""What the calls of one phase of a round have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.federation.lifecycle import Lifecycle
from red_tui.federation.state import Kept
from red_tui.nodes.causes import Cause
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray


class Call:
    """What the parts of a phase have in common."""

    def __init__(
        self,
        phase: str,
        parameters: Any,
        config: Mapping[str, Any],
        each: bool,
        deadline: float | None,
        models: Mapping[int, Kept] | None = None,
    ) -> None:
        self.models = models or {}
        """Where the models of nodes lie that have one of their own (gossip)."""
        self.phase, self.parameters, self.config, self.each = phase, parameters, config, each
        self.deadline = deadline
        self.until: float | None = None
        """When the phase is over (loop time); None: no limit."""

    def begin(self) -> None:
        """The time of the phase begins."""
        if self.deadline is not None:
            self.until = asyncio.get_running_loop().time() + self.deadline

    def model_of(self, row: int) -> Any:
        """Reference to what the node of a row starts from."""
        own = self.models.get(row)
        return self.parameters if own is None else own.reference

    @property
    def hung_at(self) -> float | None:
        """When a node that is still at work is taken for hung (loop time)."""
        return None if self.until is None or self.deadline is None else self.until + self.deadline

    @property
    def hung(self) -> str:
        """Why the process of such a node is ended."""
        return f"no answer within {2 * (self.deadline or 0):g} s, twice the deadline of a round: its process was ended"

    @property
    def late(self) -> str:
        """Why a node that is still at work does not count."""
        return f"no result within the deadline of {self.deadline:g} s"


def blocks_of(models: Mapping[int, Kept], rows: Sequence[int]) -> tuple[dict[int, tuple[int, int | None]], list[Any]]:
    """Where the models of `rows` lie: for each the number of its block and its place there; and the blocks."""
    places: dict[int, tuple[int, int | None]] = {}
    blocks: list[Any] = []
    numbers: dict[Any, int] = {}
    for row in rows:
        kept = models.get(row)
        if kept is None:
            continue
        if kept.reference not in numbers:
            numbers[kept.reference] = len(blocks)
            blocks.append(kept.reference)
        places[row] = (numbers[kept.reference], kept.place)
    return places, blocks


def set_idle(lifecycle: Lifecycle, rows: IntArray) -> None:
    """Mark nodes ready again, unless they have failed meanwhile."""
    still = rows[lifecycle.state.table.column("state")[rows] == NodeState.BUSY.code]
    if len(still):
        lifecycle.state.set_state(still, NodeState.READY)
        lifecycle.wake()


def fail_node(lifecycle: Lifecycle, row: int, cause: Cause) -> None:
    """A node is failed: its process ends, or its host forgets it."""
    if row in lifecycle.state.processes:
        lifecycle.node_failed(row, cause)
        return
    host = lifecycle.state.hosts.get(lifecycle.state.table.value("bundle", row))
    lifecycle.fail_rows(np.asarray([row]), cause)
    if host is not None:
        host.handle.discard.remote([row])
