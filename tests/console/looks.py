"""What a screen looks like, beside what it looked like: as a picture at one size, as text at the others.

A picture holds colours and places; a text holds every sign, at a tenth of the size.  `pytest --snapshot-update` takes
both anew, and the new ones are to be looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pytest_textual_snapshot import SVGImageExtension
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from red_tui.console.export import screen_text

Before = Callable[[Any], Awaitable[None]]
"""Brings an app to a state."""

PICTURED = (80, 24)
"""The size at which a screen that is looked at in several is taken as a picture."""


class Text(SingleFileSnapshotExtension):
    """The signs of a screen, a line a row."""

    _file_extension = "txt"
    _write_mode = WriteMode.TEXT


def is_pictured(app: Any, size: tuple[int, int]) -> bool:
    """Whether a screen is taken as a picture: in the usual size, drawn with all signs."""
    return size == PICTURED and not app.glyphs.ascii_only


def looks_as_before(app: Any, snapshot: SnapshotAssertion, size: tuple[int, int], name: str) -> bool:
    """Whether the screen of an app that runs is as it was."""
    if is_pictured(app, size):
        return bool(app.export_screenshot(simplify=True) == snapshot.use_extension(SVGImageExtension)(name=name))
    return bool(screen_text(app) == snapshot.use_extension(Text)(name=name))


async def text_of(app: Any, size: tuple[int, int], before: Before) -> str:
    """The signs of an app's screen, once it is in a state."""
    async with app.run_test(size=size) as pilot:
        await before(pilot)
        await pilot.wait_for_scheduled_animations()
        await pilot.pause()
        return screen_text(app)
