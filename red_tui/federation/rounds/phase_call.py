"""What the calls of one phase of a round have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.node_set import NAMED_IDS
from red_tui.federation.state import FederationState, Kept
from red_tui.nodes.failures import Cause, cause_of_death
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray, row_ranges

TOLD_CAUSES = 8
"""Max events for the errors of one answer: ten thousand nodes may each fail in words of their own."""


class PhaseCall:
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


def cause_of(state: FederationState, row: int, error: BaseException) -> Cause:
    """Why a call to a node failed: what was heard of the end of its process, else what Ray says of the call."""
    known = state.causes.get(row)
    if known is not None and known.died and state.table.state_of(row) is NodeState.FAILED:
        return known
    return cause_of_death(error)


def forgive(lifecycle: Lifecycle, phase: str, causes: Mapping[int, Cause]) -> dict[int, str]:
    """Nodes whose work failed are ready again: they do not count in this round, and take part in the next one.

    Args:
        lifecycle: Where the nodes are.
        phase: What they were at.
        causes: What went wrong, by row.

    Returns:
        Why each does not count, by row.
    """
    if not causes or lifecycle.closing:
        return {row: cause.text for row, cause in causes.items()}
    state = lifecycle.state
    alike: dict[str, list[int]] = {}
    for row, cause in causes.items():
        rows = alike.setdefault(cause.text, [])
        rows.append(row)
        # One object for all of them.
        state.note_error(row, causes[rows[0]])
    groups = list(alike.items())
    for text, rows in groups[:TOLD_CAUSES]:
        _tell_error(state, text, rows, causes[rows[0]].traceback)
    if len(groups) > TOLD_CAUSES:
        rest = sorted(row for _, rows in groups[TOLD_CAUSES:] for row in rows)
        text = f"{phase} failed with {len(groups) - TOLD_CAUSES:,} other errors: each node's detail has its own"
        _tell_error(state, text, rest, "")
    set_idle(lifecycle, np.fromiter(causes, dtype=np.int64, count=len(causes)))
    return {row: cause.text for row, cause in causes.items()}


def _tell_error(state: FederationState, text: str, rows: Sequence[int], traceback: str) -> None:
    """One event about nodes that failed alike and go on."""
    chosen = np.asarray(rows, dtype=np.int64)
    told: dict[str, Any] = {"rows": row_ranges(chosen), "traceback": traceback, "error": state.round.number}
    ids = state.table.ids.take(chosen[:NAMED_IDS])
    if len(rows) <= NAMED_IDS:
        told["ids"] = ids
    subject = ids[0] if len(rows) == 1 else f"{len(rows):,} nodes"
    state.record("node", "warn", subject, text, str(NodeState.FAILED), told)


def fail_node(lifecycle: Lifecycle, row: int, cause: Cause) -> None:
    """A node is failed: its process ends, or its host forgets it."""
    state = lifecycle.state
    process = state.processes.get(row)
    if process is not None:
        lifecycle.process_failed(row, process, cause)
        return
    host = state.bundle_actors.get(state.table.value("bundle", row))
    lifecycle.node_failed(np.asarray([row]), cause)
    if host is not None:
        host.handle.discard.remote([row])
