"""The one table of commands, what a federation can be asked and told, by whomever; and the version of the protocol.

Supervisor, client, command line, console, its `:` line, link and replay look a command up here.  It is plain data: what
carries a command out stands with who does it, and `tests/unit/test_commands.py` says where one is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from red_tui.errors import CommandRefused, NotConnected
from red_tui.plain_text import brief


@dataclass(frozen=True)
class CommandSpec:
    """One command.

    Attributes:
        name: Its name on the wire.
        help: What it does, in a line, as `red-console --help` says it.
        arguments: Names of the arguments that it takes; all are optional unless its handler says otherwise.
        writes: Whether it changes the federation: refused on a connection that is read-only.
        destructive: Whether it ends processes or forgets something: an operator is asked first.
        audits_itself: Whether it records by itself who gave it, as part of what it records anyway.
        shown: Whether its answer is a `table` of text that command line and console show as it is.
        in_replay: Whether a replay answers it too.
        live: Whether a federation that runs answers it.
    """

    name: str
    help: str
    arguments: tuple[str, ...] = ()
    writes: bool = False
    destructive: bool = False
    audits_itself: bool = False
    shown: bool = False
    in_replay: bool = False
    live: bool = True

    def check(self, arguments: Mapping[str, object]) -> None:
        """Refuse arguments that the command does not take.

        Raises:
            CommandRefused: With the first of them, and those that it takes.
        """
        for name in arguments:
            if name not in self.arguments:
                takes = f"it takes {', '.join(self.arguments)}" if self.arguments else "it takes none"
                raise CommandRefused(f"{self.name} takes no argument {brief(str(name))!r}: {takes}")


_NODES = ("ids", "query")


def _reads(name: str, help: str, *arguments: str, shown: bool = False, in_replay: bool = False) -> CommandSpec:
    return CommandSpec(name, help, arguments, shown=shown, in_replay=in_replay)


def _writes(name: str, help: str, *arguments: str, destructive: bool = False, audits: bool = False) -> CommandSpec:
    return CommandSpec(name, help, arguments, writes=True, destructive=destructive, audits_itself=audits)


COMMANDS: Mapping[str, CommandSpec] = {
    spec.name: spec
    for spec in (
        # -- what reads
        _reads("describe", "print the layout in effect, and where it differs from its file", shown=True),
        _reads("select", "list the nodes that a query names", "query"),
        _reads("plan", "say which nodes would be built where, and build none", *_NODES, "most"),
        _reads("explain", "say why a node is as it is, and what would help", "id", in_replay=True),
        _reads("detail", "tell all that is known of a node", "id", in_replay=True),
        _reads("events", "list events from the journal", "before", "limit", in_replay=True),
        _reads("history", "print the rounds of a federation that runs or has ended", "after", "nodes"),
        _reads("spread", "say how the nodes of a round did", "number", in_replay=True),
        _reads("graph", "tell the topology, or the neighbours of a node", "node", "most", "rule", in_replay=True),
        _reads("traffic", "count the messages of a session", "ids", "most", in_replay=True),
        _reads("pull_version", "fetch what nodes published last", "ids", "timeout"),
        # -- what changes nodes
        _writes("build", "build nodes: give them processes", *_NODES, "timeout", "available", "skip_large", "kwargs"),
        _writes("wave", "build the next nodes that have no process", "size", "query", "timeout"),
        _writes("release", "give nodes' processes back and keep their states", *_NODES, destructive=True),
        _writes("rebuild", "replace nodes that failed", *_NODES, "timeout"),
        _writes("add", "add virtual nodes", "count", "role", "ids"),
        _writes("remove", "forget nodes", *_NODES, "keep_state", "timeout", destructive=True),
        _writes("move", "move idle nodes to another bundle", *_NODES, "bundle", "timeout"),
        _writes("topology", "change who is whose neighbour", "rule"),
        # -- what changes the pool
        _writes("grow", "add bundles to the pool", "count", "resources"),
        _writes("shrink", "give the bundles back that were added last"),
        _writes("release_bundles", "release all nodes and give all bundles back", destructive=True),
        # -- what changes rounds and sessions
        _writes("round", "run a round of a federation, or some", *_NODES, "until"),
        _writes("run", "run rounds", *_NODES, "rounds", "until"),
        _writes("set", "change the next rounds", "values", audits=True),
        _writes("stop", "end a run after its present round, or now; or a session", "now", destructive=True),
        _writes("train", "run a session: nodes run their own train and talk", "server_args", "client_args"),
        _writes("stop_session", "end a session", "timeout", destructive=True),
        _writes("test", "let the nodes with the role test judge", "phase", "aggregate", "kwargs"),
        _writes("send", "send a message to nodes", "header", "body", "to"),
        # -- what moves a replay
        CommandSpec(
            "replay",
            "move a replay",
            ("act", "moment", "speed", "idle", "value"),
            in_replay=True,
            live=False,
        ),
    )
}

LIVE = frozenset(name for name, spec in COMMANDS.items() if spec.live)
"""Commands that a federation answers which runs."""

READING = frozenset(name for name, spec in COMMANDS.items() if spec.live and not spec.writes)
"""Commands that change nothing: all that a read-only connection may use."""

IN_REPLAY = frozenset(name for name, spec in COMMANDS.items() if spec.in_replay)
"""Commands that a replay answers."""


def live_command(name: str) -> CommandSpec:
    """A command of a federation that runs.

    Raises:
        CommandRefused: If there is none of that name; the message lists those there are.
    """
    if name not in LIVE:
        raise CommandRefused(f"there is no command {brief(name)!r}: use {', '.join(sorted(LIVE))}")
    return COMMANDS[name]


def replay_command(name: str) -> CommandSpec:
    """A command of a replay.

    Raises:
        CommandRefused: If a replay does not answer it.
    """
    if name not in IN_REPLAY:
        raise CommandRefused(f"{brief(name)}: this is a replay of what has happened: nothing in it can be changed")
    return COMMANDS[name]


PROTOCOL = 2
"""Grows when a record or a command changes so that the other side would misread it."""


BEFORE = 1
"""The version of a side that does not state one: versions were not counted before 2."""


def check_protocol(stated: Any, who: str, here: str) -> None:
    """Refuse to go on with a side of another version.

    Args:
        stated: The version that it states; None: it states none.
        who: The other side, as the message names it: `the supervisor of 'digits'`.
        here: This side.

    Raises:
        NotConnected: If it speaks another version; the message names both.
    """
    version = BEFORE if stated is None else stated
    if version != PROTOCOL:
        raise NotConnected(
            f"{who} speaks version {version} of red-tui's protocol, and {here} version {PROTOCOL}: use the same version"
            " of red-tui on both sides",
            address="",
        )
