"""Moments of a journal as people write them: a time, a round, an event, or so long after the start."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from red_tui.errors import RedError
from red_tui.plain_text import brief
from red_tui.selection.stop_condition import NoTime, clock_time, date_seconds, is_clock, span_seconds

HINT = "write 14:30, 2026-01-31T12:00, +90s, -5m, round 12, event 345, begin or end"

_NUMBERED = re.compile(r"(round|event)[ :]? ?(\d+)")


class ReplayError(RedError):
    """A journal cannot be replayed, or a moment cannot be read."""

    exit_code = 2


@dataclass(frozen=True)
class TimePoint:
    """A moment that was asked for.

    Attributes:
        kind: `time` (wall-clock second), `clock` (second of a day), `after` (seconds after the start), `before`
            (seconds before the end), `round` or `event` (their numbers), `begin` or `end`.
        value: The number that goes with it.
        text: As it was written.
    """

    kind: str
    value: float
    text: str


def parse_moment(text: str) -> TimePoint:
    """Read a moment.

    Raises:
        ReplayError: If it is none; the message says what is.
    """
    plain = " ".join(text.lower().split())
    if plain in ("begin", "start", "end"):
        return TimePoint("end" if plain == "end" else "begin", 0, text)
    if found := _NUMBERED.fullmatch(plain):
        return TimePoint(found[1], int(found[2]), text)
    try:
        if plain[:1] in ("+", "-"):
            return TimePoint(
                "after" if plain[0] == "+" else "before", span_seconds(plain[1:].lstrip(), bare=True), text
            )
        if is_clock(plain):
            hours, minutes, seconds = clock_time(plain)
            return TimePoint("clock", hours * 3600 + minutes * 60 + seconds, text)
        return TimePoint("time", date_seconds(text), text)
    except NoTime as error:
        raise ReplayError(f"{brief(text)!r} is no moment of a journal; {HINT}") from error


def clock_moment(second: float, near: float, start: float, end: float) -> float:
    """The wall-clock second at which a clock shows a second of the day: the one nearest to `near` in the journal.

    Outside of the journal if its clock never showed it.
    """
    day = datetime.fromtimestamp(near).replace(hour=0, minute=0, second=0, microsecond=0)

    def at(days: int) -> float:
        # The clock's second, not so many seconds after midnight: a day may have 23 hours.
        whole = day + timedelta(days=days)
        hour, rest = divmod(int(second), 3600)
        return whole.replace(hour=hour, minute=rest // 60, second=rest % 60).timestamp()

    found = [moment for moment in map(at, (-1, 0, 1)) if math.floor(start) <= moment <= end]
    nearest: Callable[[float], float] = lambda moment: abs(moment - near)  # noqa: E731
    return min(found, key=nearest) if found else at(0)


def parse_speed(text: str) -> float:
    """Read a speed: `20`, `20x`, `0.5x` or `max`, which is infinite.

    Raises:
        ReplayError: If it is none.
    """
    plain = text.strip().lower().removesuffix("x")
    if plain in ("ma", "max", ""):
        if plain:
            return math.inf
    elif re.fullmatch(r"\d{1,5}(\.\d{1,3})?|\.\d{1,3}", plain) and float(plain) > 0:
        return float(plain)
    raise ReplayError(f"{brief(text)!r} is no speed; write 1, 20x, or max")
