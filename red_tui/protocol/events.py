"""What happened in a federation, as one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from red_tui.plain_text import plain

TRACE = "trace"
"""Level of events that only recovery reads: they are in the journal and on no screen."""


@dataclass(frozen=True)
class Event:
    """One thing that happened, as the journal keeps it and the console shows it.

    Attributes:
        seq: Its number; without gaps within a federation.
        time: Wall-clock second.
        kind: `node`, `wave`, `round`, `federation`, `operator` or `cluster`.
        level: `info`, `good`, `warn` or `error`; `trace` is for recovery only.
        subject: Node id, `round 14`, ...
        text: For people.
        state: Name of the state that the subject is in now, or empty.
        data: For the fold: ids, bundles, results.
    """

    seq: int
    time: float
    kind: str
    level: str
    subject: str
    text: str
    state: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_wire(self) -> list[Any]:
        """Plain data for a screen, without `data`: the values of the fields in their order."""
        return [self.seq, self.time, self.kind, self.level, self.subject, self.text, self.state]

    @classmethod
    def from_wire(cls, data: Sequence[Any]) -> Event:
        """The event that `to_wire` told; red-tui 0.1 left an empty state out."""
        seq, time, kind, level, subject, text, *more = data
        return cls(int(seq), float(time), kind, level, subject, text, *more[:1])

    def to_json(self) -> dict[str, Any]:
        """Plain data by the names of the fields, without `data`, for scripts."""
        return {name: value for name, value in self.__dict__.items() if name != "data"}


@dataclass(frozen=True)
class EventSummary:
    """One line of what happened, as a screen shows it: its texts are plain."""

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
        event = Event.from_wire(data)
        texts = (plain(text or "") for text in (event.kind, event.level, event.subject, event.text, event.state))
        return cls(event.seq, event.time, *texts)
