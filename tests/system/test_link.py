"""The link as a process: frames in, frames out, and an end that leaves the federation alone."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import red_tui
from red_tui.nodes.table import NodeTable
from red_tui.protocol.commands import PROTOCOL
from red_tui.protocol.events import Event
from red_tui.protocol.frames import FrameWriter, read_frame
from tests.system.support import Home, cluster_processes, ended, eventually, processes_of, write_layout

RAISING = """\
import numpy as np
import red_tui as red

class Sometimes(red.FederatedNode):
    def build(self, **kwargs):
        if self.config.broken == "build":
            raise OSError("no such disk")

    def initial_parameters(self):
        return {"w": np.zeros(2)}

    def fit(self, parameters, config):
        if self.config.broken == "fit":
            raise ZeroDivisionError("no examples here")
        return red.FitResult(parameters, 1, {"loss": 1.0})
"""

RAISING_NODES = """\
  - {count: 2, role: train, config: {broken: ""}}
  - {count: 1, role: train, id: cannot-build, config: {broken: build}}
  - {count: 1, role: train, id: cannot-fit, config: {broken: fit}}
"""


class Link:
    """The console's end of a real link process."""

    def __init__(self, home: Home) -> None:
        log = str(home.path / "link.log")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "red_tui.link", "--log", log],
            env=home.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        self._writer = FrameWriter(self.process.stdin)  # type: ignore[arg-type]
        self._numbers = 0
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self.pushes: list[dict[str, Any]] = []
        self.broken: Exception | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            while (message := read_frame(self.process.stdout)) is not None:  # type: ignore[arg-type]
                if "push" in message:
                    self.pushes.append(message)
                else:
                    self._answers[message["id"]].put(message)
        except Exception as error:
            self.broken = error

    def send(self, verb: str, /, **args: Any) -> queue.Queue[dict[str, Any]]:
        """Ask; the answer comes into the queue."""
        self._numbers += 1
        answer: queue.Queue[dict[str, Any]] = queue.Queue()
        self._answers[self._numbers] = answer
        args = {"protocol": PROTOCOL, **args} if verb == "open" else args
        self._writer.write({"id": self._numbers, "verb": verb, "args": args})
        return answer

    def ask(self, verb: str, /, **args: Any) -> Any:
        """What a request gives."""
        answer = self.send(verb, **args).get(timeout=150)
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    def refused(self, verb: str, /, **args: Any) -> dict[str, Any]:
        """The error that a request gives."""
        answer = self.send(verb, **args).get(timeout=150)
        assert "ok" not in answer, answer
        error: dict[str, Any] = answer["error"]
        return error

    def command(self, verb: str, /, **args: Any) -> dict[str, Any]:
        """A command's answer."""
        done: dict[str, Any] = self.ask("command", command_id=str(uuid.uuid4()), verb=verb, args=args, who="me@here")
        assert "text" in done or verb == "detail"
        return done

    def end(self) -> int:
        """Close its standard input, as a console does that goes, and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return ended(self.process)


@pytest.fixture
def make_link(started: list[subprocess.Popen[bytes]]) -> Callable[[Home], Link]:
    def make(home: Home) -> Link:
        link = Link(home)
        started.append(link.process)
        return link

    return make


@pytest.fixture
def link(cluster: Home, make_link: Callable[[Home], Link]) -> Iterator[Link]:
    """A link, whose standard output held frames only and whose standard error nothing."""
    made = make_link(cluster)
    yield made
    if made.process.poll() is None:
        made.end()
    made._reader.join(60)
    assert made.broken is None
    assert made.process.stderr is not None and made.process.stderr.read() == b""


def watch_until(link: Link, holds: Callable[[NodeTable, list[list[Any]]], bool]) -> tuple[NodeTable, list[list[Any]]]:
    """Follow the federation until table and events are as wanted."""
    table, events, cursor = NodeTable(), [], None

    def look() -> bool:
        nonlocal cursor, events
        update = link.ask("watch", cursor=cursor, timeout=5.0)
        assert update["full"] is (cursor is None)
        cursor = update["cursor"]
        if "table" in update:
            table.apply_wire(update["table"])
        events += map(Event.from_wire, update.get("events", []))
        return holds(table, events)

    eventually(look, "the federation is as wanted", 60.0)
    return table, events


def state_of(table: NodeTable, node_id: str) -> str:
    row = table.row_of(node_id)
    assert row is not None
    return str(table.state_of(row))


def test_a_console_can_open_watch_command_and_look_into_a_node(link: Link, fed_id: str, layout: Path) -> None:
    opened = link.ask("open", layout=str(layout))
    assert (opened["federation"], opened["created"], opened["embedded"]) == (fed_id, True, True)
    steps = [(push["key"], push["state"]) for push in link.pushes if push["push"] == "step"]
    for key in ("ray", "connect", "launch"):
        assert steps.index((key, "running")) < steps.index((key, "done"))

    first = link.ask("watch", cursor=None, timeout=0.0)
    assert first["federation"]["id"] == fed_id and first["read_only"] is False
    assert link.command("build", ids=["client_0"])["text"] == "building client_0"
    table, events = watch_until(link, lambda table, _: state_of(table, "client_0") == "ready")
    assert state_of(table, "judge") == "virtual"

    detail = link.command("detail", id="client_0")
    assert detail["state"] == "ready" and detail["actor"] == f"{fed_id}/client_0" and detail["pid"] > 0
    assert detail["roles"] == "train" and detail["bundle"] >= 1

    assert link.command("round")["text"] == "running a round"
    _, events = watch_until(
        link, lambda _, events: any((event.level, event.subject) == ("good", "round 1") for event in events)
    )
    last = events[-1].seq
    older = list(map(Event.from_wire, link.command("events", before=last, limit=1000)["events"]))
    numbers = [event.seq for event in older]
    assert numbers == sorted(set(numbers)) and numbers[0] == 1 and numbers[-1] < last
    assert link.ask("federations")["federations"][0]["id"] == fed_id


def test_a_second_console_is_attached_to_what_the_first_launched(
    link: Link, cluster: Home, make_link: Callable[[Home], Link], fed_id: str, layout: Path
) -> None:
    # A name of both: what runs goes before a layout that ships.
    assert link.ask("open", federation=fed_id, layout=str(layout))["created"] is True
    second = make_link(cluster)
    assert second.ask("open", layout=str(layout))["created"] is False
    assert second.ask("open", federation=fed_id)["federation"] == fed_id
    link.command("add", count=3, role="train")
    table, _ = watch_until(second, lambda table, _: table.row_of("client_3") is not None)
    assert len(table) == 6
    other = write_layout(layout.with_name("other.yaml"), fed_id, more=[("count: 2,", "count: 9,")])
    assert second.ask("open", federation=fed_id, layout=str(other))["created"] is False
    error = second.refused("open", layout=str(other))
    assert error["type"] == "NameTaken" and "rounds.count: 2 → 9" in error["message"]
    assert second.end() == 0


def test_the_end_of_its_input_ends_the_link_at_once_and_the_federation_goes_on(
    link: Link, fed_id: str, layout: Path
) -> None:
    link.ask("open", layout=str(layout))
    cursor = link.ask("watch", cursor=None, timeout=0.0)["cursor"]
    link.command("run", rounds=100_000)
    link.send("watch", cursor=cursor, timeout=10.0)  # a long poll is under way
    assert link.end() == 0
    client = red_tui.attach(fed_id, connected=True)
    eventually(lambda: len(client.history) >= 2, "rounds go on")
    client.stop(now=True)


def test_a_console_that_leaves_while_a_local_ray_starts_leaves_no_process(
    home: Home, make_link: Callable[[Home], Link], tmp_path: Path
) -> None:
    link = make_link(home)
    link.send("open", layout=str(write_layout(tmp_path / "small.yaml", "small")))
    eventually(lambda: len(cluster_processes(home)) > 1, "processes of a cluster are starting")
    assert link.end() == 0
    eventually(lambda: not processes_of(home), "all processes of this home have ended")
    assert home.noted is None


@pytest.mark.parametrize(
    "garbage",
    [b"ls -la\n" * 20, b"\xff" * 64, b"\0\0\0\4junk", b"\0\0\0\1\x01", b"\0\0\1\0cut off"],
    ids=["text", "an enormous length", "no msgpack", "no message", "half a frame"],
)
def test_garbage_on_its_input_ends_the_link_and_never_hangs_it(
    garbage: bytes, home: Home, make_link: Callable[[Home], Link]
) -> None:
    home.path.mkdir()
    link = make_link(home)
    assert link.process.stdin is not None
    link.process.stdin.write(garbage)
    assert link.end() == 0


def test_requests_that_make_no_sense_are_answered_and_the_link_goes_on(
    home: Home, make_link: Callable[[Home], Link]
) -> None:
    home.path.mkdir()
    link = make_link(home)
    assert "knows no 'frobnicate'" in link.refused("frobnicate")["message"]
    assert link.refused("watch", cursor=None, timeout=0.0)["type"] == "NotConnected"
    assert link.refused("command", verb="build", args={"ids": ["client_0"]})["type"] == "NotConnected"
    assert "knows no" in link.refused("")["message"]
    assert link.end() == 0


def test_a_layout_error_arrives_with_its_place_and_starts_nothing(
    home: Home, make_link: Callable[[Home], Link], tmp_path: Path
) -> None:
    path = write_layout(tmp_path / "bad.yaml", "bad", more=[("role: train}", "role: trian}")])
    link = make_link(home)
    error = link.refused("open", layout=str(path))
    assert error["type"] == "LayoutError"
    fields = error["fields"]
    assert (fields["file"], fields["line"], fields["field"]) == (str(path), 5, "nodes[0].role")
    assert fields["column"] > 1 and "train" in fields["allowed"]
    assert home.noted is None
    assert link.end() == 0


def test_a_read_only_link_looks_and_refuses_every_write(link: Link, cluster: Home, fed_id: str, layout: Path) -> None:
    error = link.refused("open", layout=str(layout), read_only=True)
    assert "read-only console launches nothing" in error["message"]
    assert cluster.noted is not None
    protected = [cluster.noted["address"]]
    error = link.refused("open", layout=str(layout), read_only_clusters=protected)
    assert "read-only console launches nothing" in error["message"], "a cluster that was found may be protected"
    client = red_tui.launch(layout)
    link.ask("open", federation=fed_id, read_only=True)
    assert link.ask("watch", cursor=None, timeout=0.0)["read_only"] is True
    assert link.command("plan", query="role:train")["placed"]
    for verb in ("build", "wave", "round", "run", "stop", "release", "rebuild", "add", "remove"):
        error = link.refused("command", command_id=verb, verb=verb, args={"ids": ["client_0"]}, who="me@here")
        assert error["type"] == "CommandRefused" and "read-only" in error["message"], verb
    assert "read-only" in link.refused("down")["message"]
    assert "read-only" in link.refused("leave", stop_cluster=True)["message"]
    assert client.status()["states"] == {"virtual": 2}


def test_nodes_that_raise_fail_with_their_traceback_and_the_round_goes_on(
    link: Link, fed_id: str, tmp_path: Path
) -> None:
    path = write_layout(tmp_path / "raising" / "layout.yaml", fed_id, template="raising_nodes:Sometimes")
    text = path.read_text()
    start, end = text.index("  - {"), text.index("placement:")
    path.write_text(text[:start] + RAISING_NODES + text[end:])
    path.with_name("raising_nodes.py").write_text(RAISING)
    link.ask("open", layout=str(path))
    link.command("round")
    table, events = watch_until(link, lambda _, events: any(event.subject == "round 1" for event in events))
    (told,) = [event for event in events if event.subject == "round 1"]
    assert told.level == "warn" and "2 failed" in told.text
    assert state_of(table, "client_0") == state_of(table, "client_1") == "ready"
    for node_id, state, raised in (
        ("cannot-build", "failed", "OSError: no such disk"),
        ("cannot-fit", "ready", "ZeroDivisionError: no examples"),
    ):
        detail = link.command("detail", id=node_id)
        assert detail["state"] == state and raised in detail["last_error"]["text"]
        assert (raised in detail["why"]) is (state == "failed")
        assert raised in detail["traceback"] and "raising_nodes.py" in detail["traceback"]
