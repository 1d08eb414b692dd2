"""Which file holds the state of which node: a small SQLite file beside the states, kept by whoever runs the federation.

What it says is what counts: a state that was written and never noted here is as if it had not been written.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from red_tui.errors import RedError
from red_tui.node_states.state_files import StateFiles, Stored
from red_tui.state_folder import check_own

NAME = "index.db"
FORMAT = 1

TABLES = """
CREATE TABLE IF NOT EXISTS files (number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, machine TEXT NOT NULL,
    host TEXT NOT NULL, length INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS kept (row INTEGER PRIMARY KEY, file INTEGER NOT NULL, offset INTEGER NOT NULL,
    size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS left_nodes (id TEXT PRIMARY KEY, file INTEGER NOT NULL, offset INTEGER NOT NULL,
    size INTEGER NOT NULL);
"""


class StateIndexError(RedError):
    """The index of node states cannot be used.  Fields: file."""


class StateIndex:
    """The index of one federation's states.  Threads may take turns with it.

    Args:
        folder: The folder of states of the machine that runs the federation; it is there.

    Raises:
        StateIndexError: If it was written by a later version, or cannot be opened.

    Attributes:
        damage: What was lost where the file was damaged and had to be made again from the states of this machine; or
            nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self.damage = ""
        check_own(self._path)
        files = StateFiles(folder)
        if not (self._path.exists() and self._path.stat().st_size) and files.names():
            self._db = self._made_again(files, "the file is empty or gone")
            return
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise StateIndexError(f"{self._path} cannot be opened: {error}", file=str(self._path)) from error
            self._db = self._made_again(files, str(error))

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            found = int(db.execute("PRAGMA user_version").fetchone()[0])
            if found > FORMAT:
                raise StateIndexError(
                    f"{self._path} was written by a later red-tui (format {found}, this one reads {FORMAT}): use that",
                    file=str(self._path),
                )
            db.executescript(TABLES)
            db.execute(f"PRAGMA user_version={FORMAT}")
            if (trouble := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(trouble)
        except BaseException:
            db.close()
            raise
        return db

    def _made_again(self, files: StateFiles, why: str) -> sqlite3.Connection:
        """Set a damaged index aside, and make another from the heads of the states on this machine."""
        aside = self._path.with_name(f"index-damaged-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6}.db")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()
        if self._path.exists():
            self._path.rename(aside)
        newest: dict[int, tuple[int, Stored]] = {}
        for name in files.names():
            for row, written, stored in files.entries(name):
                if row not in newest or written > newest[row][0]:
                    newest[row] = written, stored
        self._db = self._open()
        self.put({row: stored for row, (_, stored) in newest.items()}, "", "")
        self.damage = (
            f"the index of node states was damaged ({why}) and is kept as {aside.name}: it was made again from the"
            f" files of this machine, which hold the states of {len(newest):,} nodes; those that lay only on other"
            " machines are lost"
        )
        return self._db

    # -- changing --------------------------------------------------------------------------------

    def put(self, entries: Mapping[int, Stored], machine: str, host: str) -> None:
        """Note where states lie, all or none of them.

        Args:
            entries: The place of each state, by row.
            machine: Ray's id of the machine that wrote them.
            host: Its name.

        Raises:
            StateIndexError: If the disk does not take it: the index is as it was.
        """
        lengths: dict[str, int] = {}
        for stored in entries.values():
            lengths[stored.file] = max(lengths.get(stored.file, 0), stored.end)
        with self._changing():
            self._db.executemany(
                "INSERT INTO files (name, machine, host, length) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET length = max(length, excluded.length)",
                [(name, machine, host, length) for name, length in lengths.items()],
            )
            numbers = {
                name: self._db.execute("SELECT number FROM files WHERE name = ?", (name,)).fetchone()[0]
                for name in lengths
            }
            self._db.executemany(
                "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)",
                [(row, numbers[stored.file], stored.offset, stored.size) for row, stored in entries.items()],
            )

    def forget(self, rows: Iterable[int]) -> None:
        """These nodes keep nothing any more."""
        with self._changing():
            self._db.executemany("DELETE FROM kept WHERE row = ?", [(row,) for row in rows])

    def leave(self, row: int, node_id: str) -> None:
        """A node leaves; its state waits for one of the same id."""
        with self._changing():
            self._db.execute(
                "INSERT OR REPLACE INTO left_nodes SELECT ?, file, offset, size FROM kept WHERE row = ?",
                (node_id, row),
            )

    def forget_left(self, node_id: str) -> None:
        """The state of a node that had left is not wanted any more."""
        with self._changing():
            self._db.execute("DELETE FROM left_nodes WHERE id = ?", (node_id,))

    def drop_files(self, names: Iterable[str]) -> None:
        """These files are gone, and nobody's state lies there."""
        with self._changing():
            self._db.executemany("DELETE FROM files WHERE name = ?", [(name,) for name in names])

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StateIndexError(
                f"{self._path} cannot be written ({error}): free its disk, or make it writable", file=str(self._path)
            ) from error

    # -- reading ---------------------------------------------------------------------------------

    def kept(self) -> dict[int, Stored]:
        """Where the state of each node lies, by row."""
        found = self._db.execute(
            "SELECT kept.row, files.name, kept.offset, kept.size FROM kept JOIN files ON files.number = kept.file"
        )
        names: dict[str, str] = {}
        return {row: Stored(names.setdefault(name, name), offset, size) for row, name, offset, size in found}

    def left(self) -> dict[str, Stored]:
        """Where the states of nodes that have left lie, by id."""
        found = self._db.execute(
            "SELECT left_nodes.id, files.name, left_nodes.offset, left_nodes.size"
            " FROM left_nodes JOIN files ON files.number = left_nodes.file"
        )
        return {node_id: Stored(name, offset, size) for node_id, name, offset, size in found}

    def files(self) -> dict[str, tuple[str, str, int]]:
        """Machine, its name and the length of each file, by name."""
        found = self._db.execute("SELECT name, machine, host, length FROM files")
        return {name: (machine, host, length) for name, machine, host, length in found}

    def close(self) -> None:
        """Close the file."""
        self._db.close()
