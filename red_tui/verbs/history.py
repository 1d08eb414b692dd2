"""`history`: the rounds of a federation that runs, or of one that has ended."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from red_tui.errors import NotConnected
from red_tui.journal.damage import sound_results
from red_tui.journal.journal import Journal
from red_tui.plain_text import plain
from red_tui.replay.timeline import ReplayError, journal_path
from red_tui.verbs.attaching import attached
from red_tui.verbs.narration import say, tell_json
from red_tui.verbs.output import OUTPUT
from red_tui.verbs.rounds import print_rounds

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
