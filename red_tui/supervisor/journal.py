"""The journal: the append-only SQLite record of everything that happened to a federation."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_tui.errors import RedError
from red_tui.federation.records import Event

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    level TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    state TEXT NOT NULL,
    data TEXT NOT NULL
);
"""


class JournalError(RedError):
    """A journal cannot be used.  Field: file."""


class Journal:
    """Events of one federation in a SQLite file (WAL: a killed process loses nothing that was committed).

    Args:
        path: The file; made with mode 0600 if it is not there.
        read_only: Open an existing journal without writing, also while its federation runs.

    Raises:
        JournalError: If the file is no journal, or one of a later version.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            if read_only:
                if not path.is_file():
                    raise JournalError(f"{path}: there is no journal", file=str(path))
                self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
            else:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
                self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.executescript(_SCHEMA)
                self._db.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (str(SCHEMA_VERSION),))
            found = self._db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
        except sqlite3.Error as error:
            raise JournalError(
                f"{path} is no journal of red-tui ({error}): move it away or name another", file=str(path)
            ) from error
        if found is None or int(found[0]) > SCHEMA_VERSION:
            raise JournalError(
                f"{path} was written by a later red-tui (version {found and found[0]}, this one reads"
                f" {SCHEMA_VERSION}): upgrade red-tui",
                file=str(path),
            )

    def append(self, event: Event) -> None:
        """Commit one event."""
        row = (
            event.seq, event.time, event.kind, event.level, event.subject, event.text, event.state,
            json.dumps(event.data, separators=(",", ":"), default=str),
        )  # fmt: skip
        with self._lock:
            self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def last_seq(self) -> int:
        """Number of the last event; 0 for none."""
        with self._lock:
            found = self._db.execute("SELECT max(seq) FROM events").fetchone()
        return int(found[0] or 0)

    def before(self, seq: int | None, limit: int) -> list[Event]:
        """At most `limit` events before `seq` (None: the last ones), oldest first."""
        bound = seq if seq is not None else self.last_seq() + 1
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM events WHERE seq < ? ORDER BY seq DESC LIMIT ?", (bound, limit)
            ).fetchall()
        return [_event(row) for row in reversed(rows)]

    def events(self, since: int = 0) -> Iterator[Event]:
        """All events after `since`, in order."""
        while True:
            with self._lock:
                rows = self._db.execute(
                    "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT 1000", (since,)
                ).fetchall()
            if not rows:
                return
            for row in rows:
                yield _event(row)
            since = int(rows[-1][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _event(row: tuple[Any, ...]) -> Event:
    seq, when, kind, level, subject, text, state, data = row
    return Event(seq, when, kind, level, subject, text, state, json.loads(data))


@dataclass
class Fold:
    """What a journal's events add up to.

    Attributes:
        states: Last recorded state of each node that has one, by id; removed nodes are gone.
        bundles: Bundle of each ready or failed node.
        rounds: Results of the finished rounds, in order.
        failed_rounds: Rounds that did not count.
        last_seq: The last event.
    """

    states: dict[str, str] = field(default_factory=dict)
    bundles: dict[str, int] = field(default_factory=dict)
    rounds: list[Mapping[str, Any]] = field(default_factory=list)
    failed_rounds: list[Mapping[str, Any]] = field(default_factory=list)
    last_seq: int = 0

    def take(self, event: Event) -> None:
        """Add one event."""
        self.last_seq = event.seq
        state = str(event.data.get("state") or "")
        for node_id in event.data.get("ids", ()) if state else ():
            self.bundles.pop(node_id, None)
            if state == "removed":
                self.states.pop(node_id, None)
                continue
            self.states[node_id] = state
            if "bundle" in event.data:
                self.bundles[node_id] = event.data["bundle"]
        result = event.data.get("result")
        if result is not None:
            (self.rounds if result["state"] == "done" else self.failed_rounds).append(result)


def fold(journal: Journal) -> Fold:
    """Add all events of a journal up."""
    folded = Fold()
    for event in journal.events():
        folded.take(event)
    return folded
