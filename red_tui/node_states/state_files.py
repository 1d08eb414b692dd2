"""Files of node states: one process appends to a file, anybody reads it, and nothing in it is ever changed.

A file is a row of entries, each a head and a state.  Whoever needs a state knows its file, its place and its size from
the index (`StateIndex`); the head says whose it is and what its bytes add up to, so that damage is found, and so that
the index can be made again from the files.  A killed process loses nothing that it had written: it is the kernel's.
A file is flushed to the disk itself when it is full, beside the work: a machine that loses its power may lose the
states of its last seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from red_tui.errors import RedError
from red_tui.state_folder import check_own, home, private_folder

HEAD = struct.Struct("<4sIqqq16s")
"""Mark, unused, row, time of writing (ns), bytes of the state, and their digest."""

MARK = b"red1"
FULL = 64_000_000
"""Bytes from which a file is full: the next state begins another one."""

SUFFIX = ".states"
OPEN_FILES = 4
"""Files that are open for reading at a time: one that was removed takes room on the disk until it is closed."""


class StateDamageError(RedError):
    """A state cannot be read from its file, which is damaged.  Fields: file."""


class Stored(NamedTuple):
    """Where a state lies on a disk.

    Attributes:
        file: Name of the file in the folder of states of its machine.
        offset: Where its head begins, in bytes.
        size: Bytes of the state without its head.
    """

    file: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next state begins."""
        return self.offset + HEAD.size + self.size


class StatePlace(NamedTuple):
    """The folder of a federation's states, which each machine has for itself unless it is shared.

    Attributes:
        path: The folder.
        at_home: Whether `path` lies below the machine's own `$RED_HOME`; else it is the same path on all machines.
    """

    path: str
    at_home: bool

    def folder(self) -> Path:
        """The folder on this machine, made with mode 0700.

        Raises:
            StateFolderError: If it is not a folder of this user alone.
            OSError: If it cannot be made.
        """
        path = Path(self.path)
        if not self.at_home:
            return private_folder(path)
        folder = home()
        for part in path.parts:
            folder = private_folder(folder / part)
        return folder


def digest_of_state(data: bytes) -> bytes:
    """16 bytes that differ where states do."""
    return hashlib.blake2b(data, digest_size=16).digest()


class StateFiles:
    """The files of states in one folder, as one process writes and reads them.  Threads may share it.

    Args:
        folder: The folder, which is there.
        full: Bytes from which a file is full.
    """

    def __init__(self, folder: Path, full: int = FULL) -> None:
        self.folder = folder
        self._full = full
        self._writer = uuid.uuid4().hex[:12]
        self._count = 0
        self._lock = threading.Lock()
        self._into: int | None = None
        self._name = ""
        self._end = 0
        self._reading: OrderedDict[str, int] = OrderedDict()

    # -- writing ---------------------------------------------------------------------------------

    def append(self, row: int, data: bytes, digest: bytes | None = None) -> Stored:
        """Write a state behind the others; it is there for all processes when this returns.

        Args:
            row: Whose it is.
            data: The state as bytes.
            digest: What `digest_of_state` gives for it, where that is known.

        Raises:
            OSError: If the disk does not take it: what was written before stays as it was.
        """
        head = HEAD.pack(MARK, 0, row, time.time_ns(), len(data), digest or digest_of_state(data))
        with self._lock:
            if self._into is None or self._end >= self._full:
                self._begin()
            assert self._into is not None
            stored = Stored(self._name, self._end, len(data))
            try:
                _write_all(self._into, (head, data), self._end)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._into, self._end)
                raise
            self._end = stored.end
            return stored

    def roll(self) -> None:
        """The next state begins another file."""
        with self._lock:
            self._seal()

    def _begin(self) -> None:
        self._seal()
        name = f"{self._writer}-{self._count:06d}{SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        self._into = os.open(self.folder / name, flags, 0o600)
        self._name, self._end = name, 0
        self._count += 1

    def _seal(self) -> None:
        """The file is full: it is flushed to the disk while the work goes on."""
        into, self._into = self._into, None
        if into is not None:
            threading.Thread(target=_flush_and_close, args=(into,), name="red-flush", daemon=True).start()

    # -- reading ---------------------------------------------------------------------------------

    def read(self, stored: Stored) -> bytes:
        """A state as bytes.

        Raises:
            FileNotFoundError: If its file is not on this machine.
            StateDamageError: If the file is damaged at its place.
            StateFolderError: If another user owns the file or can write it.
            OSError: If the disk does not give it.
        """
        with self._lock:
            source = self._opened(stored.file)
            raw = _read_all(source, HEAD.size + stored.size, stored.offset)
        data = raw[HEAD.size :]
        whole = len(raw) == HEAD.size + stored.size
        if whole:
            mark, _, _, _, size, digest = HEAD.unpack_from(raw)
            whole = (mark, size) == (MARK, stored.size) and digest == digest_of_state(data)
        if not whole:
            path = self.folder / stored.file
            raise StateDamageError(
                f"{path} is damaged at byte {stored.offset:,}: it does not hold the state that was written there",
                file=str(path),
            )
        return data

    def read_ahead(self, places: Iterable[Stored]) -> None:
        """Ask the kernel to have states in memory that are going to be read soon; files of elsewhere are left out."""
        if not hasattr(os, "posix_fadvise"):
            return
        spans: dict[str, list[int]] = {}
        for stored in places:
            span = spans.setdefault(stored.file, [stored.offset, stored.end])
            span[0], span[1] = min(span[0], stored.offset), max(span[1], stored.end)
        for name, (begin, end) in spans.items():
            with contextlib.suppress(OSError, RedError), self._lock:
                os.posix_fadvise(self._opened(name), begin, end - begin, os.POSIX_FADV_WILLNEED)

    def _opened(self, name: str) -> int:
        known = self._reading.get(name)
        if known is None:
            path = self.folder / name
            check_own(path)
            known = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            if not stat.S_ISREG(os.fstat(known).st_mode):
                os.close(known)
                raise StateDamageError(f"{path} is no file of states", file=str(path))
            self._reading[name] = known
            while len(self._reading) > OPEN_FILES:
                os.close(self._reading.popitem(last=False)[1])
        self._reading.move_to_end(name)
        return known

    # -- the folder ------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """All files of states in the folder."""
        return sorted(entry.name for entry in self.folder.iterdir() if entry.name.endswith(SUFFIX))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files of which no state is wanted any more; what is not there is gone already."""
        for name in names:
            with self._lock:
                known = self._reading.pop(name, None)
                if known is not None:
                    os.close(known)
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    def entries(self, name: str) -> Iterator[tuple[int, int, Stored]]:
        """Row, time of writing and place of each state in a file, up to its end or to where it is damaged."""
        path = self.folder / name
        check_own(path)
        source = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            length, offset = os.fstat(source).st_size, 0
            while offset + HEAD.size <= length:
                mark, _, row, written, size, _ = HEAD.unpack(_read_all(source, HEAD.size, offset))
                stored = Stored(name, offset, size)
                if mark != MARK or row < 0 or size < 0 or stored.end > length:
                    return
                yield row, written, stored
                offset = stored.end
        finally:
            os.close(source)

    def close(self) -> None:
        """Flush what was written and close all files."""
        with self._lock:
            into, self._into = self._into, None
            while self._reading:
                os.close(self._reading.popitem()[1])
        if into is not None:
            _flush_and_close(into)


def _write_all(into: int, parts: tuple[bytes, ...], offset: int) -> None:
    written = os.pwritev(into, parts, offset)
    if written == sum(map(len, parts)):
        return
    rest = b"".join(parts)[written:]
    while rest:
        offset += written
        written = os.pwrite(into, rest, offset)
        rest = rest[written:]


def _read_all(source: int, size: int, offset: int) -> bytes:
    """`size` bytes of a file, or those up to its end."""
    length = os.fstat(source).st_size
    if offset < 0 or size < 0 or offset + size > length:
        return b""
    data = os.pread(source, size, offset)
    while 0 < len(data) < size:
        more = os.pread(source, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _flush_and_close(into: int) -> None:
    with contextlib.suppress(OSError):
        os.fdatasync(into)
    os.close(into)
