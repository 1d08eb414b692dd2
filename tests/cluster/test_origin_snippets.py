"""Snippets that were written for an earlier framework run as they stand."""

from __future__ import annotations

import logging
from typing import Any

import ray

import red_tui as red
from red_tui import VirtualNode
from tests.cluster.templates import Counting


class Constants:
    """A config that has an id only."""

    def __init__(self, federation_id: str) -> None:
        self.FEDERATION_ID = federation_id


def progressive_training(federation: Any, waves: int = 3) -> list[Any]:
    nodes_per_wave = len(federation._nodes) // waves
    results = []
    for wave in range(waves):
        start_idx = wave * nodes_per_wave
        end_idx = (wave + 1) * nodes_per_wave
        for i, node in enumerate(federation._nodes[start_idx:end_idx]):
            if not node.built:
                node.build(i + start_idx, federation._pg)
        results.append(federation.train_wave(wave))
    return results


def test_progressive_building_from_the_first_bundle_on(cluster: None, config: red.FederationConfig) -> None:
    with red.StarFederatedLearningSchema(
        client_template=Counting, roles=["train"] * 6, config=Constants(config.federation_id), log=logging.getLogger()
    ) as federation:
        results = progressive_training(federation)
        assert [sorted(result.participants) for result in results] == [
            ["client_0", "client_1"],
            ["client_2", "client_3"],
            ["client_4", "client_5"],
        ]
        assert [node.bundle_idx for node in federation._nodes] == list(range(6))
        assert federation.parameters()["w"].tolist() == [3.0] * 8


class ConditionalFederation(red.FederatedBase):
    """Builds in its own `train` whom it wants."""

    def should_participate(self, node: VirtualNode) -> bool:
        return node.id != "client_1"

    def train(self, **kwargs: Any) -> Any:
        train_nodes = []
        for i, node in enumerate(self._nodes, start=1 + self._bundle_offset):
            if "train" in node.role and self.should_participate(node):
                if not node.built:
                    node.build(i, self._pg)
                train_nodes.append(node)
        return train_nodes


def test_a_federation_that_builds_in_its_own_train(reserve: Any, config: red.FederationConfig) -> None:
    group = reserve(5, 5)
    with ConditionalFederation(
        Counting, ["train", "train", "train-eval"], config, resources=group, bundle_offset=1
    ) as federation:
        nodes = federation.train()
        assert [(node.id, node.bundle_idx) for node in nodes] == [("client_0", 2), ("client_2", 4)]
        assert federation._bundle_offset == 1 and federation._pg is group
        assert all(node.wait_ready(240).state == "ready" for node in nodes)


def test_virtual_nodes_by_keyword_with_a_config_that_has_an_id_only(reserve: Any, config: red.FederationConfig) -> None:
    placement_group, log = reserve(2, 2), logging.getLogger("origin")
    virtual_nodes = [
        VirtualNode(template=Counting, id=f"client_{i}", role="train", config=Constants(config.federation_id), log=log)
        for i in range(3)
    ]
    for i, node in enumerate(virtual_nodes[:2]):
        node.build(i + 1, placement_group)
    assert [node.built for node in virtual_nodes] == [True, True, False]
    for node in virtual_nodes[:2]:
        node.wait_ready(240)
        assert node.log is log and node.config.FEDERATION_ID == node.fed_id == config.federation_id
        assert ray.get(ray.get_actor(f"{node.fed_id}/{node.id}", namespace="red").seen.remote()) == 0
        node.release()
