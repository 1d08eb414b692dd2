"""What of a journal cannot be read, told in a line; what can be read is read all the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from red_tui.journal.fold import JournalError
from red_tui.journal.limits import INFLATED_LIMIT, ROWS_LIMIT, TEXT_LIMIT, cut, inflate, read_json
from red_tui.journal.node_rows import read_spans
from red_tui.protocol.events import Event

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


WHOLE = ("number", "state", "loss", "metrics", "train_metrics", "seconds", "participants", "ended")
"""What a result has of every version."""


def _is_count(value: Any, most: int = ROWS_LIMIT) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _is_measure(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value < 1 << 1023)


def _are_measures(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_measure(one) for one in value.values())


def _are_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "number": lambda value: _is_count(value, 1 << 53) and value > 0,
    "state": lambda value: value in ("done", "failed"),
    "loss": _is_measure,
    "train_loss": _is_measure,
    "metrics": _are_measures,
    "train_metrics": _are_measures,
    "seconds": _is_number,
    "participants": _is_count,
    "failed": _is_count,
    "evaluated": _is_count,
    "num_examples": _is_number,
    "ended": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and is_time(value),
    "ids": _are_ids,
    "failures": _are_texts,
    "left_out": _are_texts,
    "num_left_out": _is_count,
    "digests": _are_texts,
    "spread": lambda value: isinstance(value, Mapping),
    "error": lambda value: isinstance(value, str),
}


def check_result(result: Any, whole: bool = True) -> None:
    """Look whether a round's result is one.

    Args:
        result: What a journal holds.
        whole: Whether all has to be there that every result has; else only what is there is looked at.

    Raises:
        ValueError: If it is none; the message says what of it.
    """
    if not isinstance(result, Mapping):
        raise ValueError("it is no object")
    missing = [name for name in (WHOLE if whole else ("number", "state")) if name not in result]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    for name, is_good in _CHECKS.items():
        if name in result and not is_good(result[name]):
            raise ValueError(f"its {name} is {str(result[name])[:40]}")
    try:
        read_spans(result.get("rows") or (), 2)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"its rows are {str(result['rows'])[:40]}") from error


def is_result(result: Any) -> bool:
    """Whether a round's result can be shown; one that cannot is passed over, as folds do."""
    try:
        check_result(result, whole=False)
    except ValueError:
        return False
    return True


def sound_results(results: Iterable[Any], damage: Damage) -> list[Mapping[str, Any]]:
    """The results that are whole; the others are noted."""
    sound = []
    for place, result in enumerate(results, start=1):
        try:
            check_result(result)
        except ValueError as error:
            number = result.get("number") if isinstance(result, Mapping) else None
            name = f"the result of round {number}" if _is_count(number, 1 << 53) else f"result {place}"
            damage.note(name, str(error))
        else:
            sound.append(result)
    return sound
