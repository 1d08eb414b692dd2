"""All sides look a command up in the one table, and each command of it has somebody who carries it out."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from red_tui.cli.main import COMMANDS as CLI, parser_of
from red_tui.console.input.actions import ACTIONS
from red_tui.errors import CommandRefused
from red_tui.protocol.commands import COMMANDS, IN_REPLAY, LIVE, PROTOCOL, READING, live_command, replay_command
from red_tui.replay.replay_commands import ReplayCommands
from red_tui.supervisor.client import Client
from red_tui.supervisor.command_handlers import VERBS
from red_tui.supervisor.supervisor_actor import Supervisor

OFFERS_MORE = {"plan"}
"""Actions of the console that show what reads, and then offer what writes."""


def test_a_supervisor_answers_each_command_of_the_table_and_no_other() -> None:
    assert set(VERBS) | {"detail", "events"} == LIVE


def test_a_replay_answers_each_command_that_the_table_gives_it() -> None:
    class Anything:
        def __getattr__(self, name: str) -> Any:
            return None

    assert set(ReplayCommands(Anything(), Anything()).verbs) == IN_REPLAY  # type: ignore[arg-type]


def test_a_command_that_destroys_also_writes_and_one_that_reads_is_not_destructive() -> None:
    assert all(spec.writes for spec in COMMANDS.values() if spec.destructive or spec.audits_itself)
    assert {name for name, spec in COMMANDS.items() if not spec.writes} == READING | {"replay"}


def test_the_command_line_says_of_a_command_what_the_table_says() -> None:
    for name in CLI.keys() & LIVE - {"run"}:  # `run LAYOUT` launches a federation too
        assert CLI[name][1] == COMMANDS[name].help, name
    for name, spec in COMMANDS.items():
        if spec.shown:
            assert "--json" in parser_of(name).format_help(), name


def test_the_console_may_do_with_a_command_what_the_table_says() -> None:
    for action in ACTIONS:
        if action.id in COMMANDS and action.id not in OFFERS_MORE:
            spec = COMMANDS[action.id]
            assert (action.writes, action.destructive) == (spec.writes, spec.destructive), action.id
    assert {spec.name for spec in COMMANDS.values() if spec.shown} <= {action.id for action in ACTIONS}


def test_an_unknown_command_and_an_unknown_argument_are_refused_with_those_there_are() -> None:
    with pytest.raises(CommandRefused, match=r"there is no command 'explode': use add, build, .*, wave"):
        live_command("explode")
    with pytest.raises(CommandRefused, match="nothing in it can be changed"):
        replay_command("build")
    with pytest.raises(CommandRefused, match=r"wave takes no argument 'sise': it takes size, query, timeout"):
        live_command("wave").check({"sise": 3})
    with pytest.raises(CommandRefused, match="shrink takes no argument 'all': it takes none"):
        live_command("shrink").check({"all": True})


def test_a_client_refuses_an_unknown_argument_before_it_asks() -> None:
    with pytest.raises(CommandRefused, match="takes no argument"):
        Client(None, "digits").command("build", {"what": "x"})


def test_a_supervisor_refuses_an_unknown_argument_before_it_acts() -> None:
    supervisor = Supervisor("digits", argparse.Namespace())  # type: ignore[arg-type]
    answer = supervisor.command("1", "wave", {"sise": 3}, "me", protocol=PROTOCOL)
    assert "takes no argument 'sise'" in answer["error"]["message"]
