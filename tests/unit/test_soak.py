"""What a soak calls flat, and what a failed round's seconds are when clocks step."""

from __future__ import annotations

import time

import pytest

from red_tui.federation.rounds.round_plan import failed_wire
from tests.soak import Reading, Sample, table


def sample(rounds: int, memory: float, files: int = 20, processes: int = 9) -> Sample:
    return Sample(rounds, {("Supervisor", 1): Reading(memory, files, 30)}, {"processes": processes})


def test_memory_that_grows_by_more_than_two_percent_in_a_thousand_rounds_is_told() -> None:
    lines, grew = table([sample(1000, 100.0), sample(2000, 101.0), sample(3000, 103.0)])
    assert grew == [] and any("+1.50" in line for line in lines)
    _, grew = table([sample(1000, 100.0), sample(3000, 105.0)])
    assert grew == ["Supervisor 1 MB: +2.50 (+2.5%) in 1,000 rounds"]


def test_files_and_processes_that_become_more_are_told() -> None:
    _, grew = table([sample(1000, 100.0), sample(2000, 100.0, files=25, processes=12)])
    assert [line.partition(":")[0] for line in grew] == ["Supervisor 1 files", "processes"]


def test_a_failed_round_took_as_long_as_it_took_when_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: -3600.0)
    assert failed_wire(3, 1.5, ValueError("no"))["seconds"] == 1.5
