"""Colours and signs keep the states apart, in every theme and without colour."""

from __future__ import annotations

import ast
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.color import Color

import red_tui.console
from red_tui.console.config.themes import ASCII, COUNT_ORDER, STATE_NAMES, UNICODE, Glyphs, themes
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.connection.link_process import LinkPushed
from red_tui.errors import NotConnected
from red_tui.nodes.states import STATES
from tests.console.conftest import console, running, until
from tests.console.fake_link import FakeLink
from tests.console.fake_replay import FakeReplay
from tests.console.tour import drawn, federation_for_tour, told_all, tour


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio after WCAG 2.1."""

    def luminance(colour: Color) -> float:
        parts = [part / 255 for part in (colour.r, colour.g, colour.b)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_each_state_has_a_sign_of_its_own_one_cell_wide(glyphs: Glyphs) -> None:
    shown = [glyphs.of(name) for name in COUNT_ORDER]
    assert len(set(shown)) == 7
    assert all(cell_len(sign) == 1 for sign in (*shown, glyphs.bar_full, glyphs.bar_empty))
    assert all(sign.isascii() for sign in shown) is glyphs.ascii_only


def signs_in(source: Path) -> Iterator[str]:
    """Every sign beyond ASCII that a module's texts hold."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (sign for sign in node.value if not sign.isascii())


@pytest.mark.parametrize(
    "source", sorted(Path(red_tui.console.__file__).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_every_sign_that_the_console_knows_is_one_cell_wide(source: Path) -> None:
    wide = [sign for sign in signs_in(source) if cell_len(sign) != 1 or unicodedata.east_asian_width(sign) in "WF"]
    assert wide == []


def test_dots_of_plots_and_drawings_are_one_cell_wide() -> None:
    assert {cell_len(chr(code)) for code in range(0x2800, 0x2900)} == {1}


async def test_with_ascii_every_screen_is_ascii() -> None:
    link = told_all(FakeLink(federation_for_tour()))
    async with running(link=link, ascii=True) as (app, link, pilot):
        async for place in tour(app, link, pilot):
            odd = [strip.text for strip in drawn(app) if not strip.text.isascii()]
            assert odd == [], place


async def test_with_ascii_a_replay_is_ascii() -> None:
    async with running(FakeReplay(), replay="journal.db", read_only=True, ascii=True) as (app, _, pilot):
        assert [strip.text for strip in drawn(app) if not strip.text.isascii()] == []
        await pilot.press("question_mark")
        await until(pilot, lambda: len(app.screen_stack) > 1 and app.screen.body.text)
        assert [strip.text for strip in drawn(app) if not strip.text.isascii()] == []


async def test_with_ascii_what_stands_there_before_the_data_is_ascii() -> None:
    app, link = console(ascii=True)
    link.open_answer = NotConnected("10.0.0.9:6379 did not answer within 10 s", address="10.0.0.9:6379")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)
        app.on_link_pushed(LinkPushed({"push": "step", "key": "ray", "text": "loading Ray", "state": "done"}))
        await pilot.pause()
        assert "loading Ray" in app.notice.text and "10.0.0.9" in app.notice.text
        assert [strip.text for strip in drawn(app) if not strip.text.isascii()] == []


def test_the_names_are_the_tables() -> None:
    assert tuple(str(state) for state in STATES) == STATE_NAMES


def test_no_two_states_share_a_colour_in_our_themes() -> None:
    for theme in themes():
        colours = [theme.variables[f"red-{name}"] for name in COUNT_ORDER]
        assert len(set(colours)) == len(colours)


@pytest.mark.parametrize(("share", "full"), [(0, 0), (0.001, 1), (0.5, 3), (0.999, 5), (1, 6), (7, 6)])
def test_a_bar_is_empty_or_full_only_when_it_is(share: float, full: int) -> None:
    filled, empty = UNICODE.bar(share, 6)
    assert (len(filled), len(empty)) == (full, 6 - full)


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (40, 12), (20, 8), (200, 50)])
async def test_no_size_breaks_it(size: tuple[int, int]) -> None:
    async with running(size=(120, 36)) as (app, _, pilot):
        await pilot.resize_terminal(*size)
        await pilot.press("down", "z", "z", "z", "g", "slash", "x", "escape", "2", "6", "1", "x", "escape")
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        assert all(strip.cell_length == size[0] for strip in strips)


@pytest.mark.parametrize("width", [50, 60, 80])
async def test_the_footer_fits_and_always_names_help_and_leave(width: int) -> None:
    async with running(size=(width, 24)) as (app, _, _pilot):
        text = app.footer.render().plain
        assert len(text) <= width and "? help" in text and "q leave" in text
