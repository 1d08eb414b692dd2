"""Hostile text on a real terminal: it shows and does nothing else, and no line of the screen breaks."""

from __future__ import annotations

import json
import re
import signal
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from red_tui.journal.journal import Journal
from red_tui.protocol.events import Event
from tests.console.test_untrusted import ACTS, EVIL, LONG
from tests.system.support import Home, eventually
from tests.system.terminal import Terminal

pytestmark = pytest.mark.terminal

_OURS = re.compile(
    r"\x1b\[[0-9;?<>=$]*[A-Za-z~]|\x1b\[[0-9;?]*\$p|\x1b[=>78()B]|\x1bP[^\x1b]*\x1b\\|\x0f|\x1b\]22;[a-z-]*\x07"
)
"""What Textual says to a terminal: colours, places, modes, questions and the shape of the pointer."""


def assert_nothing_acts(console: Terminal) -> None:
    """All that was written is text, and what Textual itself says to a terminal."""
    text = bytes(console.written).decode("utf-8", "replace")
    rest = _OURS.sub("", text)
    acting = {sign for sign in rest if unicodedata.category(sign) in ACTS} - {"\r", "\n"}
    assert acting == set(), [rest[max(0, rest.index(sign) - 40) : rest.index(sign) + 40] for sign in acting]
    assert not re.search(r"\x1b\](?!22;)", text) and not re.search(r"\x1b\[[^m]*8;;", text)


def cells(line: str) -> str:
    """A line without what an emulator and the program write differently: spaces, and marks upon letters."""
    return "".join(sign for sign in unicodedata.normalize("NFD", line) if unicodedata.category(sign)[0] not in "MZ")


@pytest.fixture
def started() -> Iterator[list[Terminal]]:
    consoles: list[Terminal] = []
    yield consoles
    for console in consoles:
        console.close()


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
def test_each_screen_of_a_hostile_federation_stands_on_the_terminal_as_it_was_meant(
    home: Home, tmp_path: Path, started: list[Terminal], size: tuple[int, int]
) -> None:
    told = tmp_path / "told.json"
    program = (sys.executable, "-m", "tests.console.hostile_console", str(told))
    console = Terminal(home, size=size, program=program, PYTHONPATH=str(Path(__file__).parents[2]))
    started.append(console)
    console.shows("digits")

    def meant() -> list[str]:
        told.unlink(missing_ok=True)
        console.signal(signal.SIGUSR1)
        eventually(told.exists, "the console tells what it shows")
        return list(json.loads(told.read_text()))

    def stands() -> bool:
        return [cells(line) for line in meant()] == [cells(line) for line in console.text.split("\n")]

    for keys in ("1", "2", "3", "4", "5", "6", "\x1b[F", "\r", "\x1b", "?", "\x1b"):
        console.press(keys)
        eventually(stands, f"after {keys!r} the terminal shows what is meant; it shows\n{console.text}")
    assert_nothing_acts(console)
    assert "[bold red]" in bytes(console.written).decode()


def hostile_journal(path: Path) -> Path:
    """A journal in which every text is hostile."""
    journal = Journal(path)
    result = {
        "number": 1, "state": "failed", "loss": None, "metrics": {"x" + EVIL: 0.5}, "train_metrics": {"y" + EVIL: 1.0},
        "error": LONG, "participants": 2, "failed": 2, "seconds": 1.0, "ended": 1_790_000_002.0, "train_loss": None,
    }  # fmt: skip
    bodies = [
        ("nodes", {"added": [["listed", ["a" + EVIL, "b"]]], "first": 0, "role": "train", "group": 0}),
        ("node" + EVIL, {"rows": [[0, 2]], "state": "failed"}),
        ("round", {"result": result}),
        ("operator", {"id": "c" + EVIL, "command": EVIL}),
        ("layout", {"title": EVIL, "layout": EVIL}),
    ]
    for seq, (kind, body) in enumerate(bodies, start=1):
        journal.append(Event(seq, 1_790_000_000.0 + seq, kind, "error", "sub" + EVIL, LONG, "failed", body))
    journal.close()
    return path


def test_a_hostile_journal_is_replayed_as_text(home: Home, tmp_path: Path, started: list[Terminal]) -> None:
    path = hostile_journal(tmp_path / "journal.db")
    console = Terminal(home, "replay", str(path), "--at", "end", size=(120, 36))
    started.append(console)
    console.shows("bold red")
    for key in ("1", "2", "3", "4", "5", "6"):
        console.press(key)
        console.settle(0.3)
    assert_nothing_acts(console)
    for words in (
        ("history", str(path)),
        ("history", str(path), "--csv"),
        ("replay", str(path), "--at", "end", "--json"),
    ):
        told = home.red(*words)
        signs = {sign for sign in told.out + told.err if unicodedata.category(sign) in ACTS}
        assert signs <= {"\n"} and "Traceback" not in told.err, words
