"""A wave of 32 process nodes against raw Ray creating 32 named actors in the same placement group."""

from __future__ import annotations

import itertools
import time
from typing import Any

import ray
from ray.util import remove_placement_group
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

import red_tui as red
from benchmarks.measuring import alternate, cluster, ratio, timed

NODES = 32
TIMES = 5
_numbers = itertools.count()


class Node(red.FederatedNode):
    """Does nothing."""


class Plain:
    """The same without the library."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id

    def ready(self) -> str:
        return self.node_id


def idle_processes_are_gone(group: Any) -> None:
    """Both start from the same place: all bundles free."""
    name = f"CPU_group_{group.id.hex()}"
    total = sum(bundle["CPU"] for bundle in group.bundle_specs)
    while abs(ray.available_resources().get(name, 0.0) - total) > 1e-3:
        time.sleep(0.02)


def run() -> list[dict[str, Any]]:
    with cluster(NODES + 2):
        group = placement_group([{"CPU": 1}] * (NODES + 1))
        ray.get(group.ready(), timeout=60)

        def ours() -> float:
            idle_processes_are_gone(group)
            config = red.FederationConfig(federation_id=f"bench-{next(_numbers)}")
            with red.StarFederatedLearningSchema(Node, ["train"] * NODES, config, resources=group) as federation:
                seconds = timed(lambda: federation.build(federation.nodes))
                assert all(node.state == "ready" for node in federation.nodes)
            return seconds

        def raw() -> float:
            idle_processes_are_gone(group)
            number = next(_numbers)
            actors = []

            def build() -> None:
                for index in range(NODES):
                    strategy = PlacementGroupSchedulingStrategy(group, index + 1)
                    actors.append(
                        ray.remote(Plain)
                        .options(
                            num_cpus=1, name=f"raw-{number}/{index}", namespace="red", scheduling_strategy=strategy
                        )
                        .remote(str(index))
                    )
                ray.get([actor.ready.remote() for actor in actors])

            seconds = timed(build)
            for actor in actors:
                ray.kill(actor)
            return seconds

        mine, theirs = alternate(ours, raw, TIMES)
        remove_placement_group(group)
    return [ratio(f"build a wave of {NODES} process nodes : raw named actors", mine, theirs, 1.05)]
