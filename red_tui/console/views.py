"""The views beside each other: which one is shown, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from textual.containers import Container
from textual.timer import Timer

from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.connection.traffic import Traffic
from red_tui.console.dialogs.dialogs import Reader
from red_tui.console.input.actions import key_name
from red_tui.console.screens.events_screen import EventsView
from red_tui.console.screens.node_detail import summary, whole
from red_tui.console.screens.nodes_screen import NodesView
from red_tui.console.screens.placement_screen import PlacementView
from red_tui.console.screens.rounds_screen import RoundsView
from red_tui.console.screens.topology_graph import Graph
from red_tui.console.screens.topology_screen import TopologyView
from red_tui.console.text import plain, plain_lines
from red_tui.console.widgets.lists import Line, wrap
from red_tui.console.widgets.node_list import ListView, NodeList
from red_tui.errors import RedError
from red_tui.nodes.states import NodeState
from red_tui.protocol.snapshot import Spread

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes
    from red_tui.console.console_host import ConsoleHost, ControllerHost
    from red_tui.console.grid.grid import Grid
    from red_tui.console.widgets.lists import Line


DELAY = 0.15
READ_AGAIN = 2.0
"""Seconds between two readings of a node's messages while a session runs."""

_HINTED = ("rebuild", "build", "release", "detail")


class Inspector:
    """Keeps the detail panel, and the detail screen if it is open, on the node they show.

    Args:
        app: The app.
    """

    def __init__(self, app: ConsoleHost[ControllerHost]) -> None:
        self._app = app
        self._node: str | None = None
        self._told: Mapping[str, Any] | None = None
        self._timer: Timer | None = None
        self._reader: Reader | None = None
        self._read: str | None = None
        self._read_told: Mapping[str, Any] | None = None
        self._traffic: dict[str, Traffic] = {}

    def moved(self, node_id: str | None) -> None:
        """The cursor stands on this node, or something of it changed."""
        if node_id != self._node:
            self._node, self._told = node_id, None
        self._draw()
        if self._timer is not None:
            self._timer.stop()
        if self._panel_shown or self._reader is not None:
            self._timer = self._app.set_timer(DELAY, self.fetch_soon)

    def data_changed(self, node_id: str | None) -> None:
        """An update came: the panel shows the table's new values."""
        if node_id != self._node:
            self.moved(node_id)
        else:
            self._draw()

    def open(self, node_id: str) -> None:
        """Show the node's whole detail over the console."""
        self._read, self._read_told = node_id, self._told if node_id == self._node else None
        self._reader = Reader(plain(node_id), self._lines, "j k scroll, y copies, esc closes")
        self._app.push_screen(self._reader, self._closed)
        self.fetch_soon()

    def explain(self, node_id: str) -> None:
        """Ask the federation why the node is as it is, and show its answer over the console."""
        self._app.work_anew("explain", self._explain, node_id)

    def fetch_soon(self) -> None:
        """Ask for what is shown of the node; a question that is still under way is given up."""
        self._app.work_anew("detail", self._fetch)

    @property
    def complete(self) -> bool:
        """Whether the panel has all that it shows: the node's detail has come, or none is shown."""
        return self._told is not None or self._node is None or not self._panel_shown

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _panel_shown(self) -> bool:
        return self._app.detail.display and self._app.has_class("wide")

    def show(self, command: str) -> None:
        """Give a command whose answer is a text, and show it over the console."""
        self._app.work_anew("show", self._show, command, {}, command)

    async def _explain(self, node_id: str) -> None:
        await self._show("explain", {"id": node_id}, f"why: {plain(node_id)}")

    async def _show(self, command: str, args: Mapping[str, Any], title: str) -> None:
        try:
            answer = await self._app.connection.command(command, args)
        except RedError as error:
            self._app.say(error.message.split("\n")[0], "error")
            return
        rows = plain_lines(answer.get("table") or answer.get("text") or "nothing is known")

        def lines(width: int) -> list[Line]:
            inner = [(" " * (len(row) - len(row.lstrip())), row.strip()) for row in rows]
            return [((margin + part, "text"),) for margin, row in inner for part in wrap(row, width - len(margin))]

        self._app.push_screen(Reader(title, lines, "j k scroll, y copies, esc closes"))

    def _closed(self, answer: None) -> None:
        self._reader, self._read, self._read_told = None, None, None

    async def _fetch(self) -> None:
        for node_id in dict.fromkeys(node for node in (self._read, self._node) if node is not None):
            try:
                told = await self._app.connection.command("detail", {"id": node_id})
            except RedError as error:
                told = {"untold": error.message.split("\n")[0]}
            self._count(node_id, told.get("talk"))
            if node_id == self._node:
                self._told = told
                self._draw()
            if node_id == self._read and self._reader is not None:
                self._read_told = told
                self._reader.refill()
        if self._app.mirror.session.running:  # messages go on though nothing of the node changes
            await self._app.connection.pause(READ_AGAIN)
            if self._app.mirror.session.running and (self._panel_shown or self._reader is not None):
                self.fetch_soon()

    def _count(self, node_id: str, talk: Any) -> None:
        """Keep the counts of a node's messages, for their rates."""
        if not isinstance(talk, Mapping):
            return
        self._traffic = {name: one for name, one in self._traffic.items() if name in (self._read, self._node)}
        traffic = self._traffic.setdefault(node_id, Traffic())
        traffic.take({node_id: talk}, {}, self._app.clock())
        if not self._app.mirror.session.running:
            traffic.rest()

    def _draw(self) -> None:
        if not self._panel_shown:
            return
        controller = self._app.controller
        width = max(20, self._app.detail.size.width)
        beside = controller.beside(width) if controller is not None else None
        if beside is not None:
            self._app.detail.tell(*beside)
        else:
            traffic = None if self._node is None else self._traffic.get(self._node)
            self._app.detail.update(self._app.mirror, self._node, self._told, self._hints(), traffic)

    def _lines(self, width: int) -> Sequence[Line]:
        mirror = self._app.mirror
        row = None if self._read is None else mirror.table.row_of(self._read)
        if row is None:
            return [(("this node is gone", "dim"),)]
        if self._read_told is None:
            return [*summary(mirror, row, None, self._app.glyphs, width), (), (("asking the federation…", "dim"),)]
        return whole(mirror, row, self._read_told, self._app.glyphs, width, self._traffic.get(self._read or ""))

    def _hints(self) -> Line:
        """What can be done with the node, as keys."""
        possible = {action.id: action for action in self._app.actions.possible(self._app.situation())}
        parts: list[tuple[str, str]] = []
        mirror = self._app.mirror
        row = None if self._node is None else mirror.table.row_of(self._node)
        failed = row is not None and str(mirror.table.state_of(row)) == "failed"
        for name in _HINTED:
            if name in possible and not (name == "rebuild" and not failed) and not (name == "release" and failed):
                parts += [(key_name(self._app.actions.keys[name][0]), "key"), (f" {possible[name].label}   ", "dim")]
        return tuple(parts)


OLDER = 200
ASKED = 4
"""Bundles about which the federation is asked at a time why their nodes wait."""

TRAFFIC_PERIOD = 2.0
"""Seconds between two readings of what nodes sent and received, while they are shown."""

REST = 0.15
"""Seconds that the cursor rests before a node's neighbours are asked for."""

_MAKERS = {
    "rounds": RoundsView,
    "placement": PlacementView,
    "topology": TopologyView,
    "events": EventsView,
    "nodes": NodesView,
}
NAMES = ("grid", *_MAKERS)


class Views:
    """The grid and the lists; a list is made when it is first wanted.

    Args:
        app: The app.
        grid: The grid.
    """

    def __init__(self, app: ConsoleHost[ControllerHost], grid: Grid) -> None:
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
            if isinstance(view, NodeList):
                self._filter(view)
                view.cursor_id = self._grid.cursor_id
            self._app.call_after_refresh(self._first_look, view)

    def _filter(self, view: NodeList) -> None:
        view.asked = self._grid.asked
        view.filter(self._grid.shown)

    def _first_look(self, view: ListView) -> None:
        self._lend_marks()
        view.refresh_from(self._app.mirror)
        self.ask_why()
        self.ask_graph()
        self.looked()
        self.follow_traffic()
        if self._app.controller is not None:
            self._app.controller.looked()

    def apply(self, changes: Changes) -> None:
        """Show what changed."""
        view = self.listed
        if isinstance(view, NodeList):
            self._filter(view)
            self._lend_marks()
        if view is not None:
            view.refresh_from(self._app.mirror, changes)
        if changes.full or changes.placement or "bundles" in changes.parts:
            self.ask_why()
        if changes.full or "topology" in changes.parts:
            self.ask_graph(again=changes.full)
        if changes.full or "rounds" in changes.parts:
            self.looked()
        if changes.full or "session" in changes.parts:
            self.follow_traffic()

    def marked(self) -> None:
        """Other nodes are marked."""
        self._lend_marks()
        if isinstance(self.current, TopologyView):
            self.current.draw()

    def _lend_marks(self) -> None:
        if isinstance(self.current, TopologyView):
            self.current.marks = self._grid.marks

    def filtered(self) -> None:
        """The grid shows other nodes: so does the list of nodes."""
        view = self.listed
        if isinstance(view, NodeList):
            self._filter(view)
            view.refresh_from(self._app.mirror)

    @property
    def current_id(self) -> str | None:
        """The node under the cursor."""
        view = self.current
        return view.cursor_id if isinstance(view, NodeList) else self._grid.cursor_id

    def beside(self, width: int) -> tuple[str, list[Line]] | None:
        """What the view tells beside itself; None where the node under the cursor is told."""
        return None if self.listed is None else self.listed.beside(width)

    # -- what views ask for ----------------------------------------------------------------------

    def load_older(self) -> None:
        """Fetch what the journal holds from before the oldest event here, if its end is in sight."""
        view = self.current
        if isinstance(view, EventsView) and view.at_end and not view.whole:
            self._app.work_anew("older", self._load_older, view)

    async def _load_older(self, view: EventsView) -> None:
        mirror = self._app.mirror
        before = mirror.events[0].seq if mirror.events else None
        try:
            told = await self._app.connection.command("events", {"before": before, "limit": OLDER})
        except RedError as error:
            self._app.say(f"no older events: {error.message}", "error")
            return
        got = list(told.get("events") or ())
        view.whole = mirror.add_older(got) == 0 or len(got) < OLDER
        view.refresh_from(mirror)

    def ask_why(self) -> None:
        """Ask the federation why nodes wait, one node for each of a few bundles."""
        if isinstance(self.current, PlacementView):
            self._app.work_anew("why", self._ask_why, self.current)

    async def _ask_why(self, view: PlacementView) -> None:
        table = self._app.mirror.table
        waiting = np.flatnonzero(table.column("state") == NodeState.PENDING.code)
        bundles, first = np.unique(table.column("bundle")[waiting], return_index=True)
        reasons = {}
        for bundle, row in list(zip(bundles.tolist(), waiting[first].tolist(), strict=True))[:ASKED]:
            try:
                told = await self._app.connection.command("explain", {"id": table.ids[row]})
            except RedError:
                return
            reasons[bundle] = plain(told.get("text") or "")
        if reasons != view.reasons:
            view.reasons = reasons
            view.draw()
            if self._app.controller is not None:
                self._app.controller.looked()

    # -- the topology ----------------------------------------------------------------------------

    def ask_graph(self, again: bool = False) -> None:
        """Ask who is whose neighbour, if that is looked at and is another graph than the one that is known."""
        view = self.current
        if not isinstance(view, TopologyView):
            return
        known = view.graph is not None and view.graph.version == self._app.mirror.topology.version
        if again or not known:
            self._app.work_anew("graph", self._ask_graph, view)

    async def _ask_graph(self, view: TopologyView) -> None:
        try:
            told = await self._app.connection.command("graph", {})
        except RedError as error:
            view.fail(plain(error.message.split("\n")[0]))
            return
        view.take(await asyncio.to_thread(Graph.from_wire, told))
        self.looked()
        if self._app.controller is not None:
            self._app.controller.looked()

    def looked(self) -> None:
        """The cursor moved: neighbours that are not known yet are asked for once it rests."""
        view = self.current
        if isinstance(view, RoundsView) and view.wants_spread is not None:
            self._app.work_anew("spread", self._ask_spread, view)
        if isinstance(view, TopologyView) and view.wants_neighbors is not None:
            self._app.work_anew("neighbors", self._ask_neighbors, view)

    async def _ask_spread(self, view: RoundsView) -> None:
        """Ask how the nodes of the selected round did, once the cursor rests."""
        await asyncio.sleep(REST)
        result = view.wants_spread
        if result is None:
            return
        try:
            told = await self._app.connection.command("spread", {"number": result.number})
            spread = Spread.from_wire(told.get("spread") or {})
            if not spread.measures and not spread.failed:
                spread = Spread(why=plain(told.get("text") or ""))
        except (RedError, KeyError, TypeError, ValueError):
            spread = Spread()
        view.take_spread(result, spread)
        if self._app.controller is not None:
            self._app.controller.looked()

    async def _ask_neighbors(self, view: TopologyView) -> None:
        await asyncio.sleep(REST)
        node_id = view.wants_neighbors
        if node_id is None:
            return
        try:
            told = await self._app.connection.command("graph", {"node": node_id})
        except RedError:
            return
        view.take_neighbors(node_id, list(map(str, told.get("neighbors") or ())), int(told.get("count") or 0))

    def follow_traffic(self) -> None:
        """Read what nodes sent and received, once and then again while a session runs and is looked at."""
        view = self.current
        if isinstance(view, TopologyView) and self._app.mirror.session.started:
            self._app.work_anew("traffic", self._follow_traffic, view)

    async def _follow_traffic(self, view: TopologyView) -> None:
        app = self._app
        while self.current is view:
            if app.connection.phase is ConnectionPhase.LIVE:
                try:
                    told = await app.connection.command("traffic", {})
                except RedError:
                    return
                view.traffic.take(told.get("nodes") or {}, told.get("totals") or {}, app.clock())
                if not app.mirror.session.running:
                    view.traffic.rest()
                view.draw()
            if not app.mirror.session.running:
                return
            await app.connection.pause(TRAFFIC_PERIOD)
