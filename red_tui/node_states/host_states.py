"""The states of the nodes in one process: asked of the nodes, written to files where they belong there, and read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from red_tui.errors import RedError
from red_tui.node_states.packed_state import check_state, packed_state
from red_tui.node_states.state_files import (
    StateDamageError,
    StateFiles,
    StatePlace,
    Stored,
    digest_of_state,
)
from red_tui.nodes.user_code import MethodError


class Keeping(Protocol):
    """A node that keeps a state."""

    node_id: str

    def get_state(self) -> Any:
        """What it keeps."""


class ElsewhereError(Exception):
    """The file of a state is not on this machine."""


def state_of(node: Keeping) -> Any:
    """What `get_state` of a node gives, if it can be sent.

    Raises:
        MethodError: If `get_state` raised, or gave what no other process can have.
    """
    try:
        state = node.get_state()
        check_state(state, node.node_id)
    except BaseException as error:
        raise MethodError("get_state", error) from error
    return state


def columns_of(stored: Mapping[int, Stored]) -> dict[str, Any]:
    """Where states lie, as columns that cost little to send."""
    names = list(dict.fromkeys(place.file for place in stored.values()))
    numbers = {name: number for number, name in enumerate(names)}
    table = np.asarray(
        [(row, numbers[place.file], place.offset, place.size) for row, place in stored.items()], dtype=np.int64
    ).reshape(-1, 4)
    return {"names": names, "table": table}


def places_of(columns: Mapping[str, Any] | None) -> dict[int, Stored]:
    """What `columns_of` was given; None: nothing."""
    if columns is None:
        return {}
    names = columns["names"]
    return {row: Stored(names[number], offset, size) for row, number, offset, size in columns["table"].tolist()}


class HostStates:
    """What the nodes of one process keep.  Threads may share it.

    Attributes:
        trouble: Why states stay in memory that belong into files: the disk did not take the last one; or nothing.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self._files: StateFiles | None = None
        self._place: StatePlace | None = None
        self._written: dict[int, tuple[Stored, bytes]] = {}
        """Where the last state of each row was read or written here, and its digest."""

    def keep(self, row: int, node: Keeping, place: StatePlace | None, known: Stored | None = None) -> Any:
        """The state of a node, or where it was written.

        Args:
            row: The node's.
            node: The node.
            place: Where files of states belong; None: the state stays in memory.
            known: Where the federation has the state that the node had before.

        Returns:
            A `Stored`, which is `known` where the state is still the same; the state itself where it belongs into
            memory, or the disk does not take it (`trouble`); None for none.

        Raises:
            MethodError: If `get_state` raised, or gave what cannot be kept.
        """
        if place is None:
            return state_of(node)
        try:
            state = node.get_state()
            if state is None:
                return None
            data = packed_state(state, node.node_id)
        except BaseException as error:
            raise MethodError("get_state", error) from error
        digest = digest_of_state(data)
        if known is not None and self._written.get(row) == (known, digest):
            return known
        try:
            stored = self._in(place).append(row, data, digest)
        except (OSError, RedError) as error:
            self.trouble = str(error)
            return state
        self.trouble = ""
        self._written[row] = stored, digest
        return stored

    def read(self, row: int, stored: Stored, place: StatePlace) -> bytes:
        """A state as bytes.

        Raises:
            ElsewhereError: If its file is not on this machine.
            StateDamageError: If it cannot be read.
        """
        try:
            data = self._in(place).read(stored)
        except FileNotFoundError:
            raise ElsewhereError(stored.file) from None
        except StateDamageError:
            raise
        except (OSError, RedError) as error:
            raise StateDamageError(f"{stored.file} cannot be read: {error}", file=stored.file) from error
        self._written[row] = stored, digest_of_state(data)
        return data

    def read_ahead(self, place: StatePlace, places: Iterable[Stored]) -> None:
        """Have states in the machine's memory that are going to be read soon."""
        try:
            self._in(place).read_ahead(places)
        except (OSError, RedError) as error:
            self.trouble = str(error)

    def forget(self, rows: Sequence[int]) -> None:
        """These nodes are not here any more."""
        for row in rows:
            self._written.pop(row, None)

    def roll(self) -> None:
        """The next state begins another file."""
        if self._files is not None:
            self._files.roll()

    def _in(self, place: StatePlace) -> StateFiles:
        if self._files is None or self._place != place:
            files = StateFiles(place.folder())
            self._files, self._place = files, place
        return self._files
