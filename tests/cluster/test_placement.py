from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

import red_tui as red
from red_tui.placement.groups import create_groups
from tests.cluster.conftest import CPUS, eventually, free_cpus, living_groups
from tests.cluster.templates import Counting

Reserve = Callable[..., Any]


@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK"])
@pytest.mark.parametrize("split", ["uniform", "random"])
def test_a_split_is_reserved_whole_and_never_exceeds_what_was_asked(
    reserve: Reserve, split: str, strategy: str
) -> None:
    group = reserve(5, 4, split_strategy=split, placement_strategy=strategy, seed=1)
    bundles = group.bundle_specs
    assert len(bundles) == 6
    assert sum(bundle["CPU"] for bundle in bundles) <= 4 + 1e-9
    assert all(bundle["CPU"] > 0 for bundle in bundles)
    left = CPUS - sum(bundle["CPU"] for bundle in bundles)
    eventually(lambda: free_cpus() <= left + 1e-3, "it is taken in Ray's account")


def test_custom_resources_are_split_too(reserve: Reserve) -> None:
    group = reserve(2, 2, resources={"disk": 4})
    assert [bundle.get("disk", 0) for bundle in group.bundle_specs] == [0, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"num_nodes": 2, "num_cpus": CPUS + 1}, "too little CPU"),
        ({"num_nodes": 2, "num_cpus": 2, "num_gpus": 8}, "no host has that much"),
        ({"num_nodes": 4, "num_cpus": 14, "placement_strategy": "STRICT_PACK"}, "on one host"),
        ({"num_nodes": 2, "num_cpus": 2, "placement_strategy": "STRICT_SPREAD"}, "STRICT_SPREAD"),
        ({"num_nodes": 2, "num_cpus": 2, "placement_strategy": "SCATTER"}, "placement_strategy must be"),
        ({"num_nodes": 2, "num_cpus": 2, "split_strategy": "fair"}, "split_strategy must be"),
        ({"num_nodes": 0, "num_cpus": 2}, "num_nodes must be"),
        ({"num_nodes": 2, "num_cpus": 0}, "above 0"),
    ],
)
def test_what_can_never_fit_is_refused_before_anything_is_created(
    cluster: None, arguments: dict[str, Any], what: str
) -> None:
    with pytest.raises(red.PlacementError, match=what):
        red.get_resources_split(**arguments)
    assert living_groups() == []


def test_what_is_busy_is_given_up_at_the_deadline_with_the_reason_and_nothing_stays(reserve: Reserve) -> None:
    reserve(7, CPUS - 2)
    eventually(lambda: free_cpus() < 3, "it is taken in Ray's account")
    with pytest.raises(red.PlacementError, match=r"busy: CPU 4 asked, 2\.\d+ of 16 free") as caught:
        create_groups([{"CPU": 2.0}, {"CPU": 2.0}], "PACK", timeout=0.5)
    assert caught.value.fields["asked"] == {"CPU": 4.0}
    assert len(living_groups()) == 1, "only the group that makes it busy"


def test_as_many_nodes_as_cpus_do_not_pend_for_ever(cluster: None, config: red.FederationConfig) -> None:
    with red.StarFederatedLearningSchema(Counting, ["train"] * CPUS, config) as federation:
        assert len(federation.resources) == CPUS + 1
        report = federation.build(federation.select(federation.node_ids[:2]))
        assert len(report.built) == 2


def test_a_plan_says_who_goes_where_and_builds_nothing(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(2, 2)
    with red.StarFederatedLearningSchema(Counting, ["train"] * 3, config, resources=group) as federation:
        plan = federation.plan(federation.nodes)
        assert [(placed.node_id, placed.bundle_idx) for placed in plan.placed] == [("client_0", 1), ("client_1", 2)]
        assert [left.node_id for left in plan.left_out] == ["client_2"]
        assert "2 of 2 are in use" in plan.left_out[0].why
        assert "client_2" in str(plan) and "bundle 1" in str(plan)
        assert not any(node.built for node in federation.nodes)
        report = federation.build(plan)
        assert report.built == ("client_0", "client_1") and "client_2" in report.left_out


def test_a_plan_that_is_stale_is_not_carried_out_blindly(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(1, 1)
    with red.StarFederatedLearningSchema(Counting, ["train"] * 2, config, resources=group) as federation:
        plan = federation.plan("id:client_0")
        federation.build("id:client_1")
        with pytest.raises(red.CommandRefused, match="has been taken since the plan was made"):
            federation.build(plan)
        assert federation["client_0"].state == "virtual"


def test_spread_nodes_name_the_hosts_on_which_ray_has_really_put_them(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(6, 6, placement_strategy="SPREAD")
    hosts = {node["NodeID"]: "head" for node in ray.nodes() if "node:__internal_head__" in node["Resources"]}
    with red.StarFederatedLearningSchema(Counting, ["train"] * 6, config, resources=group) as federation:
        federation.build(federation.nodes)
        said = {node.id: federation.describe_node(node.id)["host"] for node in federation.nodes}
        where = {node.id: ray.get(node.handle.host.remote()) for node in federation.nodes}
        real = {name: hosts.get(host_id, f"worker-{host_id[:4]}") for name, host_id in where.items()}
        assert said == real and len(set(said.values())) == 2


def test_a_nodes_bundle_gives_it_its_gpu(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(2, 2, 2)
    with red.StarFederatedLearningSchema(Counting, ["train"] * 2, config, resources=group) as federation:
        federation.build(federation.nodes)
        seen = [ray.get(node.handle.gpus.remote()) for node in federation.nodes]
        assert sorted(seen) == [[0], [1]]
        assert ray.get(federation.nodes[0].handle.host.remote()) not in ("", None)


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_nodes_see_the_devices_of_their_shares_and_none_without_one(
    isolation: str, cluster: None, config: red.FederationConfig, tmp_path: Path
) -> None:
    layout = tmp_path / "shares.yaml"
    layout.write_text(
        f"federation: {config.federation_id}\ntemplate: tests.cluster.templates:Counting\n"
        "nodes: [{count: 4, role: train}]\n"
        f"placement: {{isolation: {isolation}, bundles: [{{count: 2, gpu: 0.5}}, {{gpu: 0.25}}, {{cpu: 1}}]}}\n"
    )
    with red.Federation.from_layout(layout, working_dir=Path.cwd()) as federation:
        federation.build(federation.nodes)
        shown = {bundle["idx"]: bundle["gpu"] for bundle in federation.feed.snapshot()["bundles"]}
        assert sorted(shown.values()) == [0.0, 0.0, 0.25, 0.5, 0.5]
        held: dict[str, float] = {}
        for node in federation.nodes:
            share = shown[federation.describe_node(node.id)["bundle"]]
            granted, visible = ray.get([node.handle.gpus.remote(), node.handle.visible_gpus.remote()])
            assert len(granted) == (1 if share else 0) and visible == [str(name) for name in granted]
            for name in visible:
                held[name] = held.get(name, 0.0) + share
        assert sum(held.values()) == 1.25 and max(held.values()) <= 1


def test_a_pool_of_its_own_is_reserved_at_the_first_build_and_not_before(
    cluster: None, config: red.FederationConfig
) -> None:
    with red.StarFederatedLearningSchema(Counting, ["train"], config) as federation:
        assert federation.plan(federation.nodes).reserves and living_groups() == []
        federation.build(federation.nodes)
        assert len(living_groups()) == 1
        federation.release(federation.nodes)
        assert federation.plan(federation.nodes).placed[0].host.startswith(("head", "worker-"))


def test_tune_gets_a_factory_or_hears_what_is_missing(cluster: None) -> None:
    try:
        factory = red.get_resources_split(2, 2, is_tune=True)
    except red.PlacementError as error:
        assert "ray[tune]" in error.message
    else:
        assert len(factory.bundles) == 3
