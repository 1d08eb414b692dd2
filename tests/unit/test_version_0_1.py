"""What red-tui 0.1 left on disk is read as before: history, replay, layouts, the console's preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.version_0_1.opening import ANSWERS, FEDERATIONS, HERE, LAYOUTS, answers, asked, command, copied


def holds(told: Any, before: Any, where: str = "") -> None:
    """What was said before is said still; a later version may say more."""
    if isinstance(before, dict):
        assert isinstance(told, dict), where
        for key, value in before.items():
            assert key in told, f"{where}.{key} is gone"
            holds(told[key], value, f"{where}.{key}")
    elif isinstance(before, list):
        assert len(told) == len(before), where
        for number, (one, other) in enumerate(zip(told, before, strict=True)):
            holds(one, other, f"{where}[{number}]")
    else:
        assert told == before, where


@pytest.mark.parametrize("federation", FEDERATIONS)
def test_history_and_replay_say_what_they_said(federation: str, tmp_path: Path) -> None:
    before = ANSWERS[federation]
    assert before["history"]["rounds"] and len(before["replay"]) > 5
    folder = copied(federation, tmp_path)
    holds(answers(folder, before["replay"]), before, federation)


def test_the_journals_hold_every_kind_of_thing_that_happens() -> None:
    replay = ANSWERS["moved"]["replay"]
    assert {one["topology"] for one in replay.values()} == {"star", "ring"}
    assert {state for one in replay.values() for state in one["states"]} >= {"virtual", "ready", "released"}
    assert ANSWERS["moved"]["replay"]["end"]["nodes"] == 6
    failed = [one["failed"] for one in ANSWERS["moved"]["history"]["rounds"]]
    assert failed == [0, 0, 0, 1, 0, 0, 0]
    assert ANSWERS["adaptive"]["replay"]["end"]["states"] == {"ready": 12}, "nothing closed its journal"
    assert {one["topology"] for one in ANSWERS["kept"]["replay"].values()} == {"star", "mesh"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_good(layout: str) -> None:
    told = asked("check", str(HERE / "layouts" / layout))
    assert told["ok"] and told["federation"] == layout.removesuffix(".yaml")


def test_the_config_file_is_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(HERE / "console.yaml")
    monkeypatch.setenv("RED_CONFIG", path)
    told = {row["name"]: row["value"] for row in asked("doctor") if row["source"] == path}
    assert told == {
        "theme": "red-safe",
        "ascii": "yes",
        "mouse": "no",
        "read_only_clusters": "203.0.113.7:6379",
        "group": "state",
        "zoom": "tiles",
        "columns": "id role state bundle",
        "remember": "yes",
        "replay_idle": "1.5",
        "filters": "trainers: role:train state:ready",
        "keys": "release: X, build: b",
    }
    assert command("keys") == 0
    assert "release          X " in capsys.readouterr().out
