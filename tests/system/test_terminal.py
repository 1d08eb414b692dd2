"""The console in a pseudo-terminal: an operator's way through it, how it ends, and what it writes."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import red_tui
from tests.system.support import Home, cluster_processes, eventually, processes_of, write_layout
from tests.system.terminal import MakeTerminal, Terminal

pytestmark = pytest.mark.terminal

CTRL_C, ENTER, ESCAPE, TAB = "\x03", "\r", "\x1b", "\t"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def leave(console: Terminal, *answer: str) -> None:
    """Press q and answer the question about the embedded cluster; the console ends well and leaves nothing."""
    links = console.links
    console.press("q")
    console.shows("Leave it running")
    for key in answer or (ENTER,):
        console.press(key)
    assert console.ended() == 0
    assert console.is_restored()
    eventually(lambda: not any(link.is_running() for link in links), "the link has ended")


def states(client: Any) -> dict[str, str]:
    table = client.table()
    return {table.ids[row]: str(table.state_of(row)) for row in range(len(table))}


# -- an operator's way ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
def test_an_operator_opens_builds_runs_a_round_leaves_and_comes_back(
    size: tuple[int, int], cluster: Home, fed_id: str, layout: Path, terminal: MakeTerminal
) -> None:
    console = terminal(cluster, str(layout), size=size)
    for step in ("connecting", "loading Ray", f"launching {fed_id}"):
        console.wrote(step)
    console.shows(rf"{fed_id}[\s\S]*2 virtual")
    client = red_tui.attach(fed_id, connected=True)
    assert set(states(client).values()) == {"virtual"}

    console.press("w")
    console.shows(r"2 ready")
    console.press("r")
    console.shows(r"round 1 [\s\S]*loss \d[\s\S]*2 ready")
    assert [one.number for one in client.history] == [1]

    console.press("x")
    asked = console.shows(r"Release 1 node of[\s\S]*\[ Cancel \]").split("Release 1 node of")[1]
    named = re.search(r"client_0|judge", asked)
    assert named is not None, "the question does not name its target"
    console.press(ENTER)
    eventually(lambda: "[ Cancel ]" not in console.text, "the question is gone")
    assert set(states(client).values()) == {"ready"}
    console.press("x")
    console.shows(r"\[ Cancel \]")
    console.press(TAB)
    console.shows(r"\[ Release 1 node \]")
    console.press(ENTER)
    console.shows(r"1 released")
    assert states(client)[named.group()] == "released"

    console.press("?")
    console.shows(r"build the next wave")
    console.press(ESCAPE)
    eventually(lambda: "build the next wave" not in console.text, "help is closed")
    leave(console)

    again = terminal(cluster, fed_id, size=size)
    again.shows(r"round 1[\s\S]*loss \d[\s\S]*1 released")
    again.shows(r"1 ready")
    again.press("5")
    again.shows(r"2 virtual nodes, launched by")
    again.press("1")  # the next console of this home begins at the screen where this one is left
    again.shows(r"2 nodes \+ server")
    leave(again)
    assert client.status()["round"] == 1


def test_the_first_start_of_all_brings_up_ray_and_the_default_federation(home: Home, terminal: MakeTerminal) -> None:
    console = terminal(home)
    console.wrote("starting a local Ray")
    console.shows(r"digits[\s\S]*8 virtual")
    assert cluster_processes(home)
    leave(console, TAB, ENTER)  # the second answer stops the cluster
    assert processes_of(home) == [] and home.noted is None


def test_two_consoles_on_one_federation_show_the_same(
    cluster: Home, fed_id: str, layout: Path, terminal: MakeTerminal
) -> None:
    first = terminal(cluster, str(layout))
    first.shows("2 virtual")
    second = terminal(cluster, str(layout), size=(80, 24))
    second.shows("2 virtual")
    first.press("b")
    for console in (first, second):
        console.shows("1 ready")
    second.press("r")
    for console in (first, second):
        console.shows(r"round 1 [\s\S]*loss \d[\s\S]*2 ready")


def test_the_topology_of_the_gossip_layout_is_drawn_listed_and_changed(
    cluster: Home, fed_id: str, tmp_path: Path, terminal: MakeTerminal
) -> None:
    path = tmp_path / "gossip.yaml"
    path.write_text(Path("layouts/gossip.yaml").read_text().replace("federation: gossip", f"federation: {fed_id}"))
    console = terminal(cluster, str(path), size=(80, 24))
    console.shows("12 nodes")
    console.press("4")
    console.shows(r"k-connected \(k = 4\)[\s\S]*12 nodes +24 edges +degree 4 +connected +spectral gap 0\.")
    console.shows(r"peer_0 +4 neighbours: [\s\S]*· peer_5")
    assert re.search("[\u2801-\u28ff]", console.text), "no edge is drawn"
    console.press("j")
    console.shows(r"peer_[1-9] +4 neighbours: ")
    console.press("z")
    console.shows(r"node +degree +neighbours[\s\S]*judge_1 +4 +peer_")
    console.press(":")
    console.shows("tab completes")
    console.press("topology k-connected k=40\r")
    console.shows("k = 40 with 12 nodes: a node has at most 11")
    console.press(ESCAPE)
    console.press(":")
    console.shows("tab completes")
    console.press("topology ring\r")
    console.shows(r"ring ─[\s\S]*12 edges +degree 2 +connected +spectral gap 0\.0893")
    assert red_tui.attach(fed_id, connected=True).neighbors("peer_0") == ["peer_1", "judge_1"]
    console.press("1")  # the next console of this home begins at the screen where this one is left
    console.shows(r"12 nodes \+ server")
    leave(console)


def test_a_line_that_is_pasted_with_its_colon_is_typed_whole_and_acts_once(
    client: Any, cluster: Home, terminal: MakeTerminal
) -> None:
    console = terminal(cluster, client.fed_id)
    console.shows("2 virtual")
    console.press(":add 3 train\r")
    console.shows("5 virtual")
    console.press("/id:judge\r")
    console.shows("1 shown by id:judge")
    console.press(ESCAPE)
    console.shows(r"5 nodes \+ server ─")
    audit = [event.text for event in client.events(limit=1000) if event.kind == "operator"]
    assert audit == ["add count 3 role train"]


def test_a_read_only_console_changes_nothing(client: Any, cluster: Home, terminal: MakeTerminal) -> None:
    console = terminal(cluster, client.fed_id, "--read-only")
    console.shows("read-only[\\s\\S]*2 virtual")
    for key in "bwrx":
        console.press(key)
    console.press("?")
    console.shows("states")
    assert set(states(client).values()) == {"virtual"} and len(client.history) == 0
    console.press(ESCAPE)
    eventually(lambda: "esc closes" not in console.text, "help is closed")
    console.press("q")
    assert console.ended() == 0 and console.is_restored()


def test_a_layout_that_cannot_be_used_is_told_with_its_place(
    home: Home, tmp_path: Path, terminal: MakeTerminal
) -> None:
    path = tmp_path / "/".join(["a_folder_of_a_long_name"] * 5) / "bad.yaml"
    console = terminal(home, str(write_layout(path, "bad", more=[("role: train}", "role: trian}")])))
    place = r"bad\.yaml:5:\d+"
    console.shows(
        rf"layout cannot be used[│\s]+{place}: nodes\[0\].role[\s\S]*at +\S+/{place}\s[\s\S]*"
        r"field +nodes\[0\]\.role[\s\S]*q leave"
    )
    console.press("q")
    assert console.ended() == 0 and console.is_restored()
    assert home.noted is None


# -- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_signal_ends_console_and_link_and_restores_the_terminal(
    number: signal.Signals, client: Any, cluster: Home, terminal: MakeTerminal
) -> None:
    console = terminal(cluster, client.fed_id)
    console.shows("2 virtual")
    (link,) = console.links
    console.signal(number)
    assert console.ended() == 128 + number
    assert console.is_restored()
    eventually(lambda: not link.is_running(), "the link has ended")
    assert client.status()["state"] == "idle"


def test_a_terminal_that_is_lost_ends_console_and_link_and_the_federation_goes_on(
    client: Any, cluster: Home, terminal: MakeTerminal
) -> None:
    console = terminal(cluster, client.fed_id)
    console.shows("2 virtual")
    (link,) = console.links
    process = psutil.Process(console.pid)
    console.hang_up()
    eventually(lambda: not link.is_running(), "the link has ended")
    eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "the console ends")
    assert client.status()["state"] == "idle"


@pytest.mark.parametrize("moment", [0.0, 0.08, 0.16, 0.24, 0.4])
def test_ctrl_c_soon_after_the_start_restores_the_terminal(
    moment: float, home: Home, silent: str, terminal: MakeTerminal
) -> None:
    console = terminal(home, "--address", silent)
    # Before it imports Textual nothing of it runs: the interpreter is starting, and dies of the signal in its own way.
    eventually(lambda: "_asyncio" in Path(f"/proc/{console.pid}/maps").read_text(), "it imports what it needs")
    time.sleep(moment)  # while it imports, takes the terminal over, paints for the first time
    console.press(CTRL_C)
    assert console.ended() in (0, 1)
    assert console.is_restored()
    assert b"Traceback" not in console.written
    eventually(lambda: not processes_of(home), "the link has ended")


def test_ctrl_c_while_it_asks_an_address_restores_the_terminal(home: Home, silent: str, terminal: MakeTerminal) -> None:
    console = terminal(home, "--address", silent)
    console.shows(f"asking {silent}")
    console.press(CTRL_C)
    assert console.ended() == 0
    assert console.is_restored()
    eventually(lambda: not processes_of(home), "the link has ended")


def test_ctrl_c_while_a_local_ray_starts_restores_the_terminal_and_leaves_no_process(
    home: Home, terminal: MakeTerminal
) -> None:
    console = terminal(home)
    eventually(lambda: len(cluster_processes(home)) > 1, "processes of a cluster are starting")
    console.press(CTRL_C)
    assert console.ended() == 0
    assert console.is_restored()
    eventually(lambda: not processes_of(home), "link and cluster have ended")
    assert home.noted is None


def test_ctrl_c_when_connected_asks_and_restores_the_terminal(
    client: Any, cluster: Home, terminal: MakeTerminal
) -> None:
    console = terminal(cluster, client.fed_id)
    console.shows("2 virtual")
    console.press(CTRL_C)
    console.shows("Leave it running")
    console.press(ENTER)
    assert console.ended() == 0
    assert console.is_restored()


def test_without_a_terminal_it_says_what_to_use(home: Home) -> None:
    told = home.red()
    assert (told.code, told.out) == (2, "")
    assert "red-console run" in told.err
    assert home.noted is None


# -- when what it stands on goes away -------------------------------------------------------------


def test_a_link_that_dies_is_told_and_replaced(client: Any, cluster: Home, terminal: MakeTerminal) -> None:
    console = terminal(cluster, client.fed_id)
    console.shows("2 virtual")
    (link,) = console.links
    link.kill()
    console.wrote("trying again")
    console.shows("the cluster is back")
    assert console.links and link.pid not in [one.pid for one in console.links]
    client.add_nodes(2)
    console.shows("4 virtual")
    assert "trying again" not in console.text


def test_a_cluster_that_dies_leaves_the_console_up_and_at_hand(
    home: Home, tmp_path: Path, terminal: MakeTerminal
) -> None:
    console = terminal(home, str(write_layout(tmp_path / "small.yaml", "small")))
    console.shows("2 virtual")
    for process in cluster_processes(home):
        process.kill()
    console.shows(r"lost\b[\s\S]*trying again")
    assert "2 virtual" in console.text
    console.press("?")
    console.shows("build the next wave")
    console.press(ESCAPE)
    eventually(lambda: "build the next wave" not in console.text, "help is closed")
    leave(console)


# -- what it writes -------------------------------------------------------------------------------


def test_an_idle_console_writes_nothing(client: Any, cluster: Home, terminal: MakeTerminal) -> None:
    client.build(["client_0"])
    console = terminal(cluster, client.fed_id)
    console.shows("1 ready")
    assert len(console.written) > 0
    console.settle(8.0)


def test_a_change_of_one_node_writes_the_rows_that_changed_and_no_others(
    cluster: Home, fed_id: str, tmp_path: Path, terminal: MakeTerminal
) -> None:
    four = [("count: 1, role: train}", "count: 4, role: train}")]
    client = red_tui.launch(write_layout(tmp_path / "four.yaml", fed_id, more=four))
    client.build(["client_0", "client_1"])
    columns = 120
    console = terminal(cluster, fed_id, size=(columns, 36))
    console.shows("2 ready")
    console.settle(3.0)
    look = console.watch_writing()
    client.release(["client_1"])
    console.shows("1 released")
    console.settle(2.0)
    count, written, differ = look()
    panel = console.row_of("─ events ─")
    # Above the events: the row it left, the pool's row, and the frame with the counts.  Nothing that looks as before.
    assert 0 < len([row for row in written if row < panel]) <= 4
    assert {row for row in written if row < panel} <= differ
    # A row costs its cells and some colours, about four bytes a cell, and a release is told in two updates at most.
    assert count <= 2 * 4 * columns * len(written)
