"""Sessions on a real cluster: nodes that run their own `train` and talk with their neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import red_tui as red
from tests.cluster.conftest import eventually
from tests.cluster.sessions_nodes import Talker

Reserve = Callable[..., Any]
ISOLATIONS = ("process", "bundle")


@pytest.fixture
def group(reserve: Reserve) -> Any:
    return reserve(num_nodes=4, num_cpus=4)


def ring(config: red.FederationConfig, group: Any, isolation: str, count: int = 4, **options: Any) -> red.FederatedBase:
    schema = options.pop("schema", red.RingFederatedLearningSchema)
    role = options.pop("role", "train")
    made: red.FederatedBase = schema(Talker, [role] * count, config, resources=group, isolation=isolation, **options)
    return made


def hand_round(federation: red.FederatedBase, rounds: int) -> None:
    result = federation.train(client_args={"what": "token", "rounds": rounds})
    assert result is not None and not result.failures
    assert set(result.results.values()) == {rounds} and not federation.running


def test_a_token_goes_round_64_nodes_in_hosts_a_thousand_times(group: Any, config: red.FederationConfig) -> None:
    with ring(config, group, "bundle", 64) as federation:
        hand_round(federation, 1000)


def test_a_token_goes_round_processes(group: Any, config: red.FederationConfig) -> None:
    with ring(config, group, "process") as federation:
        hand_round(federation, 100)
        hand_round(federation, 10)


def test_a_ring_of_processes_goes_on_when_one_is_killed_and_rebuilt(
    reserve: Reserve, config: red.FederationConfig, tmp_path: Path
) -> None:
    policy = red.FailurePolicy("rebuild", backoff=0.01)
    with ring(config, reserve(num_nodes=8, num_cpus=4), "process", 8, failure=policy) as federation:
        arguments = {"what": "mortal", "rounds": 1000, "dies": str(tmp_path / "dies")}
        result = federation.train(client_args=arguments)
        assert result is not None and not result.failures
        assert (tmp_path / "dies").exists() and result.results["client_0"] == 8000
        assert set(result.results) == set(federation.node_ids)


def test_a_host_that_dies_in_a_session_comes_back_to_it(
    group: Any, config: red.FederationConfig, tmp_path: Path
) -> None:
    policy = red.FailurePolicy("rebuild", backoff=0.01)
    with ring(config, group, "bundle", 4, failure=policy) as federation:
        arguments = {"what": "mortal", "rounds": 50, "dies": str(tmp_path / "dies")}
        result = federation.train(client_args=arguments)
        assert result is not None and not result.failures, result
        assert (tmp_path / "dies").exists() and result.results["client_0"] == 200


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_node_that_was_released_hears_its_neighbours_in_the_next_session(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with ring(config, group, isolation) as federation:
        hand_round(federation, 3)
        federation.release("client_2")
        hand_round(federation, 3)


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("size", [10, 100_000])
def test_neighbours_get_small_and_large_bodies(
    group: Any, config: red.FederationConfig, isolation: str, size: int
) -> None:
    with ring(config, group, isolation, schema=red.MeshFederatedLearningSchema) as federation:
        result = federation.train(client_args={"what": "publish", "size": size})
    assert result is not None
    assert result.results == {f"client_{place}": 6.0 - place for place in range(4)}


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_full_mailbox_slows_the_sender_and_loses_nothing(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with ring(config, group, isolation, 2) as federation:
        result = federation.train(client_args={"what": "flood", "count": 3000})
    assert result is not None and not result.failures
    assert result.results["client_1"] == list(range(3000))


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_session_in_the_background_hears_the_supervisor_and_stops(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with ring(config, group, isolation) as federation:
        with pytest.raises(red.MessageError, match="'client_1' is virtual: messages go to built nodes only"):
            federation.send("lr", {"value": 0.1}, to="client_1")
        assert federation.train(client_args={"what": "wait"}, blocking=False) is None
        eventually(lambda: len(federation.select("state:busy")) == 4, "all are at work")
        assert federation.running
        with pytest.raises(red.CommandRefused, match="a session runs already"):
            federation.train()
        assert federation.send("lr", {"value": 0.1}, to="client_1") == 1
        for wrong in ("", 7, "STOP"):
            with pytest.raises(red.MessageError, match="header"):
                federation.send(wrong)  # type: ignore[arg-type]
        assert federation.stop() == "the session has ended"
        assert not federation.running and len(federation.select("state:ready")) == 4


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_errors_are_named_and_the_others_come_back(group: Any, config: red.FederationConfig, isolation: str) -> None:
    arguments = [
        {"what": "wrong", "header": "x", "to": "client_2"},
        {"what": "wrong", "header": ""},
        {"what": "raises"},
        {"what": "wrong", "header": "x", "to": "nobody"},
    ]
    with ring(config, group, isolation) as federation:
        result = federation.train(client_args=arguments)
        assert result is not None and not result.results
        assert "'client_2' is not a neighbour of 'client_0' in this topology (ring)" in result.failures["client_0"]
        assert "header is a text" in result.failures["client_1"]
        assert result.failures["client_2"] == "ValueError: diverged"
        assert "'nobody' is not a neighbour" in result.failures["client_3"]
        with pytest.raises(red.SessionError, match="2 entries for"):
            federation.rebuild()
            federation.train(client_args=[{}, {}])
        with pytest.raises(red.SessionError, match="has no train"):
            federation.train(server_args={"x": 1})


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_body_that_cannot_be_serialised_fails_at_the_sender(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with ring(config, group, isolation, 2) as federation:
        given = {
            "client_0": {"what": "wrong", "header": "x", "body": "lock"},
            "client_1": {"what": "publish", "size": 1},
        }
        federation.train(client_args={**given, "client_1": {"what": "wait"}}, blocking=False)
        eventually(lambda: len(federation.select("state:failed")) == 1, "the sender has failed")
        assert "cannot be sent" in federation["client_0"].why
        federation.stop()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_node_that_does_not_stop_is_ended(group: Any, config: red.FederationConfig, isolation: str) -> None:
    with ring(config, group, isolation) as federation:
        given = {"client_0": {"what": "deaf"}, **{f"client_{place}": {"what": "nothing"} for place in (1, 2, 3)}}
        federation.train(client_args=given, blocking=False)
        eventually(lambda: federation.select("state:busy").ids == ["client_0"], "the others have come back")
        assert federation.stop_session(timeout=1.0) == "the session has ended; 1 nodes had to be ended"
        assert federation.select("state:failed").ids == ["client_0"] and not federation.running


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_versions_and_a_change_of_neighbours_in_mid_session(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with ring(config, group, isolation) as federation:
        with pytest.raises(red.SessionError, match="client_0 is not built"):
            federation.pull_version("client_0", timeout=1)
        given = {"client_0": {"what": "versions"}, **{f"client_{place}": {"what": "seen"} for place in (1, 2, 3)}}
        federation.train(client_args=given, blocking=False)
        assert federation.pull_version("client_0", timeout=90)["w"].tolist() == [1, 1, 1]
        with pytest.raises(red.SessionError, match=r"client_1: it has published no version within 2 s"):
            federation.pull_version(["client_0", "client_1"], timeout=2)
        federation.set_topology("mesh")
        federation.send("look", to=["client_1", "client_2", "client_3"])
        eventually(lambda: len(federation.select("state:busy")) == 1, "all have looked")
        federation.stop()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_tests_are_weighted(group: Any, config: red.FederationConfig, isolation: str) -> None:
    with ring(config, group, isolation, role="train-test") as federation:
        assert federation.test() == pytest.approx(1.5)
        assert federation.test("final", aggregate=False, more=1)["client_3"] == (3.0, 2.0)
