"""One node in full, for its detail in a console."""

from __future__ import annotations

import math
from typing import Any

from red_tui.federation.state import FederationState
from red_tui.nodes.states import NodeState
from red_tui.nodes.virtual import VirtualNode


def describe_node(state: FederationState, node: VirtualNode) -> dict[str, Any]:
    """All that a federation knows of one node, as plain data."""
    row, table = node.row, state.table
    cause = state.causes.get(row)
    seat = state.seats.get(row)
    bundle = table.value("bundle", row)
    return {
        "id": node.id,
        "state": str(node.state),
        "since": table.value("since", row),
        "why": cause.text if cause else "",
        "traceback": cause.traceback if cause and node.state is NodeState.FAILED else "",
        "roles": str(node.role),
        "bundle": bundle,
        "host": state.pool.host_name(bundle) if state.pool and bundle >= 0 else "",
        "resources": dict(seat[1]) if seat else {},
        "actor": f"{state.fed_id}/{node.id}",
        "pid": state.facts.get(row, {}).get("pid"),
        "rounds": table.value("rounds", row),
        "rebuilds": table.value("rebuilds", row),
        "seconds": _finite(table.value("seconds", row)),
        "loss": _finite(table.value("loss", row)),
        "losses": [_finite(loss) for loss in state.losses.get(row, ())],
        "metrics": {name: _finite(value) for name, value in state.metrics.get(row, {}).items()},
        "config": node.config.as_dict(),
        "state_kept": row in state.kept,
        "log": [],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
