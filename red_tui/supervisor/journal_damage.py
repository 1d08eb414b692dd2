"""What of a journal cannot be read, told in a line; what can be read is read all the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from red_tui.federation.records import Event
from red_tui.supervisor.journal_fold import JournalError
from red_tui.supervisor.journal_limits import INFLATED_LIMIT, TEXT_LIMIT, cut, inflate, read_json

NOTED = 1000
"""Damages that are remembered one by one."""

NAMED = 3
"""Damages that are told by name."""

READ_LIMIT = TEXT_LIMIT + 100
"""Characters of a text that are read: where it was cut when it was written, it says so."""

LATEST = 253_402_214_400.0
"""The last day of the year 9999: no event is later."""

Row = tuple[Any, ...]
"""An event as the table has it: `data` is JSON."""


@dataclass
class Damage:
    """What of a journal cannot be read.

    Attributes:
        kept: Where the damaged file is kept, once it was set aside.
    """

    kept: str = ""
    _found: dict[str, str] = field(default_factory=dict)
    _more: int = 0

    def note(self, what: str, why: str = "") -> None:
        """Note something that cannot be read; twice the same counts once."""
        if what in self._found:
            return
        if len(self._found) < NOTED:
            self._found[what] = cut(why, 200)
        else:
            self._more += 1

    def add(self, other: Damage) -> None:
        """Note what another reading has found."""
        for what, why in other._found.items():
            self.note(what, why)
        self._more += other._more
        self.kept = self.kept or other.kept

    def __len__(self) -> int:
        return len(self._found) + self._more

    def __contains__(self, what: object) -> bool:
        return what in self._found

    def __str__(self) -> str:
        """What is damaged, in a line; empty for nothing."""
        if not self._found:
            return ""
        named = [f"{what} ({why})" if why else what for what, why in list(self._found.items())[:NAMED]]
        more = len(self) - len(named)
        told = ", ".join(named) + (f" and {more:,} more" if more else "")
        aside = f"; the damaged file is kept as {self.kept}" if self.kept else ""
        return f"the journal is damaged: {told} cannot be read; the rest counts{aside}"


def event_of(row: Row) -> Event:
    """The event of a row.

    Raises:
        JournalError: If it is none; the message names it.
    """
    try:
        seq, when, kind, level, subject, text, state, data = row
        if isinstance(seq, bool) or not isinstance(seq, int) or not 0 < seq < 1 << 53:
            raise ValueError(f"its number is {str(seq)[:40]}")
        if isinstance(when, bool) or not isinstance(when, (int, float)) or not is_time(when):
            raise ValueError(f"its time is {str(when)[:40]}")
        texts = (kind, level, subject, text, state)
        if not all(isinstance(one, str) for one in texts):
            raise ValueError("its texts are none")
        plain = read_json(data)
        if not isinstance(plain, dict):
            raise ValueError("its data is no object")
    except (ValueError, TypeError) as error:
        name = f"event {row[0]}" if row and isinstance(row[0], int) else "an event"
        raise JournalError(f"{name} cannot be read: {error}") from error
    if len(subject) + len(text) > READ_LIMIT:
        subject, text = cut(subject, READ_LIMIT), cut(text, READ_LIMIT)
    return Event(seq, when, kind, level, subject, text, state, plain)


def is_time(when: float) -> bool:
    """Whether a number can be a wall-clock second."""
    return math.isfinite(when) and abs(when) < LATEST


def readable(rows: Iterable[Row], damage: Damage) -> Iterator[Event]:
    """The events of rows; those that cannot be read are left out and noted."""
    for row in rows:
        try:
            yield event_of(row)
        except JournalError as error:
            damage.note(f"event {row[0]}", error.message.partition("read: ")[2])


def block_rows(data: bytes) -> list[Row]:
    """The rows of a block of the archive.

    Raises:
        JournalError: If it is damaged.
    """
    try:
        rows = read_json(inflate(data, INFLATED_LIMIT))
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 8 for row in rows):
            raise ValueError("it holds no events")
        if not all(isinstance(row[0], int) for row in rows):
            raise ValueError("its events have no numbers")
    except (ValueError, TypeError) as error:
        raise JournalError(f"a block of the archive is damaged: {error}") from error
    return [tuple(row) for row in rows]


def block_or_none(first: Any, data: bytes, damage: Damage) -> list[Row]:
    """The rows of a block of the archive, or none where it is damaged, which is noted."""
    try:
        return block_rows(data)
    except JournalError as error:
        damage.note(f"the archived events from {first} on", error.message.partition("damaged: ")[2])
        return []
