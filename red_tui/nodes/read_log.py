"""Which messages the nodes of a process have read: word of it goes with what the process sends.

A sender keeps a message until its receiver has read it, and sends it again to the process that takes the receiver's
place.  A receiver may die after it has read a message and sent something on, but before its sender has heard of the
read.  So each batch that leaves a process says what the nodes of that process had read by then.  Whoever got the batch
can tell it when the receiver is rebuilt, and nobody gets a message twice whose effects were seen.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping

Read = tuple[str, str, int]
"""Who read, in which row of a sender's numbers, up to which number."""

Reads = Mapping[str, Mapping[str, int]]
"""The same by reader and row."""


class ReadLog:
    """The last read of each row of numbers, in the order of their changes; any thread may use it."""

    def __init__(self) -> None:
        self._version = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()
        """Number and version by reader and row; the newest is last."""
        self._rows: dict[str, set[str]] = {}
        """Rows by reader."""
        self._told: dict[Hashable, int] = {}
        """The version that other processes know."""

    def note(self, reader: str, row: str, number: int) -> None:
        """Note that a message was read."""
        with self._lock:
            self._version += 1
            self._entries[reader, row] = number, self._version
            self._entries.move_to_end((reader, row))
            self._rows.setdefault(reader, set()).add(row)

    def news_for(self, process: Hashable) -> list[Read]:
        """What was read since this was asked last for another process."""
        if self._told.get(process, 0) == self._version:
            return []
        found: list[Read] = []
        with self._lock:
            told, self._told[process] = self._told.get(process, 0), self._version
            for (reader, row), (number, changed) in reversed(self._entries.items()):
                if changed <= told:
                    break
                found.append((reader, row, number))
        return found

    def not_arrived(self, process: Hashable) -> None:
        """A process may not have got its news: it gets all of them again, or it is not there any more."""
        with self._lock:
            self._told.pop(process, None)

    def forget(self, reader: str) -> None:
        """Forget the rows of a reader: a session begins."""
        with self._lock:
            for row in self._rows.pop(reader, ()):
                del self._entries[reader, row]


class ReadEvidence:
    """What other processes are known to have read, from the batches that came from them."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, int]] = {}

    def learn(self, reads: Iterable[Read]) -> None:
        """Take in what came with a batch."""
        for reader, row, number in reads:
            rows = self._known.setdefault(reader, {})
            rows[row] = max(number, rows.get(row, 0))

    def of(self, readers: Iterable[str]) -> dict[str, dict[str, int]]:
        """What some nodes are known to have read."""
        return {reader: dict(self._known[reader]) for reader in readers if reader in self._known}

    def clear(self) -> None:
        """Forget all: a session begins."""
        self._known.clear()

    def add(self, other: Reads) -> None:
        """Take in what somebody else knows."""
        for reader, rows in other.items():
            self.learn((reader, row, number) for row, number in rows.items())
