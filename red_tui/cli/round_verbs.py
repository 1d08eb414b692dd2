"""Verbs of rounds: run them, and stop them."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from red_tui.cli.attach import attached
from red_tui.cli.output import OUTPUT, confirm, ending_in_order, say, tell, tell_json
from red_tui.errors import CommandRefused, NotConnected, WrongUse
from red_tui.journal.damage import sound_results
from red_tui.journal.journal import Journal
from red_tui.plain_text import one_line, plain
from red_tui.protocol.events import Event
from red_tui.replay.timeline import ReplayError, journal_path
from red_tui.selection.stop_condition import Until, portable

MOST = 1000
"""Rounds of a run that says only until which measure."""

MOST_IN_TIME = 1_000_000
"""Rounds of a run that ends at a time."""


def round_(options: argparse.Namespace) -> int:
    """Run rounds of a federation that runs: one, some, or until a condition holds."""
    until = portable(options.until) if options.until else None
    rounds = options.rounds
    if rounds is None:
        rounds = 1 if until is None else MOST if Until.parse(until).time is None else MOST_IN_TIME
    if rounds < 1:
        raise WrongUse(f"--rounds must be at least 1, not {rounds}")
    with ending_in_order() as take_signals, attached(options) as client:
        take_signals()
        if options.no_wait:
            client.start_run(rounds, until)
            what = "a round" if rounds == 1 else f"{rounds} rounds"
            text = f"{client.fed_id} runs {what}" + (f" until {until}" if until else "")
            if options.json:
                tell_json({"federation": client.fed_id, "rounds": rounds, "until": until})
            say(f"{text}; `red-console watch {client.fed_id}` follows it")
            return 0
        wires = follow(client, rounds, until)
    print_rounds(wires, options.json)
    return 0 if wires and all(wire["state"] == "done" for wire in wires) else 1


def stop(options: argparse.Namespace) -> int:
    """End a run of rounds after its present round, or now; or a session."""
    with attached(options) as client:
        if options.now:
            told = client.status()
            if not told["running"]:
                raise CommandRefused(f"{client.fed_id}: no rounds run: there is nothing to stop")
            round_now = f"Stop the round of {client.fed_id} now, so that it does not count?"
            confirm(options, f"End the session of {client.fed_id}?" if told["session"] else round_now, "stop it now")
        text = client.stop(now=options.now)
    if options.json:
        tell_json({"federation": client.fed_id, "text": text})
    else:
        tell(f"{client.fed_id}: {text}")
    return 0


def follow(client: Any, rounds: int, until: str | None) -> list[dict[str, Any]]:
    """Start a run and tell of it until it is over; gives its rounds."""
    update = client.snapshot()
    earlier = update.get("rounds", [])
    before = {_key(wire) for wire in earlier}
    last_number = rounds + max((int(wire["number"]) for wire in earlier if wire["state"] == "done"), default=0)
    client.start_run(rounds, until)
    wires: list[dict[str, Any]] = []
    began, last = False, ""
    while True:
        update = client.watch(update, timeout=5.0)
        for event in map(Event.from_wire, update.get("events", [])):
            # A round that succeeded with failures has its own line; one that failed says here why.
            trouble = event.level == "error" or (event.level == "warn" and event.kind != "round")
            if trouble and event.text != last:
                last = event.text
                say(f"  {one_line(event.subject, 100)}: {one_line(last)}")
        for wire in update.get("rounds", []):
            # A supervisor that was restarted tells everything again.
            if _key(wire) not in before:
                before.add(_key(wire))
                wires.append(wire)
                say(progress(wire, len(wires) / rounds, last_number))
        status = update.get("round")
        if status is not None:
            began = began or status["target"] is not None
            if began and status["target"] is None:
                return wires
        if not began and not client.running:
            # The whole run fell between two looks.
            missed = client.watch(update, timeout=0.0).get("rounds", [])
            return wires + [wire for wire in missed if _key(wire) not in before]


def _key(wire: dict[str, Any]) -> tuple[int, str, float]:
    return int(wire["number"]), str(wire["state"]), round(float(wire["ended"]), 3)


def progress(wire: dict[str, Any], share: float, last_number: int) -> str:
    """A round as a line of progress: which share of the run is done with it, and which round is the last."""
    width = 24
    filled = round(width * min(1.0, share))
    bar = "█" * filled + "░" * (width - filled)
    if wire["state"] == "failed":
        return f"{bar} round {wire['number']} failed"
    metrics = "  ".join(
        f"{one_line(name, 40)} {value:.4g}" for name, value in wire["metrics"].items() if value is not None
    )
    loss = wire["loss"] if wire["loss"] is not None else wire["train_loss"]
    shown = f"loss {loss:.4g}" if loss is not None else ""
    return f"{bar} round {wire['number']}/{last_number}  {shown}  {metrics}  {wire['seconds']:.2f} s"


def print_rounds(wires: list[dict[str, Any]], as_json: bool) -> None:
    """Rounds as a table, or as JSON."""
    if as_json:
        tell_json({"rounds": wires})
        return
    metrics = sorted({name for wire in wires for name in wire["metrics"]})
    out = ["left_out"] if any(wire.get("num_left_out") for wire in wires) else []
    head = ["round", "loss", *metrics, "train_loss", "nodes", "failed", *out, "seconds"]
    tell("".join(f"{one_line(name, 40):>12}" for name in head))
    for wire in wires:
        if wire["state"] == "failed":
            tell(f"{wire['number']:>12}{'failed':>12}")
            continue
        cells = [wire["number"], wire["loss"], *(wire["metrics"].get(name) for name in metrics)]
        cells += [wire["train_loss"], wire["participants"], wire["failed"]]
        cells += [*(wire.get("num_left_out", 0) for _ in out), wire["seconds"]]
        tell("".join(f"{_cell(cell):>12}" for cell in cells))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


TOLD = (
    "number", "state", "loss", "metrics", "train_loss", "train_metrics", "seconds", "participants", "failed", "ended",
    "num_examples", "evaluated", "num_left_out", "left_out", "error",
)  # fmt: skip
"""What is told of a round; a journal holds more, for recovery."""


UNTOLD = {"train_loss": None, "failed": 0, "num_examples": 0.0, "evaluated": 0}
"""What results of older versions do not tell."""


def history(options: argparse.Namespace) -> int:
    """Tell the rounds of a federation, or of a journal."""
    wires = _rounds(options)
    if options.csv:
        write_csv(wires)
    elif options.json:
        tell_json({"rounds": wires})
    else:
        print_rounds(wires, False)
    return 0


def _rounds(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Finished and failed rounds, oldest first."""
    target = options.federation
    if target is not None and (os.sep in target or Path(target).suffix == ".db"):
        return _of_journal(journal_path(target))
    try:
        with attached(options, read_only=True) as client:
            return list(client.snapshot().get("rounds", []))
    except NotConnected as error:
        if target is None or options.address is not None:
            raise
        try:
            path = journal_path(target)
        except ReplayError:
            raise error from None
        say(f"{target} does not run here: its rounds are from {path}")
        return _of_journal(path)


def _of_journal(path: Path) -> list[dict[str, Any]]:
    journal = Journal(path, read_only=True)
    try:
        fold = journal.fold()
    finally:
        journal.close()
    damage = journal.damage
    for seq in fold.unread:
        damage.note(f"event {seq}", "it makes no sense")
    whole = sound_results(fold.rounds + fold.failed_rounds, damage)
    if damage:
        say(f"{path}: {damage}")
    elif not fold.last_seq:
        say(f"{path} is empty: nothing has happened in it")
    rounds = [{**UNTOLD, **{key: one[key] for key in TOLD if key in one}} for one in whole]
    return sorted(rounds, key=lambda one: float(one["ended"]))


def write_csv(wires: Sequence[Mapping[str, Any]]) -> None:
    """One line a finished round, on stdout, with the columns of `History.to_csv`; those that failed are named aside."""
    done = [wire for wire in wires if wire["state"] == "done"]
    metrics = sorted({name for wire in done for name in wire["metrics"]})
    trained = sorted({name for wire in done for name in wire["train_metrics"]})
    writer = csv.writer(OUTPUT, lineterminator="\n")
    head = ["round", "loss", *map(plain, metrics), *(f"train_{plain(name)}" for name in trained)]
    writer.writerow([*head, "participants", "failed", "num_examples", "seconds", "left_out"])
    for wire in done:
        values = [wire["number"], wire["loss"], *(wire["metrics"].get(name) for name in metrics)]
        values += [wire["train_metrics"].get(name) for name in trained]
        values += [
            wire["participants"],
            wire["failed"],
            wire["num_examples"],
            wire["seconds"],
            wire.get("num_left_out", 0),
        ]
        writer.writerow(["" if value is None else value for value in values])
    if len(done) < len(wires):
        numbers = ", ".join(str(wire["number"]) for wire in wires if wire["state"] != "done")
        say(f"rounds that failed are left out: {numbers}")
