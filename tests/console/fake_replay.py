"""A replay in memory: a federation whose link tells of a time line too, and that goes back when a test says so."""

from __future__ import annotations

import copy
from typing import Any

from tests.console.fake_link import EPOCH, FakeFederation, busy_federation

LINE: dict[str, Any] = {
    "position": 345, "total": 1204, "event": 345, "last_event": 1204, "moment": EPOCH + 250, "start": EPOCH,
    "end": EPOCH + 1000, "round": 14, "rounds": 50, "speed": 20.0, "state": "playing",
    "text": "client_033: out of memory on worker-1; round 14 goes on with 67 of 68",
}  # fmt: skip


class FakeReplay(FakeFederation):
    """What a link tells of a journal."""

    def __init__(self, **line: Any) -> None:
        super().__init__()
        self.__dict__.update(busy_federation().__dict__)
        self.read_only = True
        self.timeline = {**LINE, **line}
        self._forgotten: tuple[int, int] | None = None

    def full(self) -> dict[str, Any]:
        return {**super().full(), "timeline": self.timeline}

    def delta(self, cursor: list[Any]) -> dict[str, Any]:
        if self._forgotten is None:
            return super().delta(cursor)
        events, rounds = self._forgotten
        self._forgotten = None
        del self.events[events:], self.rounds[rounds:]
        told = super().delta([*cursor[:3], 0, rounds, cursor[5]])
        return {**told, "cursor": self._cursor(), "anew": True, "rounds_kept": rounds}

    def _cursor(self) -> list[Any]:
        cursor = super()._cursor()
        cursor[5]["timeline"] = copy.deepcopy(self.timeline)
        return cursor

    def stand(self, **line: Any) -> None:
        """Tell of another place on the time line with the next update."""
        self.timeline = {**self.timeline, **line}

    def go_back(self, events: int, rounds: int, **line: Any) -> None:
        """Only so many events and rounds have happened."""
        self._forgotten = (events, rounds)
        self.stand(**line)
