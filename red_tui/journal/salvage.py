"""What can still be read of a damaged journal, brought into a sound one; the damaged file is kept aside."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from red_tui.journal.damage import Damage, Row, block_or_none, block_rows, event_of, readable
from red_tui.journal.fold import Fold, JournalError
from red_tui.journal.tables import (
    LaterVersionError,
    copy_files,
    fold_of_archive,
    log_of,
    make_tables,
    open_reading,
    open_writing,
    text_of,
    transaction,
    version_of,
)

_COLUMNS = {
    "events": "seq, time, kind, level, subject, text, state, data",
    "archive": "first, last, count, data",
    "snapshot": "seq, data",
}
_PAGE_SIZE = 4096
_LEAPS = 40
"""Doublings of the step with which rows behind a damaged page are looked for."""


def examine(path: Path) -> Damage:
    """Look whether a journal is sound: its file, its rows, its archive, its snapshot.

    Raises:
        LaterVersionError: If it was written by a later red-tui.
        JournalError: If it cannot be read now, or may not be.
    """
    damage = Damage()
    if not path.exists():
        if log_of(path).exists():
            damage.note(f"the events of {log_of(path).name}", f"{path.name} itself is gone")
        return damage
    try:
        db = open_reading(path)
    except LaterVersionError:
        raise
    except JournalError as error:
        if not os.access(path, os.R_OK):
            raise
        damage.note("the file", error.message)
        return damage
    try:
        structure(db, damage)
        if not damage:
            _examine_rows(db, version_of(db, path), damage)
    except sqlite3.OperationalError as error:
        raise JournalError(f"{path} cannot be read: {error}", file=str(path)) from error
    except sqlite3.DatabaseError as error:
        damage.note("the file", str(error))
    finally:
        db.close()
    return damage


def structure(db: sqlite3.Connection, damage: Damage) -> None:
    """Note whether pages of the file are damaged, tables are missing, or events have numbers that none has."""
    try:
        (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in (_COLUMNS.keys() - tables) if _is_of_today(db, tables) else ():
            damage.note(f"the table {table}", "it is missing")
        if "events" in tables:
            for (seq,) in db.execute("SELECT seq FROM events WHERE seq <= 0 LIMIT 3"):
                damage.note(f"event {seq}", "its number is none")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        answer = str(error)
    if answer != "ok":
        damage.note("some pages of the file", str(answer).splitlines()[-1])


def _is_of_today(db: sqlite3.Connection, tables: set[str]) -> bool:
    """Whether a journal is of a version that has an archive and a snapshot."""
    return "meta" in tables and bool(db.execute("SELECT 1 FROM meta WHERE key = 'version' AND value != '1'").fetchone())


def _examine_rows(db: sqlite3.Connection, version: int, damage: Damage) -> None:
    if not version:
        return
    for _ in readable(db.execute("SELECT * FROM events ORDER BY seq"), damage):
        pass
    if version < 2:
        return
    for first, data in db.execute("SELECT first, data FROM archive ORDER BY first"):
        for _ in readable(block_or_none(first, data, damage), damage):
            pass
    for (data,) in db.execute("SELECT data FROM snapshot"):
        try:
            Fold.from_bytes(data)
        except JournalError as error:
            damage.note("the snapshot of older events", error.message.rpartition("(")[2].rstrip(")"))


def salvaged(path: Path) -> tuple[sqlite3.Connection, Damage]:
    """A sound journal in memory with what can be read of a damaged one, which is left as it is."""
    made = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    made.text_factory = text_of
    try:
        return made, _salvage(path, made)
    except BaseException:
        made.close()
        raise


def repair(path: Path) -> Damage:
    """Put a sound journal with what can be read of a damaged one in its place, if it is damaged.

    The damaged file stays beside it under the name that `Damage.kept` tells.

    Raises:
        LaterVersionError: If it was written by a later red-tui; it is left alone.
        JournalError: If the sound one cannot be written now; all is left as it was.
    """
    damage = examine(path)
    if not damage:
        return damage
    aside = path.with_name(f".{path.name}.repair.{os.getpid()}")
    try:
        _remove(aside)
        sound = open_writing(aside)
        try:
            if path.exists():
                damage.add(_salvage(path, sound))
            sound.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            sound.close()
        damage.kept = _set_aside(path)
        os.replace(aside, path)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            _remove(aside)
        raise JournalError(
            f"{path} is damaged, and what can be read of it cannot be written: {error}; free its disk or make its"
            " folder writable",
            file=str(path),
        ) from error
    return damage


def _set_aside(path: Path) -> str:
    """Give a damaged journal and its log another name; gives that name."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    name, count = f"journal-damaged-{stamp}.db", 1
    while path.with_name(name).exists():
        count += 1
        name = f"journal-damaged-{stamp}-{count}.db"
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(name + suffix))
    return name


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _salvage(path: Path, into: sqlite3.Connection) -> Damage:
    damage = Damage()
    with tempfile.TemporaryDirectory(prefix="red-journal-") as folder:
        place = Path(folder) / "journal.db"
        copy_files(path, place)
        source = _opened(place, damage)
        try:
            if not into.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchall():
                make_tables(into)
            with transaction(into):
                _bring_over(source, into, damage)
        finally:
            source.close()
    return damage


def _opened(place: Path, damage: Damage) -> sqlite3.Connection:
    """A connection to a copy of a damaged journal; its first page is replaced where that cannot be read."""
    db = _connected(place)
    try:
        if db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone():
            return db
    except sqlite3.DatabaseError as error:
        damage.note("the first page of the file", str(error))
    db.close()
    _give_first_page(place)
    return _connected(place)


def _connected(place: Path) -> sqlite3.Connection:
    db = sqlite3.connect(place, isolation_level=None)
    db.text_factory = text_of
    with contextlib.suppress(sqlite3.DatabaseError):
        # A file that was cut off is read as far as it goes.
        db.execute("PRAGMA writable_schema=ON")
    return db


def _give_first_page(place: Path) -> None:
    """Journals begin alike: the first page of a fresh one tells where the tables of any other begin."""
    fresh = place.with_name("fresh.db")
    open_writing(fresh).close()
    head = fresh.read_bytes()[:_PAGE_SIZE]
    log_of(place).unlink(missing_ok=True)  # it would bring the damaged page back
    pages = max(place.stat().st_size // _PAGE_SIZE, 1)
    with place.open("r+b") as file:
        # The number of pages stands at byte 28; the free list, at 32, is another file's.
        file.write(head[:28] + pages.to_bytes(4, "big") + bytes(8) + head[40:])
        file.truncate(pages * _PAGE_SIZE)


def _bring_over(source: sqlite3.Connection, into: sqlite3.Connection, damage: Damage) -> None:
    archived: list[Row] = []
    for block in _rows_of(source, "archive", damage):
        try:
            rows = block_rows(block[3])
        except JournalError as error:
            damage.note(f"the archived events from {block[0]} on", error.message.partition("damaged: ")[2])
            continue
        archived += rows
        bounds = (rows[0][0], rows[-1][0], len(rows)) if rows else block[:3]
        into.execute("INSERT OR IGNORE INTO archive VALUES (?, ?, ?, ?)", (*bounds, block[3]))
    base = _base(source, archived, damage)
    if base.last_seq:
        into.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?)", (base.last_seq, base.to_bytes()))
    for row in _rows_of(source, "events", damage):
        try:
            event_of(row)
        except JournalError as error:
            damage.note(f"event {row[0]}", error.message.partition("read: ")[2])
            continue
        if row[0] > base.last_seq:
            into.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def _base(source: sqlite3.Connection, archived: list[Row], damage: Damage) -> Fold:
    """What compacted events add up to: their snapshot, else what the archived ones tell."""
    for seq, data in _rows_of(source, "snapshot", damage):
        try:
            found = Fold.from_bytes(data)
            if found.last_seq == seq:
                return found
            damage.note("the snapshot of older events", "its number is another")
        except JournalError as error:
            damage.note("the snapshot of older events", error.message.rpartition("(")[2].rstrip(")"))
    folded = fold_of_archive(readable(archived, damage))
    folded.rounds.clear()
    folded.failed_rounds.clear()
    return folded


def _rows_of(db: sqlite3.Connection, table: str, damage: Damage) -> Iterator[Row]:
    """The rows of a table that can be read, in order; behind a damaged page it goes on."""
    key = "id" if table == "snapshot" else _COLUMNS[table].partition(",")[0]
    ask = f"SELECT {key}, {_COLUMNS[table]} FROM {table} WHERE {key} >= ? ORDER BY {key}"
    place: int | None = 1
    while place is not None:
        try:
            for row in db.execute(ask, (place,)):
                if isinstance(row[0], int) and row[0] >= place:
                    place = row[0] + 1
                    yield row[1:]
            return
        except sqlite3.DatabaseError as error:
            if "no such" in str(error):
                damage.note(f"the table {table}", "it is missing")
                return
            damage.note(f"some of the table {table}", str(error))
            place = _readable_after(db, ask, place)


def _readable_after(db: sqlite3.Connection, ask: str, place: int) -> int | None:
    """The next place after one that cannot be read from which on rows can be; None where there is none."""

    def can_read(start: int) -> bool:
        try:
            db.execute(f"{ask} LIMIT 1", (start,)).fetchall()
        except sqlite3.DatabaseError:
            return False
        return True

    for leap in range(_LEAPS):
        low, high = place + 1, place + (1 << leap)
        if can_read(high):
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if can_read(middle) else (middle + 1, high)
            return low
    return None
