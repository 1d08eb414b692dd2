from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from red_tui.journal.journal import Fold, Journal
from red_tui.protocol.events import Event
from red_tui.replay import timeline as module
from red_tui.replay.timeline import Replay, ReplayError, journal_path, require_journal


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


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
    [
        ("+4s", 5),
        ("+0", 1),
        ("+1h", 12),
        ("-1m", 1),
        ("-2s", 10),
        ("round:2", 10),
        ("Round 2", 10),
        ("event 7", 7),
        ("begin", 0),
        ("end", 12),
        ("00:16:47", 7),
        ("0:16", 1),
        ("1970-01-01T00:16:47+00:00", 7),
        ("1970-01-01T00:16:47Z", 7),
        ("1970-01-01 00:16:47", 7),
    ],
)
def test_moments_are_found(tmp_path: Path, utc: None, text: str, position: int) -> None:
    written(tmp_path / "journal.db", 12).close()
    replay = Replay(tmp_path / "journal.db")
    replay.seek_moment(text)
    assert replay.position == position


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("round:9", "it has rounds 1 to 2"),
        ("event 99", "events 1 to 12"),
        ("event 0", "events 1 to 12"),
        ("soon", "write 14:30"),
        ("+3 weeks", "write 14:30"),
        ("25:00", "write 14:30"),
        ("", "write 14:30"),
        ("14:30", "the journal goes from 1970-01-01 00:16:41 to"),
        ("2031-01-01", "the journal goes from 1970-01-01 00:16:41 to"),
    ],
)
def test_what_is_no_moment_is_refused_with_what_there_is(tmp_path: Path, utc: None, text: str, words: str) -> None:
    written(tmp_path / "journal.db", 12).close()
    replay = Replay(tmp_path / "journal.db")
    replay.seek(4)
    with pytest.raises(ReplayError, match=words) as told:
        replay.seek_moment(text)
    assert told.value.exit_code == 2 and replay.position == 4


def test_a_clock_time_means_the_day_that_is_shown(tmp_path: Path, utc: None) -> None:
    journal = Journal(tmp_path / "journal.db")
    for seq in range(1, 5):
        journal.append(replace(event(seq), time=seq * 86_400.0 + 36_000))
    replay = Replay(tmp_path / "journal.db")
    for position in (1, 3):
        replay.seek(position)
        replay.seek_moment("10:00")
        assert replay.position == position


def test_a_round_that_failed_and_was_run_again_ends_the_last_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    for seq, state in enumerate(("failed", "failed", "done"), 1):
        result = {"number": 4, "state": state}
        journal.append(Event(seq, seq, "round", "info", "round 4", "", "", {"result": result}))
    replay = Replay(tmp_path / "journal.db")
    replay.seek_moment("round 4")
    assert replay.position == 3 and replay.last_round == 4 and replay.result_count == 3


def test_a_journal_that_grows_is_followed(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.db", 3)
    replay = Replay(tmp_path / "journal.db")
    replay.seek(3)
    journal.append(event(4))
    assert replay.follow() == 1 and not replay.at_end
    replay.step(1)
    assert replay.at_end and replay.fold() == added_up(4)


def test_of_a_compacted_journal_rounds_are_shown_first_and_then_what_was_compacted(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.db", 40)
    journal.compact(keep=10)
    replay = Replay(tmp_path / "journal.db")
    # Six rounds that stay, one event for all that was compacted, and ten that are as they were.
    assert [one.seq for one in replay.events] == [5, 10, 15, 20, 25, 30, 30, *range(31, 41)]
    assert replay.sparse
    replay.seek(3)
    assert replay.sparse and [one["number"] for one in replay.fold().rounds] == [1, 2, 3]
    assert not len(replay.fold())
    replay.seek(7)
    assert not replay.sparse and replay.fold() == added_up(30)
    replay.seek(17)
    assert replay.fold() == added_up(40)
    replay.seek(6)
    assert replay.sparse and replay.result_count == 6


@pytest.mark.parametrize("keep", [0, 3, 10, 19])
def test_compaction_past_what_was_read_is_noticed_and_nothing_is_missed(tmp_path: Path, keep: int) -> None:
    journal = written(tmp_path / "journal.db", 20)
    replay = Replay(tmp_path / "journal.db")
    replay.seek(20)
    for seq in range(21, 41):
        journal.append(event(seq))
    journal.compact(keep=keep)
    replay.follow()
    replay.seek(len(replay.events))
    assert replay.fold() == added_up(40) and replay.at_end
    assert [one["number"] for one in replay.results] == list(range(1, 9))
    for position in (20, 13, len(replay.events), 5):
        replay.seek(position)
        assert replay.fold() == (added_up(position) if position <= 20 else added_up(40))
    if keep < 20:
        assert "were compacted" in next(one.text for one in replay.events if one.subject == "journal")


def test_compaction_of_what_was_read_changes_nothing(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.db", 40)
    replay = Replay(tmp_path / "journal.db")
    journal.compact(keep=5)
    assert replay.follow() == 0
    journal.append(event(41))
    assert replay.follow() == 1 and [one.seq for one in replay.events] == list(range(1, 42))


def test_nothing_is_written_into_a_journal_nor_left_beside_it(tmp_path: Path) -> None:
    written(tmp_path / "journal.db", 12).close()
    before = (tmp_path / "journal.db").read_bytes(), sorted(path.name for path in tmp_path.iterdir())
    replay = Replay(tmp_path / "journal.db")
    replay.seek(12)
    replay.follow()
    replay.close()
    assert ((tmp_path / "journal.db").read_bytes(), sorted(path.name for path in tmp_path.iterdir())) == before


def test_a_journal_that_is_taken_up_again_is_followed(tmp_path: Path) -> None:
    written(tmp_path / "journal.db", 3).close()
    replay = Replay(tmp_path / "journal.db")
    again = Journal(tmp_path / "journal.db")
    again.append(event(4))
    assert replay.follow() == 1  # while it is open
    again.append(event(5))
    again.close()
    assert replay.follow() == 1  # after it was closed: its log is gone


def test_a_federation_that_begins_anew_under_the_same_name_is_another_journal(tmp_path: Path) -> None:
    written(tmp_path / "journal.db", 3).close()
    replay = Replay(tmp_path / "journal.db")
    (tmp_path / "journal.db").rename(tmp_path / "journal-20260101T000000.db")
    written(tmp_path / "journal.db", 9).close()
    assert replay.follow() == 0 and len(replay.events) == 3


WITHOUT_RIGHTS = """
import os, sys
from pathlib import Path
from red_tui.replay.timeline import Replay
os.setgid(65534); os.setuid(65534)
try:
    open(Path(sys.argv[1]).with_name("made"), "w")
except OSError:
    print("read-only", len(Replay(Path(sys.argv[1])).events))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
@pytest.mark.parametrize("log", ["none", "live", "of the killed"])
def test_a_journal_in_a_read_only_folder_is_read_with_its_log_and_without(log: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        journal = written(folder / "journal.db", 5)
        if log == "none":
            journal.close()
        if log == "of the killed":
            other = folder / "other"
            other.mkdir()
            for end in ("", "-wal"):
                shutil.copy(folder / f"journal.db{end}", other / f"journal.db{end}")
            folder = other
        for path in (Path(name), folder):
            path.chmod(0o555)
        for path in folder.glob("journal.db*"):
            path.chmod(0o444)
        before = sorted(path.name for path in folder.iterdir())
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_RIGHTS, str(folder / "journal.db")],
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        assert done.stdout == "read-only 5\n", done.stderr
        assert sorted(path.name for path in folder.iterdir()) == before
        journal.close()


@pytest.mark.parametrize("content", [b"", b"this is no database, and long enough to be taken for one" * 20])
@pytest.mark.parametrize("ask", [Replay, require_journal])
def test_what_is_no_journal_is_wrong_use(tmp_path: Path, content: bytes, ask: Callable[[Path], Any]) -> None:
    (tmp_path / "journal.db").write_bytes(content)
    with pytest.raises(ReplayError) as told:
        ask(tmp_path / "journal.db")
    assert told.value.exit_code == 2 and "journal.db" in told.value.message


@pytest.mark.parametrize("ask", [Replay, require_journal])
def test_a_journal_of_a_later_version_is_refused_by_name(tmp_path: Path, ask: Callable[[Path], Any]) -> None:
    written(tmp_path / "journal.db", 3).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as db, db:
        db.execute("UPDATE meta SET value = '99'")
    with pytest.raises(ReplayError, match="upgrade red-tui"):
        ask(tmp_path / "journal.db")


def test_of_a_journal_that_was_cut_off_what_is_there_is_shown_and_the_loss_is_told(tmp_path: Path) -> None:
    written(tmp_path / "journal.db", 2000).close()
    data = (tmp_path / "journal.db").read_bytes()
    (tmp_path / "journal.db").write_bytes(data[: len(data) // 2])
    replay = Replay(tmp_path / "journal.db")
    seqs = [event.seq for event in replay.events]
    assert seqs == list(range(1, len(seqs) + 1)) and 500 < len(seqs) < 2000
    assert "the journal is damaged" in str(replay.damage)
    replay.close()


def test_an_event_that_is_no_json_costs_itself_only_and_is_told(tmp_path: Path) -> None:
    written(tmp_path / "journal.db", 3).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as db, db:
        db.execute("UPDATE events SET data = '{' WHERE seq = 2")
    replay = Replay(tmp_path / "journal.db")
    assert [event.seq for event in replay.events] == [1, 3] and "event 2" in str(replay.damage)
    replay.close()


def test_a_journal_is_named_by_file_folder_or_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RED_HOME", str(tmp_path))
    folder = tmp_path / "federations" / "digits"
    folder.mkdir(parents=True)
    written(folder / "journal.db", 1).close()
    for target in (str(folder / "journal.db"), str(folder), "digits"):
        assert journal_path(target) == folder / "journal.db"
    with pytest.raises(ReplayError, match="there is no journal"):
        journal_path("nobody")
