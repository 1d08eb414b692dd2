"""Hierarchical federations on a real cluster: levels of stars, in rounds and in sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import red_tui as red
from tests.cluster.conftest import eventually, named_actors
from tests.cluster.hierarchy_nodes import Faulty, Middle, Mortal, Root, Teller, Uneven
from tests.cluster.templates import Counting

Reserve = Callable[..., Any]
ISOLATIONS = ("process", "bundle")
GROUPS = {"north": ["client_0", "client_1", "client_2"], "south": ["client_[3-9]"]}


class Progressive(red.HierarchicalFederatedLearningSchema):
    def should_participate(self, node: red.VirtualNode) -> bool:
        return node.built


class Even(red.HierarchicalFederatedLearningSchema):
    def should_participate(self, node: red.VirtualNode) -> bool:
        return int(node.id.rpartition("_")[2]) % 2 == 0


def tree(
    config: red.FederationConfig, group: Any, isolation: str, count: int = 6, template: type = Uneven, **options: Any
) -> red.FederatedBase:
    schema = options.pop("schema", red.HierarchicalFederatedLearningSchema)
    if schema is red.HierarchicalFederatedLearningSchema and "groups" not in options:
        options.setdefault("levels", [3])
    made: red.FederatedBase = schema(
        template, ["train"] * count, config, resources=group, isolation=isolation, **options
    )
    return made


@pytest.mark.parametrize(
    ("strategy", "shape"),
    [("fedavg", {"levels": [3]}), ("fedadam", {"levels": [2, 2]}), ("fedavgm", {"groups": GROUPS})],
    ids=["levels", "two-levels", "groups"],
)
def test_a_hierarchy_gives_the_parameters_of_the_flat_star(
    reserve: Reserve, config: red.FederationConfig, strategy: str, shape: dict[str, Any]
) -> None:
    made = []
    # A star gives the same in either isolation (test_hosts), and needs the fewest processes in hosts.
    for name, isolation, options in (
        ("star", "bundle", {"schema": red.StarFederatedLearningSchema}),
        ("tree-of-processes", "process", shape),
        ("tree-of-hosts", "bundle", shape),
    ):
        named = config.updated(federation_id=f"{config.federation_id}-{name}")
        group = reserve(num_nodes=12 if isolation == "process" else 2, num_cpus=3)
        with tree(named, group, isolation, strategy=strategy, **options) as federation:
            history = federation.run(3)
            made.append((federation.parameters(), history.rounds[-1]))
    (star, flat), *trees = made
    for layered, round_of_tree in trees:
        for name, value in star.items():
            assert layered[name].dtype == value.dtype
            np.testing.assert_allclose(layered[name], value, rtol=1e-6, atol=1e-6 * max(1, np.abs(value).max()))
        assert list(round_of_tree.participants) == list(flat.participants) and not round_of_tree.failures
        assert round_of_tree.num_examples == flat.num_examples
        assert round_of_tree.train_metrics == pytest.approx(flat.train_metrics)


def test_aggregators_are_nodes_with_a_role_of_their_own_and_stay(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    with tree(config, reserve(num_nodes=2, num_cpus=1), "bundle", 5, Counting, levels=[2]) as federation:
        assert federation.select("role:aggregator").ids == ["edge_0", "edge_1"] and federation.num_nodes == 7
        assert federation.select("role:train").ids == [f"client_{place}" for place in range(5)]
        assert federation["client_4"].config.num_nodes == 5 and federation["client_4"].config.node_index == 4
        assert federation.topology.neighbors("server") == ("edge_0", "edge_1")
        assert federation.topology.neighbors("edge_1") == ("server", "client_3", "client_4")
        assert federation.topology.neighbors("client_0") == ("edge_0",)
        assert "cannot be without it" in federation.remove_nodes("edge_0").refused["edge_0"]
        with pytest.raises(ValueError, match="the role aggregator is that of a hierarchy"):
            federation.add_nodes(role="train-aggregator")
        # Who joins and who leaves keeps the rule; positions count clients only.
        federation.add_nodes(count=3)
        assert federation["client_7"].config.node_index == 7
        federation.remove_nodes(["client_0", "client_1"])
        assert [len(federation.topology.neighbors(f"edge_{place}")) - 1 for place in range(2)] == [3, 3]
        assert len(federation.run_round().participants) == 6
        assert federation.parameters()["w"].tolist() == [1.0] * 8


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_group_whose_aggregator_dies_counts_once(
    reserve: Reserve, config: red.FederationConfig, tmp_path: Path, isolation: str
) -> None:
    (tmp_path / "deaths").write_text("x")
    config = config.updated(deaths=str(tmp_path / "deaths"))
    group = reserve(num_nodes=8 if isolation == "process" else 2, num_cpus=2)
    options = {"levels": [2], "aggregator_template": Mortal}
    with tree(config, group, isolation, 6, Uneven, **options) as federation:
        result = federation.run_round()
        whole = federation.parameters()
        assert not result.failures and len(result.participants) == 6
    expected = mean_of_round_one(range(6))
    np.testing.assert_allclose(whole["w"], expected, rtol=1e-6, atol=1e-6)


def mean_of_round_one(numbers: Any) -> Any:
    draws = [(number, np.random.default_rng([number, 1]).normal(size=50).astype(np.float32)) for number in numbers]
    return sum(number * drawn for number, drawn in draws) / sum(number for number, _ in draws)


def test_a_group_whose_aggregator_dies_again_does_not_count_and_is_back_in_the_next_round(
    reserve: Reserve, config: red.FederationConfig, tmp_path: Path
) -> None:
    (tmp_path / "deaths").write_text("xx")
    config = config.updated(deaths=str(tmp_path / "deaths"))
    options = {"levels": [2], "aggregator_template": Mortal}
    with tree(config, reserve(num_nodes=8, num_cpus=2), "process", 6, Uneven, **options) as federation:
        result = federation.run_round()
        assert list(result.participants) == ["client_0", "client_1", "client_2"]
        assert set(result.failures) == {"client_3", "client_4", "client_5"}
        assert all(
            "its aggregator edge_1 died" in why and "killed by a signal" in why for why in result.failures.values()
        )
        np.testing.assert_allclose(federation.parameters()["w"], mean_of_round_one(range(3)), rtol=1e-6, atol=1e-6)
        assert not federation.run_round().failures
        assert str(federation["edge_1"].state) == "ready"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_an_aggregator_that_does_wrong_is_named_and_its_group_does_not_count_nor_a_round_of_too_few_groups(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    group = reserve(num_nodes=9 if isolation == "process" else 2, num_cpus=2)
    options = {"levels": [3], "aggregator_template": Faulty, "settings": red.RoundSettings(min_results=2)}
    with tree(config, group, isolation, 6, Counting, **options) as federation:
        result = federation.run_round()
        assert list(result.participants) == ["client_0", "client_1"]
        raised = "could not add its group up: passes_on raised ValueError: "
        assert result.failures["client_2"].endswith(f"edge_1 {raised}no noise left")
        assert f"edge_2 {raised}passes_on gave other" in result.failures["client_5"]
        assert str(federation["edge_1"].state) == "ready" and "no noise left" in federation["edge_1"].last_error
        assert federation.run_round().failures == result.failures
        federation.set_round(min_results=red.RoundSettings().min_results)
        with pytest.raises(red.RoundError, match="2 of at least 3 nodes were added up"):
            federation.run_round()


def test_more_nodes_than_bundles_take_turns_and_their_aggregators_too(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    with tree(config, reserve(num_nodes=2, num_cpus=1), "process", 4, Counting, levels=[2]) as federation:
        history = federation.run(2)
        assert [len(result.participants) for result in history.rounds] == [4, 4]
        assert federation.parameters()["w"].tolist() == [2.0] * 8


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_only_who_should_takes_part(reserve: Reserve, config: red.FederationConfig, isolation: str) -> None:
    group = reserve(num_nodes=9 if isolation == "process" else 2, num_cpus=2)
    options = {"schema": Even, "levels": [3], "aggregator_template": Middle, "server_template": Root}
    with tree(config, group, isolation, 6, Counting, **options) as federation:
        assert list(federation.run_round().participants) == ["client_0", "client_2", "client_4"]
        assert federation.select("state:virtual").ids == ["client_1", "client_3", "client_5"]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_waves_build_a_hierarchy_one_after_another(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    group = reserve(num_nodes=8 if isolation == "process" else 2, num_cpus=2)
    options = {"schema": Progressive, "levels": [2]}
    with tree(config, group, isolation, 6, Counting, **options) as federation:
        taking_part: list[int] = []
        federation.build("client_0")
        # A client of its own bundle lives; its aggregator and the server come with the round.
        assert federation.plan_round().processes == (2 if isolation == "process" else 1)
        federation.release("client_0")
        for wave in federation.waves(count=3):
            federation.build(wave)
            taking_part.append(len(federation.run_round().participants))
        assert (
            not federation.select("state:virtual")
            and taking_part == [2, 4, 6]
            and federation.parameters()["w"].tolist() == [3.0] * 8
        )


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_session_goes_up_and_down_the_tree(reserve: Reserve, config: red.FederationConfig, isolation: str) -> None:
    group = reserve(num_nodes=12 if isolation == "process" else 2, num_cpus=2)
    options = {"levels": [2, 2], "aggregator_template": Middle, "server_template": Root}
    with tree(config, group, isolation, 5, Teller, **options) as federation:
        result = federation.train(server_args={"more": 100})
        assert result is not None and not result.failures
        assert result.results["server"] == ["edge_0", "edge_1"]
        assert result.results["edge_1"] == ["server", "edge_1_0", "edge_1_1"]
        assert result.results["edge_0_0"] == ["edge_0", "client_0", "client_1"]
        assert result.results["client_4"] == (110, ["edge_1_1"])
        with pytest.raises(red.SessionError, match="'edge_7', which takes no part"):
            federation.train(client_args={"client_0": {}, "edge_7": {}})


def test_groups_change_at_run_time_and_other_shapes_leave_aggregators_out(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    with tree(config, reserve(num_nodes=2, num_cpus=1), "bundle", 6, Counting, groups=GROUPS) as federation:
        federation.run_round()
        federation.set_topology("hierarchical", groups={"north": ["client_5"], "south": ["client_[0-4]"]})
        assert federation.topology.neighbors("north") == ("server", "client_5")
        federation.run_round()
        with pytest.raises(red.TopologyError, match="this federation has no aggregator 'edge_0'"):
            federation.set_topology("hierarchical", levels=[2])
        with pytest.raises(red.TopologyError, match="'client_0' is in no group"):
            federation.set_topology("hierarchical", groups={"north": ["client_5"], "south": ["client_[1-4]"]})
        federation.set_topology("ring")
        assert federation.topology.neighbors("client_0") == ("client_1", "client_5")
        assert len(federation.run_round().participants) == 6
        federation.set_topology("star")
        assert federation.topology.neighbors("server") == tuple(f"client_{place}" for place in range(6))
        federation.run_round()
        assert federation.parameters()["w"].tolist() == [4.0] * 8


def test_what_a_hierarchy_cannot_be_is_said_at_once(config: red.FederationConfig) -> None:
    made = red.HierarchicalFederatedLearningSchema
    for options, error, words in (
        ({}, red.TopologyError, "levels, such as"),
        ({"levels": [2], "groups": GROUPS}, red.TopologyError, "one of the two"),
        ({"levels": [0]}, red.TopologyError, "at least 1, not 0"),
        ({"levels": [9]}, red.TopologyError, "9 groups for 4 nodes"),
        ({"levels": [2], "strategy": "median"}, ValueError, "strategy 'median' with the server"),
        ({"levels": [2], "aggregator_template": Counting}, TypeError, "must derive from red_tui.FederatedAggregator"),
        ({"levels": [2], "ids": ["a", "b", "c", "edge_0"]}, ValueError, "edge_0"),
        ({"groups": {"a": ["client_*"], "b": ["client_3"]}}, red.TopologyError, "'client_3' is in group 'b' and in"),
        ({"groups": {"a": ["client_*", "clint_9"]}}, red.TopologyError, "'clint_9', which is no node"),
        ({"groups": {"a": ["node_*"]}}, red.TopologyError, "matches no node"),
    ):
        with pytest.raises(error, match=words):
            made(Counting, ["train"] * 4, config, **options)


def test_nobody_is_left(reserve: Reserve, config: red.FederationConfig) -> None:
    federation = tree(config, reserve(num_nodes=6, num_cpus=1), "process", 4, Counting, levels=[2])
    federation.run_round()
    assert f"{config.federation_id}/edge_1" in named_actors()
    federation.close()
    eventually(lambda: named_actors() == [], "the aggregators have ended too")


def test_digits_at_the_edge_learn_as_well_as_in_a_star(cluster: None) -> None:
    with red.Federation.from_layout("edge") as federation:
        last = federation.run(10).rounds[-1]
        assert last.metrics["accuracy"] >= 0.9 and len(last.participants) == 12
        assert federation.select("role:aggregator state:ready").ids == ["edge_0", "edge_1", "edge_2"]
