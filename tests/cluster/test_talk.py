"""What goes wrong and what is counted where nodes talk: full mailboxes, receivers that die, and the directory."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray

import red_tui as red
from red_tui.federation import node_messages
from tests.cluster.conftest import eventually, named_actors
from tests.cluster.talk_nodes import Mean, Talker

Reserve = Callable[..., Any]
ISOLATIONS = ("process", "bundle")


def pair(
    config: red.FederationConfig, group: Any, isolation: str, count: int = 2, template: type = Talker, **options: Any
) -> red.FederatedBase:
    return red.RingFederatedLearningSchema(
        template, ["train"] * count, config, resources=group, isolation=isolation, **options
    )


def texts(federation: red.FederatedBase, subject: str, level: str = "warn") -> list[str]:
    return [event.text for event in federation.feed.events if (event.subject, event.level) == (subject, level)]


@pytest.fixture
def group(reserve: Reserve) -> Any:
    return reserve(num_nodes=2, num_cpus=2)


# -- full mailboxes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_a_full_mailbox_drops_by_policy_and_says_whose_messages(
    group: Any, config: red.FederationConfig, isolation: str, policy: str
) -> None:
    mailbox = {"capacity": 100, "policy": policy}
    with pair(config, group, isolation, mailbox=mailbox) as federation:
        given = {"client_0": {"what": "flood", "count": 3000}, "client_1": {"what": "late", "count": 3000}}
        result = federation.train(client_args=given)
        assert result is not None and not result.failures, result
        kept = range(2900, 3000) if policy == "drop-oldest" else range(100)
        assert result.results["client_1"] == list(kept)
        told = federation.traffic()
        assert told["client_1"]["dropped"] == 2900 and told["client_1"]["received"] == 3000
        assert told["client_0"]["to"]["client_1"] == [3000, 3000 * 8]
        directory = ray.get_actor(f"{federation.fed_id}/topology", namespace="red")
        counted = ray.get(directory.statistics.remote(), timeout=90)
        assert counted["totals"]["dropped"] == 2900
        ((sender, receiver, *figures),) = counted["edges"]
        assert (sender, receiver, *figures[:4]) == ("client_0", "client_1", 3000, 24000, 0, 2900) and figures[4] > 0
        (text,) = texts(federation, "session")
        assert text.startswith("2,900 messages dropped by full mailboxes (2,900 by client_1")


def test_the_first_drops_of_a_session_are_told_at_once(
    group: Any, config: red.FederationConfig, tmp_path: Path
) -> None:
    with pair(config, group, "process", mailbox={"capacity": 10, "policy": "drop-oldest"}) as federation:
        hold = {"what": "hold", "gate": str(tmp_path / "gate")}
        federation.train(client_args={"client_0": {"what": "flood", "count": 500}, "client_1": hold}, blocking=False)
        eventually(lambda: bool(texts(federation, "client_1")), "it is told while the session runs")
        assert (
            federation.running
            and "its mailbox of 10 is full and drops messages (drop-oldest): " in texts(federation, "client_1")[0]
        )
        (tmp_path / "gate").touch()
        eventually(lambda: not federation.running, "the session has ended")
        assert texts(federation, "session")[0].startswith("490 messages dropped by full mailboxes")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_sender_waits_no_longer_for_room_than_the_federation_says(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with pair(config, group, isolation, mailbox={"capacity": 10, "timeout": 0.3}) as federation:
        given = {"client_0": {"what": "insist", "count": 1000}, "client_1": {"what": "late", "count": -1}}
        federation.train(client_args=given, blocking=False)
        eventually(lambda: bool(federation.select("state:failed")), "the sender has given up")
        assert "the mailbox of 'client_1' is full" in federation["client_0"].why
        assert "for 0.3 s" in federation["client_0"].why
        federation.stop_session(timeout=0.5)


# -- receivers that die, leave or come back --------------------------------------------------------


def received(federation: red.FederatedBase, node_id: str) -> int:
    """How many messages a node has received; 0 while it does not say."""
    return int(federation.traffic().get(node_id, {}).get("received", 0))


def numbers(federation: red.FederatedBase) -> dict[str, int]:
    """How many messages `client_0` has sent to each neighbour."""
    told = federation.traffic().get("client_0", {}).get("to", {})
    return {name: count for name, (count, _) in told.items()}


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_sender_learns_at_once_that_a_receiver_died_and_what_was_lost_is_told(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with pair(config, group, isolation) as federation:
        given = {"client_0": {"what": "insist", "count": 5}, "client_1": {"what": "dies", "count": 5}}
        result = federation.train(client_args=given)
        assert result is not None
        assert "'client_1' " in result.results["client_0"] and "killed by a signal" in result.results["client_0"]
        assert "killed by a signal" in result.failures["client_1"]
        (text,) = texts(federation, "client_1")
        assert text.startswith("has no process any more: ")
        assert "it had not read went with its process" in text or "did not arrive" in text


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_receiver_that_is_released_is_named_and_is_heard_again_when_it_is_built(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with pair(config, group, isolation, 2) as federation:
        given = {"client_0": {"what": "ping"}, "client_1": {"what": "nothing"}}
        federation.train(client_args=given, blocking=False)
        eventually(lambda: federation.select("state:busy").ids == ["client_0"], "one has come back")
        for _ in range(3):
            federation.send("go", 1, to="client_0")
        # Who has come back hears until it is released; numbers begin anew with its next process.
        eventually(lambda: received(federation, "client_1") == 3, "all have arrived")
        federation.release("client_1")
        eventually(lambda: numbers(federation).get("client_1") == 0, "the sender has been told")
        version = federation.topology_version
        federation.build("client_1")
        assert federation.topology_version == version
        federation.send("go", 2, to="client_0")
        eventually(lambda: received(federation, "client_1") >= 1, "it is heard again")
        federation.stop()
        assert not federation.select("state:failed")


def test_a_node_that_did_not_take_a_change_is_told_again(
    group: Any, config: red.FederationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_messages, "LINK_TIMEOUT", 1.0)
    with pair(config, group, "process") as federation:
        given = {"client_0": {"what": "ping"}, "client_1": {"what": "nothing"}}
        federation.train(client_args=given, blocking=False)
        eventually(lambda: federation.select("state:busy").ids == ["client_0"], "one has come back")
        pid = ray.get(federation["client_0"].handle.red_detail.remote(), timeout=90)["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            federation.release("client_1")
            federation.build("client_1")
            eventually(lambda: "client_0 could not be linked" in "".join(texts(federation, "session")), "it is told")
        finally:
            os.kill(pid, signal.SIGCONT)

        def heard() -> bool:
            # What is sent to the process that has ended is lost, and told.
            federation.send("go", 1, to="client_0")
            return received(federation, "client_1") >= 1

        eventually(heard, "it has been told again")
        federation.stop()


@pytest.mark.parametrize(("verb", "words"), [("release", "is released"), ("remove_nodes", "was removed from")])
def test_sending_to_who_has_left_is_an_error_that_names_it(
    group: Any, config: red.FederationConfig, verb: str, words: str
) -> None:
    with pair(config, group, "process") as federation:
        given = {"client_0": {"what": "insist", "count": 1}, "client_1": {"what": "nothing"}}
        with ThreadPoolExecutor(1) as pool:
            session = pool.submit(federation.train, client_args=given)
            eventually(lambda: federation.select("state:busy").ids == ["client_0"], "one has come back")
            getattr(federation, verb)("client_1")
            result = session.result(240)
        assert result is not None and not result.failures
        assert "'client_1' " in result.results["client_0"] and words in result.results["client_0"]
        (text,) = texts(federation, "client_1")
        assert text.startswith("has no process any more")


def test_a_strangers_message_is_refused_and_the_session_goes_on(group: Any, config: red.FederationConfig) -> None:
    with pair(config, group, "process") as federation:
        federation.train(client_args={"what": "wait"}, blocking=False)
        eventually(lambda: len(federation.select("state:busy")) == 2, "both are at work")
        handle = federation["client_0"].handle
        with pytest.raises(red.MessageError, match="'stranger' is not in the federation of 'client_0'"):
            ray.get(
                handle.red_deliver_all.remote(pickle.dumps(("x", "stranger", [("n", 1, 0.0, b"N.")], None))), timeout=90
            )
        assert federation.send("hello", to="client_0") == 1
        assert federation.stop() == "the session has ended"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_sending_before_a_session_is_an_error_at_the_caller(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with pair(config, group, isolation) as federation:
        federation.build()
        with pytest.raises(red.MessageError, match="'client_0' is not linked yet: messages are sent within a session"):
            ray.get(federation["client_0"].handle.send.remote("x", 1), timeout=90)


# -- the directory ------------------------------------------------------------------------------------


def directory_of(federation: red.FederatedBase) -> Any:
    return ray.get_actor(f"{federation.fed_id}/topology", namespace="red")


@ray.remote(num_cpus=0)
def asked_elsewhere(fed_id: str) -> Any:
    """Another process of the cluster that knows nothing but the federation's id."""
    directory = ray.get_actor(f"{fed_id}/topology", namespace="red")
    told = [directory.neighbors.remote("client_0"), directory.edges.remote(), directory.version.remote()]
    return ray.get(told, timeout=90)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_any_process_asks_the_directory_who_is_whose_neighbour(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    with pair(config, reserve(num_nodes=4, num_cpus=2), isolation, 4) as federation:
        federation.build()
        with pytest.raises(ValueError):
            directory_of(federation)
        result = federation.train(client_args={"what": "ask"})
        kind = "ActorHandle" if isolation == "process" else "HostedHandle"
        assert result is not None and result.results["client_0"] == (True, {"client_1": kind, "client_3": kind})
        neighbors, edges, version = ray.get(asked_elsewhere.remote(federation.fed_id), timeout=240)
        assert neighbors == ("client_1", "client_3") and len(edges) == 4 and version >= 1
        federation.set_topology("mesh")
        neighbors, edges, later = ray.get(asked_elsewhere.remote(federation.fed_id), timeout=240)
        assert neighbors == ("client_1", "client_2", "client_3") and len(edges) == 6 and later > version
        federation.remove_nodes("client_3")
        neighbors, *_ = ray.get(asked_elsewhere.remote(federation.fed_id), timeout=240)
        assert neighbors == ("client_1", "client_2")
        with pytest.raises(red.TopologyError, match="'client_3' is not in the topology"):
            ray.get(directory_of(federation).neighbors.remote("client_3"), timeout=90)
    assert not [name for name in named_actors() if name.startswith(federation.fed_id)]


def test_a_directory_that_dies_is_made_anew_and_the_session_goes_on(group: Any, config: red.FederationConfig) -> None:
    with pair(config, group, "process") as federation:
        federation.train(client_args={"what": "echo"}, blocking=False)
        eventually(lambda: len(federation.select("state:busy")) == 2, "both are at work")
        before = directory_of(federation)
        version = ray.get(before.version.remote(), timeout=90)
        ray.kill(before)
        federation.send("go", 1, to="client_0")
        assert federation.pull_version("client_1", timeout=90) == 1
        eventually(lambda: answers(federation, version), "another one knows the topology", timeout=240)
        federation.send("go", 2, to="client_0")
        eventually(lambda: federation.pull_version("client_1", timeout=90) == 2, "messages still arrive")
        eventually(lambda: any("made anew" in text for text in texts(federation, "topology")), "it is told")
        federation.stop()


def answers(federation: red.FederatedBase, version: int) -> bool:
    try:
        directory = directory_of(federation)
        told = ray.get([directory.version.remote(), directory.neighbors.remote("client_0")], timeout=30)
    except (ValueError, ray.exceptions.RayError, red.TopologyError):
        return False
    return told[0] > version and told[1] == ("client_1",)


def test_decentralised_rounds_are_in_the_directory_too(group: Any, config: red.FederationConfig) -> None:
    with pair(config, group, "bundle", 4, Mean) as federation:
        federation.run(2)
        assert ray.get(directory_of(federation).neighbors.remote("client_0"), timeout=90) == ("client_1", "client_3")
        version = ray.get(directory_of(federation).version.remote(), timeout=90)
        federation.run_round()
        assert ray.get(directory_of(federation).version.remote(), timeout=90) == version
    with red.StarFederatedLearningSchema(Mean, ["train"] * 2, config, resources=group, isolation="bundle") as star:
        star.run_round()
        assert f"{config.federation_id}/topology" not in named_actors()
