"""A link without a process, and a federation in memory that it serves."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from textual.message import Message

from red_tui.aggregation.answers import Answers
from red_tui.console.connection.link_process import LinkLost, LinkStatus
from red_tui.errors import RedError
from red_tui.messaging import Topology, TopologyRule
from red_tui.nodes.ids import ListedIds, PatternIds
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NodeTable
from red_tui.protocol.events import Event
from red_tui.rounds.history import node_statistics

EPOCH = 1_700_000_000.0


class FakeFederation:
    """Answers `watch` from a table and lists, as a supervisor does."""

    def __init__(self, groups: list[tuple[str, int, str]] | None = None, bundles: int = 8, gpus: float = 0.0) -> None:
        self.table = NodeTable()
        self.table.append(ListedIds(("server",)), "server")
        for pattern, count, role in groups or [("client_{i:03d}", 34, "train"), ("judge_{i:02d}", 16, "train-eval")]:
            self.table.append(PatternIds.parse(pattern, count), role)
        self.table.set(slice(None), since=EPOCH)
        hosts = ["head", "worker-1", "worker-2"]
        self.bundles = [
            {"idx": 0, "host": "head", "cpu": 0.4, "gpu": 0, "resources": {}, "state": "ready", "what": "coordinator"}
        ]
        for index in range(1, bundles):
            host = hosts[min(2, (index - 1) * 3 // max(1, bundles - 1))]
            self.bundles.append(
                {"idx": index, "host": host, "cpu": 0.95, "gpu": gpus, "resources": {}, "state": "ready", "what": ""}
            )
        self.hosts = [
            {"id": name, "name": name, "alive": True, "cpu": 4.0, "gpu": gpus * 4, "head": name == "head"}
            for name in hosts
        ]
        self.cluster = {"address": "127.0.0.1:6379", "embedded": True, "cpu": [7.0, 12.0], "gpu": [0.0, 0.0]}
        self.round = {
            "number": 0, "phase": "idle", "done": 0, "of": 0, "started": 0, "target": None, "until": None,
            "stopping": False,
        }  # fmt: skip
        self.rounds: list[dict[str, Any]] = []
        self.events: list[list[Any]] = []
        self.read_only = False
        self.note = ""
        self.session = {"running": False, "nodes": 0, "started": 0.0, "stopping": False}
        self.topology = {"version": [1, len(self.table), len(self.table) - 1], "rule": "star"}
        self.next_rounds = {
            "values": {"fraction": [1.0], "deadline": [60], "min_results": [0.5], "evaluate_every": [1],
                       "learning_rate": [0.3], "local_epochs": [2], "partition": ["dirichlet", "iid"]},
            "later": [],
        }  # fmt: skip
        self._sent: dict[str, Any] = {}
        self.version = 0

    def row(self, node_id: str) -> int:
        row = self.table.row_of(node_id)
        assert row is not None
        return row

    def set(self, node_id: str, state: NodeState, **values: Any) -> None:
        self.table.set(self.row(node_id), state=state, since=EPOCH + 60, **values)
        self.version += 1

    def event(self, subject: str, text: str, level: str = "info", kind: str = "node", state: str = "") -> None:
        seq = len(self.events)
        self.events.append(Event(seq, EPOCH + seq, kind, level, subject, text, state).to_wire())
        self.version += 1

    def full(self) -> dict[str, Any]:
        return {
            "cursor": self._cursor(), "time": EPOCH, "full": True, "read_only": self.read_only, "note": self.note,
            "federation": {"id": "digits", "schema": "star", "template": "D", "title": "Digits", "created": EPOCH,
                           "isolation": "process", "layout_path": "layouts/digits.yaml"},
            "table": self.table.to_wire(), "bundles": self.bundles, "hosts": self.hosts, "cluster": self.cluster,
            "session": self.session, "topology": self.topology, "next_rounds": self.next_rounds,
            "round": self.round, "rounds": self.rounds, "events": self.events[-200:],
        }  # fmt: skip

    def delta(self, cursor: list[Any]) -> dict[str, Any]:
        _, table_version, segments, events, rounds, parts = cursor
        update: dict[str, Any] = {"cursor": self._cursor(), "time": EPOCH, "full": False}
        if self.table.version > table_version:
            update["table"] = self.table.to_wire(table_version, 0, segments)
        for name, old in parts.items():
            if getattr(self, name) != old:
                update[name] = getattr(self, name)
        if len(self.events) > events:
            update["events"] = self.events[events:]
        if len(self.rounds) > rounds:
            update["rounds"] = self.rounds[rounds:]
        return update

    def _cursor(self) -> list[Any]:
        parts = {
            n: copy.deepcopy(getattr(self, n))
            for n in ("bundles", "hosts", "cluster", "round", "note", "session", "topology", "next_rounds")
        }
        segments = len(self.table.ids.segments)
        return [self.version, self.table.version, segments, len(self.events), len(self.rounds), parts]


class FakeLink:
    """Has the interface of `LinkClient`; a test decides what it answers and when."""

    def __init__(self, federation: FakeFederation | None = None) -> None:
        self.federation = federation or FakeFederation()
        self.sink: Callable[[Message], object] = lambda message: None
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.opens: list[dict[str, Any]] = []
        self.leaves: list[bool] = []
        self.open_answer: Any = {"federation": "digits", "address": "x", "embedded": False, "created": True}
        self.watch_error: RedError | None = None
        self.answers: dict[str, Any] = {}
        self.watches = 0
        self.restarts = 0
        self.closed = False
        self.generation = 0
        self.up = False
        self.change = asyncio.Event()

    def start(self, sink: Callable[[Message], object]) -> None:
        self.sink = sink
        self.rise()

    def rise(self) -> None:
        self.up = True
        self.generation += 1
        self.sink(LinkStatus(True, self.generation))

    def die(self, text: str = "the link ended with code -9") -> None:
        self.up = False
        self.change.set()
        self.sink(LinkStatus(False, self.generation, text, 0.5))

    def changed(self) -> None:
        """What was set in the federation is told with the next watch."""
        self.federation.version += 1
        self.change.set()

    async def call(self, verb: str, args: dict[str, Any], timeout: float | None) -> Any:
        if not self.up:
            raise LinkLost("the link is down")
        if verb == "open":
            self.opens.append(args)
            if isinstance(self.open_answer, asyncio.Future):
                await self.open_answer
            answer = self.open_answer.pop(0) if isinstance(self.open_answer, list) else self.open_answer
            if isinstance(answer, RedError):
                raise answer
            return answer
        if verb == "watch":
            return await self._watch(args["cursor"])
        if verb == "leave":
            self.leaves.append(args["stop_cluster"])
            return {}
        if verb == "command":
            self.commands.append((args["verb"], args["args"]))
            answer = self.answers.get(args["verb"], {"text": f"{args['verb']} accepted"})
            answer = answer(args["args"]) if callable(answer) else answer
            if isinstance(answer, RedError):
                raise answer
            return answer
        raise RedError(f"no verb {verb}")

    async def _watch(self, cursor: Any) -> Any:
        self.watches += 1
        generation = self.generation
        while True:
            if not self.up or generation != self.generation:
                raise LinkLost("the link ended before it answered")
            if self.watch_error is not None:
                raise self.watch_error
            if cursor is None:
                return self.federation.full()
            if self.federation.version > cursor[0]:
                return self.federation.delta(cursor)
            self.change.clear()
            await self.change.wait()

    def succeeded(self) -> None:
        pass

    def restart(self) -> None:
        self.restarts += 1
        self.die()
        self.rise()

    def close(self, grace: float = 2.0) -> None:
        self.closed = True

    def told(self, verb: str) -> list[dict[str, Any]]:
        """Arguments of the commands of that verb."""
        return [args for name, args in self.commands if name == verb]


def busy_federation() -> FakeFederation:
    """A federation in the middle of its fourteenth round, with every state in it."""
    federation = FakeFederation([("client_{i:03d}", 74, "train"), ("judge_{i:02d}", 29, "train-eval")], bundles=8)
    table = federation.table
    table.set(federation.row("server"), state=NodeState.READY, bundle=0, rounds=13)
    first = federation.row("client_000")
    for place, bundle in enumerate([2, 3, 4, 5]):
        rows = np.arange(first + place * 12, first + place * 12 + 12)
        table.set(rows, state=NodeState.READY, bundle=bundle, rounds=13, loss=0.21, seconds=0.31)
    table.set(np.arange(first + 3, first + 8), state=NodeState.BUSY)
    table.set(np.arange(first + 36, first + 43), state=NodeState.BUSY)
    table.set(np.arange(first + 48, first + 52), state=NodeState.STARTING, bundle=6)
    table.set(np.arange(first + 52, first + 60), state=NodeState.PENDING, bundle=6)
    table.set(np.arange(first + 60, first + 63), state=NodeState.RELEASED)
    judge = federation.row("judge_00")
    table.set(np.arange(judge, judge + 5), state=NodeState.READY, bundle=2, rounds=13, loss=0.25, seconds=0.2)
    table.set(np.arange(judge + 5, judge + 10), state=NodeState.READY, bundle=4, rounds=13, loss=0.2, seconds=0.4)
    table.set(judge + 8, state=NodeState.FAILED)
    table.set(first + 33, state=NodeState.FAILED)
    table.set(slice(None), since=EPOCH)
    federation.bundles[7]["state"] = "pending"
    federation.round = {
        "number": 14, "phase": "fit", "done": 41, "of": 68, "started": EPOCH, "target": 50, "until": None,
        "stopping": False, "first": 1, "best": {"round": 13, "metric": "loss", "value": 2.3 * 0.84**13},
    }  # fmt: skip
    for number in range(1, 14):
        federation.rounds.append({
            "number": number, "state": "failed" if number == 4 else "done", "loss": 2.3 * 0.84**number,
            "metrics": {"accuracy": 1 - 0.6 * 0.85**number}, "train_loss": 2.2 * 0.82**number, "seconds": 0.84,
            "participants": 68, "failed": int(number == 4), "ended": EPOCH + number,
        })  # fmt: skip
    federation.event("wave 4", "19 nodes asked for by op@laptop, 4 starting", kind="wave", state="starting")
    federation.event("wave 4", "15 nodes wait for bundle 6 and 7: worker-2 is joining", "warn", "wave", "pending")
    federation.event("round 13", "loss 0.22  accuracy 0.945  68 results in 0.84 s", "good", "round", "ready")
    federation.event("round 14", "68 of 68 train nodes, fraction 1.0, deadline 60 s", "info", "round", "busy")
    federation.event(
        "client_033", "out of memory on worker-1; round 14 goes on with 67 of 68", "error", "node", "failed"
    )
    return federation


def graph_of(federation: FakeFederation, rule: TopologyRule | None = None) -> dict[str, Any]:
    """What a supervisor tells of the topology of a federation's clients, and the version that its updates carry."""
    rule = rule or TopologyRule()
    rows = np.flatnonzero(federation.table.present())
    rows = rows[rows != federation.row("server")]
    topology = Topology(rule, federation.table.ids.take(rows) if rule.name != "star" else range(len(rows)))  # type: ignore[arg-type]
    version = [federation.topology["version"][0] + 1, len(federation.table), len(rows)]
    federation.topology = {"version": version, "rule": str(rule)}
    listed = rule.name not in ("star", "mesh")
    return {
        "text": str(rule), "version": version, "rule": rule.name, "name": str(rule),
        "facts": dict(topology.facts.__dict__),
        "pairs": np.append(rows, federation.row("server"))[topology.pairs].astype("<i4").tobytes() if listed else None,
    }  # fmt: skip


def spread_like(count: int = 68) -> dict[str, Any]:
    """What a supervisor tells of a round's nodes."""
    rows = np.arange(1, count + 1)
    waves = np.sin(rows * 1.7)
    seconds, losses = 0.3 + 0.05 * waves + 0.6 * (rows == 17), 0.21 + 0.04 * waves + 0.5 * (rows == 33)
    fitted = Answers(rows, 40.0 + rows % 7, seconds, {"loss": losses * 0.9, "accuracy": 0.9 + 0.02 * waves})
    judged = Answers(rows[-16:], 5.0 + rows[-16:] % 3, seconds[-16:], {"accuracy": 0.93 + 0.01 * waves[-16:]},
                     losses[-16:])  # fmt: skip
    failures = {"client_033": "out of memory: the host reached 95 % of 16 GB", "client_007": "gradient exploded",
                "client_008": "gradient exploded"}  # fmt: skip
    return node_statistics(fitted, judged, failures, lambda asked: [f"client_{row:03d}" for row in asked.tolist()])


DETAIL = {
    "id": "client_033", "state": "failed", "since": EPOCH,
    "why": "out of memory: the host reached 95 % of 16 GB; Ray ended this process",
    "traceback": "Traceback (most recent call last):\n  File \"digits.py\", line 12, in fit\nMemoryError: no room",
    "roles": "train", "bundle": 4, "host": "worker-1", "resources": {"CPU": 0.95}, "actor": "digits/client_033",
    "pid": 4711, "rounds": 13, "seconds": 0.31, "loss": 0.24, "losses": [2.0 * 0.8**i for i in range(13)],
    "metrics": {"accuracy": 0.93}, "log": [[EPOCH, "info", "fit: 71 examples"], [EPOCH + 1, "error", "no room"]],
    "config": {"learning_rate": 0.3, "local_epochs": 2}, "rebuilds": 1, "state_kept": True,
}  # fmt: skip
