"""Two runs are the same, part in a round, or cannot be told apart: from journals, folders, files and histories."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui.checkpoints.checkpoint_file import round_digests
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.cli.main import main
from red_tui.federation.rounds.round_plan import finished_wire
from red_tui.journal.journal import Fold, Journal
from red_tui.protocol.events import Event
from red_tui.replay.verification import verify
from red_tui.rounds.history import History, RoundResult
from red_tui.rounds.round_log import RoundLog
from tests.fixtures import version_0_1

FIXTURE = Path(version_0_1.__file__).parent if version_0_1.__file__ else Path()
LAYOUT = """
federation: {name}
template: red_tui.examples.digits:DigitsClient
nodes: [{{count: 3, role: train}}]
rounds: {{seed: {seed}}}
"""


def groups(number: int, change: float = 0.0, state: float | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"parameters": {"w": np.arange(4.0) + number + change}}
    return made if state is None else {**made, "strategy": {"m": np.full(4, state + number)}}


def finished(number: int, digests: Mapping[str, str], participants: int = 3) -> RoundResult:
    names = tuple(f"client_{index}" for index in range(participants))
    return RoundResult(number, math.nan, {}, {}, names, {}, 0.1, float(number), 10.0 * participants, digests=digests)


def journal(folder: Path, rounds: list[RoundResult], *, seed: int = 1, versions: str = "red-tui 1") -> Path:
    folder.mkdir(parents=True)
    kept = Journal(folder / "journal.db")
    told: list[tuple[str, dict[str, Any]]] = [
        ("federation", {"layout": LAYOUT.format(name=folder.name, seed=seed), "path": "x.yaml"}),
        ("round", {"run": [len(rounds), None, None, 1], "versions": versions}),
        *(("round", {"result": finished_wire(result)}) for result in rounds),
    ]
    for seq, (kind, data) in enumerate(told, start=1):
        kept.append(Event(seq, float(seq), kind, "good", f"round {seq - 2}", "done", "", data))
    kept.close()
    return folder


def run(rounds: int, parts: int = 99, state: float | None = None, participants: int = 3) -> list[RoundResult]:
    """Rounds whose parameters are others from `parts` on."""
    return [
        finished(number, round_digests(groups(number, float(number >= parts), state)), participants)
        for number in range(1, rounds + 1)
    ]


def test_equal_runs_are_the_same_as_far_as_both_go(tmp_path: Path) -> None:
    a, b = journal(tmp_path / "a", run(3, state=0.5)), journal(tmp_path / "b", run(5, state=0.5))
    found = verify(a, b / "journal.db")
    assert found and (found.verdict, found.round, found.same_through, found.compared) == ("same", None, 3, 3)
    assert found.last == (3, 5) and found.differences == () and found.exit_code == 0
    assert str(found) == (
        "the runs are the same through round 3 (3 rounds compared); one ends there, the other goes on to round 5"
    )


def test_the_round_from_which_runs_part_is_named_with_what_else_differs(tmp_path: Path) -> None:
    a = journal(tmp_path / "a", run(4))
    b = journal(tmp_path / "b", run(4, parts=3, participants=2), seed=2, versions="red-tui 2")
    found = verify(a, b)
    assert not found and (found.verdict, found.round, found.same_through) == ("parted", 3, 2)
    assert found.parts == ("parameters",) and found.exit_code == 1
    assert found.differences == (
        "rounds.seed: 1 → 2",
        "versions: red-tui 1 → red-tui 2",
        "round 3: 3 took part with 30 examples, 0 failed → 2 took part with 20 examples, 0 failed",
    )
    assert str(found) == "the runs part in round 3: parameters differ; they are the same through round 2"


def test_a_strategy_that_remembers_something_else_is_another_run_though_parameters_are_equal(tmp_path: Path) -> None:
    a, b = journal(tmp_path / "a", run(2, state=0.0)), journal(tmp_path / "b", run(2, state=1.0))
    found = verify(a, b)
    assert (found.verdict, found.round, found.parts) == ("parted", 1, ("what the server keeps for the next round",))
    nothing = verify(a, journal(tmp_path / "c", run(2)))
    assert (nothing.verdict, nothing.round) == ("parted", 1)


def test_without_digests_it_cannot_be_told(tmp_path: Path) -> None:
    half = [*run(2), replace(run(3)[2], digests={})]
    found = verify(journal(tmp_path / "a", run(3)), journal(tmp_path / "b", half))
    assert (found.verdict, found.same_through, found.exit_code) == ("unknown", 2, 2)
    assert found.why.startswith(f"the record of round 3 has no digest in {tmp_path / 'b'}")
    # A later round that is known to be the same stands for those before it.
    between = [run(3)[0], replace(run(3)[1], digests={}), run(3)[2]]
    assert verify(tmp_path / "a", journal(tmp_path / "c", between)).verdict == "same"


def test_runs_without_a_common_round_and_damaged_ones_cannot_be_told(tmp_path: Path) -> None:
    a, late = journal(tmp_path / "a", run(3)), journal(tmp_path / "late", run(6)[4:])
    assert verify(a, late).why == f"no round is in both: {a} has rounds 1 to 3, {late} has rounds 5 to 6"
    b = journal(tmp_path / "b", run(3))
    with contextlib.closing(sqlite3.connect(b / "journal.db")) as kept, kept:
        kept.execute("UPDATE events SET data = '{' WHERE seq = 2")
    found = verify(a, b)
    assert found.verdict == "unknown" and "event 2" in found.why and found.same_through == 3
    # What is known to differ differs, whatever is damaged.
    assert verify(journal(tmp_path / "c", run(3, parts=2)), b).verdict == "parted"


def test_checkpoints_are_compared_with_journals_and_with_each_other(tmp_path: Path) -> None:
    a = journal(tmp_path / "a", run(3, state=0.5))
    for name, change in (("same", 0.0), ("other", 1.0)):
        held = groups(3, change, 0.5)
        Checkpoints(tmp_path / name / "checkpoints").save(3, held.pop("parameters"), {"seed": 4}, held)
    assert verify(a, tmp_path / "same").verdict == "same"
    assert verify(a, f"{tmp_path / 'same'}@3").verdict == "same"
    file = tmp_path / "other" / "checkpoints" / "round-000003.safetensors"
    found = verify(f"{tmp_path / 'same'}@last", file)
    assert (found.verdict, found.round, found.parts) == ("parted", 3, ("parameters",))
    with file.open("r+b") as changed:
        changed.seek(-1, os.SEEK_END)
        changed.write(b"\x7f")
    damaged = verify(a, file)
    assert damaged.exit_code == 2 and damaged.why.startswith("no round is in both")


def test_a_journal_of_an_earlier_version_is_told_by_its_checkpoints(tmp_path: Path) -> None:
    shutil.copytree(FIXTURE, tmp_path / "old")
    for path in sorted((tmp_path / "old").rglob("journal.db")):
        found = verify(path, path)
        assert found.verdict in ("same", "unknown") and found.round is None


def test_histories_of_this_process_are_compared_and_long_ones_too() -> None:
    log = RoundLog(whole=2)
    for result in run(6):
        log.append(result)
    assert verify(log.history(), History(tuple(run(6)))).verdict == "same"
    assert verify(log.history(), History(tuple(run(6, parts=2)))).round == 2
    with pytest.raises(red.RedError, match="int is no run"):
        verify(3, log.history())  # type: ignore[arg-type]


def test_versions_are_kept_with_the_round_from_which_they_ran() -> None:
    def fold(*told: tuple[int, str]) -> Fold:
        made = Fold()
        for seq, (first, versions) in enumerate(told, start=1):
            data = {"run": [9, None, None, first], "versions": versions}
            made.take(Event(first * 10 + seq, 1.0, "round", "trace", "run", "begins", "", data))
        return made

    whole = fold((1, "red-tui 1"), (4, "red-tui 2"), (6, "red-tui 2"))
    assert whole.versions == {"red-tui 1": 1, "red-tui 2": 4}
    assert (fold((1, "red-tui 1"), (4, "red-tui 2")) + fold((6, "red-tui 2"))).versions == whole.versions
    assert Fold.from_bytes(whole.to_bytes()).versions == whole.versions


def test_the_verb_tells_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = journal(tmp_path / "a", run(3)), journal(tmp_path / "b", run(3, parts=2))
    unknown = journal(tmp_path / "c", [])
    assert main(["verify", str(a), str(a)]) == 0
    assert capsys.readouterr().out == "the runs are the same through round 3 (3 rounds compared)\n"
    assert main(["verify", str(a), str(b), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["round"], told["same_through"]) == ("parted", 2, 1)
    assert main(["verify", str(a), str(unknown)]) == 2
    assert main(["verify", str(a), "nobody-has-this"]) == 2
    assert "there is no journal at" in capsys.readouterr().err
