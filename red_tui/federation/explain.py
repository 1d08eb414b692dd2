"""Why a node is as it is: what is asked, what each host has, and what would make it fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from red_tui.checks import shown
from red_tui.errors import PlacementError
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.state import FederationState
from red_tui.layout.round_settings import is_plain
from red_tui.nodes.states import BUILDABLE, BUILT, NodeState
from red_tui.placement.availability import HOLDERS_SHOWN, Availability, look
from red_tui.placement.feasibility import check_feasible, group_state
from red_tui.placement.shares import describe, total_of
from red_tui.plain_text import one_line
from red_tui.runtime.virtual_node import VirtualNode


def describe_node(state: FederationState, node: VirtualNode) -> dict[str, Any]:
    """All that a federation knows of one node, as plain data."""
    row, table = node.row, state.table
    cause, last = state.cause_of(row), state.last_errors.get(row)
    bundle = table.value("bundle", row)
    host = state.bundle_actors.get(bundle)
    hosted = host is not None and bool(state.hosted(np.asarray([row]))[0])
    slot = state.pool.slot_of(bundle) if state.pool and bundle >= 0 else None
    seat = state.seats.get(row) or ((bundle, slot.spec) if hosted and slot else None)
    facts = state.bundle_facts.get(bundle, {}) if hosted else state.facts.get(row, {})
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


HOSTS_SHOWN = 8

HostsShown = Sequence[tuple[str, Mapping[str, float], Mapping[str, float]]]


@dataclass(frozen=True)
class Explanation:
    """Why a node is as it is.

    Attributes:
        node_id: The node.
        verdict: `fine`, `fits` (it can be built now), `busy` (it fits when others give back theirs), `infeasible`
            (it never fits as the cluster is), `waits`, or `failed`.
        why: One line.
        asked: Resources that it asks of its bundle.
        hosts: (name, what it has, what of it is free) of each living host.
        advice: What would make it fit, or is to be done; may be empty.
        holders: (who, what they hold) of all who hold resources of the cluster, where the node waits for some.
    """

    node_id: str
    verdict: str
    why: str
    asked: Mapping[str, float] = field(default_factory=dict)
    hosts: HostsShown = ()
    advice: str = ""
    holders: Sequence[tuple[str, Mapping[str, float]]] = ()

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "why": self.why,
            "verdict": self.verdict,
            "advice": self.advice,
            "asked": dict(self.asked),
            "hosts": [[name, dict(has), dict(free)] for name, has, free in self.hosts],
            "holders": [[who, dict(amounts)] for who, amounts in self.holders],
        }

    @classmethod
    def from_wire(cls, node_id: str, data: Mapping[str, Any]) -> Explanation:
        """The explanation that another process gave of a node."""
        return cls(
            node_id,
            data["verdict"],
            data["why"],
            data["asked"],
            [(name, has, free) for name, has, free in data["hosts"]],
            data["advice"],
            [(who, amounts) for who, amounts in data["holders"]],
        )

    def __str__(self) -> str:
        lines = [one_line(self.why + (f"; {self.advice}" if self.advice else ""))]
        if self.asked:
            lines.append(f"asks {describe(self.asked)}")
        for name, has, free in self.hosts[:HOSTS_SHOWN]:
            lines.append(f"  {one_line(name, 100)}: has {describe(has)}, free {describe(free) if free else 'nothing'}")
        if len(self.hosts) > HOSTS_SHOWN:
            lines.append(f"  … and {len(self.hosts) - HOSTS_SHOWN} more hosts")
        lines += [f"  {who} holds {describe(amounts)}" for who, amounts in self.holders[:HOLDERS_SHOWN]]
        return "\n".join(lines)


class Explainer:
    """Looks at the cluster, in the caller's thread, and says why."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state

    def node(self, row: int) -> Explanation:
        """Why the node of a row is as it is."""
        table = self._state.table
        state, name = table.state_of(row), table.ids[row]
        if state in BUILT:
            bundle = table.value("bundle", row)
            host = self._lifecycle.pool.host_name(bundle)
            error = self._state.last_errors.get(row)
            advice = f"its last error, {error}" if error is not None else ""
            why = f"is {state} in bundle {bundle}" + (f" on {host}" if host else "")
            return Explanation(name, "fine", why, advice=advice)
        if state is NodeState.REMOVED:
            return Explanation(name, "fine", "has been removed")
        now = look()
        if state is NodeState.FAILED:
            return self._failed(row, name, _hosts(now))
        if state in BUILDABLE:
            return self._buildable(row, name, now)
        return self._waiting(row, name, now)

    def no_room(self) -> str:
        """Why the pool's bundles, which are still to be reserved, do not fit now and what would help; or nothing."""
        now, pool = look(), self._lifecycle.pool
        if pool.ready or now.has_room(pool.specs):
            return ""
        why = now.why_no_room(pool.specs)
        if pool.provisional:
            why = f"no CPU is free, and the pool is planned as if all were; {why}"
        return "; ".join([why, *now.remedies(now.lacking(total_of(pool.specs)))])

    def _failed(self, row: int, name: str, shown: HostsShown) -> Explanation:
        cause = self._state.causes.get(row)
        why = f"failed: {cause.text}" if cause else "failed"
        plan = self._lifecycle.plan([row], rebuild=True)
        if len(plan.left_out):
            return Explanation(
                name, "failed", why, hosts=shown, advice=f"it cannot be rebuilt now: {plan.left_out[0].why}"
            )
        done, most = self._state.table.value("rebuilds", row), self._state.failure.max_rebuilds
        tried = f" (rebuilt {done} times, the policy allows {most})" if self._state.failure.policy == "rebuild" else ""
        return Explanation(
            name, "failed", why, plan.placed[0].resources, shown, f"mend the cause and rebuild it{tried}"
        )

    def _buildable(
        self,
        row: int,
        name: str,
        now: Availability,
    ) -> Explanation:
        state, pool, shown = self._state.table.state_of(row), self._lifecycle.pool, _hosts(now)
        plan = self._lifecycle.plan([row])
        if len(plan.left_out):
            advice = "release idle nodes, or add bundles"
            return Explanation(
                name, "busy", f"is {state} and finds no place: {plan.left_out[0].why}", hosts=shown, advice=advice
            )
        placed = plan.placed[0]
        if pool.ready:
            return Explanation(
                name, "fits", f"is {state}: bundle {placed.bundle_idx} has room for it", placed.resources, shown
            )
        try:
            check_feasible(pool.specs, pool.strategy, now.hosts)
        except PlacementError as error:
            return Explanation(
                name, "infeasible", f"is {state} and never fits: {error.message}", placed.resources, shown
            )
        if not now.has_room(pool.specs):
            why = now.why_no_room(pool.specs, "not reserved")
            help_ = "; ".join(now.remedies(now.lacking(total_of(pool.specs))))
            text = f"is {state}; its pool is not reserved and does not fit now: {why}"
            return Explanation(name, "busy", text, placed.resources, shown, help_, _holders(now))
        return Explanation(
            name, "fits", f"is {state}: the pool will be reserved at the first build", placed.resources, shown
        )

    def _waiting(self, row: int, name: str, now: Availability) -> Explanation:
        state, pool, shown = self._state.table.state_of(row), self._lifecycle.pool, _hosts(now)
        bundle = self._state.table.value("bundle", row)
        slot = pool.slot_of(bundle)
        asked = dict(slot.spec) if slot else {}
        cause = self._state.cause_of(row)
        why = f"is {state}: " + (cause.text if cause else "its `build` runs")
        if state is NodeState.PENDING and pool.ready:
            group, _ = pool.locate(bundle)
            scheduling = group_state(group)
            if scheduling not in ("FINISHED", "CREATED"):
                reason = now.why_no_room(pool.specs, scheduling)
                verdict = "infeasible" if scheduling == "INFEASIBLE" else "busy"
                return Explanation(
                    name, verdict, f"{why}; its placement group is {scheduling.lower()}: {reason}", asked, shown
                )
        return Explanation(name, "waits", why, asked, shown)


def _hosts(now: Availability) -> HostsShown:
    return [(host.name, host.resources, now.free.get(host.host_id, {})) for host in now.hosts]


def _holders(now: Availability) -> Sequence[tuple[str, Mapping[str, float]]]:
    return [(holder.name, holder.amounts) for holder in now.holders]
