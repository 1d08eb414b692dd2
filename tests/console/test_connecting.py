"""From the first frame to data, and what stands there when there is none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from red_tui.console.config.options import ConsoleOptions
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.connection.link_process import LinkLost, LinkPushed
from red_tui.console.dialogs.dialogs import ChooseFrom
from red_tui.console.export import screen_text
from red_tui.console.run import run
from red_tui.errors import LayoutError, NotConnected
from red_tui.nodes.states import NodeState
from tests.console.conftest import Clock, console, running, until
from tests.console.fake_link import FakeFederation, FakeLink, busy_federation


async def test_the_first_frame_is_out_before_the_link_starts() -> None:
    app, link = console()
    frames: list[str] = []
    real = link.start

    def start(sink: Any) -> None:
        frames.append(app.notice.text)
        assert app.is_running and app.header.region.height == 1 and app.footer.region.y == 35
        real(sink)

    link.start = start  # type: ignore[method-assign]
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.grid is not None)
    assert "connecting" in frames[0]


def test_the_first_frame_needs_neither_numpy_nor_ray() -> None:
    code = (
        "import sys\n"
        "from red_tui.console.app import RedConsole\n"
        "from red_tui.console.config.options import ConsoleOptions\n"
        "class Probe(RedConsole):\n"
        "    def begin(self):\n"
        "        print([name for name in ('ray', 'numpy', 'msgpack', 'pydantic') if name in sys.modules])\n"
        "        self.exit(0)\n"
        "Probe(ConsoleOptions(ascii=False, home='/nonexistent')).run(headless=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout.strip() == "[]"


def test_the_whole_console_imports_no_ray_and_no_engine() -> None:
    code = (
        "import pkgutil, importlib, sys, red_tui.console\n"
        "for found in pkgutil.iter_modules(red_tui.console.__path__):\n"
        "    importlib.import_module(f'red_tui.console.{found.name}')\n"
        "forbidden = ('ray', 'red_tui.federation', 'red_tui.supervisor', 'red_tui.rounds', 'red_tui.placement')\n"
        "print([name for name in forbidden if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout.strip() == "[]"


async def test_steps_are_shown_with_their_times() -> None:
    link = FakeLink(busy_federation())
    waiting = asyncio.get_running_loop().create_future()
    link.open_answer = waiting
    app, _ = console(link=link)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: link.opens)
        for state, seconds in (("running", 4.0), ("done", 6.5)):
            push = {"push": "step", "key": "ray", "text": "starting a local Ray", "state": state, "seconds": seconds}
            link.sink(LinkPushed(push))
            await pilot.pause()
        link.sink(
            LinkPushed({"push": "step", "key": "l", "text": "layout \x1b[31m", "state": "running", "seconds": 2.0})
        )
        await pilot.pause()
        assert "● starting a local Ray  6 s" in app.notice.text
        assert "◍ layout �[31m  2 s" in app.notice.text
        app.notice.advance(1.0)
        assert "3 s" in app.notice.text
        waiting.cancel()


async def test_a_layout_error_says_where_and_what_is_allowed_and_r_tries_again() -> None:
    link = FakeLink(busy_federation())
    link.open_answer = LayoutError(
        "unknown key 'nods'", file="a.yaml", line=3, column=1, field="nods", allowed=["nodes", "rounds"]
    )
    app, _ = console(link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)
        text = app.notice.text
        assert "a.yaml:3:1" in text and "nodes, rounds" in text and "unknown key 'nods'" in text
        assert "r retry" in app.footer.render().plain
        link.open_answer = {"federation": "digits", "address": "x", "embedded": False, "created": True}
        await pilot.press("r")
        await until(pilot, lambda: app.grid is not None)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("folder", ["", "/tmp/" + "deeply/nested/" * 12, "/" + "x" * 200 + "/"])
@pytest.mark.parametrize("use_ascii", [False, True])
async def test_the_place_in_a_layout_is_readable_however_long_its_path(
    folder: str, columns: int, use_ascii: bool
) -> None:
    link = FakeLink(busy_federation())
    file = f"{folder}bad.yaml"
    message = f"{file}:5:22: nodes[0].role: 'trian' is no role; did you mean train?"
    allowed = ["train", "eval", "test", *(f"role_{number}" for number in range(20))]
    link.open_answer = LayoutError(message, file=file, line=5, column=22, field="nodes[0].role", allowed=allowed)
    app, _ = console(link=link, ascii=use_ascii)
    async with app.run_test(size=(columns, 24)) as pilot:
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)
        rows = [row.strip(" │|") for row in screen_text(app).split("\n")]
        assert any(row.startswith("bad.yaml:5:22: nodes[0].role: 'trian' is no role;") for row in rows), rows
        (at,) = [row for row in rows if row.startswith("at ")]
        assert at.endswith("bad.yaml:5:22") and len(at) <= columns - 4
        if folder:
            assert at.endswith("/bad.yaml:5:22") or "x" * 40 in at
        assert any(row.endswith("role_19") for row in rows), rows


async def test_no_cluster_leaves_a_way_out() -> None:
    link = FakeLink(busy_federation())
    link.open_answer = NotConnected("10.0.0.9:6379 did not answer within 10 s", address="10.0.0.9:6379")
    app, _ = console(link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)
        assert "within 10 s" in app.notice.text
        await pilot.press("question_mark", "escape", "q")
        await until(pilot, lambda: app._exit)
        assert not link.leaves


async def test_a_link_that_dies_while_connecting_is_told_and_followed_by_another() -> None:
    link = FakeLink(busy_federation())
    link.open_answer = asyncio.get_running_loop().create_future()
    app, _ = console(link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: link.opens)
        link.open_answer.set_exception(LinkLost("the link ended before it answered"))
        link.open_answer = {"federation": "digits", "address": "x", "embedded": False, "created": True}
        link.die("the link ended with code 1: ImportError")
        await until(pilot, lambda: "ImportError" in app.notice.text)
        link.rise()
        await until(pilot, lambda: app.grid is not None)


async def test_the_picker_lists_federations_and_layouts() -> None:
    link = FakeLink(busy_federation())
    opened = {"federation": "digits", "address": "x", "embedded": False, "created": False}
    choices = {
        "federations": [{"id": "digits", "state": "running", "age_s": 7200, "nodes": 50, "round": 14, "orphan": False},
                        {"id": "old", "state": "", "age_s": 90000, "nodes": 5, "round": 1, "orphan": True}],
        "layouts": [{"path": "/x/layouts/mesh.yaml", "title": "A mesh of five"}],
    }  # fmt: skip
    link.open_answer = [{"choose": choices}, opened]
    app, _ = console(link=link)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChooseFrom))
        assert isinstance(app.screen, ChooseFrom)
        text = app.screen.body.text
        assert "2 h old" in text and "orphan" in text and "A mesh of five" in text
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: app.grid is not None)
        assert link.opens[1]["layout"] == "/x/layouts/mesh.yaml"


async def test_a_lost_cluster_greys_the_grid_keeps_the_data_and_says_when_it_is_back() -> None:
    clock = Clock()
    async with running(clock=clock) as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        link.watch_error = NotConnected("the supervisor does not answer")
        link.changed()
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.LOST)
        clock.now += 75
        app.each_second()
        await pilot.pause()
        assert grid.stale and "75 s" in app.banner.text and "does not answer" in app.banner.text
        assert "75 s ago" in app.header.render().plain
        assert grid.arrangement is not None and grid.arrangement.total == 104
        await pilot.press("w")
        assert "does not answer" in app.footer.message and not link.told("wave")
        link.federation.set("client_000", NodeState.BUSY)
        link.watch_error = None
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.LIVE)
        await until(pilot, lambda: not grid.stale)
        assert not app.banner.display and app.footer.message == "the cluster is back"
        assert "ago" not in app.header.render().plain


async def test_a_link_that_dies_leaves_the_data_on_the_screen() -> None:
    async with running() as (app, link, pilot):
        assert app.grid is not None
        link.die()
        await until(pilot, lambda: app.grid is not None and app.grid.stale)
        await pilot.press("j", "l")
        link.rise()
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.LIVE)


async def test_a_standing_warning_is_shown_until_it_is_cleared() -> None:
    federation = busy_federation()
    federation.note = "the journal cannot be written: disk full"
    async with running(federation) as (app, link, pilot):
        assert app.banner.display and "disk full" in app.banner.text
        federation.note = ""
        link.changed()
        await until(pilot, lambda: not app.banner.display)


async def test_hostile_names_reach_the_terminal_as_plain_text() -> None:
    federation = FakeFederation()
    federation.event("[red]x[/]", "\x1b]0;owned\x07 \u202eabc [bold]b[/bold]")
    federation.bundles[0]["host"] = "\x1b[31mhost[/]"
    federation.note = "[link=x]note[/link]\x1b"
    async with running(federation, size=(120, 40)) as (app, _, _pilot):
        text = screen_text(app)
        assert "[bold]b[/bold]" in text and "[red]x[/]" in text and "[link=x]note" in text
        assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text


def test_without_a_terminal_it_says_what_to_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ConsoleOptions()) == 2
    assert "red-console run" in capsys.readouterr().err
