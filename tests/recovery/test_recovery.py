"""A federation is taken up again: after its supervisor's death, after its cluster's, from what its journal says."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

import red_tui as red
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.journal.journal import Journal, fold
from red_tui.supervisor.registry import actors_of, groups_of_all
from tests.heads import BARE
from tests.system.support import eventually

LAYOUT = """# for tests
federation: {fed}
template: red_tui.examples.digits:DigitsClient
nodes:
  - {{count: {count}, role: train}}
  - {{count: 1, role: eval, id: judge, config: {{eval_parts: 1}}}}
placement: {placement}
rounds: {{count: 5, deadline: 30, seed: 3{rounds}}}
failure: {{policy: rebuild, max_rebuilds: 3, backoff: 0.05}}
config: {{seed: 3, local_epochs: 1}}
"""
PLACEMENTS = {
    "process": "{cpus: 4, bundles: 4}",
    "bundle": "{isolation: bundle, cpus: 2, bundles: 2}",
}


Launch = Callable[..., red.Client]


@pytest.fixture
def launch(cluster: Cluster, tmp_path: Path) -> Iterator[Launch]:
    clients: list[str] = []

    def start(fed: str, isolation: str = "process", rounds: str = "") -> red.Client:
        layout = tmp_path / f"{fed}.yaml"
        count = 3 if isolation == "process" else 40
        layout.write_text(LAYOUT.format(fed=fed, count=count, placement=PLACEMENTS[isolation], rounds=rounds))
        clients.append(fed)
        return red.launch(layout, address=cluster.address)

    yield start
    for fed in clients:
        if any(row["id"] == fed and not row["orphan"] for row in red.federations(cluster.address)):
            red.attach(fed, cluster.address).down()
    assert actors_of() == {}
    assert groups_of_all() == {}


def folder(home: Path, fed: str) -> Path:
    return home / "federations" / fed


def end_for_good(client: red.Client, *names: str) -> None:
    """End actors of a federation, and wait until their processes and their names are gone."""
    pids = {"supervisor": client.status()["pid"]}
    pids.update((name, client.node(name)["pid"]) for name in names if name != "supervisor")
    processes = [psutil.Process(pids[name]) for name in names]
    for name in names:
        ray.kill(ray.get_actor(f"{client.fed_id}/{name}", namespace="red"))
    eventually(lambda: not set(names) & set(actors_of().get(client.fed_id, ())), "their names are free")
    eventually(lambda: not any(process.is_running() for process in processes), "their processes have ended")


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return all(np.array_equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_the_death_of_a_supervisor_loses_no_finished_round_and_no_built_node(
    launch: Launch, home: Path, isolation: str
) -> None:
    client = launch(f"rec-{isolation}", isolation)
    client.run(2)
    pids = {name: client.node(name)["pid"] for name in client.node_ids}
    client.start_run(6)
    eventually(lambda: client.status()["round"] >= 3, "rounds run")
    psutil.Process(client.status()["pid"]).kill()
    back = client.status()
    assert back["round"] >= 3
    eventually(lambda: client.status()["round"] == 8 and not client.running, "the run has gone on to its end")
    numbers = [result.number for result in client.history]
    assert numbers == list(range(1, 9)), "every round once"
    assert {name: client.node(name)["pid"] for name in client.node_ids} == pids, "the same processes"
    told = fold(Journal(folder(home, client.fed_id) / "journal.db", read_only=True))
    assert [result["number"] for result in told.rounds] == numbers
    for number in (1, numbers[-1]):
        slowest = client.round_spread(number)["measures"]["seconds"]["high"][0]
        assert slowest == told.rounds[number - 1]["spread"]["measures"]["seconds"]["high"][0]
    checkpoint = Checkpoints(folder(home, client.fed_id) / "checkpoints").latest().checkpoint
    assert checkpoint is not None and checkpoint.round == 8
    assert same(client.parameters(), checkpoint.parameters)


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_what_was_changed_of_the_next_rounds_outlives_the_supervisor(launch: Launch, isolation: str) -> None:
    client = launch(f"changed-{isolation}", isolation)
    client.run(1)
    first, second = client.set_round({"+learning_rate": 0.05}, fraction=0.5), client.set_round(min_results=1)
    assert [str(change) for change in (*first, *second)] == [
        "learning_rate is new: 0.05",
        "fraction 1.0 → 0.5",
        "min_results 0.5 → 1",
    ]
    who = [event for event in client.events() if event.kind == "operator"][-1]
    assert who.text == "sets min_results 0.5 → 1; from round 2 on" and "@" in who.subject
    psutil.Process(client.status()["pid"]).kill()
    told = client.round_settings
    assert (told["learning_rate"], told["fraction"], told["min_results"]) == (0.05, 0.5, 1)
    eligible = 3 if isolation == "process" else 40
    assert len(client.run(1)[-1].participants) == round(eligible / 2)
    assert client.node("client_0")["config"]["learning_rate"] == 0.05


def test_an_orphan_is_shown_and_adopted_and_goes_on_from_its_checkpoint(launch: Launch, cluster: Cluster) -> None:
    client = launch("orphan")
    client.run(3)
    before = client.parameters()
    end_for_good(client, "supervisor", "server")
    eventually(lambda: red.federations(cluster.address)[0]["orphan"], "it is shown as an orphan")
    with pytest.raises(red.NotConnected, match="red-console adopt orphan"):
        red.attach("orphan", cluster.address)
    adopted = red.adopt("orphan", cluster.address)
    assert adopted.status()["round"] == 3
    assert adopted.status()["states"]["ready"] == 4, "its living nodes are taken over"
    assert same(adopted.parameters(), before)
    assert adopted.run(1)[-1].number == 4
    with pytest.raises(red.NameTaken):
        red.adopt("orphan", cluster.address)


def test_nodes_that_died_while_nobody_looked_are_rebuilt(launch: Launch) -> None:
    client = launch("away")
    client.run(1)
    supervisor, node = client.status()["pid"], client.node("client_1")["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(node, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: client.node("client_1")["state"] == "ready", "the policy has rebuilt it")
    assert client.node("client_1")["pid"] != node
    assert client.run(1)[-1].number == 2


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_states_of_built_and_of_released_nodes_outlive_the_supervisor(
    cluster: Cluster, tmp_path: Path, isolation: str
) -> None:
    fed = f"states-{isolation}"
    text = LAYOUT.format(fed=fed, count=3, placement=PLACEMENTS[isolation], rounds="")
    layout = tmp_path / "states.yaml"
    layout.write_text(text.replace("red_tui.examples.digits:DigitsClient", "counting_nodes:Counting"))
    client = red.launch(layout, address=cluster.address)
    try:
        client.run(2)
        client.release(["client_0"])
        psutil.Process(client.status()["pid"]).kill()
        client.build(["client_0"])
        client.release(["client_1"])
        client.build(["client_1"])
        client.run(1)
        seen = {name: client.node(name)["metrics"]["seen"] for name in ("client_0", "client_1", "client_2")}
        assert seen == {"client_0": 3.0, "client_1": 3.0, "client_2": 3.0}
    finally:
        client.down()


def test_a_truncated_checkpoint_is_refused_and_the_one_before_is_used(launch: Launch, home: Path) -> None:
    client = launch("cut")
    client.run(3)
    files = sorted((folder(home, "cut") / "checkpoints").glob("*.safetensors"))
    files[-1].write_bytes(files[-1].read_bytes()[:-100])
    end_for_good(client, "supervisor", "server")
    adopted = red.adopt("cut")
    texts = [event.text for event in adopted.events()]
    assert any("parameters are those of round 2" in text for text in texts)
    assert any(files[-1].name in text for text in texts), "the refused file is named"
    assert adopted.run(1)[-1].number == 4


def test_a_damaged_row_ends_no_federation_and_is_told_and_kept_aside(launch: Launch, home: Path) -> None:
    client = launch("hurt")
    client.run(3)
    client.add_nodes(1, "train")
    before = client.parameters()
    path = folder(home, "hurt") / "journal.db"
    end_for_good(client, "supervisor")
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        (seq,) = db.execute('SELECT min(seq) FROM events WHERE data LIKE \'%"state":"ready"%\'').fetchone()
        db.execute("UPDATE events SET data = ? WHERE seq = ?", (b"\x00\xff", seq))
        # And one that is JSON and claims more than there is.
        claim = '{"rows": [[0, 1000000000000]], "state": "failed", "result": {"number": "x", "state": "done"}}'
        db.execute(
            "INSERT INTO events SELECT max(seq) + 1, time, kind, level, subject, text, state, ? FROM events", (claim,)
        )
    (path.parent / "launch.json").write_text("{")
    adopted = red.adopt("hurt")
    told = adopted.status()["damage"]
    assert f"event {seq} (" in told and "launch.json cannot be read" in told
    assert told.split("; launch")[0] in adopted.snapshot()["note"], "the warning stands"
    assert any("the journal is damaged" in event.text for event in adopted.events())
    (aside,) = path.parent.glob("journal-damaged-*.db")
    assert aside.name in told
    assert [result.number for result in adopted.history] == [1, 2, 3]
    assert same(adopted.parameters(), before) and adopted.num_nodes == 5
    assert adopted.run(1)[-1].number == 4


def test_rounds_that_a_lost_journal_knew_go_on_from_the_newest_checkpoint(launch: Launch, home: Path) -> None:
    client = launch("lost")
    client.run(3)
    before = client.parameters()
    for turn in (1, 2):
        end_for_good(client, *(("supervisor", "server") if turn == 1 else ("supervisor",)))
        if turn == 1:
            for left in folder(home, "lost").glob("journal.db*"):
                left.unlink()
        client = red.adopt("lost")
        assert same(client.parameters(), before), "also when it is adopted once more before its next round"
    assert client.run(1)[-1].number == 4


def test_commands_are_carried_out_once_also_across_a_restart(launch: Launch) -> None:
    client = launch("once")
    first = client.command("add", {"count": 2}, command_id="the-same")
    assert len(first["ids"]) == 2
    assert client.command("add", {"count": 2}, command_id="the-same") == first
    psutil.Process(client.status()["pid"]).kill()
    assert "before the supervisor was restarted" in client.command("add", {"count": 2}, command_id="the-same")["text"]
    assert client.num_nodes == 6
    assert client.node("client_4")["roles"] == "train"


@pytest.mark.usefixtures("disconnected")
def test_a_federation_goes_on_in_a_new_cluster_when_its_own_is_gone(tmp_path: Path) -> None:
    layout = tmp_path / "moved.yaml"
    layout.write_text(LAYOUT.format(fed="moved", count=3, placement=PLACEMENTS["process"], rounds=""))
    parameters: list[dict[str, Any]] = []
    for turn in (1, 2):
        hosts = Cluster(initialize_head=True, head_node_args={"num_cpus": 6, **BARE})
        try:
            client = red.launch(layout, address=hosts.address, resume=turn == 2)
            if turn == 2:
                assert client.status()["round"] == 2
                assert same(client.parameters(), parameters[0])
            assert client.run(2)[-1].number == 2 * turn
            parameters.append(client.parameters())
            if turn == 2:
                client.down()
        finally:
            ray.shutdown()
            hosts.shutdown()


def test_resuming_with_another_layout_says_what_differs(launch: Launch, cluster: Cluster, tmp_path: Path) -> None:
    launch("differs").down()
    layout = tmp_path / "differs.yaml"
    layout.write_text(layout.read_text().replace("deadline: 30", "deadline: 31"))
    with pytest.raises(red.RedError, match="deadline: 30"):
        red.launch(layout, address=cluster.address, resume=True)
    with pytest.raises(red.RedError, match="cannot be taken up again"):
        red.adopt("never-was", cluster.address)
