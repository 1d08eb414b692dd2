"""Damage of each kind: what can be read is read, what cannot is told and kept aside, and the journal goes on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from red_tui.cli.main import main
from red_tui.federation.run_folder.recovered_run import open_past
from red_tui.journal import damage as journal_damage
from red_tui.journal.damage import Damage, sound_results
from red_tui.journal.fold import Fold
from red_tui.journal.journal import Journal, JournalError
from red_tui.journal.launch_record import LaunchRecord
from red_tui.journal.limits import BUNDLES_LIMIT, ROWS_LIMIT, TEXT_LIMIT
from red_tui.journal.salvage import examine, repair
from red_tui.protocol.events import Event
from red_tui.replay.replay_commands import open_replay
from red_tui.replay.verification import record_of, verify
from red_tui.rounds.history import RoundResult
from tests.unit.test_journal_versions import events_of_a_run, result

ROUNDS = 40


def written(path: Path, keep: int = 40) -> list[Event]:
    """A journal of `ROUNDS` rounds whose older events are compacted; gives all its events."""
    journal, events = Journal(path, keep=keep), events_of_a_run(ROUNDS)
    for event in events:
        journal.append(event)
    journal.compact()
    journal.close()
    return events


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
            db.commit()


def pages_of(path: Path, table: str) -> list[int]:
    """Numbers of the pages that hold a table's rows."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return [int(root)]


def scratch(path: Path, page: int, size: int = 4096) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * size)


def leaf_of(path: Path) -> int:
    """A page that holds nothing but events, in the middle of the file."""
    data = path.read_bytes()
    leaves = [
        number + 1
        for number in range(2, len(data) // 4096)
        if data[number * 4096] == 13 and b'"result"' in data[number * 4096 : (number + 1) * 4096]
    ]
    return leaves[len(leaves) // 2]


def last_seq(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT max(seq) FROM events").fetchone()[0])


ROWS = {
    "data is no JSON": "UPDATE events SET data = '{\"rows\": [[' WHERE seq = {seq}",
    "data is bytes": "UPDATE events SET data = x'81a1ff00' WHERE seq = {seq}",
    "data is a list": "UPDATE events SET data = '[1, 2]' WHERE seq = {seq}",
    "data is nested too deeply": "UPDATE events SET data = '" + "[" * 50_000 + "' WHERE seq = {seq}",
    "data holds a number of 10,000 digits": 'UPDATE events SET data = \'{"begin": ' + "9" * 10_000 + "}}' "
    "WHERE seq = {seq}",
    "the time is a text": "UPDATE events SET time = 'noon' WHERE seq = {seq}",
    "the time is endless": "UPDATE events SET time = 9e999 WHERE seq = {seq}",
    "the time is beyond all calendars": "UPDATE events SET time = 1e18 WHERE seq = {seq}",
    "the text is bytes": "UPDATE events SET text = x'00ff' WHERE seq = {seq}",
    "the number is negative": "UPDATE events SET seq = -{seq} WHERE seq = {seq}",
    "the number is absurd": "UPDATE events SET seq = 9223372036854775807 WHERE seq = {seq}",
}


def a_row(statement: str) -> Callable[[Path], None]:
    return lambda path: change(path, statement.replace("{seq}", str(last_seq(path) - 4)).replace("}}", "}"))


def cut_off(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])


def without_its_file(path: Path) -> None:
    """What is left of a journal whose log alone survived."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("UPDATE events SET text = 'x'")
    db.commit()
    log = path.with_name("journal.db-wal").read_bytes()
    db.close()
    for left in path.parent.glob("journal.db*"):
        left.unlink()
    path.with_name("journal.db-wal").write_bytes(log)


FILES: dict[str, Callable[[Path], None]] = {
    "a page of events": lambda path: scratch(path, leaf_of(path)),
    "the first page": lambda path: scratch(path, 1),
    "the page of the table's root": lambda path: scratch(path, pages_of(path, "events")[0]),
    "cut off": cut_off,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: [path.write_text("no database at all " * 500), None][1],
    "no events": lambda path: change(path, "DROP TABLE events"),
    "no meta": lambda path: change(path, "DROP TABLE meta"),
    "no archive": lambda path: change(path, "DROP TABLE archive"),
    "no snapshot": lambda path: change(path, "DROP TABLE snapshot"),
    "a snapshot of nonsense": lambda path: change(path, "UPDATE snapshot SET data = x'00112233'"),
    "a block of nonsense": lambda path: change(path, "UPDATE archive SET data = x'00112233'"),
    "a version of nonsense": lambda path: change(path, "UPDATE meta SET value = 'x' WHERE key = 'version'"),
    "a log without its file": without_its_file,
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("statement", ROWS.values(), ids=ROWS)
def test_a_damaged_row_costs_only_itself_and_is_told_by_its_number(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "journal.db"
    events = written(path)
    a_row(statement)(path)
    lost = events[-1].seq - 4
    reader = Journal(path, read_only=True)
    folded = reader.fold()
    numbers = [one["number"] for one in folded.rounds]
    assert set(range(1, ROUNDS + 1)) - set(numbers) <= {ROUNDS, ROUNDS - 1} and len(numbers) >= ROUNDS - 1
    kept = [event.seq for event in reader.events() if event.seq > events[-1].seq - 30]
    assert kept == [seq for seq in range(events[-1].seq - 29, events[-1].seq + 1) if seq != lost]
    assert (len(reader.damage) == 1 and f"event {lost}" in str(reader.damage).replace("-", "")) or "775807" in statement
    reader.close()

    journal, damage = open_past(tmp_path)
    assert damage and damage.kept.startswith("journal-damaged-") and damage.kept in str(damage)
    assert (tmp_path / damage.kept).exists() and not examine(path)
    assert journal.last_seq() == events[-1].seq
    journal.append(Event(events[-1].seq + 1, 1.0, "node", "info", "x", "goes on"))
    assert [one["number"] for one in journal.fold().rounds] == numbers
    journal.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / damage.kept).stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("damaged", FILES.values(), ids=FILES)
def test_a_damaged_file_is_kept_aside_and_what_can_be_read_of_it_goes_on(
    tmp_path: Path, damaged: Callable[[Path], None]
) -> None:
    path = tmp_path / "journal.db"
    events = written(path)
    damaged(path)
    journal, damage = open_past(tmp_path)
    assert damage and "the journal is damaged: " in str(damage)
    numbers = [one["number"] for one in journal.fold().rounds]
    assert numbers == sorted(set(numbers))
    last = journal.last_seq()
    assert 0 <= last <= events[-1].seq
    journal.append(Event(last + 1, 1.0, "operator", "info", "x", "goes on"))
    journal.compact(0)
    assert journal.trouble == "" and [one["number"] for one in journal.fold().rounds] == numbers
    journal.close()
    assert not examine(path), "what goes on is sound"


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("a page of events", ROUNDS - 16),
        ("the first page", ROUNDS),
        ("cut off", 1),
        ("no events", ROUNDS - 14),
        ("no meta", ROUNDS),
        ("a snapshot of nonsense", ROUNDS),
        ("a block of nonsense", 10),
        ("a version of nonsense", ROUNDS),
    ],
)
def test_rounds_that_damage_did_not_touch_are_still_known(tmp_path: Path, kind: str, least: int) -> None:
    path = tmp_path / "journal.db"
    written(path)
    FILES[kind](path)
    repair(path)
    assert len(Journal(path, read_only=True).fold().rounds) >= least


@pytest.mark.parametrize("kind", [*ROWS, *FILES])
def test_history_and_replay_say_it_in_a_line_and_never_end_in_a_traceback(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.db"
    written(path)
    (a_row(ROWS[kind]) if kind in ROWS else FILES[kind])(path)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    for verb in (["history", str(path), "--json"], ["replay", str(path), "--json"]):
        code = main(verb)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        if code:
            assert code in (1, 2) and len(said.err.splitlines()) == 1 and "journal.db" in said.err
        else:
            told = json.loads(said.out)
            words = "is empty" if kind == "empty" else "the journal is damaged"
            assert words in (said.err if verb[0] == "history" else told["note"])
            assert kind not in ROWS or len(told["rounds"] if verb[0] == "history" else range(told["rounds"])) >= 39
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before, "looking changes nothing"


def test_a_journal_of_a_later_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    written(path)
    change(path, "UPDATE meta SET value = '99' WHERE key = 'version'")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"later red-tui .version 99"):
        open_past(tmp_path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_sound_journal_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    written(path)
    before = path.stat()
    assert not repair(path) and str(repair(path)) == ""
    assert path.stat().st_ino == before.st_ino and [one.name for one in tmp_path.iterdir()] == ["journal.db"]


def test_a_running_federation_appends_past_a_damaged_row_and_compacts_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    events = written(path)
    journal = Journal(path)
    change(path, f"UPDATE events SET data = '?' WHERE seq = {events[-1].seq - 4}")
    journal.append(Event(events[-1].seq + 1, 1.0, "node", "info", "x", "goes on"))
    with pytest.raises(JournalError, match=f"event {events[-1].seq - 4} cannot be read"):
        journal.compact(0)
    assert journal.before(None, 1)[0].text == "goes on" and journal.trouble == ""
    journal.close()


# -- bounds ----------------------------------------------------------------------------------------

CLAIMS: dict[str, dict[str, Any]] = {
    "rows": {"rows": [[0, 268_435_456]], "state": "ready"},
    "many rows that overlap": {"rows": [[0, ROWS_LIMIT]] * 500, "state": "ready"},
    "a bundle": {"rows": [[1, 2]], "state": "ready", "bundle": 2**31 - 1},
    "bundles": {"rows": [[1, 2]], "state": "ready", "bundles": [[1, 2, 10**9]]},
    "ids": {"segment": ["pattern", "n", "", 0, 10**15, 0], "rows": [[1, 2]], "state": "virtual"},
    "ids that are long": {"segment": ["pattern", "n", "", 0, 2, 10**9], "rows": [[1, 3]], "state": "virtual"},
    "a run": {"run": [10**30, None]},
}


@pytest.mark.parametrize("data", CLAIMS.values(), ids=CLAIMS)
def test_what_an_event_claims_is_refused_before_room_is_made_for_it(data: dict[str, Any]) -> None:
    folded = Fold()
    folded.take(Event(1, 1.0, "node", "info", "x", "x", "", data))
    assert folded.unread == [1] and len(folded) == 0 and not folded.added and folded.run is None


def test_a_small_journal_cannot_claim_more_memory_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_damage, "INFLATED_LIMIT", 1 << 20)
    bomb = zlib.compress(b"[" + b" " * (1 << 21) + b"]", 9)
    path = tmp_path / "journal.db"
    written(path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE archive SET data = ?", (bomb,))
    reader = Journal(path, read_only=True)
    assert len(reader.fold().rounds) > 5 and "it holds more than 1,048,576 bytes" in str(reader.damage)
    reader.close()


def test_thousands_of_events_about_a_million_rows_are_written_once_each(tmp_path: Path) -> None:
    folded, again = Fold(), Fold()
    for seq in range(1, 3001):
        event = Event(seq, 1.0, "node", "info", "x", "x", "", {"rows": [[seq % 7, 10**6]], "state": "ready"})
        folded.take(event)
        if seq > 2990:
            again.take(event)
    assert (folded.row_seqs[7:] == 3000).all() and (folded.row_seqs == again.row_seqs).all()


def test_bundles_of_a_pool_that_no_cluster_has_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    pool = {"bundles": [[0, BUNDLES_LIMIT * 10**6, "head", {"CPU": 1}, "ready"]], "hosts": []}
    journal.append(Event(1, 1.0, "cluster", "info", "pool", "reserved", "", {"pool": pool}))
    journal.close()
    assert open_replay(str(path), at="end").feed.watch(None, 0.0)["bundles"] == []


def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    journal, long = Journal(tmp_path / "journal.db"), "x" * 10_000_000
    data = {"traceback": long, "result": {"failures": {"a": long}}, "layout": "y" * 100_000}
    journal.append(Event(1, 1.0, "node", "error", "x", long, "", data))
    journal.close()
    assert (tmp_path / "journal.db").stat().st_size < 400_000
    (event,) = Journal(tmp_path / "journal.db", read_only=True).events()
    for text in (event.text, event.data["traceback"], event.data["result"]["failures"]["a"]):
        assert len(text) < TEXT_LIMIT + 100 and text.endswith("(cut here: 10,000,000 characters in all)")
    assert event.data["layout"] == "y" * 100_000, "a layout is read again as a whole"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"number": "x"}, "its number is x"),
        ({"number": True}, "its number"),
        ({"participants": 10**15}, "its participants"),
        ({"metrics": 5}, "its metrics"),
        ({"metrics": {"a": "b"}}, "its metrics"),
        ({"ended": "x"}, "its ended"),
        ({"ended": 1e300}, "its ended"),
        ({"rows": [[0, 10**12]]}, "no half-open row ranges"),
        ({"rows": "x"}, ""),
        ({"failures": ["a"]}, "its failures"),
        ({"seconds": None}, "its seconds"),
        ({"state": "asleep"}, "its state"),
        ({"digests": [1]}, "its digests is [1]"),
        ({"digests": 7}, "its digests is 7"),
        ({"digests": {"parameters": 7}}, "its digests"),
        ({"left_out": [1]}, "its left_out"),
        ({"num_left_out": "x"}, "its num_left_out"),
        ({"num_examples": None}, "its num_examples"),
    ],
)
def test_a_result_that_makes_no_sense_is_left_out_and_named(change: dict[str, Any], why: str) -> None:
    damage = Damage()
    assert sound_results([result(1), {**result(2), **change}, {"number": 3}, 7, result(4)], damage) == [
        result(1),
        result(4),
    ]
    assert len(damage) == 3 and why in str(damage) and "round 3 (it lacks state" in str(damage)


# -- how it was launched ---------------------------------------------------------------------------

LAYOUT = """federation: {name}
template: red_tui.examples.digits:DigitsClient
nodes: [{{count: 2, role: train}}]
"""


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"layout": 5}', '{"layout": "x", "path": "y", "cluster": {}, "who": "z"}']
)
@pytest.mark.parametrize("left", ["layout.yaml", "journal.db"])
def test_a_damaged_launch_record_is_made_up_for_by_what_lies_beside_it(tmp_path: Path, text: str, left: str) -> None:
    layout = LAYOUT.format(name=tmp_path.name.replace("[", "").replace("]", ""))
    folder = tmp_path / tmp_path.name.replace("[", "").replace("]", "")
    folder.mkdir()
    assert LaunchRecord(layout, "digits.yaml", {}, "somebody", created=time.time()).save(folder) == ""
    journal = Journal(folder / "journal.db")
    journal.append(Event(1, 1.0, "federation", "info", "x", "x", "", {"layout": layout, "path": "digits.yaml"}))
    journal.close()
    assert LaunchRecord.read(folder).damage == ""
    (folder / "launch.json").write_text(text)
    (folder / ("journal.db" if left == "layout.yaml" else "layout.yaml")).write_bytes(b"\x00[[[")
    record = LaunchRecord.read(folder)
    assert record.layout == layout and "launch.json cannot be read" in record.damage


@pytest.mark.parametrize(
    "change",
    [
        {"digests": [1]},
        {"digests": 7},
        {"left_out": 7},
        {"num_left_out": "x"},
        {"num_examples": None},
        {"metrics": None},
        {"failures": [1]},
        {"spread": [1]},
        {"ids": "x"},
    ],
)
def test_every_verb_reads_past_a_result_that_makes_no_sense(
    tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    for seq in (1, 2, 3):
        told = {**result(seq), "digests": {"parameters": "abc"}, **(change if seq == 2 else {})}
        journal.append(Event(seq, float(seq), "round", "good", f"round {seq}", "done", "", {"result": told}))
    journal.close()
    with contextlib.closing(Journal(path, read_only=True)) as reader:
        whole = [RoundResult.from_wire(one).number for one in sound_results(reader.fold().rounds, reader.damage)]
    assert whole == [1, 3]
    assert verify(path, path).exit_code == 2 and "the result of round 2" in verify(path, path).why
    assert main(["history", str(path), "--json"]) == 0
    assert [one["number"] for one in json.loads(capsys.readouterr().out)["rounds"]] == [1, 3]


@pytest.mark.parametrize(
    "told", [7, [1], "x", None, {}, {"round": "x", "digest": "y"}, {"round": 1, "digest": 7}, {"round": True}]
)
def test_what_a_journal_tells_of_a_checkpoint_is_passed_over_where_it_makes_no_sense(tmp_path: Path, told: Any) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    good = {"round": 1, "digest": "abc"}
    events = [{"result": result(1)}, {"checkpoint": told}, {"checkpoint": good}]
    for seq, data in enumerate(events, start=1):
        journal.append(Event(seq, float(seq), "round", "trace", "round 1", "saved", "", data))
    journal.compact(0)
    journal.close()
    record = record_of(path)
    assert record.rounds[1].parameters == "abc"
    assert "what it tells of checkpoint 1" in record.damage and verify(path, path).exit_code == 2


@pytest.mark.parametrize("versions", [{"a": "x", "b": 1}, {"a": None}, {"a": [1]}, [1], 7])
def test_a_fold_whose_versions_make_no_sense_is_refused(versions: Any) -> None:
    sound = Fold(versions={"a": 1}).to_bytes()
    assert Fold.from_bytes(sound).versions == {"a": 1}
    raw = zlib.decompress(sound)
    end = 8 + int.from_bytes(raw[:8], "little")
    head = json.dumps({**json.loads(raw[8:end]), "versions": versions}).encode()
    data = zlib.compress(len(head).to_bytes(8, "little") + head + raw[end:])
    with pytest.raises(JournalError, match="its versions are none"):
        Fold.from_bytes(data)
