"""What a console remembers of its last session: the screen, the filter, columns and saved filters."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from red_tui.console.saving import write_private
from red_tui.safe_yaml import read_file

FILE = "console-session.json"
MAX_BYTES = 1_000_000
FEDERATIONS = 50
"""Federations whose filters are remembered."""


@dataclass
class Remembered:
    """The state of a session.

    Attributes:
        view: Name of the screen.
        group: What the grid groups by.
        zoom: The zoom that the operator chose, if one was.
        sort: Column by which nodes are sorted.
        reverse: Whether the other way round.
        columns: Columns of the list of nodes.
        queries: The filter of each federation, the one used last at the end.
        filters: Saved filters by name.
    """

    view: str = "grid"
    group: str = ""
    zoom: str = ""
    sort: str = "id"
    reverse: bool = False
    columns: list[str] = field(default_factory=list)
    queries: dict[str, str] = field(default_factory=dict)
    filters: dict[str, str] = field(default_factory=dict)

    def remember_query(self, federation: str, query: str) -> None:
        """Keep a federation's filter."""
        self.queries.pop(federation, None)
        if query:
            self.queries[federation] = query
        for name in list(self.queries)[:-FEDERATIONS]:
            del self.queries[name]


def load(folder: Path) -> Remembered:
    """What was remembered; an empty memory if there is none, or none that can be read."""
    try:
        data = json.loads(read_file(folder / FILE, MAX_BYTES))
    except (ValueError, RecursionError):  # no such file, no text, no JSON, or nested too deeply
        return Remembered()
    return _of(data) if isinstance(data, dict) else Remembered()


def save(folder: Path, state: Remembered) -> None:
    """Remember; a full disk or a read-only home is no reason to fail."""
    with contextlib.suppress(OSError):
        write_private(folder / FILE, json.dumps(asdict(state), indent=1))


def _of(data: dict[str, Any]) -> Remembered:
    """The state in a file that another version may have written: what does not fit is left out."""
    found = Remembered()
    for name, default in asdict(found).items():
        value = data.get(name)
        if type(value) is not type(default):
            continue
        if isinstance(value, dict):
            value = {key: text for key, text in value.items() if isinstance(text, str)}
        if isinstance(value, list):
            value = [text for text in value if isinstance(text, str)]
        setattr(found, name, value)
    return found
