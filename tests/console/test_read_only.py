"""A console that looks only: no key, no menu, no command and no answer to a question changes a federation."""

from __future__ import annotations

from typing import Any

import pytest

from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.dialogs.dialogs import ChooseFrom
from red_tui.console.input.actions import ACTIONS, Action, ActionMap
from red_tui.errors import CommandRefused
from tests.console.conftest import console, running, title_of, until
from tests.console.fake_link import FakeFederation, FakeLink, busy_federation
from tests.console.tour import federation_for_tour, told_all, tour

LOOKING = {"detail", "events", "explain", "graph", "history", "spread", "traffic", "select", "plan", "pull_version"}
"""What a link answers a read-only console; `tests/unit/test_read_only.py` holds it against what a link refuses."""

WRITES = [action for action in ACTIONS if action.writes]

TYPED = {
    "build": "build role:train", "plan": "plan role:train", "wave": "wave 3", "run": "run 5", "set": "set fraction 0.5",
    "send": "send hello", "stop": "stop now", "release": "release role:train", "rebuild": "rebuild role:train",
    "add": "add 5 train", "remove": "remove role:train", "topology": "topology ring",
}  # fmt: skip
"""How a command is typed that has arguments."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "run": {"rounds": 5}, "set": {"values": {"fraction": 0.5}}, "send": {"header": "hello"}, "stop": {"value": "now"},
    "add": {"count": 5, "role": "train"}, "topology": {"name": "ring"},
}  # fmt: skip
"""What an action is done with that would only ask for it otherwise."""


def sent(link: FakeLink) -> set[str]:
    return {verb for verb, _ in link.commands} - LOOKING


async def test_every_key_command_and_act_is_refused_with_a_word() -> None:
    async with running(read_only=True) as (app, link, pilot):
        assert app.controller is not None
        for action in WRITES:
            word = f"this console is read-only: no {action.label}"
            assert action.id not in app.actions
            for key in action.keys:
                app.say("")
                await pilot.press(key)
                # A key may have another meaning that only looks, such as r while there is no connection.
                assert app.footer.message == word or "read-only" in app.footer.message, key
            app.controller.open_command(TYPED.get(action.id, action.id))
            await pilot.press("enter")
            assert app.footer.message == word, action.id
            await pilot.press("escape")
            app.do(action.id, ARGUMENTS.get(action.id, {}))  # as a menu would, or a key that was pressed before
            await until(pilot, lambda: app.footer.message)
            assert app.footer.message == word and len(app.screen_stack) == 1, action.id
        assert sent(link) == set()


async def test_neither_palette_nor_footer_nor_completion_names_what_is_refused() -> None:
    labels = {action.id for action in WRITES}
    async with running(read_only=True) as (app, _, pilot):
        assert not labels & {action.id for action in app.actions.possible(app.situation())}
        told = app.footer.render().plain
        assert "? help" in told and not any(f" {action.label} " in f"{told} " for action in WRITES)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, ChooseFrom))
        assert not labels & {str(entry.value) for entry in app.screen._entries}
        await pilot.press("escape")
        await pilot.press("question_mark")
        await until(pilot, lambda: "are not bound" in getattr(app.screen, "body", app.notice).text)
        assert all(action.label in app.screen.body.text for action in WRITES), "the help says what is missing"


async def test_no_screen_asks_the_link_for_anything_that_changes() -> None:
    link = told_all(FakeLink(federation_for_tour()))
    async with running(link=link, read_only=True) as (app, link, pilot):
        visited = [place async for place in tour(app, link, pilot)]
        assert "topology" in visited and sent(link) == set()


ASKED: dict[str, tuple[str, ...]] = {
    "plan": ("tab", "enter"), "waves": ("enter",), "run": ("5", "enter"), "set": ("ctrl+u", *"0.5", "enter"),
    "stop": ("tab", "enter"), "release": ("tab", "enter"), "remove": ("tab", "enter"),
}  # fmt: skip
"""The dialogs of writing actions, and the keys that would say yes."""


async def shown_dialog(app: Any, link: FakeLink, pilot: Any, action: Action) -> None:
    """Open an action's dialog, in a federation in which it has one."""
    if action.id in ("run", "set"):
        link.federation.round = {**link.federation.round, "phase": "idle", "of": 0, "done": 0, "target": None}
        link.changed()
        await until(pilot, lambda: not app.mirror.round.running)
    await pilot.press("home", *(("end",) if action.id == "plan" else ("down", "right")))
    app.do(action.id, {"value": "now"} if action.id == "stop" else {})
    await until(pilot, lambda: len(app.screen_stack) > 1 and app.screen.body.text)
    if action.id == "waves":
        await until(pilot, lambda: len(app.screen.waves))


@pytest.mark.parametrize("action", [action for action in WRITES if action.id in ASKED], ids=lambda action: action.id)
async def test_a_yes_to_a_question_that_stood_there_before_changes_nothing(action: Action) -> None:
    async with running(link=told_all(FakeLink(busy_federation()))) as (app, link, pilot):
        await shown_dialog(app, link, pilot, action)
        app.actions = ActionMap(read_only=True)
        await pilot.press(*ASKED[action.id])
        await until(pilot, lambda: "read-only" in app.footer.message)
        assert len(app.screen_stack) == 1 and sent(link) == set()


def test_every_dialog_of_a_writing_action_is_tried() -> None:
    asking = {action.id for action in WRITES if action.destructive or action.label.endswith("…")} | {"plan"}
    assert asking == set(ASKED)


async def test_leaving_offers_no_end_of_the_cluster_and_does_not_end_it() -> None:
    opened = {"federation": "digits", "address": "x", "embedded": True, "created": True}
    federation = busy_federation()
    link = FakeLink(federation)
    link.open_answer = opened
    async with running(link=link) as (app, link, pilot):
        await pilot.press("q")
        await until(pilot, lambda: len(app.screen_stack) > 1)
        app.actions = ActionMap(read_only=True)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "read-only: it stops no cluster" in app.footer.message)
        assert link.leaves == []
        await pilot.press("q")
        await until(pilot, lambda: link.leaves == [False])  # no question this time


async def test_a_link_that_refuses_to_end_the_cluster_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    link = FakeLink(busy_federation())
    link.open_answer = {"federation": "digits", "address": "x", "embedded": True, "created": True}
    async with running(link=link) as (app, link, pilot):
        real = link.call

        async def call(verb: str, args: dict[str, Any], timeout: float | None) -> Any:
            if verb == "leave":
                raise CommandRefused("this console is read-only: it stops no cluster")
            return await real(verb, args, timeout)

        monkeypatch.setattr(link, "call", call)
        await pilot.press("q")
        await until(pilot, lambda: len(app.screen_stack) > 1)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "it stops no cluster" in app.footer.message)
        assert app.is_running and app.connection.phase is ConnectionPhase.LIVE


async def test_the_picker_of_a_read_only_console_launches_nothing() -> None:
    link = FakeLink(busy_federation())
    choices: dict[str, Any] = {"federations": [], "layouts": [{"path": "/x/mesh.yaml", "title": "A mesh of five"}]}
    link.open_answer = [{"choose": choices}]
    app, _ = console(link=link, read_only=True)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChooseFrom))
        assert "mesh" not in app.screen.body.text  # type: ignore[attr-defined]
        assert "a read-only console launches none" in title_of(app.screen.frame)
        await pilot.press("escape")


async def test_a_federation_that_turns_out_to_be_protected_takes_the_keys_away() -> None:
    federation = FakeFederation()
    async with running(federation) as (app, link, pilot):
        assert "build" in app.actions
        federation.read_only = True
        app.connection.refresh()
        link.changed()
        await until(pilot, lambda: app.actions.read_only)
        await pilot.press("w")
        assert app.footer.message == "this console is read-only: no wave" and sent(link) == set()
