from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.content import Content
from textual.pilot import Pilot

from red_tui.console.app import RedConsole
from red_tui.console.config.options import ConsoleOptions, Preferences
from tests.console.fake_link import DETAIL, FakeFederation, FakeLink, busy_federation, spread_like

Pilots = Pilot[Any]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.delenv("NO_COLOR", raising=False)


async def until(pilot: Pilots, condition: Callable[[], Any]) -> None:
    """Let the app work until a condition holds."""
    async with asyncio.timeout(240):
        while not condition():
            await pilot.pause()
            await asyncio.sleep(0.005)
    await pilot.pause()


class Clock:
    """Monotonic seconds that go by when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def short_pause(seconds: float) -> None:
    await asyncio.sleep(0.02)


def console(
    federation: FakeFederation | None = None,
    link: FakeLink | None = None,
    clock: Clock | None = None,
    preferences: Preferences | None = None,
    **options: Any,
) -> tuple[RedConsole, FakeLink]:
    """An app with a fake link, not yet running."""
    link = link or FakeLink(federation or busy_federation())
    link.answers.setdefault("detail", DETAIL)
    link.answers.setdefault("spread", {"text": "", "spread": spread_like()})
    chosen = ConsoleOptions(**{"ascii": False, "remember": False, "home": "/nonexistent/red", **options})
    return RedConsole(chosen, link, clock or Clock(), short_pause, preferences), link


@asynccontextmanager
async def running(
    federation: FakeFederation | None = None,
    size: tuple[int, int] = (120, 36),
    mistakes: int = 0,
    **keywords: Any,
) -> AsyncIterator[tuple[RedConsole, FakeLink, Pilots]]:
    """A console that shows the federation, and makes as many mistakes as are expected: it would go on after them."""
    app, link = console(federation, **keywords)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.grid is not None and app.grid.arrangement is not None)
        await until(pilot, lambda: app.controller is not None and app.controller.views.current.size.height)
        yield app, link, pilot
    assert len(app.mistakes) == mistakes, app.mistakes


def title_of(widget: Any) -> str:
    """What stands in the upper line of a widget's frame."""
    return Content.from_markup(widget.border_title or "").plain


def subtitle_of(widget: Any) -> str:
    """What stands in the lower line of a widget's frame."""
    return Content.from_markup(widget.border_subtitle or "").plain
