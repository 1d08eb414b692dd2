from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import ray

import red_tui as red
from tests.cluster.conftest import eventually, named_actors
from tests.cluster.templates import Counting, Small, Troubled, Unbuildable

Reserve = Callable[..., Any]


def test_building_gives_a_named_actor_in_its_bundle_with_the_bundles_cpu(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=2, num_cpus=4)
    node = red.VirtualNode(Counting, "client_1", "train-eval", config)
    assert not node.built and node.handle is None and node.state == "virtual"
    node.build(2, group)
    node.wait_ready(timeout=90)
    try:
        assert node.built and node.bundle_idx == 2 and node.state == "ready"
        found = ray.get_actor(f"{config.federation_id}/client_1", namespace="red")
        assert ray.get(found.pid.remote()) == ray.get(node.handle.pid.remote())
        bundle = f"CPU_group_2_{group.id.hex()}"
        eventually(
            lambda: not any(name.startswith(bundle) for name in ray.available_resources()),
            "all CPU of bundle 2 is the node's",
        )
    finally:
        node.release()


def test_a_node_that_asks_less_than_its_bundle_leaves_the_rest(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=1, num_cpus=2)
    node = red.VirtualNode(Small, "small", "train", config).build(1, group).wait_ready(90)
    try:
        bundle, rest = f"CPU_group_1_{group.id.hex()}", pytest.approx(group.bundle_specs[1]["CPU"] - 0.25, abs=1e-3)
        eventually(lambda: ray.available_resources().get(bundle) == rest, "the rest is free")
    finally:
        node.release()


def test_building_twice_is_refused_and_says_where_it_stands(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    node = red.VirtualNode(Counting, "client_1", "train", config).build(1, group).wait_ready(90)
    try:
        with pytest.raises(red.CommandRefused, match=r"already built \(ready in bundle 1\)"):
            node.build(2, group)
    finally:
        node.release()


def test_two_callers_at_once_give_one_actor(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    node = red.VirtualNode(Counting, "client_1", "train", config)
    refused: list[str] = []
    barrier = threading.Barrier(4)

    def build(bundle: int) -> None:
        barrier.wait(timeout=240)
        try:
            node.build(bundle, group)
        except red.RedError as error:
            refused.append(str(error))

    callers = [threading.Thread(target=build, args=(1 + number % 2,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=90)
    node.wait_ready(90)
    assert len(refused) == 3
    assert named_actors() == [f"{config.federation_id}/client_1"]
    node.release()


def test_state_survives_release_and_rebuild(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=1, num_cpus=1)
    node = red.VirtualNode(Counting, "client_1", "train", config).build(1, group).wait_ready(90)
    ray.get(node.handle.fit.remote({"w": 1.0}, {}))
    before = ray.get(node.handle.pid.remote())
    node.release()
    assert node.state == "released" and node.handle is None
    eventually(lambda: named_actors() == [], "Ray has heard of it")
    node.rebuild().wait_ready(90)
    assert ray.get(node.handle.seen.remote()) == 1
    assert ray.get(node.handle.pid.remote()) != before
    node.release()


def test_a_killed_process_is_noticed_and_built_is_false(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=1, num_cpus=1)
    node = red.VirtualNode(Counting, "client_1", "train", config).build(1, group).wait_ready(90)
    os.kill(ray.get(node.handle.pid.remote()), signal.SIGKILL)
    eventually(lambda: node.state == "failed", "the death is noticed")
    assert not node.built and node.handle is None
    assert node.why.startswith("the process ended without a word: killed by a signal")
    node.rebuild().wait_ready(90)
    node.release()


def test_a_build_that_raises_is_a_build_error_with_its_traceback(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=1, num_cpus=1)
    troubled = config.updated(trouble="build", who="client_1")
    node = red.VirtualNode(Troubled, "client_1", "train", troubled).build(1, group)
    with pytest.raises(red.BuildError, match="no data for this node") as caught:
        node.wait_ready(90)
    assert caught.value.fields["node"] == "client_1"
    assert "OSError" in caught.value.fields["cause"] and "templates.py" in caught.value.fields["cause"]
    assert node.state == "failed"


def test_a_constructor_that_raises_is_a_build_error(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=1, num_cpus=1)
    node = red.VirtualNode(Unbuildable, "client_1", "train", config).build(1, group)
    with pytest.raises(red.BuildError, match="this constructor is broken"):
        node.wait_ready(90)


def test_a_taken_name_says_who_holds_it_and_the_node_stays_virtual(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    first = red.VirtualNode(Counting, "client_1", "train", config).build(1, group).wait_ready(90)
    second = red.VirtualNode(Counting, "client_1", "train", config)
    with pytest.raises(red.NameTaken, match="already taken") as caught:
        second.build(2, group)
    assert caught.value.fields["name"] == f"{config.federation_id}/client_1"
    assert second.state == "virtual" and second.bundle_idx is None
    first.release()


def test_a_node_without_a_group_or_with_a_wrong_bundle_is_refused(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=1, num_cpus=1)
    node = red.VirtualNode(Counting, "client_1", "train", config)
    with pytest.raises(red.CommandRefused, match="placement group"):
        node.build(1)
    with pytest.raises(red.CommandRefused, match="bundles 0 to 1"):
        node.build(5, group)
    assert node.state == "virtual"
