from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from red_tui.federation.records import Event
from red_tui.supervisor import replay as module
from red_tui.supervisor.journal import Fold, Journal
from red_tui.supervisor.replay import Replay, ReplayError, journal_path


def event(seq: int) -> Event:
    """Every fifth event ends a round; the others move a node."""
    data: dict[str, Any] = {"rows": [[seq % 7, seq % 7 + 1]], "state": "ready", "bundle": seq % 3}
    if seq % 5 == 0:
        data = {"result": {"number": seq // 5, "state": "done", "loss": 1 / seq}}
    return Event(seq, 1000.0 + seq, "round" if "result" in data else "node", "info", "x", "text", "", data)


def written(path: Path, count: int, keep: int = 10_000) -> Journal:
    journal = Journal(path, keep=keep)
    for seq in range(1, count + 1):
        journal.append(event(seq))
    return journal


def added_up(count: int) -> Fold:
    made = Fold()
    for seq in range(1, count + 1):
        made.take(event(seq))
    return made


def test_every_position_is_the_fold_of_its_events_whichever_way_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 8)
    written(tmp_path / "journal.db", 40).close()
    replay = Replay(tmp_path / "journal.db")
    for position in (0, 40, 39, 17, 16, 15, 33, 0, 8, 999, -1):
        replay.seek(position)
        assert replay.position == min(max(position, 0), 40)
        assert replay.fold() == added_up(replay.position)


def test_steps_by_round_stop_at_the_ends_of_rounds(tmp_path: Path) -> None:
    written(tmp_path / "journal.db", 12).close()
    replay = Replay(tmp_path / "journal.db")
    seen = []
    for step in (1, 1, 1, -1, -1, -1):
        replay.step_round(step)
        seen.append(replay.position)
    assert seen == [5, 10, 12, 10, 5, 0]


@pytest.mark.parametrize(
    ("text", "position"),
    [("+4s", 5), ("+0", 1), ("-1m", 0), ("-2s", 10), ("round:2", 10), ("1970-01-01T00:16:47+00:00", 7)],
)
def test_moments_are_found(tmp_path: Path, text: str, position: int) -> None:
    written(tmp_path / "journal.db", 12).close()
    replay = Replay(tmp_path / "journal.db")
    replay.seek_moment(text)
    assert replay.position == position


@pytest.mark.parametrize("text", ["round:9", "soon", "+3 weeks", ""])
def test_what_is_no_moment_is_refused(tmp_path: Path, text: str) -> None:
    written(tmp_path / "journal.db", 12).close()
    with pytest.raises(ReplayError, match="--at"):
        Replay(tmp_path / "journal.db").seek_moment(text)


def test_a_journal_that_grows_is_followed(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.db", 3)
    replay = Replay(tmp_path / "journal.db")
    replay.seek(3)
    journal.append(event(4))
    assert replay.follow() == 1 and not replay.at_end
    replay.step(1)
    assert replay.at_end and replay.fold() == added_up(4)


def test_a_compacted_journal_begins_with_what_was_compacted(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.db", 40)
    journal.compact(keep=10)
    replay = Replay(tmp_path / "journal.db")
    assert len(replay.events) == 10 and replay.fold() == added_up(30)
    replay.seek(10)
    assert replay.fold() == added_up(40)


@pytest.mark.parametrize("content", [b"", b"this is no database, and long enough to be taken for one" * 20])
def test_what_is_no_journal_is_wrong_use(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.db").write_bytes(content)
    with pytest.raises(ReplayError) as told:
        Replay(tmp_path / "journal.db")
    assert told.value.exit_code == 2 and "journal.db" in told.value.message


def test_a_journal_is_named_by_file_folder_or_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RED_HOME", str(tmp_path))
    folder = tmp_path / "federations" / "digits"
    folder.mkdir(parents=True)
    written(folder / "journal.db", 1).close()
    for target in (str(folder / "journal.db"), str(folder), "digits"):
        assert journal_path(target) == folder / "journal.db"
    with pytest.raises(ReplayError, match="there is no journal"):
        journal_path("nobody")
