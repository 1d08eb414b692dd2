"""`watch`: what happens to a federation, a line each, until it ends or Ctrl+C."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from red_tui.cli.attach import attached
from red_tui.cli.output import ending_in_order, say, tell, tell_json
from red_tui.errors import CommandRefused, NotConnected, WrongUse
from red_tui.plain_text import brief, one_line
from red_tui.protocol.events import Event
from red_tui.selection.clock_times import NoTime, clock_time, date_seconds, is_clock, is_date, span_seconds

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
        for line in sorted([*map(_event, events), *map(_round, rounds)], key=lambda one: float(one["time"])):
            _show(line, as_json)
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
                lines.append(_event(event))
        for wire in update.get("rounds", []):
            if _key(wire) not in told:
                told.add(_key(wire))
                if as_json:  # for people the event of a round says it all
                    lines.append(_round(wire))
        for line in sorted(lines, key=lambda one: float(one["time"])):
            _show(line, as_json)


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


def _event(event: Event) -> dict[str, Any]:
    return {"type": "event", **event.to_json()}


def _round(wire: dict[str, Any]) -> dict[str, Any]:
    return {"type": "round", "time": wire["ended"], **wire}


def _show(line: dict[str, Any], as_json: bool) -> None:
    if as_json:
        tell_json(line)
        return
    clock = time.strftime("%H:%M:%S", time.localtime(line["time"]))
    text, state = one_line(line["text"]), one_line(line["state"], 40)
    if line["kind"] == "node" and state and not text.startswith(state):
        text = f"{state}: {text}"
    tell(f"{clock}  {one_line(line['level'], 20):<5}  {one_line(line['subject'], 100):<16}  {text}")
