"""Rounds of quick nodes in hosts: the next one begins while the server is at the parameters of the one in hand."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

import red_tui as red
from red_tui.federation.rounds import bundle_phase as host_work
from red_tui.federation.rounds.prefetch import RoundPrefetch
from tests.cluster.conftest import eventually
from tests.cluster.templates import UnhurriedDiarist

NODES = 12


@pytest.fixture
def federation(reserve: Callable[..., Any], config: red.FederationConfig) -> Iterator[red.FederatedBase]:
    with made(reserve, config) as federation:
        yield federation


def made(reserve: Callable[..., Any], config: red.FederationConfig, **options: Any) -> red.FederatedBase:
    federation = red.StarFederatedLearningSchema(
        UnhurriedDiarist,
        ["train"] * NODES,
        config,
        resources=reserve(num_nodes=3, num_cpus=3),
        isolation="bundle",
        failure=red.FailurePolicy("rebuild", max_rebuilds=9, backoff=0.01),
        **options,
    )
    federation.run(2)
    return federation


@pytest.fixture(autouse=True)
def hosts_that_are_quick_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(host_work, "QUICK_SECONDS", 60.0)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the rounds that were begun before they were in hand."""
    numbers: list[int] = []
    answer_of_server = RoundPrefetch.answer_of_server

    def noted(self: RoundPrefetch, *given: Any) -> Any:
        answer = answer_of_server(self, *given)
        if self.begun is not None:
            numbers.append(self.begun.number)
        return answer

    monkeypatch.setattr(RoundPrefetch, "answer_of_server", noted)
    return numbers


def diaries(federation: red.FederatedBase) -> list[list[tuple[int, Any, float]]]:
    settled = "state:ready or state:failed"
    eventually(lambda: len(federation.select(settled)) == len(federation.nodes), "nobody is under way")
    return ray.get([node.handle.pages.remote() for node in federation.nodes if node.built])


def rounds_since(federation: red.FederatedBase, number: int) -> set[tuple[int, ...]]:
    return {tuple(page[0] for page in pages if page[0] > number) for pages in diaries(federation)}


def is_sound(federation: red.FederatedBase) -> None:
    """What holds after any number of rounds of +1, whatever came between."""
    done = len(federation.history)
    assert [result.number for result in federation.history] == list(range(1, done + 1))
    assert federation.parameters()["w"].tolist() == [float(done)] * 3
    for pages in diaries(federation):
        assert all(start == number - 1 for number, _, start in pages), "each round starts from the one before it"


def test_rounds_follow_upon_each_other_and_each_node_works_once_in_each(
    federation: red.FederatedBase, begun: list[int]
) -> None:
    results = federation.run(20)
    assert begun == list(range(4, 23)), "all but the first of the run, and none after its last"
    assert all(len(result.participants) == NODES and not result.failures for result in results)
    assert rounds_since(federation, 0) == {tuple(range(1, 23))}
    assert federation.table.column("rounds")[1:].tolist() == [22] * NODES
    is_sound(federation)


def test_what_has_to_be_seen_to_between_rounds_comes_before_the_next(
    reserve: Callable[..., Any], config: red.FederationConfig, begun: list[int]
) -> None:
    with made(reserve, config) as federation:
        begun.clear()
        federation.run(3, until="loss<0")
        federation.set_topology("ring")
        federation.run(2)
        assert begun == []
        federation.set_topology("star")
        federation.run(3)
        assert len(begun) == 2


@pytest.mark.parametrize("strategy", ["median", "fedadam"])
def test_a_strategy_that_needs_every_update_or_remembers_waits_for_its_round(
    reserve: Callable[..., Any], config: red.FederationConfig, begun: list[int], strategy: str
) -> None:
    with made(reserve, config, strategy=strategy) as federation:
        federation.run(3)
        assert begun == []


def test_a_run_that_is_stopped_ends_with_the_round_that_has_begun(federation: red.FederatedBase) -> None:
    draws = random.Random(1)
    for _ in range(12):
        federation.start_run(100_000)
        before = len(federation.history)
        eventually(lambda before=before: len(federation.history) > before, "rounds run")
        time.sleep(draws.uniform(0, 0.02))
        told = federation.stop()
        last = int(re.fullmatch(r"the run ends after round (\d+)", told)[1])
        eventually(lambda: not federation.running, "the run ends")
        assert len(federation.history) == last
        assert rounds_since(federation, 0) == {tuple(range(1, last + 1))}, "nobody works for nothing"
    is_sound(federation)


def test_a_run_that_is_stopped_now_leaves_everybody_free_and_counts_no_part_of_a_round(
    federation: red.FederatedBase,
) -> None:
    draws = random.Random(2)
    for _ in range(12):
        federation.start_run(100_000)
        before = len(federation.history)
        eventually(lambda before=before: len(federation.history) > before, "rounds run")
        time.sleep(draws.uniform(0, 0.02))
        federation.stop(now=True)
        eventually(lambda: not federation.running, "the run has ended")
        eventually(lambda: len(federation.select("state:ready")) == NODES, "everybody is free")
        is_sound(federation)
        assert len(federation.run_round().participants) == NODES
    is_sound(federation)


def test_a_change_reaches_all_nodes_in_the_round_that_was_told_and_none_before(
    federation: red.FederatedBase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "red_tui")
    draws, since = random.Random(3), {}
    federation.start_run(100_000)
    for rate in range(1, 13):
        time.sleep(draws.uniform(0, 0.03))
        federation.set_round({"+rate": rate} if rate == 1 else {"rate": rate})
        since[rate] = int(re.findall(r"from round (\d+) on", caplog.text)[-1])
    eventually(lambda: len(federation.history) > max(since.values()) + 3, "rounds go on")
    federation.stop()
    eventually(lambda: not federation.running, "the run ends")
    for pages in diaries(federation):
        for number, rate, _ in pages:
            assert rate == max((one for one, first in since.items() if first <= number), default=None)
    is_sound(federation)


def test_a_node_that_raises_fails_in_its_round_alone(
    reserve: Callable[..., Any], config: red.FederationConfig, begun: list[int]
) -> None:
    with made(reserve, config.updated(who="client_5", raises=7)) as federation:
        begun.clear()
        federation.run(18)
        failed = {result.number: dict(result.failures) for result in federation.history if result.failures}
        assert failed == {7: {"client_5": "fit raised ValueError: gradient exploded"}}
        assert len(federation.history[6].participants) == NODES - 1
        assert 8 not in begun and 7 in begun and 19 in begun
        is_sound(federation)


@pytest.mark.parametrize("who", ["server", "client_0"])
def test_processes_that_die_at_any_moment_cost_no_round_and_none_counts_twice(
    federation: red.FederatedBase, who: str
) -> None:
    draws = random.Random(4)
    federation.start_run(100_000)
    for _ in range(6):
        before = len(federation.history)
        eventually(lambda before=before: len(federation.history) > before + 5, "rounds run")
        eventually(lambda: str(federation[who].state) in ("ready", "busy"), f"{who} is there")
        pid = ray.get(federation[who].handle.red_detail.remote(), timeout=90)["pid"]
        time.sleep(draws.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
    before = len(federation.history)
    eventually(lambda: len(federation.history) > before + 5, "rounds run")
    federation.stop()
    eventually(lambda: not federation.running, "the run ends")
    assert all(set(result.failures) <= {node.id for node in federation.nodes} for result in federation.history)
    is_sound(federation)


def test_nodes_come_and_go_while_rounds_run(federation: red.FederatedBase) -> None:
    federation.start_run(100_000)
    for _ in range(5):
        (added,) = federation.add_nodes(1).ids
        eventually(lambda added=added: added in federation.history[-1].participants, f"{added} takes part")
    federation.stop()
    eventually(lambda: not federation.running, "the run ends")
    assert len(federation.run_round().participants) == NODES + 5
    is_sound(federation)
