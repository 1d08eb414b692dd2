"""What the parts of the console stand on: the app's data, its widgets and a few services, and nothing else of it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from red_tui.console.crash_guard import GuardedApp

if TYPE_CHECKING:
    from textual.screen import ModalScreen

    from red_tui.console.config.options import ConsoleOptions, Preferences
    from red_tui.console.config.themes import Glyphs
    from red_tui.console.connection.connection import ConsoleConnection
    from red_tui.console.connection.mirror import FederationMirror
    from red_tui.console.grid.grid import Grid
    from red_tui.console.input.actions import ActionMap, Situation
    from red_tui.console.screens.node_detail import DetailPanel
    from red_tui.console.widgets.events_panel import EventsPanel
    from red_tui.console.widgets.footer import FooterLine
    from red_tui.console.widgets.lists import Line
    from red_tui.console.widgets.notice import Notice


class SavedFilters(Protocol):
    """The filters that an operator has saved."""

    @property
    def filters(self) -> Mapping[str, str]:
        """Queries by name."""


class ControllerHost(Protocol):
    """What the parts of the console need of its controller."""

    @property
    def memory(self) -> SavedFilters:
        """What is remembered of earlier sessions of the console."""

    @property
    def current_id(self) -> str | None:
        """The node under the cursor of the shown view."""

    def looked(self) -> None:
        """Another line of a list is looked at."""

    def beside(self, width: int) -> tuple[str, list[Line]] | None:
        """What stands in the detail panel instead of a node: its title and its lines."""

    def open_command(self, text: str) -> None:
        """Open the command line with a text to complete."""


Controller = TypeVar("Controller", bound=ControllerHost, covariant=True)


class ConsoleHost(GuardedApp, Generic[Controller], inherit_bindings=False):
    """The app as its parts see it.

    Attributes:
        options: What the command line said.
        preferences: What the config file says.
        glyphs: One sign for each state of a node.
        clock: Monotonic seconds.
        connection: The way to the federation.
        actions: The actions and their keys.
        notice: What stands where the grid will be.
        detail: The node under the cursor.
        events: What happened, the newest last.
        footer: The last line.
        grid: The grid, once there is data.
        controller: The views and what acts on them, once there is data.
    """

    options: ConsoleOptions
    preferences: Preferences
    glyphs: Glyphs
    clock: Callable[[], float]
    pause: Callable[[float], Awaitable[None]]
    connection: ConsoleConnection
    actions: ActionMap
    notice: Notice
    detail: DetailPanel
    events: EventsPanel
    footer: FooterLine
    grid: Grid | None
    controller: Controller | None

    @property
    def mirror(self) -> FederationMirror:
        """The data; only to be asked for once there is some."""
        assert self.connection.mirror is not None
        return self.connection.mirror

    def say(self, text: str, level: str = "info") -> None:
        """A word in the last line; an error stays until the next key, others pass."""
        self.footer.say(text, level, passes=level != "error")

    async def ask(self, dialog: ModalScreen[Any]) -> Any:
        """Show a dialog and await its answer."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self.push_screen(dialog, answer.set_result)
        return await answer

    @abstractmethod
    def refresh_footer(self) -> None:
        """Show the keys that matter now."""

    @abstractmethod
    def situation(self) -> Situation:
        """What decides which actions are possible."""

    @abstractmethod
    def do(self, action_id: str, args: Mapping[str, Any]) -> None:
        """Do an action with arguments."""

    @abstractmethod
    def do_chosen(self, action_id: str | None) -> None:
        """Do what was chosen in a menu, if anything was."""
