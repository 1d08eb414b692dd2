"""Until when rounds run: a measure that is reached or gets no better, or a time that passes.

accuracy>0.95      14:30      +20m      +1h30m      2026-11-24T14:30:00+01:00      loss<0.1 or +2h
no better loss for 10 rounds      accuracy>0.95 or no better loss for 10 rounds      accuracy>0.9 and seconds<2
"""

from __future__ import annotations

import math
import operator
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from red_tui.errors import SelectionError
from red_tui.measure_names import lower_is_better
from red_tui.plain_text import brief

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


USAGE = (
    "write a measure such as accuracy>0.95, a time such as 14:30, a span such as +20m, or: no better loss for 10 rounds"
)

MAX_LENGTH = 1000
"""Characters of a condition."""

MAX_PATIENCE = 1_000_000
"""Rounds without anything better."""

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_MEASURE = re.compile(r"([A-Za-z_][\w.]*)\s*(>=|<=|>|<)\s*")
_OR = re.compile(r"\s+or\s+")
_AND = re.compile(r"\s+and(?:\s+|\Z)")
_PATIENCE = re.compile(
    r"no\s+(?P<word>better|lower|higher)\s+(?P<metric>[A-Za-z_][\w.]*)\s+for\s+(?P<rounds>\d{1,9})\s+rounds?\Z"
)


@dataclass(frozen=True)
class Measure:
    """A measure of a round and what it has to be: `accuracy>0.95`."""

    metric: str
    sign: str
    bound: float

    def holds(self, values: Mapping[str, float]) -> bool:
        """Whether the values of a round fulfil it; a measure that the round does not have never does."""
        value = values.get(self.metric, math.nan)
        return math.isfinite(value) and _COMPARE[self.sign](value, self.bound)

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.bound:g}"

    @property
    def text(self) -> str:
        """What has happened when it holds."""
        return f"{self} is reached"


@dataclass(frozen=True)
class Patience:
    """A measure that got no better for some rounds: `no better loss for 10 rounds`.

    Attributes:
        metric: The measure.
        rounds: Rounds since the best one of the run.
        word: `better` (which values are good is told by the name), `lower` or `higher`.
    """

    metric: str
    rounds: int
    word: str = "better"

    def is_better(self, value: float, than: float) -> bool:
        """Whether a value is better than another one."""
        low = self.word == "lower" or (self.word == "better" and lower_is_better(self.metric))
        return value < than if low else value > than

    def __str__(self) -> str:
        return f"no {self.word} {self.metric} for {self.rounds} round{'' if self.rounds == 1 else 's'}"

    @property
    def text(self) -> str:
        """What has happened when it holds."""
        return str(self)


@dataclass(frozen=True)
class Moment:
    """A time that has to have passed, beside what else has to hold."""

    time: float

    def __str__(self) -> str:
        return _clock(self.time)

    @property
    def text(self) -> str:
        """What has happened when it holds."""
        return f"{self} has passed"


Condition = Measure | Patience | Moment


@dataclass(frozen=True)
class Every:
    """Conditions that have to hold after the same round: `accuracy>0.9 and seconds<2`."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.parts))

    @property
    def text(self) -> str:
        """What has happened when it holds."""
        return " and ".join(part.text for part in self.parts)


@dataclass(frozen=True)
class Until:
    """What ends a run: the first of some alternatives that holds after a round, or a time.

    Attributes:
        measures: The alternatives, times aside.
        time: Wall-clock second, or None.
    """

    measures: tuple[Measure | Patience | Every, ...] = ()
    time: float | None = None

    @classmethod
    def parse(cls, text: str, now: float | None = None) -> Until:
        """Read what is to end a run; a clock time is the next one, in the time zone of this process.

        Args:
            text: Measures, a time, or several joined by `or`; `and` joins what has to hold after the same round, and
                binds closer.
            now: Wall-clock second that spans and clock times count from; None: this moment.

        Raises:
            SelectionError: If it cannot be read; `position` says where.
        """
        began = time.time() if now is None else now
        found: list[Measure | Patience | Every] = []
        ends: list[float] = []
        for start, part in _parts(text):
            parts = tuple(_condition(text, one, at, began) for at, one in _split(text, part, start, _AND))
            if len(parts) > 1:
                found.append(Every(parts))
            elif isinstance(parts[0], Moment):
                ends.append(parts[0].time)
            else:
                found.append(parts[0])
        return cls(tuple(found), min(ends) if ends else None)

    @property
    def conditions(self) -> list[Condition]:
        """All that is asked of rounds, one by one."""
        return [one for given in self.measures for one in (given.parts if isinstance(given, Every) else (given,))]

    @property
    def metrics(self) -> list[str]:
        """Names of the measures that it asks for."""
        return list(dict.fromkeys(one.metric for one in self.conditions if not isinstance(one, Moment)))

    def reached(self, values: Mapping[str, float]) -> Measure | Patience | Every | None:
        """The first alternative that one round alone fulfils, or None; see `RunWatch` for a whole run."""
        return RunWatch(self).take(values)

    def passed(self, now: float) -> bool:
        """Whether its time has passed."""
        return self.time is not None and now >= self.time

    @property
    def clock(self) -> str:
        """Its time for the journal and for other hosts, with its offset from UTC; empty without one."""
        return "" if self.time is None else _clock(self.time)

    def shown(self, now: float) -> str:
        """It as people read it: times in this process's time zone, with the day if it is not today's."""
        parts = [
            " and ".join(_shown(one, now) for one in (given.parts if isinstance(given, Every) else (given,)))
            for given in self.measures
        ]
        return " or ".join([*parts, *([] if self.time is None else [_shown(Moment(self.time), now)])])

    def __str__(self) -> str:
        return " or ".join(filter(None, [*map(str, self.measures), self.clock]))


class RunWatch:
    """Looks at the rounds of one run, in order, and says when the run is over.

    Args:
        until: What ends it.
    """

    def __init__(self, until: Until) -> None:
        self._until = until
        self._round = 0
        self._best: dict[Patience, tuple[int, float | None]] = {
            one: (0, None) for one in until.conditions if isinstance(one, Patience)
        }

    def take(self, values: Mapping[str, float], now: float | None = None) -> Measure | Patience | Every | None:
        """Look at one more round; the first alternative that holds after it, or None.

        Args:
            values: What the round measured, by name.
            now: Wall-clock second; None: this moment.
        """
        self._round += 1
        moment = time.time() if now is None else now
        for patience, (_, best) in self._best.items():
            value = values.get(patience.metric, math.nan)
            if math.isfinite(value) and (best is None or patience.is_better(value, best)):
                self._best[patience] = self._round, value
        return next((one for one in self._until.measures if self._holds(one, values, moment)), None)

    def _holds(self, given: Condition | Every, values: Mapping[str, float], now: float) -> bool:
        if isinstance(given, Every):
            return all(self._holds(one, values, now) for one in given.parts)
        if isinstance(given, Measure):
            return given.holds(values)
        if isinstance(given, Moment):
            return now >= given.time
        # A round that does not have the measure is no reason to end.
        return given.metric in values and self._round - self._best[given][0] >= given.rounds


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(math.ceil(moment)).astimezone().isoformat()


def _shown(condition: Condition, now: float) -> str:
    if not isinstance(condition, Moment):
        return str(condition)
    moment, today = datetime.fromtimestamp(math.ceil(condition.time)), datetime.fromtimestamp(now)
    days = (moment.date() - today.date()).days
    clock = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
    return clock + ("" if days == 0 else " tomorrow" if days == 1 else f" on {moment:%Y-%m-%d}")


def portable(text: str, now: float | None = None) -> str:
    """A condition for another host: clock times are made absolute here, spans are left for the other's clock.

    Raises:
        SelectionError: If it cannot be read.
    """
    Until.parse(text, now)
    told = []
    for start, part in _parts(text):
        pieces = [one for _, one in _split(text, part, start, _AND)]
        told.append(" and ".join(one if one.startswith("+") else str(Until.parse(one, now)) for one in pieces))
    return " or ".join(told)


def _parts(text: str) -> list[tuple[int, str]]:
    """The alternatives with their positions."""
    if len(text) > MAX_LENGTH:
        told = f"a condition has at most {MAX_LENGTH:,} characters, and this one {len(text):,}"
        raise _error(text, MAX_LENGTH, told)
    return _split(text, text, 0, _OR)


def _split(whole: str, text: str, start: int, joints: re.Pattern[str]) -> list[tuple[int, str]]:
    """The parts of a text between words that join them, with their positions in the whole."""
    found, begin = [], 0
    for joint in [*joints.finditer(text), None]:
        end = joint.start() if joint is not None else len(text)
        part = text[begin:end]
        found.append((start + begin + len(part) - len(part.lstrip()), part.strip()))
        begin = joint.end() if joint is not None else end
    for position, part in found:
        if not part or part in ("or", "and", "until"):
            raise _error(whole, position, f"a condition is missing: {USAGE}")
    return found


def _condition(text: str, part: str, start: int, now: float) -> Condition:
    if part[:1] == "+":
        return Moment(now + _span(text, part, start))
    if part[:1].isdigit():
        return Moment(_moment(text, part, start, now))
    if re.match(r"no\s", part):
        return _patience(text, part, start)
    return _measure(text, part, start)


def _patience(text: str, part: str, start: int) -> Patience:
    found = _PATIENCE.match(part)
    if found is None:
        raise _error(
            text,
            start,
            f"{brief(part)!r} cannot be read: write no better loss for 10 rounds (or no lower …, no higher …)",
        )
    rounds = int(found["rounds"])
    if not 1 <= rounds <= MAX_PATIENCE:
        raise _error(text, start + found.start("rounds"), f"{rounds:,} rounds: write 1 to {MAX_PATIENCE:,}")
    return Patience(found["metric"], rounds, found["word"])


def _measure(text: str, part: str, start: int) -> Measure:
    found = _MEASURE.match(part)
    if found is None:
        name = re.match(r"[A-Za-z_][\w.]*\s*", part)
        if name is None:
            raise _error(text, start, f"{brief(part)!r} is no condition to run until: {USAGE}")
        raise _error(text, start + name.end(), f"one of > >= < <= is missing after {name.group().strip()!r}: {USAGE}")
    number = part[found.end() :]
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        told = f"{brief(number)!r} is no number" if number else "a number is missing"
        raise _error(text, start + found.end(), f"{told}: write {found.group(1)}{found.group(2)}0.95, say")
    return Measure(found.group(1), found.group(2), bound)


def _span(text: str, part: str, start: int) -> float:
    digits = part[1:].lstrip()
    try:
        seconds = span_seconds(digits)
    except NoTime as error:
        at = len(part) - len(digits) + error.position
        raise _error(text, start + at, "a span is a number and d, h, m or s: +20m, +1h30m") from None
    if not 0 < seconds <= 366 * 86400:
        raise _error(text, start, "a span is above 0 and at most a year")
    return seconds


def _moment(text: str, part: str, start: int, now: float) -> float:
    if is_clock(part):
        try:
            hour, minute, second = clock_time(part)
        except NoTime:
            raise _error(text, start, f"{brief(part)} is no time of day: 00:00 to 23:59") from None
        moment = datetime.fromtimestamp(now).replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (moment if moment.timestamp() > now else moment + timedelta(days=1)).timestamp()
    if not is_date(part):
        raise _error(text, start, f"{brief(part)!r} is no time: {USAGE}")
    try:
        return date_seconds(part)
    except NoTime:
        raise _error(text, start, f"{brief(part)!r} is no date and time: write 2026-11-24T14:30, say") from None


def _error(text: str, position: int, message: str) -> SelectionError:
    return SelectionError(f"until, position {position + 1}: {message}", query=text, position=position)
