"""The console's replica of a federation: what the link last said, and nothing of its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.console.progress import Building, follow
from red_tui.console.text import plain
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NodeTable

MAX_EVENTS = 10_000
MAX_ROUNDS = 20_000

_PHASES = {"choose": (0.0, 0.0), "fit": (0.0, 0.8), "aggregate": (0.8, 0.8), "evaluate": (0.8, 1.0)}
"""What part of a round each phase is, about."""

Rows = npt.NDArray[np.integer[Any]]
_NO_ROWS: Rows = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Bundle:
    """One bundle of the federation's pool."""

    idx: int
    host: str
    cpu: float
    gpu: float
    resources: Mapping[str, float]
    state: str
    what: str

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Bundle:
        """The bundle that the link described."""
        return cls(
            idx=int(data["idx"]),
            host=plain(data.get("host") or ""),
            cpu=float(data.get("cpu") or 0.0),
            gpu=float(data.get("gpu") or 0.0),
            resources={plain(name): float(value) for name, value in (data.get("resources") or {}).items()},
            state=plain(data.get("state") or "ready"),
            what=plain(data.get("what") or ""),
        )


@dataclass(frozen=True)
class Host:
    """One machine of the cluster."""

    id: str
    name: str
    alive: bool
    cpu: float
    gpu: float
    head: bool

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Host:
        """The host that the link described."""
        return cls(
            id=plain(data.get("id") or ""),
            name=plain(data.get("name") or data.get("id") or ""),
            alive=bool(data.get("alive", True)),
            cpu=float(data.get("cpu") or 0.0),
            gpu=float(data.get("gpu") or 0.0),
            head=bool(data.get("head", False)),
        )


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster: its address and what of it is in use."""

    address: str = ""
    embedded: bool = False
    cpu_used: float = 0.0
    cpu_total: float = 0.0
    gpu_used: float = 0.0
    gpu_total: float = 0.0

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Cluster:
        """The cluster that the link described."""
        cpu = list(data.get("cpu") or (0.0, 0.0))
        gpu = list(data.get("gpu") or (0.0, 0.0))
        address = plain(data.get("address") or "")
        return cls(address, bool(data.get("embedded")), float(cpu[0]), float(cpu[1]), float(gpu[0]), float(gpu[1]))


@dataclass(frozen=True)
class Round:
    """The round in hand."""

    number: int = 0
    phase: str = "idle"
    done: int = 0
    of: int = 0
    started: float = 0.0
    target: int | None = None
    until: str | None = None
    stopping: bool = False

    @property
    def running(self) -> bool:
        """Whether a round is under way or further ones are asked for."""
        return self.phase != "idle"

    @property
    def share(self) -> float:
        """How far the round is; it never goes back when the next phase begins."""
        begin, end = _PHASES.get(self.phase, (0.0, 1.0))
        return begin + (end - begin) * (self.done / self.of if self.of else 0.0)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Round:
        """The round that the link described."""
        return cls(
            number=int(data.get("number") or 0),
            phase=plain(data.get("phase") or "idle"),
            done=int(data.get("done") or 0),
            of=int(data.get("of") or 0),
            started=float(data.get("started") or 0.0),
            target=None if data.get("target") is None else int(data["target"]),
            until=None if data.get("until") is None else plain(data["until"]),
            stopping=bool(data.get("stopping")),
        )


@dataclass(frozen=True)
class RoundResult:
    """One round that is over."""

    number: int
    state: str
    loss: float | None
    metrics: Mapping[str, float]
    train_loss: float | None
    seconds: float
    participants: int
    failed: int
    ended: float

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RoundResult:
        """The result that the link described."""
        return cls(
            number=int(data["number"]),
            state=plain(data.get("state") or "done"),
            loss=_measure(data.get("loss")),
            metrics={
                plain(name): float(value)
                for name, value in (data.get("metrics") or {}).items()
                if isinstance(value, (int, float))
            },
            train_loss=_measure(data.get("train_loss")),
            seconds=float(data.get("seconds") or 0.0),
            participants=int(data.get("participants") or 0),
            failed=int(data.get("failed") or 0),
            ended=float(data.get("ended") or 0.0),
        )


@dataclass(frozen=True)
class Event:
    """One line of what happened; its texts are plain already."""

    seq: int
    epoch: float
    kind: str
    level: str
    subject: str
    text: str
    state: str

    @classmethod
    def from_wire(cls, data: Sequence[Any]) -> Event:
        """The event that the link described."""
        state = plain(data[6]) if len(data) > 6 and data[6] else ""
        return cls(int(data[0]), float(data[1]), plain(data[2]), plain(data[3]), plain(data[4]), plain(data[5]), state)


@dataclass(frozen=True)
class Changes:
    """What one update changed.

    Attributes:
        full: Whether everything was replaced.
        rows: Rows of the table that changed.
        placement: Whether nodes came, went, or changed bundle or role: lines have to be arranged anew.
        parts: Names of the other parts that changed (`bundles`, `hosts`, `cluster`, `round`, `rounds`, `note`).
        events: New events, oldest first.
    """

    full: bool = False
    rows: Rows = field(default_factory=lambda: _NO_ROWS)
    placement: bool = False
    parts: frozenset[str] = frozenset()
    events: tuple[Event, ...] = ()

    def __bool__(self) -> bool:
        return self.full or bool(len(self.rows)) or self.placement or bool(self.parts) or bool(self.events)


class OutOfStep(Exception):
    """An update builds on something that the mirror does not have: ask for everything."""


class FederationMirror:
    """A federation as the link last described it."""

    def __init__(self) -> None:
        self._reset()
        self.time = 0.0
        self.received: float | None = None

    def _reset(self) -> None:
        self.federation: Mapping[str, Any] = {}
        self.table = NodeTable()
        self.bundles: tuple[Bundle, ...] = ()
        self.hosts: tuple[Host, ...] = ()
        self.cluster = Cluster()
        self.round = Round()
        self.rounds: deque[RoundResult] = deque(maxlen=MAX_ROUNDS)
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self.cursor: Any = None
        self.read_only = False
        self.note = ""
        self.building: Building | None = None
        self.first_round = 1
        self._target: int | None = None

    @property
    def known(self) -> bool:
        """Whether there is anything to show."""
        return self.received is not None

    def age(self, now: float) -> float:
        """Seconds since the link last confirmed the data (both on the console's own clock)."""
        return 0.0 if self.received is None else max(0.0, now - self.received)

    def apply(self, update: Mapping[str, Any], now: float) -> Changes:
        """Take an update over.

        Raises:
            OutOfStep: If it builds on something that this mirror does not have.
        """
        full = bool(update.get("full"))
        if full:
            self._reset()
            self.federation = {name: plain(value) for name, value in (update.get("federation") or {}).items()}
            self.read_only = bool(update.get("read_only"))
        elif not self.known:
            raise OutOfStep("the first update has to be a full one")
        rows, placement = self._apply_table(update["table"]) if update.get("table") else (_NO_ROWS, False)
        parts = self._apply_parts(update)
        events = self._apply_events(update.get("events") or ())
        self._follow(full, bool(len(rows)), now)
        self.cursor = update.get("cursor")
        self.time = float(update.get("time") or self.time)
        self.received = now
        return Changes(full, rows, placement or full, parts, events)

    def add_older(self, wire: Sequence[Sequence[Any]]) -> int:
        """Take over events from before those that are held; how many of them there were."""
        first = self.events[0].seq if self.events else 0
        older = [event for event in map(Event.from_wire, wire) if event.seq < first]
        room = MAX_EVENTS - len(self.events)
        found = older[-room:] if room > 0 else []
        self.events.extendleft(reversed(found))
        return len(found)

    def metric(self, name: str) -> float | None:
        """The last value of a metric, or None."""
        for result in reversed(self.rounds):
            if name in result.metrics:
                return result.metrics[name]
        return None

    def seconds_left(self) -> float | None:
        """How long the asked-for rounds still take if they go on like the last ones."""
        if not self.round.running or self.round.target is None:
            return None
        recent = [result.seconds for result in list(self.rounds)[-5:] if result.state == "done"]
        if not recent:
            return None
        mean = sum(recent) / len(recent)
        return max(0.0, (self.round.target - self.round.number + 1 - self.round.share) * mean)

    def host_names(self) -> tuple[str, ...]:
        """Names of the hosts that live."""
        return tuple(host.name for host in self.hosts if host.alive)

    # -- inside ----------------------------------------------------------------------------------

    def _follow(self, full: bool, moved: bool, now: float) -> None:
        """Keep track of how far a build and a run are."""
        if self.round.running:
            if self.round.target != self._target:
                # Who comes in the middle of a run cannot tell where it began.
                self._target, self.first_round = self.round.target, 1 if full else self.round.number
            self.building = None  # nodes that take turns within a round are no build
            return
        self._target = None
        if full or moved:
            counts = self.table.counts()
            left = counts[NodeState.PENDING] + counts[NodeState.STARTING]
            self.building = follow(None if full else self.building, left, now)

    def _apply_table(self, wire: Mapping[str, Any]) -> tuple[Rows, bool]:
        table = self.table
        before_length = len(table)
        before = None
        if "rows" in wire and int(wire["length"]) == before_length:
            rows = np.frombuffer(wire["rows"], dtype="<i4")
            before = self._places(rows)
        elif int(wire["length"]) == before_length:
            before = self._places(slice(None))
        before_roles = list(table.roles)
        try:
            rows = np.asarray(table.apply_wire(dict(wire)))
        except ValueError as error:
            raise OutOfStep(str(error)) from error
        if before is None or before_roles != list(table.roles):
            return rows, True
        after = self._places(rows)
        return rows, any(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))

    def _places(self, rows: Any) -> tuple[npt.NDArray[Any], ...]:
        removed = self.table.column("state")[rows] == NodeState.REMOVED.code
        return self.table.column("bundle")[rows].copy(), self.table.column("role")[rows].copy(), removed

    def _apply_parts(self, update: Mapping[str, Any]) -> frozenset[str]:
        parts = set()
        fresh: Any
        for name, read in (
            ("bundles", lambda data: tuple(sorted(map(Bundle.from_wire, data), key=lambda bundle: bundle.idx))),
            ("hosts", lambda data: tuple(map(Host.from_wire, data))),
            ("cluster", Cluster.from_wire),
            ("round", Round.from_wire),
            ("note", plain),
        ):
            if update.get(name) is None:
                continue
            fresh = read(update[name])
            if fresh != getattr(self, name):
                setattr(self, name, fresh)
                parts.add(name)
        if update.get("rounds"):
            self.rounds.extend(map(RoundResult.from_wire, update["rounds"]))
            parts.add("rounds")
        return frozenset(parts)

    def _apply_events(self, wire: Sequence[Sequence[Any]]) -> tuple[Event, ...]:
        last = self.events[-1].seq if self.events else -1
        events = tuple(event for event in map(Event.from_wire, wire) if event.seq > last)
        self.events.extend(events)
        return events


def _measure(value: Any) -> float | None:
    if value is None or not isinstance(value, (int, float)) or math.isnan(value):
        return None
    return float(value)
