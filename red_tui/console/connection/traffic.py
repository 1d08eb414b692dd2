"""Rates of messages, out of two readings of what nodes counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from red_tui.console.text import number

Reading = Mapping[str, Mapping[str, Any]]


LEAST = 0.2
"""Seconds between two readings that make a rate."""


class Traffic:
    """What nodes sent and received, and how fast of late."""

    def __init__(self) -> None:
        self._now: Reading = {}
        self._before: Reading = {}
        self._at = 0.0
        self._seconds = 0.0
        self.totals: Mapping[str, int] = {}
        self._totals_before: Mapping[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._now)

    def take(self, nodes: Reading, totals: Mapping[str, Any], at: float) -> None:
        """Take a reading over.

        Args:
            nodes: Counts by id.
            totals: Counts of all nodes together.
            at: When it was made, in seconds of any clock that goes on evenly.
        """
        seconds = at - self._at
        if self._now and seconds < LEAST:
            return
        self._before, self._totals_before = self._now, self.totals
        self._seconds = seconds if self._now else 0.0
        self._now, self._at = nodes, at
        self.totals = {name: int(value) for name, value in totals.items() if isinstance(value, (int, float))}

    def rest(self) -> None:
        """Nothing moves any more: counts stay, rates end."""
        self._seconds = 0.0

    def count(self, node_id: str, name: str) -> int | None:
        """One of a node's counts; None if it is not known."""
        told = self._now.get(node_id)
        return None if told is None or name not in told else int(told[name])

    def rate(self, node_id: str, name: str) -> float | None:
        """A node's count per second, of late."""
        before, now = self._before.get(node_id), self._now.get(node_id)
        if before is None or now is None:
            return None
        return self._per_second(before.get(name), now.get(name))

    def edge_rate(self, sender: str, receiver: str) -> float | None:
        """Messages per second from one node to another, of late."""
        before, now = (_to(reading, sender, receiver) for reading in (self._before, self._now))
        return self._per_second(before, now)

    def total_rate(self, name: str) -> float | None:
        """A count of all nodes together per second."""
        return self._per_second(self._totals_before.get(name), self.totals.get(name))

    def _per_second(self, before: Any, now: Any) -> float | None:
        if self._seconds <= 0 or before is None or now is None or now < before:
            return None  # counts begin anew with each session
        return float(now - before) / self._seconds


def _to(reading: Reading, sender: str, receiver: str) -> Any:
    told = reading.get(sender)
    if told is None:
        return None
    way = (told.get("to") or {}).get(receiver)
    return 0 if way is None else way[0]


def per_second(rate: float | None) -> str:
    """A rate as it is written; nothing where there is none."""
    if rate is None:
        return ""
    return f"{rate:,.0f}/s" if rate >= 99.5 else f"{number(rate, 2)}/s"
