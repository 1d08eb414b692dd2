"""What a watcher has seen: it hands its cursor in with each `watch` and gets what is newer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


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
