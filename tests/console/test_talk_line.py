"""Sessions, messages and topologies from the console: what is typed, what is asked, what reaches the link."""

from __future__ import annotations

from typing import Any

import pytest

from red_tui.console.input.actions import ActionMap
from red_tui.console.input.command_line import complete, parse
from red_tui.errors import CommandRefused, TopologyError
from red_tui.messaging import RULES
from tests.console.conftest import running, until
from tests.console.fake_link import EPOCH

ACTIONS = ActionMap()
BUSY = {"running": True, "nodes": 12, "started": EPOCH, "stopping": False}


@pytest.mark.parametrize(
    ("text", "action", "args"),
    [
        ("train", "train", {}),
        ("train lr: 0.1", "train", {"client_args": {"lr": 0.1}}),
        ("train {lr: 0.1, what: token}", "train", {"client_args": {"lr": 0.1, "what": "token"}}),
        ("train client_args: {lr: 0.1}, server_args: {rounds: 3}", "train",
         {"client_args": {"lr": 0.1}, "server_args": {"rounds": 3}}),
        ("train client_args: [{a: 1}, {a: 2}]", "train", {"client_args": [{"a": 1}, {"a": 2}]}),
        ("send lr 0.1", "send", {"header": "lr", "body": 0.1, "to": None}),
        ("send lr {value: 0.1} to role:train state:ready", "send",
         {"header": "lr", "body": {"value": 0.1}, "to": "role:train state:ready"}),
        ("send note 'go to bed'", "send", {"header": "note", "body": "go to bed", "to": None}),
        ("send look to id:client_1", "send", {"header": "look", "body": None, "to": "id:client_1"}),
        ("send look", "send", {"header": "look", "body": None, "to": None}),
        ("topology", "view_topology", {}),
        ("topology ring", "topology", {"name": "ring", "options": {}}),
        ("topology k-connected k=4 seed=7", "topology", {"name": "k-connected", "options": {"k": 4, "seed": 7}}),
        ("topology custom adjacency={a: [b], b: [a]}", "topology",
         {"name": "custom", "options": {"adjacency": {"a": ["b"], "b": ["a"]}}}),
        ("view topology", "view_topology", {}),
    ],
)  # fmt: skip
def test_a_line_becomes_an_action(text: str, action: str, args: dict[str, Any]) -> None:
    command = parse(text, ACTIONS)
    assert (command.action, command.args) == (action, args)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("train fast", "'fast' is no mapping of arguments"),
        ("train {lr: [}", "is no YAML at"),
        ("train client_args: 3", "client_args is a mapping"),
        ("train client_args: {a: 1}, lr: 2", "'lr' stands beside client_args"),
        ("send", "write: send HEADER"),
        ("send lr {a: ]", "is no YAML at"),
        ("topology k-connected 4", "'4' is no option"),
        ("topology k-connected k=", "'k=' is no option"),
    ],
)
def test_a_line_that_makes_no_sense_says_what_to_write(text: str, why: str) -> None:
    with pytest.raises(CommandRefused, match=why.replace("'", ".")):
        parse(text, ACTIONS)


def test_what_changes_something_is_refused_when_read_only_and_the_screen_is_not() -> None:
    looking = ActionMap(read_only=True)
    for text in ("train", "send lr 1", "topology ring"):
        with pytest.raises(CommandRefused, match="this console is read-only"):
            parse(text, looking)
    assert parse("topology", looking).action == "view_topology"


def test_tab_completes_rules_options_and_receivers() -> None:
    def queries(text: str) -> list[str]:
        return [f"{text}ole:train"] if text.startswith("r") else []

    assert complete("topology k", ACTIONS, (), queries) == ["topology k-connected"]
    assert {line.split()[1] for line in complete("topology ", ACTIONS, (), queries)} == set(RULES)
    assert complete("topology k-connected k", ACTIONS, (), queries) == ["topology k-connected k="]
    assert complete("send lr 0.1 to r", ACTIONS, (), queries) == ["send lr 0.1 to role:train"]


async def test_a_session_is_begun_by_a_line_told_in_the_header_and_ended_after_a_question() -> None:
    async with running() as (app, link, pilot):
        link.federation.round = {**link.federation.round, "phase": "idle", "target": None}
        link.changed()
        await until(pilot, lambda: not app.mirror.round.running)
        await pilot.press("colon", *"train pause: 2", "enter")
        await until(pilot, lambda: link.told("train") == [{"server_args": {}, "client_args": {"pause": 2}}])
        assert "session" not in str(app.header.render())
        link.federation.session = BUSY
        link.changed()
        await until(pilot, lambda: "session 12 nodes" in str(app.header.render()))
        await pilot.press("escape", "r")
        await until(pilot, lambda: "a session is running; s stops it" in app.footer.message)
        assert link.told("round") == []
        await pilot.press("s")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        assert link.told("stop_session") == []
        await pilot.press("s")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: link.told("stop_session") == [{}])
        link.federation.session = {**BUSY, "stopping": True}
        link.changed()
        await until(pilot, lambda: "session 12 nodes stopping" in str(app.header.render()))
        link.federation.session = {**BUSY, "running": False}
        link.changed()
        await until(pilot, lambda: "session" not in str(app.header.render()))
        assert link.told("stop") == []


async def test_a_message_and_a_topology_are_sent_and_a_refusal_is_said() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("colon", *"send lr 0.1 to role:train", "enter")
        await until(pilot, lambda: link.told("send") == [{"header": "lr", "body": 0.1, "to": "role:train"}])
        link.answers["topology"] = TopologyError("k-connected: k = 99 with 103 nodes: use less", rule="k-connected")
        await pilot.press("colon", *"topology k-connected k=99", "enter")
        await until(pilot, lambda: "k = 99 with 103 nodes" in app.footer.message)
        assert link.told("topology") == [{"rule": {"name": "k-connected", "k": 99}}]
        await pilot.press("colon", *"topology", "enter")
        await until(pilot, lambda: app.controller is not None and app.controller.view == "topology")
