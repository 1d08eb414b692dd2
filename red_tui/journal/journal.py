"""The journal: the append-only SQLite record of everything that happened to a federation."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from red_tui.journal.damage import Damage, Row, event_of, is_result, readable
from red_tui.journal.fold import Added, Fold, JournalError, plain_value
from red_tui.journal.limits import DATA_LIMIT, cut, cut_texts
from red_tui.journal.salvage import salvaged, structure
from red_tui.journal.tables import (
    SCHEMA_VERSION,
    LaterVersionError,
    archived_after,
    archived_before,
    archived_rounds,
    compact,
    open_reading,
    open_writing,
    read_base,
    read_fold,
    stamp_of,
    transaction,
    version_of,
)
from red_tui.protocol.events import TRACE, Event

__all__ = ["SCHEMA_VERSION", "Added", "Fold", "Journal", "JournalError", "fold"]

EVENTS_KEPT = 10_000
"""How many of the last events are never compacted."""

COMPACTED_AT_ONCE = 2_000
"""Number of older events that are compacted at once: many short pauses instead of a long one."""

WAITING_KEPT = 10_000
"""Max events in memory while the file cannot be written; older ones become one event."""

PAGE = 1000
"""Events read at once."""

_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

logger = logging.getLogger(__name__)


class Journal:
    """Events of one federation in a SQLite file.

    An event is committed when `append` returns: a killed process loses none (WAL).  A machine that loses
    power may lose the last moments, never the order and never the file.

    A file that cannot be written now (the disk is full, the folder read-only) is no reason to stop:
    `append` raises with what is wrong, events wait in memory in their order, and the next `append` that
    succeeds writes them first.  Also a journal that cannot even be made opens so; `trouble` says why.

    Of a damaged file what can be read is read, and `damage` says what cannot; it is changed by `repair` only.

    Args:
        path: The file; made with mode 0600 if it is not there.
        read_only: Open an existing journal without writing, also while its federation runs.
        keep: How many of the last events are never compacted.
        waiting: Max events in memory; above it the older half of them becomes one event that
            holds what they add up to.

    Raises:
        JournalError: If the file is no journal, or one of a later version.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, keep: int = EVENTS_KEPT, waiting: int = WAITING_KEPT
    ) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._keep = keep
        self._waiting_kept = max(2, waiting)
        self._waiting: deque[Row] = deque()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._read_only = read_only
        self._closed = False
        self._trouble = ""
        self.damage = Damage()
        """What of the file could not be read so far."""
        self._compact_at = 0
        if read_only:
            self._open_reader()
            return
        try:
            self._open()
        except (OSError, sqlite3.OperationalError) as error:
            self._trouble = self._cannot(error)

    @property
    def trouble(self) -> str:
        """Why events are not kept now, or nothing."""
        return self._trouble

    # -- writing ---------------------------------------------------------------------------------

    def append(self, event: Event) -> None:
        """Commit one event.

        Raises:
            JournalError: If it cannot be written now: it waits in memory and the next call tries again.
        """
        row = _row(event)
        with self._lock:
            if self._read_only or self._closed:
                state = "read-only" if self._read_only else "closed"
                raise JournalError(f"{self.path} is {state} here: nothing can be added", file=str(self.path))
            try:
                self._write(row)
            except sqlite3.IntegrityError as error:
                raise JournalError(
                    f"{self.path} has an event {event.seq} already: another supervisor writes it", file=str(self.path)
                ) from error
            except (OSError, sqlite3.Error, JournalError) as error:
                self._waiting.append(row)
                self._shed()
                self._trouble = self._cannot(error)
                raise JournalError(self._trouble, file=str(self.path)) from error
            self._trouble = ""
            if event.seq >= self._compact_at:
                self._compact_in_passing(event.seq)

    def compact(self, keep: int | None = None) -> int:
        """Make all but the last `keep` events small now; `append` does so by itself from time to time.

        Returns:
            How many events were made small.

        Raises:
            JournalError: If it cannot be done now; nothing has changed then.
        """
        with self._lock, self._errors():
            if self._writer is None:
                raise JournalError(f"{self.path} cannot be written now", file=str(self.path))
            return compact(self._writer, self._keep if keep is None else keep)

    def close(self) -> None:
        """Write what waits, if that is possible, and close the file."""
        with self._lock:
            if not self._closed and self._waiting:
                with contextlib.suppress(OSError, sqlite3.Error, JournalError):
                    self._write_waiting(self._open())
            self._closed = True
            for db in (self._writer, self._reader):
                if db is not None:
                    with contextlib.suppress(sqlite3.Error):
                        db.close()
            self._writer = self._reader = None

    def _open(self) -> sqlite3.Connection:
        if self._writer is not None and not self.path.exists():
            # SQLite would go on writing into a file that has no name any more.
            self.damage.note("what was written before", "the file was removed while it was written")
            self._writer.close()
            self._writer = None
        if self._writer is None:
            if self._reader is not None:
                # SQLite shares what it has of a file within a process: it would stay read-only.
                self._reader.close()
                self._reader = None
            self._writer = open_writing(self.path)
            first = self._writer.execute("SELECT min(seq) FROM events").fetchone()[0]
            self._compact_at = (first or 0) + self._keep + COMPACTED_AT_ONCE
        return self._writer

    def _open_reader(self) -> None:
        """Open for reading; again where a file that nobody had open has been written since."""
        if self._reader is not None:
            if self._stamp is None:
                return
            inode = self.path.stat().st_ino if self.path.is_file() else None
            if stamp_of(self.path) == self._stamp or inode != self._stamp[0]:
                return  # as it was; or another journal has its name by now, and this one is over
            self._reader.close()
            self._reader = None
        # Before it is opened: a writer that comes in between is noticed with the next look.
        self._stamp = stamp_of(self.path)
        try:
            self._reader = open_reading(self.path)
            structure(self._reader, pages := Damage())
            self.damage.add(pages)
        except LaterVersionError:
            raise
        except JournalError as error:
            self._open_salvaged(error)
            return
        if pages:
            self._reader.close()
            self._open_salvaged(None)

    def _open_salvaged(self, error: JournalError | None) -> None:
        """Read what can be read of a damaged file instead.

        Raises:
            JournalError: The one given, if nothing can.
        """
        self._reader = None
        try:
            found, damage = salvaged(self.path)
        except (OSError, sqlite3.Error) as failure:
            raise error or JournalError(f"{self.path} cannot be read: {failure}", file=str(self.path)) from failure
        empty = not found.execute("SELECT 1 FROM events UNION SELECT 1 FROM archive").fetchall()
        if empty and error is not None:
            found.close()
            raise error
        if error is not None:
            self.damage.note("the file as it is", error.message)
        self.damage.add(damage)
        self._reader = found

    def _write(self, row: Row) -> None:
        db = self._open()
        if self._waiting:
            self._write_waiting(db)
        db.execute(_INSERT, row)

    def _write_waiting(self, db: sqlite3.Connection) -> None:
        """Write what waits, oldest first; the first alone, so that a disk that is still full costs little."""
        size = 1
        while self._waiting:
            some = [self._waiting[index] for index in range(min(size, len(self._waiting)))]
            with transaction(db):
                # One that was written though its commit was reported as failed is the same event.
                db.executemany(_INSERT.replace("INSERT", "INSERT OR IGNORE", 1), some)
            for _ in some:
                self._waiting.popleft()
            size = PAGE

    def _shed(self) -> None:
        """Replace the older half of too many waiting events by one that holds what they add up to."""
        if len(self._waiting) <= self._waiting_kept:
            return
        dropped = [event_of(self._waiting.popleft()) for _ in range(len(self._waiting) // 2)]
        together = Fold()
        for event in dropped:
            together.take(event)
        first, last = dropped[0].data.get("dropped", [dropped[0].seq])[0], dropped[-1].seq
        text = f"events {first} to {last} could not be written and were dropped; what they add up to is kept"
        data = {"dropped": [first, last], "fold": together.to_bytes().hex()}
        self._waiting.appendleft(_row(Event(last, dropped[-1].time, "federation", "warn", "journal", text, "", data)))

    def _compact_in_passing(self, seq: int) -> None:
        """Compact; what hinders it does not hinder the federation and is tried again much later."""
        self._compact_at = seq + COMPACTED_AT_ONCE
        try:
            self.compact()
        except JournalError as error:
            logger.warning("the journal was not compacted: %s", error.message)

    def _cannot(self, error: Exception) -> str:
        reason = error.message if isinstance(error, JournalError) else str(error)
        if isinstance(error, OSError):
            reason = error.strerror or reason
        return f"{self.path} cannot be written: {reason}; free its disk or make its folder writable"

    # -- reading ---------------------------------------------------------------------------------

    def last_seq(self) -> int:
        """Number of the last event; 0 for none."""
        with self._lock:
            if self._waiting:
                return int(self._waiting[-1][0])
            with self._reading() as (db, version):
                if db is None:
                    return 0
                last = db.execute("SELECT max(seq) FROM events").fetchone()[0]
                if last is None and version >= 2:
                    last = db.execute("SELECT max(seq) FROM snapshot").fetchone()[0]
        return int(last or 0)

    def before(self, seq: int | None, limit: int) -> list[Event]:
        """At most `limit` events before `seq` (None: the last ones), oldest first."""
        with self._lock:
            bound = seq if seq is not None else self.last_seq() + 1
            waiting = (row for row in reversed(self._waiting) if row[0] < bound and row[3] != TRACE)
            rows = list(itertools.islice(waiting, limit))
            with self._reading() as (db, version):
                if db is not None:
                    rows += db.execute(
                        "SELECT * FROM events WHERE seq < ? AND level != ? ORDER BY seq DESC LIMIT ?",
                        (bound, TRACE, limit - len(rows)),
                    )
                    rows += archived_before(db, bound, limit - len(rows), self.damage) if version >= 2 else []
        return list(readable(reversed(rows), self.damage))

    def events(self, since: int = 0) -> Iterator[Event]:
        """All events after `since` that are still there one by one, in order."""
        while True:
            rows = self._page(since)
            if not rows:
                return
            yield from readable(rows, self.damage)
            since = int(rows[-1][0])

    def fold(self) -> Fold:
        """What all events add up to, those that were compacted or wait in memory included.

        What is damaged is left out and noted in `damage`.

        Raises:
            JournalError: If the file cannot be read now.
        """
        with self._lock:
            with self._reading() as (db, version):
                folded = Fold() if db is None else read_fold(db, version, self.damage)
            for row in self._waiting:
                folded.take(event_of(row))
        return folded

    def base(self) -> Fold:
        """What the compacted events add up to: every event after its `last_seq` is still there one by one.

        What is damaged is left out and noted in `damage`.

        Raises:
            JournalError: If the file cannot be read now.
        """
        with self._lock, self._reading() as (db, version):
            return Fold() if db is None else read_base(db, version, self.damage)

    def since(self, seq: int) -> tuple[Fold | None, list[Event]]:
        """What came after an event: the fold of what was compacted of it meanwhile, and the events that are there.

        The fold is that of all events up to its `last_seq`, and None if nothing after `seq` was compacted: then the
        events are all that came.  Those up to its `last_seq` are the ones that are kept for ever.

        Raises:
            JournalError: If the file cannot be read now.
        """
        with self._lock:
            with self._reading() as (db, version):
                folded, rows = None, []
                if db is not None and version >= 2:
                    compacted = db.execute("SELECT max(seq) FROM snapshot").fetchone()[0] or 0
                    if compacted > seq:
                        folded = read_base(db, version, self.damage)
                        last = seq
                        while some := archived_after(db, last, self.damage):
                            rows += some
                            last = int(some[-1][0])
                if db is not None:
                    rows += db.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq", (seq,))
            rows += [row for row in self._waiting if row[0] > seq]
        return folded, list(readable(rows, self.damage))

    def result(self, number: int) -> Mapping[str, Any] | None:
        """The result of a finished round as its event holds it, with how its nodes did; None where there is none.

        It costs the events that were not compacted and a few blocks of the archive, however long the journal is.

        Raises:
            JournalError: If the file cannot be read now.
        """
        with self._lock:
            if self._closed:
                after = Journal(self.path, read_only=True)
                try:
                    return after.result(number)
                finally:
                    after.close()
            waiting = [row for row in self._waiting if row[4] == f"round {number}"]
            found = _result_of(waiting, number, self.damage)
            if found is not None:
                return found
            with self._reading() as (db, version):
                if db is None:
                    return None
                asked = (f"round {number}",)
                rows = db.execute("SELECT * FROM events WHERE kind = 'round' AND subject = ?", asked).fetchall()
                found = _result_of(rows, number, self.damage)
                if found is None and version >= 2:
                    found = _result_of(archived_rounds(db, number, self.damage), number, self.damage)
        if found is not None:
            return found
        # It may be part of what events add up to that could not be written one by one, or out of order.
        return next((one for one in reversed(self.fold().rounds) if one.get("number") == number), None)

    def _page(self, since: int) -> list[Row]:
        with self._lock:
            with self._reading() as (db, version):
                rows: list[Row] = []
                if db is not None and version >= 2:
                    rows = archived_after(db, since, self.damage)
                if db is not None and not rows:
                    rows = db.execute(
                        "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (since, PAGE)
                    ).fetchall()
            return rows or [row for row in self._waiting if row[0] > since]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection | None, int]]:
        """A transaction over what the file holds at this moment, and the version of its tables."""
        with self._errors():
            if self._closed:
                raise JournalError(f"{self.path} is closed here", file=str(self.path))
            if self._writer is None and (self._reader is not None or self.path.is_file()):
                self._open_reader()
            db = self._writer or self._reader
            if db is None:
                yield None, 0
                return
            db.execute("BEGIN")
            try:
                version = version_of(db, self.path)
                yield (db if version else None), version
            finally:
                db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: {error}", file=str(self.path)) from error


def _result_of(rows: Iterable[Row], number: int, damage: Damage) -> Mapping[str, Any] | None:
    """The last result of a finished round among rows."""
    done: Mapping[str, Any] | None = None
    for event in readable(rows, damage):
        result = event.data.get("result")
        if result is not None and is_result(result) and (result["state"], result["number"]) == ("done", number):
            done = result
    return done


def fold(journal: Journal) -> Fold:
    """What all events of a journal add up to."""
    return journal.fold()


def _row(event: Event) -> Row:
    data = json.dumps(event.data, separators=(",", ":"), default=plain_value)
    if len(data) > DATA_LIMIT:
        data = json.dumps(cut_texts(json.loads(data)), separators=(",", ":"))
    texts = (cut(_clean(text)) for text in (event.kind, event.level, event.subject, event.text, event.state))
    return (event.seq, event.time, *texts, data)


def _clean(text: Any) -> str:
    """Text that SQLite can keep: tracebacks may quote bytes that are no text."""
    return str(text).encode("utf-8", "backslashreplace").decode()
