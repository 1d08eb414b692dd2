"""What is refused leaves a session as it was, who should not take part does not, and what was sent is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red
from tests.cluster.conftest import eventually
from tests.cluster.messages_nodes import Talker

Reserve = Callable[..., Any]
ISOLATIONS = ("process", "bundle")


class Even(red.FederatedBase):
    def should_participate(self, node: red.VirtualNode) -> bool:
        return int(node.id.rpartition("_")[2]) % 2 == 0


@pytest.fixture
def group(reserve: Reserve) -> Any:
    return reserve(num_nodes=4, num_cpus=2)


def ring(
    config: red.FederationConfig,
    group: Any,
    isolation: str,
    schema: type = red.RingFederatedLearningSchema,
    count: int = 4,
) -> red.FederatedBase:
    made: red.FederatedBase = schema(Talker, ["train"] * count, config, resources=group, isolation=isolation)
    return made


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_message_that_is_refused_leaves_the_session_as_it_was(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with ring(config, group, isolation, count=5) as federation:
        federation.remove_nodes("client_4")
        given = {f"client_{place}": {"what": "wrong" if place == 0 else "wait"} for place in range(4)}
        results: list[red.SessionResult] = []
        session = threading.Thread(target=lambda: results.append(federation.train(client_args=given)))
        session.start()
        others = ["client_1", "client_2", "client_3"]
        eventually(lambda: federation.select("state:busy").ids == others, "the sender is done, the others read")
        with pytest.raises(red.MessageError, match="the body of 'x' cannot be sent"):
            federation.send("x", threading.Lock(), to="client_1")
        with pytest.raises(
            red.MessageError, match=r"'nobody' is no node of federation .*, and no query that finds one"
        ):
            federation.send("x", 1, to="nobody")
        for to in ("client_4", ["client_4"]):
            with pytest.raises(red.RedError, match="'client_4'"):
                federation.send("x", 1, to=to)
        assert federation.send("after", {"w": np.ones(2)}, to="client_1") == 1
        assert federation.stop() == "the session has ended"
        session.join(240)
    (result,) = results
    whys = result.results["client_0"]
    words = {
        "no header": "a text of 1 to 200 characters, not None",
        "blank header": "a text of 1 to 200 characters",
        "header of the end": "only the federation sends it",
        "nobody": "'nobody' is not a neighbour of 'client_0'",
        "no neighbour": "'client_2' is not a neighbour of 'client_0'",
        "one of two": "'client_2' is not a neighbour of 'client_0'",
        "itself": "'client_0' is not a neighbour of 'client_0'",
        "lock": "the body of 'x' cannot be sent",
        "to all": "the body of 'x' cannot be sent",
    }
    assert set(whys) == set(words)
    assert {name: why for name, why in whys.items() if words[name] not in why} == {}
    heard = result.results["client_1"]
    assert [body for header, sender, body in heard if sender == "client_0"] == [0, 1, 2]
    assert heard[-1][:2] == ("after", "supervisor") and not heard[-1][2]["w"].flags.writeable


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_who_should_not_take_part_has_no_part_in_a_session(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with ring(config, group, isolation, Even) as federation:
        federation.set_topology("mesh")
        result = federation.train(client_args={"what": "tell", "count": 1, "size": 1})
        assert result is not None and not result.failures, result
        assert set(result.results) == {"client_0", "client_2"}
        assert federation.select("state:virtual").ids == ["client_1", "client_3"]


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("size", [10, 10_000])
def test_messages_bytes_and_latency_are_counted_along_each_edge(
    group: Any, config: red.FederationConfig, isolation: str, size: int
) -> None:
    with ring(config, group, isolation) as federation:
        result = federation.train(client_args={"what": "tell", "count": 20, "size": size})
        assert result is not None and not result.failures, result
        directory = ray.get_actor(f"{federation.fed_id}/topology", namespace="red")
        told = ray.get(directory.statistics.remote(), timeout=240)
    edges = {(place, (place + step) % 4) for place in range(4) for step in (1, 3)}
    assert {edge[:2] for edge in told["edges"]} == {(f"client_{one}", f"client_{other}") for one, other in edges}
    for _, _, messages, amount, waiting, dropped, latency in told["edges"]:
        assert (messages, amount, waiting, dropped) == (20, 20 * 8 * size, 0, 0) and latency > 0
    totals = {"sent": 160, "received": 160, "doubles": 0, "dropped": 0, "waiting": 0, "sent_bytes": 160 * 8 * size}
    assert told["totals"] == totals
    assert all(one["latency"] > 0 for one in told["nodes"].values())
