"""Colours and signs keep the states apart, in every theme and without colour."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.color import Color

from red_tui.console.glyphs import ASCII, COUNT_ORDER, STATE_NAMES, UNICODE, Glyphs
from red_tui.console.themes import themes, variable_defaults
from red_tui.nodes.states import STATES
from tests.console.conftest import running

TEXTS = ("red-text", "red-dim", "red-bright", "red-ready", "red-busy", "red-failed", "red-pending", "red-starting")


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio after WCAG 2.1."""

    def luminance(colour: Color) -> float:
        parts = [part / 255 for part in (colour.r, colour.g, colour.b)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["red", "red-safe", "textual-dark", "textual-light", "nord", "gruvbox", "dracula"])
@pytest.mark.parametrize("variable", TEXTS)
async def test_text_is_readable_in_every_theme(name: str, variable: str) -> None:
    from red_tui.console.app import RedConsole
    from red_tui.console.options import ConsoleOptions

    app = RedConsole(ConsoleOptions(ascii=False, theme=name, home="/nonexistent"))
    theme = app.available_themes[name]
    variables = {**variable_defaults(theme), **theme.to_color_system().generate(), **theme.variables}
    assert contrast(Color.parse(variables[variable]), Color.parse(variables["background"])) >= 4.5


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_each_state_has_a_sign_of_its_own_one_cell_wide(glyphs: Glyphs) -> None:
    shown = [glyphs.of(name) for name in COUNT_ORDER]
    assert len(set(shown)) == 7
    assert all(cell_len(sign) == 1 for sign in (*shown, glyphs.bar_full, glyphs.bar_empty))
    assert all(sign.isascii() for sign in shown) is glyphs.ascii_only


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


@pytest.mark.parametrize("theme", [None, "ansi"])
async def test_no_color_is_not_black_on_black(monkeypatch: pytest.MonkeyPatch, theme: str | None) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(theme=theme, size=(80, 24)) as (app, _, pilot):
        await pilot.pause()
        for strip in app.screen._compositor.render_strips():
            for segment in strip.apply_filter(app._filters[0], app.background_colors[1]) if app._filters else strip:
                style = segment.style
                if segment.text.strip() and style is not None and style.color is not None and style.bgcolor is not None:
                    assert style.color != style.bgcolor


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (40, 12), (20, 8), (200, 50)])
async def test_no_size_breaks_it(size: tuple[int, int]) -> None:
    async with running(size=(120, 36)) as (app, _, pilot):
        await pilot.resize_terminal(*size)
        await pilot.press("down", "z", "z", "z", "g", "slash", "x", "escape", "2", "6", "1", "x", "escape")
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        assert all(strip.cell_length == size[0] for strip in strips)


async def test_the_footer_fits_eighty_columns_and_always_names_help_and_leave() -> None:
    async with running(size=(80, 24)) as (app, _, _pilot):
        text = app.footer.render().plain
        assert len(text) <= 80 and "? help" in text and "q leave" in text
