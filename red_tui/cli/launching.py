"""Verbs that bring federations up, and `run`, which takes one down again."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import Any

from red_tui.cli.attach import disconnect, public
from red_tui.cli.output import ending_in_order, narrate, quiet_driver, say, tell, tell_json
from red_tui.cli.round_verbs import follow, print_rounds
from red_tui.errors import CommandRefused, RedError
from red_tui.layout import load, resolve
from red_tui.selection.stop_condition import portable


def run_layout(options: argparse.Namespace) -> int:
    """Launch, run rounds, print the results, end what was started."""
    from red_tui.supervisor.launch import attach
    from red_tui.supervisor.local_cluster import running_cluster, stop_cluster

    parsed = load(resolve(options.layout))
    rounds = options.rounds if options.rounds is not None else parsed.rounds.count
    if rounds < 1:
        raise CommandRefused(f"--rounds must be at least 1, not {rounds}")
    until = portable(options.until) if options.until else None
    with quiet_driver(), ending_in_order() as take_signals:
        started_here = running_cluster() is None
        launched = False

        def step(key: str, text: str, state: str) -> None:
            nonlocal launched
            launched = launched or (key, state) == ("launch", "done")
            narrate(key, text, state)

        client = None
        try:
            client = _launched(options, step)
            take_signals()
            wires = follow(client, rounds, until)
        finally:
            if not options.keep:
                if launched:
                    with contextlib.suppress(RedError):
                        (client or attach(parsed.federation, namespace=options.namespace, connected=True)).down()
                disconnect()
                if started_here:
                    stop_cluster()
    print_rounds(wires, options.json)
    done = [wire for wire in wires if wire["state"] == "done"]
    return 0 if done and len(done) == len(wires) else 1


def _launched(options: argparse.Namespace, step: Callable[[str, str, str], None] = narrate) -> Any:
    """A client of the federation that the options' layout describes, launched with its steps told."""
    from red_tui.supervisor.launch import launch

    return launch(
        options.layout,
        options.address,
        namespace=options.namespace,
        working_dir=options.working_dir,
        cpus=options.cpus,
        resume=bool(getattr(options, "resume", False)),
        start_from=options.start_from,
        step=step,
    )


def up(options: argparse.Namespace) -> int:
    """Launch and leave."""
    with quiet_driver():
        client = _launched(options)
        told = client.status()
        disconnect()
    if told.get("begins_anew"):
        say(f"{told['id']} begins anew: what it did before is set aside (--resume would have gone on with it)")
    if told.get("damage"):
        say(f"{told['id']}: {told['damage']}")
    if options.json:
        tell_json(public(told))
    else:
        tell(f"{told['id']}: {told['nodes']} virtual nodes; `red-console {told['id']}` opens it")
    return 0


def adopt(options: argparse.Namespace) -> int:
    """Take a federation up again."""
    with quiet_driver():
        from red_tui.supervisor.launch import adopt as take_up

        client = take_up(
            options.federation, options.address, namespace=options.namespace, cpus=options.cpus, step=narrate
        )
        told = public(client.status())
        disconnect()
    if told.get("damage"):
        say(f"{options.federation}: {told['damage']}")
    if options.json:
        tell_json(told)
    else:
        counts = ", ".join(f"{count} {state}" for state, count in told["states"].items())
        tell(f"{options.federation} goes on after round {told['round']}: {counts}")
    return 0
