"""Begins where the last session ended, and keeps saved filters."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from red_tui.console.grid.arrangement import GROUPINGS
from red_tui.console.grid.canvas import ZOOMS
from red_tui.console.screens.nodes_screen import COLUMNS
from red_tui.console.views import NAMES, Views
from red_tui.errors import CommandRefused, SelectionError
from red_tui.safe_yaml import read_file
from red_tui.state_folder import write_private

if TYPE_CHECKING:
    from red_tui.console.console_host import ConsoleHost, ControllerHost
    from red_tui.console.grid.grid import Grid


FILE = "console-session.json"
MAX_BYTES = 1_000_000
FEDERATIONS = 50
"""Federations whose filters are remembered."""


@dataclass
class RememberedState:
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


def load_session_state(folder: Path) -> RememberedState:
    """What was remembered; an empty memory if there is none, or none that can be read."""
    try:
        data = json.loads(read_file(folder / FILE, MAX_BYTES))
    except (ValueError, RecursionError):  # no such file, no text, no JSON, or nested too deeply
        return RememberedState()
    return _of(data) if isinstance(data, dict) else RememberedState()


def save_session_state(folder: Path, state: RememberedState) -> None:
    """Remember; a full disk or a read-only home is no reason to fail."""
    with contextlib.suppress(OSError):
        write_private(folder / FILE, json.dumps(asdict(state), indent=1))


def _of(data: dict[str, Any]) -> RememberedState:
    """The state in a file that another version may have written: what does not fit is left out."""
    found = RememberedState()
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


class Screens(Protocol):
    """What is remembered of the screens, and what shows it again."""

    grid: Grid
    views: Views
    query: str

    @property
    def view(self) -> str:
        """Name of the screen that is shown."""

    def set_filter(self, query: str) -> None:
        """Show the nodes that a query asks for.

        Raises:
            SelectionError: If it is no query.
        """

    def show_view(self, name: str) -> None:
        """Show another screen."""


class ConsoleMemory:
    """Reads what was remembered when the first data is there, and writes what is chosen.

    Args:
        app: The app with its options and preferences.
    """

    def __init__(self, app: ConsoleHost[ControllerHost]) -> None:
        self._app = app
        self._on = app.options.remember and app.preferences.remember
        self.state = load_session_state(app.options.state_dir()) if self._on else RememberedState()

    @property
    def filters(self) -> Mapping[str, str]:
        """Saved filters by name: those of the config file, and those that were kept."""
        return {**self._app.preferences.filters, **self.state.filters}

    @property
    def _federation(self) -> str:
        return str(self._app.mirror.federation.get("id") or "")

    def restore(self, screens: Screens) -> None:
        """Choose what was chosen before, or else what the config file says."""
        state, preferences = self.state, self._app.preferences
        grouping, zoom = state.group or preferences.group, state.zoom or preferences.zoom or ""
        if grouping in GROUPINGS:
            screens.grid.grouping = grouping
        screens.grid.chosen_zoom = zoom if zoom in ZOOMS else None
        columns = [name for name in (state.columns or preferences.columns) if name in COLUMNS]
        if columns or state.sort != "id":
            nodes = screens.views.get("nodes")
            nodes.show_columns(columns or nodes.columns)
            nodes.sort, nodes.reverse = (state.sort, state.reverse) if state.sort in COLUMNS else ("id", False)

    def restore_view(self, screens: Screens) -> None:
        """Show the screen that was shown, with the filter that this federation had."""
        query = self.state.queries.get(self._federation, "")
        if query:
            try:
                screens.set_filter(query)
            except SelectionError:
                self.state.remember_query(self._federation, "")
        if self.state.view in NAMES and self.state.view != "grid":
            screens.show_view(self.state.view)

    def keep(self, screens: Screens) -> None:
        """Remember what is chosen now."""
        state, grid = self.state, screens.grid
        state.view, state.group, state.zoom = screens.view, grid.grouping, grid.chosen_zoom or ""
        nodes = screens.views.made("nodes")
        if nodes is not None:
            state.sort, state.reverse, state.columns = nodes.sort, nodes.reverse, list(nodes.columns)
        state.remember_query(self._federation, screens.query)
        self._save()

    def keep_filter(self, name: str, query: str) -> None:
        """Save a filter under a name."""
        if not query:
            raise CommandRefused("no filter is on: type one with / first, then: keep NAME")
        self.state.filters[name] = query
        self._save()

    def forget_filter(self, name: str) -> None:
        """Forget a saved filter."""
        if name not in self.state.filters:
            where = "it stands in the config file" if name in self.filters else "there is none of that name"
            raise CommandRefused(f"filter {name!r} cannot be forgotten: {where}")
        del self.state.filters[name]
        self._save()

    def resolve(self, text: str) -> str:
        """The query that a text means: `@NAME` is a saved one."""
        if not text.startswith("@"):
            return text
        name = text[1:]
        if name not in self.filters:
            known = ", ".join(f"@{one}" for one in sorted(self.filters)) or "none is saved; keep NAME saves one"
            raise SelectionError(f"there is no saved filter {text!r}: {known}", position=0)
        return self.filters[name]

    def _save(self) -> None:
        if self._on:
            save_session_state(self._app.options.state_dir(), self.state)
