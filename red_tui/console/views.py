"""The views beside each other: which one is shown, and what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from textual.containers import Container

from red_tui.console.events_view import EventsView
from red_tui.console.list_view import ListView
from red_tui.console.nodes_view import NodesView
from red_tui.console.placement_view import PlacementView
from red_tui.console.rounds_view import RoundsView
from red_tui.console.text import plain
from red_tui.errors import RedError
from red_tui.nodes.states import NodeState

if TYPE_CHECKING:
    from red_tui.console.app import RedConsole
    from red_tui.console.grid import Grid
    from red_tui.console.lines import Line
    from red_tui.console.mirror import Changes

OLDER = 200
ASKED = 4
"""Bundles about which the federation is asked at a time why their nodes wait."""

_MAKERS = {"rounds": RoundsView, "placement": PlacementView, "events": EventsView, "nodes": NodesView}
NAMES = ("grid", *_MAKERS)


class Views:
    """The grid and the lists; a list is made when it is first wanted.

    Args:
        app: The app.
        grid: The grid.
    """

    def __init__(self, app: RedConsole, grid: Grid) -> None:
        self._app = app
        self._grid = grid
        self._made: dict[str, Any] = {"grid": grid}
        self._container = app.query_one("#views", Container)
        self._container.mount(grid)
        grid.add_class("current")
        self.name = "grid"

    def __getitem__(self, name: str) -> Any:
        return self._made[name]

    @property
    def current(self) -> Any:
        """The view that is shown."""
        return self._made[self.name]

    @property
    def listed(self) -> ListView | None:
        """The list that is shown; None for the grid."""
        current = self.current
        return current if isinstance(current, ListView) else None

    def made(self, name: str) -> Any:
        """A view, or None if nobody wanted it yet."""
        return self._made.get(name)

    def get(self, name: str) -> Any:
        """A view, made if it is not there yet."""
        if name not in self._made:
            view = _MAKERS[name](self._app.glyphs, id=f"view-{name}", classes="panel")
            self._made[name] = view
            self._container.mount(view)
        return self._made[name]

    def show(self, name: str) -> None:
        """Show another view."""
        view = self.get(name)
        for known, other in self._made.items():
            other.set_class(known == name, "current")
        self._app.set_class(name != "grid", "listing")
        self._app.set_class(name == "events", "all-events")
        self.name = name
        if isinstance(view, ListView):
            if isinstance(view, NodesView):
                view.filter(self._grid.shown)
                view.cursor_id = self._grid.cursor_id
            self._app.call_after_refresh(self._first_look, view)

    def _first_look(self, view: ListView) -> None:
        view.refresh_from(self._app.mirror)
        self.ask_why()
        if self._app.desk is not None:
            self._app.desk.looked()

    def apply(self, changes: Changes) -> None:
        """Show what changed."""
        view = self.listed
        if isinstance(view, NodesView):
            view.filter(self._grid.shown)
        if view is not None:
            view.refresh_from(self._app.mirror, changes)
        if changes.full or changes.placement or "bundles" in changes.parts:
            self.ask_why()

    def filtered(self) -> None:
        """The grid shows other nodes: so does the list of nodes."""
        view = self.listed
        if isinstance(view, NodesView):
            view.filter(self._grid.shown)
            view.refresh_from(self._app.mirror)

    @property
    def current_id(self) -> str | None:
        """The node under the cursor."""
        view = self.current
        return view.cursor_id if isinstance(view, NodesView) else self._grid.cursor_id

    def beside(self, width: int) -> tuple[str, list[Line]] | None:
        """What the view tells beside itself; None where the node under the cursor is told."""
        return None if self.listed is None else self.listed.beside(width)

    # -- what views ask for ----------------------------------------------------------------------

    def load_older(self) -> None:
        """Fetch what the journal holds from before the oldest event here, if its end is in sight."""
        view = self.current
        if isinstance(view, EventsView) and view.at_end and not view.whole:
            self._app.run_worker(self._load_older(view), name="older", group="older", exclusive=True)

    async def _load_older(self, view: EventsView) -> None:
        mirror = self._app.mirror
        before = mirror.events[0].seq if mirror.events else None
        try:
            told = await self._app.session.command("events", {"before": before, "limit": OLDER})
        except RedError as error:
            self._app.say(f"no older events: {error.message}", "error")
            return
        got = list(told.get("events") or ())
        view.whole = mirror.add_older(got) == 0 or len(got) < OLDER
        view.refresh_from(mirror)

    def ask_why(self) -> None:
        """Ask the federation why nodes wait, one node for each of a few bundles."""
        if isinstance(self.current, PlacementView):
            self._app.run_worker(self._ask_why(self.current), name="why", group="why", exclusive=True)

    async def _ask_why(self, view: PlacementView) -> None:
        table = self._app.mirror.table
        waiting = np.flatnonzero(table.column("state") == NodeState.PENDING.code)
        bundles, first = np.unique(table.column("bundle")[waiting], return_index=True)
        reasons = {}
        for bundle, row in list(zip(bundles.tolist(), waiting[first].tolist(), strict=True))[:ASKED]:
            try:
                told = await self._app.session.command("explain", {"id": table.ids[row]})
            except RedError:
                return
            reasons[bundle] = plain(told.get("text") or "")
        if reasons != view.reasons:
            view.reasons = reasons
            if self._app.desk is not None:
                self._app.desk.looked()
