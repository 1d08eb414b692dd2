"""Bundle isolation: building nodes, rounds over them against a hand-written Ray loop, and memory over many rounds."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import numpy as np
import psutil
import ray

import red_tui as red
from benchmarks.measuring import alternate, cluster, timed

HOSTS = max(2, os.cpu_count() or 2)
TIMES = 9
TIMES_OF_SMALL = 41
"""A small round takes milliseconds, in which two cores are given to four processes: a few tell little."""

ROUNDS_FOR_MEMORY = 200
BUILT_NODES = 100_000


class Adds(red.FederatedNode):
    """Adds 1 and says how well it went."""

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        return red.FitResult({"w": parameters["w"] + 1}, 1, {"loss": 0.5})


class RawNode:
    """The same without the library."""

    def fit(self, parameters: Any, config: Any) -> tuple[Any, int, dict[str, float]]:
        return {"w": parameters["w"] + 1}, 1, {"loss": 0.5}


class RawHost:
    """One call a round: its nodes one after another, added up."""

    def __init__(self, count: int) -> None:
        self.nodes = [RawNode() for _ in range(count)]

    def fit(self, parameters: Any, config: Any) -> tuple[Any, tuple[float, list[float]]]:
        total, weight, losses = None, 0, []
        for node in self.nodes:
            update, examples, metrics = node.fit(parameters, config)
            if total is None:
                total = update["w"] * examples
            else:
                total += update["w"] if examples == 1 else update["w"] * examples
            weight += examples
            losses.append(metrics["loss"])
        return total, (weight, losses)


def run() -> list[dict[str, Any]]:
    results = []
    with cluster(2 * HOSTS + 4):
        results += building()
        results += [round_of(1000, 1000, "fedavg", 0.5, 20, TIMES_OF_SMALL)]
        results += [round_of(100, 1_000_000, "fedavg", 0.7, 3, TIMES)]
        results += [every_update()]
        results += memory()
    return results


def federation_of(count: int, floats: int, fed_id: str, strategy: str = "fedavg") -> tuple[red.FederatedBase, Any]:
    group = red.get_resources_split(HOSTS, HOSTS)
    federation = red.StarFederatedLearningSchema(
        Adds,
        ["train"] * count,
        red.FederationConfig(federation_id=fed_id),
        isolation="bundle",
        resources=group,
        strategy=strategy,
        initial_parameters={"w": np.zeros(floats, np.float32)},
    )
    return federation, group


def building() -> list[dict[str, Any]]:
    """Nodes a second once hosts are up, and what a node costs in its host."""
    federation, group = federation_of(BUILT_NODES + HOSTS, 10, "built")
    first = [f"client_{BUILT_NODES + number}" for number in range(HOSTS)]
    federation.build(first)
    pids = [ray.get(node.handle.red_detail.remote())["pid"] for node in federation.select(first)]
    before = sum(psutil.Process(pid).memory_full_info().uss for pid in set(pids))
    rates = []
    for _ in range(3):
        plan = federation.plan("state:virtual or state:released")
        seconds = timed(lambda plan=plan: federation.build(plan))
        rates.append(BUILT_NODES / seconds)
        after = sum(psutil.Process(pid).memory_full_info().uss for pid in set(pids))
        federation.release([node.id for node in federation.nodes[:BUILT_NODES]])
    federation.close()
    ray.util.remove_placement_group(group)
    rate, each = statistics.median(rates), (after - before) / BUILT_NODES
    return [
        _least("build in hosts that are up", rate, 50_000, f"{rate:,.0f} nodes/s"),
        _most("memory of a node without state in its host", each, 2048, f"{each:,.0f} bytes"),
    ]


def round_of(count: int, floats: int, strategy: str, goal: float, rounds: int, times: int) -> dict[str, Any]:
    """A round against one hand-written call a host."""
    federation, group = federation_of(count, floats, f"round-{count}", strategy)
    federation.run(2)
    share = [len(part) for part in np.array_split(np.arange(count), HOSTS)]
    hosts = [ray.remote(num_cpus=0.01)(RawHost).remote(part) for part in share]
    start = {"w": np.zeros(floats, np.float32)}

    def ours() -> float:
        return timed(lambda: federation.run(rounds)) / rounds

    def raw() -> float:
        def loop() -> None:
            current = start
            for number in range(rounds):
                reference = ray.put(current)
                pairs = [host.fit.options(num_returns=2).remote(reference, {"round": number}) for host in hosts]
                records = ray.get([pair[1] for pair in pairs])
                sums = ray.get([pair[0] for pair in pairs])
                weight = sum(record[0] for record in records)
                losses = [loss for record in records for loss in record[1]]
                current = {"w": sum(sums) / weight}
                assert len(losses) == count

        return timed(loop) / rounds

    mine, theirs = alternate(ours, raw, times)
    number = len(federation.history)
    error = float(np.abs(federation.parameters()["w"] - number).max())
    assert error <= 1e-6 * number, f"the mean after {number} rounds of +1 is off by {error}"
    federation.close()
    for host in hosts:
        ray.kill(host)
    ray.util.remove_placement_group(group)
    median_ours, median_raw = statistics.median(mine), statistics.median(theirs)
    found = median_raw / median_ours
    return {
        "what": f"a round of {count:,} nodes × {floats:,} floats : a hand-written loop",
        "figure": f"{found:.2f} × ({count / median_ours:,.0f} : {count / median_raw:,.0f} nodes/s)",
        "goal": f"≥ {goal:g} ×" + (", ≥ 10,000 nodes/s" if count == 1000 else ""),
        "reached": found >= goal and (count != 1000 or count / median_ours >= 10_000),
        "ratio": found,
        "ours": mine,
        "baseline": theirs,
    }


def every_update() -> dict[str, Any]:
    """The same round with a strategy that needs every update."""
    count = 1000
    federation, group = federation_of(count, 1000, "median", "median")
    federation.run(2)
    seconds = [timed(lambda: federation.run(5)) / 5 for _ in range(TIMES)]
    federation.close()
    ray.util.remove_placement_group(group)
    rate = count / statistics.median(seconds)
    return _least(f"a round of {count:,} nodes × 1,000 floats, median", rate, 2000, f"{rate:,.0f} nodes/s")


def memory() -> list[dict[str, Any]]:
    """Growth of driver, hosts and object store over many rounds, after as many to warm up."""
    federation, group = federation_of(1000, 1000, "memory")
    federation.run(20)
    pids = {ray.get(federation[f"client_{n}"].handle.red_detail.remote())["pid"] for n in (0, 999)} | {os.getpid()}

    def used() -> int:
        return sum(psutil.Process(pid).memory_full_info().uss for pid in pids)

    def stored() -> float:
        return ray.cluster_resources()["object_store_memory"] - ray.available_resources()["object_store_memory"]

    federation.run(ROUNDS_FOR_MEMORY)
    time.sleep(1.0)
    before, store_before = used(), stored()
    federation.run(ROUNDS_FOR_MEMORY)
    time.sleep(1.0)
    after, store_after = used(), stored()
    federation.close()
    ray.util.remove_placement_group(group)
    grown, grown_store = (after - before) / 1e6, (store_after - store_before) / 1e6
    share = 100 * (after - before) / before
    return [
        _most(
            f"driver and hosts after {ROUNDS_FOR_MEMORY} further rounds",
            share,
            2.0,
            f"{grown:+.1f} MB ({share:+.1f} %)",
        ),
        _most(f"object store after {ROUNDS_FOR_MEMORY} further rounds", grown_store, 0.1, f"{grown_store:+.2f} MB"),
    ]


def _least(what: str, found: float, goal: float, figure: str) -> dict[str, Any]:
    return {"what": what, "figure": figure, "goal": f"≥ {goal:,g}", "reached": found >= goal, "ratio": found / goal}


def _most(what: str, found: float, goal: float, figure: str) -> dict[str, Any]:
    return {"what": what, "figure": figure, "goal": f"≤ {goal:,g}", "reached": found <= goal, "ratio": found / goal}
