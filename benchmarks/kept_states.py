"""What nodes keep between turns, in files: resident memory of all processes, and seconds a round against memory only.

`STATE_NODES=100000 python -m benchmarks states` is the size that the documentation names; it takes 10 GB of disk.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import ray

import red_tui as red

SIZE = 25_000
"""Numbers in a state: 100 kB."""

NODES = int(os.environ.get("STATE_NODES", "20000"))
SMALL = 2_000
"""Nodes of the comparison: their states fit into memory."""

PLACES = 250
"""Nodes that a host holds at a time."""

LIMIT = 2_000_000_000
STORE = 250_000_000
"""Bytes of Ray's object store."""


class Keeping(red.FederatedNode):
    """Keeps 100 kB, which change in each round."""

    def build(self, **kwargs: Any) -> None:
        self.seen, self.memory = 0, np.zeros(SIZE, dtype=np.float32)

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros(10)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        self.seen += 1
        self.memory = self.memory + np.float32(1)
        return red.FitResult({"w": parameters["w"] + 1}, 1, {"seen": float(self.seen), "sum": float(self.memory[-1])})

    def get_state(self) -> Any:
        return {"seen": self.seen, "memory": self.memory}

    def set_state(self, state: Any) -> None:
        self.seen, self.memory = state["seen"], state["memory"]


class Resident:
    """The most memory that this process and all that stem from it had resident at a time, added up.

    Attributes:
        most: Bytes, with what processes share counted once in each.
        once: Bytes, with what they share counted once (PSS).
        parts: Of `most`, by the name of the process.
    """

    def __init__(self) -> None:
        self.most = 0
        self.once = 0
        self.parts: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Resident:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        me, looked = psutil.Process(), 0
        while not self._over.wait(0.5):
            parts: dict[str, int] = {}
            for process in (me, *me.children(recursive=True)):
                try:
                    name = process.name()
                    parts[name] = parts.get(name, 0) + process.memory_info().rss
                except psutil.Error:
                    continue
            looked += 1
            if looked % 20 == 0:
                self.once = max(self.once, sum(_shared_once(one) for one in (me, *me.children(recursive=True))))
            if sum(parts.values()) > self.most:
                self.most, self.parts = sum(parts.values()), parts


def _shared_once(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return 0


@contextmanager
def federation(name: str, count: int, state_memory: int | str | None, store: int = STORE) -> Iterator[Any]:
    """A federation of `count` nodes in a cluster of its own."""
    ray.init(
        "local",
        num_cpus=3,
        namespace="bench",
        log_to_driver=False,
        logging_level="ERROR",
        include_dashboard=False,
        object_store_memory=store,
    )
    try:
        fed = red.StarFederatedLearningSchema(
            Keeping,
            ["train"] * count,
            {"federation_id": name},
            isolation="bundle",
            nodes_per_bundle=PLACES,
            resources=red.get_resources_split(2, 3),
            state_memory=state_memory,
            failure={"policy": "rebuild", "max_rebuilds": 100, "backoff": 0.01},
            settings={"deadline": 3600, "evaluate_every": 0},
        )
        with fed:
            yield fed
    finally:
        ray.shutdown()


def kill_hosts(fed: Any) -> None:
    """Kill both hosts, and wait until others have taken their places."""
    state = fed._state
    before = {bundle: facts["pid"] for bundle, facts in dict(state.bundle_facts).items()}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    with state.changed:
        state.changed.wait_for(
            lambda: all(state.bundle_facts.get(key, {}).get("pid") not in (None, pid) for key, pid in before.items()),
            120,
        )


def run() -> list[dict[str, Any]]:
    before = os.environ.get("RED_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["RED_HOME"] = home
        try:
            return [large(), beside_memory()]
        finally:
            os.environ.pop("RED_HOME") if before is None else os.environ.update(RED_HOME=before)


def large() -> dict[str, Any]:
    """Three rounds of many nodes, with the hosts killed between them."""
    seconds = []
    with Resident() as resident, federation("large", NODES, "200MB") as fed:
        for number in (1, 2, 3):
            began = time.perf_counter()
            fed.run(1)
            seconds.append(time.perf_counter() - began)
            seen = fed.history[-1].train_metrics
            assert len(fed.history[-1].participants) == NODES
            assert seen["seen"] == seen["sum"] == number, "no node has lost its state"
            if number < 3:
                kill_hosts(fed)
    rounds = ", ".join(f"{one:.0f}" for one in seconds)
    shown = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sorted(resident.parts.items()))
    return {
        "what": f"{NODES:,} nodes keep 100 kB each, hosts killed between rounds: resident memory, all processes",
        "figure": f"{resident.most / 1e9:.2f} GB ({resident.once / 1e9:.2f} GB PSS); rounds of {rounds} s",
        "goal": "≤ 2 GB",
        "reached": resident.most <= LIMIT,
        "seconds": seconds,
        "bytes": resident.most,
        "pss": resident.once,
        "parts": shown,
    }


def beside_memory() -> dict[str, Any]:
    """A round whose states lie in files against one whose states lie in memory."""
    took: dict[str, list[float]] = {}
    for name, bound in (("memory", None), ("files", 0)):
        with federation(name, SMALL, bound, store=1_000_000_000) as fed:
            fed.run(1)
            for _ in range(5):
                began = time.perf_counter()
                fed.run(1)
                took.setdefault(name, []).append(time.perf_counter() - began)
    mine, base = statistics.median(took["files"]), statistics.median(took["memory"])
    return {
        "what": f"a round in turns, {SMALL:,} nodes that keep 100 kB, in files : in memory",
        "figure": f"{mine / base:.2f} × ({mine:.2f} s : {base:.2f} s)",
        "goal": "",
        "reached": None,
        "ours": took["files"],
        "baseline": took["memory"],
    }
