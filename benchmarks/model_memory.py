"""Memory that large models take: what processes have resident in rounds, against what a bare loop needs.

`MODEL_MB=1000 python -m benchmarks memory` is the size that the documentation names; it takes 16 GB.
"""

from __future__ import annotations

import os
import statistics
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import ray

import red_tui as red

MODEL_MB = int(os.environ.get("MODEL_MB", "200"))
NODES, HOSTS, ROUNDS = 4, 2, 3
FLAT_MB, FLAT_NODES, FLAT_ROUNDS = int(os.environ.get("FLAT_MB", "20")), 20, int(os.environ.get("FLAT_ROUNDS", "110"))
LOOKS, GROWTH = 11, 1.03


class InPlace(red.FederatedNode):
    """Moves each number of a model by one, in memory of its host that it uses again."""

    @classmethod
    def build_shared(cls, config: red.FederationConfig) -> Any:
        return {}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        for name, value in parameters.items():
            np.add(value, 1, out=self.shared.setdefault(name, np.empty_like(value)))
        return red.FitResult(dict(self.shared), 1, {"loss": 0.0})


def processes() -> dict[int, tuple[str, int]]:
    """By pid the name, and the bytes that are a process's own: what lies in Ray's store is its store's."""
    found = {}
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            memory = process.memory_info()
            name = "driver" if process.pid == me.pid else process.cmdline()[0].split(" ")[0]
            found[process.pid] = name, memory.rss - memory.shared
        except (psutil.Error, IndexError):
            continue
    return found


class Peak:
    """The most bytes that each process has had of its own, and that Ray's store has held."""

    def __init__(self) -> None:
        self.most: dict[int, tuple[str, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for pid, (name, size) in processes().items():
                self.most[pid] = name, max(size, self.most.get(pid, (name, 0))[1])


def store_bytes() -> int:
    """What Ray's store has touched so far: the shared memory of its daemon."""
    children = psutil.Process().children(recursive=True)
    return max((one.memory_info().shared for one in children if one.name() == "raylet"), default=0)


def start_of(mega: int) -> dict[str, Any]:
    """A model of so many megabytes."""
    return {f"w{part}": np.zeros(mega * 250_000 // 4, np.float32) for part in range(4)}


def federation(name: str, mega: int, nodes: int) -> Any:
    return red.StarFederatedLearningSchema(
        InPlace,
        ["train"] * nodes,
        {"federation_id": name},
        isolation="bundle",
        resources=red.get_resources_split(HOSTS, HOSTS),
        initial_parameters=start_of(mega),
        settings={"evaluate_every": 0, "deadline": 600},
    )


@ray.remote(num_cpus=1)
class BareLoop:
    """The same by hand: memory for what is learnt, and a sum."""

    def __init__(self) -> None:
        self.learnt: dict[str, Any] = {}

    def round(self, parameters: dict[str, Any], nodes: int) -> dict[str, Any]:
        """The mean of what some nodes learnt."""
        total = {name: np.zeros_like(value) for name, value in parameters.items()}
        for _ in range(nodes):
            for name, value in parameters.items():
                np.add(value, 1, out=self.learnt.setdefault(name, np.empty_like(value)))
                total[name] += self.learnt[name]
        return {name: value / nodes for name, value in total.items()}


def most_models(act: Callable[[], None]) -> dict[str, list[float]]:
    """By what a process is, the most that each had more than before, in models."""
    before = {pid: size for pid, (_, size) in processes().items()}
    with Peak() as seen:
        act()
    more: dict[str, list[float]] = {}
    for pid, (name, size) in seen.most.items():
        more.setdefault(name, []).append(max(0, size - before.get(pid, 0)) / MODEL_MB / 1e6)
    return more


def peak() -> dict[str, Any]:
    """A large model, four nodes in two bundles: the most that a host has, in models, and who else has any."""

    def by_hand() -> None:
        current = start_of(MODEL_MB)
        for _ in range(ROUNDS):
            given = ray.put(current)
            means = ray.get([actor.round.remote(given, NODES // HOSTS) for actor in actors])
            current = {name: sum(mean[name] for mean in means) / HOSTS for name in current}

    actors = [BareLoop.remote() for _ in range(HOSTS)]
    ray.get([actor.__ray_ready__.remote() for actor in actors])
    bare = most_models(by_hand)
    for actor in actors:
        ray.kill(actor)
    with federation("large", MODEL_MB, NODES) as fed:
        fed.build(fed.nodes)
        ours = most_models(lambda: fed.run(ROUNDS))
        assert not fed.history[-1].failed and len(fed.history) == ROUNDS
    host = max(max(sizes) for name, sizes in ours.items() if "BundleHost" in name)
    base = max(max(sizes) for name, sizes in bare.items() if "BareLoop" in name)
    server = max(max(sizes) for name, sizes in ours.items() if "Server" in name)
    others = max(
        (max(sizes), name) for name, sizes in ours.items() if "BundleHost" not in name and "Server" not in name
    )
    return {
        "what": f"a model of {MODEL_MB} MB, {NODES} nodes, {HOSTS} bundles: models resident in a host : a bare loop's",
        "figure": f"{host:.1f} : {base:.1f} (server {server:.1f}, {others[1]} {others[0]:.2f})",
        "goal": "≤ 1 more",
        "reached": host <= base + 1.05 and others[0] <= 0.1,
        "ours": ours,
        "baseline": bare,
    }


def flat() -> dict[str, Any]:
    """Many rounds: what processes usually have in the last part of them, against the first after the start."""
    looks = []
    with federation("flat", FLAT_MB, FLAT_NODES) as fed:
        for _ in range(LOOKS):
            fed.run(FLAT_ROUNDS // LOOKS)
            looks.append({pid: size for pid, (_, size) in processes().items()})
        names, stored = processes(), store_bytes()
        assert not fed.history[-1].failed
    half = (LOOKS - 1) // 2
    large = [pid for pid, size in looks[1].items() if size > 50e6 and all(pid in look for look in looks[1:])]
    grown = sorted(
        (
            statistics.median(look[pid] for look in looks[-half:])
            / statistics.median(look[pid] for look in looks[1 : 1 + half]),
            names[pid][0],
        )
        for pid in large
    )
    return {
        "what": f"{FLAT_ROUNDS} rounds of a model of {FLAT_MB} MB, {FLAT_NODES} nodes: resident, last half : first",
        "figure": f"{grown[-1][0]:.3f} × at most ({grown[-1][1]}); store {stored / 1e6:.0f} MB",
        "goal": f"≤ {GROWTH:g} ×",
        "reached": grown[-1][0] <= GROWTH,
        "processes": grown,
    }


def run() -> list[dict[str, Any]]:
    ray.init(
        "local",
        num_cpus=2 * HOSTS + 2,
        namespace="bench",
        log_to_driver=False,
        logging_level="ERROR",
        include_dashboard=False,
        object_store_memory=max(12 * MODEL_MB, 30 * FLAT_MB) * 1_000_000,
    )
    try:
        return [peak(), flat()]
    finally:
        ray.shutdown()
