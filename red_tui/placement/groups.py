"""Placement groups, made whole or not at all."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from red_tui.errors import NotConnected, PlacementError
from red_tui.placement.availability import look, script_group_name
from red_tui.placement.feasibility import check_feasible, cluster_hosts, group_state
from red_tui.placement.local_ray import make_short_folder, noted_ray, ray_folder, sockets_fit
from red_tui.placement.shares import Bundle, amounts_text, check_split, split_bundles, total_of
from red_tui.runtime.node_actor import NAMESPACE

REMOVAL_TIMEOUT = 5.0


def connection_id() -> str:
    """What tells this process's connection to Ray from an earlier or a later one; empty without a connection."""
    import ray

    if not ray.is_initialized():
        return ""
    context = ray.get_runtime_context()
    return f"{context.gcs_address} {context.get_job_id()}"


def ensure_ray() -> None:
    """Connect this process to Ray unless it is: `RAY_ADDRESS`, else one's own running cluster, else a new one.

    Scripts that want another cluster call `ray.init` themselves beforehand.

    Raises:
        NotConnected: If `RAY_ADDRESS` is `auto`, and no cluster of this user runs here.
    """
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(namespace="red", log_to_driver=False, logging_level="ERROR", include_dashboard=False, **cluster_options())


def cluster_options() -> dict[str, Any]:
    """What `ray.init` is told of the cluster; Ray by itself would take anybody's that is noted on this machine."""
    named = os.environ.get("RAY_ADDRESS") or ""
    if named not in ("", "auto", "local"):
        return {}
    noted = None if named == "local" else noted_ray()
    if noted is not None and noted.own:
        return {"address": noted.address}
    if named == "auto":
        raise NotConnected(
            "RAY_ADDRESS is auto, and no Ray cluster of yours runs on this machine: start one with `ray start --head`,"
            " or name one with RAY_ADDRESS=HOST:PORT",
            address=named,
        )
    options: dict[str, Any] = {"address": "local"}
    if not sockets_fit(ray_folder()):
        folder = make_short_folder("red-ray-", "r")
        options["_temp_dir"] = str(folder / "r")
        atexit.register(_end_and_remove, os.getpid(), folder)
    return options


def _end_and_remove(pid: int, folder: Path) -> None:
    """End this process's Ray and remove its folder, in the process that made it and not in what was forked from it."""
    if os.getpid() != pid:
        return
    import ray

    ray.shutdown()
    # Workers that are still ending may write to their logs meanwhile.
    give_up = time.monotonic() + REMOVAL_TIMEOUT
    while folder.exists() and time.monotonic() < give_up:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)


GROUP_SIZE = 500
"""Bundles in one placement group at most: a group of 4,000 takes ten times as long to get ready as eight of 500."""

GRANT_TIMEOUT = 1.0
"""Seconds that a group may take to be reserved where waiting for others is of no use."""

READY_TIMEOUT = 30.0
"""Seconds a group may take to be reserved before it is given up."""


def create_groups(
    bundles: Sequence[Bundle],
    strategy: str,
    *,
    name: str = "",
    detached: bool = False,
    timeout: float = READY_TIMEOUT,
    first_number: int = 0,
) -> list[Any]:
    """Reserve bundles on the cluster, in groups of at most `GROUP_SIZE`, and wait until they are ready.

    The groups are named `NAME-K`, with K from `first_number` on.

    Raises:
        PlacementError: If they can never fit, or do not fit within `timeout` seconds; nothing is
            left reserved then.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    check_feasible(bundles, strategy, cluster_hosts())
    groups: list[Any] = []
    try:
        for start in range(0, len(bundles), GROUP_SIZE):
            groups.append(
                placement_group(
                    [dict(bundle) for bundle in bundles[start : start + GROUP_SIZE]],
                    strategy=strategy,
                    name=f"{name}-{first_number + start // GROUP_SIZE}" if name else "",
                    lifetime="detached" if detached else None,
                )
            )
        waits = [group.ready() for group in groups]
        ready, waiting = ray.wait(waits, num_returns=len(waits), timeout=timeout)
        if waiting:
            late = groups[waits.index(waiting[0])]
            raise _too_late(bundles, late, timeout)
        for reference in ready:
            ray.get(reference, timeout=5)
    except BaseException:
        for group in groups:
            with contextlib.suppress(Exception):
                remove_placement_group(group)
        raise
    return groups


def _too_late(bundles: Sequence[Bundle], group: Any, timeout: float) -> PlacementError:
    now, asked = look(), total_of(bundles)
    why = now.why_no_room(bundles, group_state(group))
    help_ = "".join(f"; {remedy}" for remedy in now.remedies(now.lacking(asked) or asked))
    return PlacementError(
        f"{len(bundles)} bundles ({amounts_text(asked)}) were not granted within {timeout:g} s: {why}{help_}",
        asked=asked,
        available={name: amount for name, amount in now.total_free.items() if name in asked},
    )


def get_resources_split(
    num_nodes: int,
    num_cpus: float | None = None,
    num_gpus: float = 0,
    split_strategy: str = "uniform",
    placement_strategy: str = "PACK",
    seed: int | None = None,
    is_tune: bool = False,
    *,
    weights: Sequence[float] | None = None,
    resources: Mapping[str, float] | None = None,
    timeout: float = READY_TIMEOUT,
) -> Any:
    """Split resources over the nodes of a federation and reserve them.

    Bundle 0 is the coordinator's and bundles 1 to `num_nodes` are the nodes'.  All of them together
    never exceed what was asked for, and each node's share is above 0.

    Args:
        num_nodes: Number of nodes.
        num_cpus: CPUs in all; None: what the cluster has.
        num_gpus: GPUs in all; a share above one is rounded down to whole GPUs, as Ray wants it.
        split_strategy: `uniform`, `random` or `weighted`.
        placement_strategy: Ray's `PACK`, `SPREAD`, `STRICT_PACK` or `STRICT_SPREAD`.
        seed: Of the random split.
        is_tune: Return Ray Tune's `PlacementGroupFactory` for the trial instead of a reserved group.
        weights: One positive number per node for `weighted`.
        resources: Custom resources, amounts in all.
        timeout: Seconds to wait for the reservation.

    Returns:
        A ready `PlacementGroup`, or a `PlacementGroupFactory`.

    Raises:
        PlacementError: If it cannot fit, or is not granted in time; nothing stays reserved.
    """
    check_split(
        num_nodes,
        num_cpus,
        num_gpus,
        split_strategy,
        placement_strategy,
        seed,
        is_tune,
        weights,
        resources,
        timeout,
    )
    if num_cpus is None:
        import ray

        ensure_ray()
        num_cpus = float(ray.cluster_resources().get("CPU", 0.0))
    bundles = split_bundles(
        num_nodes, num_cpus, num_gpus, split_strategy, seed=seed, weights=weights, resources=resources
    )
    if is_tune:
        try:
            from ray.tune import PlacementGroupFactory
        except ImportError as error:
            raise PlacementError(
                "is_tune needs Ray Tune, which is not installed: pip install 'ray[tune]'", asked=None, available=None
            ) from error
        return PlacementGroupFactory(bundles, strategy=placement_strategy)
    if len(bundles) > GROUP_SIZE:
        raise PlacementError(
            f"one placement group holds at most {GROUP_SIZE - 1} nodes here ({num_nodes} asked): larger groups take"
            " minutes to reserve; a federation shards its pool by itself, so leave the split to it",
            asked=num_nodes,
            available=GROUP_SIZE - 1,
        )
    ensure_ray()
    now = look()
    if now.is_held_here(now.lacking(total_of(bundles))):
        # Nobody else can give back what this process holds itself: it would wait in vain.
        timeout = min(timeout, GRANT_TIMEOUT)
    return create_groups(bundles, placement_strategy, name=script_group_name(), timeout=timeout)[0]


__all__ = ["GROUP_SIZE", "NAMESPACE", "READY_TIMEOUT", "create_groups", "get_resources_split"]
