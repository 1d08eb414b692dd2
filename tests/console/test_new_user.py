"""Moments of doubt of somebody who sees the console for the first time, and what the screen says about each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from red_tui.console.config.options import Preferences
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.dialogs.dialogs import Ask, ChooseFrom, Reader
from red_tui.console.dialogs.wave_planner import WavePlanner
from red_tui.console.input.actions import ActionMap, Situation
from red_tui.console.widgets.footer import footer_keys
from red_tui.console.widgets.plots import course
from red_tui.nodes.states import NodeState
from tests.console.conftest import console, running, subtitle_of, until
from tests.console.fake_link import FakeFederation, busy_federation


def lines_of(widget: Any) -> str:
    """What a widget draws, as text."""
    return "\n".join(widget.render_line(y).text.rstrip() for y in range(widget.size.height))


def told(view: str, width: int = 79, **situation: Any) -> str:
    """The last line of a view, as far as there is room."""
    keys = footer_keys(ActionMap(), Situation(situation.pop("phase", ConnectionPhase.LIVE), view, **situation))
    room, shown = width, []
    for key, label, place in keys:
        if len(key) + len(label) + 3 <= room:
            room -= len(key) + len(label) + 3
            shown.append((place, f"{key} {label}"))
    return "  ".join(text for _, text in sorted(shown))


async def test_where_nothing_is_built_the_grid_says_what_to_do_first() -> None:
    async with running(FakeFederation([("client_{i:03d}", 9, "train")], 4), size=(80, 24)) as (app, link, pilot):
        text = lines_of(app.grid)
        assert "no node has a process yet" in text
        assert "w  builds as many nodes" in text and "r  runs a round" in text and "?  tells all keys" in text
        link.federation.set("client_000", NodeState.STARTING, bundle=1)
        link.changed()
        await until(pilot, lambda: "no node has a process" not in lines_of(app.grid))
    async with running(FakeFederation(), read_only=True) as (app, _, _):
        assert "no node has a process" not in lines_of(app.grid)


def test_the_last_line_names_the_screens_and_what_matters_in_each() -> None:
    for view in ("grid", "rounds", "placement", "topology", "events", "nodes"):
        assert "1-6 screens" in told(view) and "? help" in told(view) and "q leave" in told(view), told(view)
        assert ("esc back" in told(view)) == (view != "grid")
    assert "enter its nodes" in told("placement") and "enter all of it" in told("events")
    assert "p pause" in told("events") and "/ filter" in told("events")
    assert "z drawn or listed" in told("topology")
    assert "o sort" in told("nodes") and "c columns" in told("nodes")
    assert "x release" not in told("rounds", targets={"ready": 1})  # no node is seen there
    assert "esc clear filter" in told("grid", filtered=True)
    assert "esc unmark" in told("grid", 200, marks=3)


def test_remapped_screens_are_named_by_their_keys() -> None:
    keys = {f"view_{name}": (key,) for name, key in zip(
        ("grid", "rounds", "placement", "topology", "events", "nodes"), "GYTCVM", strict=True)}  # fmt: skip
    shown = [f"{key} {label}" for key, label, _ in footer_keys(ActionMap(keys=keys), Situation(ConnectionPhase.LIVE))]
    assert "G Y T C V M screens" in shown


async def test_the_node_under_the_cursor_is_named_where_no_panel_tells_of_it() -> None:
    async with running(FakeFederation(), size=(80, 24)) as (app, _, pilot):
        assert subtitle_of(app.grid).startswith("client_000 · ")  # type: ignore[union-attr]
        await pilot.press("right")
        assert subtitle_of(app.grid).startswith("client_001 · ")  # type: ignore[union-attr]
        await pilot.press("slash", *"role:nothing", "enter")
        assert "no node matches the filter" in lines_of(app.grid)
        assert "esc clear filter" in app.footer.render().plain


async def test_the_end_of_a_run_is_said_on_every_screen_and_never_over_what_is_typed() -> None:
    federation = busy_federation()
    federation.round.update(number=14, target=15, first=14)
    async with running(federation, size=(80, 24)) as (app, link, pilot):
        await pilot.press("2")

        def end(number: int, **values: Any) -> None:
            result = {**federation.rounds[-1], "number": number, "loss": 0.2, "metrics": {"accuracy": 0.95}, **values}
            federation.rounds.append(result)
            federation.round = {**federation.round, "number": number, "phase": "idle", "target": None}
            link.changed()

        end(15)
        await until(pilot, lambda: app.footer.message)
        assert app.footer.message == "rounds 14 to 15 are over: loss 0.2  accuracy 0.95  68 nodes, 0.84 s"
        federation.round = {**federation.round, "number": 16, "phase": "fit", "target": 16, "first": 16}
        link.changed()
        await until(pilot, lambda: app.mirror.round.running)
        end(16, state="failed", error="3 of 68 answered")
        await until(pilot, lambda: "round 16" in app.footer.message)
        assert app.footer.message == "round 16 is over; round 16 failed: 3 of 68 answered" and app.footer.is_error
        federation.round = {**federation.round, "number": 17, "phase": "fit", "target": 17, "first": 17}
        link.changed()
        await until(pilot, lambda: app.mirror.round.running)
        await pilot.press("colon", *"wa")
        hint = app.footer.message
        end(17)
        await until(pilot, lambda: not app.mirror.round.running)
        assert app.footer.message == hint


async def test_what_a_run_does_is_said_in_the_words_it_was_asked_with() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("R", *"until accuracy>0.9", "enter")
        await until(pilot, lambda: link.told("run"))
        await until(pilot, lambda: app.footer.message)
        assert app.footer.message == "running until accuracy>0.9; s stops after the round in hand"


async def test_a_command_with_a_query_that_cannot_be_read_stays_to_be_mended() -> None:
    async with running(FakeFederation(), size=(80, 24)) as (app, link, pilot):
        await pilot.press("colon", *"build role:=", "enter")
        assert app.controller.typing.open  # type: ignore[union-attr]
        assert app.footer.message.index("^") == 2 + len("build role:") - 1 and "is not a role" in app.footer.message
        await pilot.press("backspace", *"train", "enter")
        await until(pilot, lambda: link.told("build"))
        assert link.told("build") == [{"query": "role:train"}]
        await pilot.press("colon", *"wave 3 state:=", "enter")
        assert app.footer.message.index("^") == 1 + len("wave 3 state:")
        assert not link.told("wave")


async def test_what_is_wrong_with_a_command_is_not_wiped_by_the_hint_of_its_last_letter() -> None:
    async with running(FakeFederation(), size=(80, 24)) as (app, _, pilot):
        await pilot.press("colon", *"bulid x")
        typing, line = app.controller.typing, app.controller.typing.prompt.line  # type: ignore[union-attr]
        typing.submitted("command", line.value)
        typing.changed("command", line.value)  # told late, as with a paste that ends with enter
        assert app.footer.message == "there is no command 'bulid'; did you mean build or rebuild?"
        typing.submitted("command", "xyzzy")
        await until(pilot, lambda: app.footer.size.height == 3)
        rows = app.footer.render().plain.split("\n")
        assert len(rows) == 3 and all(len(row) <= 80 for row in rows)
        assert rows[0].startswith(" there is no command 'xyzzy'; there are add, ")
        await pilot.press("escape")
        assert app.footer.styles.height.value == 1  # type: ignore[union-attr]


async def test_the_palette_says_why_what_is_looked_for_is_not_possible() -> None:
    async with running(FakeFederation()) as (app, _, pilot):
        await pilot.press("ctrl+p", *"rebuild")
        assert isinstance(app.screen, ChooseFrom)
        assert "rebuild" in app.screen.body.text and "not now: no node has failed" in app.screen.body.text
        await pilot.press("enter")
        assert isinstance(app.screen, ChooseFrom)
        await pilot.press(*["backspace"] * 7, *"train")
        assert ":train" in app.screen.body.text  # it has no key


async def test_while_it_connects_a_key_that_needs_data_says_so_and_is_not_told() -> None:
    app, link = console()
    link.open_answer = asyncio.get_running_loop().create_future()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: link.opens)
        await pilot.press("colon")
        assert app.footer.message == "nothing is there yet"
        await pilot.press("w")
        assert app.footer.message == "not connected yet"
        assert told("grid", phase=ConnectionPhase.CONNECTING) == "? help  q leave"


async def test_a_saved_filter_is_a_query_for_commands_too() -> None:
    async with running(FakeFederation(), preferences=Preferences(filters={"judges": "role:train-eval"})) as (
        app, link, pilot,
    ):  # fmt: skip
        await pilot.press("colon", *"build @judges", "enter")
        await until(pilot, lambda: link.told("build"))
        assert link.told("build") == [{"query": "role:train-eval"}]
        await pilot.press("colon", *"build @nobody", "enter")
        assert "there is no saved filter '@nobody': @judges" in app.footer.message


async def test_a_key_that_can_do_nothing_now_says_why_also_while_another_word_stands_there() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("T")
        assert "T does nothing here" in app.footer.message
        await pilot.press("b")
        assert "built already" in app.footer.message
        await pilot.press("escape")
        assert not app.footer.message


async def test_y_copies_what_a_list_shows() -> None:
    async with running(size=(80, 24)) as (app, _, pilot):
        copied: list[str] = []
        app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
        await pilot.press("5", "y")
        assert copied[-1].startswith("12:") or "client_033" in copied[-1]
        assert "out of memory on worker-1; round 14 goes on with 67 of 68" in copied[-1]
        assert "client_033" in app.footer.message
        await pilot.press("2")
        await until(pilot, lambda: app.controller.views.current.count() == 13)  # type: ignore[union-attr]
        await pilot.press("y")
        assert "round 13" in app.footer.message and "accuracy" in copied[-1]
        await pilot.press("3", "y")
        assert "head" in app.footer.message and "head" in copied[-1]
        await pilot.press("1", "y")
        assert copied[-1] == app.grid.cursor_id  # type: ignore[union-attr]


async def test_a_number_that_is_typed_into_the_planner_takes_the_place_of_the_one_that_stood_there() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        link.answers["plan"] = {"text": "", "placed": [], "left_out": []}
        await pilot.press("W")
        await until(pilot, lambda: isinstance(app.screen, WavePlanner) and len(app.screen.waves))
        planner = app.screen
        assert isinstance(planner, WavePlanner)
        await pilot.press("down", "down", "1", "2")
        assert planner.choices.number == 12
        await pilot.press("up", "down", "3")
        assert planner.choices.number == 3


async def test_leaving_says_that_further_waves_are_not_built() -> None:
    async with running(FakeFederation()) as (app, _, pilot):
        app.embedded = True
        app.controller.operations.waves_begun = (5, 2)  # type: ignore[union-attr]
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        text = " ".join(app.screen.body.text.split())  # type: ignore[attr-defined]
        assert "Either way waves 3 to 5 of the 5 that were planned here will not be built." in text
        await pilot.press("enter")
        await until(pilot, lambda: app.last_word)
        assert app.last_word.endswith("waves 3 to 5 of the 5 that were planned here will not be built")


@pytest.mark.parametrize("ascii_only", [False, True])
def test_what_never_changes_has_its_label_beside_its_line(ascii_only: bool) -> None:
    rows = course([8.0] * 9, 40, 4, ascii_only)
    (labelled,) = [row for row in rows if row[:9].strip("│| ")]
    assert labelled[9:].strip() and all(not row[9:].strip() for row in rows if row != labelled)


async def test_a_server_among_the_marks_is_named_beside_the_nodes() -> None:
    async with running(FakeFederation([("client_{i}", 2, "train")])) as (app, link, pilot):
        for name in ("server", "client_0", "client_1"):
            link.federation.set(name, NodeState.READY, bundle=1)
        link.changed()
        await until(pilot, lambda: app.mirror.counts[NodeState.READY] == 3)
        await pilot.press("asterisk", "x")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        assert "Release 2 nodes and the server of digits" in app.screen.body.text  # type: ignore[attr-defined]


async def test_the_help_tells_what_the_words_mean() -> None:
    async with running(size=(80, 24)) as (app, _, pilot):
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Reader) and app.screen.body.text)
        await asyncio.sleep(0)
        text = app.screen.body.text  # type: ignore[attr-defined]
        for word in ("virtual", "bundle", "pool", "wave", "round"):
            assert f"\n  {word} " in text
