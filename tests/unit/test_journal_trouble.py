"""A journal whose process is killed, whose disk is full or whose folder cannot be written: really, in children."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from red_tui.journal.journal import Journal, JournalError
from red_tui.protocol.events import Event

WRITER = """
import os, sys
from pathlib import Path
from red_tui.protocol.events import Event
from red_tui.journal import journal as module
from red_tui.journal.journal import Journal

module.COMPACTED_AT_ONCE = 5  # so that it is killed while it compacts, too
journal = Journal(Path(sys.argv[1]), keep=20)
seq = journal.last_seq()
while True:
    seq += 1
    journal.append(Event(seq, 0.0, "operator", "info", "x", "text " * (seq % 50), "", {"rows": [[seq, seq + 1]],
                   "state": "ready"}))
    os.write(1, b"%d\\n" % seq)
"""

CHILD = """
import json, os, resource, subprocess, sys
from pathlib import Path
from red_tui.protocol.events import Event
from red_tui.journal.journal import Journal, JournalError

folder = Path(sys.argv[1])
told = {}

def event(seq, **data):
    return Event(seq, 0.0, "node", "info", "x", "text " * 100, "", {"rows": [[seq, seq + 1]], "state": "ready", **data})

def append(journal, first, last):
    failed = []
    for seq in range(first, last + 1):
        try:
            journal.append(event(seq))
        except JournalError as error:
            failed.append(seq)
            told["error"] = error.message
    return failed

def report(journal):
    told["seqs"] = [one.seq for one in journal.events()]
    told["last"] = journal.last_seq()
    told["trouble"] = journal.trouble
    told["states"] = (journal.fold().state_codes != 255).sum().item()
    print(json.dumps(told))
"""

FULL_BY_LIMIT = """
journal = Journal(folder / "journal.db", **json.loads(sys.argv[2]))
append(journal, 1, 20)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
told["failed"] = append(journal, 21, 600)
told["standing"] = journal.trouble
told["before"] = [one.seq for one in journal.before(600, 5)]
told["folded"] = (journal.fold().state_codes != 255).sum().item()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
told["later"] = append(journal, 601, 603)
report(journal)
"""

FULL_DISK = """
ballast = folder / "ballast"
journal = Journal(folder / "journal.db")
append(journal, 1, 20)
file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
try:
    while os.write(file, b"x" * 4096):
        pass
except OSError:
    os.close(file)
told["failed"] = append(journal, 21, 600)
told["standing"] = journal.trouble
ballast.unlink()
told["later"] = append(journal, 601, 603)
report(journal)
"""

READ_ONLY = """
child = os.fork()
if not child:  # it ends without closing its journal, as a killed one does
    killed = Journal(folder / "old.db")
    killed.append(event(1))
    os._exit(0)
os.waitpid(child, 0)
told["log"] = (folder / "old.db-wal").stat().st_size > 0
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
journal = Journal(folder / "journal.db")
told["standing"] = journal.trouble
told["failed"] = append(journal, 1, 5)
old = Journal(folder / "old.db")
told["old"] = [one.seq for one in old.events()]
told["old failed"] = append(old, 2, 3)
told["old then"] = [one.seq for one in old.events()]
subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
told["later"] = append(journal, 6, 6)
told["old later"] = append(old, 4, 4)
told["old at last"] = [one.seq for one in old.events()]
report(journal)
"""


def told_by(script: str, folder: Path, *arguments: str, wrap: tuple[str, ...] = ()) -> dict[str, Any]:
    command = [*wrap, sys.executable, "-c", CHILD + script, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def on_a_small_disk(folder: Path) -> tuple[str, ...]:
    """A command that runs another in a mount namespace of its own, with a disk of 1 MB on `folder`."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {folder}"
    able = shutil.which("unshare") and subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True)
    if not able or able.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    return "unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_loses_nothing_that_it_had_appended(tmp_path: Path, seed: int) -> None:
    chance, path, last = random.Random(seed), tmp_path / "journal.db", 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        wanted = last + chance.randrange(1, 150)
        seqs = []
        for line in child.stdout:
            seqs.append(int(line))
            if seqs[-1] >= wanted:
                child.send_signal(signal.SIGKILL)
                break
        seqs += [int(line) for line in child.stdout]  # what it said until the signal arrived
        assert child.wait() == -signal.SIGKILL
        journal = Journal(path, read_only=True)
        kept = [one.seq for one in journal.events()]
        assert kept[: seqs[-1]] == list(range(1, seqs[-1] + 1))
        assert len(kept) - seqs[-1] in (0, 1)  # committed, and killed before it said so
        assert seqs[0] == last + 1
        last = kept[-1]
        assert journal.last_seq() == last and (journal.fold().state_codes != 255).sum() == last
        journal.close()


def assert_nothing_is_missing(told: dict[str, Any]) -> None:
    assert told["failed"][-1] == 600 and told["failed"] == list(range(told["failed"][0], 601))
    assert "journal.db cannot be written" in told["error"] and "free its disk" in told["standing"]
    assert told["later"] == [] and told["trouble"] == ""
    assert told["seqs"] == list(range(1, 604)) and told["last"] == told["states"] == 603


def test_a_file_that_may_not_grow_keeps_events_waiting_in_their_order(tmp_path: Path) -> None:
    told = told_by(FULL_BY_LIMIT, tmp_path, "{}")
    assert_nothing_is_missing(told)
    assert told["before"] == [595, 596, 597, 598, 599] and told["folded"] == 600


def test_more_events_than_may_wait_become_one_that_holds_what_they_add_up_to(tmp_path: Path) -> None:
    told = told_by(FULL_BY_LIMIT, tmp_path, '{"waiting": 50}')
    first = told["failed"][0]
    assert told["seqs"][: first - 1] == list(range(1, first))
    assert told["seqs"][-25:] == list(range(579, 604))
    assert len(told["seqs"]) < first + 60
    assert told["folded"] == 600 and told["states"] == told["last"] == 603
    (instead,) = [one for one in Journal(tmp_path / "journal.db").events() if "dropped" in one.data]
    assert instead.data["dropped"] == [first, instead.seq] and instead.seq == told["seqs"][first - 1]
    assert instead.text == (
        f"events {first} to {instead.seq} could not be written and were dropped; what they add up to is kept"
    )


def test_a_full_disk_keeps_events_waiting_in_their_order(tmp_path: Path) -> None:
    assert_nothing_is_missing(told_by(FULL_DISK, tmp_path, wrap=on_a_small_disk(tmp_path)))


def test_a_folder_that_cannot_be_written_is_a_standing_warning_and_read_all_the_same(tmp_path: Path) -> None:
    told = told_by(READ_ONLY, tmp_path, wrap=on_a_small_disk(tmp_path))
    assert "Read-only file system" in told["standing"]
    assert told["log"]
    assert told["failed"] == [1, 2, 3, 4, 5] and told["later"] == [] and told["trouble"] == ""
    assert told["seqs"] == [1, 2, 3, 4, 5, 6]
    assert (told["old"], told["old failed"], told["old then"]) == ([1], [2, 3], [1, 2, 3])
    assert (told["old later"], told["old at last"]) == ([], [1, 2, 3, 4])


def test_a_missing_folder_is_trouble_until_it_is_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "away" / "journal.db")
    one, two = (Event(seq, 0.0, "node", "info", "x", "text") for seq in (1, 2))
    assert "No such file or directory" in journal.trouble
    assert journal.last_seq() == 0 and list(journal.events()) == []
    with pytest.raises(JournalError, match="cannot be written"):
        journal.append(one)
    assert journal.last_seq() == 1 and journal.before(None, 5) == [one]
    os.mkdir(tmp_path / "away")
    journal.append(two)
    assert journal.trouble == "" and list(journal.events()) == [one, two]
    journal.close()
    assert list(Journal(tmp_path / "away" / "journal.db", read_only=True).events()) == [one, two]


def test_what_waits_is_written_when_the_journal_is_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "away" / "journal.db")
    with pytest.raises(JournalError):
        journal.append(Event(1, 0.0, "node", "info", "x", "text"))
    os.mkdir(tmp_path / "away")
    journal.close()
    assert Journal(tmp_path / "away" / "journal.db", read_only=True).last_seq() == 1


def test_a_file_that_is_removed_while_it_is_written_is_told_and_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    journal = Journal(folder / "journal.db")
    journal.append(Event(1, 0.0, "node", "info", "x", "text"))
    shutil.rmtree(folder)
    with pytest.raises(JournalError, match="cannot be written: No such file or directory"):
        journal.append(Event(2, 0.0, "node", "info", "x", "text"))
    folder.mkdir()
    journal.append(Event(3, 0.0, "node", "info", "x", "text"))
    assert journal.trouble == "" and "the file was removed while it was written" in str(journal.damage)
    journal.close()
    assert [one.seq for one in Journal(folder / "journal.db", read_only=True).events()] == [2, 3]
