"""A journal's time line: the fold of its events up to any moment, forwards and backwards, also while it grows."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from datetime import datetime
from pathlib import Path

from red_tui.errors import RedError
from red_tui.federation.records import Event
from red_tui.supervisor.home import home
from red_tui.supervisor.journal import Fold, Journal, JournalError

CHECKPOINT_EVERY = 2_000
"""Events between two kept folds: a step back folds at most so many anew."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class ReplayError(RedError):
    """A journal cannot be replayed, or a moment cannot be read."""

    exit_code = 2


def journal_path(target: str) -> Path:
    """The journal that a person names: a file, a federation's folder, or the id of a federation under `$RED_HOME`.

    Raises:
        ReplayError: If there is none.
    """
    given = Path(target).expanduser()
    places = [given, given / "journal.db"]
    if target not in (".", "..") and "/" not in target:
        places.append(home() / "federations" / target / "journal.db")
    for place in places:
        if place.is_file():
            return place
    raise ReplayError(f"there is no journal at {', '.join(map(str, places))}; name a journal.db, its folder, or an id")


class Replay:
    """Where a replay stands in a journal.

    Position `n` is the moment after the first `n` of `events`; position 0 is what compacted events add up to.

    Args:
        path: The journal, which is opened read-only.

    Raises:
        ReplayError: If it cannot be read, or holds no events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self._times: list[float] = []
        self._rounds: list[int] = []
        try:
            self._journal = Journal(path, read_only=True)
        except JournalError as error:
            raise ReplayError(error.message) from error
        try:
            base = self._journal.base()
            self._first = self._last = base.last_seq
            self.follow()
        except (RedError, ValueError) as error:
            self.close()
            raise ReplayError(f"{path} is damaged: {error}") from error
        if not self.events:
            self.close()
            raise ReplayError(f"{path} is empty: nothing has happened in it that could be replayed")
        self._checkpoints: list[tuple[int, bytes]] = [(0, base.to_bytes())]
        self._fold = base
        self.position = 0

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def follow(self) -> int:
        """Take events over that were written meanwhile; gives how many."""
        before = len(self.events)
        for event in self._journal.events(self._last):
            self._last = event.seq
            # Clocks may be set back; a time line is not.
            self._times.append(max(event.time, self._times[-1] if self._times else event.time))
            self.events.append(event)
            if "result" in event.data:
                self._rounds.append(len(self.events))
        return len(self.events) - before

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
    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self.position == len(self.events)

    def fold(self) -> Fold:
        """What all events up to the position add up to; not to be changed."""
        return self._fold

    def seek(self, position: int) -> None:
        """Go to a position; beyond the ends, to the nearer end."""
        position = min(max(0, position), len(self.events))
        place = bisect_right(self._checkpoints, position, key=lambda kept: kept[0]) - 1
        at = self.position
        if position < at or self._checkpoints[place][0] > at:
            at, data = self._checkpoints[place]
            self._fold = Fold.from_bytes(data)
        while at < position:
            self._fold.take(self.events[at])
            at += 1
            if at % CHECKPOINT_EVERY == 0 and at > self._checkpoints[-1][0]:
                self._checkpoints.append((at, self._fold.to_bytes()))
        self.position = position

    def seek_time(self, moment: float) -> None:
        """Go to the last event that had happened at a wall-clock second."""
        self.seek(bisect_right(self._times, moment))

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

    def seek_moment(self, text: str) -> None:
        """Go to what `--at` says: an ISO time, `+90s` after the start, `-5m` before the end, or `round:7`.

        Raises:
            ReplayError: If it cannot be read, or there is no such round.
        """
        if found := re.fullmatch(r"round:(\d+)", text):
            for position in self._rounds:
                if self.events[position - 1].data["result"].get("number") == int(found[1]):
                    self.seek(position)
                    return
            raise ReplayError(f"--at {text}: the time line of {self.path} has no end of that round")
        if found := re.fullmatch(r"([+-])(\d+(?:\.\d+)?)([smhd]?)", text):
            seconds = float(found[2]) * _UNITS[found[3] or "s"]
            self.seek_time(self.start + seconds if found[1] == "+" else self.end - seconds)
            return
        try:
            moment = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError) as error:
            raise ReplayError(f"--at {text!r} is no moment; write 2026-01-31T12:00:00, +90s, -5m or round:7") from error
        self.seek_time(moment)
