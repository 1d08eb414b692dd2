"""Asks the link for the node under the cursor, not sooner than the cursor rests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textual.timer import Timer

from red_tui.console.connection.traffic import Traffic
from red_tui.console.dialogs.dialogs import Reader
from red_tui.console.input.actions import key_name
from red_tui.console.screens.node_detail import summary, whole
from red_tui.console.text import plain, plain_lines
from red_tui.console.widgets.lists import Line, wrap
from red_tui.errors import RedError

if TYPE_CHECKING:
    from red_tui.console.console_host import ConsoleHost, ControllerHost

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
            self._timer = self._app.set_timer(DELAY, self._fetch_soon)

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
        self._fetch_soon()

    def explain(self, node_id: str) -> None:
        """Ask the federation why the node is as it is, and show its answer over the console."""
        self._app.work_anew("explain", self._explain, node_id)

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _panel_shown(self) -> bool:
        return self._app.detail.display and self._app.has_class("wide")

    async def _explain(self, node_id: str) -> None:
        try:
            told = await self._app.connection.command("explain", {"id": node_id})
        except RedError as error:
            self._app.say(error.message.split("\n")[0], "error")
            return
        rows = plain_lines(told.get("table") or told.get("text") or "nothing is known")

        def lines(width: int) -> list[Line]:
            inner = [(" " * (len(row) - len(row.lstrip())), row.strip()) for row in rows]
            return [((margin + part, "text"),) for margin, row in inner for part in wrap(row, width - len(margin))]

        self._app.push_screen(Reader(f"why: {plain(node_id)}", lines, "j k scroll, y copies, esc closes"))

    def _closed(self, answer: None) -> None:
        self._reader, self._read, self._read_told = None, None, None

    def _fetch_soon(self) -> None:
        self._app.work_anew("detail", self._fetch)

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
                self._fetch_soon()

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
