"""Verbs that tell what runs, and end it."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from red_tui.cli.attach import attached, connect, disconnect, only, public
from red_tui.cli.output import confirm, ending_in_order, quiet_driver, say, tell, tell_json
from red_tui.cli.round_verbs import round_line
from red_tui.errors import CommandRefused, NotConnected, WrongUse
from red_tui.plain_text import brief, one_line
from red_tui.protocol.events import Event
from red_tui.protocol.figures import run_words
from red_tui.protocol.snapshot import RoundProgress
from red_tui.selection.stop_condition import NoTime, clock_time, date_seconds, is_clock, is_date, span_seconds

POLL = 10.0
PAGE = 1000


def watch(options: argparse.Namespace) -> int:
    """Follow events and rounds; first those since a moment, if one is given."""
    since = None if options.since is None else moment(options.since, time.time())
    with ending_in_order() as take_signals, attached(options, read_only=True) as client:
        take_signals()
        try:
            _follow(client, since, options.json)
        except KeyboardInterrupt:
            return 0  # that is how one stops looking
    return 0


def moment(text: str, now: float) -> float:
    """The wall-clock second that `--since` means: `10m` ago, `14:30` (the last one), an ISO time.

    Raises:
        WrongUse: If it cannot be read.
    """
    try:
        if is_clock(text):
            hour, minute, second = clock_time(text)
            clock = datetime.fromtimestamp(now).replace(hour=hour, minute=minute, second=second, microsecond=0)
            return clock.timestamp() - (86400.0 if clock.timestamp() > now else 0.0)
        return date_seconds(text) if is_date(text) else now - span_seconds(text)
    except NoTime as error:
        raise WrongUse(f"--since {brief(text)!r} is no moment: write 10m, 14:30 or 2026-01-31T12:00:00") from error


def _follow(client: Any, since: float | None, as_json: bool) -> None:
    update = client.snapshot()
    seen = max((event.seq for event in events_of(update)), default=0)
    told = {_key(wire) for wire in update.get("rounds", [])}
    if since is not None:
        rounds = [wire for wire in update.get("rounds", []) if wire["ended"] >= since] if as_json else []
        events = list(_events_since(client, since, seen))
        for line in sorted([*map(line_of, events), *map(_round, rounds)], key=lambda one: float(one["time"])):
            show(line, as_json)
    say(f"watching {client.fed_id}; ctrl+c ends it")
    while True:
        try:
            update = client.watch(update, timeout=POLL)
        except CommandRefused as error:
            raise NotConnected(
                f"federation {client.fed_id!r} has ended: there is no more to follow", address=""
            ) from error
        lines = []
        for event in events_of(update):
            if event.seq > seen:  # a supervisor that was restarted tells the last ones again
                seen = event.seq
                lines.append(line_of(event))
        for wire in update.get("rounds", []):
            if _key(wire) not in told:
                told.add(_key(wire))
                if as_json:  # for people the event of a round says it all
                    lines.append(_round(wire))
        for line in sorted(lines, key=lambda one: float(one["time"])):
            show(line, as_json)


def _events_since(client: Any, since: float, last: int) -> Iterator[Event]:
    """Events from the journal that happened since, oldest first."""
    pages: list[list[Event]] = []
    before = last + 1
    while page := client.events(before, PAGE):
        pages.append([event for event in page if event.time >= since])
        before = page[0].seq
        if page[0].time < since:
            break
    for page in reversed(pages):
        yield from page


def _key(wire: dict[str, Any]) -> tuple[int, str, float]:
    return int(wire["number"]), str(wire["state"]), round(float(wire["ended"]), 3)


def events_of(update: Mapping[str, Any]) -> list[Event]:
    """The events of an update."""
    return list(map(Event.from_wire, update.get("events") or ()))


def line_of(event: Event) -> dict[str, Any]:
    """An event as a line of `watch`."""
    return {"type": "event", **event.to_json()}


def _round(wire: dict[str, Any]) -> dict[str, Any]:
    return {"type": "round", "time": wire["ended"], **wire}


def show(line: dict[str, Any], as_json: bool) -> None:
    """Print a line of `watch`: as JSON, or as text that nobody else's words can pass for."""
    if as_json:
        tell_json(line)
        return
    clock = time.strftime("%H:%M:%S", time.localtime(line["time"]))
    text, state = one_line(line["text"]), one_line(line["state"], 40)
    if line["kind"] == "node" and state and not text.startswith(state):
        text = f"{state}: {text}"
    tell(f"{clock}  {one_line(line['level'], 20):<5}  {one_line(line['subject'], 100):<16}  {text}")


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
    run = RoundProgress.from_wire(told.get("progress") or {})
    if options.json:
        tell_json({**public(told), "last_round": last})
        return 0
    state = "a session runs" if told.get("session") else told["state"]
    tell(f"{told['id']}: {state}, {told['nodes']} nodes, round {told['round']}, {_age(told['age_s'])} old")
    if run.running:
        tell(f"  round {run_words(run)} is in hand: {run.phase}" + (f" {run.done}/{run.of}" if run.of else ""))
    tell("  " + "  ".join(f"{count} {state}" for state, count in told["states"].items()))
    if last is not None:
        tell("  " + round_line(last, run))
    if run.best is not None:
        tell(f"  best: {run.best}")
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
                confirm(options, f"End federation {in_words(row)}?", "end it")
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
        inside = ", and in it " + ", ".join(map(in_words, rows)) if rows else ""
        where = f"at {cluster.address or 'no address yet'}" if cluster else "whose note is lost"
        confirm(options, f"End the local cluster {where}{inside}?", "end it")
    ended = stop_cluster()
    if options.json:
        tell_json({"processes": ended.processes})
    say(f"the local cluster is down, {ended.processes} processes ended")
    if ended.left:
        say(ended.left)
    return 0


def in_words(row: dict[str, Any]) -> str:
    """A federation with what ends with it."""
    nodes, processes = int(row["nodes"]), len(row["alive"])
    return (
        f"{row['id']} ({nodes:,} node{'' if nodes == 1 else 's'},"
        f" {processes:,} process{'' if processes == 1 else 'es'})"
    )
