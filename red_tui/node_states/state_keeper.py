"""The keeper of a machine's files of states, as an actor: for what no bundle's actor of that machine is there to do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.errors import RedError
from red_tui.node_states.host_states import columns_of, places_of
from red_tui.node_states.packed_state import PackedState, packed_state
from red_tui.node_states.state_files import StateFiles, StatePlace, Stored


class StateKeeper:
    """Reads and writes the files of one machine.  What goes wrong is told, never raised.

    Args:
        place: The folder of the files.
    """

    def __init__(self, place: StatePlace) -> None:
        self._place = place
        self._made: StateFiles | None = None

    def write(
        self, rows: Sequence[int], names: Sequence[str], places: Sequence[tuple[int, int | None]], *blocks: Any
    ) -> dict[str, Any]:
        """Write states that lay in memory.

        Args:
            rows: Whose they are.
            names: The ids of these nodes.
            places: For each the number of its block, and its place there (None: the block is the state).
            *blocks: The states, as Ray has fetched them.

        Returns:
            `stored` (see `columns_of`), `refused` (why, by row, of those that cannot be kept) and `trouble`, why the
            disk takes no more, or nothing.
        """
        written: dict[int, Stored] = {}
        refused: dict[int, str] = {}
        trouble = ""
        try:
            files = self._files()
            for row, name, (block, at) in zip(rows, names, places, strict=True):
                state = blocks[block] if at is None else blocks[block][at]
                if state is None:
                    refused[row] = ""
                    continue
                try:
                    data = state.data if isinstance(state, PackedState) else packed_state(state, name)
                except TypeError as error:
                    refused[row] = str(error)
                    continue
                written[row] = files.append(row, data)
            files.roll()
        except (OSError, RedError) as error:
            trouble = str(error)
        return {"stored": columns_of(written), "refused": refused, "trouble": trouble}

    def read(self, columns: Mapping[str, Any]) -> tuple[list[PackedState | None], dict[int, str]]:
        """States of other machines' nodes (first return), and why some cannot be read, by row (second)."""
        states: list[PackedState | None] = []
        lost: dict[int, str] = {}
        for row, stored in places_of(columns).items():
            try:
                states.append(PackedState(self._files().read(stored)))
            except FileNotFoundError:
                states.append(None)
                lost[row] = f"{stored.file} is not there any more"
            except (OSError, RedError) as error:
                states.append(None)
                lost[row] = str(error)
        return states, lost

    def move(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Copy states into other files; those that cannot be read are left where they are."""
        moved: dict[int, Stored] = {}
        trouble = ""
        try:
            files = self._files()
            for row, stored in places_of(columns).items():
                try:
                    data = files.read(stored)
                except (OSError, RedError):
                    continue
                moved[row] = files.append(row, data)
            files.roll()
        except (OSError, RedError) as error:
            trouble = str(error)
        return {"stored": columns_of(moved), "trouble": trouble}

    def has(self, names: Sequence[str]) -> list[str]:
        """Which of some files are on this machine."""
        try:
            return sorted(set(names) & set(self._files().names()))
        except (OSError, RedError):
            return []

    def remove(self, names: Sequence[str]) -> None:
        """Remove files in which no state counts."""
        try:
            self._files().remove(names)
        except (OSError, RedError):
            return

    def remove_all(self) -> None:
        """Remove the folder: nobody goes on with what was kept."""
        try:
            shutil.rmtree(self._place.folder(), ignore_errors=True)
        except (OSError, RedError):
            return

    def _files(self) -> StateFiles:
        if self._made is None:
            self._made = StateFiles(self._place.folder())
        return self._made
