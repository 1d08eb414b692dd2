"""The views once there is data: which one is shown, what it is filtered by, and what actions do there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from red_tui.console import replay_moves as replaying
from red_tui.console.config.session_state import ConsoleMemory
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.crash_guard import later
from red_tui.console.dialogs.dialogs import filters_screen, help_screen, line_screen, palette_screen
from red_tui.console.grid.arrangement import GROUPINGS
from red_tui.console.grid.canvas import ZOOMS
from red_tui.console.grid.grid import Grid
from red_tui.console.input.actions import MOVES, REPLAY, SHOWN, Situation
from red_tui.console.input.typing_line import TypingLine
from red_tui.console.operations import Chosen, Operations
from red_tui.console.screens.events_screen import EventsView
from red_tui.console.screens.nodes_screen import NodesView
from red_tui.console.screens.placement_screen import PlacementView
from red_tui.console.screens.rounds_screen import RoundsView
from red_tui.console.screens.topology_screen import FORMS, TopologyView
from red_tui.console.text import duration, number, plural
from red_tui.console.views import Inspector, Views
from red_tui.console.widgets.node_list import NodeList
from red_tui.errors import CommandRefused, RedError
from red_tui.nodes.states import BUILDABLE, STATES, NodeState
from red_tui.protocol.figures import measured

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes, FederationMirror
    from red_tui.console.console_host import ConsoleHost, ControllerHost
    from red_tui.console.widgets.lists import Line
    from red_tui.protocol.snapshot import RoundSummary


Word = tuple[str, str]
"""A text and its level."""


class RunEnd:
    """Notices the end of a run from one update to the next."""

    def __init__(self) -> None:
        self._first: int | None = None

    def follow(self, mirror: FederationMirror) -> Word | None:
        """What is to be said after an update, if a run ended with it."""
        if mirror.round.running:
            self._first = mirror.round.first or self._first or mirror.round.number
            return None
        last = mirror.rounds[-1] if mirror.rounds else None
        if self._first is None or last is None or last.number < mirror.round.number:
            return None  # nothing ran, or its last round is not told yet
        first, self._first = self._first, None
        return _told(last, first) if last.number >= first else None


def _told(last: RoundSummary, first: int) -> Word:
    which = f"round {last.number} is over" if last.number == first else f"rounds {first} to {last.number} are over"
    if last.state == "failed":
        return f"{which}; round {last.number} failed: {last.error or 'too few results'}", "error"
    measures = [f"{name} {number(value)}" for name, value in measured(last.loss, last.metrics, last.train_loss)[:3]]
    failed = f", {last.failed:,} failed" if last.failed else ""
    told = f"{plural(last.participants, 'node')}{failed}, {duration(last.seconds)}"
    return f"{which}: {'  '.join([*measures, told])}", "warn" if failed else "good"


SETTLE = 0.25
_REMEMBERED = frozenset({"group", "zoom", "sort", "columns", "filter", "escape"})
_DOWN = frozenset({"down", "page_down", "end"})


class ConsoleController:
    """What an operator works at.

    Args:
        app: The app whose widgets it fills.
    """

    def __init__(self, app: ConsoleHost[ControllerHost]) -> None:
        self._app = app
        self.operations = Operations(app, self)
        self.grid = Grid(app.mirror, app.glyphs, id="grid", classes="panel")
        app.notice.remove_class("current")
        self.views = Views(app, self.grid)
        self.query = ""
        self.memory = ConsoleMemory(app)
        self.memory.restore(self)
        self.inspector = Inspector(app)
        self.typing = TypingLine(app, self)
        self._run_end = RunEnd()

    # -- data ------------------------------------------------------------------------------------

    def apply(self, changes: Changes) -> None:
        """Show what changed."""
        mirror = self._app.mirror
        self.grid.apply(changes)
        if changes.events or changes.full or changes.history:
            self._app.events.update(mirror)
        self.views.apply(changes)
        self._tell_end_of_run()
        self.inspector.data_changed(self.current_id)

    def _tell_end_of_run(self) -> None:
        word = None if self._app.actions.replay else self._run_end.follow(self._app.mirror)
        if word is not None and not self.typing.open and not self._app.footer.is_error:
            self._app.say(*word)

    def situation(self) -> Situation:
        """What decides which actions are possible."""
        mirror, marks = self._app.mirror, self.grid.marks
        targets: dict[str, int] = {}
        if marks.count:
            targets = {str(state): int(marks.tally[state.code]) for state in STATES if marks.tally[state.code]}
        else:
            row = None if self.current_id is None else mirror.table.row_of(self.current_id)
            if row is not None:
                targets = {str(mirror.table.state_of(row)): 1}
        return Situation(
            phase=self._app.connection.phase,
            view=self.view,
            targets=targets,
            counts={
                **{str(state): count for state, count in mirror.node_counts.items()},
                "failed": mirror.counts[NodeState.FAILED],  # a server that failed can be rebuilt too
            },
            running=mirror.round.running,
            session=mirror.session.running,
            filtered=bool(self.query) or (self.view == "events" and bool(self.views.current.words)),
            marks=marks.count,
            message=bool(self._app.footer.message),
        )

    @property
    def view(self) -> str:
        """Name of the view that is shown."""
        return self.views.name

    @property
    def current_id(self) -> str | None:
        """The node under the cursor of the shown view."""
        return self.views.current_id

    def beside(self, width: int) -> tuple[str, list[Line]] | None:
        """What stands in the detail panel instead of a node: its title and its lines."""
        return self.views.beside(width)

    def looked(self) -> None:
        """Another line of a list is looked at."""
        self.views.looked()
        self.inspector.moved(self.current_id)

    def targets(self) -> Chosen:
        """The marks, else the node under the cursor."""
        rows = self.grid.marks.rows()
        if not len(rows) and self.current_id is not None:
            row = self._app.mirror.table.row_of(self.current_id)
            rows = np.array([] if row is None else [row], dtype=np.int64)
        return Chosen(rows, self.grid.shown)

    async def settled(self, ids: Sequence[str], pause: float) -> None:
        """Return when none of the nodes is on its way to a process, and a pause is over."""
        mirror, session = self._app.mirror, self._app.connection
        codes = [NodeState.PENDING.code, NodeState.STARTING.code]
        begun, table, rows = False, None, np.empty(0, dtype=np.int64)
        while True:
            await asyncio.sleep(SETTLE)
            if table is not mirror.table:
                table = mirror.table
                rows = np.array([row for row in map(table.row_of, ids) if row is not None], dtype=np.int64)
            states = table.column("state")[rows]
            begun = begun or not bool(np.isin(states, [state.code for state in BUILDABLE]).all())
            if begun and session.phase is ConnectionPhase.LIVE and not bool(np.isin(states, codes).any()):
                break
        await asyncio.sleep(pause)

    def marked_rows(self) -> Any:
        """Rows of the marked nodes."""
        return self.grid.marks.rows()

    def open_command(self, text: str) -> None:
        """Open the command line with a text to complete."""
        self.typing.open_command(text)

    # -- actions ---------------------------------------------------------------------------------

    def do(self, action_id: str, args: Mapping[str, Any]) -> None:
        """Do an action."""
        if action_id in MOVES:
            self.views.current.move(action_id)
            if self.view != "grid":
                self.looked()
                if action_id in _DOWN:
                    self.views.load_older()
            self._app.refresh_footer()
        elif action_id.startswith("view_"):
            self.show_view(action_id.removeprefix("view_"))
        elif action_id in REPLAY:
            replaying.move(self._app, action_id, args)
        elif action_id in SHOWN:
            self.inspector.show(action_id)
        elif hasattr(self.operations, f"do_{action_id}"):
            self._app.run_worker(later(self.operations.run, action_id, args), name=action_id, group="operations")
        else:
            try:
                getattr(self, f"do_{action_id}")(**args)
            except RedError as error:
                self._app.say(error.message, "error")
            self._app.refresh_footer()
        if action_id in _REMEMBERED or action_id.startswith("view_"):
            self.memory.keep(self)

    def show_view(self, name: str) -> None:
        """Show another view; it is made when it is first wanted."""
        self.views.show(name)
        self.looked()
        self._app.refresh_footer()

    def do_mark(self) -> None:
        """Mark or unmark."""
        self._follow_cursor()
        self.grid.toggle_mark()
        self.views.marked()

    def do_mark_range(self) -> None:
        """Mark a range."""
        self._follow_cursor()
        self.grid.mark_range()
        self.views.marked()

    def do_mark_shown(self) -> None:
        """Mark all that the filter shows."""
        self.grid.mark_shown()
        self.views.marked()

    def do_group(self, value: str | None = None) -> None:
        """Group the grid."""
        following = GROUPINGS[(GROUPINGS.index(self.grid.grouping) + 1) % len(GROUPINGS)]
        self.grid.set_grouping(value or following)
        self._app.say(f"grouped by {self.grid.grouping}")

    def do_zoom(self, value: str | None = None) -> None:
        """Zoom the grid; the topology is drawn or listed."""
        if (value is None and isinstance(self.views.current, TopologyView)) or value in FORMS:
            if self.view != "topology":
                self.show_view("topology")
            self._app.say(self.views.current.switch(value if value in FORMS else None))
            return
        self.grid.set_zoom(value or ZOOMS[(ZOOMS.index(self.grid.zoom) + 1) % len(ZOOMS)])
        self._app.say(f"zoom: {self.grid.zoom}")

    def do_pause(self) -> None:
        """Pause or follow."""
        paused = self._app.events.toggle_pause(self._app.mirror)
        events = self.views.get("events") if self.view == "events" else None
        if events is not None:
            events.pause(paused)
        self._app.say("events paused; p goes on" if paused else "following events")

    def do_sort(self, value: str | None = None, reverse: bool = False) -> None:
        """Sort the list of nodes; in the rounds, plot other measures."""
        view = self.views.current
        if isinstance(view, RoundsView):
            self._app.say(f"plots begin with {view.next_series()}")
            return
        if not isinstance(view, NodesView):
            self.show_view("nodes")
            view = self.views.current
        if value is None:
            view.next_sort()
        else:
            view.sort_by(value, reverse)
        self._app.say(f"sorted by {view.sort}")

    def do_columns(self, names: Sequence[str] = ()) -> None:
        """Choose the columns of the list of nodes."""
        view = self.views.get("nodes")
        if names:
            view.show_columns(names)
            self.show_view("nodes")
        else:
            self.open_command(f"columns {' '.join(view.columns)} ")

    def do_copy(self) -> None:
        """Copy the targets' ids; in a list of something else, what it tells of its selected line."""
        from red_tui.console.export import copy_text

        view = self.views.listed
        if view is not None and not isinstance(view, NodeList):
            text = view.copied()
            self._app.say(f"{copy_text(self._app, text)}: {view.what_is_selected}" if text else "nothing to copy")
            return
        ids = self._app.mirror.table.ids.take(self.targets().rows)
        self._app.say(f"{copy_text(self._app, chr(10).join(ids))}: {len(ids):,} ids" if ids else "nothing to copy")

    def do_save(self) -> None:
        """Save the screen."""
        from red_tui.console.export import save_screen

        self._app.say(save_screen(self._app))

    def do_theme(self, value: str | None = None) -> None:
        """Another theme."""
        if self._app.no_color:
            self._app.say("NO_COLOR is set: no theme shows its colours", "warn")
            return
        names = sorted(self._app.available_themes)
        if value is None:
            value = names[(names.index(self._app.theme) + 1) % len(names)]
        if value not in names:
            self._app.say(f"there is no theme {value!r}; there are {', '.join(names)}", "error")
            return
        self._app.theme = value

    def do_escape(self) -> None:
        """Leave the innermost thing: filter, marks, view."""
        events = self.views.current
        if isinstance(events, EventsView) and events.words:
            events.filter("")
        elif self.query:
            self.set_filter("")
        elif self.grid.marks.count:
            self.grid.clear_marks()
            self.views.marked()
        elif self.view != "grid":
            self.show_view("grid")

    def do_help(self) -> None:
        """The help screen."""
        self._app.push_screen(help_screen(self._app))

    def do_palette(self) -> None:
        """The palette."""
        self._app.push_screen(palette_screen(self._app), self._app.do_chosen)

    def do_detail(self) -> None:
        """The node's detail as a screen; in a list, the whole of its line; in the placement, a bundle's nodes."""
        view = self.views.listed
        if isinstance(view, PlacementView):
            if view.nodes_query:
                self.set_filter(view.nodes_query)
                self.show_view("nodes")
        elif view is not None and not isinstance(view, NodeList):
            self._app.push_screen(line_screen(view))
        elif self.current_id is not None:
            self.inspector.open(self.current_id)

    def do_why(self, node: str | None = None) -> None:
        """Why a node is as it is, else the one under the cursor."""
        node = node or self.current_id
        if node is None or self._app.mirror.table.row_of(node) is None:
            raise CommandRefused(f"there is no node {node!r}" if node else "no node is under the cursor")
        self.inspector.explain(node)

    def do_filter(self, query: str | None = None) -> None:
        """Type a filter, or set it."""
        if query is None:
            if self.view == "events":
                self.typing.open_events(self.views.current.words)
            else:
                self.typing.open_filter(self.query)
        else:
            self.set_filter(query)

    def do_filters(self) -> None:
        """Choose a saved filter."""
        self._app.push_screen(filters_screen(self._app), self._chose_filter)

    def _chose_filter(self, query: str | None) -> None:
        if query is not None:
            self.do("filter", {"query": query})

    def do_keep(self, name: str) -> None:
        """Save the present filter."""
        self.memory.keep_filter(name, self.query)
        self._app.say(f"kept as @{name}: {self.query}")

    def do_forget(self, name: str) -> None:
        """Forget a saved filter."""
        self.memory.forget_filter(name)
        self._app.say(f"@{name} is forgotten")

    def do_command(self) -> None:
        """Type a command."""
        self.typing.open_command("")

    # -- filter ----------------------------------------------------------------------------------

    def set_filter(self, query: str) -> None:
        """Show only what a query matches; an empty one shows all.

        Raises:
            SelectionError: If it cannot be read; the filter stays as it was.
        """
        from red_tui.selection import parse

        query = self.memory.resolve(query)
        parsed = parse(query) if query else None
        self.query = query
        self.grid.filter(parsed)
        self._app.refresh_footer()

    def arranged(self) -> None:
        """The grid shows what was asked for: so does the list."""
        self.typing.arranged()
        self.views.filtered()
        self.inspector.data_changed(self.current_id)  # the filter may have moved the cursor of a list
        self._app.refresh_footer()

    def _follow_cursor(self) -> None:
        """Marks are the grid's: bring its cursor to the list's node first."""
        view = self.views.current
        row = None if self.current_id is None else self._app.mirror.table.row_of(self.current_id)
        if isinstance(view, NodeList) and row is not None:
            self.grid.go_to(row)
