"""The pool that a federation's placement asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.errors import PlacementError
from red_tui.federation.spec import PlacementSpec
from red_tui.placement.connection import ensure_ray
from red_tui.placement.feasibility import free_resources, packs
from red_tui.placement.groups import create_groups
from red_tui.placement.pool import Pool
from red_tui.placement.shares import COORDINATOR_FRACTION, UNIT, Bundle, split_bundles

SHRINK = 0.97
DEFAULT_BUNDLES = 256
"""Bundles in a pool that nobody sized, at most: each is a process when it is built."""


def make_pool(spec: PlacementSpec, num_clients: int, fed_id: str, *, detached: bool) -> Pool:
    """A pool as planned; its bundles are reserved when the first node is built.

    Raises:
        PlacementError: If the resources cannot be split so, or a given group has too few bundles.
    """
    group = spec.group
    if spec.is_tune and group is None:
        from ray.util import get_current_placement_group

        group = get_current_placement_group()
        if group is None:
            raise PlacementError(
                "is_tune: this process runs in no placement group; give the trial its resources with"
                " get_resources_split(..., is_tune=True)",
                asked=None,
                available=None,
            )
    if group is not None:
        return _given(group, spec.offset, num_clients)
    ensure_ray()
    strategy = spec.strategy

    def reserve(bundles: Sequence[Bundle], strategy: str) -> list[Any]:
        return create_groups(bundles, strategy, name=f"{fed_id}/pool" if detached else "", detached=detached)

    return Pool(_bundles(spec, num_clients), strategy, reserve=reserve)


def _given(group: Any, offset: int, num_clients: int) -> Pool:
    specs = [dict(bundle) for bundle in group.bundle_specs]
    if offset < 0 or offset + 2 > len(specs):
        raise PlacementError(
            f"a federation needs a coordinator's bundle and at least one more from bundle_offset {offset} on; the"
            f" placement group has {len(specs)} bundles",
            asked=offset + 2,
            available=len(specs),
        )
    return Pool(specs[offset : offset + num_clients + 1], offset=offset, groups=[group])


def _bundles(spec: PlacementSpec, num_clients: int) -> list[Bundle]:
    if spec.bundles is not None and not isinstance(spec.bundles, int):
        listed = [{name: amount for name, amount in bundle.items() if amount > 0} for bundle in spec.bundles]
        smallest = min((bundle.get("CPU", 1.0) for bundle in listed), default=1.0)
        return [{"CPU": max(UNIT, round(smallest * COORDINATOR_FRACTION, 4))}, *listed]
    count = spec.bundles if spec.bundles is not None else _count(spec, num_clients)

    def split(cpus: float) -> list[Bundle]:
        return split_bundles(
            count, cpus, spec.gpus, spec.split, seed=spec.seed, weights=spec.weights, resources=spec.resources
        )

    if spec.cpus is not None:
        return split(spec.cpus)
    free = free_resources()
    cpus = min(sum(host.get("CPU", 0.0) for host in free), float(count) + COORDINATOR_FRACTION)
    _require_free(cpus, free)
    # What is free in all may lie on several hosts so that no equal parts of it fit: take a little less until they do.
    while not packs(split(cpus), free) and cpus > 2 * UNIT * (count + 1):
        cpus *= SHRINK
    return split(cpus)


def _count(spec: PlacementSpec, num_clients: int) -> int:
    """How many bundles a pool gets that nobody sized: one a node, or one a CPU where nodes share hosts."""
    if spec.isolation != "bundle":
        return min(num_clients, DEFAULT_BUNDLES)
    cpus = spec.cpus if spec.cpus is not None else sum(host.get("CPU", 0.0) for host in free_resources())
    return max(1, min(num_clients, DEFAULT_BUNDLES, int(cpus)))


def _require_free(cpus: float, free: Sequence[Mapping[str, float]]) -> None:
    if cpus < UNIT * 10:
        raise PlacementError(
            f"no CPU of the cluster is free (hosts: {len(free)}): end another federation, or name the CPUs to wait for",
            asked={"CPU": "what is free"},
            available={"CPU": cpus},
        )
