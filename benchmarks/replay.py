"""A journal of a million rows and 100,000 events: opening it and moving in it, against reading and decoding it once."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.measuring import alternate, ratio, timed
from red_tui.journal import journal as journal_module
from red_tui.journal.journal import Journal
from red_tui.protocol.events import Event
from red_tui.replay.replay_commands import OpenReplay, open_replay

ROWS, EVENTS, TIMES = 1_000_000, 100_000, 3

_LAYOUT = f"""federation: bench
template: red_tui.examples.digits:DigitsClient
nodes: [{{count: {ROWS}, role: train}}]
placement: {{isolation: bundle, bundles: 64, cpus: 64}}
"""


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        _write(path)
        opened, read = alternate(
            lambda: timed(lambda: open_replay(str(path))), lambda: timed(lambda: _read(path)), TIMES
        )
        results = [ratio(f"open a journal of {ROWS:,} rows and {EVENTS:,} events", opened, read, 3.0)]
        to_end, back, there = [], [], []
        for _ in range(TIMES):
            replay = open_replay(str(path), playing=False)
            look = _console(replay)
            to_end.append(look("follow"))
            look("play")
            look("step_back")
            back.append(look("step_back"))
            there.append(look("at", moment=f"event {EVENTS // 2}"))
        results.append(ratio("its end, every event folded, as an update", to_end, read, 12.0))
        results.append(ratio("one event back there, as an update", back, read, 0.1))
        results.append(ratio("a moment in its middle, as an update", there, read, 1.0))
        return results


def _console(opened: OpenReplay) -> Callable[..., float]:
    """Asks as a console does: an act, then what has changed; gives the seconds."""
    cursor = [opened.feed.watch(None, 0.0)["cursor"]]

    def look(act: str, **args: Any) -> float:
        began = time.perf_counter()
        opened.feed.act(act, args)
        cursor[0] = opened.feed.watch(cursor[0], 0.0)["cursor"]
        return time.perf_counter() - began

    return look


def _read(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        for row in db.execute("SELECT * FROM events ORDER BY seq").fetchall():
            json.loads(row[-1])


def _write(path: Path) -> None:
    """Builds, releases, failures, and a round every ten events."""
    chance, at = random.Random(0), 1.7e9
    with _quick(path) as journal:
        for seq in range(1, EVENTS + 1):
            at += chance.random()
            kind, level, subject, state, data = _event(seq, chance, at)
            journal.append(Event(seq, at, kind, level, subject, "as it was told then", state, data))


def _event(seq: int, chance: random.Random, at: float) -> tuple[str, str, str, str, dict[str, Any]]:
    number, first = seq // 10 + 1, chance.randrange(1, ROWS - 1000)
    span = [first, first + chance.randrange(1, 1000)]
    if seq == 1:
        return "federation", "info", "bench", "", {"layout": _LAYOUT, "path": ""}
    if seq % 10 == 0:
        return "round", "trace", f"round {number}", "", {"begin": number}
    if seq % 10 == 9:
        result = {
            "number": number, "state": "done", "loss": 1 / number, "metrics": {"accuracy": 1 - 1 / number},
            "train_loss": 0.1, "train_metrics": {}, "seconds": 0.5, "participants": span[1] - span[0], "failed": 0,
            "ended": at, "num_examples": 1.0, "evaluated": 3, "failures": {}, "rows": [span],
        }  # fmt: skip
        return "round", "good", f"round {number}", "ready", {"result": result}
    if seq % 10 == 5:
        name = f"client_{first - 1}"
        told = {"rows": [[first, first + 1]], "ids": [name], "state": "failed", "bundle": first % 64, "died": True}
        return "node", "error", name, "failed", told
    state = "ready" if seq % 2 else "released"
    bundles = [[*span, first % 64]] if state == "ready" else []
    return "node", "good", f"{span[1] - span[0]} nodes", state, {"rows": [span], "state": state, "bundles": bundles}


class _quick:
    """A journal that keeps every event and is written at once."""

    def __init__(self, path: Path) -> None:
        self._before, journal_module.COMPACTED_AT_ONCE = journal_module.COMPACTED_AT_ONCE, 10 * EVENTS
        self._journal = Journal(path, keep=2 * EVENTS)
        self._db = self._journal._open()

    def __enter__(self) -> Journal:
        self._db.execute("BEGIN")
        return self._journal

    def __exit__(self, *ended: object) -> None:
        self._db.execute("COMMIT")
        self._journal.close()
        journal_module.COMPACTED_AT_ONCE = self._before
