"""The patterns that people want virtual nodes for, one test each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray.util import remove_placement_group
from ray.util.placement_group import placement_group

import red_tui as red
from tests.cluster.conftest import CPUS, eventually, free_cpus, named_actors
from tests.cluster.templates import Counting, Shared, Troubled


class SelectiveSchema(red.StarFederatedLearningSchema):
    """Only nodes with an even number take part."""

    def should_participate(self, node: red.VirtualNode) -> bool:
        return int(node.id.rpartition("_")[2]) % 2 == 0


Reserve = Callable[..., Any]


def star(config: red.FederationConfig, roles: list[str], **options: Any) -> red.FederatedBase:
    return red.StarFederatedLearningSchema(options.pop("template", Counting), roles, config, **options)


def test_lazy_actors_touch_no_resource_until_they_are_built(cluster: None, config: red.FederationConfig) -> None:
    nodes = [red.VirtualNode(Counting, f"client_{number}", "train", config) for number in range(1000)]
    assert not any(node.built for node in nodes)
    assert named_actors() == [] and free_cpus() == CPUS


def test_a_large_pool_with_a_few_active_uses_the_resources_of_those(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=7, num_cpus=7)
    with star(config, ["train"] * 100, resources=group) as federation:
        chosen = federation.select(lambda node: int(node.id.rpartition("_")[2]) % 15 == 0)
        report = federation.build(chosen)
        assert len(report.built) == 7
        assert sorted(node.bundle_idx for node in chosen) == [1, 2, 3, 4, 5, 6, 7]
        assert named_actors() == sorted(f"{config.federation_id}/{name}" for name in chosen.ids)
        assert sum(node.built for node in federation.nodes) == 7


def test_a_federation_exists_at_once_and_actors_come_with_the_first_round(
    cluster: None, config: red.FederationConfig
) -> None:
    with star(config, ["train"] * 4, resources="uniform") as federation:
        assert named_actors() == [] and free_cpus() == CPUS
        federation.run_round()
        assert named_actors() == sorted(f"{config.federation_id}/{name}" for name in [*federation.node_ids, "server"])


def test_a_round_builds_only_what_it_needs_and_is_not_built(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=4, num_cpus=4)
    with star(config, ["train", "train", "test", "eval"], resources=group) as federation:
        federation.build("id:client_0")
        first = ray.get(federation["client_0"].handle.pid.remote())
        federation.run_round()
        assert federation["client_2"].state == "virtual", "the role test takes no part in rounds"
        assert federation["client_3"].built, "the role eval judges"
        assert ray.get(federation["client_0"].handle.pid.remote()) == first


def test_conditional_participation_is_decided_anew_and_only_the_eligible_are_built(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=4, num_cpus=4)
    with SelectiveSchema(Counting, ["train"] * 4, config, resources=group) as federation:
        assert federation.run_round().participants == ("client_0", "client_2")
        assert federation["client_1"].state == "virtual"


def test_progressive_waves_leave_nobody_out_and_each_node_has_a_bundle_of_its_own(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=7, num_cpus=5)
    with star(config, ["train"] * 7, resources=group) as federation:
        sizes = []
        for wave in federation.waves(count=3):
            sizes.append(len(federation.build(wave).built))
            assert len(federation.run_round().participants) == 7 if sum(sizes) == 7 else sizes
        assert sizes[0] == 3
        assert sorted(node.bundle_idx for node in federation.nodes) == list(range(1, 8))


def test_waves_split_four_three_three(cluster: None, config: red.FederationConfig) -> None:
    with star(config, ["train"] * 10) as federation:
        waves = list(federation.waves(count=3))
        assert [len(wave) for wave in waves] == [4, 3, 3]
        assert [name for wave in waves for name in wave.ids] == federation.node_ids
        assert [len(wave) for wave in federation.waves(size=4)] == [4, 4, 2]


def test_resource_aware_building_stops_at_the_first_that_does_not_fit_and_says_who(
    cluster: None, config: red.FederationConfig
) -> None:
    group = placement_group([{"CPU": 0.1}, {"CPU": 1}, {"CPU": 3}, {"CPU": 1}])
    ray.get(group.ready(), timeout=240)
    try:
        with star(config, ["train"] * 3, resources=group) as federation:
            report = federation.build_within(federation.nodes, available={"CPU": 2})
            assert report.built == ("client_0",)
            assert list(report.left_out) == ["client_1", "client_2"]
            assert "CPU 3" in report.left_out["client_1"] and "CPU 1" in report.left_out["client_1"]
            assert "stopped at client_1" in report.left_out["client_2"]
    finally:
        remove_placement_group(group)


def test_resource_aware_building_can_go_on_with_smaller_ones(cluster: None, config: red.FederationConfig) -> None:
    group = placement_group([{"CPU": 0.1}, {"CPU": 1}, {"CPU": 3}, {"CPU": 1}])
    ray.get(group.ready(), timeout=240)
    try:
        with star(config, ["train"] * 3, resources=group) as federation:
            federation.build("id:client_0")
            plan = federation.plan(["client_1", "client_2"], available={"CPU": 1}, skip_large=True)
            assert [left.node_id for left in plan.left_out][:1] == ["client_1"]
    finally:
        remove_placement_group(group)


def test_a_build_that_fails_is_a_value_and_the_others_are_built(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=3, num_cpus=3)
    troubled = config.updated(trouble="build", who="client_1")
    with star(troubled, ["train"] * 3, resources=group, template=Troubled) as federation:
        report = federation.build(federation.nodes)
        assert report.built == ("client_0", "client_2")
        assert "no data for this node" in report.failed["client_1"].why
        assert "Traceback" in report.failed["client_1"].traceback
        eventually(
            lambda: named_actors() == [f"{config.federation_id}/client_0", f"{config.federation_id}/client_2"],
            "nothing is left half made",
        )


def test_many_roles_are_matched_whole(cluster: None, config: red.FederationConfig) -> None:
    roles = ["train", "train-eval", "train-eval-test", "pretrain", "eval"]
    with star(config, roles) as federation:
        assert federation.select("role:train").ids == ["client_0", "client_1", "client_2"]
        assert federation.select("role:eval").ids == ["client_1", "client_2", "client_4"]
        assert "train" not in federation["client_3"].role


def test_a_light_template_is_starting_while_it_builds(
    reserve: Reserve, config: red.FederationConfig, tmp_path: Any
) -> None:
    group = reserve(num_nodes=1, num_cpus=1)
    gate = tmp_path / "gate"
    slow = config.updated(trouble="slow-build", who="client_0", gate=str(gate))
    with star(slow, ["train"], resources=group, template=Troubled) as federation:
        report = federation.build(federation.nodes, wait=False)
        assert report.waiting == ("client_0",)
        eventually(lambda: federation["client_0"].state == "starting", "the process is up and builds")
        with pytest.raises(red.BuildError, match="still starting"):
            federation["client_0"].wait_ready(timeout=0.05)
        gate.touch()
        federation["client_0"].wait_ready(timeout=90)


def test_a_failed_node_is_replaced_under_its_name_with_its_last_state(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    with star(config, ["train"] * 2, resources=group) as federation:
        federation.run(3)
        node = federation["client_1"]
        ray.kill(node.handle)
        eventually(lambda: node.state == "failed", "the death is noticed")
        report = federation.rebuild()
        assert report.built == ("client_1",) and node.bundle_idx == 2
        assert ray.get(node.handle.seen.remote()) == 3, "its last state came back"
        assert len(federation.run_round().participants) == 2


def test_a_failure_policy_rebuilds_by_itself(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=1, num_cpus=1)
    policy = red.FailurePolicy("rebuild", max_rebuilds=1, backoff=0.01)
    with star(config, ["train"], resources=group, failure=policy) as federation:
        federation.build(federation.nodes)
        node = federation["client_0"]
        first = node.handle
        ray.kill(first)
        eventually(lambda: node.state == "ready" and node.handle is not first, "it is rebuilt")
        ray.kill(node.handle)
        eventually(lambda: node.state == "failed", "no more than max_rebuilds")


def test_planned_capacity_waves_rotate_through_a_group_smaller_than_the_federation(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=3, num_cpus=3)
    with star(config, ["train"] * 7 + ["train-eval"], resources=group) as federation:
        history = federation.run(2)
        assert all(set(result.participants) == set(federation.node_ids) for result in history)
        assert all(not result.failures and result.evaluated == 1 for result in history)
        assert (federation.parameters()["w"] == 2).all()
        assert sum(node.built for node in federation.nodes) <= 3
        federation.release("state:ready")
        federation.build("id:client_0")
        assert ray.get(federation["client_0"].handle.seen.remote()) == 2, "its state came back each time"


def test_nodes_join_and_leave_a_running_federation_and_bundles_become_free(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=3, num_cpus=3)
    with star(config, ["train"] * 3, resources=group) as federation:
        federation.run_round()
        added = federation.add_nodes(count=2, role="train")
        assert added.ids == ["client_3", "client_4"] and federation.num_nodes == 5
        assert federation.remove_nodes(["client_0"]).done == ("client_0",)
        assert "client_0" not in federation
        federation.build("id:client_3")
        assert federation["client_3"].bundle_idx == 1
        assert set(federation.run_round().participants) == {"client_1", "client_2", "client_3", "client_4"}


def test_released_nodes_give_their_resources_back_to_the_cluster(
    cluster: None, reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    name = f"CPU_group_1_{group.id.hex()}"
    with star(config, ["train"] * 2, resources=group) as federation:
        federation.build(federation.nodes)
        eventually(lambda: name not in ray.available_resources(), "bundle 1 is taken")
        federation.release("id:client_0")
        eventually(lambda: ray.available_resources().get(name, 0) > 0, "bundle 1 is free in Ray's own accounting")


def test_any_process_of_the_cluster_finds_a_node_by_its_name(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=1, num_cpus=1)

    @ray.remote(num_cpus=1)
    def ask(name: str) -> int:
        return int(ray.get(ray.get_actor(name, namespace="red").pid.remote()))

    with star(config, ["train"], resources=group) as federation:
        federation.build(federation.nodes)
        found = ray.get(ask.remote(f"{config.federation_id}/client_0"), timeout=90)
        assert found == ray.get(federation["client_0"].handle.pid.remote())


def test_two_federations_in_one_group_do_not_touch_each_other(cluster: None, config: red.FederationConfig) -> None:
    group = placement_group([{"CPU": 0.5}] * 6)
    ray.get(group.ready(), timeout=240)
    other = red.FederationConfig(federation_id=f"{config.federation_id}-b")
    try:
        with (
            star(config, ["train"] * 2, resources=group) as first,
            star(other, ["train"] * 2, resources=group, bundle_offset=3) as second,
        ):
            first.run(2)
            second.run(1)
            assert [node.bundle_idx for node in first.nodes] == [1, 2]
            assert [node.bundle_idx for node in second.nodes] == [4, 5]
            assert (first.server.bundle_idx, second.server.bundle_idx) == (0, 3)
            first.close()
            assert len(second.run_round().participants) == 2
    finally:
        remove_placement_group(group)


def test_closing_leaves_no_actor_and_no_group(cluster: None, config: red.FederationConfig) -> None:
    federation = star(config, ["train"] * 2)
    federation.run_round()
    federation.close()
    federation.close()
    with pytest.raises(red.CommandRefused, match="closed"):
        federation.build(federation.nodes)


def test_what_nodes_have_in_common_is_built_once_a_process(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    with star(config, ["train"] * 2, resources=group, template=Shared) as federation:
        federation.build(federation.nodes)
        looks = [ray.get(node.handle.look.remote()) for node in federation.nodes]
        assert [look["built"] for look in looks] == [1, 1]
        assert looks[0]["pid"] != looks[1]["pid"]
