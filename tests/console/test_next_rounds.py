"""The next rounds are edited in a form, by a command and from the palette; what is wrong stands at its field."""

from __future__ import annotations

from typing import Any

import pytest
from textual import events

from red_tui.console.dialogs.dialogs import ChooseFrom
from red_tui.console.dialogs.round_settings_form import NextRoundsForm
from red_tui.console.input.actions import ActionMap
from red_tui.console.input.command_line import complete, parse
from red_tui.errors import CommandRefused, SelectionError
from red_tui.layout.round_settings import Several
from tests.console.conftest import Pilots, running, until
from tests.console.fake_link import FakeFederation, busy_federation

KNOWN = {"fraction": 1.0, "deadline": 60, "learning_rate": 0.3, "partition": Several(("iid", "dirichlet"))}


async def opened(app: Any, pilot: Pilots) -> Any:
    await pilot.press("P")
    await until(pilot, lambda: isinstance(app.screen, NextRoundsForm))
    return app.screen


def row_of(form: Any, name: str) -> str:
    return next(row for row in form.body.text.split("\n") if row[2:].startswith(name))


async def test_a_field_is_edited_and_only_what_changes_is_sent() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        form = await opened(app, pilot)
        assert "holds from round 1 on" in form.body.text and "nothing changes yet" in form.body.text
        assert "iid" in row_of(form, "partition") and "dirichlet" in row_of(form, "partition")
        await pilot.press("down", "ctrl+u", *"30")
        await pilot.press(*["down"] * 3, *["backspace"] * 3, *"0.1")
        assert "was 60" in row_of(form, "deadline") and "was 0.3" in row_of(form, "learning_rate")
        assert "deadline 60 → 30; learning_rate 0.3 → 0.1" in form.body.text
        await pilot.press("up", "up", "up", "up", "up", *"momentum 0.9")  # round the end: the field for a new key
        assert "momentum is new: 0.9" in form.body.text
        await pilot.press("enter")
        await until(pilot, lambda: link.told("set"))
        assert link.told("set") == [{"values": {"deadline": 30, "learning_rate": 0.1, "+momentum": 0.9}}]


async def test_what_is_wrong_stands_under_its_field_and_is_not_sent() -> None:
    async with running(FakeFederation(), size=(80, 24)) as (app, link, pilot):
        form = await opened(app, pilot)
        await pilot.press("ctrl+u", *"1.5", "down", "ctrl+u", "down", "down", "down", "ctrl+u", *"fast")
        await pilot.press("enter")
        assert app.screen is form and not link.told("set")
        assert form.name_here == "fraction"  # the first that is wrong
        rows = form.body.text.split("\n")

        def below(name: str) -> str:
            return rows[rows.index(row_of(form, name)) + 1].strip()

        assert below("fraction") == "fraction must be at most 1, not 1.5"
        assert below("deadline") == "a value stands here; it was 60"
        assert below("learning_rate") == "learning_rate is a number (0.3), and fast is none"
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not form)
        assert not link.told("set")


async def test_the_form_says_when_a_change_holds_and_what_waits_for_it() -> None:
    federation = busy_federation()
    federation.next_rounds = {**federation.next_rounds, "later": ["learning_rate"]}
    async with running(federation) as (app, _, pilot):
        form = await opened(app, pilot)
        assert "holds from round 15 on; round 14 ends as it began" in form.body.text
        assert "from round 15 on" in row_of(form, "learning_rate")
        assert "from round" not in row_of(form, "fraction")
        await pilot.press("enter")
        await until(pilot, lambda: app.footer.message == "nothing changes")


async def test_the_palette_opens_the_form_and_a_paste_goes_into_the_field() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, ChooseFrom))
        await pilot.press(*"learning", "enter")
        await until(pilot, lambda: isinstance(app.screen, NextRoundsForm))
        await pilot.press("ctrl+u")
        app.post_message(events.Paste("0.25\nrubbish"))
        await until(pilot, lambda: "0.25" in row_of(app.screen, "fraction"))
        await pilot.press("enter")
        await until(pilot, lambda: link.told("set"))
        assert link.told("set") == [{"values": {"fraction": 0.25}}]


async def test_the_command_line_sets_and_marks_what_it_cannot_read() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("colon", *"set learning_rate 0.1 deadline soon", "enter")
        await until(pilot, lambda: "deadline must be a number" in app.footer.message)
        assert app.footer.message.index("^") == 1 + len("set learning_rate 0.1 deadline ")
        await pilot.press(*["backspace"] * 4, *"30 +momentum 0.9", "enter")
        await until(pilot, lambda: link.told("set"))
        assert link.told("set") == [{"values": {"learning_rate": 0.1, "deadline": 30, "+momentum": 0.9}}]


async def test_what_the_federation_refuses_is_told() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        link.answers["set"] = CommandRefused("set: this connection is read-only")
        await pilot.press("colon", *"set fraction 0.5", "enter")
        await until(pilot, lambda: "read-only" in app.footer.message)


async def test_a_read_only_console_opens_no_form_and_takes_no_command() -> None:
    async with running(read_only=True) as (app, link, pilot):
        await pilot.press("P")
        assert "read-only: no set" in app.footer.message and len(app.screen_stack) == 1
        await pilot.press("colon", *"set fraction 0.5", "enter")
        await until(pilot, lambda: "read-only: no set" in app.footer.message)
        app.do("set", {"values": {"fraction": 0.5}})
        await pilot.pause()
        assert not link.told("set")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("set ", ["set fraction", "set deadline", "set learning_rate", "set partition"]),
        ("set lea", ["set learning_rate"]),
        ("set learning_rate ", ["set learning_rate 0.3"]),
        ("set learning_rate 0.1 ", ["set learning_rate 0.1 fraction", "set learning_rate 0.1 deadline",
                                    "set learning_rate 0.1 partition"]),
        ("set partition ", []),
    ],
)  # fmt: skip
def test_names_and_present_values_are_completed(text: str, expected: list[str]) -> None:
    assert complete(text, ActionMap(), [], lambda query: [], known=KNOWN) == expected


def test_a_set_without_anything_asks_and_one_that_cannot_be_read_says_where() -> None:
    assert parse("set", ActionMap(), KNOWN).args == {}
    with pytest.raises(SelectionError, match="did you mean learning_rate") as caught:
        parse("set deadline 30 lerning_rate 1", ActionMap(), KNOWN)
    assert caught.value.fields["position"] == len("set deadline 30 ")


async def test_a_question_that_was_open_when_the_console_became_read_only_writes_nothing() -> None:
    federation = FakeFederation()
    async with running(federation, size=(80, 24)) as (app, link, pilot):
        form = await opened(app, pilot)
        assert form.body.scroll_offset.y == 0 and "holds from round 1 on" in form.body.text
        await pilot.press("ctrl+u", *"0.5")
        app.actions = ActionMap(read_only=True)
        await pilot.press("enter")
        await until(pilot, lambda: "read-only: no set" in app.footer.message)
        assert not link.told("set")
