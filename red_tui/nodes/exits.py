"""What `os._exit` in user code means: a node's own process says so before it ends, and a host of many goes on."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from red_tui.nodes.user_code import ProcessExit, forks, is_framework

EXIT_PATIENCE = 1.0
"""Max seconds from `os._exit` to the end of the process: whoever hears of it ends it before."""

_NODES = str(Path(__file__).parent) + os.sep


class ExitWatch:
    """Stands in for `os._exit` in the process of an actor.

    Ray tells of such an end in the words that it has for a crash, without the code.
    """

    def __init__(self) -> None:
        self._real = os._exit
        self._called = threading.Event()
        self._report: dict[str, Any] = {}
        self._shared = False

    def install(self, *, shared: bool) -> None:
        """Take the place of `os._exit`.

        Args:
            shared: Many nodes share the process: one that calls `os._exit` fails alone.
        """
        self._shared = shared
        if os._exit is self._real:
            setattr(os, "_exit", self._exit)  # noqa: B010

    def wait(self) -> dict[str, Any]:
        """Return once `os._exit` was called: who called it, with which code."""
        self._called.wait()
        return self._report

    def _exit(self, status: int) -> NoReturn:
        if forks.count != forks.here:
            self._real(status)
        frame = sys._getframe(1)
        if self._shared and _is_node_code(frame):
            raise ProcessExit(status)
        stack = traceback.extract_stack(frame)
        # A thread of the user's own was called by nobody here.
        entered = next((place for place, one in enumerate(stack) if _is_ours(one.filename)), None)
        shown = [one for one in stack[entered or 0 :] if not is_framework(one.filename)] or stack[-1:]
        self._report = {
            "code": int(status),
            "where": "a thread" if entered is None else shown[0].name,
            "traceback": "".join(["Traceback (most recent call last):\n", *traceback.format_list(shown[-20:])]),
        }
        self._called.set()
        threading.Event().wait(EXIT_PATIENCE)
        self._real(status)


exit_watch = ExitWatch()
"""Of this process; it does nothing before it is installed."""


def wait_for_exit() -> dict[str, Any]:
    """Return once `os._exit` was called in this process: who called it, with which code."""
    return exit_watch.wait()


def guard_process(*, shared: bool) -> None:
    """Make this the process of an actor: what ends it is told, and its forks do not answer for it.

    Args:
        shared: Many nodes share the process.
    """
    forks.watch()
    exit_watch.install(shared=shared)


def _is_ours(filename: str) -> bool:
    return filename.startswith(_NODES)


def _is_node_code(frame: Any) -> bool:
    """Whether code of this package called the code of a frame, and will hear of what it raises."""
    while frame is not None:
        if _is_ours(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False
