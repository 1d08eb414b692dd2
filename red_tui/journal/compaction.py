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
from collections.abc import Iterable

from red_tui.journal.damage import Damage, Row, block_or_none, block_rows, event_of, readable
from red_tui.journal.fold import Fold, JournalError
from red_tui.journal.tables import transaction
from red_tui.protocol.events import Event

BLOCK = 500
"""Archived events to a block."""

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
