"""Keys and what they tell the link."""

from __future__ import annotations

from typing import Any

import pytest

from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.dialogs.dialogs import Ask, ChooseFrom, Reader
from red_tui.console.input.actions import ACTIONS, MOVES, ActionMap, Situation
from red_tui.console.input.command_line import complete, parse
from red_tui.errors import CommandRefused, SelectionError
from red_tui.nodes.states import NodeState
from tests.console.conftest import running, title_of, until
from tests.console.fake_link import FakeFederation, busy_federation


async def answered(pilot: Any, link: Any, verb: str) -> dict[str, Any]:
    await until(pilot, lambda: link.told(verb))
    return link.told(verb)[-1]  # type: ignore[no-any-return]


async def test_build_builds_the_node_under_the_cursor() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("home", "right", "b")
        assert await answered(pilot, link, "build") == {"ids": ["client_000"]}
        await until(pilot, lambda: app.footer.message == "build accepted")


async def test_build_builds_the_marks_and_not_the_cursor() -> None:
    async with running(FakeFederation()) as (_, link, pilot):
        await pilot.press("home", "right", "space", "right", "space", "right", "b")
        assert await answered(pilot, link, "build") == {"ids": ["client_000", "client_001"]}


async def test_build_of_a_built_node_is_refused_with_a_word() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("b")
        assert "built already" in app.footer.message
        assert not link.told("build")


@pytest.mark.parametrize(("key", "verb", "args"), [("w", "wave", {"size": None, "query": None}), ("r", "round", {})])
async def test_single_keys_command(key: str, verb: str, args: dict[str, Any]) -> None:
    async with running(FakeFederation()) as (_, link, pilot):
        await pilot.press(key)
        assert await answered(pilot, link, verb) == args


async def test_run_asks_for_the_number_in_the_command_line() -> None:
    async with running(FakeFederation()) as (_, link, pilot):
        await pilot.press("R", *"20 until accuracy>0.95", "enter")
        assert await answered(pilot, link, "run") == {"rounds": 20, "until": "accuracy>0.95"}


async def test_add_asks_for_count_and_role() -> None:
    async with running(FakeFederation()) as (_, link, pilot):
        await pilot.press("plus", *"5 train", "enter")
        assert await answered(pilot, link, "add") == {"count": 5, "role": "train"}


@pytest.mark.parametrize(("key", "verb"), [("x", "release"), ("D", "remove")])
async def test_what_ends_nodes_asks_first_names_them_and_focuses_cancel(key: str, verb: str) -> None:
    async with running() as (app, link, pilot):
        await pilot.press("home", "down", "right", "space", "right", "space", key)
        await until(pilot, lambda: isinstance(app.screen, Ask))
        dialog = app.screen
        assert isinstance(dialog, Ask)
        assert "client_000" not in dialog.body.text and "client_001, client_002" in dialog.body.text
        assert "2 nodes" in dialog.body.text and dialog.focused_choice == 0
        assert "[ Cancel ]" in dialog.answers.text
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, Ask))
        assert not link.told(verb)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("tab", "enter")
        assert await answered(pilot, link, verb) == {"ids": ["client_001", "client_002"]}


async def test_a_target_that_the_filter_hides_is_named_in_the_question() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("home", "down", "right", "space", "slash", *"state:failed", "enter", "x")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        dialog = app.screen
        assert isinstance(dialog, Ask)
        assert "The filter hides 1 of them" in dialog.body.text


async def test_stop_is_gentle_once_and_asks_when_pressed_again() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("s")
        assert await answered(pilot, link, "stop") == {"now": False}
        link.federation.round = {**link.federation.round, "stopping": True}
        link.changed()
        await until(pilot, lambda: app.mirror.round.stopping)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        assert len(link.told("stop")) == 1
        await pilot.press("tab", "enter")
        await until(pilot, lambda: len(link.told("stop")) == 2)
        assert link.told("stop")[-1] == {"now": True}


async def test_rebuild_takes_the_failed_target_or_else_all() -> None:
    async with running() as (_, link, pilot):
        await pilot.press("u")
        assert await answered(pilot, link, "rebuild") == {"ids": None}
        await pilot.press("slash", *"id:judge_08", "enter", "u")
        await until(pilot, lambda: len(link.told("rebuild")) == 2)
        assert link.told("rebuild")[-1] == {"ids": ["judge_08"]}


async def test_the_plan_is_shown_before_anything_is_built() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        link.answers["plan"] = {
            "text": "1 of 2 fits", "placed": [["client_000", 3, "head"]], "left_out": [["client_001", "no cpu"]],
        }  # fmt: skip
        await pilot.press("down", "B")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        dialog = app.screen
        assert isinstance(dialog, Ask)
        assert "client_000" in dialog.body.text and "no cpu" in dialog.body.text
        assert not link.told("build")
        await pilot.press("tab", "enter")
        assert await answered(pilot, link, "build") == {"ids": ["client_000"]}


async def test_a_refused_command_is_told_and_harms_nothing() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        link.answers["round"] = CommandRefused("a round is running already")
        await pilot.press("r")
        await until(pilot, lambda: "already" in app.footer.message)


async def test_read_only_binds_no_key_that_changes_anything() -> None:
    async with running(read_only=True) as (app, link, pilot):
        for action in ACTIONS:
            if action.writes:
                assert action.id not in app.actions
                for key in action.keys:
                    await pilot.press(key)
        app.do("command", {})
        await pilot.press(*"build role:train", "enter")
        assert {verb for verb, _ in link.commands} <= {"detail"}
        assert app.footer.message == "this console is read-only: no build"


async def test_enter_shows_the_traceback_and_the_log() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"id:client_033", "enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, Reader) and "MemoryError" in app.screen.body.text)
        assert isinstance(app.screen, Reader)
        assert "fit: 71 examples" in app.screen.body.text and "learning_rate" in app.screen.body.text
        await pilot.press("escape")
        assert not isinstance(app.screen, Reader)


async def test_the_panel_shows_the_node_under_the_cursor() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("home", "down", "right")
        await until(pilot, lambda: link.told("detail") and link.told("detail")[-1] == {"id": "client_001"})
        await until(pilot, lambda: "out of memory" in app.detail.text.replace("\n", " "))
        assert "bundle   2 on head" in app.detail.text


async def test_the_palette_offers_what_is_possible_and_does_it() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, ChooseFrom))
        assert isinstance(app.screen, ChooseFrom)
        assert "rebuild" not in app.screen.body.text and "wave" in app.screen.body.text
        await pilot.press(*"next wave", "enter")
        await answered(pilot, link, "wave")


async def test_help_names_every_action_and_its_keys() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Reader) and app.screen.body.lines)
        assert isinstance(app.screen, Reader)
        text = app.screen.body.text
        assert all(action.help.split(",")[0][:30] in text for action in app.actions.actions)
        await pilot.press("q")
        assert app.is_running and not isinstance(app.screen, Reader)


async def test_typed_keys_do_not_act_while_a_command_is_typed() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("colon", *"wrb", "escape")
        assert not {verb for verb, _ in link.commands} - {"detail"}
        await pilot.press("colon", *"wave 3 role:train", "enter")
        assert await answered(pilot, link, "wave") == {"size": 3, "query": "role:train"}
        await pilot.press("colon", "up")
        assert app.controller is not None and app.controller.typing.prompt.line.value == "wave 3 role:train"


async def test_tab_completes_a_command() -> None:
    async with running(FakeFederation()) as (app, _, pilot):
        await pilot.press("colon", *"rel", "tab")
        assert app.controller is not None
        line = app.controller.typing.prompt.line
        assert line.value == "release"
        await pilot.press("space", *"state:fai", "tab")
        assert line.value == "release state:failed"


@pytest.mark.parametrize("embedded", [True, False])
async def test_leaving_asks_only_about_an_embedded_cluster(embedded: bool) -> None:
    async with running() as (app, link, pilot):
        app.embedded = embedded
        await pilot.press("q")
        if embedded:
            await until(pilot, lambda: isinstance(app.screen, Ask))
            await pilot.press("enter")
        await until(pilot, lambda: link.leaves)
        assert link.leaves == [False] and app.return_value in (0, None)


async def test_the_cluster_is_stopped_only_by_choice() -> None:
    async with running() as (app, link, pilot):
        app.embedded = True
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Ask))
        assert not link.leaves
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: link.leaves)
        assert link.leaves == [True]


async def test_copy_goes_to_the_clipboard_and_what_is_too_long_into_a_file(tmp_path: Any) -> None:
    federation = FakeFederation([("c_{i}", 20_000, "train")])
    async with running(federation, home=str(tmp_path)) as (app, _, pilot):
        await pilot.press("home", "right", "y")
        assert app.clipboard == "c_0"
        await pilot.press("asterisk", "y")
        written = tmp_path / "clipboard.txt"
        assert len(written.read_text().splitlines()) == 20_001
        assert written.stat().st_mode & 0o777 == 0o600
        assert app.clipboard == "c_0"


async def test_the_screen_is_saved_as_svg_and_text(tmp_path: Any) -> None:
    async with running(home=str(tmp_path)) as (app, _, pilot):
        await pilot.press("ctrl+e")
        assert "saved" in app.footer.message
        texts = list((tmp_path / "screens").glob("*.txt"))
        assert "103 nodes + server" in texts[0].read_text()
        assert list((tmp_path / "screens").glob("*.svg"))


async def test_paused_events_stay_and_say_how_many_are_new() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("p")
        link.federation.event("client_001", "something happened")
        link.changed()
        await until(pilot, lambda: app.mirror.events[-1].text == "something happened")
        assert "something happened" not in app.events.text
        assert "1 new" in title_of(app.events)
        await pilot.press("p")
        assert app.events.text.splitlines()[-1].endswith("something happened")


@pytest.mark.parametrize(
    ("key", "words"), [("2", "accuracy"), ("3", "worker-2"), ("5", "out of memory"), ("6", "judge_08")]
)
async def test_each_screen_shows_its_data(key: str, words: str) -> None:
    async with running(size=(120, 150)) as (app, _, pilot):
        await pilot.press(key)
        await pilot.pause()
        assert app.controller is not None
        await until(pilot, lambda: words in app.controller.views.current.text)  # type: ignore[union-attr]
        await pilot.press("j", "end", "home", "escape")
        assert app.controller.view == "grid"


async def test_marks_in_the_list_are_the_grids() -> None:
    async with running(FakeFederation()) as (app, link, pilot):
        await pilot.press("6", "home", "j", "j", "space", "1", "b")
        assert await answered(pilot, link, "build") == {"ids": ["client_001"]}
        assert app.controller is not None and app.controller.view == "grid"


def test_no_two_possible_actions_share_a_key() -> None:
    for phase in ConnectionPhase:
        for running_now in (False, True):
            now = Situation(phase=phase, running=running_now, targets={"ready": 1, "virtual": 1}, counts={"failed": 1})
            seen: dict[str, str] = {}
            for action in ActionMap().possible(now):
                for key in action.keys:
                    assert key not in seen or {action.id, seen[key]} == {"retry", "round"}, (key, action.id)
                    seen[key] = action.id


def test_nothing_that_ends_processes_hides_behind_ctrl() -> None:
    reserved = {"ctrl+b", "ctrl+a", "ctrl+s", "ctrl+q", "ctrl+enter"}
    for action in ACTIONS:
        assert not reserved & set(action.keys)
        assert not (action.destructive and any(key.startswith("ctrl") for key in action.keys))
        assert not any(key.startswith("f") and key[1:].isdigit() for key in action.keys)


def test_keys_can_be_remapped_by_action() -> None:
    remapped = ActionMap(keys={"wave": ("n",)})
    now = Situation(phase=ConnectionPhase.LIVE, counts={"virtual": 1})
    found = remapped.for_key("n", now)
    assert found is not None and found[0].id == "wave"
    assert remapped.for_key("w", now) is None


@pytest.mark.parametrize(
    ("text", "action", "args"),
    [
        ("build role:train", "build", {"query": "role:train"}),
        ("wave 3", "wave", {"size": 3, "query": None}),
        ("run 20", "run", {"rounds": 20, "until": None}),
        ("run until accuracy > 0.95", "run", {"rounds": 1000, "until": "accuracy>0.95"}),
        ("add 5 train", "add", {"count": 5, "role": "train"}),
        ("stop now", "stop", {"value": "now"}),
        ("quit", "leave", {}),
        ("rounds", "view_rounds", {}),
        ("zoom counts", "zoom", {"value": "counts"}),
    ],
)
def test_commands_are_read(text: str, action: str, args: dict[str, Any]) -> None:
    command = parse(text, ActionMap())
    assert (command.action, command.args) == (action, args)


@pytest.mark.parametrize(
    "text", ["", "fly", "add five train", "add 0 train", "run", "run 0", "run 5 until", "zoom x", "help me"]
)
def test_commands_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises((CommandRefused, SelectionError)):
        parse(text, ActionMap())


def test_completion_offers_only_what_is_bound() -> None:
    assert "build" not in complete("b", ActionMap(read_only=True), [], lambda text: [])
    assert complete("add 5 tr", ActionMap(), ["train", "test"], lambda text: []) == ["add 5 train"]


def test_moves_are_actions() -> None:
    assert {action.id for action in ACTIONS} >= MOVES
    assert NodeState.READY.code == 3 and busy_federation()
