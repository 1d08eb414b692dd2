"""How many rounds, and until when."""

from __future__ import annotations

from typing import Any

import pytest

from red_tui.console.dialogs.dialogs import Form
from red_tui.console.input.command_line import read_run
from red_tui.errors import SelectionError
from tests.console.conftest import running, until
from tests.console.fake_link import FakeFederation


async def test_the_form_says_what_a_text_means_before_it_is_sent() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("R", *"20")
        await until(pilot, lambda: isinstance(app.screen, Form))
        form: Any = app.screen
        assert "20 rounds: 1 to 20" in form.body.text
        await pilot.press(*" until +20m")
        assert "or until" in form.body.text and "in 20 m" in form.body.text
        await pilot.press("enter")
        await until(pilot, lambda: link.told("run"))
        assert link.told("run") == [{"rounds": 20, "until": "+20m"}]


async def test_what_cannot_be_read_is_marked_and_not_sent() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("R", *"until loss<x")
        await until(pilot, lambda: isinstance(app.screen, Form))
        form: Any = app.screen
        rows = form.body.text.split("\n")
        mark = next(row for row in rows if row.strip() == "^")
        typed = next(row for row in rows if row.startswith("> "))
        assert typed[mark.index("^")] == "x" and "'x' is no number" in form.body.text
        await pilot.press("enter")
        assert app.screen is form and not link.told("run")
        await pilot.press("backspace", *"1", "enter")
        await until(pilot, lambda: link.told("run"))
        assert link.told("run")[0]["until"] == "loss<1"


async def test_the_command_line_takes_a_time_and_marks_what_it_cannot_read() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("colon", *"run until 26:00", "enter")
        await until(pilot, lambda: "no time of day" in app.footer.message)
        assert app.footer.message.index("^") == 1 + len("run until ")
        assert not link.told("run")
        await pilot.press(*["backspace"] * 5, *"+20m", "enter")
        await until(pilot, lambda: link.told("run"))
        assert link.told("run")[0]["until"] == "+20m"


async def test_run_while_a_round_runs_says_what_happens() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("colon", *"run 7", "enter")
        await until(pilot, lambda: app.footer.message and "running" in app.footer.message)
        assert "s stops" in app.footer.message and not link.told("run")


@pytest.mark.parametrize(("text", "position"), [("", 0), ("0", 0), ("7 until", 7), ("until until", 6), ("7 x", 3)])
def test_a_text_that_is_no_run_is_refused_at_its_place(text: str, position: int) -> None:
    with pytest.raises(SelectionError) as caught:
        read_run(text)
    assert caught.value.fields["position"] == position
