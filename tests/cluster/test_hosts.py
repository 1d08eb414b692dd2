"""Bundle isolation: many nodes in one host actor a bundle, through the same interface."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red
from red_tui.federation.rounds import bundle_phase
from red_tui.journal.fold import Fold
from red_tui.nodes.states import NodeState
from tests.cluster.conftest import CPUS, eventually, free_cpus, named_actors
from tests.cluster.templates import Counting, Dreamer, Shared, Skewed, Troubled, Unbuildable, Weighted

Reserve = Callable[..., Any]


def crowd(
    config: red.FederationConfig, count: int, group: Any, template: type = Counting, **options: Any
) -> red.FederatedBase:
    roles = options.pop("roles", ["train"] * count)
    options.setdefault("isolation", "bundle")
    return red.StarFederatedLearningSchema(template, roles, config, resources=group, **options)


@pytest.fixture
def group(reserve: Reserve) -> Any:
    return reserve(num_nodes=3, num_cpus=3)


# -- building ----------------------------------------------------------------------------------------


def test_a_hundred_nodes_are_three_processes(group: Any, config: red.FederationConfig) -> None:
    with crowd(config, 100, group) as federation:
        plan = federation.plan()
        assert (len(plan), plan.processes) == (100, 3)
        assert named_actors() == []
        report = federation.build(plan)
        assert len(report.built) == 100 and not report.failed
        fed = federation.fed_id
        assert named_actors() == [f"{fed}/bundle-{bundle}" for bundle in (1, 2, 3)]
        assert sorted(Counter(node.bundle_idx for node in federation.nodes).values()) == [33, 33, 34]
        pids = ray.get([node.handle.pid.remote() for node in federation.nodes])
        assert len(set(pids)) == 3
        assert federation.plan("client_0").left_out[0].why.startswith("node 'client_0' is already built")


def test_one_node_is_built_called_released_and_rebuilt_as_in_a_process_of_its_own(
    group: Any, config: red.FederationConfig
) -> None:
    with crowd(config, 10, group, initial_parameters={"w": np.zeros(2)}) as federation:
        node = federation["client_4"]
        assert node.handle is None and not node.built
        node.build(2).wait_ready(timeout=120)
        assert (str(node.state), node.bundle_idx, node.built) == ("ready", 2, True)
        with pytest.raises(red.CommandRefused, match="already built"):
            node.build(2)
        result = ray.get(node.handle.fit.remote(ray.put({"w": np.zeros(2)}), {}))
        assert result.parameters["w"].tolist() == [1, 1]
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = node.handle.no_such_thing
        node.release()
        assert (str(node.state), node.bundle_idx) == ("released", None)
        eventually(lambda: named_actors() == [], "its host has ended")
        node.rebuild().wait_ready(timeout=120)
        assert ray.get(node.handle.seen.remote()) == 1


def test_a_hosts_resources_are_its_bundles_and_are_free_again_when_its_last_node_goes(
    cluster: None, config: red.FederationConfig
) -> None:
    group = red.get_resources_split(num_nodes=2, num_cpus=4)
    try:
        with crowd(config, 20, group) as federation:
            federation.build()
            share = group.bundle_specs[1]["CPU"]
            inside = f"CPU_group_1_{group.id.hex()}"
            eventually(lambda: ray.available_resources().get(inside, 0) < share / 2, "the host holds its bundle")
            federation.release([f"client_{number}" for number in range(9)])
            assert f"{federation.fed_id}/bundle-1" in named_actors()
            federation.release("state:ready")
            eventually(lambda: ray.available_resources().get(inside, 0) == pytest.approx(share), "it is free again")
    finally:
        ray.util.remove_placement_group(group)


def test_what_nodes_share_is_built_once_a_host(group: Any, config: red.FederationConfig) -> None:
    with crowd(config, 30, group, Shared) as federation:
        federation.build()
        looks = ray.get([node.handle.look.remote() for node in federation.nodes])
    assert {look["built"] for look in looks} == {1}
    assert len({look["pid"] for look in looks}) == 3


def test_a_constructor_that_raises_fails_its_node_and_no_other(group: Any, config: red.FederationConfig) -> None:
    with crowd(config, 4, group, Unbuildable) as federation, pytest.raises(red.BuildError, match="broken"):
        federation.build()


def test_a_build_that_raises_fails_alone_with_its_traceback(group: Any, config: red.FederationConfig) -> None:
    config = config.updated(trouble="build", who="client_7")
    with crowd(config, 20, group, Troubled) as federation:
        report = federation.build()
        assert len(report.built) == 19
        assert "no data for this node" in report.failed["client_7"].why
        assert "OSError" in report.failed["client_7"].traceback
        assert str(federation["client_7"].state) == "failed"
        # What the journal keeps of it: a failed node stays in its bundle in a replay, and after a recovery.
        told = Fold()
        for event in federation.feed.events:
            told.take(event)
        row = federation.table.row_of("client_7")
        bundle = federation["client_7"].bundle_idx
        assert told.row_bundles[row] == bundle and bundle > 0
        assert told.state_codes[row] == NodeState.FAILED.code


def test_each_node_is_told_its_own_place(group: Any, config: red.FederationConfig) -> None:
    class Placed(Counting):
        def place(self) -> tuple[str, int, int, str]:
            return self.node_id, self.config.node_index, self.config.num_nodes, str(self.role)

    roles = ["train"] * 5 + ["eval"] * 2
    with crowd(config, 7, group, Placed, roles=roles) as federation:
        federation.build()
        places = ray.get([node.handle.place.remote() for node in federation.nodes])
    assert places == [(f"client_{index}", index, 7, role) for index, role in enumerate(roles)]


# -- rounds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "median", {"name": "krum", "byzantine": 1, "keep": 3}])
def test_the_same_round_gives_the_same_parameters_in_both_isolations(
    reserve: Reserve, config: red.FederationConfig, strategy: Any
) -> None:
    made = []
    for isolation in ("process", "bundle"):
        named = config.updated(federation_id=f"{config.federation_id}-{isolation}")
        group = reserve(num_nodes=5 if isolation == "process" else 2, num_cpus=3)
        with crowd(named, 5, group, Skewed, isolation=isolation, strategy=strategy) as federation:
            history = federation.run(3)
            made.append((federation.parameters(), history[-1]))
    (own, first), (hosted, second) = made
    for name, value in own.items():
        assert value.dtype == hosted[name].dtype
        np.testing.assert_allclose(hosted[name], value, rtol=1e-6, atol=1e-6)
    assert first.train_metrics == pytest.approx(second.train_metrics)
    assert (first.num_examples, list(first.participants)) == (second.num_examples, list(second.participants))


def test_a_round_is_one_call_a_host_and_a_constant(
    group: Any, config: red.FederationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is: what is counted is the calls of hosts that are quick.
    monkeypatch.setattr(bundle_phase, "QUICK_SECONDS", 60.0)
    calls: Counter[str] = Counter()
    submit = ray.actor.ActorHandle._actor_method_call

    def counted(self: Any, method_name: str, *args: Any, **kwargs: Any) -> Any:
        calls[method_name] += 1
        return submit(self, method_name, *args, **kwargs)

    with crowd(config, 60, group, roles=["train-eval"] * 60) as federation:
        federation.run(1)
        monkeypatch.setattr(ray.actor.ActorHandle, "_actor_method_call", counted)
        federation.run(1)
        assert calls == {"quick": 6, "red_aggregate_ahead": 1}, "hosts were quick in the first round"
        calls.clear()
        monkeypatch.setattr(bundle_phase, "QUICK_SECONDS", 0.0)
        federation.run(1)
        assert calls == {"work": 6, "red_aggregate": 1}
        monkeypatch.undo()


def test_weights_metrics_and_judgements_of_hosted_nodes_count_as_they_should(
    group: Any, config: red.FederationConfig
) -> None:
    with crowd(config, 9, group, Weighted, roles=["train-eval"] * 9) as federation:
        result = federation.run_round()
        parameters = federation.parameters()
        detail = federation.describe_node("client_8")
    numbers = np.arange(1, 10)
    expected = (numbers**2).sum() / numbers.sum()
    assert parameters["w"] == pytest.approx(expected)
    assert result.loss == pytest.approx(expected)
    assert result.metrics["accuracy"] == pytest.approx(expected / 10)
    assert result.train_metrics["loss"] == pytest.approx(expected)
    assert result.num_examples == numbers.sum()
    assert result.evaluated == 9
    assert detail["metrics"] == {"loss": 9.0} and detail["losses"] == [9.0] and detail["rounds"] == 1
    assert detail["actor"].endswith("/bundle-3") and detail["pid"]


@pytest.mark.parametrize("strategy", ["fedavg", "median"])
def test_nodes_that_do_wrong_fail_alone_and_named(group: Any, config: red.FederationConfig, strategy: str) -> None:
    # Each in the middle of a host of nodes that do right, and two of them in one.
    troubles = {"client_1": "fit", "client_2": "none", "client_5": "nan", "client_10": "shape"}
    words = {"client_1": "gradient exploded", "client_2": "FitResult", "client_5": "NaN", "client_10": "shape"}
    with crowd(config.updated(troubles=troubles), 12, group, Troubled, strategy=strategy) as federation:
        result = federation.run_round()
        assert federation.parameters()["w"].tolist() == [1.0] * 8
        assert sorted(result.failures) == sorted(troubles)
        assert sorted(result.participants) == sorted(set(federation.node_ids) - set(troubles))
        for node_id, what in words.items():
            node = federation[node_id]
            assert what in result.failures[node_id]
            assert str(node.state) == "ready" and what in node.last_error
        again = federation.run_round()
        assert again.failures == result.failures and not again.left_out, "each round is a new chance"


def test_the_death_of_a_host_fails_its_nodes_and_the_others_results_count_once(
    group: Any, config: red.FederationConfig, tmp_path: Path
) -> None:
    config = config.updated(who="client_0", gate=str(tmp_path / "gate"), marks=str(tmp_path))
    policy = red.FailurePolicy("rebuild", max_rebuilds=3, backoff=0.01)
    with crowd(config, 30, group, Dreamer, failure=policy) as federation:
        federation.build()
        doomed = federation["client_0"].bundle_idx
        pid = ray.get(federation["client_0"].handle.pid.remote())
        theirs = [node.id for node in federation.nodes if node.bundle_idx == doomed]
        federation.start_run(1)
        eventually((tmp_path / "client_0").exists, "the first node is at work")
        os.kill(pid, signal.SIGKILL)
        (tmp_path / "gate").touch()
        eventually(lambda: not federation.running, "the round ends")
        result = federation.history[-1]
        assert sorted(result.failures) == sorted(theirs)
        assert all("killed by a signal" in why for why in result.failures.values())
        assert len(result.participants) == 20
        assert federation.parameters()["w"].tolist() == [1.0] * 8
        eventually(lambda: len(federation.select("state:ready")) == 30, "the policy has rebuilt them")
        assert federation["client_0"].bundle_idx == doomed
        assert len(federation.run_round().participants) == 30
        assert federation.parameters()["w"].tolist() == [2.0] * 8


@pytest.mark.parametrize("strategy", ["fedavg", "median"])
def test_a_node_that_never_returns_holds_nobody_up_past_the_deadline(
    group: Any, config: red.FederationConfig, tmp_path: Path, strategy: str
) -> None:
    config = config.updated(who="client_5", gate=str(tmp_path / "gate"))
    settings = red.RoundSettings(deadline=4.0, min_results=0.1)
    with crowd(config, 30, group, Dreamer, strategy=strategy, settings=settings) as federation:
        federation.build()
        result = federation.run_round()
        before, after = [f"client_{n}" for n in range(5)], [f"client_{n}" for n in range(6, 10)]
        assert set(before) <= set(result.participants), "what its host had done counts"
        assert "no result within the deadline of 4 s" in result.failures["client_5"]
        assert all("did not come to it" in result.failures[name] for name in after)
        assert len(result.participants) == 25
        assert federation.parameters()["w"].tolist() == [1.0] * 8
        assert str(federation["client_5"].state) == "busy"
        assert ray.get(federation["client_5"].handle.red_detail.remote(), timeout=90)["pid"]
        again = federation.run_round()
        assert len(again.participants) == 29, "the others of its host go on without it"
        (tmp_path / "gate").touch()
        eventually(lambda: str(federation["client_5"].state) == "ready", "it is free when it has returned")
        assert len(federation.run_round().participants) == 30
        assert federation.parameters()["w"].tolist() == [3.0] * 8


def test_a_stopped_round_leaves_no_node_busy(group: Any, config: red.FederationConfig, tmp_path: Path) -> None:
    config = config.updated(who="client_0", gate=str(tmp_path / "gate"), marks=str(tmp_path))
    with crowd(config, 30, group, Dreamer) as federation:
        federation.build()
        federation.start_run(5)
        eventually((tmp_path / "client_0").exists, "the first node is at work")
        federation.stop(now=True)
        eventually(lambda: not federation.running, "the run has ended")
        (tmp_path / "gate").touch()
        eventually(lambda: len(federation.select("state:ready")) == 30, "everybody is free")
        assert len(federation.history) == 0
        assert len(federation.run_round().participants) == 30
        assert federation.parameters()["w"].tolist() == [1.0] * 8


@pytest.mark.parametrize("concurrency", [1, 4])
def test_nodes_of_a_host_work_one_after_another_or_as_many_as_the_layout_asks_for(
    reserve: Reserve, config: red.FederationConfig, concurrency: int
) -> None:
    config = config.updated(pause=0.02, together=concurrency)
    group = reserve(num_nodes=1, num_cpus=1)
    with crowd(config, 12, group, Dreamer, concurrency=concurrency) as federation:
        result = federation.run_round()
        assert ray.get(federation["client_0"].handle.most_at_a_time.remote()) == concurrency
        assert len(result.participants) == 12
        assert federation.parameters()["w"].tolist() == [1.0] * 8


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_more_nodes_than_places_take_turns_and_keep_their_state(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    options: dict[str, Any] = {"nodes_per_bundle": 4} if isolation == "bundle" else {}
    count = 20 if isolation == "bundle" else 5
    with crowd(config, count, group, isolation=isolation, **options) as federation:
        before = federation.plan_round()
        assert (before.participants, before.turns) == (count, 3)
        history = federation.run(2)
        assert [len(result.participants) for result in history] == [count, count]
        assert federation.parameters()["w"].tolist() == [2.0] * 8
        federation.release("state:ready")
        federation.build(["client_0", "client_1"] if isolation == "process" else "id:client_1*")
        seen = ray.get([node.handle.seen.remote() for node in federation.select("state:ready")])
        assert set(seen) == {2}


def test_nodes_that_leave_in_the_middle_of_a_life_leave_room(group: Any, config: red.FederationConfig) -> None:
    with crowd(config, 12, group, nodes_per_bundle=4) as federation:
        federation.build()
        added = federation.add_nodes(2, "train")
        assert "no free place" in federation.plan(added).left_out[0].why
        assert len(federation.remove_nodes(["client_0", "client_1"])) == 2
        assert len(federation.build(added).built) == 2
        assert len(federation.run_round().participants) == 12


def test_rounds_leave_nothing_in_the_object_store(group: Any, config: red.FederationConfig) -> None:
    big = {"w": np.zeros(300_000, np.float32)}
    before = store_bytes()
    with crowd(config, 12, group, strategy="median", initial_parameters=big) as federation:
        federation.run(2)
        federation.run(6)
        # The parameters stay, and those that are being replaced; the updates of one round alone are twelve times that.
        eventually(lambda: store_bytes() - before <= 3 * big["w"].nbytes, "the updates of the rounds are gone")


def store_bytes() -> int:
    """Bytes in use in the object stores of the cluster."""
    total = ray.cluster_resources()["object_store_memory"]
    return int(total - ray.available_resources().get("object_store_memory", 0))


def test_nobody_is_left(group: Any, config: red.FederationConfig) -> None:
    federation = crowd(config, 50, group)
    federation.run(1)
    federation.close()
    eventually(lambda: named_actors() == [], "no host is left")
    assert free_cpus() < CPUS, "the group that was given is its owner's"


def test_a_run_waits_for_nodes_that_are_being_rebuilt_and_goes_on(
    group: Any, config: red.FederationConfig, tmp_path: Path
) -> None:
    config = config.updated(who="client_0", gate=str(tmp_path / "gate"), marks=str(tmp_path))
    policy = red.FailurePolicy("rebuild", max_rebuilds=3, backoff=0.2)
    with crowd(config, 12, group, Dreamer, failure=policy) as federation:
        federation.build()
        pids = set(ray.get([node.handle.pid.remote() for node in federation.nodes]))
        federation.start_run(3)
        eventually((tmp_path / "client_0").exists, "the first node is at work")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        (tmp_path / "gate").touch()
        eventually(lambda: not federation.running, "the run ends")
        assert [result.number for result in federation.history] == [1, 2, 3]
        assert len(federation.history[-1].participants) == 12
        assert federation.parameters()["w"].tolist() == [3.0] * 8


def test_a_run_that_cannot_go_on_says_why_it_ends(
    group: Any, config: red.FederationConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = config.updated(trouble="fit", who="client_0")
    settings = red.RoundSettings(min_results=1.0)
    with crowd(config, 3, group, Troubled, settings=settings) as federation:
        with pytest.raises(red.RoundError, match="gradient exploded"):
            federation.run(5)
        assert not federation.running
        assert "ends 5 rounds before its last, 5" in caplog.text
