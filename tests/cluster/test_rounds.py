from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red
from red_tui.federation.rounds.round_plan import finished_wire, summary
from tests.cluster.conftest import eventually
from tests.cluster.templates import Counting, Diarist, Troubled, Weighted

Reserve = Callable[..., Any]


@pytest.fixture
def group(reserve: Reserve) -> Any:
    return reserve(num_nodes=3, num_cpus=3)


def star(config: red.FederationConfig, group: Any, template: type = Counting, **options: Any) -> red.FederatedBase:
    roles = options.pop("roles", ["train-eval"] * 3)
    return red.StarFederatedLearningSchema(template, roles, config, resources=group, **options)


def test_the_mean_after_k_rounds_of_plus_one_is_k(group: Any, config: red.FederationConfig) -> None:
    start = {"w": np.zeros(1000, np.float32), "counter": np.asarray(3)}
    with star(config, group, initial_parameters=start) as federation:
        history = federation.run(12)
        parameters = federation.parameters()
    assert [result.number for result in history] == list(range(1, 13))
    assert np.abs(parameters["w"] - 12).max() < 1e-6
    assert parameters["counter"] == 15 and parameters["counter"].dtype == start["counter"].dtype


def test_updates_and_judgements_are_weighted_by_examples(group: Any, config: red.FederationConfig) -> None:
    with star(config, group, Weighted) as federation:
        result = federation.run_round()
        parameters = federation.parameters()
    expected = (1 * 1 + 2 * 2 + 3 * 3) / 6
    assert parameters["w"] == pytest.approx(expected)
    assert result.loss == pytest.approx(expected)
    assert result.metrics["accuracy"] == pytest.approx(expected / 10)
    assert result.train_metrics["loss"] == pytest.approx(expected)
    assert result.num_examples == 6
    loss = result.spread["measures"]["loss"]
    assert (loss["count"], loss["quantiles"][0], loss["quantiles"][-1]) == (3, 1, 3)
    assert loss["high"][0] == ["client_2", 3.0] and loss["low"][0] == ["client_0", 1.0]


def test_nodes_that_misbehave_fail_alone_and_are_named(reserve: Reserve, config: red.FederationConfig) -> None:
    words = {
        "fit": "gradient exploded",
        "nan": "NaN",
        "shape": "shape",
        "none": "FitResult",
        "evaluate": "label",
        "exit": "",
    }
    # The first and the last do right.
    troubles = {f"client_{place}": trouble for place, trouble in enumerate(words, start=1)}
    judge, dead = (next(name for name, what in troubles.items() if what == one) for one in ("evaluate", "exit"))
    group, settings = reserve(num_nodes=8, num_cpus=4), red.RoundSettings(min_results=1)
    told = config.updated(troubles=troubles)
    with star(told, group, Troubled, roles=["train-eval"] * 8, settings=settings) as federation:
        result = federation.run_round()
        assert sorted(result.failures) == sorted(troubles)
        assert set(result.participants) - {judge} == {"client_0", "client_7"}
        assert result.left_out == {}
        for name, trouble in troubles.items():
            assert words[trouble] in result.failures[name]
            state = "failed" if name == dead else "ready"
            eventually(lambda name=name, state=state: federation[name].state == state, "the death is noticed")
            detail = federation.describe_node(name)
            if name != dead:
                assert "Traceback" in detail["traceback"]
            assert words[trouble] in detail["last_error"]["text"] and detail["last_error"]["round"] == 1
        again = federation.run_round()
        assert again.participants == result.participants
        assert {dead: result.failures[dead], **again.failures} == dict(result.failures), "each round is a new chance"
        assert list(again.left_out) == [dead] and again.left_out[dead].startswith("has failed: ")


def test_too_few_results_fail_the_round_and_keep_the_parameters(group: Any, config: red.FederationConfig) -> None:
    troubled = config.updated(trouble="fit", who="client_1")
    settings = red.RoundSettings(min_results=3)
    with star(troubled, group, Troubled, settings=settings) as federation:
        with pytest.raises(red.RoundError, match="2 of at least 3") as caught:
            federation.run_round()
        assert "gradient exploded" in caught.value.fields["failed"]["client_1"]
        assert (federation.parameters()["w"] == 0).all()
        assert len(federation.history) == 0 and not federation.running
        assert federation["client_1"].state == "ready" and "gradient exploded" in federation["client_1"].last_error


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_a_node_that_raises_in_one_round_takes_part_in_the_next_ones(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    config = config.updated(who="client_1", raises=2)
    with star(config, group, Diarist, isolation=isolation, roles=["train"] * 3) as federation:
        history = federation.run(10)
        raised = "fit raised ValueError: gradient exploded"
        assert [dict(result.failures) for result in history] == [{}, {"client_1": raised}, *({} for _ in range(8))]
        everybody = ("client_0", "client_1", "client_2")
        assert [result.participants == everybody for result in history] == [number != 2 for number in range(1, 11)]
        assert not any(result.left_out for result in history)
        node, detail = federation["client_1"], federation.describe_node("client_1")
        assert (str(node.state), node.why, node.last_error) == ("ready", "", raised)
        assert (detail["why"], detail["last_error"]["text"], detail["last_error"]["round"]) == ("", raised, 2)
        assert "gradient exploded" in detail["traceback"]
        assert f"its last error, in round 2: {raised}" in str(federation.explain("client_1"))
        (event,) = [event for event in federation.feed.events if event.subject == "client_1" and event.level == "warn"]
        assert event.text == raised and "state" not in event.data, "a replay does not take it for failed"


def test_a_round_names_who_is_left_out_and_its_journal_row_holds_it(group: Any, config: red.FederationConfig) -> None:
    with star(config, group) as federation:
        federation.run_round()
        ray.kill(federation["client_1"].handle)
        eventually(lambda: federation["client_1"].state == "failed", "the death is noticed")
        result = federation.run_round()
        why = "has failed: the process was ended on purpose (ray.kill or exit)"
        assert result.left_out == {"client_1": why} and result.failures == {}
        wire = finished_wire(result)
        assert red.RoundResult.from_wire(wire).left_out == result.left_out
        assert wire["num_left_out"] == 1 and wire["spread"]["left_out"] == [[why, 1, ["client_1"]]]
        older = {key: value for key, value in wire.items() if "left_out" not in key}
        assert red.RoundResult.from_wire(older).left_out == {}, "a row of an earlier version"
        assert "1 left out (client_1: has failed" in summary(result)
        for node in ("client_0", "client_2"):
            ray.kill(federation[node].handle)
        eventually(lambda: len(federation.select("state:failed")) == 3, "the deaths are noticed")
        with pytest.raises(red.RoundError, match=r"3 left out: 3 nodes \(client_0, …\): has failed") as caught:
            federation.run_round()
        assert sorted(caught.value.fields["left_out"]) == ["client_0", "client_1", "client_2"]
        assert federation.rebuild("client_1").built == ("client_1",)
        result = federation.run_round()
        assert result.participants == ("client_1",) and sorted(result.left_out) == ["client_0", "client_2"]
        assert "ended on purpose" in federation["client_1"].last_error, "what it had stays known after a rebuild"


def test_a_node_that_hangs_holds_nobody_up_past_the_deadline(
    group: Any, config: red.FederationConfig, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    troubled = config.updated(trouble="hang", who="client_1", gate=str(gate))
    with star(troubled, group, Troubled, settings=red.RoundSettings(deadline=3.0)) as federation:
        result = federation.run_round()
        assert result.participants == ("client_0", "client_2")
        assert "deadline" in result.failures["client_1"]
        assert federation["client_1"].state == "busy"
        without = federation.run_round()
        assert without.left_out == {"client_1": "is still at work in an earlier round or in a session"}
        gate.touch()
        eventually(lambda: federation["client_1"].state == "ready", "it answers late and is free again")
        assert len(federation.run_round().participants) == 3


def test_a_run_ends_when_its_condition_holds(group: Any, config: red.FederationConfig) -> None:
    with star(config, group) as federation:
        assert len(federation.run(50, until="loss>=4")) == 4
        with pytest.raises(red.RedError, match=r"accuracy>0\.95"):
            federation.run(1, until="accuracy is good")


def test_a_run_can_be_stopped_after_its_round_and_started_again(group: Any, config: red.FederationConfig) -> None:
    with star(config, group) as federation:
        federation.start_run(100000)
        assert federation.running
        with pytest.raises(red.CommandRefused, match="run already"):
            federation.run_round()
        federation.stop()
        eventually(lambda: not federation.running, "the run ends")
        done = len(federation.history)
        assert 1 <= done < 100000
        assert federation.run_round().number == done + 1


def test_stopping_now_leaves_the_last_finished_round(group: Any, config: red.FederationConfig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    troubled = config.updated(trouble="hang", who="client_1", gate=str(gate))
    with star(troubled, group, Troubled) as federation:
        federation.start_run(5)
        eventually(lambda: federation["client_1"].state == "busy", "the round is on")
        federation.stop(now=True)
        eventually(lambda: not federation.running, "the run ends at once")
        assert len(federation.history) == 0
        gate.touch()
        eventually(lambda: all(node.state == "ready" for node in federation.nodes), "who was at work is free again")
        assert len(federation.run_round().participants) == 3


def test_a_script_whose_run_is_stopped_now_gets_the_rounds_that_were_finished(
    group: Any, config: red.FederationConfig
) -> None:
    with star(config, group) as federation:

        def stop() -> None:
            eventually(lambda: len(federation.history) > 3, "rounds run")
            federation.stop(now=True)

        stopper = threading.Thread(target=stop)
        federation.run(1)
        stopper.start()
        history = federation.run(100000)
        stopper.join()
        assert 0 < len(history) < 100000 and len(federation.history) == len(history) + 1


def test_partial_participation_draws_other_nodes_each_round_and_the_same_each_run(
    reserve: Reserve, config: red.FederationConfig
) -> None:
    group = reserve(num_nodes=2, num_cpus=2)
    chosen = []
    for again in range(2):
        named = red.FederationConfig(federation_id=f"{config.federation_id}-{again}")
        settings = red.RoundSettings(fraction=0.5, seed=3)
        with star(named, group, roles=["train"] * 6, settings=settings, isolation="bundle") as federation:
            chosen.append([result.participants for result in federation.run(4)])
    assert chosen[0] == chosen[1]
    assert all(len(participants) == 3 for participants in chosen[0])
    assert len(set(chosen[0])) > 1


def test_parameters_outlive_the_server_process(group: Any, config: red.FederationConfig) -> None:
    with star(config, group) as federation:
        federation.run(3)
        ray.kill(federation.server.handle)
        eventually(lambda: federation.server.state == "failed", "the death is noticed")
        federation.run(1)
        assert (federation.parameters()["w"] == 4).all()


def test_history_becomes_a_csv_file(group: Any, config: red.FederationConfig, tmp_path: Path) -> None:
    with star(config, group) as federation:
        history = federation.run(3)
    rows = list(csv.DictReader(history.to_csv(tmp_path / "history.csv").open()))
    assert [int(row["round"]) for row in rows] == [1, 2, 3]
    assert [float(row["loss"]) for row in rows] == history.loss == [1.0, 2.0, 3.0]
    assert history.metric("accuracy") == [0.5, 0.5, 0.5]
    with pytest.raises(KeyError, match="there are accuracy, loss"):
        history.metric("f1")


def test_a_round_without_anybody_is_an_error(group: Any, config: red.FederationConfig) -> None:
    with (
        star(config, group, roles=["test"] * 3) as federation,
        pytest.raises(red.RoundError, match="no node can take part"),
    ):
        federation.run_round()


def test_the_server_and_the_clients_exchange_references_and_the_driver_fetches_no_parameters(
    group: Any, config: red.FederationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters of 4 MB: had this process fetched them, `ray.get` or a future would have held an array."""
    fetched: list[Any] = []
    real_get = ray.get

    def spy(references: Any, **options: Any) -> Any:
        value = real_get(references, **options)
        fetched.append(value)
        return value

    start = {"w": np.zeros(1_000_000, np.float32)}
    with star(config, group, initial_parameters=start) as federation:
        monkeypatch.setattr(ray, "get", spy)
        federation.run(2)
        monkeypatch.undo()
        assert not any(isinstance(value, dict) and "w" in value for value in fetched)
        assert (federation.parameters()["w"] == 2).all()
