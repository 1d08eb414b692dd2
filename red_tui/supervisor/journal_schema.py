"""The tables of a journal: made, told from those of others, and brought from older versions to this one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from red_tui.supervisor.journal_fold import JournalError

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


def open_writing(path: Path) -> sqlite3.Connection:
    """Open a journal, made if it is not there and brought to this version if it is older.

    Raises:
        JournalError: If the file is none, or one of a later version.
        OSError: If it cannot be written.
        sqlite3.Error: The same.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=LOCK_WAIT)
    try:
        _prepare(db, path)
    except BaseException:
        db.close()
        raise
    return db


def open_reading(path: Path) -> sqlite3.Connection:
    """Open an existing journal of this version or an older one, also while it is written.

    Raises:
        JournalError: If there is none, the file is none, or one of a later version.
    """
    if not path.is_file():
        raise JournalError(f"{path}: there is no journal", file=str(path))
    modes = ["mode=ro"]
    log = path.with_name(path.name + "-wal")
    if not (log.exists() and log.stat().st_size):
        # On a disk that cannot be written SQLite has nowhere to share the index of its log: without a log none is
        # needed.
        modes.append("mode=ro&immutable=1")
    failure: sqlite3.Error | None = None
    for mode in modes:
        db = sqlite3.connect(
            f"{path.resolve().as_uri()}?{mode}", uri=True, check_same_thread=False, isolation_level=None
        )
        try:
            version_of(db, path)
        except sqlite3.OperationalError as error:
            db.close()
            failure = error
        except BaseException:
            db.close()
            raise
        else:
            return db
    raise JournalError(f"{path} cannot be read: {failure}", file=str(path))


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
            raise JournalError(_foreign(path, f"it has the tables {', '.join(sorted(tables))}"), file=str(path))
        found = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.Error as error:
        raise JournalError(_foreign(path, str(error)), file=str(path)) from error
    if found is None:
        # Version 1 made its tables before it noted its version: it may have been killed in between.
        return 1
    if not str(found[0]).isdigit():
        raise JournalError(_foreign(path, f"its version is {found[0]!r}"), file=str(path))
    if int(found[0]) > SCHEMA_VERSION:
        raise JournalError(
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
    with transaction(db):
        for statement in (*((_META, _EVENTS) if version == 0 else ()), *_SINCE_2):
            db.execute(statement)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (str(SCHEMA_VERSION),))


def _foreign(path: Path, why: str) -> str:
    return f"{path} is no journal of red-tui ({why}): move it away or name another"
