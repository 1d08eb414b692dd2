"""A journal's time line: the fold of its events up to any moment, forwards and backwards, also while it grows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from red_tui.errors import RedError
from red_tui.journal.damage import Damage, is_result
from red_tui.journal.journal import Added, Fold, Journal, JournalError
from red_tui.protocol.events import Event
from red_tui.protocol.figures import better_of
from red_tui.protocol.snapshot import BestRound, RoundSummary, round_of_journal
from red_tui.replay.time_points import ReplayError, TimePoint, clock_moment, parse_moment
from red_tui.state_folder import check_own, state_folder

__all__ = ["Replay", "ReplayError", "journal_path"]

CHECKPOINT_EVERY = 2_000
"""Min events between two kept folds: a step back folds at most this many again."""

CHECKPOINTS = 16
"""Kept folds of a time line, about: one of a million rows takes a megabyte and a tenth of a second."""

NEAR = 64
"""Events before a step back whose fold is kept: the next steps back are short."""

TOLD_EVERY = 500
"""Events after which a long way is told of."""

FACTS = ("pool", "session", "begin", "layout")
"""What events tell that a fold does not hold, by its key in their data."""


def journal_path(target: str) -> Path:
    """The journal that a person names: a file, a federation's folder, or the id of a federation under `$RED_HOME`.

    Raises:
        ReplayError: If there is none.
        StateFolderError: If the one under `$RED_HOME` is not this user's alone.
    """
    try:
        given = Path(target).expanduser()
    except RuntimeError:  # the home of a user who is not known
        given = Path(target)
    places = [given, given / "journal.db"]
    if target not in (".", "..") and "/" not in target:
        # Looked at only: a home that is not there is not made.
        places.append(state_folder() / "federations" / target / "journal.db")
        for own in (state_folder(), *reversed(places[-1].parents[:2]), places[-1]):
            check_own(own)
    for place in places:
        try:
            if place.is_file():
                return place
        except OSError as error:
            raise ReplayError(f"{place} cannot be looked at: {error.strerror}") from error
    raise ReplayError(f"there is no journal at {', '.join(map(str, places))}; name a journal.db, its folder, or an id")


def require_journal(path: Path) -> None:
    """See that a file is a journal in which something has happened, without reading it whole.

    Raises:
        ReplayError: If it is not.
    """
    try:
        journal = Journal(path, read_only=True)
        try:
            last = journal.last_seq()
        finally:
            journal.close()
    except JournalError as error:
        raise ReplayError(error.message) from error
    if not last:
        raise _empty(path)


def _empty(path: Path) -> ReplayError:
    return ReplayError(f"{path} is empty: nothing has happened in it that could be replayed")


class Replay:
    """Where a replay stands in a journal.

    Position `n` is the moment after the first `n` of `events`, which are those that the journal still has.  Where
    others were compacted, an event of the time line itself stands for them: after it, all is known that they add up
    to; before it, only rounds and what operators and the federation did (`sparse`).

    Args:
        path: The journal, which is opened read-only.

    Raises:
        ReplayError: If it cannot be read, or holds no events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self.added: list[Added] = []
        """Nodes that joined, in the whole time line."""
        self._times: list[float] = []
        self._seqs: list[int] = []
        self._rounds: list[int] = []
        self.results: list[Mapping[str, Any]] = []
        """Results of the rounds that ended in the whole time line, in its order."""
        self._results_at: list[int] = []
        self._best: list[BestRound | None] = [None]
        """The best round after so many results."""
        self._facts: dict[str, list[tuple[int, Any]]] = {name: [] for name in FACTS}
        self._jumps: dict[int, Fold] = {}
        self._sparse: list[tuple[int, int]] = []
        self._last = 0
        self.progress: Callable[[int, int], None] | None = None
        """Hears of a long way how many of how many events are behind it."""
        self.position = 0
        try:
            found = path.stat()
            self._file = found.st_dev, found.st_ino
            self._journal = Journal(path, read_only=True)
        except OSError as error:
            raise ReplayError(f"{path} cannot be read: {error.strerror}") from error
        except JournalError as error:
            raise ReplayError(error.message) from error
        try:
            self.follow()
        except (RedError, ValueError, TypeError, KeyError, AttributeError) as error:
            self.close()
            raise ReplayError(f"{path} is damaged: {getattr(error, 'message', error)}") from error
        if not self.events:
            self.close()
            raise _empty(path)
        self._fold = Fold()
        self._checkpoints: list[tuple[int, bytes, list[Any], list[Any]]] = [(0, Fold().to_bytes(), [], [])]
        self._near: tuple[int, Fold] | None = None

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    # -- the time line ---------------------------------------------------------------------------

    def follow(self) -> int:
        """Take events over that were written meanwhile; gives how many.

        Raises:
            JournalError: If the journal cannot be read now; it can be tried again.
        """
        before = len(self.events)
        base, events = self._journal.since(self._last)
        if base is not None:
            kept = [event for event in events if event.seq <= base.last_seq]
            events = events[len(kept) :]
            for event in kept:
                self._take(event)
            self._jump(base, before, events[0].time if events else None)
        for event in events:
            self._take(event)
        return len(self.events) - before

    def _take(self, event: Event) -> None:
        position = len(self.events) + 1
        # Clocks may be set back; a time line is not.
        self._times.append(max(event.time, self._times[-1] if self._times else event.time))
        self._seqs.append(event.seq)
        self.events.append(event)
        self._last = event.seq
        if "result" in event.data and is_result(event.data["result"]):
            self._rounds.append(position)
            self.results.append(event.data["result"])
        if "segment" in event.data or "fold" in event.data:
            probe = Fold()
            probe.take(event)
            self.added += probe.added
            if "fold" in event.data:  # events that could not be written: what they add up to
                self.results += filter(is_result, [*probe.rounds, *probe.failed_rounds])
        for result in self.results[len(self._results_at) :]:
            self._best.append(better_of(self._best[-1], RoundSummary.from_wire(round_of_journal(result))))
            self._results_at.append(position)
        for name in FACTS:
            if name in event.data:
                self._facts[name].append((position, event.data[name]))

    def _jump(self, base: Fold, start: int, time: float | None) -> None:
        """Go on with what compacted events add up to."""
        first = (self.events[start - 1].seq if start else 0) + 1
        text = f"events {first} to {base.last_seq} were compacted: of most of them only what they add up to is known"
        when = time if time is not None else self._times[-1] if self._times else 0.0
        added = base.added
        self._take(Event(base.last_seq, when, "federation", "info", "journal", text))
        self.added = list(added)
        self._jumps[len(self.events) - 1] = base
        self._sparse.append((start, len(self.events) - 1))

    @property
    def damage(self) -> Damage:
        """What of the journal cannot be read."""
        return self._journal.damage

    @property
    def replaced(self) -> bool:
        """Whether another journal has the name of this one by now: its federation was launched again."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) != self._file

    @property
    def start(self) -> float:
        """Wall-clock second of the first event."""
        return self._times[0]

    @property
    def end(self) -> float:
        """Wall-clock second of the last event."""
        return self._times[-1]

    @property
    def time(self) -> float:
        """Wall-clock second of the event at the position."""
        return self._times[max(0, self.position - 1)]

    @property
    def next_time(self) -> float | None:
        """Wall-clock second of the event after the position, or None at the end."""
        return None if self.at_end else self._times[self.position]

    @property
    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self.position == len(self.events)

    @property
    def event(self) -> Event | None:
        """The event at the position; None before the first one."""
        return self.events[self.position - 1] if self.position else None

    @property
    def sparse(self) -> bool:
        """Whether nodes are not known here, as the events that told of them were compacted."""
        return any(first < self.position <= last or first == self.position == 0 for first, last in self._sparse)

    def jumped(self, since: int) -> bool:
        """Whether compacted events lie between an earlier position and this one."""
        return any(since <= place < self.position for place in self._jumps)

    @property
    def bases(self) -> list[Fold]:
        """What compacted events add up to, where the time line goes on from there."""
        return list(self._jumps.values())

    @property
    def last_round(self) -> int:
        """The highest number of a round that ends in the time line; 0 for none."""
        return max((self._number(position) for position in self._rounds[-8:]), default=0)

    @property
    def result_count(self) -> int:
        """How many of `results` there are at the position."""
        return bisect_right(self._results_at, self.position)

    @property
    def best(self) -> BestRound | None:
        """The best round up to the position."""
        return self._best[self.result_count]

    def latest(self, name: str) -> Any:
        """The last of `FACTS` that was told up to the position, or None."""
        told = self._facts[name]
        place = bisect_right(told, self.position, key=lambda fact: fact[0])
        return told[place - 1][1] if place else None

    def upcoming(self, name: str) -> Any:
        """The first of `FACTS` that is told after the position, or None."""
        told = self._facts[name]
        place = bisect_right(told, self.position, key=lambda fact: fact[0])
        return told[place][1] if place < len(told) else None

    def told_at(self, name: str) -> float:
        """Wall-clock second at which `latest` was told; 0 for never."""
        told = self._facts[name]
        place = bisect_right(told, self.position, key=lambda fact: fact[0])
        return self._times[told[place - 1][0] - 1] if place else 0.0

    def time_of(self, seq: int) -> float:
        """Wall-clock second of an event by its number; the nearest before it where it was compacted."""
        return self._times[max(0, bisect_right(self._seqs, seq) - 1)]

    def event_of(self, seq: int) -> Event | None:
        """An event by its number, or None where it was compacted."""
        place = bisect_left(self._seqs, seq)
        return self.events[place] if place < len(self._seqs) and self._seqs[place] == seq else None

    def before(self, seq: int | None) -> int:
        """Position before an event by its number; None: the present position."""
        return self.position if seq is None else min(self.position, bisect_left(self._seqs, seq))

    # -- moving ----------------------------------------------------------------------------------

    def fold(self) -> Fold:
        """What all events up to the position add up to; not to be changed."""
        return self._fold

    def seek(self, position: int) -> None:
        """Go to a position; beyond the ends, to the nearer end."""
        position = min(max(0, position), len(self.events))
        place = bisect_right(self._checkpoints, position, key=lambda kept: kept[0]) - 1
        at, back = self.position, position < self.position
        if back and self._near is not None and self._checkpoints[place][0] <= self._near[0] <= position:
            at, self._fold = self._near[0], self._near[1].copy()
        elif back or self._checkpoints[place][0] > at:
            at, data, rounds, failed = self._checkpoints[place]
            self._fold = Fold.from_bytes(data)
            self._fold.rounds, self._fold.failed_rounds = list(rounds), list(failed)
        begun = at
        every = max(CHECKPOINT_EVERY, len(self.events) // CHECKPOINTS)
        while at < position:
            if back and at == max(0, position - NEAR):
                self._near = (at, self._fold.copy())
            jump = self._jumps.get(at)
            if jump is not None:
                self._fold = jump.copy()
            else:
                self._fold.take(self.events[at])
            at += 1
            if self.progress is not None and (at - begun) % TOLD_EVERY == 0:
                self.progress(at - begun, position - begun)
            if at >= self._checkpoints[-1][0] + every:
                self._checkpoints.append((at, *_packed(self._fold)))
        self.position = position

    def position_at(self, moment: float) -> int:
        """How many events had happened at a wall-clock second."""
        return bisect_right(self._times, moment)

    def seek_time(self, moment: float) -> None:
        """Go to the last event that had happened at a wall-clock second."""
        self.seek(self.position_at(moment))

    def step(self, events: int) -> None:
        """Go some events forwards, or backwards."""
        self.seek(self.position + events)

    def step_round(self, rounds: int) -> None:
        """Go to the end of the next round, or of one before; beyond the last, to the end."""
        if rounds > 0:
            place = bisect_right(self._rounds, self.position) + rounds - 1
            self.seek(self._rounds[place] if place < len(self._rounds) else len(self.events))
        else:
            place = bisect_left(self._rounds, self.position) + rounds
            self.seek(self._rounds[place] if place >= 0 else 0)

    def seek_moment(self, asked: TimePoint | str) -> float:
        """Go to a moment that somebody wrote; gives its wall-clock second.

        Raises:
            ReplayError: If it cannot be read, there is no such round or event, or it lies outside of the journal.
        """
        asked = parse_moment(asked) if isinstance(asked, str) else asked
        if asked.kind == "begin":
            self.seek(0)
        elif asked.kind == "end":
            self.seek(len(self.events))
        elif asked.kind == "round":
            self.seek(self._end_of_round(int(asked.value)))
        elif asked.kind == "event":
            first, last = self._seqs[0], self._seqs[-1]
            if not first <= asked.value <= last:
                raise ReplayError(f"{asked.text}: the journal has events {first} to {last}")
            self.seek(bisect_right(self._seqs, asked.value))
        else:
            moment = self._second(asked)
            self.seek_time(moment)
            return moment
        return self.time

    def _second(self, asked: TimePoint) -> float:
        """The wall-clock second of a moment that is a time."""
        if asked.kind == "after":
            return min(self.start + asked.value, self.end)
        if asked.kind == "before":
            return max(self.end - asked.value, self.start)
        moment = asked.value
        if asked.kind == "clock":
            moment = clock_moment(asked.value, self.time, self.start, self.end)
        # Who writes minutes or seconds means a whole one: the first event may fall into it.
        if not self.start - 60 <= moment <= self.end + 60:
            raise ReplayError(f"{asked.text}: the journal goes from {_shown(self.start)} to {_shown(self.end)}")
        return min(max(moment, self.start), self.end)

    def _end_of_round(self, number: int) -> int:
        for position in reversed(self._rounds):
            if self._number(position) == number:
                return position
        ended = sorted({self._number(position) for position in self._rounds})
        have = f"it has rounds {ended[0]} to {ended[-1]}" if ended else "no round has ended in it"
        raise ReplayError(f"round {number}: the journal has no end of it: {have}")

    def _number(self, position: int) -> int:
        return int(self.events[position - 1].data["result"].get("number") or 0)


def _packed(fold: Fold) -> tuple[bytes, list[Any], list[Any]]:
    """A fold as small as it gets: results of rounds are the events', which are there anyway."""
    rounds, failed = fold.rounds, fold.failed_rounds
    fold.rounds, fold.failed_rounds = [], []
    try:
        return fold.to_bytes(), list(rounds), list(failed)
    finally:
        fold.rounds, fold.failed_rounds = rounds, failed


def _shown(moment: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(moment).isoformat(" ", "seconds")
