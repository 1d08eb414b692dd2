"""A mistake in the console's own code never ends it: it is told, written down, and all is drawn anew."""

from __future__ import annotations

import asyncio
import gc
import warnings
from pathlib import Path
from typing import Any

import pytest

from red_tui.console.connection.connection import ConsoleConnection
from red_tui.console.grid.arrangement import Arrangement
from red_tui.console.grid.grid import Grid
from red_tui.nodes.states import NodeState
from tests.console.conftest import running, until


def wrong(*args: Any, **keywords: Any) -> Any:
    raise IndexError("index 5 is out of bounds")


async def test_a_mistake_while_an_update_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with running(home=str(tmp_path), mistakes=1) as (app, link, pilot):
        assert app.grid is not None
        with monkeypatch.context() as broken:
            broken.setattr(Arrangement, "locate", wrong)
            link.federation.set("client_000", NodeState.RELEASED, bundle=-1)
            link.changed()
            await until(pilot, lambda: app.mistakes)
        assert "index 5 is out of bounds" in app.footer.message
        assert "console.errors" in app.footer.message
        assert "in wrong" in (tmp_path / "console.errors").read_text()
        link.federation.set("client_001", NodeState.RELEASED, bundle=-1)
        link.changed()
        await until(pilot, lambda: not app.to_draw_anew)
        assert app.grid.arrangement is not None
        assert app.grid.arrangement.tally.sum(axis=0)[NodeState.RELEASED.code] == 5


async def test_a_mistake_while_a_line_is_drawn_is_mended_without_another_update(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with running(home=str(tmp_path), mistakes=1) as (app, link, pilot):
        assert app.grid is not None
        with monkeypatch.context() as broken:
            broken.setattr(Grid, "draw_line", wrong)
            link.federation.set("client_000", NodeState.FAILED)
            link.changed()
            # Not `until`: the pilot would draw, and meet the mistake in place of the app.
            for _ in range(3000):
                if app.mistakes:
                    break
                await asyncio.sleep(0.01)
        assert app.mistakes
        await until(pilot, lambda: not app.to_draw_anew)
        await pilot.press("home", "down")
        assert app.grid.cursor_id is not None
        assert any("✗" in app.grid.render_line(y).text for y in range(app.grid.size.height))


async def test_a_mistake_that_comes_back_with_every_look_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with running(home=str(tmp_path), mistakes=1) as (app, link, pilot):
        with monkeypatch.context() as broken:
            broken.setattr(Grid, "apply", wrong)
            for state in (NodeState.BUSY, NodeState.READY, NodeState.BUSY):
                before = link.watches
                link.federation.set("client_000", state)
                link.changed()
                await until(pilot, lambda before=before: link.watches > before)  # type: ignore[misc]
        assert (tmp_path / "console.errors").read_text().count("Traceback") == 1
        await pilot.press("question_mark")
        assert len(app.screen_stack) == 2


async def test_a_mistake_in_a_key_leaves_the_keys_working(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with running(home=str(tmp_path), mistakes=1) as (app, _, pilot):
        assert app.grid is not None
        with monkeypatch.context() as broken:
            broken.setattr(Grid, "move", wrong)
            await pilot.press("down")
            await until(pilot, lambda: app.mistakes)
        await pilot.press("home")
        first = app.grid.cursor_id
        await pilot.press("end")
        assert app.grid.cursor_id != first


async def test_a_mistake_in_the_session_begins_it_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with running(home=str(tmp_path), mistakes=1) as (app, link, pilot):
        with monkeypatch.context() as broken:
            broken.setattr(ConsoleConnection, "apply_update", wrong)
            link.changed()
            await until(pilot, lambda: app.mistakes)
        link.federation.set("client_000", NodeState.FAILED)
        link.changed()
        await until(pilot, lambda: app.mirror.counts[NodeState.FAILED] == 3)


async def test_what_is_given_up_before_its_turn_leaves_no_coroutine_behind() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with running() as (app, link, pilot):
            assert app.controller is not None
            app.controller.show_view("topology")
            await until(pilot, lambda: link.told("graph"))
            for _ in range(3):  # each gives up the one before, which had no turn
                app.controller.views.ask_graph(again=True)
                app.controller.views.load_older()
                app.controller.inspector.fetch_soon()
                app.controller.inspector.explain("client_000")
            await until(pilot, lambda: link.told("explain"))
            app.controller.views.ask_graph(again=True)  # and this one the end of the app
            app.controller.inspector.fetch_soon()
            app.exit(0)
        gc.collect()
    assert [str(one.message) for one in told if "never awaited" in str(one.message)] == []
