"""Over a real sshd: the connection drops in the middle of a round, and nothing is lost and nothing is left behind."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.held_rounds import Rounds
from tests.system.ssh import NoSsh, SshHost
from tests.system.support import Home, Sandbox, eventually, processes_of, write_layout
from tests.system.terminal import MakeTerminal, Terminal

pytestmark = pytest.mark.terminal


@pytest.fixture(scope="module")
def host(cluster: Home, sandbox: Sandbox) -> Iterator[SshHost]:
    """An sshd whose sessions find the shared cluster."""
    made = SshHost(cluster, sandbox.folder / "ssh")
    try:
        made.start()
    except NoSsh as why:
        pytest.skip(str(why))
    yield made
    made.close()


@pytest.fixture
def tmux(host: SshHost) -> str:
    """A command that opens tmux on the other side."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    return "tmux -f /dev/null -L red -u"


def typed(console: Terminal, line: str) -> None:
    console.press(":")
    console.shows("tab completes")
    console.press(f"{line}\r")


def living(host: SshHost) -> list[psutil.Process]:
    """Consoles and links that were started by way of ssh; without the shell or the tmux that they run in."""
    return [one for one in host.processes("red-console", "red_tui.link") if "python" in one.cmdline()[0]]


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def kill_the_client(console: Terminal, host: SshHost) -> None:
    psutil.Process(console.pid).kill()


def kill_the_session(console: Terminal, host: SshHost) -> None:
    for session in host.sessions:
        session.kill()


DROPS = {"the client is killed": kill_the_client, "the server's session is killed": kill_the_session}
Drop = Callable[[Terminal, SshHost], None]


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
def test_a_connection_that_drops_in_the_middle_of_a_round_leaves_no_process_and_loses_nothing(
    drop: Drop, host: SshHost, rounds: Rounds, terminal: MakeTerminal
) -> None:
    fed_id = rounds.client.fed_id
    console = terminal(host.home, f"red-console {fed_id}", program=host.command("-tt"))
    console.shows("2 ready")
    typed(console, "run 100000")
    eventually(lambda: rounds.done >= 2, "rounds run")
    before = rounds.hold()
    console.shows(rf"round {before + 1}/100000[\s\S]*2 busy")
    ours = living(host)
    assert len(ours) == 2, "a console and its link"

    drop(console, host)
    eventually(lambda: not any(alive(one) for one in ours), "console and link have ended")
    eventually(lambda: not host.processes(""), "nothing that the session started is left")
    assert rounds.client.running and rounds.done == before, "the round in hand goes on without its console"

    rounds.go_on()
    eventually(lambda: rounds.done >= before + 2, "rounds go on with nobody looking")
    again = terminal(host.home, f"red-console {fed_id}", program=host.command("-tt"))
    told = re.search(r"round (\d+)/", again.shows(r"round \d+/[\s\S]*2 (ready|busy)|1 busy"))
    assert told is not None and int(told[1]) >= before + 2
    typed(again, "stop")
    eventually(lambda: not rounds.client.running, "the run stops after its round")
    numbers = rounds.numbers()
    assert numbers == list(range(1, len(numbers) + 1)), "a round is missing"
    again.press("q")
    again.shows("Leave it running")
    again.press("\r")
    assert again.ended() == 0
    eventually(lambda: not host.processes(""), "nothing that the session started is left")


def test_tmux_keeps_the_console_when_the_connection_drops_and_shows_it_live_over_the_next_one(
    host: SshHost, tmux: str, rounds: Rounds, terminal: MakeTerminal
) -> None:
    fed_id = rounds.client.fed_id
    window = terminal(host.home, f"{tmux} new -s red red-console {fed_id}", program=host.command("-tt"))
    window.shows("2 ready")
    typed(window, "run 100000")
    eventually(lambda: rounds.done >= 2, "rounds run")
    before = rounds.hold()
    ours = {process.pid for process in living(host)}
    assert len(ours) == 2, "a console and its link"
    kill_the_client(window, host)
    eventually(lambda: not host.sessions, "the connection is gone")
    rounds.go_on()
    eventually(lambda: rounds.done >= before + 2, "rounds go on")

    again = terminal(host.home, f"{tmux} attach -t red", program=host.command("-tt"))
    again.shows(r"round \d+/")
    later = rounds.done
    eventually(lambda: shown_round(again) > later, "the console shows rounds that ended after the new connection")
    assert {process.pid for process in living(host)} == ours, "it is the same console"
    typed(again, "stop")
    eventually(lambda: not rounds.client.running, "the run stops after its round")
    again.shows("2 ready")

    processes = living(host)
    assert host.run(*tmux.split(), "kill-server").code == 0
    eventually(lambda: not any(alive(one) for one in processes), "console and link have ended")


def shown_round(console: Terminal) -> int:
    told = re.search(r"round (\d+)", console.text)
    return int(told[1]) if told else 0


def test_a_local_ray_that_was_started_over_ssh_outlives_the_connection(
    host: SshHost, home: Home, tmp_path: Path, terminal: MakeTerminal
) -> None:
    layout = write_layout(tmp_path / "small.yaml", "small")
    command = f"env RED_HOME={home.path} red-console {layout}"
    console = terminal(home, command, program=host.command("-tt"))
    console.shows("2 virtual")
    (link,) = [one for one in processes_of(home) if "red_tui.link" in one.cmdline()]
    kill_the_client(console, host)
    eventually(lambda: not alive(link), "the link has ended")
    told = home.red("status", "small", "--json")
    assert told.code == 0, told.err
    assert told.json["states"] == {"virtual": 2}


def test_status_in_json_over_ssh_is_json_and_nothing_else(host: SshHost, client: Any) -> None:
    told = host.run(
        "red-console", "status", client.fed_id, "--json", "|", "python3", "-c",
        "'import json, sys; print(json.load(sys.stdin)[\"nodes\"])'",
    )  # fmt: skip
    assert (told.code, told.out.strip()) == (0, "2"), told.err
    direct = host.run("red-console", "status", client.fed_id, "--json")
    assert direct.json["id"] == client.fed_id
