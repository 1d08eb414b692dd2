"""Where the states lie that `get_state` gave: in memory up to a bound, then in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from red_tui.node_states.state_files import StatePlace, Stored
from red_tui.node_states.state_index import StateIndex

STATE_MEMORY = 1_000_000_000
"""Bytes of states that stay in memory unless a layout says otherwise."""

SPARE = 256_000_000
"""Bytes of states that nobody wants which may lie in files beside as many that are wanted."""

WASTE = 0.5
"""Share of a file that is wanted below which its states are worth being moved into another one."""


class Kept(NamedTuple):
    """Where in memory the state of a node lies that `get_state` gave.

    Attributes:
        reference: The state, or a block of states.
        place: Place in the block; None where the reference is the state itself.
    """

    reference: Any
    place: int | None = None


@dataclass
class FileUse:
    """One file of states: where it is and how much of it is wanted.

    Attributes:
        machine: Ray's id of the machine that wrote it; empty where that is not known.
        host: Its name.
        length: Bytes that are known to be in it.
        wanted: Bytes of the states in it that count.
        count: How many states in it count.
    """

    machine: str
    host: str
    length: int = 0
    wanted: int = 0
    count: int = 0


class KeptStates:
    """States of nodes by row, wherever they lie; the engine's thread writes it.

    Up to `bound` bytes the states stay in Ray's object store.  Once they have outgrown it, all of them belong into
    files, for good: what lies in memory then is only on its way there.

    Args:
        bound: Bytes that may stay in memory; None: no limit; 0: all states are written to files at once.
        place: The folder of the files; None: it is made when it is needed.
    """

    def __init__(self, bound: int | None = None, place: StatePlace | None = None) -> None:
        self.bound, self.place = bound, place
        self.on_disk = bound == 0
        """Whether states belong into files."""
        self.index: StateIndex | None = None
        self.memory = 0
        """About how many bytes of states lie in memory."""
        self._held: dict[int, Kept] = {}
        self._sizes: dict[int, int] = {}
        self._stored: dict[int, Stored] = {}
        self._left_held: dict[str, Kept] = {}
        self._left_stored: dict[str, Stored] = {}
        self._files: dict[str, FileUse] = {}
        self._current: dict[int, str] = {}
        """The file that each bundle's actor is writing, by bundle."""

    # -- looking ---------------------------------------------------------------------------------

    def __contains__(self, row: object) -> bool:
        return row in self._held or row in self._stored

    def __bool__(self) -> bool:
        return bool(self._held or self._stored)

    def __len__(self) -> int:
        return len(self._held.keys() | self._stored.keys())

    def __iter__(self) -> Iterator[int]:
        return iter(self._held.keys() | self._stored.keys())

    def get(self, row: int) -> Kept | None:
        """Where in memory a state lies; None where there is none, or it lies in a file."""
        return self._held.get(row)

    def stored(self, row: int) -> Stored | None:
        """Where in a file a state lies; None where there is none, or a newer one is in memory."""
        return None if row in self._held else self._stored.get(row)

    def held(self) -> dict[int, Kept]:
        """All states that lie in memory, by row."""
        return dict(self._held)

    def size_of(self, row: int) -> int:
        """About how many bytes a state in memory has."""
        return self._sizes.get(row, 0)

    def files(self) -> dict[str, FileUse]:
        """All files of states, by name."""
        return dict(self._files)

    def machine_of(self, stored: Stored) -> FileUse:
        """The file of a state."""
        return self._files.get(stored.file) or FileUse("", "")

    @property
    def disk(self) -> int:
        """Bytes of the states that lie in files."""
        return sum(use.wanted for use in self._files.values())

    @property
    def outgrown(self) -> bool:
        """Whether what lies in memory has just outgrown the bound."""
        return not self.on_disk and self.bound is not None and self.memory > self.bound

    # -- in memory -------------------------------------------------------------------------------

    def hold(self, row: int, kept: Kept, size: int | None = None) -> None:
        """A state lies in memory.

        Args:
            row: Whose it is.
            kept: Where.
            size: About how many bytes it has; None: as many as the last one.
        """
        size = self._sizes.get(row, 0) if size is None else size
        self.memory += size - (self._sizes.get(row, 0) if row in self._held else 0)
        self._held[row], self._sizes[row] = kept, size

    def let_go(self, row: int) -> None:
        """A state does not lie in memory any more."""
        if self._held.pop(row, None) is not None:
            self.memory -= self._sizes.get(row, 0)

    def pop(self, row: int, default: None = None) -> Kept | Stored | None:
        """A node keeps nothing any more; gives where its state was."""
        found: Kept | Stored | None = self._held.get(row)
        self.let_go(row)
        stored = self._stored.pop(row, None)
        self._sizes.pop(row, None)
        if stored is not None:
            self._unwant(stored)
            if self.index is not None:
                self.index.forget([row])
        return found or stored or default

    # -- in files --------------------------------------------------------------------------------

    def load(self, index: StateIndex) -> None:
        """Go by an index from here on, and take over what it says.

        Raises:
            sqlite3.Error: If it cannot be read.
        """
        self.index = index
        self._files = {name: FileUse(machine, host, length) for name, (machine, host, length) in index.files().items()}
        self._stored, self._left_stored = index.kept(), index.left()
        for stored in (*self._stored.values(), *self._left_stored.values()):
            self._want(stored)
        self.on_disk = self.on_disk or bool(self._stored or self._left_stored)

    def put(self, entries: Mapping[int, Stored], machine: str = "", host: str = "", bundle: int | None = None) -> None:
        """States have been written to files.

        Args:
            entries: Where each lies, by row.
            machine: Ray's id of the machine that has them.
            host: Its name.
            bundle: The bundle whose actor wrote them, and is going to write behind them; None: these files are full.

        Raises:
            StateIndexError: If that cannot be noted on disk; then nothing has changed.
        """
        assert self.index is not None
        self.index.put(entries, machine, host)
        for row, stored in entries.items():
            self.let_go(row)
            before = self._stored.get(row)
            self._stored[row] = stored
            use = self._files.setdefault(stored.file, FileUse(machine, host))
            use.length = max(use.length, stored.end)
            self._want(stored)
            if before is not None:
                self._unwant(before)
            if bundle is not None:
                self._current[bundle] = stored.file

    def move(self, entries: Mapping[int, tuple[Stored, Stored]], machine: str, host: str) -> None:
        """States have been copied into other files: those count that have not been replaced meanwhile.

        Args:
            entries: From where to where, by row.
            machine: Ray's id of the machine that has them.
            host: Its name.
        """
        same = {row: after for row, (before, after) in entries.items() if self._stored.get(row) == before}
        held = {row: self._held[row] for row in same if row in self._held}
        if same:
            self.put(same, machine, host)
        for row, kept in held.items():
            # A newer one is still on its way.
            self.hold(row, kept)

    def _want(self, stored: Stored) -> None:
        use = self._files.setdefault(stored.file, FileUse("", ""))
        use.wanted += stored.end - stored.offset
        use.count += 1

    def _unwant(self, stored: Stored) -> None:
        use = self._files[stored.file]
        use.wanted -= stored.end - stored.offset
        use.count -= 1

    # -- nodes that leave ------------------------------------------------------------------------

    @property
    def has_left(self) -> bool:
        """Whether states wait for nodes that left and may come back."""
        return bool(self._left_held or self._left_stored)

    def leave(self, row: int, node_id: str) -> None:
        """A node leaves; its state waits for one of the same id."""
        held, stored = self._held.get(row), self.stored(row)
        if held is not None:
            self._left_held[node_id] = held
        elif stored is not None:
            assert self.index is not None
            self.index.leave(row, node_id)
            before = self._left_stored.get(node_id)
            self._left_stored[node_id] = stored
            self._want(stored)
            if before is not None:
                self._unwant(before)

    def join(self, row: int, node_id: str) -> None:
        """A node joins: it gets the state of one of the same id that left, if that was kept."""
        held, stored = self._left_held.pop(node_id, None), self._left_stored.pop(node_id, None)
        if stored is not None:
            assert self.index is not None
            use = self.machine_of(stored)
            self.put({row: stored}, use.machine, use.host)
            self._unwant(stored)
            self.index.forget_left(node_id)
        if held is not None:
            self.hold(row, held)

    # -- files that are not wanted ---------------------------------------------------------------

    def dead_files(self) -> dict[str, FileUse]:
        """Files in which no state counts and that nobody is writing; they are forgotten."""
        writing = set(self._current.values())
        dead = {name: use for name, use in self._files.items() if not use.count and name not in writing}
        if dead:
            assert self.index is not None
            self.index.drop_files(dead)
            for name in dead:
                del self._files[name]
        return dead

    def wasteful(self, most: int = SPARE, spare: int = SPARE) -> dict[str, dict[int, Stored]]:
        """Files whose states should be moved, with these, by row: too much of what lies in files is not wanted.

        Args:
            most: Bytes of states to move at a time.
            spare: Bytes that may lie there unwanted beside as many that are wanted.
        """
        written = sum(use.length for use in self._files.values())
        wanted = self.disk
        if written <= 2 * wanted + spare:
            return {}
        writing = {*self._current.values(), *(stored.file for stored in self._left_stored.values())}
        chosen: dict[str, dict[int, Stored]] = {}
        for name, use in sorted(self._files.items(), key=lambda item: item[1].wanted / max(1, item[1].length)):
            if name in writing or use.wanted > WASTE * use.length:
                continue
            if use.wanted > most:
                break
            chosen[name] = {}
            most -= use.wanted
        for row, stored in self._stored.items():
            if stored.file in chosen:
                chosen[stored.file][row] = stored
        return chosen
