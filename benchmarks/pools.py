"""A pool of 4,000 bundles against raw Ray making eight placement groups of 500 and waiting for them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from benchmarks.measuring import alternate, cluster, ratio, timed
from red_tui.placement.groups import create_groups
from red_tui.placement.pool import Pool
from red_tui.placement.shares import Bundle

BUNDLES, GROUPS, TIMES = 4000, 8, 3
# Ray starts a worker process for each CPU of a cluster: shares of a few CPUs make many bundles, and no processes.
CPU = 0.001


def all_is_free(cpus: float) -> None:
    """Both start from the same place: no bundle reserved."""
    while not math.isclose(ray.available_resources().get("CPU", 0.0), cpus, abs_tol=CPU / 2):
        time.sleep(0.02)


def run() -> list[dict[str, Any]]:
    cpus = math.ceil(BUNDLES * CPU) + 1
    bundles: list[Bundle] = [{"CPU": CPU}] * BUNDLES
    size = BUNDLES // GROUPS

    def reserve(specs: Sequence[Bundle], strategy: str) -> list[Any]:
        return create_groups(specs, strategy, timeout=120)

    def ours() -> float:
        all_is_free(cpus)
        pool = Pool(bundles, reserve=reserve)
        seconds = timed(pool.reserve)
        assert len(pool.groups) == GROUPS
        pool.give_back()
        return seconds

    def raw() -> float:
        all_is_free(cpus)
        groups: list[Any] = []

        def make() -> None:
            groups.extend(placement_group([{"CPU": CPU}] * size) for _ in range(GROUPS))
            ray.get([group.ready() for group in groups], timeout=120)

        seconds = timed(make)
        for group in groups:
            remove_placement_group(group)
        return seconds

    with cluster(cpus):
        mine, theirs = alternate(ours, raw, TIMES)
    return [ratio(f"a pool of {BUNDLES:,} bundles ready : {GROUPS} raw groups of {size}", mine, theirs, 1.5)]
