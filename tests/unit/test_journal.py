from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from red_tui.journal.journal import Journal, JournalError, fold
from red_tui.protocol.events import Event


def event(seq: int, state: str = "", ids: tuple[str, ...] = (), **data: object) -> Event:
    return Event(
        seq,
        1000.0 + seq,
        "node",
        "info",
        ids[0] if ids else "x",
        "text",
        state,
        {"ids": list(ids), "state": state, **data},
    )


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    events = [event(1, "ready", ("a", "b"), bundle=3), event(2), event(3, "removed", ("b",))]
    for one in events:
        journal.append(one)
    assert list(journal.events()) == events
    assert journal.before(3, 1) == [events[1]]
    assert journal.before(None, 2) == events[1:]
    assert journal.last_seq() == 3
    assert stat.S_IMODE((tmp_path / "journal.db").stat().st_mode) == 0o600


def test_the_fold_is_the_state(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    done, failed = {"number": 1, "state": "done"}, {"number": 2, "state": "failed"}
    for one in (
        event(1, "ready", ("a", "b", "c"), bundle=3),
        event(2, "failed", ("a",), bundle=3),
        event(3, "removed", ("b",)),
        event(4, "released", ("c",)),
        event(5, result=done),
        event(6, result=failed),
    ):
        journal.append(one)
    folded = fold(journal)
    assert folded.states == {"a": "failed", "c": "released"}
    assert folded.bundles == {"a": 3}
    assert folded.rounds == [done] and folded.failed_rounds == [failed]
    assert folded.last_seq == 6


def test_what_was_appended_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from red_tui.journal.journal import Journal\nfrom red_tui.protocol.events import Event\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for seq in range(1, 201): journal.append(Event(seq, 0.0, 'node', 'info', 'x', 'text'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=150, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert [one.seq for one in Journal(path).events()] == list(range(1, 201))


def test_a_journal_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    writer = Journal(tmp_path / "journal.db")
    writer.append(event(1))
    reader = Journal(tmp_path / "journal.db", read_only=True)
    writer.append(event(2))
    assert [one.seq for one in reader.events()] == [1, 2]


def test_what_is_no_journal_is_refused_by_name(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    foreign.write_text("this is a text and not a database, for certain " * 20)
    with pytest.raises(JournalError, match=r"foreign\.db is no journal"):
        Journal(foreign)
    with pytest.raises(JournalError, match=r"there is no journal"):
        Journal(tmp_path / "missing.db", read_only=True)


def test_a_journal_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'version'")
    with pytest.raises(JournalError, match="later red-tui"):
        Journal(path)
