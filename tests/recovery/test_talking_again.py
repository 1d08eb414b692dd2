"""Hierarchies and sessions after the death of their supervisor, and of the directory with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

import red_tui as red
from red_tui.supervisor.registry import actors_of
from tests.system.support import eventually

LAYOUT = """# for tests
federation: {fed}
schema: {schema}
template: {template}
nodes: [{{count: 4, role: train}}]
topology: {topology}
placement: {placement}
rounds: {{count: 5, deadline: 30}}
failure: {{policy: rebuild, max_rebuilds: 3, backoff: 0.05}}
"""
PLACEMENTS = {"process": "{cpus: 3, bundles: 6}", "bundle": "{isolation: bundle, cpus: 2, bundles: 2}"}

Start = Callable[..., red.Client]


@pytest.fixture
def start(cluster: Cluster, tmp_path: Path) -> Iterator[Start]:
    clients: list[str] = []

    def begin(fed: str, **said: Any) -> red.Client:
        path = tmp_path / f"{fed}.yaml"
        path.write_text(LAYOUT.format(fed=fed, **said))
        clients.append(fed)
        return red.launch(path, address=cluster.address)

    yield begin
    for fed in clients:
        red.attach(fed, cluster.address).down()
    assert actors_of() == {}


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_a_hierarchy_is_taken_up_again_with_its_aggregators(start: Start, isolation: str) -> None:
    client = start(
        f"tree-{isolation}", schema="hierarchical", topology="{levels: [2]}", template="counting_nodes:Counting",
        placement=PLACEMENTS[isolation],
    )  # fmt: skip
    client.run(2)
    pids = {name: client.node(name)["pid"] for name in client.node_ids}
    assert {"edge_0", "edge_1"} < set(pids)
    client.set_topology("hierarchical", levels=[2])
    client.start_run(4)
    eventually(lambda: client.status()["round"] >= 3, "rounds run")
    psutil.Process(client.status()["pid"]).kill()
    eventually(lambda: client.status()["round"] == 6 and not client.running, "the run has gone on to its end")
    assert client.parameters()["w"].tolist() == [6.0] * 3
    assert {name: client.node(name)["pid"] for name in client.node_ids} == pids, "the same processes"
    assert client.neighbors("edge_1") == ["server", "client_2", "client_3"]


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_nodes_talk_again_after_the_death_of_supervisor_and_directory(start: Start, isolation: str) -> None:
    client = start(
        f"ring-{isolation}", schema="ring", topology="{}", template="passing_nodes:Passing",
        placement=PLACEMENTS[isolation],
    )  # fmt: skip

    def session() -> None:
        result = client.train(client_args={"rounds": 5})
        assert result is not None and not result.failures, result
        assert result.results["client_0"] == 20

    for _ in range(3):
        session()
    directory = ray.get_actor(f"{client.fed_id}/topology", namespace="red")
    version = ray.get(directory.version.remote(), timeout=90)
    psutil.Process(client.status()["pid"]).kill()
    eventually(lambda: bool(client.status()["pid"]), "the supervisor is back")
    session()
    # The actor outlived its federation's supervisor, and versions went on.
    eventually(lambda: ray.get(directory.version.remote(), timeout=90) > version, "versions have gone on")
    eventually(lambda: client.traffic().get("client_0", {}).get("sent", 0) >= 20, "messages are counted")
    pid = client.status()["pid"]
    ray.kill(directory)
    psutil.Process(pid).kill()
    eventually(lambda: client.status()["pid"] != pid, "the supervisor is back again")
    # Nobody but the nodes knows the last version now: they say so when they are linked.
    session()
    directory = ray.get_actor(f"{client.fed_id}/topology", namespace="red")
    eventually(lambda: ray.get(directory.version.remote(), timeout=90) > version, "versions have gone on")
    assert ray.get(directory.neighbors.remote("client_0"), timeout=90) == ("client_1", "client_3")


def after_a_round(models: Any) -> tuple[Any, float]:
    """The models of a ring of four after each node's fit and the gossip, and how far they are from each other."""
    mixing = (np.ones((4, 4)) - np.eye(4)[[2, 3, 0, 1]]) / 3
    mixed = mixing @ (models + np.arange(4.0))
    return mixed, float(np.sqrt(50_000 * np.mean((mixed - mixed.mean()) ** 2)))


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_nodes_that_gossip_go_on_from_their_own_models(start: Start, isolation: str) -> None:
    client = start(
        f"gossip-{isolation}", schema="ring", topology="{}", template="drifting_nodes:Drifting",
        placement=PLACEMENTS[isolation],
    )  # fmt: skip

    def die(*pids: int) -> str:
        """End processes at once; what the supervisor says when it is back."""
        for pid in pids:
            psutil.Process(pid).kill()
        eventually(lambda: client.status()["pid"] not in pids, "the supervisor is back")
        texts = eventually(
            lambda: [event.text for event in client.events(limit=50) if "taken up again" in event.text], "it is told"
        )
        return texts[-1]

    def distance() -> float:
        client.run(1)
        return float(client.history.rounds[-1].metrics["consensus_distance"])

    models = np.zeros(4)
    for _ in range(2):
        models, expected = after_a_round(models)
        assert distance() == pytest.approx(expected, rel=1e-9)
    assert "4 go on from their own models" in die(client.status()["pid"])
    models, expected = after_a_round(models)
    assert distance() == pytest.approx(expected, rel=1e-9)
    # Where the server has ended too, nobody has the models any more: all go on from their mean, and that is told.
    told = die(client.node("server")["pid"], client.status()["pid"])
    assert "4 go on from the mean of all models, as their own are lost" in told
    _, expected = after_a_round(np.full(4, models.mean()))
    assert distance() == pytest.approx(expected, rel=1e-9)
