"""The views once there is data: which one is shown, what it is filtered by, and what actions do there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from textual.containers import Container

from red_tui.console.actions import MOVES, Situation
from red_tui.console.arrangement import GROUPINGS
from red_tui.console.canvas import ZOOMS
from red_tui.console.grid import Grid
from red_tui.console.inspector import Inspector
from red_tui.console.menus import event_screen, help_screen, palette_screen
from red_tui.console.nodes_view import NodesView
from red_tui.console.operations import Operations, Targets
from red_tui.console.typing_line import TypingLine
from red_tui.console.views import EventsView, ListView, PlacementView, RoundsView
from red_tui.errors import RedError
from red_tui.nodes.states import STATES

if TYPE_CHECKING:
    from red_tui.console.app import RedConsole
    from red_tui.console.mirror import Changes

OLDER = 200
_DOWN = frozenset({"down", "page_down", "end"})
_MAKERS = {"rounds": RoundsView, "placement": PlacementView, "events": EventsView, "nodes": NodesView}


class Desk:
    """What an operator works at.

    Args:
        app: The app whose widgets it fills.
    """

    def __init__(self, app: RedConsole) -> None:
        self._app = app
        self.operations = Operations(app)
        self.grid = Grid(app.mirror, app.glyphs, id="grid", classes="panel")
        self._views: dict[str, Any] = {"grid": self.grid}
        self._container = app.query_one("#views", Container)
        self._container.mount(self.grid)
        app.notice.remove_class("current")
        self.grid.add_class("current")
        self.view = "grid"
        self.query = ""
        self._mask: npt.NDArray[np.bool_] | None = None
        self.inspector = Inspector(app)
        self.typing = TypingLine(app, self)

    # -- data ------------------------------------------------------------------------------------

    def apply(self, changes: Changes) -> None:
        """Show what changed."""
        mirror = self._app.mirror
        if self.query and (changes.full or len(changes.rows)):
            self._mask = self._masked(self.query)
        self.grid.apply(changes, self._mask)
        if changes.events or changes.full:
            self._app.events.update(mirror)
        view = self._views[self.view]
        if isinstance(view, NodesView):
            view.filter(self._mask)
        if view is not self.grid:
            view.refresh_from(mirror, changes)
        self.inspector.data_changed(self.current_id)

    def situation(self) -> Situation:
        """What decides which actions are possible."""
        mirror = self._app.mirror
        table = mirror.table
        targets: dict[str, int] = {}
        marks = 0
        if len(self.grid.marks) == len(table):
            marked = np.flatnonzero(self.grid.marks)
            marks = len(marked)
            row = None if self.current_id is None else table.row_of(self.current_id)
            rows = marked if marks else np.array([] if row is None else [row], dtype=np.int64)
            tally = np.bincount(table.column("state")[rows], minlength=len(STATES))
            targets = {str(state): int(tally[state.code]) for state in STATES if tally[state.code]}
        return Situation(
            phase=self._app.session.phase,
            view=self.view,
            targets=targets,
            counts={str(state): count for state, count in table.counts().items()},
            running=mirror.round.running,
            filtered=bool(self.query),
            marks=marks,
            message=bool(self._app.footer.message),
        )

    @property
    def current_id(self) -> str | None:
        """The node under the cursor of the shown view."""
        view = self._views[self.view]
        return view.cursor_id if isinstance(view, NodesView) else self.grid.cursor_id

    def targets(self) -> Targets:
        """The marks, else the node under the cursor."""
        ids = tuple(self.grid.marked_ids()) or ((self.current_id,) if self.current_id is not None else ())
        if self._mask is None:
            return Targets(ids)
        table, mask = self._app.mirror.table, self._mask
        rows = ((node_id, table.row_of(node_id)) for node_id in ids)
        return Targets(ids, tuple(node_id for node_id, row in rows if row is not None and not mask[row]))

    # -- actions ---------------------------------------------------------------------------------

    def do(self, action_id: str, args: Mapping[str, Any]) -> None:
        """Do an action."""
        if action_id in MOVES:
            view = self._views[self.view]
            view.move(action_id)
            if isinstance(view, NodesView):
                self.inspector.moved(view.cursor_id)
            elif isinstance(view, EventsView) and view.at_end and not view.whole and action_id in _DOWN:
                self._app.run_worker(self._load_older(view), name="older", group="older", exclusive=True)
            self._app.refresh_footer()
        elif action_id.startswith("view_"):
            self.show_view(action_id.removeprefix("view_"))
        elif hasattr(self.operations, f"do_{action_id}"):
            self._app.run_worker(self.operations.run(action_id, args), name=action_id, group="operations")
        else:
            try:
                getattr(self, f"do_{action_id}")(**args)
            except RedError as error:
                self._app.say(error.message, "error")
            self._app.refresh_footer()

    def show_view(self, name: str) -> None:
        """Show another view; it is made when it is first wanted."""
        if name not in self._views:
            view = _MAKERS[name](self._app.glyphs, id=f"view-{name}", classes="panel")
            self._views[name] = view
            self._container.mount(view)
        for known, view in self._views.items():
            view.set_class(known == name, "current")
        self.view = name
        view = self._views[name]
        if isinstance(view, (ListView, NodesView)):
            if isinstance(view, NodesView):
                view.filter(self._mask)
                view.cursor_id = self.grid.cursor_id
            self._app.call_after_refresh(view.refresh_from, self._app.mirror)
        self._app.refresh_footer()

    def do_mark(self) -> None:
        """Mark or unmark."""
        self._follow_cursor()
        self.grid.toggle_mark()

    def do_mark_range(self) -> None:
        """Mark a range."""
        self._follow_cursor()
        self.grid.mark_range()

    def do_mark_shown(self) -> None:
        """Mark all that the filter shows."""
        self.grid.mark_shown()

    def do_group(self, value: str | None = None) -> None:
        """Group the grid."""
        following = GROUPINGS[(GROUPINGS.index(self.grid.grouping) + 1) % len(GROUPINGS)]
        self.grid.set_grouping(value or following)
        self._app.say(f"grouped by {self.grid.grouping}")

    def do_zoom(self, value: str | None = None) -> None:
        """Zoom the grid."""
        self.grid.set_zoom(value or ZOOMS[(ZOOMS.index(self.grid.zoom) + 1) % len(ZOOMS)])
        self._app.say(f"zoom: {self.grid.zoom}")

    def do_pause(self) -> None:
        """Pause or follow."""
        paused = self._app.events.toggle_pause(self._app.mirror)
        self._app.say("events paused; p goes on" if paused else "following events")

    def do_sort(self) -> None:
        """Sort the list."""
        view = self._views[self.view]
        if isinstance(view, NodesView):
            self._app.say(f"sorted by {view.next_sort()}")

    def do_copy(self) -> None:
        """Copy the targets' ids."""
        from red_tui.console.saving import copy_text

        ids = self.targets().ids
        self._app.say(f"{copy_text(self._app, chr(10).join(ids))}: {len(ids):,} ids" if ids else "nothing to copy")

    def do_save(self) -> None:
        """Save the screen."""
        from red_tui.console.saving import save_screen

        self._app.say(save_screen(self._app))

    def do_theme(self, value: str | None = None) -> None:
        """Another theme."""
        names = sorted(self._app.available_themes)
        if value is None:
            value = names[(names.index(self._app.theme) + 1) % len(names)]
        if value not in names:
            self._app.say(f"there is no theme {value!r}; there are {', '.join(names)}", "error")
            return
        self._app.theme = value

    def do_escape(self) -> None:
        """Leave the innermost thing: filter, marks, view."""
        if self.query:
            self.set_filter("")
        elif self.grid.marks.any():
            self.grid.clear_marks()
        elif self.view != "grid":
            self.show_view("grid")

    def do_help(self) -> None:
        """The help screen."""
        self._app.push_screen(help_screen(self._app))

    def do_palette(self) -> None:
        """The palette."""
        self._app.push_screen(palette_screen(self._app), self._app.do_chosen)

    def do_detail(self) -> None:
        """The node's detail as a screen; in the events view, the whole of an event."""
        view = self._views[self.view]
        if isinstance(view, EventsView):
            if view.current is not None:
                self._app.push_screen(event_screen(view.current, self._app.glyphs))
            return
        if self.current_id is not None:
            self.inspector.open(self.current_id)

    def do_filter(self, query: str | None = None) -> None:
        """Type a filter, or set it."""
        if query is None:
            self.typing.open_filter(self.query)
        else:
            self.set_filter(query)

    def do_command(self) -> None:
        """Type a command."""
        self.typing.open_command("")

    async def _load_older(self, view: EventsView) -> None:
        """Fetch what the journal holds from before the oldest event here."""
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

    # -- filter ----------------------------------------------------------------------------------

    def set_filter(self, query: str) -> None:
        """Show only what a query matches; an empty one shows all.

        Raises:
            SelectionError: If it cannot be read; the filter stays as it was.
        """
        mask = self._masked(query) if query else None
        self.query, self._mask = query, mask
        self.grid.asked = query
        self.grid.filter(mask)
        view = self._views[self.view]
        if isinstance(view, NodesView):
            view.filter(mask)
            view.refresh_from(self._app.mirror)
        self._app.refresh_footer()

    def _masked(self, query: str) -> npt.NDArray[np.bool_]:
        from red_tui.selection import parse

        return np.asarray(parse(query).mask(self._app.mirror.table))

    def _follow_cursor(self) -> None:
        """Marks are the grid's: bring its cursor to the list's node first."""
        view = self._views[self.view]
        row = None if self.current_id is None else self._app.mirror.table.row_of(self.current_id)
        if isinstance(view, NodesView) and row is not None:
            self.grid.go_to(row)
