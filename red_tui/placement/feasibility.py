"""Whether bundles can ever fit a cluster, and why what is pending is pending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from red_tui.errors import PlacementError
from red_tui.placement.shares import Bundle, amounts_text, total_of

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
ROUNDING = 1e-6


@dataclass(frozen=True)
class Host:
    """One machine of the cluster and what it has in all."""

    host_id: str
    name: str
    resources: Mapping[str, float]
    head: bool = False
    alive: bool = True


def cluster_hosts() -> list[Host]:
    """The hosts that Ray knows, the head first.  Hosts that share a hostname are told apart by their ids."""
    import ray

    hosts: list[Host] = []
    hostnames = Counter(str(node.get("NodeManagerHostname") or "") for node in ray.nodes())
    for node in sorted(ray.nodes(), key=lambda entry: "node:__internal_head__" not in entry["Resources"]):
        resources = {
            name: amount
            for name, amount in node["Resources"].items()
            if not name.startswith("node:") and name not in ("memory", "object_store_memory")
        }
        head = "node:__internal_head__" in node["Resources"]
        hostname = str(node.get("NodeManagerHostname") or "")
        # The beginning of its id tells a host from others of its name, however many come and go.
        unique = hostname and hostnames[hostname] == 1
        name = "head" if head else hostname if unique else f"worker-{node['NodeID'][:4]}"
        hosts.append(Host(node["NodeID"], name, resources, head, bool(node["Alive"])))
    return hosts


def fits(bundle: Mapping[str, float], resources: Mapping[str, float]) -> bool:
    """Whether a bundle fits into given resources."""
    return all(resources.get(name, 0.0) + ROUNDING >= amount for name, amount in bundle.items())


def packs(bundles: Sequence[Bundle], free: Sequence[Mapping[str, float]]) -> bool:
    """Whether bundles fit into what is free on hosts, each bundle whole on one, the largest placed first."""
    left = [dict(host) for host in free]
    for bundle in sorted(bundles, key=lambda one: -sum(one.values())):
        host = next((host for host in left if fits(bundle, host)), None)
        if host is None:
            return False
        for name, amount in bundle.items():
            host[name] = host.get(name, 0.0) - amount
    return True


def check_feasible(bundles: Sequence[Bundle], strategy: str, hosts: Sequence[Host]) -> None:
    """Refuse what can never fit, before anything is created.

    The checks are sound, not complete: each bundle fits some host, their sum fits the cluster, and
    the strict strategies find their one host or their many.

    Raises:
        PlacementError: With what was asked and what there is.
    """
    if strategy not in STRATEGIES:
        raise PlacementError(
            f"{strategy!r} is no placement strategy: use {', '.join(STRATEGIES)}", asked=strategy, available=None
        )
    alive = [host for host in hosts if host.alive]
    have = total_of([host.resources for host in alive])
    asked = total_of(bundles)
    for index, bundle in enumerate(bundles):
        if not any(fits(bundle, host.resources) for host in alive):
            raise PlacementError(
                f"bundle {index} asks {amounts_text(bundle)} and no host has that much:"
                f" {_hosts(alive)}; ask less, or add a host that has it",
                asked=bundle,
                available=have,
            )
    short = {name: amount for name, amount in asked.items() if have.get(name, 0.0) + ROUNDING < amount}
    if short:
        raise PlacementError(
            f"{len(bundles)} bundles ask {amounts_text(asked)} in all and the cluster has {amounts_text(have)}:"
            f" too little {', '.join(short)}; ask for fewer or smaller bundles, or add hosts",
            asked=asked,
            available=have,
        )
    if strategy == "STRICT_PACK" and not any(fits(asked, host.resources) for host in alive):
        raise PlacementError(
            f"STRICT_PACK wants all {len(bundles)} bundles ({amounts_text(asked)}) on one host and none has that"
            f" much: {_hosts(alive)}; use PACK, or ask less",
            asked=asked,
            available=have,
        )
    if strategy == "STRICT_SPREAD" and len(bundles) > len(alive):
        raise PlacementError(
            f"STRICT_SPREAD wants a host for each of the {len(bundles)} bundles (the coordinator's included) and the"
            f" cluster has {len(alive)}; use SPREAD, or fewer bundles",
            asked=len(bundles),
            available=len(alive),
        )


def why_pending(bundles: Sequence[Bundle], hosts: Sequence[Host], available: Mapping[str, float], state: str) -> str:
    """In words, what a placement group that is not ready waits for.

    Args:
        bundles: What it asks.
        hosts: The hosts there are.
        available: What is free on the cluster now.
        state: Ray's `scheduling_state`.
    """
    asked = total_of(bundles)
    have = total_of([host.resources for host in hosts if host.alive])
    for index, bundle in enumerate(bundles):
        if not any(fits(bundle, host.resources) for host in hosts if host.alive):
            return f"bundle {index} asks {amounts_text(bundle)}, no host has that: add a host that does"
    lacking = {
        name: (amount, available.get(name, 0.0))
        for name, amount in asked.items()
        if available.get(name, 0.0) + ROUNDING < amount
    }
    if lacking:
        parts = ", ".join(
            f"{name} {amount:g} asked, {free:g} of {have.get(name, 0.0):g} free"
            for name, (amount, free) in lacking.items()
        )
        return f"busy: {parts}; it fits when others give back theirs"
    return (
        f"it does not fit as the hosts' free resources lie ({state.lower()}): try another strategy or smaller bundles"
    )


def _hosts(hosts: Sequence[Host]) -> str:
    shown = ", ".join(f"{host.name} has {amounts_text(host.resources)}" for host in hosts[:4])
    return shown + (f" and {len(hosts) - 4} more hosts" if len(hosts) > 4 else "")


def group_state(placement_group: Any) -> str:
    """Ray's scheduling state of a placement group: the ground for every why."""
    from ray.util import placement_group_table

    table = placement_group_table(placement_group)
    return str(table.get("stats", {}).get("scheduling_state") or table.get("state") or "UNKNOWN")


def bundle_hosts(groups: Sequence[Any]) -> tuple[dict[int, str], list[Host]]:
    """Host id by bundle index over all groups, and the hosts."""
    from ray.util import placement_group_table

    where: dict[int, str] = {}
    start = 0
    for group in groups:
        table = placement_group_table(group)
        for local_idx, host_id in (table.get("bundles_to_node_id") or {}).items():
            if host_id:
                where[start + int(local_idx)] = str(host_id)
        start += group.bundle_count
    return where, cluster_hosts()
