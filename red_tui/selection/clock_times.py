"""The one parser of times as people write them: spans, clock times, dates."""

from __future__ import annotations

import re
from datetime import datetime

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
"""Seconds of a day, an hour, a minute and a second, by the letter of the unit."""

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class NoTime(ValueError):
    """A text is no time.

    Attributes:
        position: Where it stops being one.
    """

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


def span_seconds(text: str, bare: bool = False) -> float:
    """Seconds of a span without its sign: `20m`, `1h30m`, `1 h 30 m`; with `bare`, `90` means seconds.

    Raises:
        NoTime: If it is none.
    """
    text = text.rstrip()
    if bare and _NUMBER.fullmatch(text):
        return float(text)
    seconds, position = 0.0, 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            number = _NUMBER.match(text, position)
            raise NoTime(number.end() if number is not None else position)
        seconds += float(part[1]) * UNITS[part[2]]
        position = part.end()
    if not text:
        raise NoTime(0)
    return seconds


def is_clock(text: str) -> bool:
    """Whether a text has the form of a clock time, `14:30` or `14:30:05`."""
    return _CLOCK.fullmatch(text) is not None


def clock_time(text: str) -> tuple[int, int, int]:
    """Hour, minute and second of `14:30` or `14:30:05`.

    Raises:
        NoTime: If no clock shows it.
    """
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise NoTime(0)
    hour, minute, second = (int(digits or 0) for digits in found.groups())
    if hour > 23 or minute > 59 or second > 59:
        raise NoTime(0)
    return hour, minute, second


def is_date(text: str) -> bool:
    """Whether a text begins with a date, `2026-01-31`."""
    return _DATE.match(text) is not None


def date_seconds(text: str) -> float:
    """The wall-clock second of `2026-01-31T12:00`; without an offset from UTC, in the time zone of this process.

    Raises:
        NoTime: If it is no date and time.
    """
    try:
        # Python 3.10 reads no Z.
        return datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", text.strip())).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise NoTime(0) from error
