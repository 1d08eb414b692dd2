"""All use of private parts of Textual: where a later version takes one away, this file is to be mended and no other.

`PRIVATE_PARTS` lists them; a test looks whether they are there and says which are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from textual.app import App
from textual.filter import LineFilter
from textual.geometry import Size
from textual.message import Message
from textual.message_pump import MessagePump
from textual.strip import Strip
from textual.widget import Widget

PRIVATE_PARTS = (
    ("textual.message_pump:MessagePump", "_dispatch_message"),
    ("textual.app:App", "_handle_exception"),
    ("textual.widget:Widget", "_scroll_update"),
    ("textual.screen:Screen", "_compositor"),
    ("textual.app:App", "_filters"),
    ("textual.app:App", "_driver"),
    ("textual.drivers.linux_driver:LinuxDriver", "_writer_thread"),
    ("textual.drivers._writer_thread:WriterThread", "_queue"),
)
"""Class and name of each private part of Textual that the console stands on."""


class DispatchHook(MessagePump):
    """Lets a class see what a message's handler raises, where Textual would stop to listen."""

    async def _dispatch_message(self, message: Message) -> None:
        try:
            await super()._dispatch_message(message)
        except Exception as error:
            report_error(self.app, error)


class ErrorHook(App[int]):
    """Lets an app decide what an error that nobody caught does."""

    def on_uncaught(self, error: Exception) -> None:
        """An error that nobody caught; as it is here, the app ends as Textual ends it."""
        super()._handle_exception(error)

    def _handle_exception(self, error: Exception) -> None:
        self.on_uncaught(error)


def report_error(app: App[Any], error: Exception) -> None:
    """Hand an error to the app as one that nobody caught."""
    app._handle_exception(error)


def update_scroll_bars(widget: Widget, extent: Size) -> None:
    """Tell the scroll bars of another virtual size, without a layout of the whole screen."""
    widget._scroll_update(extent)


def screen_strips(app: App[Any]) -> Sequence[Strip]:
    """The lines that the screen shows."""
    return app.screen._compositor.render_strips()


def replace_line_filters(app: App[Any], filters: Iterable[LineFilter]) -> None:
    """Draw all lines through these filters and no other."""
    app._filters = list(filters)


def unwritten_chunks(app: App[Any]) -> int:
    """How many pieces of output wait for a terminal that is slow to take them; 0 without a real terminal."""
    thread = getattr(app._driver, "_writer_thread", None)
    waiting = getattr(thread, "_queue", None)
    return 0 if waiting is None else int(waiting.qsize())
