"""What link, supervisor and verbs refuse to those who may only look."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import pytest

from red_tui.cli.main import COMMANDS, main
from red_tui.errors import CommandRefused
from red_tui.link.cluster_link import ClusterLink
from red_tui.protocol.commands import PROTOCOL, READING
from red_tui.supervisor.command_handlers import VERBS
from red_tui.supervisor.supervisor_actor import Supervisor

CHANGES = sorted(VERBS.keys() - READING)


class Refusing:
    """A client or a federation that nobody may reach."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was reached")


def reading_link() -> ClusterLink:
    return ClusterLink(io.BytesIO(), io.BytesIO(), client=Refusing(), read_only=True, embedded=True)


def test_what_only_looks_is_known() -> None:
    from tests.console.test_read_only import LOOKING

    assert LOOKING == READING, "the console's tests take another set for harmless"


@pytest.mark.parametrize("verb", [*CHANGES, "something new", ""])
def test_the_link_refuses_every_verb_that_it_does_not_know_as_harmless(verb: str) -> None:
    with pytest.raises(CommandRefused, match="this console is read-only"):
        reading_link().handle("command", {"verb": verb, "args": {}, "command_id": "1"})


def test_the_link_ends_neither_federation_nor_cluster() -> None:
    with pytest.raises(CommandRefused, match="ends no federation"):
        reading_link().handle("down", {})
    with pytest.raises(CommandRefused, match="stops no cluster"):
        reading_link().handle("leave", {"stop_cluster": True})
    assert reading_link().handle("leave", {"stop_cluster": False}) == {}


@pytest.mark.parametrize("verb", CHANGES)
def test_the_supervisor_refuses_every_verb_that_changes(verb: str) -> None:
    supervisor = Supervisor("digits", Refusing())  # type: ignore[arg-type]
    answer = supervisor.command("1", verb, {"ids": ["client_0"]}, "me", wait=False, read_only=True, protocol=PROTOCOL)
    assert answer["error"]["message"] == f"{verb}: this connection is read-only"


def test_the_supervisor_does_not_end_for_a_reader() -> None:
    supervisor = Supervisor("digits", Refusing())  # type: ignore[arg-type]
    assert "this connection is read-only" in supervisor.shutdown("me", read_only=True)["error"]["message"]


LOOK = {"open", "ls", "status", "watch", "check", "data", "replay", "schema", "keys", "doctor", "completion"} | READING
LOOK |= {"checkpoint", "export", "verify", "new", "runs", "compare", "report"}
"""Commands that change no federation."""

NEEDED = {"run": ["digits"], "up": ["digits"], "adopt": ["digits"], "release": ["client_0"], "remove": ["client_0"]}


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - LOOK))
@pytest.mark.parametrize("key", ["read_only: true", "read_only_clusters: ['10.0.0.9:6379']"], ids=["all", "one"])
def test_a_config_file_that_says_read_only_binds_the_verbs_too(
    command: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "console.yaml"
    config.write_text(key + "\n")
    monkeypatch.setenv("RED_CONFIG", str(config))
    monkeypatch.setenv("RED_HOME", str(tmp_path))
    words = [command, *NEEDED.get(command, []), *(["--address", "10.0.0.9:6379"] if "clusters" in key else [])]
    assert main(words) == 1
    told = capsys.readouterr()
    assert told.out == "" and f"{command}: " in told.err
    assert "is to be looked at only" in told.err and str(config) in told.err and key.partition(":")[0] in told.err


def test_a_cluster_that_is_not_named_in_the_config_file_is_not_protected_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from red_tui.cli import main as cli

    config = tmp_path / "console.yaml"
    config.write_text("read_only_clusters: ['10.0.0.9:6379']\n")
    monkeypatch.setenv("RED_CONFIG", str(config))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.8:6379")
    cli.refuse_read_only(argparse.Namespace(command="build", address=None))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.9:6379")
    with pytest.raises(CommandRefused, match=r"10\.0\.0\.9:6379"):
        cli.refuse_read_only(argparse.Namespace(command="build", address=None))
