"""How a verb reaches its federation, and leaves it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from red_tui.cli.output import quiet_driver, tell_json, tell_table
from red_tui.errors import CommandRefused, NotConnected
from red_tui.protocol.commands import COMMANDS


@contextlib.contextmanager
def attached(options: argparse.Namespace, *, read_only: bool = False) -> Iterator[Any]:
    """A client of the federation that the options name, or of the only one that runs; left in the end.

    Raises:
        NotConnected: If there is no cluster or no federation.
        CommandRefused: If several run and none is named.
    """
    from red_tui.supervisor.launch import attach
    from red_tui.supervisor.registry import listed

    with quiet_driver():
        connect(options)
        try:
            fed_id = options.federation or only(listed(options.namespace))
            yield attach(fed_id, namespace=options.namespace, read_only=read_only, connected=True)
        finally:
            disconnect()


def connect(options: argparse.Namespace) -> None:
    """Connect this process to the cluster that the options name; none is started."""
    from red_tui.supervisor.connect import connect

    connect(options.address, namespace=options.namespace, start=False)


def disconnect() -> None:
    """Leave the cluster."""
    import ray

    ray.shutdown()


def only(rows: list[dict[str, Any]]) -> str:
    """The id of the only federation.

    Raises:
        NotConnected: If there is none.
        CommandRefused: If there are several.
    """
    if len(rows) == 1:
        return str(rows[0]["id"])
    if not rows:
        raise NotConnected("no federation runs on this cluster: `red-console up LAYOUT` launches one", address="")
    raise CommandRefused(f"several federations are here: name one of {', '.join(row['id'] for row in rows)}")


def public(told: dict[str, Any]) -> dict[str, Any]:
    """A federation's status without the text of its layout."""
    return {key: value for key, value in told.items() if key != "layout"}


def show(options: argparse.Namespace) -> int:
    """Ask a federation, and print the text of its answer, or with `--json` its data."""
    spec = COMMANDS[options.command]
    given = {name: getattr(options, name) for name in spec.arguments if getattr(options, name) is not None}
    with attached(options, read_only=True) as client:
        answer = client.command(spec.name, given)
    if options.json:
        tell_json({name: value for name, value in answer.items() if name not in ("text", "table")})
    else:
        tell_table(answer["table"])
    return 0
