"""Where one thing can be said in two ways, the two are equal or refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import red_tui as red
from red_tui.aggregation.strategies import Median, TrimmedMean
from red_tui.federation.argument_checks import overrides_strategy, settings_of
from red_tui.federation.schemas import spec_of
from red_tui.layout import loads


class Client(red.FederatedNode):
    """Does nothing."""


class OwnServer(red.FederatedServer):
    """Aggregates without its strategy."""

    def aggregate(self, round_number: int, current: Any, *rest: Any) -> Any:
        return current


class AskingServer(red.FederatedServer):
    """Aggregates with its strategy."""

    def aggregate(self, *arguments: Any) -> Any:
        return {name: value * 1 for name, value in super().aggregate(*arguments).items()}


class Group:
    """Looks like a placement group of Ray."""

    bundle_specs = ({"CPU": 1.0},) * 5


def star(**arguments: Any) -> red.StarFederatedLearningSchema:
    return red.StarFederatedLearningSchema(Client, ["train"] * 2, **arguments)


def settings(**values: Any) -> red.RoundSettings:
    return red.RoundSettings(**values)


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        ({}, {"name": "fedavg"}),
        ({"strategy": "median"}, {"name": "median"}),
        ({"strategy": {"name": "trimmed-mean", "trim": 0.2}}, {"name": "trimmed-mean", "trim": 0.2}),
        ({"strategy": TrimmedMean(0.2)}, {"name": "trimmed-mean", "trim": 0.2}),
        ({"settings": settings(strategy={"name": "median"})}, {"name": "median"}),
        ({"settings": settings(strategy="median")}, {"name": "median"}),
        ({"settings": settings(strategy=Median())}, {"name": "median"}),
        ({"settings": {"strategy": "median", "fraction": 0.5}}, {"name": "median"}),
        ({"settings": settings(fraction=0.5), "strategy": "median"}, {"name": "median"}),
        ({"settings": settings(strategy="median"), "strategy": Median()}, {"name": "median"}),
        ({"settings": settings(strategy="fedavg"), "strategy": "fedavg"}, {"name": "fedavg"}),
    ],
)
def test_the_strategy_that_was_named_runs_wherever_it_was_named(
    arguments: dict[str, Any], runs: dict[str, Any]
) -> None:
    made = settings_of(arguments.get("settings"), arguments.get("strategy"))
    assert made.choice == runs and type(made.strategy) is dict
    with star(**arguments) as federation:
        assert federation["server"].config.strategy == runs


def test_other_settings_stay_beside_a_strategy_that_is_named_apart() -> None:
    given = settings(fraction=0.5, deadline=None, min_results=3, seed=7, evaluate_every=2, build_timeout=9)
    made = settings_of(given, "krum")
    assert {**made.__dict__, "strategy": None} == {**given.__dict__, "strategy": None}


def in_constructor(**arguments: Any) -> Callable[[], Any]:
    return lambda: star(**arguments)


@pytest.mark.parametrize(
    ("say", "told"),
    [
        (in_constructor(strategy="krum", settings=settings(strategy="median")), "name the strategy in one place"),
        (in_constructor(strategy="fedavg", settings=settings(strategy="median")), "name the strategy in one place"),
        (in_constructor(strategy="median", settings=settings(strategy="fedavg")), "name the strategy in one place"),
        (in_constructor(strategy="median", server_template=OwnServer), "OwnServer.aggregate does not ask it"),
        (in_constructor(nodes_per_bundle=4), "nodes_per_bundle is for isolation='bundle'"),
        (in_constructor(concurrency=4), "concurrency is for isolation='bundle'"),
        (in_constructor(bundle_offset=1), "pass the group as resources="),
        (in_constructor(resources="random", bundle_offset=1), "pass the group as resources="),
        (in_constructor(resources="uniform", is_tune=True), "pass one of the two"),
        (in_constructor(resources=Group(), is_tune=True), "pass one of the two"),
        (in_constructor(ids=["a", "b", "c"]), "3 ids and 2 roles"),
        (in_constructor(config={"num_nodes": 5}), "'num_nodes' is told to the nodes by the federation"),
        (in_constructor(config={"node_index": 5}), "'node_index' is told to the nodes by the federation"),
        (in_constructor(config={"strategy": "median"}), "'strategy' is told to the nodes by the federation"),
        (in_constructor(config={"round": 5}), "'round' is told to the nodes by the federation"),
        (lambda: red.FederationConfig(federation_id="a", FEDERATION_ID="b"), "both name the federation"),
        (lambda: red.FederationConfig().updated(federation_id="a", FEDERATION_ID="b"), "both name the federation"),
    ],
)
def test_two_ways_that_differ_are_refused(say: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        say()


@pytest.mark.parametrize(
    "arguments",
    [
        {"isolation": "bundle", "nodes_per_bundle": 4, "concurrency": 2},
        {"resources": Group(), "bundle_offset": 1},
        {"resources": Group()},
        {"is_tune": True},
        {"strategy": "median", "server_template": AskingServer},
        {"server_template": OwnServer},
        {"config": red.FederationConfig(federation_id="a", FEDERATION_ID="a")},
    ],
)
def test_two_ways_that_agree_are_taken(arguments: dict[str, Any]) -> None:
    star(**arguments).close()


def test_a_server_that_reaches_its_strategy_is_told_from_one_that_does_not() -> None:
    assert overrides_strategy(OwnServer)
    assert not overrides_strategy(AskingServer)
    assert not overrides_strategy(red.FederatedServer)


def test_the_federation_id_is_one_under_both_its_names() -> None:
    both = red.FederationConfig(federation_id="a", FEDERATION_ID="a")
    assert both.federation_id == both.FEDERATION_ID == both.get("FEDERATION_ID") == "a"
    assert both.as_dict() == {"federation_id": "a"}
    assert both.updated(FEDERATION_ID="b").federation_id == "b"


def test_a_node_has_one_id_whatever_the_argument_is_called() -> None:
    by_id = red.VirtualNode(Client, id="client_1", role="train", config={"federation_id": "f"})
    assert (by_id.id, by_id.role, by_id.fed_id, by_id.log) == ("client_1", "train", "f", None)
    assert red.VirtualNode(Client, "client_1", "train", id="client_1").id == "client_1"
    with pytest.raises(ValueError, match="both name the node"):
        red.VirtualNode(Client, "client_1", "train", id="client_2")
    with pytest.raises(TypeError, match="a node has an id and a role"):
        red.VirtualNode(Client, role="train")


def test_names_of_earlier_frameworks_stand_for_what_there_is() -> None:
    from red_tui.aggregation import strategies
    from red_tui.messaging.topology_actor import TopologyDirectory

    assert red.TopologyManager is TopologyDirectory
    assert red.strategies is strategies and red.Strategy is strategies.Strategy
    assert isinstance(red.strategies.Median(), red.Strategy)
    with star() as federation:
        assert [node.id for node in federation._nodes] == federation.node_ids == ["client_0", "client_1"]
        assert federation._bundle_offset == 0


LAYOUT = """federation: f
template: tests.unit.test_two_ways:Client
nodes: [{count: 2, role: train}]
"""


@pytest.mark.parametrize(
    ("more", "field", "told"),
    [
        ("placement: {cpus: 4, bundles: [{count: 2, cpu: 1}]}", "placement.cpus", "4 here and 2 in the listed bundles"),
        ("placement: {gpus: 1, bundles: [{cpu: 1}]}", "placement.gpus", "1 here and 0 in the listed bundles"),
        (
            "placement: {resources: {disk: 3}, bundles: [{count: 2, resources: {disk: 1}}]}",
            "placement.resources.disk",
            "3 here and 2 in the listed bundles",
        ),
        ("placement: {split: random, bundles: [{cpu: 1}]}", "placement.split", "nothing is split"),
        ("placement: {resources: {CPU: 3}}", "placement.resources.CPU", "said by cpus"),
        ("placement: {bundles: [{resources: {GPU: 3}}]}", "placement.bundles[0].resources.GPU", "said by gpu"),
        ("config: {num_nodes: 3}", "config.num_nodes", "the federation itself tells this"),
        ("config: {strategy: median}", "config.strategy", "the federation itself tells this"),
        (
            "server: tests.unit.test_two_ways:OwnServer\nrounds: {strategy: {name: median}}",
            "rounds.strategy",
            "OwnServer.aggregate does not ask it",
        ),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused_with_its_place_and_opens_from_a_record(
    tmp_path: Path, more: str, field: str, told: str
) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(LAYOUT + more)
    with pytest.raises(red.LayoutError, match=re.escape(told)) as caught:
        red.Federation.from_layout(path)
    assert caught.value.field == field and caught.value.line is not None
    assert f"{path}:{caught.value.line}:" in str(caught.value)
    _, spec = spec_of(loads(path.read_text()), "f.yaml", recorded=True)
    assert spec.config.federation_id == "f"


@pytest.mark.parametrize(
    "more",
    [
        "placement: {cpus: 2, bundles: [{count: 2, cpu: 1}]}",
        "placement: {gpus: 0, bundles: [{cpu: 1}]}",
        "server: tests.unit.test_two_ways:AskingServer\nrounds: {strategy: {name: median}}",
    ],
)
def test_a_layout_that_says_the_same_twice_is_taken(tmp_path: Path, more: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(LAYOUT + more)
    red.Federation.from_layout(path).close()
