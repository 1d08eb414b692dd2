"""What happened in a federation, as one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
        """Plain data for a screen, without `data`."""
        return [self.seq, self.time, self.kind, self.level, self.subject, self.text, self.state]
