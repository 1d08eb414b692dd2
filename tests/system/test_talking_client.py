"""Sessions, messages and topologies of a federation in the cluster, through its supervisor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import red_tui
from red_tui.errors import CommandRefused, MessageError, SessionError, TopologyError
from tests.system.support import Home, eventually

LAYOUT = """\
# Four nodes on a ring
federation: {federation}
schema: ring
template: tests.system.talkers:Talker
nodes:
  - {{count: 4, role: train-test, id: "peer_{{i}}"}}
placement: {{isolation: bundle, cpus: 1, bundles: 2}}
failure: {{policy: leave}}
"""

PEERS = [f"peer_{number}" for number in range(4)]


@pytest.fixture
def ring(tmp_path: Path, cluster: Home, fed_id: str) -> Any:
    """A launched federation of four nodes that talk on a ring."""
    path = tmp_path / "ring.yaml"
    path.write_text(LAYOUT.format(federation=fed_id))
    return red_tui.launch(path)


def began(client: Any) -> None:
    """A session runs and all its nodes are at work."""
    table = client.table
    eventually(lambda: [str(table().state_of(table().row_of(one) or 0)) for one in PEERS] == ["busy"] * 4, "all work")


def test_a_session_gives_what_each_node_returned_and_names_what_failed(ring: Any) -> None:
    result = ring.train(client_args=[{"what": "fall"}, *[{"what": "count"}] * 3])
    assert result.results == {one: 2 for one in PEERS[1:]}
    assert result.failures == {"peer_0": "ValueError: diverged"} and not result.stopped
    with pytest.raises(SessionError, match="client_args has 1 entries for 3 nodes"):
        ring.train(client_args=[{}])


def test_a_session_goes_on_when_its_client_leaves_and_another_one_talks_to_it_and_ends_it(
    ring: Any, cluster: Home
) -> None:
    begin = "import sys, red_tui; red_tui.attach(sys.argv[1]).train(client_args={'what': 'echo'}, blocking=False)"
    told = cluster.python(begin.replace("sys.argv[1]", repr(ring.fed_id)))
    assert told.code == 0, told.err
    assert ring.running
    began(ring)
    status = ring.status()
    assert status["session"] and status["state"] == "running"
    with pytest.raises(CommandRefused, match="a session runs already"):
        ring.train()
    with pytest.raises(CommandRefused, match="session"):
        ring.run_round()
    assert ring.send("lr", 0.1, "id:peer_0") == 1
    with pytest.raises(MessageError, match="header"):
        ring.send("", 0.1)

    def talk(node_id: str) -> Any:
        return eventually(lambda: ring.node(node_id).get("talk"), "its process answers")

    eventually(lambda: talk("peer_1")["received"] == 1, "a neighbour has heard")
    assert talk("peer_0")["to"]["peer_1"][0] == 1
    assert talk("peer_2")["received"] == 0
    assert "the session has ended" in ring.stop()
    assert not ring.running and not ring.status()["session"]
    audit = [event.text for event in ring.events(limit=1000) if event.kind == "operator"]
    assert [text.split()[0] for text in audit if not text.startswith(("train", "round", "run"))] == [
        "send", "send", "stop",
    ]  # fmt: skip
    assert "send header lr to id:peer_0" in audit and any("'what': 'echo'" in text for text in audit)


def test_what_a_session_gives_reaches_a_client_that_waits_for_it(ring: Any) -> None:
    import threading

    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(ring.train(client_args={"what": "publish", "value": 7})))
    waiting.start()
    began(ring)
    assert ring.pull_version("peer_2", timeout=90) == {"w": 7}
    assert ring.pull_version(["peer_0", "peer_1"], timeout=90) == {"peer_0": {"w": 7}, "peer_1": {"w": 7}}
    ring.stop_session(timeout=90)
    waiting.join(120)
    (result,) = results
    assert result.stopped and not result.failures
    assert result.results == {one: ["STOP from supervisor"] for one in PEERS}


def test_tests_are_judged_in_the_cluster(ring: Any) -> None:
    assert ring.test() == 1.5
    assert ring.test(aggregate=False) == {one: (float(place), 1.0) for place, one in enumerate(PEERS)}


def test_a_session_that_cannot_be_built_says_so_although_nobody_waits_for_it(
    tmp_path: Path, cluster: Home, fed_id: str
) -> None:
    path = tmp_path / "crowded.yaml"
    path.write_text(LAYOUT.format(federation=fed_id).replace("isolation: bundle", "isolation: process"))
    crowded = red_tui.launch(path)
    crowded.train(client_args={"what": "echo"}, blocking=False)
    eventually(lambda: not crowded.running, "the session has ended")

    def errors() -> list[str]:
        of = ("federation", "error", "session")
        return [event.text for event in crowded.events() if (event.kind, event.level, event.subject) == of]

    (told,) = eventually(errors, "it is told")
    assert "could not be built, and a session needs all at once" in told
    with pytest.raises(CommandRefused, match="no session runs"):
        crowded.stop_session()


def test_the_graph_is_told_with_its_edges_and_again_under_another_version_when_it_changes(ring: Any) -> None:
    update = ring.snapshot()
    assert update["topology"]["rule"] == "ring" and not update["session"]["running"]
    told = ring.command("graph", {})
    assert told["version"] == update["topology"]["version"]
    table = ring.table()
    pairs = np.frombuffer(told["pairs"], dtype="<i4").reshape(-1, 2)
    edges = {frozenset(table.ids.take(pair)) for pair in pairs}
    assert edges == {frozenset({PEERS[one], PEERS[(one + 1) % 4]}) for one in range(4)}
    assert told["facts"]["gap"] == pytest.approx(2 / 3) and told["facts"]["parts"] == 1
    assert ring.neighbors("peer_1") == ["peer_0", "peer_2"]

    assert str(ring.set_topology("k-connected", k=3)).startswith("k-connected (k = 3): 4 nodes, 6 edges")
    update = ring.watch(update)
    assert update["topology"]["rule"] == "k-connected (k = 3)" and update["topology"]["version"] != told["version"]
    with pytest.raises(TopologyError, match=r"a node has at most 3"):
        ring.set_topology("k-connected", k=9)
    assert ring.command("graph", {})["facts"]["edges"] == 6
    before = ring.command("graph", {})["version"]
    ring.add_nodes(2)
    assert ring.command("graph", {})["version"] != before


def test_a_read_only_client_sees_graph_and_versions_and_begins_nothing(ring: Any) -> None:
    reader = red_tui.attach(ring.fed_id, read_only=True, connected=True)
    assert reader.neighbors("peer_0") == ["peer_1", "peer_3"]
    assert reader.traffic() == {} and reader.command("graph")["name"] == "ring"
    refused: dict[str, Callable[[], Any]] = {
        "train": lambda: reader.train(),
        "stop_session": lambda: reader.stop_session(),
        "test": lambda: reader.test(),
        "send": lambda: reader.send("lr", 1),
        "topology": lambda: reader.set_topology("mesh"),
    }
    for verb, act in refused.items():
        with pytest.raises(CommandRefused, match=f"{verb}: this connection is read-only"):
            act()
    assert not ring.running
