"""How a console ends when its terminal or its user's session ends first."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from red_tui.console.app import RedConsole


@contextlib.contextmanager
def ending_on_signals(app: RedConsole) -> Iterator[None]:
    """On hang-up and termination end the link, restore the terminal as far as it is there, and exit.

    Ctrl+C is a key once the terminal is in raw mode.  Before that it is a signal: the console ends when it is up, for
    an exception in the middle of its start would leave half of an event loop behind.
    """

    def end(number: int, frame: object) -> None:
        threading.Thread(target=_end_at_once, args=(app, number), name="end", daemon=True).start()

    def interrupt(number: int, frame: object) -> None:
        app.interrupt()

    before = {number: signal.signal(number, end) for number in (signal.SIGHUP, signal.SIGTERM)}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once(app: RedConsole, number: int) -> None:
    """The terminal may be gone or stalled: give the orderly way a second, then exit without it."""
    ender = threading.Thread(target=app.link.close, args=(0.5,), daemon=True)
    ender.start()
    with contextlib.suppress(RuntimeError):
        app.call_later(app.exit, 128 + number, 128 + number)
    time.sleep(1.0)
    ender.join(0.7)
    os._exit(128 + number)
