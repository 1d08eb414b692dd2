"""The figures of every node in every round, in a SQLite file beside the journal, where a federation asks for that.

A round of ten thousand nodes is one row: columns of numbers, compressed.  Nothing of it stays in memory.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sqlite3
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.aggregation.answers import Answers
from red_tui.errors import RedError
from red_tui.nodes.table import IntArray

SUFFIX = "-nodes.db"
"""What the file's name ends with, after the journal's name without its own suffix."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS rounds (number INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS nodes (row INTEGER PRIMARY KEY, id TEXT NOT NULL)",
)
ASKED_AT_ONCE = 500

Names = Callable[[IntArray], Sequence[str]]
"""Ids of rows, which are given in order."""


def figures_path(journal: Path) -> Path:
    """The file of the nodes' figures beside a journal."""
    return journal.with_name(journal.stem + SUFFIX)


class NodeFigures:
    """Figures of nodes by round.  Any thread may ask.

    Args:
        path: The file, which is made with mode 0600 when the first round is kept; None: in memory, compressed.
        read_only: Nothing is written.
    """

    def __init__(self, path: Path | None, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._known: set[int] = set()
        """Rows whose ids the file has."""

    def keep(self, number: int, names: Names, fitted: Answers, judged: Answers) -> None:
        """Keep what nodes took and reported in a round; what was kept of a round of that number is replaced.

        Args:
            number: The round.
            names: Gives ids of rows.
            fitted: What counted of `fit`.
            judged: What counted of `evaluate`.

        Raises:
            OSError: If the file cannot be written.
            sqlite3.Error: The same.
        """
        data = _packed(fitted, judged)
        with self._lock:
            db = self._opened(write=True)
            assert db is not None
            rows = np.union1d(fitted.rows, judged.rows)
            fresh = rows[[row not in self._known for row in rows.tolist()]] if len(rows) else rows
            ids = names(fresh) if len(fresh) else ()
            with db:
                pairs = list(zip(fresh.tolist(), map(str, ids), strict=True))
                db.executemany("INSERT OR REPLACE INTO nodes VALUES (?, ?)", pairs)
                db.execute("INSERT OR REPLACE INTO rounds VALUES (?, ?)", (number, data))
            self._known.update(fresh.tolist())

    def read(self, number: int) -> dict[str, dict[str, float]]:
        """The figures of every node in a round, by id and by name; what a node did not report is not there.

        Raises:
            RedError: If that round has none, or they cannot be read.
        """
        with self._lock, self._errors():
            db = self._opened(write=False)
            found = None
            if db is not None:
                found = db.execute("SELECT data FROM rounds WHERE number = ?", (number,)).fetchone()
            if db is None or found is None:
                raise RedError(f"round {number}: the figures of its nodes were not kept{self._kept(db)}")
            columns = _unpacked(found[0])
            rows = np.union1d(columns["fit rows"], columns["eval rows"]).tolist()
            ids: dict[int, str] = {}
            for start in range(0, len(rows), ASKED_AT_ONCE):
                some = rows[start : start + ASKED_AT_ONCE]
                marks = ",".join("?" * len(some))
                ids.update(db.execute(f"SELECT row, id FROM nodes WHERE row IN ({marks})", some))
        return _by_node(columns, ids)

    def close(self) -> None:
        """Close the file.  What is asked afterwards opens it again."""
        with self._lock:
            if self._db is not None and self.path is not None:
                self._db.close()
                self._db = None

    def _kept(self, db: sqlite3.Connection | None) -> str:
        first, last = db.execute("SELECT min(number), max(number) FROM rounds").fetchone() if db else (None, None)
        return (
            f": there are those of rounds {first} to {last}"
            if first is not None
            else (
                ": set node_history=True in the settings of the rounds, or `rounds: {node_history: true}` in the layout"
            )
        )

    def _opened(self, write: bool) -> sqlite3.Connection | None:
        if self._db is not None and (self.path is None or self.path.exists()):
            return self._db
        if self.path is None:
            self._db = sqlite3.connect(":memory:", check_same_thread=False)
        elif write and not self._read_only:
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(self.path, check_same_thread=False, timeout=2.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
        elif self.path.is_file():
            return sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        else:
            return None
        self._known.clear()
        for statement in _TABLES:
            self._db.execute(statement)
        return self._db

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise RedError(f"{self.path or 'the figures of nodes'} cannot be read: {error}") from error


def _packed(fitted: Answers, judged: Answers) -> bytes:
    columns: dict[str, Any] = {
        "fit rows": fitted.rows.astype(np.int64),
        "fit examples": fitted.weights,
        "fit seconds": fitted.seconds,
        "eval rows": judged.rows.astype(np.int64),
        "eval examples": judged.weights,
        "eval seconds": judged.seconds,
        "eval loss": judged.losses,
    }
    columns |= {f"fit {number} metric": values for number, values in enumerate(fitted.metrics.values())}
    columns |= {f"eval {number} metric": values for number, values in enumerate(judged.metrics.values())}
    columns["fit names"] = np.asarray(list(fitted.metrics), dtype=np.str_)
    columns["eval names"] = np.asarray(list(judged.metrics), dtype=np.str_)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


def _unpacked(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def _by_node(columns: dict[str, Any], ids: dict[int, str]) -> dict[str, dict[str, float]]:
    named: list[tuple[str, str, Any]] = [
        ("fit", "examples", columns["fit examples"]),
        ("fit", "seconds", columns["fit seconds"]),
        ("eval", "loss", columns["eval loss"]),
        ("eval", "eval_examples", columns["eval examples"]),
        ("eval", "eval_seconds", columns["eval seconds"]),
    ]
    for phase, prefix in (("fit", "train_"), ("eval", "")):
        for number, name in enumerate(columns[f"{phase} names"].tolist()):
            named.append((phase, f"{prefix}{name}", columns[f"{phase} {number} metric"]))
    found: dict[int, dict[str, float]] = {}
    for phase, name, values in named:
        rows = columns[f"{phase} rows"].tolist()
        if len(values) != len(rows):
            continue
        for row, value in zip(rows, values.tolist(), strict=True):
            if not math.isnan(value):
                found.setdefault(row, {})[name] = float(value)
    return {ids.get(row, f"row {row}"): found[row] for row in sorted(found)}
