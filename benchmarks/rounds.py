"""A round's control overhead against the raw Ray calls that it needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

import red_tui as red
from benchmarks.measuring import alternate, cluster, ratio, timed

NODES, FLOATS, ROUNDS, TIMES = 8, 1000, 50, 7


class Node(red.FederatedNode):
    """Gives its input back."""

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        return red.FitResult(parameters, 1)


class RawNode:
    """The same without the library."""

    def fit(self, parameters: Any, config: Any) -> tuple[Any, int]:
        return parameters, 1


class RawServer:
    """Averages what it gets."""

    def aggregate(self, weights: list[int], *updates: Any) -> Any:
        total = sum(weights)
        return {
            name: sum(update[name] * weight for update, weight in zip(updates, weights, strict=True)) / total
            for name in updates[0]
        }


def run() -> list[dict[str, Any]]:
    start = {"w": np.zeros(FLOATS, np.float32)}
    with cluster(NODES + 2):
        config = red.FederationConfig(federation_id="bench")
        group = red.get_resources_split(NODES, 1)
        federation = red.StarFederatedLearningSchema(
            Node, ["train"] * NODES, config, resources=group, initial_parameters=start
        )
        federation.run(3)
        nodes = [ray.remote(num_cpus=0.01)(RawNode).remote() for _ in range(NODES)]
        server = ray.remote(num_cpus=0.01)(RawServer).remote()
        parameters = ray.put(start)

        def ours() -> float:
            return timed(lambda: federation.run(ROUNDS)) / ROUNDS

        def raw() -> float:
            def rounds() -> None:
                current = parameters
                for number in range(ROUNDS):
                    pairs = [node.fit.options(num_returns=2).remote(current, {"round": number}) for node in nodes]
                    weights = ray.get([pair[1] for pair in pairs])
                    current = server.aggregate.remote(weights, *(pair[0] for pair in pairs))
                    ray.wait([current])

            return timed(rounds) / ROUNDS

        mine, theirs = alternate(ours, raw, TIMES)
        federation.close()
    return [ratio(f"a round of {NODES} nodes × {FLOATS} floats : the raw calls it needs", mine, theirs, 2.0)]
