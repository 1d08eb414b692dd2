"""The tables of a journal: made, told from those of others, and brought from older versions to this one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from red_tui.journal.damage import Damage, Row, block_or_none, block_rows, event_of, readable
from red_tui.journal.fold import Fold, JournalError
from red_tui.plain_text import brief
from red_tui.protocol.events import Event

SCHEMA_VERSION = 2
"""1: events only.  2: an archive of old events and a snapshot of what they add up to."""

LOCK_WAIT = 2.0
"""Seconds that a write waits for another process that holds the file."""

LOG_LIMIT = 4 << 20
"""Bytes that the log beside the file keeps at most once it has been copied into it."""

_META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_EVENTS = """CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    level TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    state TEXT NOT NULL,
    data TEXT NOT NULL
)"""
# Old events that stay, many to a compressed block; and the fold of all events up to one, but for its rounds.
_SINCE_2 = (
    "CREATE TABLE archive"
    " (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, count INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, data BLOB NOT NULL)",
)


class LaterVersionError(JournalError):
    """A journal was written by a later red-tui: it is sound, and is left alone."""


def open_writing(path: Path) -> sqlite3.Connection:
    """Open a journal, made if it is not there and brought to this version if it is older.

    Raises:
        JournalError: If the file is none, or one of a later version.
        OSError: If it cannot be written.
        sqlite3.Error: The same.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=LOCK_WAIT)
    db.text_factory = text_of
    try:
        _prepare(db, path)
    except BaseException:
        db.close()
        raise
    return db


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a journal is written that nobody has open; None while somebody has, or if it is gone."""
    try:
        if log_of(path).exists():
            return None
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def log_of(path: Path) -> Path:
    """The log that SQLite keeps beside a journal while somebody has it open, or after who had it open was killed."""
    return path.with_name(path.name + "-wal")


def open_reading(path: Path) -> sqlite3.Connection:
    """Open an existing journal of this version or an older one, also while it is written; nothing is written.

    Raises:
        JournalError: If there is none, it may not be read, the file is none, or one of a later version.
    """
    if not path.is_file():
        raise JournalError(f"{path}: there is no journal", file=str(path))
    if not os.access(path, os.R_OK):
        raise JournalError(f"{path} cannot be read: permission denied", file=str(path))
    log = log_of(path)
    # Without a log nobody writes: SQLite would make one to read, and leave it beside the file.
    modes = ["mode=ro" if log.exists() else "mode=ro&immutable=1"]
    if log.exists() and not log.stat().st_size:
        # On a disk that cannot be written SQLite has nowhere to share the index of its log: an empty one needs none.
        modes.append("mode=ro&immutable=1")
    failure: sqlite3.Error | None = None
    for mode in modes:
        try:
            return _opened(path, path, mode)
        except sqlite3.OperationalError as error:
            failure = error
    if log.exists() and not path.with_name(path.name + "-shm").exists():
        # Who wrote it was killed, and the index of the log cannot be made here: it can be beside a copy.
        with contextlib.suppress(OSError, sqlite3.OperationalError):
            return _opened_copy(path)
    raise JournalError(f"{path} cannot be read: {failure}", file=str(path))


def _opened(place: Path, path: Path, mode: str) -> sqlite3.Connection:
    """A connection to the file at a place, whose journal is named `path` in errors."""
    db = sqlite3.connect(f"{place.resolve().as_uri()}?{mode}", uri=True, check_same_thread=False, isolation_level=None)
    db.text_factory = text_of
    try:
        version_of(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _opened_copy(path: Path) -> sqlite3.Connection:
    """A connection to a copy of a journal and its log; the copy is gone with the connection."""
    with tempfile.TemporaryDirectory(prefix="red-journal-") as folder:
        place = Path(folder) / "journal.db"
        copy_files(path, place)
        return _opened(place, path, "mode=ro")


def copy_files(path: Path, place: Path) -> None:
    """Copy a journal, and its log if there is one."""
    shutil.copyfile(path, place)
    if log_of(path).exists():
        shutil.copyfile(log_of(path), log_of(place))


def text_of(data: bytes) -> str:
    """A text of a journal; bytes of it that are no text are replaced."""
    return data.decode("utf-8", "replace")


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All writes inside are committed together, or none of them."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """Version of a journal's tables; 0 for a file without tables.

    Raises:
        JournalError: If they are not those of a journal, or those of a later version.
        sqlite3.OperationalError: If the file cannot be read now.
    """
    try:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return 0
        if not {"meta", "events"} <= tables:
            raise JournalError(
                _foreign(path, f"it has the tables {brief(', '.join(sorted(map(str, tables))), 200)}"), file=str(path)
            )
        found = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    except sqlite3.OperationalError:
        raise
    except (sqlite3.Error, UnicodeError) as error:  # names of tables that are no text
        raise JournalError(_foreign(path, str(error)), file=str(path)) from error
    if found is None:
        # Version 1 made its tables before it noted its version: it may have been killed in between.
        return 1
    if not re.fullmatch(r"[0-9]{1,9}", str(found[0])):
        raise JournalError(_foreign(path, f"its version is {brief(repr(found[0]))}"), file=str(path))
    if int(found[0]) > SCHEMA_VERSION:
        raise LaterVersionError(
            f"{path} was written by a later red-tui (version {found[0]}, this one reads {SCHEMA_VERSION}):"
            " upgrade red-tui",
            file=str(path),
        )
    return int(found[0])


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    version = version_of(db, path)
    if version == 0:
        # Only before the first table: what compaction frees goes back to the disk.
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")
    if version == SCHEMA_VERSION:
        return
    make_tables(db, version)


def make_tables(db: sqlite3.Connection, version: int = 0) -> None:
    """Make the tables of this version that an older one has not; 0: all of them."""
    with transaction(db):
        for statement in (*((_META, _EVENTS) if version == 0 else ()), *_SINCE_2):
            db.execute(statement)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (str(SCHEMA_VERSION),))


def _foreign(path: Path, why: str) -> str:
    return f"{path} is no journal of red-tui ({why}): move it away or name another"


BLOCK = 500
"""Archived events to a block."""

_ROUND = re.compile(r"round (\d{1,15})")
"""What the events of a round are about."""

_KEPT_KINDS = frozenset({"operator", "federation"})


def stays(event: Event) -> bool:
    """Whether an event is kept for ever."""
    if event.kind in _KEPT_KINDS or any(name in event.data for name in ("result", "fold", "pool")):
        return True
    return event.kind == "round" and "begin" not in event.data and "checkpoint" not in event.data


def read_base(db: sqlite3.Connection, version: int, damage: Damage) -> Fold:
    """What the compacted events add up to; within a transaction of the caller.

    Where their snapshot is damaged, only what the archived ones add up to is known.
    """
    if version < 2:
        return Fold()
    archived = db.execute("SELECT first, data FROM archive ORDER BY first")
    events = readable((row for first, data in archived for row in block_or_none(first, data, damage)), damage)
    try:
        folded = _snapshot(db)
    except JournalError as error:
        damage.note("the snapshot of older events", error.message.rpartition("(")[2].rstrip(")"))
        return fold_of_archive(events)
    for event in events:
        folded.take_results(event)
    return folded


def fold_of_archive(events: Iterable[Event]) -> Fold:
    """What archived events add up to, where the snapshot of all compacted ones is lost."""
    folded = Fold()
    for event in events:
        folded.take(event)
    return folded


def read_fold(db: sqlite3.Connection, version: int, damage: Damage) -> Fold:
    """What all events add up to; within a transaction of the caller."""
    folded = read_base(db, version, damage)
    rows = db.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq", (folded.last_seq,))
    for event in readable(rows, damage):
        folded.take(event)
    return folded


def archived_after(db: sqlite3.Connection, since: int, damage: Damage) -> list[Row]:
    """Archived rows after `since`, in order, those of one block at most."""
    for first, data in db.execute("SELECT first, data FROM archive WHERE last > ? ORDER BY first", (since,)):
        rows = [row for row in block_or_none(first, data, damage) if row[0] > since]
        if rows:
            return rows
    return []


def archived_before(db: sqlite3.Connection, seq: int, limit: int, damage: Damage) -> list[Row]:
    """At most `limit` archived rows before `seq`, newest first."""
    found: list[Row] = []
    if limit > 0:
        for first, data in db.execute("SELECT first, data FROM archive WHERE first < ? ORDER BY first DESC", (seq,)):
            found += [row for row in reversed(block_or_none(first, data, damage)) if row[0] < seq]
            if len(found) >= limit:
                break
    return found[:limit]


def archived_rounds(db: sqlite3.Connection, number: int, damage: Damage) -> list[Row]:
    """Archived rows about a round, from the block in which it ended: found by halves, as rounds are in order there."""
    firsts = [first for (first,) in db.execute("SELECT first FROM archive ORDER BY first")]
    low, high = 0, len(firsts)
    while low < high:
        middle = (low + high) // 2
        data = db.execute("SELECT data FROM archive WHERE first = ?", (firsts[middle],)).fetchone()[0]
        rows = [row for row in block_or_none(firsts[middle], data, damage) if row[2] == "round"]
        numbers = [int(found[1]) for row in rows if (found := _ROUND.fullmatch(str(row[4])))]
        if numbers and numbers[0] <= number <= numbers[-1]:
            return [row for row in rows if row[4] == f"round {number}"]
        if numbers and number < numbers[0]:
            high = middle
        else:
            low = middle + 1
    return []


def compact(db: sqlite3.Connection, keep: int) -> int:
    """Leave the last `keep` events as they are and make the older ones small.  Gives how many those were.

    One transaction: whenever the process is killed, the journal is as before or as after.

    Raises:
        JournalError: If something is damaged; nothing is changed then, and the next start sets it aside.
        sqlite3.Error: If the file cannot be written now; the same.
    """
    with transaction(db):
        last = db.execute("SELECT max(seq) FROM events").fetchone()[0]
        if last is None:
            return 0
        bound = last - keep
        folded = _snapshot(db)
        staying, older = [], 0
        # One row after another: what a process has once used for all of them, it keeps.
        for row in db.execute("SELECT * FROM events WHERE seq <= ? ORDER BY seq", (bound,)):
            older += 1
            event = event_of(row)
            folded.take(event)
            if stays(event):
                staying.append(row)
            # Their results stand in the archive.
            folded.rounds.clear()
            folded.failed_rounds.clear()
        if not older:
            return 0
        _archive(db, staying)
        db.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?)", (folded.last_seq, folded.to_bytes()))
        db.execute("DELETE FROM events WHERE seq <= ?", (bound,))
    # What is free goes back to the disk now or with the next compaction.
    with contextlib.suppress(sqlite3.OperationalError):
        # It frees a page a step, and `execute` takes one step of what gives no rows.
        db.executescript("PRAGMA incremental_vacuum")
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return older


def _archive(db: sqlite3.Connection, rows: list[Row]) -> None:
    """Append rows to the archive; its last block is filled up first."""
    newest = db.execute("SELECT first, count, data FROM archive ORDER BY first DESC LIMIT 1").fetchone()
    if rows and newest is not None and newest[1] < BLOCK:
        rows = [*block_rows(newest[2]), *rows]
        db.execute("DELETE FROM archive WHERE first = ?", (newest[0],))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        data = zlib.compress(json.dumps(block, separators=(",", ":")).encode(), 9)
        db.execute("INSERT INTO archive VALUES (?, ?, ?, ?)", (block[0][0], block[-1][0], len(block), data))


def _snapshot(db: sqlite3.Connection) -> Fold:
    found = db.execute("SELECT data FROM snapshot").fetchone()
    return Fold() if found is None else Fold.from_bytes(found[0])
