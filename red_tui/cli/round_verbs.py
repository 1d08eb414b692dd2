"""Verbs of rounds: run them, and stop them."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from red_tui.cli.attach import attached
from red_tui.cli.output import OUTPUT, confirm, ending_in_order, say, tell, tell_json
from red_tui.errors import NotConnected, NothingToDo, WrongUse
from red_tui.journal.damage import sound_results
from red_tui.journal.journal import Journal
from red_tui.journal.node_figures import NodeFigures, figures_path
from red_tui.plain_text import one_line, plain
from red_tui.protocol.events import Event
from red_tui.protocol.figures import best_of, done_share, history_table, measured, run_words
from red_tui.protocol.snapshot import RoundProgress, RoundSummary
from red_tui.replay.timeline import ReplayError, journal_path
from red_tui.selection.stop_condition import Until, portable

Told = TypeVar("Told")

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
                raise NothingToDo(f"{client.fed_id}: no rounds run: there is nothing to stop")
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
    client.start_run(rounds, until)
    wires: list[dict[str, Any]] = []
    began, last, run = False, "", RoundProgress()
    while True:
        update = client.watch(update, timeout=5.0)
        for event in map(Event.from_wire, update.get("events", [])):
            # A round that succeeded with failures has its own line; one that failed says here why.
            trouble = event.level == "error" or (event.level == "warn" and event.kind != "round")
            if trouble and event.text != last:
                last = event.text
                say(f"  {one_line(event.subject, 100)}: {one_line(last)}")
        status = None if update.get("round") is None else RoundProgress.from_wire(update["round"])
        if status is not None and status.target is not None:
            began, run = True, status
        for wire in update.get("rounds", []):
            # A supervisor that was restarted tells everything again.
            if _key(wire) not in before:
                before.add(_key(wire))
                wires.append(wire)
                if not began:  # the whole run fell between two looks
                    first = int(wires[0]["number"])
                    run = RoundProgress(target=first + rounds - 1, until=until, first=first)
                say(progress_line(wire, run))
        if began and status is not None and status.target is None:
            return wires
        if not began and not client.running:
            # The whole run fell between two looks.
            missed = client.watch(update, timeout=0.0).get("rounds", [])
            return wires + [wire for wire in missed if _key(wire) not in before]


def _key(wire: dict[str, Any]) -> tuple[int, str, float]:
    return int(wire["number"]), str(wire["state"]), round(float(wire["ended"]), 3)


BAR = 24
"""Cells of a bar of progress."""


def progress_line(wire: Mapping[str, Any], run: RoundProgress) -> str:
    """A round as a line of progress: which part of its run is done with it, and which round is the last."""
    share = done_share(run, int(wire["number"]))
    return f"{_bar(share)} {round_line(wire, run)}"


def _bar(share: float | None) -> str:
    """A bar; dots where it is not known how far a run is, as it ends by what its rounds bring."""
    if share is None:
        return "·" * BAR
    filled = round(BAR * share)
    return "█" * filled + "░" * (BAR - filled)


def round_line(wire: Mapping[str, Any], run: RoundProgress) -> str:
    """A round in a line: which it is of its run, and what it measured."""
    told = RoundSummary.from_wire(wire)
    if told.state == "failed":
        return f"round {told.number} failed"
    measures = [
        f"{one_line(name, 40)} {value:.4g}" for name, value in measured(told.loss, told.metrics, told.train_loss)
    ]
    return "  ".join([f"round {run_words(run, told.number)}", *measures, f"{told.seconds:.2f} s"])


def print_rounds(wires: list[dict[str, Any]], as_json: bool) -> None:
    """Rounds as a table, or as JSON."""
    if as_json:
        best = best_of(map(RoundSummary.from_wire, wires))
        tell_json({"rounds": wires, "best": None if best is None else best.to_wire()})
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
    best = best_of(map(RoundSummary.from_wire, wires))
    if best is not None and len(wires) > 1:
        say(f"best: {one_line(best, 100)}")


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
    """Tell the rounds of a federation, or of a journal; or the nodes of one round."""
    if options.nodes is not None:
        return _history_of_nodes(options)
    wires = _rounds(options)
    if options.csv:
        write_csv(wires)
    elif options.json:
        print_rounds(wires, True)
    else:
        print_rounds(wires, False)
    return 0


def _rounds(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Finished and failed rounds, oldest first."""
    return _looked_up(options, lambda client: list(client.snapshot().get("rounds", [])), _of_journal)


def _looked_up(options: argparse.Namespace, live: Callable[[Any], Told], kept: Callable[[Path], Told]) -> Told:
    """What a federation that runs tells, or what its journal does."""
    target = options.federation
    if target is not None and (os.sep in target or Path(target).suffix == ".db"):
        return kept(journal_path(target))
    try:
        with attached(options, read_only=True) as client:
            return live(client)
    except NotConnected as error:
        if target is None or options.address is not None:
            raise
        try:
            path = journal_path(target)
        except ReplayError:
            raise error from None
        say(f"{target} does not run here: its rounds are from {path}")
        return kept(path)


def _history_of_nodes(options: argparse.Namespace) -> int:
    """Tell the figures of every node in a round."""
    number = options.nodes
    if number < 1:
        raise WrongUse(f"--nodes is the number of a round, at least 1, not {number}")
    nodes = _looked_up(
        options,
        lambda client: dict(client.command("history", {"nodes": number})["nodes"]),
        lambda path: NodeFigures(figures_path(path), read_only=True).read(number),
    )
    names = list(dict.fromkeys(name for figures in nodes.values() for name in figures))
    if options.json:
        tell_json({"round": number, "nodes": nodes})
    elif options.csv:
        writer = csv.writer(OUTPUT, lineterminator="\n")
        writer.writerow(["node", *map(plain, names)])
        writer.writerows([[plain(node), *(figures.get(name, "") for name in names)] for node, figures in nodes.items()])
    else:
        tell(f"{'node':<20}" + "".join(f"{one_line(name, 40):>14}" for name in names))
        for node, figures in nodes.items():
            tell(f"{one_line(node, 100):<20}" + "".join(f"{_cell(figures.get(name)):>14}" for name in names))
    return 0


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
    head, rows = history_table(list(map(RoundSummary.from_wire, done)))
    writer = csv.writer(OUTPUT, lineterminator="\n")
    writer.writerow(map(plain, head))
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    if len(done) < len(wires):
        numbers = ", ".join(str(wire["number"]) for wire in wires if wire["state"] != "done")
        say(f"rounds that failed are left out: {numbers}")
