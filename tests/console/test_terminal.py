"""The real console in a pseudo-terminal, with a real link process: how it starts, survives and ends."""

from __future__ import annotations

import contextlib
import os
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
from red_tui.console.app import run
from red_tui.console.options import ConsoleOptions
link = (sys.executable, "-m", "tests.console.link_child", "--pids", *sys.argv[1:2], *sys.argv[3:])
sys.exit(run(ConsoleOptions(ascii=False, home=sys.argv[2], link_command=link)))
"""


def spawned(folder: Path, *more: str) -> Any:
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.getcwd(), "TEXTUAL_ANIMATIONS": "none"}
    return pexpect.spawn(
        sys.executable,
        ["-c", PROGRAM, str(folder / "pids"), str(folder), *more],
        dimensions=(24, 80),
        env=environment,
        timeout=30,
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


def gone(pid: int) -> bool:
    """Whether a process has ended within the time that a test may take."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


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

        # Nobody reads: the console asks for no more once the terminal is full.
        before, deadline = asked(), time.monotonic() + 30
        while True:
            time.sleep(2.0)
            if asked() == before:
                break
            before = asked()
            assert time.monotonic() < deadline, "it goes on asking for what nobody reads"
        pages = memory()
        time.sleep(2.0)
        assert asked() == before and memory() - pages < 2000  # of 4 KiB: nothing piles up
        # The terminal reads again: what comes is new, and keys are answered.
        child.expect(f"flood {before + 40}")
        child.send("q")
        child.expect(r"\x1b\[\?1049l")
        child.expect(pexpect.EOF)
    finally:
        with contextlib.suppress(OSError):
            child.close(force=True)
