"""The real console in a pseudo-terminal, with a real link process: how it starts, survives and ends."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

pytestmark = pytest.mark.terminal

PROGRAM = """
import sys
from red_tui.console.app import RedConsole
from red_tui.console.run import run
from red_tui.console.config.options import ConsoleOptions

said = open(sys.argv[1] + ".said", "a", buffering=1)
drained, each_second = RedConsole.connection_drained, RedConsole.each_second

async def told(self):
    said.write("waits\\n")
    await drained(self)
    said.write("drained\\n")

def ticked(self):
    said.write("second\\n")
    each_second(self)

RedConsole.connection_drained, RedConsole.each_second = told, ticked
link = (sys.executable, "-m", "tests.console.link_child", "--pids", *sys.argv[1:2], *sys.argv[4:])
sys.exit(run(ConsoleOptions(ascii=sys.argv[3] == "ascii", home=sys.argv[2], link_command=link)))
"""


def spawned(folder: Path, *more: str, signs: str = "unicode", **variables: str) -> Any:
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.getcwd(), "TEXTUAL_ANIMATIONS": "none"}
    return pexpect.spawn(
        sys.executable,
        ["-c", PROGRAM, str(folder / "pids"), str(folder), signs, *more],
        dimensions=(24, 80),
        env={**environment, **variables},
        timeout=120,
        encoding="utf-8",
    )


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Any, Callable[[], list[int]]]]:
    child = spawned(tmp_path)
    child.expect("103 nodes")

    def links() -> list[int]:
        return [int(line) for line in (tmp_path / "pids").read_text().split()]

    yield child, links
    with contextlib.suppress(OSError):  # a test may have closed it
        child.close(force=True)


def eventually(condition: Callable[[], Any]) -> None:
    """Return when a condition holds, within the time that a test may take."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended within the time that a test may take."""

    def ended() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(ended)
    return True


def test_leaving_restores_the_terminal_and_ends_the_link(opened: Any) -> None:
    child, links = opened
    child.send("q")
    child.expect(r"\x1b\[\?1049l")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0
    assert gone(links()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal_and_ends_both(opened: Any, number: int) -> None:
    child, links = opened
    child.kill(number)
    child.expect(r"\x1b\[\?1049l")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 128 + number
    assert gone(links()[0])


def test_a_terminal_that_hangs_up_leaves_no_orphan(opened: Any) -> None:
    child, links = opened
    os.close(child.child_fd)
    child.wait()
    assert gone(child.pid) and gone(links()[0])


def test_a_killed_link_is_replaced_and_the_console_goes_on(opened: Any) -> None:
    child, links = opened
    os.kill(links()[0], signal.SIGKILL)
    child.expect("lost")
    child.expect("the cluster is back")
    assert len(links()) == 2
    child.send("q")
    child.expect(pexpect.EOF)


def test_a_killed_console_leaves_no_link(opened: Any) -> None:
    child, links = opened
    child.kill(signal.SIGKILL)
    assert gone(links()[0])


def test_ctrl_c_leaves_as_q_does(opened: Any) -> None:
    child, _ = opened
    child.send("\x03")
    child.expect(r"\x1b\[\?1049l")
    child.expect(pexpect.EOF)


def test_a_terminal_that_reads_nothing_slows_the_console_which_neither_grows_nor_stays_behind(tmp_path: Path) -> None:
    child = spawned(tmp_path, "--flood")
    try:
        child.expect("flood")
        count = tmp_path / "pids.watches"

        def asked() -> int:
            return len(count.read_text().split())

        def memory() -> int:
            return int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])

        def seconds_of_waiting() -> int:
            """Seconds that the console has counted since it waits for the terminal; none if it does not wait."""
            since = (tmp_path / "pids.said").read_text().rpartition("waits")[2].split()
            return 0 if "drained" in since else len(since)

        # Nobody reads: the console asks for no more once the terminal is full.
        eventually(lambda: seconds_of_waiting() >= 1)
        before, pages = asked(), memory()
        eventually(lambda: seconds_of_waiting() >= 3)
        assert asked() == before and memory() - pages < 2000  # of 4 KiB: nothing piles up
        # The terminal reads again: what comes is new, and keys are answered.
        child.expect(f"flood {before + 40}")
        child.send("q")
        child.expect(r"\x1b\[\?1049l")
        child.expect(pexpect.EOF)
    finally:
        with contextlib.suppress(OSError):
            child.close(force=True)


COLOURS = re.compile(r"\x1b\[(?:\d*;)*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;\d*)*m")


def test_a_terminal_without_colours_and_unicode_gets_neither_on_any_screen(tmp_path: Path) -> None:
    assert COLOURS.search("\x1b[1;38;2;1;2;3m") and COLOURS.search("\x1b[49m") and not COLOURS.search("\x1b[1;4;7m")
    child = spawned(tmp_path, signs="ascii", NO_COLOR="1")
    child.logfile_read = heard = io.StringIO()
    try:
        child.expect("103 nodes")
        back = ("\x1b", "leave")  # the last line: the prompt and dialogs are gone
        for keys, then in (
            (" ", "1 marked"), ("2", "13 rounds"), ("3", "8 bundles"), ("5", "5 events"), ("6", "by id"),
            ("1", "wave 4"), ("?", "states"), back, ("\x10", "possible now"), back, (":", "tab completes"), back,
            ("x", "Release 1 node"), back, ("W", "wave planner"), back, ("\r", "traceback"), back,
            ("/state:failed", "2 shown"),
        ):  # fmt: skip
            child.send(keys)
            child.expect(then)
    finally:
        with contextlib.suppress(OSError):
            child.close(force=True)
    assert len(heard.getvalue()) > 10_000
    assert COLOURS.findall(heard.getvalue()) == []
    assert [sign for sign in heard.getvalue() if not sign.isascii()] == []
    assert "\x1b[7m" in heard.getvalue() or ";7m" in heard.getvalue(), "the cursor is seen"
