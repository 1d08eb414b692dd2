"""Verbs that tell what runs, and end it."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from red_tui.cli.attach import connect, disconnect, only, public
from red_tui.cli.output import confirm, quiet_driver, say, tell, tell_json
from red_tui.cli.round_verbs import progress
from red_tui.errors import CommandRefused


def ls(options: argparse.Namespace) -> int:
    """List federations."""
    from red_tui.supervisor.launch import federations

    with quiet_driver():
        rows = federations(options.address, namespace=options.namespace)
        disconnect()
    if options.json:
        tell_json(rows)
        return 0
    if not rows:
        say("no federation runs on this cluster: `red-console up LAYOUT` launches one")
    else:
        tell(f"{'federation':<24}{'state':<16}{'nodes':>8}{'round':>8}{'age':>10}")
    for row in rows:
        shown = row["round"] if row["round"] is not None else "-"
        tell(f"{row['id']:<24}{row['state']:<16}{row['nodes']:>8}{shown:>8}{_age(row['age_s']):>10}")
    return 0


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def status(options: argparse.Namespace) -> int:
    """One federation in short."""
    from red_tui.supervisor.launch import attach
    from red_tui.supervisor.registry import listed

    with quiet_driver():
        connect(options)
        fed_id = options.federation or only(listed(options.namespace))
        client = attach(fed_id, namespace=options.namespace, connected=True)
        told = client.status()
        history = client.history
        disconnect()
    last = history[-1].to_wire() if len(history) else None
    if options.json:
        tell_json({**public(told), "last_round": last})
        return 0
    state = "a session runs" if told.get("session") else told["state"]
    tell(f"{told['id']}: {state}, {told['nodes']} nodes, round {told['round']}, {_age(told['age_s'])} old")
    tell("  " + "  ".join(f"{count} {state}" for state, count in told["states"].items()))
    if last is not None:
        tell("  " + progress(last, 1.0, told["round"]).lstrip("█░ "))
    if told.get("damage"):
        tell(f"  {told['damage']}")
    return 0


def down(options: argparse.Namespace) -> int:
    """End a federation, or the local cluster, after a question."""
    if options.all:
        return _end_cluster(options)
    from red_tui.supervisor.launch import attach
    from red_tui.supervisor.registry import end_orphan, listed

    with quiet_driver():
        connect(options)
        rows = listed(options.namespace)
        fed_id = options.federation or only(rows)
        row = next((row for row in rows if row["id"] == fed_id), None)
        orphan = row is None or row["state"] not in ("idle", "running")
        try:
            if row is not None:
                confirm(options, f"End federation {_told(row)}?", "end it")
            if orphan:
                ended = end_orphan(fed_id, options.namespace)
                text = f"{ended} actors of {fed_id}, which had lost its supervisor, are ended"
            else:
                attach(fed_id, namespace=options.namespace, connected=True).down()
                text = (
                    f"federation {fed_id} is down; the cluster goes on (end a local one with `red-console down --all`)"
                )
        finally:
            disconnect()
    if options.json:
        tell_json({"federation": fed_id, "text": text})
    say(text)
    return 0


def _end_cluster(options: argparse.Namespace) -> int:
    """End the local cluster and all in it, after a question."""
    from red_tui.supervisor.launch import federations
    from red_tui.supervisor.local_cluster import read_cluster, stop_cluster, unnoted_folders

    if options.federation or options.address:
        raise CommandRefused("--all ends the local cluster: name neither a federation nor an address with it")
    cluster = read_cluster()
    if cluster is None and not unnoted_folders():
        say("no local cluster of red-console runs: nothing to end")
        return 0
    if not options.yes:
        rows: list[dict[str, Any]] = []
        with quiet_driver(), contextlib.suppress(Exception):  # one that does not answer is ended as well
            if cluster is not None:
                rows = federations(cluster.address, namespace=options.namespace)
                disconnect()
        inside = ", and in it " + ", ".join(map(_told, rows)) if rows else ""
        where = f"at {cluster.address or 'no address yet'}" if cluster else "whose note is lost"
        confirm(options, f"End the local cluster {where}{inside}?", "end it")
    ended = stop_cluster()
    if options.json:
        tell_json({"processes": ended.processes})
    say(f"the local cluster is down, {ended.processes} processes ended")
    if ended.left:
        say(ended.left)
    return 0


def _told(row: dict[str, Any]) -> str:
    """A federation with what ends with it."""
    nodes, processes = int(row["nodes"]), len(row["alive"])
    return (
        f"{row['id']} ({nodes:,} node{'' if nodes == 1 else 's'},"
        f" {processes:,} process{'' if processes == 1 else 'es'})"
    )
