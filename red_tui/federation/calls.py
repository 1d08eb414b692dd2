"""What the calls of one phase of a round have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from red_tui.federation.lifecycle import Lifecycle
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
        until: float | None,
        deadline: float | None,
    ) -> None:
        self.phase, self.parameters, self.config, self.each = phase, parameters, config, each
        self.until, self.deadline = until, deadline

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


def set_idle(lifecycle: Lifecycle, rows: IntArray) -> None:
    """Mark nodes ready again, unless they have failed meanwhile."""
    still = rows[lifecycle.state.table.column("state")[rows] == NodeState.BUSY.code]
    if len(still):
        lifecycle.state.set_state(still, NodeState.READY)
        lifecycle.wake()
