"""Waiting for resources: what is given back is waited for, and what is held is told with who holds it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

import red_tui as red
from red_tui.federation.core import core_of
from tests.cluster.conftest import CPUS, eventually, free_cpus, living_groups
from tests.cluster.templates import Counting

_numbers = itertools.count()
ISOLATIONS = pytest.mark.parametrize("isolation", ["process", "bundle"])


@pytest.fixture
def two_cpus(cluster: None) -> Iterator[None]:
    """A cluster with two free CPUs: somebody who is no federation holds the others."""
    group = held(CPUS - 2)
    yield
    remove_placement_group(group)


def held(cpus: int) -> Any:
    """A placement group that takes so many CPUs, once Ray counts them as taken."""
    before = free_cpus()
    group = placement_group([{"CPU": 1}] * cpus, name=f"somebody-{next(_numbers)}")
    ray.get(group.ready(), timeout=240)
    eventually(lambda: free_cpus() == before - cpus, "the CPUs are held")
    return group


def star(config: red.FederationConfig, isolation: str = "bundle", **more: Any) -> red.StarFederatedLearningSchema:
    return red.StarFederatedLearningSchema(Counting, ["train"] * 3, config, isolation=isolation, **more)


@ISOLATIONS
def test_eight_federations_one_after_another_all_get_the_same_bundles(
    two_cpus: None, config: red.FederationConfig, isolation: str
) -> None:
    bundles = []
    for _ in range(8):
        with star(config, isolation) as federation:
            federation.build("id:client_0", wait=False)
            bundles.append(federation.resources)
        assert free_cpus() == 2, "close() returns when its CPUs are free in Ray's own account"
    assert len(bundles) == 8 and bundles == [bundles[0]] * 8
    assert sum(bundle["CPU"] for bundle in bundles[0]) == pytest.approx(2, abs=1e-3)


@ISOLATIONS
def test_bundles_that_are_given_back_serve_another_federation_and_are_reserved_again(
    two_cpus: None, config: red.FederationConfig, isolation: str
) -> None:
    other = red.FederationConfig(federation_id=f"{config.federation_id}-other")
    with star(config, isolation, wait_for_resources=3) as federation:
        assert federation.release_bundles().done == (), "nothing is reserved yet"
        federation.run(1)
        bundles = federation.resources
        federation.release("state:ready")
        eventually(lambda: free_cpus() == 0, "released nodes leave their bundles to the federation")
        assert federation.release_bundles().done == ("server",)
        assert free_cpus() == 2 and {str(node.state) for node in federation.nodes} == {"released"}
        with star(other, isolation) as second:
            second.build("id:client_0", wait=False)
            with pytest.raises(red.PlacementError, match="is still open here"):
                federation.run(1)
        assert federation.run(1)[0].number == 2 and federation.resources == bundles
        assert federation.parameters()["w"].tolist() == [2.0] * 8, "the parameters went on"
        seen = [ray.get(node.handle.seen.remote()) for node in federation.nodes]
        assert seen == [2, 2, 2], "and so did the nodes' own states"


def test_bundles_of_a_given_group_are_not_given_back(reserve: Callable[..., Any], config: red.FederationConfig) -> None:
    with star(config, resources=reserve(3, 2)) as federation, pytest.raises(red.CommandRefused, match="was given"):
        federation.release_bundles()


@ISOLATIONS
def test_federations_that_nobody_closed_give_way_to_the_next(
    two_cpus: None, config: red.FederationConfig, isolation: str
) -> None:
    def learn(fails: bool) -> Any:
        if not fails:
            federation = star(config, isolation)
            return federation.run(1), federation.resources
        with star(config, isolation) as federation:
            federation.build("id:client_0", wait=False)
            raise KeyError(str(federation.resources))

    first, bundles = learn(False)
    with pytest.raises(KeyError) as caught:
        learn(True)
    second, again = learn(False)
    assert len(first) == len(second) == 1 and again == bundles and str(bundles) in str(caught.value)
    eventually(lambda: len(living_groups()) == 1, "the last one, which nobody refers to, has ended")


def test_a_run_in_the_background_goes_on_when_its_federation_is_dropped(
    two_cpus: None, config: red.FederationConfig
) -> None:
    federation = red.StarFederatedLearningSchema(Counting, ["train"], config, isolation="bundle")
    feed = federation.feed
    federation.start_run(3)
    del federation
    eventually(lambda: len(feed.snapshot().get("rounds", ())) == 3, "all rounds are run")
    eventually(lambda: len(living_groups()) == 1, "and then it has ended")


def test_this_very_process_is_named_as_the_holder_with_how_to_close_it(
    two_cpus: None, config: red.FederationConfig
) -> None:
    first = star(config)
    first.build("id:client_0")
    eventually(lambda: free_cpus() == 0, "it holds both CPUs")
    assert red.open_federations() == [first]
    with star(config) as again, pytest.raises(red.NameTaken, match=r"this very process.*open_federations\(\)"):
        again.build()
    other = red.FederationConfig(federation_id=f"{config.federation_id}-other")
    with star(other, wait_for_resources=0.2) as second:
        with pytest.raises(red.PlacementError, match=r"no CPU .* of this very process holds CPU 2\).*close\(\)"):
            second.build()
        for federation in red.open_federations():
            federation.close()
        assert second.build("id:client_0").built == ("client_0",)


def test_explain_and_plan_answer_while_no_cpu_is_free_and_the_plan_holds_once_one_is(
    two_cpus: None, config: red.FederationConfig
) -> None:
    group = held(2)
    with star(config, "process") as federation:
        told = federation.explain("client_0")
        assert told.verdict == "busy" and "0 of 16 free" in told.why
        assert [(who[:25], dict(amounts)) for who, amounts in told.holders] == [
            ("placement group 'somebody", {"CPU": CPUS - 2}),
            ("placement group 'somebody", {"CPU": 2}),
        ]
        name, has, free = told.hosts[0]
        assert (name, has["CPU"], free.get("CPU", 0)) == ("head", 10, 0)
        assert "' holds CPU 14\n  placement group 'somebody" in str(told)
        plan = federation.plan("id:client_0")
        assert plan.ids == ["client_0"] and "' holds CPU 14; placement group 'somebody" in str(plan)
        assert "no CPU is free" in plan.no_room
        remove_placement_group(group)
        assert federation.build(plan).built == ("client_0",), "it waits for what is being given back"
        assert sum(bundle["CPU"] for bundle in federation.resources) == pytest.approx(2, abs=1e-3)
        assert federation.plan().no_room == ""


def test_a_build_waits_for_what_another_holds_and_says_what_to_do_when_it_does_not_come(
    two_cpus: None, config: red.FederationConfig, tmp_path: Path
) -> None:
    group = held(2)
    with star(config, wait_for_resources=0.1) as hasty:
        with pytest.raises(red.PlacementError) as caught:
            hasty.build()
        said = caught.value.message
        assert "within 0.1 s" in said and "placement group 'somebody" in said
        assert "wait_for_resources=60" in said and "get_resources_split(3, num_cpus=2, timeout=60)" in said
    layout = tmp_path / "waits.yaml"
    layout.write_text(
        f"federation: {config.federation_id}\ntemplate: tests.cluster.templates:Counting\n"
        "nodes: [{count: 1, role: train}]\nplacement: {wait_for_resources: 0.1}\n"
    )
    said = r"placement: \{wait_for_resources: 60\}.*placement: \{cpus: 2\}"
    with red.Federation.from_layout(layout) as launched, pytest.raises(red.PlacementError, match=said):
        launched.build()
    with star(config, wait_for_resources=60) as patient:
        bundles = core_of(patient).ready()[0].bundles
        reports: list[Any] = []
        waiting = threading.Thread(target=lambda: reports.append(patient.build("id:client_0")))
        waiting.start()
        said = "waits for CPU, 60 s at most: placement"
        eventually(lambda: any(said in event.text for event in patient.feed.events), "it tells so")
        assert bundles.changing
        remove_placement_group(group)
        waiting.join(240)
        assert [report.built for report in reports] == [("client_0",)]


def test_closing_a_federation_ends_its_wait(two_cpus: None, config: red.FederationConfig) -> None:
    group = held(2)
    federation = star(config, wait_for_resources=600)
    bundles = core_of(federation).ready()[0].bundles
    ended: list[BaseException] = []

    def build() -> None:
        try:
            federation.build()
        except BaseException as error:
            ended.append(error)

    waiting = threading.Thread(target=build)
    waiting.start()
    eventually(lambda: bundles.changing, "the build waits")
    federation.close()
    waiting.join(240)
    assert not waiting.is_alive() and len(ended) == 1
    remove_placement_group(group)


def test_a_split_of_this_process_that_holds_all_is_named(
    two_cpus: None, reserve: Callable[..., Any], config: red.FederationConfig
) -> None:
    reserve(2, 2)
    eventually(lambda: free_cpus() == 0, "it holds both CPUs")
    with pytest.raises(red.PlacementError, match="a group of get_resources_split of this very process holds CPU 2"):
        red.get_resources_split(2, 2, timeout=0.5)
    with (
        star(config, wait_for_resources=0.2) as federation,
        pytest.raises(red.PlacementError, match="remove_placement"),
    ):
        federation.build()
