"""The last error of each node: it stays when the node goes on, and when it was rebuilt."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from red_tui.nodes.failures import Cause


@dataclass(frozen=True)
class NodeError:
    """What went wrong in a node the last time.

    Attributes:
        cause: The error.
        round: The round in which it happened; 0 before the first.
        time: Wall-clock second.
    """

    cause: Cause
    round: int
    time: float = field(default_factory=time.time)

    def __str__(self) -> str:
        return f"in round {self.round}: {self.cause.text}" if self.round else self.cause.text

    def to_wire(self) -> dict[str, Any]:
        """Plain data for a console."""
        return {
            "text": self.cause.text,
            "traceback": self.cause.traceback,
            "died": self.cause.died,
            "round": self.round,
            "time": self.time,
        }
