"""Journals of other versions, journals that are none, and journals that stay small."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from red_tui.journal.journal import SCHEMA_VERSION, Fold, Journal, JournalError
from red_tui.journal.tables import BLOCK
from red_tui.protocol.events import Event

VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    level TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    state TEXT NOT NULL,
    data TEXT NOT NULL
);
"""


def result(number: int, participants: int = 8) -> dict[str, Any]:
    """A round as the engine records it, with numbers that do not repeat."""
    loss = 2.3 / (1 + number**0.5)
    return {
        "number": number, "state": "done", "loss": loss, "metrics": {"accuracy": 1 - loss / 3, "loss": loss},
        "train_loss": loss * 0.93, "train_metrics": {"loss": loss * 0.93, "accuracy": 1 - loss / 3.3},
        "seconds": 0.2 + (number * 7919 % 1000) / 7001, "participants": participants, "failed": 0,
        "ended": 1.7e9 + number * 0.2731, "num_examples": 1437.0, "evaluated": 2, "failures": {},
        "ids": [f"client_{i}" for i in range(participants)],
    }  # fmt: skip


def events_of_a_run(rounds: int, participants: int = 8) -> list[Event]:
    """Eight nodes are ready, one fails and comes back every hundred rounds; each round leaves a checkpoint."""
    ids = [f"client_{i}" for i in range(participants)]
    made: list[Event] = []

    def add(kind: str, subject: str, text: str, **data: Any) -> None:
        made.append(Event(len(made) + 1, 1.7e9 + len(made) * 0.1, kind, "info", subject, text, "", data))

    add("federation", "digits", "9 virtual nodes, launched by somebody")
    add("wave", "8 nodes", "ready", ids=ids, rows=[[1, 1 + participants]], state="ready", bundles=[[1, 9, 1]])
    for number in range(1, rounds + 1):
        subject = f"round {number}"
        add("round", subject, "begins", begin=number)
        one = result(number, participants)
        text = f"loss {one['loss']:.4g}  accuracy {one['metrics']['accuracy']:.4g}  8 results in {one['seconds']:.2f} s"
        add("round", subject, text, result=one)
        file = f"round-{number:06d}.safetensors"
        add("round", subject, "kept", checkpoint={"round": number, "file": file, "digest": f"{number * 7919:064x}"})
        if number % 100 == 0:
            add("node", "client_3", "killed by a signal", rows=[[4, 5]], ids=["client_3"], state="failed", bundle=3)
            add("operator", "somebody", "rebuild client_3")
            add("node", "client_3", "ready", rows=[[4, 5]], ids=["client_3"], state="ready", bundle=3)
    return made


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if not file.name.endswith("-shm"))


def version_1(path: Path, events: list[Event], version: str | None = "1") -> None:
    with sqlite3.connect(path) as database:
        database.executescript(VERSION_1)
        if version is not None:
            database.execute("INSERT INTO meta VALUES ('version', ?)", (version,))
        database.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(*one.to_wire(), json.dumps(one.data)) for one in events],
        )
    database.close()


# -- versions --------------------------------------------------------------------------------------

OLD = [
    Event(1, 1.0, "node", "good", "a", "ready", "ready", {"ids": ["a", "b"], "state": "ready", "bundle": 2}),
    Event(2, 2.0, "round", "good", "round 1", "loss 1", "ready", {"result": result(1)}),
    Event(3, 3.0, "node", "info", "b", "removed", "", {"ids": ["b"], "state": "removed"}),
]


@pytest.mark.parametrize("version", ["1", None])
def test_a_journal_of_version_1_is_read_and_goes_on_as_one_of_today(tmp_path: Path, version: str | None) -> None:
    path = tmp_path / "journal.db"
    version_1(path, OLD, version)
    reader = Journal(path, read_only=True)
    assert (list(reader.events()), reader.last_seq(), reader.before(3, 9)) == (OLD, 3, OLD[:2])
    old_fold = reader.fold()
    assert old_fold.states == {"a": "ready"} and old_fold.rounds == [result(1)]
    reader.close()

    journal = Journal(path)
    assert list(journal.events()) == OLD and journal.fold() == old_fold
    journal.append(Event(4, 4.0, "operator", "info", "x", "looks"))
    journal.compact(0)
    assert [one.seq for one in journal.events()] == [2, 4] and journal.last_seq() == 4
    journal.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT value FROM meta WHERE key = 'version'").fetchall() == [(str(SCHEMA_VERSION),)]
    assert Journal(path, read_only=True).fold().states == {"a": "ready"}


@pytest.mark.parametrize("read_only", [False, True])
def test_what_others_keep_in_sqlite_is_refused_and_left_alone(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "foreign.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mails (subject TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"foreign\.db is no journal of red-tui \(it has the tables mails\)"):
        Journal(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("version", "words"), [("3", "later red-tui .version 3, this one reads 2.: upgrade"), ("x", "its version is 'x'")]
)
def test_other_versions_are_refused_by_name(tmp_path: Path, read_only: bool, version: str, words: str) -> None:
    version_1(tmp_path / "journal.db", [], version)
    with pytest.raises(JournalError, match=words):
        Journal(tmp_path / "journal.db", read_only=read_only)


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    assert list(Journal(path, read_only=True).events()) == []
    journal = Journal(path)
    journal.append(OLD[0])
    assert list(Journal(path, read_only=True).events()) == OLD[:1]


def test_a_second_writer_is_told_so(tmp_path: Path) -> None:
    one, other = Journal(tmp_path / "journal.db"), Journal(tmp_path / "journal.db")
    one.append(OLD[0])
    with pytest.raises(JournalError, match="has an event 1 already: another supervisor writes it"):
        other.append(OLD[0])
    other.append(OLD[1])
    assert [event.seq for event in one.events()] == [1, 2]


def test_texts_that_are_none_and_numbers_of_numpy_are_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    data = {"rows": [[np.int64(3), np.int64(4)]], "state": "ready", "bundle": np.int32(2), "path": tmp_path}
    journal.append(Event(1, 1.0, "node", "info", "x", "bytes \udc80", "", data))
    (kept,) = journal.events()
    assert kept.text == "bytes \\udc80"
    assert kept.data == {"rows": [[3, 4]], "state": "ready", "bundle": 2, "path": str(tmp_path)}


# -- compaction ------------------------------------------------------------------------------------


def test_ten_thousand_rounds_stay_small_and_add_up_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal, events, whole = Journal(path), events_of_a_run(10_000), Fold()
    for event in events:
        journal.append(event)
        whole.take(event)
    # It compacts by itself: what is there one by one is bounded.
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM events").fetchone()[0] <= 12_000
    database.close()
    assert journal.fold() == whole
    journal.compact(0)
    assert journal.fold() == whole and journal.last_seq() == len(events)
    assert [one["number"] for one in journal.fold().rounds] == list(range(1, 10_001))
    journal.close()
    assert size_of(path) / 10_000 < 200
    assert Journal(path).fold() == whole


def test_rounds_and_what_operators_did_stay_readable(tmp_path: Path) -> None:
    journal, events = Journal(tmp_path / "journal.db"), events_of_a_run(700)
    for event in events:
        journal.append(event)
    assert journal.compact(100) == len(events) - 100
    staying = [
        one for one in events[:-100]
        if one.kind in ("federation", "operator") or "result" in one.data
    ] + events[-100:]  # fmt: skip
    assert list(journal.events()) == staying
    assert list(journal.events(since=1000)) == [one for one in staying if one.seq > 1000]
    assert journal.before(None, 150) == staying[-150:]
    assert journal.before(events[-99].seq, 2 * BLOCK) == staying[:-99][-2 * BLOCK :]
    assert journal.before(2, 10) == staying[:1] and journal.before(1, 10) == []
    assert journal.compact(100) == 0 and journal.compact(10_000) == 0


def test_a_reader_beside_misses_nothing_when_the_writer_compacts(tmp_path: Path) -> None:
    writer, events = Journal(tmp_path / "journal.db"), events_of_a_run(1500)
    for event in events:
        writer.append(event)
    reader = Journal(tmp_path / "journal.db", read_only=True)
    seen = []
    for number, event in enumerate(reader.events()):
        seen.append(event.seq)
        if number % 900 == 0:
            writer.compact(len(events) - number - 500)
    assert seen == sorted(set(seen))
    rounds = {one.seq for one in events if "result" in one.data or one.kind == "operator"}
    assert rounds <= set(seen)


def test_what_a_compaction_frees_goes_back_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    for seq in range(1, 401):
        journal.append(Event(seq, 0.0, "node", "error", "x", "x", "", {"traceback": f"{seq} " * 2000}))
    journal.compact(0)
    journal.close()
    assert size_of(path) < 100_000


def test_a_damaged_snapshot_is_told_and_hinders_compaction_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path, keep=5)
    for event in events_of_a_run(5):
        journal.append(event)
    journal.compact()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE snapshot SET data = x'00'")
    database.close()
    assert [one["number"] for one in journal.fold().rounds] == [1, 2, 3, 4, 5], "rounds stand in the archive"
    assert "the snapshot of older events" in str(journal.damage)
    for seq in range(18, 2100):
        journal.append(Event(seq, 0.0, "node", "info", "x", "x"))
    assert journal.last_seq() == 2099 and journal.trouble == ""
    assert "was not compacted" in caplog.text
