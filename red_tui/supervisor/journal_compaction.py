"""Keeping a journal small: old events of nodes become a snapshot, old rounds become compressed blocks.

What is dropped are events of nodes, waves and the cluster, the beginnings of rounds and notes of
checkpoints: the snapshot holds what they add up to.  What stays for ever are results of rounds and what
operators and the federation did: the audit; and what the pool was, of which the snapshot holds nothing.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from typing import Any

from red_tui.federation.records import Event
from red_tui.supervisor.journal_fold import Fold
from red_tui.supervisor.journal_schema import transaction

BLOCK = 500
"""Archived events to a block."""

Row = tuple[Any, ...]
"""An event as the table has it: `data` is JSON."""

_KEPT_KINDS = frozenset({"operator", "federation"})


def event_of(row: Row) -> Event:
    """The event of a row."""
    seq, when, kind, level, subject, text, state, data = row
    return Event(seq, when, kind, level, subject, text, state, json.loads(data))


def stays(event: Event) -> bool:
    """Whether an event is kept for ever."""
    if event.kind in _KEPT_KINDS or any(name in event.data for name in ("result", "fold", "pool")):
        return True
    return event.kind == "round" and "begin" not in event.data and "checkpoint" not in event.data


def read_base(db: sqlite3.Connection, version: int) -> Fold:
    """What the compacted events add up to; within a transaction of the caller."""
    folded = Fold()
    if version >= 2:
        folded = _snapshot(db)
        for (data,) in db.execute("SELECT data FROM archive ORDER BY first"):
            for row in _rows(data):
                folded.take_results(event_of(row))
    return folded


def read_fold(db: sqlite3.Connection, version: int) -> Fold:
    """What all events add up to; within a transaction of the caller."""
    folded = read_base(db, version)
    for row in db.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq", (folded.last_seq,)):
        folded.take(event_of(row))
    return folded


def archived_after(db: sqlite3.Connection, since: int) -> list[Row]:
    """Archived rows after `since`, in order, those of one block at most."""
    found = db.execute("SELECT data FROM archive WHERE last > ? ORDER BY first LIMIT 1", (since,)).fetchone()
    return [] if found is None else [row for row in _rows(found[0]) if row[0] > since]


def archived_before(db: sqlite3.Connection, seq: int, limit: int) -> list[Row]:
    """At most `limit` archived rows before `seq`, newest first."""
    found: list[Row] = []
    if limit > 0:
        for (data,) in db.execute("SELECT data FROM archive WHERE first < ? ORDER BY first DESC", (seq,)):
            found += [row for row in reversed(_rows(data)) if row[0] < seq]
            if len(found) >= limit:
                break
    return found[:limit]


def compact(db: sqlite3.Connection, keep: int) -> int:
    """Leave the last `keep` events as they are and make the older ones small.  Gives how many those were.

    One transaction: whenever the process is killed, the journal is as before or as after.

    Raises:
        JournalError: If the snapshot is damaged; nothing is changed then.
        sqlite3.Error: If the file cannot be written now; the same.
    """
    with transaction(db):
        last = db.execute("SELECT max(seq) FROM events").fetchone()[0]
        if last is None:
            return 0
        bound = last - keep
        folded = _snapshot(db)
        older = db.execute("SELECT * FROM events WHERE seq <= ? ORDER BY seq", (bound,)).fetchall()
        if not older:
            return 0
        staying = []
        for row in older:
            event = event_of(row)
            folded.take(event)
            if stays(event):
                staying.append(row)
        # Their results stand in the archive.
        folded.rounds.clear()
        folded.failed_rounds.clear()
        _archive(db, staying)
        db.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?)", (folded.last_seq, folded.to_bytes()))
        db.execute("DELETE FROM events WHERE seq <= ?", (bound,))
    # What is free goes back to the disk now or with the next compaction.
    with contextlib.suppress(sqlite3.OperationalError):
        # It frees a page a step, and `execute` takes one step of what gives no rows.
        db.executescript("PRAGMA incremental_vacuum")
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return len(older)


def _archive(db: sqlite3.Connection, rows: list[Row]) -> None:
    """Append rows to the archive; its last block is filled up first."""
    newest = db.execute("SELECT first, count, data FROM archive ORDER BY first DESC LIMIT 1").fetchone()
    if rows and newest is not None and newest[1] < BLOCK:
        rows = [*_rows(newest[2]), *rows]
        db.execute("DELETE FROM archive WHERE first = ?", (newest[0],))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        data = zlib.compress(json.dumps(block, separators=(",", ":")).encode(), 9)
        db.execute("INSERT INTO archive VALUES (?, ?, ?, ?)", (block[0][0], block[-1][0], len(block), data))


def _snapshot(db: sqlite3.Connection) -> Fold:
    found = db.execute("SELECT data FROM snapshot").fetchone()
    return Fold() if found is None else Fold.from_bytes(found[0])


def _rows(data: bytes) -> list[Row]:
    return [tuple(row) for row in json.loads(zlib.decompress(data))]
