"""Endings of user code on a real cluster: the guilty node is named at once, nobody else is, and rounds go on."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import ray

import red_tui as red
from tests.cluster.conftest import eventually
from tests.cluster.templates import Counting
from tests.cluster.user_code_nodes import Absurd, Passing, Server
from tests.misbehaving import ENDINGS, FINE, Misbehaving, SharedMisbehaving

Reserve = Callable[..., Any]

PLAN = {"1": "fit", "2": "evaluate", "3": "get_state"}
NEVER = 600.0
"""A deadline that no test reaches: what fails, fails at once."""


def star(
    config: red.FederationConfig, group: Any, endings: list[str], template: type = Misbehaving, **options: Any
) -> red.FederatedBase:
    options.setdefault("settings", red.RoundSettings(min_results=1, deadline=NEVER))
    roles = options.pop("roles", ["train-eval-test"] * len(endings))
    config = config.updated(endings=endings, plan=options.pop("plan", PLAN))
    return red.StarFederatedLearningSchema(template, roles, config, resources=group, **options)


def told(endings: list[str], method: str) -> dict[str, str]:
    ends = {f"client_{place}": name for place, name in enumerate(endings) if name in ENDINGS}
    return {node: f"{method} raised {ENDINGS[name][1]}" for node, name in ends.items()}


def check_rounds(federation: red.FederatedBase, endings: list[str]) -> None:
    """Each method's endings in a round of its own, then a round of everybody."""
    for number, method in enumerate(PLAN.values(), start=1):
        result = federation.run_round()
        assert dict(result.failures) == told(endings, method), (number, method)
        assert result.left_out == {} and len(result.participants) >= endings.count(FINE)
    result = federation.run_round()
    assert result.failures == {} and len(result.participants) == len(endings)
    assert all(str(node.state) == "ready" for node in federation.nodes)
    events = federation.feed.events
    assert max(len(event.text) for event in events) < 3000, "a long exception is cut where it was raised"
    assert max(len(str(event.data)) for event in events) < 50_000, "also in the journal"
    detail = federation.describe_node(f"client_{endings.index('too long')}")
    assert max(len(line[2]) for line in detail["log"] or [[0, "", ""]]) < 5000


def test_whatever_ends_a_method_of_a_hosted_node_is_told_of_it_alone(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    endings = [FINE, *ENDINGS]
    with star(config, reserve(num_nodes=2, num_cpus=1), endings, isolation="bundle") as federation:
        check_rounds(federation, endings)
        for place, name in enumerate(endings[1:], start=1):
            node = federation[f"client_{place}"]
            assert node.last_error == f"get_state raised {ENDINGS[name][1]}"
            # Through its handle somebody asks for the round in which it does wrong.
            with pytest.raises(ray.exceptions.RayTaskError):
                ray.get(node.handle.fit.remote({}, {"round": 1}), timeout=90)
        assert len(federation.run_round().participants) == len(endings), "the host lives on"


def test_whatever_ends_a_method_of_a_node_in_a_process_is_told_of_it_alone(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    endings = [FINE, "exit", "interrupt", "generator exit", "unprintable", "fork", "too long"]
    with star(config, reserve(num_nodes=7, num_cpus=3), endings) as federation:
        check_rounds(federation, endings)
        for place in (1, 2, 3, 5):
            with pytest.raises(ray.exceptions.RayTaskError):
                ray.get(federation[f"client_{place}"].handle.fit.remote({}, {"round": 1}), timeout=90)
        assert len(federation.run_round().participants) == len(endings), "their processes live on"


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_an_exit_in_any_other_method_is_told_of_its_node_at_once(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    endings = [FINE, "exit"]

    def made(name: str, method: str, template: type = Misbehaving, **options: Any) -> red.FederatedBase:
        own = config.updated(federation_id=f"{config.federation_id}-{name}")
        return star(own, group, endings, template, isolation=isolation, plan={"always": method}, **options)

    with made("build", "build") as federation:
        report = federation.build(timeout=NEVER)
        assert report.built == ("client_0",)
        assert report.failed["client_1"].why == "build raised SystemExit: 3"
        assert "misbehaving.py" in report.failed["client_1"].traceback
        result = federation.run_round()
        assert result.participants == ("client_0",) and list(result.left_out) == ["client_1"]
    with (
        made("shared", "nothing", SharedMisbehaving) as federation,
        pytest.raises(red.BuildError, match="SystemExit: 3"),
    ):
        federation.build(timeout=NEVER)
    with made("others", "train") as federation:
        outcome = federation.train()
        assert outcome.results == {"client_0": "trained"} and outcome.failures == {"client_1": "SystemExit: 3"}


def test_an_exit_in_a_release_or_a_test_is_told(reserve: Reserve, config: red.FederationConfig) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    with star(config, group, [FINE, "exit"], plan={"0": "get_state"}) as federation:
        federation.build()
        assert federation.release("client_1").done == ("client_1",)
        texts = [event.text for event in federation.feed.events]
        assert "its state could not be kept: get_state raised SystemExit: 3" in texts
        assert federation.build("client_1").built == ("client_1",)


# -- who makes the parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_a_node_that_makes_no_initial_parameters_is_named_and_another_one_makes_them(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    plan = {"1": "initial_parameters"}
    with star(config, group, ["exit", FINE], isolation=isolation, plan=plan) as federation:
        result = federation.run_round()
        assert len(result.participants) == 2 and not result.failures, "it can learn all the same"
        assert federation["client_0"].last_error == "initial_parameters raised SystemExit: 3"
    named = config.updated(federation_id=f"{config.federation_id}-all")
    with star(named, group, ["exit", "error"], isolation=isolation, plan=plan) as federation:
        with pytest.raises(red.RoundError, match="client_0: initial_parameters raised SystemExit: 3") as caught:
            federation.run_round()
        assert list(caught.value.fields["failed"]) == ["client_0", "client_1"]


def test_whatever_ends_aggregate_fails_its_round_and_names_the_server(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=1, num_cpus=2)
    with star(config, group, [FINE] * 3, isolation="bundle", server_template=Server) as federation:
        for name in ("exit", "interrupt", "fork", "unprintable"):
            with pytest.raises(red.RoundError) as caught:
                federation.run_round()
            assert caught.value.fields["failed"] == {"server": f"aggregate raised {ENDINGS[name][1]}"}
        result = federation.run_round()
        assert result.number == 1 and federation.parameters()["w"].tolist() == [1.0] * 4


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_an_exit_of_an_aggregator_costs_its_group_one_round(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    settings = red.RoundSettings(min_results=1, deadline=NEVER)
    with red.HierarchicalFederatedLearningSchema(
        Counting,
        ["train"] * 2,
        config,
        resources=reserve(num_nodes=4 if isolation == "process" else 1, num_cpus=2),
        isolation=isolation,
        levels=[2],
        aggregator_template=Passing,
        settings=settings,
    ) as federation:
        result = federation.run_round()
        assert result.participants == ("client_0",)
        assert result.failures["client_1"].endswith("could not add its group up: passes_on raised SystemExit: 3")
        assert federation["edge_1"].last_error == "passes_on raised SystemExit: 3"
        assert len(federation.run_round().participants) == 2


class Choosy(red.StarFederatedLearningSchema):
    """Asks client_1 in a way that ends, until `asked` is used up."""

    asked = 0

    def should_participate(self, node: red.VirtualNode) -> bool:
        if node.id == "client_1" and type(self).asked < 3:
            type(self).asked += 1
            ENDINGS[["exit", "interrupt", "unprintable"][type(self).asked - 1]][0]()
        return True


def test_whatever_ends_should_participate_leaves_its_node_out_of_that_round(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    with Choosy(Counting, ["train"] * 3, config, resources=reserve(num_nodes=3, num_cpus=1), isolation="bundle") as fed:
        for name in ("exit", "interrupt", "unprintable"):
            result = fed.run_round()
            assert result.left_out == {"client_1": f"should_participate raised {ENDINGS[name][1]}"}
            assert result.participants == ("client_0", "client_2")
        assert len(fed.run_round().participants) == 3


class Hanging(red.StarFederatedLearningSchema):
    """Does not answer for the nodes in `hung` before it is let go."""

    hung: ClassVar[set[str]] = set()
    go: ClassVar[threading.Event] = threading.Event()

    def should_participate(self, node: red.VirtualNode) -> bool:
        if node.id in self.hung:
            self.go.wait()
        return True


@pytest.fixture
def hung() -> Iterator[set[str]]:
    """Ids of nodes for which `should_participate` hangs; it returns when the test ends."""
    Hanging.hung, Hanging.go = set(), threading.Event()
    yield Hanging.hung
    Hanging.go.set()


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_a_should_participate_that_hangs_costs_its_node_the_round_and_nobody_else(
    reserve: Reserve, config: red.FederationConfig, isolation: str, hung: set[str]
) -> None:
    group, settings = reserve(num_nodes=4, num_cpus=4), red.RoundSettings(deadline=5)
    with Hanging(Counting, ["train"] * 3, config, resources=group, isolation=isolation, settings=settings) as fed:
        fed.run_round()
        hung.add("client_1")
        for _ in range(3):
            result = fed.run_round()
            assert result.participants == ("client_0", "client_2")
            assert list(result.left_out) == ["client_1"]
            assert re.fullmatch(r"should_participate: .* \(at test_user_code.py:\d+\)", result.left_out["client_1"])
        hung.clear()
        Hanging.go.set()
        eventually(lambda: len(fed.run_round().participants) == 3, "the node takes part when the call has returned")


def test_commands_are_answered_while_should_participate_hangs(
    reserve: Reserve, config: red.FederationConfig, hung: set[str]
) -> None:
    hung.update(f"client_{number}" for number in range(5))
    group, settings = reserve(num_nodes=3, num_cpus=1), red.RoundSettings(deadline=None)
    with Hanging(Counting, ["train"] * 5, config, resources=group, isolation="bundle", settings=settings) as fed:
        fed.start_run(3)
        assert fed.explain("client_1")
        fed.set_round(deadline=1)
        fed.stop(now=True)
        eventually(lambda: not fed.running, "the run is stopped though no node has an answer")
        with pytest.raises(red.RoundError, match="no node can take part") as raised:
            fed.run_round()
        why = raised.value.left_out
        assert [why[node_id].partition(" (at")[0] for node_id in sorted(why)] == [
            "should_participate: the call has still not returned",
            *["should_participate: no answer within the deadline of 1 s"] * 3,
            "should_participate was not asked: it hung for 3 nodes before this",
        ]


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_numbers_that_nobody_can_average_spoil_no_round(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    group, settings = reserve(num_nodes=3, num_cpus=3), red.RoundSettings(min_results=1)
    schema = red.StarFederatedLearningSchema
    with schema(Absurd, ["train"] * 3, config, resources=group, isolation=isolation, settings=settings) as federation:
        result = federation.run_round()
        assert tuple(result.participants) == ("client_0",) and sorted(result.failures) == ["client_1", "client_2"]
        assert "num_examples must be at most 2**53 (9e15), not 1e+308" in result.failures["client_1"]
        assert "'w' holds numbers up to 1.7e+308, which are too large" in result.failures["client_2"]
        assert len(federation.run_round().participants) == 3
        assert federation.parameters()["w"].tolist() == [2.0] * 8


# -- the end of a process ------------------------------------------------------------------------------------


def test_an_end_of_a_process_is_told_as_what_it_was(reserve: Reserve, config: red.FederationConfig) -> None:
    endings = [FINE, "os._exit", "killed", "terminated"]
    with star(config, reserve(num_nodes=4, num_cpus=4), endings, plan={"1": "fit"}) as federation:
        result = federation.run_round()
        assert result.participants == ("client_0",)
        assert result.failures["client_1"] == "fit called os._exit(3)"
        assert "killed by a signal" in result.failures["client_2"]
        assert "killed by a signal" in result.failures["client_3"]
        eventually(lambda: len(federation.select("state:failed")) == 3, "all deaths are noticed")
        assert "misbehaving.py" in federation.describe_node("client_1")["traceback"]
        again = federation.run_round()
        assert again.participants == ("client_0",) and sorted(again.left_out) == ["client_1", "client_2", "client_3"]
        assert sorted(federation.rebuild().built) == ["client_1", "client_2", "client_3"]
        assert len(federation.run_round().participants) == 4


def test_a_host_that_is_told_to_end_ends_and_its_nodes_are_named(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    endings, group = [FINE, FINE, "terminated", FINE], reserve(num_nodes=2, num_cpus=2)
    with star(config, group, endings, isolation="bundle", plan={"1": "fit"}) as federation:
        result = federation.run_round()
        lost = sorted(result.failures)
        assert "client_2" in lost and len(lost) == 2, "those of its host"
        assert all("killed by a signal" in why for why in result.failures.values())
        eventually(lambda: len(federation.select("state:failed")) == 2, "the death is noticed")
        assert sorted(federation.rebuild().built) == lost
        assert len(federation.run_round().participants) == 4


def test_os_exit_of_one_hosted_node_ends_nobody(reserve: Reserve, config: red.FederationConfig) -> None:
    endings = [FINE, "os._exit", FINE]
    with star(config, reserve(num_nodes=1, num_cpus=1), endings, isolation="bundle", plan={"1": "fit"}) as federation:
        result = federation.run_round()
        assert result.failures == {"client_1": "fit raised SystemExit: 3 (by os._exit)"}
        assert len(federation.run_round().participants) == 3
