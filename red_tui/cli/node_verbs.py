"""Verbs of nodes: build, release, rebuild, add, remove; and what is said before: plan, explain."""

from __future__ import annotations

import argparse

from red_tui.cli.attach import attached
from red_tui.cli.output import confirm, ending_in_order, named, say, tell, tell_json, tell_table
from red_tui.errors import CommandRefused, WrongUse
from red_tui.plain_text import one_line
from red_tui.selection import parse
from red_tui.supervisor.command_handlers import report_to_wire

UNBUILT = "state:virtual or state:released"


def build(options: argparse.Namespace) -> int:
    """Build the nodes that a query names."""
    return _built(options, "build", _checked(options.query or UNBUILT))


def rebuild(options: argparse.Namespace) -> int:
    """Replace nodes that failed."""
    return _built(options, "rebuild", _checked(options.query) if options.query else None)


def _built(options: argparse.Namespace, verb: str, query: str | None) -> int:
    with ending_in_order() as take_signals, attached(options) as client:
        take_signals()
        report = getattr(client, verb)(query, wait=not options.no_wait, timeout=options.timeout)
    if options.json:
        tell_json(report_to_wire(report))
    else:
        tell(str(report))
    for node_id, failure in report.failed.items():
        say(f"  {node_id} failed: {one_line(failure.why)}")
    return 0 if (report.built or report.waiting or report.already) and not report.failed else 1


def release(options: argparse.Namespace) -> int:
    """Give processes back, and with `--bundles` all bundles too; the nodes keep their state."""
    if options.bundles:
        return _release_bundles(options)
    if not options.query:
        raise WrongUse("name the nodes to release by an id or a query, or give all bundles back with --bundles")
    return _ended(options, "release", "release", "Release")


def _release_bundles(options: argparse.Namespace) -> int:
    if options.query:
        raise WrongUse("release --bundles releases all nodes: leave the query out")
    with attached(options) as client:
        confirm(options, f"Release all nodes of {client.fed_id} and give its bundles back?", "release them")
        report = client.release_bundles()
    if options.json:
        tell_json({"done": list(report.done), "refused": dict(report.refused)})
    else:
        tell(f"{len(report.done)} nodes released, all bundles given back")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Forget nodes."""
    return _ended(options, "remove_nodes", "remove", "Remove")


def _ended(options: argparse.Namespace, method: str, verb: str, title: str) -> int:
    query = _checked(options.query)
    with attached(options) as client:
        # What is asked about is what is ended: a query would be read again after the answer.
        ids = client.select(query).ids
        if not ids:
            raise CommandRefused(f"no node of {client.fed_id} matches {query!r}")
        confirm(options, f"{title} {named(ids)}?", f"{verb} {'it' if len(ids) == 1 else 'them'}")
        further = {"keep_state": options.keep_state} if verb == "remove" else {}
        report = getattr(client, method)(ids, **further)
    if options.json:
        tell_json({"done": list(report.done), "refused": dict(report.refused)})
    else:
        tell(f"{named(list(report.done))} {verb}d")
    for node_id, why in report.refused.items():
        say(f"  {node_id} not: {one_line(why)}")
    return 1 if report.refused else 0


def add(options: argparse.Namespace) -> int:
    """Add virtual nodes."""
    if options.count < 1:
        raise WrongUse(f"at least 1 node is added, not {options.count}")
    with attached(options) as client:
        ids = client.add_nodes(options.count, options.role)
    if options.json:
        tell_json({"ids": ids})
    else:
        tell(f"added {named(ids)}")
    return 0


def plan(options: argparse.Namespace) -> int:
    """Say who would go where, and build nothing."""
    query = _checked(options.query or UNBUILT)
    with attached(options, read_only=True) as client:
        answer = client.command("plan", {"query": query})
    if options.json:
        tell_json({key: value for key, value in answer.items() if key not in ("text", "table")})
    else:
        tell_table(answer["table"])
    return 0


def explain(options: argparse.Namespace) -> int:
    """Say why a node is as it is, and what would help."""
    with attached(options, read_only=True) as client:
        told = client.command("explain", {"id": options.node})
    if options.json:
        tell_json({"id": options.node, **{key: value for key, value in told.items() if key not in ("text", "table")}})
    else:
        tell_table(f"{one_line(options.node)} {told['table']}")
    return 0


def _checked(query: str) -> str:
    """A query that can be read: what is wrong with it is said before anything is asked.

    Raises:
        SelectionError: With its position.
    """
    parse(query)
    return query
