"""A real `red-console` in a real pseudo-terminal, with an emulator that knows what is on its screen."""

from __future__ import annotations

import os
import re
import select
import signal
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pexpect
import psutil
import pyte

from tests.system.support import RED_CONSOLE, Home, eventually

ALTERNATE, ORDINARY = b"\x1b[?1049h", b"\x1b[?1049l"
HIDDEN, SHOWN = b"\x1b[?25l", b"\x1b[?25h"

_UNKNOWN = re.compile(rb"\x1b\[[<=>][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p|\x1b\[[0-9;]*\$p|\x1bP[^\x1b]*\x1b\\")
"""Questions to the terminal that the emulator would draw as text."""

_UNFINISHED = re.compile(rb"\x1b[^a-zA-Z\\]{0,32}\Z")


class Terminal:
    """One console and its terminal.

    Args:
        home: Whose clusters and files it uses.
        arguments: Of `red-console`.
        size: Columns and rows.
        program: What runs in the terminal, with its first arguments.
        further: Environment variables.
    """

    def __init__(
        self,
        home: Home,
        *arguments: str,
        size: tuple[int, int] = (120, 36),
        program: Sequence[str] = (RED_CONSOLE,),
        **further: str,
    ) -> None:
        columns, rows = size
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._rest = b""
        self.written = bytearray()
        first, *more = (*program, *arguments)
        self._child: Any = pexpect.spawn(
            first, more, env=home.environment(**further), dimensions=(rows, columns), timeout=30
        )
        self._fd = self._child.child_fd
        self._before = termios.tcgetattr(self._fd)
        self._open, self._stalled = True, False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while self._open:
            if self._stalled:
                time.sleep(0.05)
                continue
            try:
                if not select.select([self._fd], [], [], 0.1)[0]:
                    continue
                part = os.read(self._fd, 65536)
            except OSError:
                return  # the last process that had the terminal open has ended, or a test has closed it
            if not part:
                return
            with self._lock:
                self.written += part
                known = _UNKNOWN.sub(b"", self._rest + part)
                cut = _UNFINISHED.search(known)
                self._rest = known[cut.start() :] if cut else b""
                self._stream.feed(known[: cut.start()] if cut else known)

    @property
    def pid(self) -> int:
        """The process in the terminal: the console, or what reaches it."""
        return int(self._child.pid)

    @property
    def links(self) -> list[psutil.Process]:
        """Its living link processes."""
        try:
            children = psutil.Process(self.pid).children()
        except psutil.Error:
            return []
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    @property
    def text(self) -> str:
        """What is on the screen."""
        with self._lock:
            return "\n".join(line.rstrip() for line in self._screen.display)

    def shows(self, pattern: str, timeout: float = 120.0) -> str:
        """Wait until a regular expression matches the screen."""
        try:
            eventually(lambda: re.search(pattern, self.text), f"the screen shows {pattern!r}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows\n{self.text}") from None
        return self.text

    def wrote(self, text: str, timeout: float = 120.0) -> None:
        """Wait until a text has been written, even if it is gone from the screen by now."""
        eventually(lambda: text.encode() in self.written, f"{text!r} is written; it shows\n{self.text}", timeout)

    def settle(self, seconds: float) -> None:
        """Wait until nothing was written for some seconds."""
        seen, since = len(self.written), time.monotonic()

        def still() -> bool:
            nonlocal seen, since
            if len(self.written) != seen:
                seen, since = len(self.written), time.monotonic()
            return time.monotonic() - since >= seconds

        eventually(still, f"nothing is written for {seconds:g} s")

    def watch_writing(self) -> Callable[[], tuple[int, set[int], set[int]]]:
        """Begin to watch; the function gives bytes written since, rows written, and rows that look different now."""
        with self._lock:
            begun, before = len(self.written), list(self._screen.display)
            self._screen.dirty.clear()

        def look() -> tuple[int, set[int], set[int]]:
            with self._lock:
                now = self._screen.display
                differ = {row for row, line in enumerate(now) if line != before[row]}
                return len(self.written) - begun, set(self._screen.dirty), differ

        return look

    def row_of(self, text: str) -> int:
        """Row of the screen that holds a text."""
        return next(row for row, line in enumerate(self.text.split("\n")) if text in line)

    def press(self, keys: str) -> None:
        """Type."""
        self._child.send(keys)

    def signal(self, number: signal.Signals) -> None:
        """Send the console a signal."""
        os.kill(self.pid, number)

    def stall(self) -> None:
        """Read nothing any more until `resume`; returns when the terminal is full, so that who writes has to wait."""
        self._stalled = True
        slave = os.open(os.readlink(f"/proc/{self.pid}/fd/1"), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            eventually(lambda: not select.select([], [slave], [], 0)[1], "the terminal is full")
        finally:
            os.close(slave)

    def resume(self) -> None:
        """Read again."""
        self._stalled = False

    @property
    def memory(self) -> int:
        """Bytes of memory that the process in the terminal has to itself."""
        return int(psutil.Process(self.pid).memory_full_info().uss)

    def hang_up(self) -> None:
        """Take the terminal away, as when an SSH session drops."""
        self._open = False
        self._reader.join(60)
        self._child.ptyproc.fileobj.close()

    def ended(self, timeout: float = 120.0) -> int:
        """Exit code of the console, which has to end by itself."""
        try:
            eventually(lambda: not self._child.isalive(), "the console ends", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows\n{self.text}") from None
        self._reader.join(60)
        return -int(self._child.signalstatus) if self._child.signalstatus is not None else int(self._child.exitstatus)

    def is_restored(self) -> bool:
        """Whether the terminal is as the console found it: its screen, its cursor, its line discipline."""
        out = bytes(self.written)
        return (
            out.rfind(ORDINARY) >= out.rfind(ALTERNATE)
            and out.rfind(SHOWN) >= out.rfind(HIDDEN)
            and termios.tcgetattr(self._fd)[:4] == self._before[:4]
        )

    def close(self) -> None:
        """End the console if it still runs."""
        for process in [*self.links, *([psutil.Process(self.pid)] if self._child.isalive() else [])]:
            process.kill()
        self._child.close(force=True)


MakeTerminal = Callable[..., Terminal]
"""Opens a terminal as `Terminal` does, and closes it after the test."""
