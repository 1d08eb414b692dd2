"""One node in full, for its detail in a console."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from red_tui.checks import shown
from red_tui.federation.state import FederationState
from red_tui.layout.round_settings import is_plain
from red_tui.runtime.virtual_node import VirtualNode


def describe_node(state: FederationState, node: VirtualNode) -> dict[str, Any]:
    """All that a federation knows of one node, as plain data."""
    row, table = node.row, state.table
    cause, last = state.cause_of(row), state.last_errors.get(row)
    bundle = table.value("bundle", row)
    host = state.hosts.get(bundle)
    hosted = host is not None and bool(state.hosted(np.asarray([row]))[0])
    slot = state.pool.slot_of(bundle) if state.pool and bundle >= 0 else None
    seat = state.seats.get(row) or ((bundle, slot.spec) if hosted and slot else None)
    facts = state.host_facts.get(bundle, {}) if hosted else state.facts.get(row, {})
    return {
        "id": node.id,
        "state": str(node.state),
        "since": table.value("since", row),
        "why": cause.text if cause else "",
        "traceback": last.cause.traceback if last else "",
        "last_error": last.to_wire() if last else None,
        "roles": str(node.role),
        "bundle": bundle,
        "host": state.pool.host_name(bundle) if state.pool and bundle >= 0 else "",
        "resources": dict(seat[1]) if seat else {},
        "actor": host.name if hosted and host else f"{state.fed_id}/{node.id}",
        "pid": facts.get("pid"),
        "rounds": table.value("rounds", row),
        "rebuilds": table.value("rebuilds", row),
        "seconds": _finite(table.value("seconds", row)),
        "loss": _finite(table.value("loss", row)),
        "losses": [_finite(loss) for loss in state.scores.losses_of(row)],
        "metrics": {name: _finite(value) for name, value in state.scores.metrics_of(row).items()},
        "config": {key: _plain(value) for key, value in node.config.as_dict().items()},
        "state_kept": row in state.kept,
        "log": [],
    }


def _plain(value: Any) -> Any:
    """A value of a config as screens can show it."""
    return value if is_plain(value) else shown(value)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
