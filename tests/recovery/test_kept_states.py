"""What nodes keep in files outlives supervisor and hosts, is read from other machines, and goes with a lost machine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group

import red_tui as red
from tests.heads import BARE
from tests.recovery.conftest import connect
from tests.system.support import eventually

LAYOUT = """# for tests
federation: {fed}
template: counting_nodes:Counting
nodes:
  - {{count: 12, role: train}}
placement: {{isolation: bundle, cpus: 2, bundles: 2, nodes_per_bundle: 2, state_memory: {memory}}}
rounds: {{count: 5, deadline: 60}}
failure: {{policy: rebuild, max_rebuilds: 50, backoff: 0.05}}
"""


def host_pids(client: red.Client) -> set[int]:
    built = [client.node(name) for name in client.node_ids]
    return {node["pid"] for node in built if node["pid"]}


def seen(client: red.Client) -> float:
    return float(client.history[-1].train_metrics["seen"])


def test_supervisor_and_hosts_are_killed_together_and_no_state_is_lost(
    cluster: Cluster, tmp_path: Path, home: Path
) -> None:
    layout = tmp_path / "kept.yaml"
    layout.write_text(LAYOUT.format(fed="kept", memory=0))
    client = red.launch(layout, address=cluster.address)
    try:
        client.run(2)
        assert seen(client) == 2
        pids = {*host_pids(client), client.status()["pid"]}
        assert len(pids) == 3, "two hosts and the supervisor"
        for pid in pids:
            psutil.Process(pid).kill()
        client.run(1)
        assert seen(client) == 3, "each of twelve nodes has seen all rounds"
        # In the middle of a run: rounds that did not count may have been seen, and none is forgotten.
        client.start_run(6)
        eventually(lambda: client.status()["round"] >= 4, "rounds run")
        for pid in {*host_pids(client), client.status()["pid"]}:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        eventually(lambda: not client.running, "the run has gone on to its end", 120)
        assert [result.number for result in client.history] == list(range(1, 10))
        assert seen(client) >= 9
        assert (home / "federations" / "kept" / "states" / "index.db").exists()
    finally:
        client.down()


class Machines:
    """Two machines for nodes, each with a home of its own, and a head for everything else."""

    def __init__(self, folder: Path) -> None:
        self.hosts = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **BARE})
        self.workers = [
            self.hosts.add_node(num_cpus=1, resources={"place": 1}, env_vars={"RED_HOME": str(folder / name)})
            for name in ("one", "two")
        ]
        connect(self.hosts)
        self.hosts.wait_for_nodes()

    def end(self) -> None:
        ray.shutdown()
        self.hosts.shutdown()


@pytest.mark.usefixtures("disconnected")
def test_states_are_read_from_other_machines_and_those_of_a_lost_one_are_named(tmp_path: Path) -> None:
    from tests.cluster.state_nodes import Remembering

    machines = Machines(tmp_path)
    try:
        group = placement_group([{"CPU": 1}, {"CPU": 1, "place": 1}, {"CPU": 1, "place": 1}], strategy="STRICT_SPREAD")
        ray.get(group.ready(), timeout=60)
        fed: Any = red.StarFederatedLearningSchema(
            Remembering,
            ["train"] * 4,
            {"federation_id": "machines"},
            isolation="bundle",
            nodes_per_bundle=2,
            resources=group,
            state_memory=0,
        )
        with fed:
            fed.run(1)
            sides = {bundle: fed.select(f"bundle:{bundle}").ids for bundle in (1, 2)}
            assert [len(ids) for ids in sides.values()] == [2, 2]
            assert sorted({path.parts[len(tmp_path.parts)] for path in tmp_path.rglob("*.states")}) == ["one", "two"]
            fed.release("state:ready")
            fed.move(sides[2], 1)
            fed.move(sides[1], 2)
            fed.run(1)
            assert fed.history[-1].train_metrics["seen"] == 2, "whoever was built on the other machine has its state"
            fed.release("state:ready")
            lost = fed.feed.kept.machine_of(fed.feed.kept.stored(fed.table.row_of(sides[1][0]))).machine
            machines.hosts.remove_node(next(one for one in machines.workers if one.node_id == lost))
            eventually(lambda: sum(one["Alive"] for one in ray.nodes()) == 2, "the machine has left the cluster")
            assert sorted(fed.move(sides[1], 1).built) == sides[1], "they are built without"
            (told,) = [event for event in fed.feed.events if "lost" in event.text and event.level == "error"]
            assert told.subject == "2 nodes" and list(told.data["ids"]) == sides[1]
            assert "has left the cluster; a folder that all machines share (RED_HOME)" in told.text
    finally:
        machines.end()
