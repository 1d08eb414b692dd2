"""What the link tells of, as small frozen records; their texts are plain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from red_tui.plain_text import plain

RECENT = 50
"""Rounds that say what is the case now."""

_PHASES = {"choose": (0.0, 0.0), "fit": (0.0, 0.8), "aggregate": (0.8, 0.8), "evaluate": (0.8, 1.0)}
"""What part of a round each phase is, about."""


@dataclass(frozen=True)
class BundleStatus:
    """One bundle of the federation's pool."""

    idx: int
    host: str
    cpu: float
    gpu: float
    resources: Mapping[str, float]
    state: str
    what: str

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> BundleStatus:
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
class HostStatus:
    """One machine of the cluster."""

    id: str
    name: str
    alive: bool
    cpu: float
    gpu: float
    head: bool
    resources: Mapping[str, float] = field(default_factory=dict)

    def has(self, name: str) -> float:
        """How much it has of a resource in all."""
        return {"cpu": self.cpu, "gpu": self.gpu}.get(name, self.resources.get(name, 0.0))

    def tells(self, name: str) -> bool:
        """Whether how much it has is known: a host's custom resources may not be told."""
        return name in ("cpu", "gpu") or bool(self.resources)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> HostStatus:
        """The host that the link described."""
        return cls(
            id=plain(data.get("id") or ""),
            name=plain(data.get("name") or data.get("id") or ""),
            alive=bool(data.get("alive", True)),
            cpu=float(data.get("cpu") or 0.0),
            gpu=float(data.get("gpu") or 0.0),
            head=bool(data.get("head", False)),
            resources={plain(name): float(value) for name, value in (data.get("resources") or {}).items()},
        )


@dataclass(frozen=True)
class ClusterStatus:
    """The Ray cluster: its address and what of it is in use."""

    address: str = ""
    embedded: bool = False
    cpu_used: float = 0.0
    cpu_total: float = 0.0
    gpu_used: float = 0.0
    gpu_total: float = 0.0

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> ClusterStatus:
        """The cluster that the link described."""
        cpu = list(data.get("cpu") or (0.0, 0.0))
        gpu = list(data.get("gpu") or (0.0, 0.0))
        address = plain(data.get("address") or "")
        return cls(address, bool(data.get("embedded")), float(cpu[0]), float(cpu[1]), float(gpu[0]), float(gpu[1]))


@dataclass(frozen=True)
class RoundProgress:
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
    def from_wire(cls, data: Mapping[str, Any]) -> RoundProgress:
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
class MessagingStatus:
    """The session in hand: nodes that run their own `train`."""

    running: bool = False
    nodes: int = 0
    started: float = 0.0
    stopping: bool = False

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> MessagingStatus:
        """The session that the link described."""
        return cls(
            running=bool(data.get("running")),
            nodes=int(data.get("nodes") or 0),
            started=float(data.get("started") or 0.0),
            stopping=bool(data.get("stopping")),
        )


@dataclass(frozen=True)
class TopologyVersion:
    """Which topology there is; the graph itself is asked for by who wants to see it."""

    version: tuple[int, ...] = ()
    rule: str = ""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> TopologyVersion:
        """The version that the link described."""
        return cls(tuple(map(int, data.get("version") or ())), plain(data.get("rule") or ""))


@dataclass(frozen=True)
class TimeLine:
    """Where a replay stands in its journal.

    Attributes:
        state: `paused`, `playing`, `end` (nothing more has come) or `following` (what comes is shown); empty where
            nothing is replayed.
        position: How many events of the time line have happened.
        total: How many it has.
        event: Number of the last event that has happened.
        last_event: Number of the last event.
        moment: Wall-clock second that is shown.
        start: Wall-clock second of the first event.
        end: Wall-clock second of the last event.
        round: The round in hand, or the last one that was.
        rounds: The last round of the journal.
        speed: Seconds of the journal to a second; None: as fast as it is drawn.
        text: What happened last.
        idle: Seconds after which a time in which nothing happened is skipped; None: never.
        skipped: Seconds that were skipped to come here.
    """

    state: str = ""
    position: int = 0
    total: int = 0
    event: int = 0
    last_event: int = 0
    moment: float = 0.0
    start: float = 0.0
    end: float = 0.0
    round: int = 0
    rounds: int = 0
    speed: float | None = 1.0
    text: str = ""
    idle: float | None = None
    skipped: float = 0.0

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> TimeLine:
        """The time line that the link described."""
        return cls(
            state=plain(data.get("state") or ""),
            position=int(data.get("position") or 0),
            total=int(data.get("total") or 0),
            event=int(data.get("event") or 0),
            last_event=int(data.get("last_event") or 0),
            moment=float(data.get("moment") or 0.0),
            start=float(data.get("start") or 0.0),
            end=float(data.get("end") or 0.0),
            round=int(data.get("round") or 0),
            rounds=int(data.get("rounds") or 0),
            speed=None if data.get("speed") is None else float(data["speed"]),
            text=plain(data.get("text") or ""),
            idle=None if data.get("idle") is None else float(data["idle"]),
            skipped=float(data.get("skipped") or 0.0),
        )


@dataclass(frozen=True)
class ShownSettings:
    """What of the next rounds can be changed.

    Attributes:
        values: The values of each name in the next rounds; several where groups of nodes differ.
        later: Names of those that the round in hand does not go by yet.
    """

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    later: tuple[str, ...] = ()

    @property
    def known(self) -> dict[str, Any]:
        """Present values by name."""
        from red_tui.layout.round_settings import Several

        return {name: found[0] if len(found) == 1 else Several(found) for name, found in self.values.items()}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> ShownSettings:
        """What the link described."""
        values = {plain(name): tuple(found) for name, found in (data.get("values") or {}).items() if found}
        return cls(values, tuple(map(plain, data.get("later") or ())))


@dataclass(frozen=True)
class Measured:
    """How one measure was distributed over a round's nodes; `quantiles` are those of 0, 10, 25, 50, 75, 90, 100 %."""

    name: str
    count: int
    quantiles: tuple[float, ...]
    bins: tuple[int, ...]
    low: tuple[tuple[str, float], ...]
    high: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Spread:
    """How the nodes of a round did; why some failed or were left out: (cause, how many nodes, the first of them)."""

    measures: tuple[Measured, ...] = ()
    failed: tuple[tuple[str, int, tuple[str, ...]], ...] = ()
    why: str = ""
    """Why nothing is known, where nothing is."""
    left_out: tuple[tuple[str, int, tuple[str, ...]], ...] = ()

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Spread:
        """The spread that the link described."""
        measures = tuple(
            Measured(
                plain(name),
                int(told["count"]),
                tuple(map(float, told["quantiles"])),
                tuple(map(int, told["bins"])),
                *(tuple((plain(node), float(value)) for node, value in told[end]) for end in ("low", "high")),
            )
            for name, told in (data.get("measures") or {}).items()
        )
        failed, left_out = (
            tuple((plain(why), int(count), tuple(map(plain, ids))) for why, count, ids in data.get(name) or ())
            for name in ("failed", "left_out")
        )
        return cls(measures, failed, left_out=left_out)


@dataclass(frozen=True)
class RoundSummary:
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
    evaluated: int = 0
    examples: float = 0.0
    error: str = ""
    spread: Spread | None = None
    left_out: int = 0
    """Nodes that could not be chosen: they had failed, or were still at work."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RoundSummary:
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
            evaluated=int(data.get("evaluated") or 0),
            examples=float(data.get("num_examples") or 0.0),
            error=plain(data.get("error") or ""),
            spread=Spread.from_wire(data["spread"]) if data.get("spread") else None,
            left_out=int(data.get("num_left_out") or 0),
        )


@dataclass(frozen=True)
class EventSummary:
    """One line of what happened; its texts are plain already."""

    seq: int
    epoch: float
    kind: str
    level: str
    subject: str
    text: str
    state: str

    @classmethod
    def from_wire(cls, data: Sequence[Any]) -> EventSummary:
        """The event that the link described."""
        state = plain(data[6]) if len(data) > 6 and data[6] else ""
        return cls(int(data[0]), float(data[1]), plain(data[2]), plain(data[3]), plain(data[4]), plain(data[5]), state)


def _measure(value: Any) -> float | None:
    if value is None or not isinstance(value, (int, float)) or math.isnan(value):
        return None
    return float(value)
