"""A federation in the cluster, from Python: what its clients see, what they may do, and what is left after it."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import red_tui
from red_tui.errors import CommandRefused, NotConnected
from red_tui.journal.journal import Journal, fold
from red_tui.nodes.table import NodeTable
from red_tui.protocol.events import Event
from tests.system.support import Home, eventually, write_layout

LOOK = """
import json, sys, red_tui
client = red_tui.attach(sys.argv[1])
rounds = [[one.number, one.loss] for one in client.history]
print(json.dumps({"rounds": rounds, "ids": client.node_ids, "table": client.snapshot()["table"]["version"]}))
"""


@pytest.fixture
def many(tmp_path: Path, fed_id: str) -> Any:
    """A launched federation of nine virtual nodes."""
    more = [("count: 1, role: train}", "count: 8, role: train}")]
    return red_tui.launch(write_layout(tmp_path / "many.yaml", fed_id, more=more))


def states(client: Any) -> dict[str, str]:
    table = client.table()
    return {table.ids[row]: str(table.state_of(row)) for row in range(len(table))}


def actors_of(fed_id: str) -> list[str]:
    import ray

    names = [str(entry["name"]) for entry in ray.util.list_named_actors(all_namespaces=True)]
    return sorted(name for name in names if name.startswith(f"{fed_id}/"))


def groups_of(fed_id: str) -> list[str]:
    from ray.util import placement_group_table

    entries = placement_group_table().values()
    return [
        entry["name"] for entry in entries if entry["name"].startswith(f"{fed_id}/") and entry["state"] != "REMOVED"
    ]


def kill_process_of(client: Any, node_id: str) -> int:
    """SIGKILL a node's process, and wait until the federation knows."""
    pid = int(client.node(node_id)["pid"])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: states(client)[node_id] == "failed", f"{node_id} has failed")
    return pid


def kill_supervisor(client: Any) -> None:
    import ray

    ray.kill(ray.get_actor(f"{client.fed_id}/supervisor", namespace="red"), no_restart=True)
    eventually(lambda: f"{client.fed_id}/supervisor" not in actors_of(client.fed_id), "the supervisor is gone")


# -- seeing ---------------------------------------------------------------------------------------


def test_another_process_that_attaches_sees_the_same_federation_and_history(client: Any, cluster: Home) -> None:
    history = client.run(2)
    (row,) = [row for row in red_tui.federations() if row["id"] == client.fed_id]
    assert (row["nodes"], row["round"], row["orphan"], row["alive"]) == (2, 2, False, ["client_0", "judge", "server"])

    told = cluster.run(sys.executable, "-c", LOOK, client.fed_id)
    assert told.code == 0, told.err
    assert told.json["ids"] == client.node_ids == ["client_0", "judge"]
    assert told.json["rounds"] == [[one.number, one.loss] for one in history]
    assert [one.number for one in client.history] == [1, 2]


def test_a_selected_node_is_built_released_and_rebuilt_through_its_client(many: Any) -> None:
    (node,) = many.select("id:client_5")
    assert (node.why, node.last_error, node.handle) == ("", "", None) and node.config.federation_id == many.fed_id
    node.build().wait_ready(120)
    assert node.built and node.state == "ready" and many.node("client_5")["state"] == "ready"
    assert node.handle is not None and many.select("state:ready id:client_5").ids == ["client_5"]
    node.release()
    assert node.state == "released" and not node.built
    node.rebuild().wait_ready(120)
    assert many.release(many.select("id:client_5")).done == ("client_5",)
    with pytest.raises(CommandRefused, match="client_5"):
        node.release()


def test_a_watch_gives_only_the_rows_and_the_events_that_are_new(many: Any) -> None:
    update = many.snapshot()
    assert update["full"] and update["federation"]["id"] == many.fed_id
    mirror = NodeTable()
    mirror.apply_wire(update["table"])
    last = update["events"][-1][0]
    many.build(["client_3"], wait=False)
    changed: set[str] = set()
    events: list[list[Any]] = []
    deadline = time.monotonic() + 120
    while str(mirror.state_of(mirror.row_of("client_3") or 0)) != "ready":
        assert time.monotonic() < deadline
        update = many.watch(update, timeout=10)
        assert not update["full"] and "federation" not in update
        if "table" in update:
            changed |= {mirror.ids[int(row)] for row in mirror.apply_wire(update["table"])}
        events += map(Event.from_wire, update.get("events", []))
    assert changed == {"client_3"}
    assert [event.seq for event in events] == list(range(last + 1, last + 1 + len(events)))
    assert {event.subject for event in events if event.kind == "node"} <= {"client_3"}


def test_a_watch_with_nothing_new_returns_at_its_timeout_with_nothing(many: Any) -> None:
    update = many.snapshot()

    def quiet() -> bool:
        nonlocal update
        begun = time.monotonic()
        update = many.watch(update, timeout=3.0)
        nothing = set(update) == {"cursor", "time", "full"}
        assert not nothing or time.monotonic() - begun >= 3.0, "an empty answer came before anything changed"
        return nothing

    eventually(quiet, "nothing changes")


def test_two_watchers_of_one_run_see_the_same(many: Any) -> None:
    begin = many.snapshot()
    seen: list[dict[str, Any]] = [{}, {}]

    def follow(place: int) -> None:
        watcher = red_tui.attach(many.fed_id, connected=True)
        mirror, update, events, rounds = NodeTable(), begin, [], []
        mirror.apply_wire(begin["table"])
        deadline = time.monotonic() + 150
        while len(rounds) < 2 and time.monotonic() < deadline:
            update = watcher.watch(update, timeout=5)
            if "table" in update:
                mirror.apply_wire(update["table"])
            events += update.get("events", [])
            rounds += update.get("rounds", [])
            time.sleep(0.3 * place)  # one of them looks less often
        seen[place] = {"rounds": rounds, "events": events}

    watchers = [threading.Thread(target=follow, args=(place,)) for place in (0, 1)]
    for watcher in watchers:
        watcher.start()
    many.remove_nodes("id:client_1 or id:client_2 or id:client_3 or id:client_4 or id:client_5 or id:client_6")
    many.run(2)
    for watcher in watchers:
        watcher.join(160)
    assert [wire["number"] for wire in seen[0]["rounds"]] == [1, 2]
    assert seen[0]["rounds"] == seen[1]["rounds"]
    common = min(len(told["events"]) for told in seen)
    assert common > 4 and seen[0]["events"][:common] == seen[1]["events"][:common]


# -- acting ---------------------------------------------------------------------------------------


def at_once(act: Callable[[], Any], times: int) -> list[Any]:
    """What an act gives in several threads that begin together."""
    barrier, answers = threading.Barrier(times), []

    def one() -> None:
        barrier.wait(60)
        answers.append(act())

    threads = [threading.Thread(target=one) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(160)
    return answers


def test_a_command_that_is_sent_again_under_its_id_is_carried_out_once(client: Any) -> None:
    rounds = at_once(lambda: client.command("round", {}, command_id="the-round"), 3)
    rounds.append(client.command("round", {}, command_id="the-round"))
    assert len(rounds) == 4 and all(answer == rounds[0] for answer in rounds)
    assert [one.number for one in client.history] == [1]

    added = at_once(lambda: client.command("add", {"count": 2, "role": "train"}, command_id="the-two"), 3)
    assert added == [added[0]] * 3 and client.num_nodes == 4
    audit = [event.text for event in client.events(limit=1000) if event.kind == "operator"]
    assert audit == ["round", "add count 2 role train"]


def test_a_read_only_client_looks_and_the_supervisor_refuses_the_rest(many: Any) -> None:
    reader = red_tui.attach(many.fed_id, read_only=True, connected=True)
    assert reader.num_nodes == 9
    assert reader.plan(["client_0"]).ids == ["client_0"]
    refused: dict[str, Callable[[], Any]] = {
        "build": lambda: reader.build(["client_0"]),
        "wave": lambda: reader.wave(1),
        "run": lambda: reader.run(1),
        "release": lambda: reader.release(["client_0"]),
        "remove": lambda: reader.remove_nodes(["client_0"]),
        "add": lambda: reader.add_nodes(1),
        "stop": lambda: reader.stop(),
        "set": lambda: reader.set_round(fraction=0.5),
        "down": lambda: reader.down(),
    }
    for verb, act in refused.items():
        with pytest.raises(CommandRefused, match=f"{verb}: this connection is read-only"):
            act()
    assert set(states(many).values()) == {"virtual"} and many.num_nodes == 9


def test_a_command_that_does_not_exist_is_refused_with_those_that_do(many: Any) -> None:
    with pytest.raises(CommandRefused, match=r"no command 'biuld': use .*build.*wave"):
        many.command("biuld")
    with pytest.raises(CommandRefused, match="client_99"):
        many.build(["client_99"])


# -- death ----------------------------------------------------------------------------------------


def test_a_killed_node_fails_with_its_cause_and_is_rebuilt_and_the_journal_adds_up(client: Any) -> None:
    assert client.run_round(nodes="id:client_0").participants == ("client_0",)
    assert states(client)["judge"] == "virtual"
    report = client.build(["client_0", "judge"])
    assert (report.built, report.already) == (("judge",), ("client_0",))
    killed = kill_process_of(client, "client_0")
    detail = client.node("client_0")
    assert "killed" in detail["why"] or "crashed" in detail["why"] or "died" in detail["why"]
    assert detail["why"] in client.explain("client_0").why
    assert fold_of(client).states["client_0"] == "failed"
    assert fold_of(client).bundles["client_0"] == detail["bundle"]

    report = client.rebuild()
    assert report.built == ("client_0",) and not report.failed
    after = client.node("client_0")
    assert after["state"] == "ready" and after["rebuilds"] == 1
    assert after["pid"] != killed and psutil.pid_exists(after["pid"])
    assert client.run_round().number == 2

    path = Path(client.status()["journal"])
    files = [path, *path.parent.glob("journal.db-*")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)} == {0o700}
    journal = Journal(path, read_only=True)
    events = list(journal.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.time for event in events] == sorted(event.time for event in events)
    shown = [event.to_wire() for event in events if event.level != "trace"]
    assert shown == [event.to_wire() for event in client.events(limit=1000)]
    folded = fold(journal)
    assert folded.states == states(client) == {"server": "ready", "client_0": "ready", "judge": "ready"}
    table = client.table()
    assert folded.bundles == {name: table.value("bundle", table.row_of(name) or 0) for name in folded.states}
    # Nobody judged the first round.
    assert [wire["loss"] for wire in folded.rounds] == [None, *client.history.loss[1:]]
    assert len(client.history) == 2 and client.history.loss[0] != client.history.loss[0]


def fold_of(client: Any) -> Any:
    return fold(Journal(Path(client.status()["journal"]), read_only=True))


# -- the end --------------------------------------------------------------------------------------


def test_down_leaves_no_actor_no_group_and_no_process_but_the_journal(client: Any) -> None:
    client.build(["client_0", "server"])
    status = client.status()
    pids = [int(client.node(name)["pid"]) for name in ("client_0", "server")]
    assert actors_of(client.fed_id) and groups_of(client.fed_id)
    client.down()
    assert actors_of(client.fed_id) == [] and groups_of(client.fed_id) == []
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in [*pids, status["pid"]]), "its processes have ended")
    assert client.fed_id not in [row["id"] for row in red_tui.federations()]
    with pytest.raises(NotConnected, match="is gone"):
        client.status()
    events = list(Journal(Path(status["journal"]), read_only=True).events())
    assert any(event.kind == "federation" and event.text.startswith("ended by") for event in events[-2:])


def test_the_journal_of_an_earlier_federation_of_that_name_is_kept(client: Any, layout: Path) -> None:
    client.add_nodes(1)
    path = Path(client.status()["journal"])
    client.down()
    again = red_tui.launch(layout)
    assert [event.text for event in again.events() if event.kind == "operator"] == []
    (kept,) = path.parent.glob("journal-*.db")
    assert "add" in "".join(event.text for event in Journal(kept, read_only=True).events())


def test_an_orphan_is_listed_and_down_ends_what_is_left_of_it(client: Any, cluster: Home, layout: Path) -> None:
    client.build(["client_0"])
    pid = int(client.node("client_0")["pid"])
    kill_supervisor(client)
    (row,) = [row for row in red_tui.federations() if row["id"] == client.fed_id]
    assert row["orphan"] and row["state"] == "orphan" and row["alive"] == ["client_0"]
    with pytest.raises(NotConnected, match=f"lost its supervisor.*red-console down {client.fed_id}"):
        red_tui.attach(client.fed_id, connected=True)
    with pytest.raises(red_tui.NameTaken, match=f"client_0.*red-console down {client.fed_id}"):
        red_tui.launch(layout)
    told = cluster.red("down", client.fed_id, "--yes", "--json")
    assert told.code == 0 and json.loads(told.out)["federation"] == client.fed_id
    assert actors_of(client.fed_id) == [] and groups_of(client.fed_id) == []
    eventually(lambda: not psutil.pid_exists(pid), "the node's process has ended")


def test_bundles_without_processes_are_an_orphan_too(client: Any, cluster: Home) -> None:
    client.build(["client_0"])
    client.release(["client_0"])
    kill_supervisor(client)
    assert actors_of(client.fed_id) == [] and groups_of(client.fed_id)
    (row,) = [row for row in red_tui.federations() if row["id"] == client.fed_id]
    assert row["orphan"] and row["alive"] == []
    assert cluster.red("down", client.fed_id, "--yes").code == 0
    assert groups_of(client.fed_id) == []


@pytest.mark.parametrize("moment", ["told", "created", "actor", "bundles"])
def test_a_launch_that_is_interrupted_leaves_nothing_of_its_federation(
    moment: str, layout: Path, fed_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever line it hits: before there is a supervisor, as it is made, while it starts, when it has bundles."""
    import ray

    told, created, over = threading.Event(), threading.Event(), threading.Event()
    create = ray.actor.ActorClass._remote

    def interrupt() -> None:
        told.wait(60)
        while not over.is_set():
            seen = {
                "told": lambda: True,
                "created": created.is_set,
                "actor": lambda: actors_of(fed_id),
                "bundles": lambda: groups_of(fed_id),
            }
            if seen[moment]():
                signal.pthread_kill(main, signal.SIGUSR1)
                return

    def interrupted(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    def created_before_it_is_known(*given: Any, **options: Any) -> Any:
        """The line after this one is not reached where it is the main thread that creates the supervisor."""
        handle = create(*given, **options)
        created.set()
        if moment == "created" and threading.get_ident() == main:
            time.sleep(60)
        return handle

    main = threading.main_thread().ident
    assert main == threading.get_ident()
    before = signal.signal(signal.SIGUSR1, interrupted)
    monkeypatch.setattr(ray.actor.ActorClass, "_remote", created_before_it_is_known)
    watching = threading.Thread(target=interrupt)
    watching.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            client = red_tui.launch(layout, step=lambda *step: told.set() if step[0] == "launch" else None)
            client.down()
            raise KeyboardInterrupt  # it was there before its bundles were seen, and nothing is left of it either
    finally:
        over.set()
        watching.join()
        signal.signal(signal.SIGUSR1, before)
    assert actors_of(fed_id) == [] and groups_of(fed_id) == []
    assert fed_id not in [row["id"] for row in red_tui.federations()]
