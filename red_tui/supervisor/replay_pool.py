"""Bundles and hosts of a replayed federation, as far as its journal and its layout tell of them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from red_tui.errors import RedError
from red_tui.layout import Layout
from red_tui.placement.shares import split_bundles
from red_tui.supervisor.journal_limits import BUNDLES_LIMIT
from red_tui.supervisor.journal_rows import read_spans
from red_tui.supervisor.replay import Replay
from red_tui.supervisor.replay_nodes import ReplayNodes

ELSEWHERE = "not recorded"
"""Stands for the hosts of journals that do not tell of them."""

Wire = list[dict[str, Any]]


def pool_at(replay: Replay, nodes: ReplayNodes) -> tuple[Wire, Wire]:
    """Bundles and hosts at the moment, as updates tell them."""
    with contextlib.suppress(
        KeyError, TypeError, ValueError, AttributeError, OverflowError
    ):  # one that cannot be read says nothing
        told = replay.latest("pool")
        if told is not None:
            return _bundles(told), [_host(*host) for host in told.get("hosts") or ()]
        told = replay.upcoming("pool")
        if told is not None and not replay.sparse:
            # What is reserved later is planned by now.
            return [{**bundle, "host": "", "state": "planned"} for bundle in _bundles(told)], []
    seated = nodes.table.column("bundle")
    used = int(seated.max(initial=-1)) + 1
    planned = _planned(nodes.layout) if nodes.layout is not None else []
    host = ELSEWHERE if used else ""
    state = "ready" if used else "planned"
    bundles = [
        _bundle(index, host, planned[index] if index < len(planned) else {}, state)
        for index in range(max(used, len(planned)))
    ]
    # What it has is not known either: at least what is asked of it.
    asked = {"CPU": sum(one["cpu"] for one in bundles), "GPU": sum(one["gpu"] for one in bundles)}
    hosts = [_host(ELSEWHERE, asked, True)] if used and np.any(seated >= 0) else []
    return bundles, hosts


def _bundles(told: Mapping[str, Any]) -> Wire:
    read_spans([[first, stop] for first, stop, *_ in told.get("bundles") or ()], 2, BUNDLES_LIMIT)
    return [
        _bundle(index, host, resources, state)
        for first, stop, host, resources, state in told.get("bundles") or ()
        for index in range(int(first), int(stop))
    ]


def _bundle(index: int, host: str, resources: Mapping[str, float], state: str) -> dict[str, Any]:
    return {
        "idx": index,
        "host": host,
        "cpu": resources.get("CPU", 0.0),
        "gpu": resources.get("GPU", 0.0),
        "resources": {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")},
        "state": state,
        "what": "coordinator" if index == 0 else "",
    }


def _host(name: str, resources: Mapping[str, float], alive: bool) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "alive": alive,
        "cpu": resources.get("CPU", 0.0),
        "gpu": resources.get("GPU", 0.0),
        "resources": {key: amount for key, amount in resources.items() if key not in ("CPU", "GPU")},
        "head": name == "head",
    }


def _planned(layout: Layout) -> list[Mapping[str, float]]:
    """The bundles that a layout asks for; without amounts where they depend on the cluster."""
    placement = layout.placement
    if isinstance(placement.bundles, list):
        listed = [
            [{"CPU": bundle.cpu, "GPU": bundle.gpu, **bundle.resources}] * bundle.count for bundle in placement.bundles
        ]
        return [{}, *itertools.chain.from_iterable(listed)]
    count = (
        placement.num_bundles(layout.num_nodes + len(layout.topology.aggregators))
        if placement.bundles is not None
        else 0
    )
    if not count:
        return []
    if placement.cpus is not None:
        try:
            return list(
                split_bundles(
                    count, placement.cpus, placement.gpus, placement.split,
                    seed=placement.seed, weights=placement.weights, resources=placement.resources,
                )
            )  # fmt: skip
        except RedError:
            pass
    return [{}] * (count + 1)
