"""An update: what is newer than a watcher's cursor.  Federations and replays send it, consoles and clients read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from red_tui.plain_text import plain
from red_tui.protocol.events import EventSummary
from red_tui.protocol.snapshot import (
    BundleStatus,
    ClusterStatus,
    FederationInfo,
    HostStatus,
    RoundProgress,
    RoundSummary,
    SessionStatus,
    ShownSettings,
    TimeLine,
    TopologyVersion,
)


@dataclass(frozen=True)
class Cursor:
    """What a watcher of a federation has seen.  On the wire it is a list in the order of the fields.

    Attributes:
        epoch: Incarnation of the supervisor: a cursor of another one is worth nothing.
        table: Version of the nodes' table.
        segments: Number of segments of ids in it.
        event: Number of the last event.
        rounds: Number of finished rounds.
        failed_rounds: Number of failed rounds.
        round: Version of the round in hand.
        pool: Version of the bundles.
        cluster: Version of the cluster's resources.
        note: The standing warnings.
        topology: Version of the topology: the rule's number, and what changes when nodes join or leave.
        session: Version of the session.
        settings: Version of the next rounds' settings.
    """

    epoch: str
    table: int = -1
    segments: int = 0
    event: int = 0
    rounds: int = 0
    failed_rounds: int = 0
    round: int = -1
    pool: int | None = None
    cluster: int = -1
    note: str = ""
    topology: tuple[int, ...] = ()
    session: int = -1
    settings: int = -1

    def to_wire(self) -> list[Any]:
        """The values in the order of the fields."""
        return [
            self.epoch,
            self.table,
            self.segments,
            self.event,
            self.rounds,
            self.failed_rounds,
            self.round,
            self.pool,
            self.cluster,
            self.note,
            list(self.topology),
            self.session,
            self.settings,
        ]

    @classmethod
    def from_wire(cls, data: Sequence[Any] | None) -> Cursor | None:
        """The cursor that a watcher handed in; None if it has none, or one that is none."""
        if not isinstance(data, (list, tuple)) or len(data) != len(cls.__dataclass_fields__):
            return None
        values = list(data)
        values[10] = tuple(values[10] or ())
        return cls(*values)


@dataclass(frozen=True)
class ReplayCursor:
    """What a watcher of a replay has seen.

    Attributes:
        epoch: Changes when the journal has grown in a way that cannot be told as a difference.
        table: Version of the nodes' table.
        segments: Number of segments of ids in it.
        position: How many events of the time line have happened.
        rewinds: How often the replay went back, or far ahead.
        results: How many rounds are over.
        parts: Versions of the other parts of an update, by name.
    """

    epoch: str
    table: int = -1
    segments: int = 0
    position: int = 0
    rewinds: int = 0
    results: int = 0
    parts: Mapping[str, int] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """The values by the names of the fields."""
        return {**self.__dict__, "parts": dict(self.parts)}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any] | None) -> ReplayCursor | None:
        """The cursor that a watcher handed in; None if it has none, or one that is none."""
        if not isinstance(data, Mapping) or set(data) != set(cls.__dataclass_fields__):
            return None
        return cls(**data)


@dataclass(frozen=True)
class Update:
    """What is newer than a cursor.  A part that did not change is None, and is not sent.

    Attributes:
        cursor: What the watcher has seen with this update, in its wire form; only its sender reads it.
        time: Wall-clock second of the data.
        full: Whether everything is told.
        federation: What the federation is; in full updates only.
        table: Rows of the nodes' table, in the wire form of `NodeTable`.
        bundles: All bundles of the pool.
        cluster: The Ray cluster.
        hosts: Its machines.
        round: The round in hand.
        rounds: Rounds that ended, oldest first, in the wire form of `RoundSummary`.
        events: Events, oldest first, in the wire form of `Event`.
        note: The standing warnings.
        topology: Which topology there is.
        session: The session in hand.
        next_rounds: What of the next rounds can be changed.
        timeline: Where a replay stands.
        read_only: Whether commands that write are refused.
        anew: Whether the events take the place of all that were told before.
        rounds_kept: How many of the rounds told before still hold: a replay went back.
    """

    cursor: Any
    time: float
    full: bool = False
    federation: FederationInfo | None = None
    table: Mapping[str, Any] | None = None
    bundles: Sequence[BundleStatus] | None = None
    cluster: ClusterStatus | None = None
    hosts: Sequence[HostStatus] | None = None
    round: RoundProgress | None = None
    rounds: Sequence[Mapping[str, Any]] | None = None
    events: Sequence[Sequence[Any]] | None = None
    note: str | None = None
    topology: TopologyVersion | None = None
    session: SessionStatus | None = None
    next_rounds: ShownSettings | None = None
    timeline: TimeLine | None = None
    read_only: bool | None = None
    anew: bool | None = None
    rounds_kept: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """Plain data without the parts that are None."""
        wire: dict[str, Any] = {}
        for name, value in self.__dict__.items():
            if value is None and name != "cursor":
                continue
            if name in _RECORDS:
                wire[name] = value.to_wire()
            elif name in _LISTS:
                wire[name] = [record.to_wire() for record in value]
            else:
                wire[name] = value
        return wire

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Update:
        """The update that a link or a supervisor sent; names that are unknown here are passed over."""
        parts: dict[str, Any] = {
            name: data[name] for name in cls.__dataclass_fields__ if name in data and data[name] is not None
        }
        for name, record in _RECORDS.items():
            if name in parts:
                parts[name] = record.from_wire(parts[name])
        for name, listed in _LISTS.items():
            if name in parts:
                parts[name] = tuple(map(listed.from_wire, parts[name]))
        if "note" in parts:
            parts["note"] = plain(parts["note"])
        return cls(
            **{
                **parts,
                "cursor": data.get("cursor"),
                "time": float(data.get("time") or 0.0),
                "full": bool(data.get("full")),
                "read_only": bool(data.get("read_only")) if "read_only" in data else None,
            }
        )

    @property
    def summaries(self) -> tuple[RoundSummary, ...]:
        """The rounds that ended."""
        return tuple(map(RoundSummary.from_wire, self.rounds or ()))

    @property
    def happened(self) -> tuple[EventSummary, ...]:
        """The events, with plain texts."""
        return tuple(map(EventSummary.from_wire, self.events or ()))


_RECORDS: Mapping[str, Any] = {
    "federation": FederationInfo,
    "cluster": ClusterStatus,
    "round": RoundProgress,
    "topology": TopologyVersion,
    "session": SessionStatus,
    "next_rounds": ShownSettings,
    "timeline": TimeLine,
}
_LISTS: Mapping[str, Any] = {"bundles": BundleStatus, "hosts": HostStatus}

PARTS = frozenset({*_RECORDS, *_LISTS, "rounds", "note"}) - {"federation"}
"""Names of what a mirror holds beside nodes and events."""
