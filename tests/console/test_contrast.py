"""Text can be read in every theme, on everything that it stands on, and nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
from rich.color import ColorSystem
from rich.style import Style
from textual.color import Color
from textual.theme import Theme

from red_tui.console.config.themes import (
    COLOURLESS,
    STATE_NAMES,
    TEXTS,
    laid_over,
    styles_of,
    themes,
    variable_defaults,
)
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.connection.link_process import LinkPushed
from red_tui.errors import NotConnected
from tests.console.conftest import console, running, until
from tests.console.fake_link import FakeFederation, FakeLink
from tests.console.fake_replay import FakeReplay
from tests.console.test_look import contrast
from tests.console.tour import drawn, federation_for_tour, told_all, tour

LEAST = 4.5
"""WCAG 2.1, level AA, for text."""

TOPS = ("selected", "marked", "cursor")
DECORATION = {chr(code) for code in (*range(0x2500, 0x25A0), *range(0x2800, 0x2900))} | set("▰▱ ")
"""Frames, bars and dots of plots: no text."""


@cache
def offered() -> dict[str, Theme]:
    """Every theme that the console lists."""
    return dict(console()[0].available_themes)


COLOURED = [name for name, theme in offered().items() if not theme.ansi]


def variables_of(name: str) -> dict[str, str]:
    theme = offered()[name]
    return {**theme.to_color_system().generate(), **variable_defaults(theme), **theme.variables}


def written(name: str) -> Iterator[tuple[str, Color, Color]]:
    """What stands on what in a theme: the text, its colour, and the colour behind it."""
    variables = variables_of(name)
    background, bar = (Color.parse(variables[which]) for which in ("background", "red-bar"))
    for text, behind in product(TEXTS, (background, bar)):
        yield text, Color.parse(variables[text]), behind
    yield "badge", Color.parse(variables["red-badge-text"]), Color.parse(variables["red-badge"])
    styles = styles_of(variables, ansi=False)
    base = Style(bgcolor=background.rich_color)
    for text in styles.keys() - set(TOPS):
        for tops in ((), *((top,) for top in TOPS), ("marked", "cursor"), ("marked", "selected")):
            style = base + styles[text]
            for top in tops:
                style = laid_over(style, styles[top])
            assert style.color is not None and style.bgcolor is not None
            yield "+".join((text, *tops)), Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)


@pytest.mark.parametrize("name", COLOURED)
def test_every_text_can_be_read_on_what_it_stands_on(name: str) -> None:
    faint = {what: round(contrast(text, behind), 2) for what, text, behind in written(name)}
    assert {what: ratio for what, ratio in faint.items() if ratio < LEAST} == {}


@pytest.mark.parametrize("name", COLOURED)
def test_states_keep_colours_of_their_own(name: str) -> None:
    variables = variables_of(name)
    colours = [Color.parse(variables[f"red-{state}"]).hex for state in STATE_NAMES[:-1]]
    assert len(set(colours)) == len(colours)


def texts_of(app: Any) -> Iterator[tuple[str, Style]]:
    """The texts in what has the focus: the screen, or the dialog on it."""
    region = app.screen.frame.region if len(app.screen_stack) > 1 else app.screen.region
    for y, strip in enumerate(drawn(app)):
        x = 0
        for text, style, _ in strip:
            if region.contains(x, y) and set(text) - DECORATION:
                yield text, style
            x += len(text)


def odd_colours(app: Any) -> dict[str, Any]:
    """Texts in colours that were not checked, or that are too faint; there should be none."""
    checked = {(text.hex, behind.hex) for _, text, behind in written("red")}
    odd = {}
    for text, style in texts_of(app):
        assert style.color is not None and style.bgcolor is not None
        pair = Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)
        if contrast(*pair) < LEAST or (pair[0].hex, pair[1].hex) not in checked:
            odd[text.strip()] = (pair, round(contrast(*pair), 2))
    return odd


async def test_the_screens_use_no_colours_but_those_that_were_checked() -> None:
    async with running(link=told_all(FakeLink(federation_for_tour()))) as (app, link, pilot):
        assert {place: odd async for place in tour(app, link, pilot) if (odd := odd_colours(app))} == {}


async def test_neither_does_a_replay_nor_what_stands_there_before_the_data() -> None:
    async with running(FakeReplay(), replay="journal.db", read_only=True) as (app, _, pilot):
        assert odd_colours(app) == {}
        await pilot.press("question_mark")
        await until(pilot, lambda: len(app.screen_stack) > 1 and app.screen.body.text)
        assert odd_colours(app) == {}
    app, link = console(FakeFederation())
    link.open_answer = NotConnected("10.0.0.9:6379 did not answer within 10 s", address="10.0.0.9:6379")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)
        for state in ("running", "done", "failed"):
            app.on_link_pushed(LinkPushed({"push": "step", "key": state, "text": "loading Ray", "state": state}))
        await pilot.pause()
        assert odd_colours(app) == {}


@pytest.mark.parametrize("name", [*(theme.name for theme in themes()), "textual-light"])
def test_in_sixteen_colours_what_is_marked_differs_and_text_is_not_its_background(name: str) -> None:
    variables = variables_of(name)
    styles = styles_of(variables, ansi=False)
    base = Style(bgcolor=Color.parse(variables["background"]).rich_color)

    def number(colour: Any) -> int | None:
        found: int | None = colour.downgrade(ColorSystem.STANDARD).number
        return found

    for text in styles.keys() - set(TOPS):
        plain = base + styles[text]
        assert number(plain.color) != number(plain.bgcolor), text
        for top in TOPS:
            over = laid_over(plain, styles[top])
            assert number(over.color) != number(over.bgcolor), (text, top)
            assert number(over.bgcolor) != number(plain.bgcolor) and over.bold, (text, top)


@pytest.mark.parametrize("name", [name for name, theme in offered().items() if theme.ansi])
def test_in_the_terminals_own_colours_cursor_and_marks_need_none(name: str) -> None:
    variables = {**offered()[name].to_color_system().generate(), **variable_defaults(offered()[name])}
    styles = {what: style.without_color for what, style in styles_of(variables, ansi=True).items()}
    for text in styles.keys() - set(TOPS):
        looks = [styles[text], *(laid_over(styles[text], styles[top]) for top in ("marked", "cursor"))]
        looks.append(laid_over(looks[1], styles["cursor"]))
        told = {str(look) for look in looks}
        assert len(told) == 4, text
        assert "black" not in str(styles_of(variables, ansi=True)[text].color), "it is the background of some terminals"


async def test_no_color_chooses_the_theme_that_tells_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(theme="dracula") as (app, _, pilot):
        await pilot.press("home", "down", "space", "right", "space")
        assert app.theme == COLOURLESS
        app.do("theme", {"value": "nord"})
        assert app.theme == COLOURLESS and "NO_COLOR" in app.footer.message
        told = [style for strip in drawn(app) for _, style, _ in strip if style is not None]
        assert not [style for style in told if style.color is not None or style.bgcolor is not None]
        assert any(style.reverse for style in told) and any(style.underline for style in told)
