"""`red-console replay` on the journal of a real federation, finished or running, on a screen and without one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.system.support import Home, eventually
from tests.system.terminal import Terminal

MakeTerminal = Callable[..., Terminal]


@pytest.fixture
def terminal() -> Iterator[MakeTerminal]:
    made: list[Terminal] = []

    def make(home: Home, *arguments: str, **further: Any) -> Terminal:
        made.append(Terminal(home, *arguments, **further))
        return made[-1]

    yield make
    for one in made:
        one.close()


def run(client: Any, rounds: int) -> None:
    """Run rounds to their end."""
    count = len(client.history) + rounds
    client.run(rounds)
    assert len(client.history) == count


def leave(console: Terminal) -> None:
    """Leave at once: nothing is asked and nothing is left."""
    links = console.links
    console.press("q")
    assert console.ended() == 0
    assert console.is_restored() and "goes on" not in console.text
    eventually(lambda: not any(link.is_running() for link in links), "the link has ended")


@pytest.mark.terminal
@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
def test_a_federation_is_replayed_while_it_runs_and_when_it_is_over(
    size: tuple[int, int], cluster: Home, fed_id: str, client: Any, terminal: MakeTerminal
) -> None:
    run(client, 2)
    folder = cluster.path / "federations" / fed_id
    console = terminal(cluster, "replay", fed_id, "--at", "begin", size=size)
    console.shows(rf"{fed_id} +replay[\s\S]*paused 1x[\s\S]*round 0/2 +event 0/")
    console.shows(r"2 virtual")
    assert [link.cmdline()[-1] for link in console.links] == ["--replay"]
    console.press(">")
    console.shows(r"round 1/2[\s\S]*")
    console.shows(r"2 ready")
    console.press(".")
    console.press(">")
    console.shows(r"round 2 [\s\S]*loss \d[\s\S]*round 2/2")
    console.press("<")
    console.shows(r"round 1/2")
    console.press("x")
    console.shows(r"this is a replay: no release")
    console.press("t")
    console.shows(r"at 14:30")
    console.press("round 7\r")
    console.shows(r"it has rounds 1 to 2")
    console.press("2")
    console.shows(r"1 round\b")
    console.press("0")
    console.shows(r"no round is over at this moment")

    console.press("G")
    console.shows(r"at the end[\s\S]*round 2/2")
    run(client, 1)
    console.shows(r"3 rounds[\s\S]*following[\s\S]*round 3/3")
    console.press("p")
    console.shows(r"paused")
    run(client, 1)
    console.shows(r"round 3/4")
    assert "3 rounds" in console.text
    console.press("G")
    console.shows(r"4 rounds[\s\S]*round 4/4")
    client.down()
    console.press("5")
    console.shows(r"ended by")
    leave(console)

    before = (folder / "journal.db").read_bytes(), sorted(path.name for path in folder.iterdir())
    again = terminal(cluster, "replay", str(folder), "--at", "round 3", size=size)
    again.shows(r"round 3/4")
    again.press("1")
    again.shows(r"2 ready")
    again.press(":speed max\r")
    again.shows(r"paused max")
    again.settle(3.0)  # paused, it writes nothing
    again.press("p")
    again.shows(r"at the end[\s\S]*round 4/4")
    again.shows(r"2 released")
    leave(again)
    told = cluster.red("replay", fed_id, "--json", "--at", "round 3")
    assert told.code == 0 and told.err == ""
    assert told.json["last_round"]["number"] == 3 and told.json["states"] == {"ready": 2}
    assert cluster.red("replay", fed_id, "--json").json["states"] == {"released": 2}
    assert ((folder / "journal.db").read_bytes(), sorted(path.name for path in folder.iterdir())) == before


@pytest.mark.terminal
def test_a_console_whose_link_is_killed_goes_on_where_it_stood(
    cluster: Home, fed_id: str, client: Any, terminal: MakeTerminal
) -> None:
    run(client, 2)
    console = terminal(cluster, "replay", fed_id, "--at", "round 1", "--ascii")
    console.shows(r"- paused 1x[\s\S]*round 1/2")
    console.links[0].kill()
    console.shows(r"lost")
    console.shows(r"the journal is read again")
    console.shows(r"paused 1x[\s\S]*round 1/2")
    leave(console)


def test_a_journal_that_was_copied_from_elsewhere_tells_its_nodes(
    cluster: Home, home: Home, fed_id: str, client: Any, tmp_path: Path
) -> None:
    run(client, 1)
    client.down()
    shutil.copy(cluster.path / "federations" / fed_id / "journal.db", tmp_path / "copy.db")
    told = home.red("replay", str(tmp_path / "copy.db"), "--json", "--at", "round 1").json
    assert told["federation"] == fed_id and told["nodes"] == 2 and told["states"] == {"ready": 2} and not told["note"]
    assert not home.path.exists() or not any(home.path.iterdir())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no journal at"),
        (b"", "is empty"),
        (b"no database at all, but long enough to be taken for one" * 50, "no journal of red-tui"),
    ],
    ids=["missing", "empty", "text"],
)
def test_what_is_no_journal_is_refused_before_there_is_a_screen(
    home: Home, tmp_path: Path, terminal: MakeTerminal, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "journal.db").write_bytes(content)
    for further in ([], ["--json"]):
        result = home.red("replay", str(tmp_path / "journal.db"), *further)
        assert result.code == 2 and words in result.err and "Traceback" not in result.err
    console = terminal(home, "replay", str(tmp_path / "journal.db"))
    assert console.ended() == 2 and words in console.written.decode()
    assert b"\x1b[?1049h" not in console.written


def test_tables_of_others_and_moments_that_are_none_are_wrong_use(home: Home, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as db, db:
        db.execute("CREATE TABLE songs (name TEXT)")
    result = home.red("replay", str(tmp_path / "other.db"), "--json")
    assert result.code == 2 and "songs" in result.err and result.json["error"]["type"] in ("ReplayError", "RedError")
    for arguments in (["--at", "soon"], ["--speed", "fast"]):
        result = home.red("replay", str(tmp_path / "other.db"), *arguments)
        assert result.code == 2 and arguments[1] in result.err
