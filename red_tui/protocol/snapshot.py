"""The parts of an update as small frozen records, each with its wire form.

`to_wire` tells them as they are, `from_wire` makes their texts plain: what comes from nodes reaches a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from red_tui.plain_text import plain

RECENT = 50
"""Rounds that say what is the case now."""

_PHASES = {"choose": (0.0, 0.0), "fit": (0.0, 0.8), "aggregate": (0.8, 0.8), "evaluate": (0.8, 1.0)}
"""What part of a round each phase is, about."""


class _Record:
    """A record whose wire form is its values by the names of its fields."""

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class FederationInfo(_Record):
    """What a federation is, as long as it lives.

    Attributes:
        id: Its id.
        schema: Name of its schema.
        template: `module:Class` of its nodes.
        title: What pickers show.
        created: Wall-clock second of its launch.
        isolation: `process` or `bundle`.
        layout_path: Where its layout came from, or nothing.
    """

    id: str = ""
    schema: str = ""
    template: str = ""
    title: str = ""
    created: float = 0.0
    isolation: str = ""
    layout_path: str = ""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> FederationInfo:
        """The federation that the link described."""
        names = ("id", "schema", "template", "title", "isolation", "layout_path")
        texts = {name: plain(data.get(name) or "") for name in names}
        return cls(**texts, created=float(data.get("created") or 0.0))


@dataclass(frozen=True)
class BundleStatus(_Record):
    """One bundle of the federation's pool."""

    idx: int
    host: str
    cpu: float
    gpu: float
    resources: Mapping[str, float]
    state: str
    what: str

    @classmethod
    def of(cls, idx: int, host: str, resources: Mapping[str, float], state: str, what: str) -> BundleStatus:
        """A bundle from its resources as Ray names them."""
        custom = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")}
        return cls(idx, host, resources.get("CPU", 0.0), resources.get("GPU", 0.0), custom, state, what)

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
class HostStatus(_Record):
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
    def of(cls, id: str, name: str, alive: bool, resources: Mapping[str, float], head: bool) -> HostStatus:
        """A machine from its resources as Ray names them; what Ray adds for placement groups is left out."""
        custom = {
            name: amount
            for name, amount in resources.items()
            if name not in ("CPU", "GPU") and "_group_" not in name and not name.startswith("bundle_group")
        }
        return cls(id, name, alive, resources.get("CPU", 0.0), resources.get("GPU", 0.0), head, custom)

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
    error: str = ""
    """Why nothing is known of what is in use, or nothing."""

    def to_wire(self) -> dict[str, Any]:
        """Plain data: CPUs and GPUs as [used, total]."""
        wire = {
            "address": self.address,
            "embedded": self.embedded,
            "cpu": [self.cpu_used, self.cpu_total],
            "gpu": [self.gpu_used, self.gpu_total],
        }
        return {**wire, "error": self.error} if self.error else wire

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> ClusterStatus:
        """The cluster that the link described."""
        cpu = list(data.get("cpu") or (0.0, 0.0))
        gpu = list(data.get("gpu") or (0.0, 0.0))
        address = plain(data.get("address") or "")
        amounts = (float(cpu[0]), float(cpu[1]), float(gpu[0]), float(gpu[1]))
        return cls(address, bool(data.get("embedded")), *amounts, error=plain(data.get("error") or ""))


@dataclass(frozen=True)
class BestRound:
    """The round that did best by one measure.

    Attributes:
        round: Its number.
        metric: The measure: `loss`, `train loss` where nobody judged, or a metric.
        value: Its value in that round.
    """

    round: int
    metric: str
    value: float

    def __str__(self) -> str:
        return f"{self.metric} {self.value:.4g} in round {self.round}"

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return {"round": self.round, "metric": self.metric, "value": self.value}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> BestRound:
        """The round that another process told."""
        return cls(int(data["round"]), plain(data["metric"]), float(data["value"]))


@dataclass(frozen=True)
class RoundProgress(_Record):
    """The round in hand.

    Attributes:
        number: Its number; without one in hand, that of the last.
        phase: `idle`, `choose`, `fit`, `aggregate` or `evaluate`.
        done: Nodes that are done with the phase.
        of: Nodes that the phase waits for.
        started: Wall-clock second at which it began.
        target: Number of the last round of the run, or None.
        until: Condition that ends the run, or None.
        stopping: Whether the run ends after this round.
        first: Number of the first round of the run, or of the last run; 0 where it is not known.
        best: The best of all finished rounds by its loss; None before the first that has one.
    """

    number: int = 0
    phase: str = "idle"
    done: int = 0
    of: int = 0
    started: float = 0.0
    target: int | None = None
    until: str | None = None
    stopping: bool = False
    first: int = 0
    best: BestRound | None = None

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.__dict__, "best": None if self.best is None else self.best.to_wire()}

    @property
    def running(self) -> bool:
        """Whether a round is under way or further ones are asked for."""
        return self.phase != "idle"

    @property
    def first_round(self) -> int:
        """Number of the first round of the run; 1 where nobody told it."""
        return max(1, self.first)

    @property
    def counted(self) -> bool:
        """Whether it is known which of several rounds is the last one."""
        return self.target is not None and self.until is None and self.target > self.first_round

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
            first=int(data.get("first") or 0),
            best=BestRound.from_wire(data["best"]) if data.get("best") else None,
        )


@dataclass(frozen=True)
class SessionStatus(_Record):
    """The session in hand: nodes that run their own `train`.

    Attributes:
        running: Whether one is under way.
        nodes: How many nodes take part in the present one, or took part in the last.
        started: Wall-clock second at which it began.
        stopping: Whether it was told to stop.
    """

    running: bool = False
    nodes: int = 0
    started: float = 0.0
    stopping: bool = False

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> SessionStatus:
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

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return {"version": list(self.version), "rule": self.rule}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> TopologyVersion:
        """The version that the link described."""
        return cls(tuple(map(int, data.get("version") or ())), plain(data.get("rule") or ""))


@dataclass(frozen=True)
class TimeLine(_Record):
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

    def to_wire(self) -> dict[str, Any]:
        """Plain data."""
        return {"values": {name: list(found) for name, found in self.values.items()}, "later": list(self.later)}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> ShownSettings:
        """What the link described."""
        values = {plain(name): tuple(found) for name, found in (data.get("values") or {}).items() if found}
        return cls(values, tuple(map(plain, data.get("later") or ())))


@dataclass(frozen=True)
class Measured:
    """How one measure was distributed over a round's nodes; `quantiles` are those of 0, 10, 25, 50, 75, 90, 100 %.

    Mean, deviation and the mean of the worst tenth are NaN in rounds of versions that did not tell them.
    """

    name: str
    count: int
    quantiles: tuple[float, ...]
    bins: tuple[int, ...]
    low: tuple[tuple[str, float], ...]
    high: tuple[tuple[str, float], ...]
    mean: float = math.nan
    deviation: float = math.nan
    worst: float = math.nan

    @classmethod
    def from_wire(cls, name: str, told: Mapping[str, Any]) -> Measured:
        """The measure of a name that the link described."""
        low, high = (tuple((plain(node), float(value)) for node, value in told[end]) for end in ("low", "high"))
        mean, deviation, worst = (
            math.nan if told.get(key) is None else float(told[key]) for key in ("mean", "deviation", "worst")
        )
        shares, bins = tuple(map(float, told["quantiles"])), tuple(map(int, told["bins"]))
        return cls(plain(name), int(told["count"]), shares, bins, low, high, mean, deviation, worst)


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
        measures = tuple(Measured.from_wire(name, told) for name, told in (data.get("measures") or {}).items())
        failed, left_out = (
            tuple((plain(why), int(count), tuple(map(plain, ids))) for why, count, ids in data.get(name) or ())
            for name in ("failed", "left_out")
        )
        return cls(measures, failed, left_out=left_out)


@dataclass(frozen=True)
class RoundSummary:
    """One round that is over, `done` or `failed` with its `error`; a measure that is not finite is None on the wire."""

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
    train_metrics: Mapping[str, float] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """Plain data without what a screen asks for when it shows it: ids, and how single nodes did."""
        wire = {
            "number": self.number,
            "state": self.state,
            "loss": _finite(self.loss),
            "metrics": {name: _finite(value) for name, value in self.metrics.items()},
            "train_loss": _finite(self.train_loss),
            "train_metrics": {name: _finite(value) for name, value in self.train_metrics.items()},
            "seconds": self.seconds,
            "participants": self.participants,
            "failed": self.failed,
            "ended": self.ended,
            "num_examples": self.examples,
            "evaluated": self.evaluated,
            "num_left_out": self.left_out,
        }
        return {**wire, "error": self.error} if self.error else wire

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RoundSummary:
        """The result that the link described."""
        return cls(
            number=int(data["number"]),
            state=plain(data.get("state") or "done"),
            loss=_measure(data.get("loss")),
            metrics=_measures(data.get("metrics")),
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
            train_metrics=_measures(data.get("train_metrics")),
        )


KEPT_BACK = frozenset({"rows", "ids", "failures", "left_out"})
"""What the journal keeps of a round's result, and a screen does not need."""


def round_of_journal(result: Mapping[str, Any]) -> dict[str, Any]:
    """A round's result as the journal keeps it, in the wire form of `RoundSummary`.

    A failed round keeps how its nodes did; of one that is done a screen asks for that when it shows it.
    """
    kept_back = KEPT_BACK | {"spread"} if result.get("state") == "done" else KEPT_BACK
    return {name: value for name, value in result.items() if name not in kept_back}


def _measures(data: Mapping[str, Any] | None) -> dict[str, float]:
    return {plain(name): float(value) for name, value in (data or {}).items() if isinstance(value, (int, float))}


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _measure(value: Any) -> float | None:
    if value is None or not isinstance(value, (int, float)) or math.isnan(value):
        return None
    return float(value)
