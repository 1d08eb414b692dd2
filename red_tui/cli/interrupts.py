"""Ctrl+C while modules are imported: it takes effect when the import is over.

A `KeyboardInterrupt` in the middle of an import leaves half of a module behind, and Python turns it into another error
where a class is being made ("Error calling __set_name__"), so that nobody can handle it as what it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

AGAIN = 0.02
"""Seconds after which it is tried again."""

LONGEST = 10.0
"""Seconds that an import may keep an interrupt waiting: one that hangs can be ended."""

IMPORTING = "<frozen importlib._bootstrap>"


@contextlib.contextmanager
def interrupts_after_imports() -> Iterator[None]:
    """Within it Ctrl+C raises `KeyboardInterrupt` between imports, never inside of one.

    It changes nothing where interrupts are ignored or handled already, and outside of the main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    handler = _Handler()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Handler:
    """Raises, or sends the signal again a moment later."""

    def __init__(self) -> None:
        self._first: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if _is_importing(frame) and (self._first is None or now - self._first < LONGEST):
            self._first = now if self._first is None else self._first
            timer = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
            timer.daemon = True
            timer.start()
            return
        self._first = None
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False
