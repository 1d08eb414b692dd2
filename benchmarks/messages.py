"""Messages between nodes, against a broker actor, one raw actor call, and inside one host."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import ray

import red_tui as red
from benchmarks.measuring import alternate, cluster

NEIGHBORS = 7
TIMES = 5
PINGS = 300
LARGE = 100
"""Bodies of 4 MB: a stream, in which the first and the last calls do not weigh more than the others."""

INSIDE = 100_000


class Talker(red.FederatedNode):
    """Publishes, answers or counts, as it is told."""

    def train(self, what: str = "count", **arguments: Any) -> Any:
        """Do `what` says."""
        return getattr(self, what)(**arguments)

    def publish(self, count: int, size: int) -> float:
        """Seconds from the first message to the last neighbour's word that it has all."""
        body = np.zeros(size)
        started = time.perf_counter()
        for _ in range(count):
            self.send("array", body)
        for _ in self.neighbors:
            assert self.receive(timeout=60).header == "done"
        return time.perf_counter() - started

    def count(self, count: int) -> None:
        """Read so many messages, and say so."""
        for _ in range(count):
            message = self.receive(timeout=60)
        self.send("done", None, message.sender)

    def ping(self, count: int) -> float:
        """Seconds of one message, there or back."""
        other = self.neighbors[0]
        started = time.perf_counter()
        for _ in range(count):
            self.send("ping", None, other)
            self.receive(timeout=60)
        return (time.perf_counter() - started) / count / 2

    def pong(self, count: int) -> None:
        """Answer so many messages."""
        other = self.neighbors[0]
        for _ in range(count):
            self.receive(timeout=60)
            self.send("pong", None, other)


@ray.remote(num_cpus=0.01, max_concurrency=4)
class Plain:
    """The same without the library."""

    def __init__(self) -> None:
        self.received = 0

    def take(self, body: Any) -> int:
        """Take a message in."""
        self.received += 1
        return self.received

    def publish(self, broker: Any, count: int, size: int) -> float:
        """Seconds of publishing through a broker, each message delivered before the next."""
        body = np.zeros(size)
        started = time.perf_counter()
        for _ in range(count):
            ray.get(broker.relay.remote([ray.put(body)]), timeout=60)
        return time.perf_counter() - started

    def put(self, count: int, size: int) -> float:
        """Seconds of putting bodies into the object store, which nobody gets."""
        body = np.zeros(size)
        started = time.perf_counter()
        for _ in range(count):
            ray.put(body)
        return time.perf_counter() - started

    def call(self, other: Any, count: int) -> float:
        """Seconds of one call."""
        started = time.perf_counter()
        for _ in range(count):
            ray.get(other.take.remote(None), timeout=60)
        return (time.perf_counter() - started) / count


@ray.remote(num_cpus=0.01, max_concurrency=4)
class Broker:
    """Relays by reference and answers when all have it."""

    def __init__(self, receivers: list[Any]) -> None:
        self.receivers = receivers

    def relay(self, references: list[Any]) -> int:
        """Hand a message on."""
        calls = [receiver.take.remote(reference) for receiver in self.receivers for reference in references]
        return len(ray.get(calls, timeout=60))


def run() -> list[dict[str, Any]]:
    """All figures."""
    with cluster(24):
        return [*published(10, 200), *published(500_000, LARGE), latency(), inside()]


def federation_of(count: int, isolation: str, schema: Any, **options: Any) -> tuple[red.FederatedBase, Any]:
    """A federation whose nodes talk."""
    group = red.get_resources_split(count if isolation == "process" else 1, count if isolation == "process" else 1)
    config = red.FederationConfig(federation_id=f"talk-{isolation}-{count}")
    return schema(Talker, ["train"] * count, config, isolation=isolation, resources=group, **options), group


def session(federation: red.FederatedBase, first: dict[str, Any], others: dict[str, Any]) -> Any:
    """What the first node's `train` returned."""
    arguments = [first] + [others] * (federation.num_nodes - 1)
    result = federation.train(client_args=arguments)
    assert result is not None and not result.failures, result
    return result.results["client_0"]


def published(size: int, count: int) -> list[dict[str, Any]]:
    """Messages to all neighbours against a broker that relays by reference, and against nothing but large bodies'
    way into the object store, which no library can go below."""
    star = {f"client_{number}": ["client_0"] for number in range(1, NEIGHBORS + 1)}
    star["client_0"] = list(star)
    federation, group = federation_of(NEIGHBORS + 1, "process", red.CustomFederatedLearningSchema, adjacency=star)
    receivers = [Plain.remote() for _ in range(NEIGHBORS)]
    sender, broker = Plain.remote(), Broker.remote(receivers)

    def ours() -> float:
        first = {"what": "publish", "count": count, "size": size}
        return count / session(federation, first, {"what": "count", "count": count})

    def theirs() -> float:
        return count / ray.get(sender.publish.remote(broker, count, size), timeout=120)

    def bare() -> float:
        return count / ray.get(sender.put.remote(count, size), timeout=120)

    large = size > 1000
    ours(), theirs()
    mine, baseline = alternate(ours, theirs, TIMES)
    puts = [bare() for _ in range(TIMES)] if large else []
    federation.close()
    for actor in (*receivers, sender, broker):
        ray.kill(actor)
    ray.util.remove_placement_group(group)
    rate, other = statistics.median(mine), statistics.median(baseline)
    body = f"{size * 8 / 1e6:g} MB" if large else f"{size} floats"
    told = {
        "what": f"publish {body} to {NEIGHBORS} neighbours : a broker actor",
        "figure": f"{rate / other:.1f} × ({rate:,.0f} : {other:,.0f} messages/s)",
        "goal": "≥ 3 ×",
        "reached": rate / other >= 3,
        "ratio": rate / other,
        "ours": mine,
        "baseline": baseline,
    }
    if not large:
        return [told]
    bound = statistics.median(puts)
    of_puts = {
        "what": f"publish {body} to {NEIGHBORS} neighbours : ray.put alone",
        "figure": f"{rate / bound:.2f} × ({rate:,.0f} : {bound:,.0f} messages/s)",
        "goal": "",
        "reached": None,
        "ratio": rate / bound,
        "ours": mine,
        "baseline": puts,
    }
    return [told, of_puts]


def latency() -> dict[str, Any]:
    """One small message between processes against one raw actor call."""
    federation, group = federation_of(2, "process", red.MeshFederatedLearningSchema)
    one, other = Plain.remote(), Plain.remote()

    def ours() -> float:
        return session(federation, {"what": "ping", "count": PINGS}, {"what": "pong", "count": PINGS})

    def theirs() -> float:
        return ray.get(one.call.remote(other, PINGS), timeout=60)

    ours(), theirs()
    mine, baseline = alternate(ours, theirs, TIMES)
    federation.close()
    ray.kill(one), ray.kill(other)
    ray.util.remove_placement_group(group)
    found, raw = statistics.median(mine), statistics.median(baseline)
    return {
        "what": "one small message : one raw actor call",
        "figure": f"{found / raw:.2f} × ({1e3 * found:.2f} : {1e3 * raw:.2f} ms)",
        "goal": "≤ 1.2 ×",
        "reached": found / raw <= 1.2,
        "ratio": found / raw,
        "ours": mine,
        "baseline": baseline,
    }


def inside() -> dict[str, Any]:
    """Messages a second between nodes of one host."""
    star = {f"client_{number}": ["client_0"] for number in range(1, NEIGHBORS + 1)}
    star["client_0"] = list(star)
    federation, group = federation_of(NEIGHBORS + 1, "bundle", red.CustomFederatedLearningSchema, adjacency=star)
    count = INSIDE // NEIGHBORS
    rates = []
    for _ in range(TIMES):
        first = {"what": "publish", "count": count, "size": 10}
        rates.append(NEIGHBORS * count / session(federation, first, {"what": "count", "count": count}))
    federation.close()
    ray.util.remove_placement_group(group)
    rate = statistics.median(rates)
    return {
        "what": "messages between nodes of one host",
        "figure": f"{rate:,.0f} messages/s",
        "goal": "≥ 100,000",
        "reached": rate >= 100_000,
        "ratio": rate / 100_000,
        "ours": rates,
    }
