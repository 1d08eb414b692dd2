"""Why a node is as it is: what is asked, what each host has, and what would make it fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from red_tui.errors import PlacementError
from red_tui.federation.lifecycle import Lifecycle
from red_tui.nodes.states import BUILDABLE, BUILT, NodeState
from red_tui.placement.feasibility import (
    Host,
    check_feasible,
    cluster_hosts,
    free_by_host,
    group_state,
    packs,
    why_pending,
)
from red_tui.placement.shares import describe, total_of

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
    """

    node_id: str
    verdict: str
    why: str
    asked: Mapping[str, float] = field(default_factory=dict)
    hosts: HostsShown = ()
    advice: str = ""

    def __str__(self) -> str:
        lines = [self.why + (f"; {self.advice}" if self.advice else "")]
        if self.asked:
            lines.append(f"asks {describe(self.asked)}")
        for name, has, free in self.hosts[:HOSTS_SHOWN]:
            lines.append(f"  {name}: has {describe(has)}, free {describe(free) if free else 'nothing'}")
        if len(self.hosts) > HOSTS_SHOWN:
            lines.append(f"  … and {len(self.hosts) - HOSTS_SHOWN} more hosts")
        return "\n".join(lines)


class Explaining:
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
        hosts = cluster_hosts()
        free = free_by_host()
        shown = [(host.name, host.resources, _of(free.get(host.host_id, {}), host)) for host in hosts if host.alive]
        if state is NodeState.FAILED:
            return self._failed(row, name, shown)
        if state in BUILDABLE:
            return self._buildable(row, name, hosts, list(free.values()), shown)
        return self._waiting(row, name, hosts, shown)

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
        hosts: Sequence[Host],
        free: Sequence[Mapping[str, float]],
        shown: HostsShown,
    ) -> Explanation:
        state, pool = self._state.table.state_of(row), self._lifecycle.pool
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
            check_feasible(pool.specs, pool.strategy, hosts)
        except PlacementError as error:
            return Explanation(
                name, "infeasible", f"is {state} and never fits: {error.message}", placed.resources, shown
            )
        if not packs(pool.specs, free):
            why = why_pending(pool.specs, hosts, total_of([dict(one) for one in free]), "not reserved")
            return Explanation(
                name,
                "busy",
                f"is {state}; its pool is not reserved and does not fit now: {why}",
                placed.resources,
                shown,
            )
        return Explanation(
            name, "fits", f"is {state}: the pool will be reserved at the first build", placed.resources, shown
        )

    def _waiting(self, row: int, name: str, hosts: Sequence[Host], shown: HostsShown) -> Explanation:
        import ray

        state, pool = self._state.table.state_of(row), self._lifecycle.pool
        bundle = self._state.table.value("bundle", row)
        slot = pool.slot_of(bundle)
        asked = dict(slot.spec) if slot else {}
        cause = self._state.cause_of(row)
        why = f"is {state}: " + (cause.text if cause else "its `build` runs")
        if state is NodeState.PENDING and pool.ready:
            group, _ = pool.locate(bundle)
            scheduling = group_state(group)
            if scheduling not in ("FINISHED", "CREATED"):
                reason = why_pending(pool.specs, hosts, dict(ray.available_resources()), scheduling)
                verdict = "infeasible" if scheduling == "INFEASIBLE" else "busy"
                return Explanation(
                    name, verdict, f"{why}; its placement group is {scheduling.lower()}: {reason}", asked, shown
                )
        return Explanation(name, "waits", why, asked, shown)


def _of(free: Mapping[str, float], host: Host) -> dict[str, float]:
    """What is free of what a host has; placement groups' own resource names are left away."""
    return {name: round(free.get(name, 0.0), 4) for name in host.resources if free.get(name, 0.0) > 0}
