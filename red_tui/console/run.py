"""How a console ends when its terminal or its user's session ends first."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from red_tui.console.app import RedConsole
from red_tui.console.config.options import ConsoleOptions
from red_tui.console.config.preferences import load_or_default
from red_tui.console.text import plain_lines
from red_tui.errors import RedError
from red_tui.state_folder import check_folder

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


def run(options: ConsoleOptions) -> int:
    """Open the console and return the exit code.

    The terminal is restored whatever happens; on SIGHUP and SIGTERM console and link end at once.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stderr.write(
            "red-console needs a terminal, and standard input or output is none.\n"
            "Without a screen: red-console run LAYOUT --rounds N, status --json, replay JOURNAL --json\n"
        )
        return 2
    try:
        check_folder(options.state_dir())
    except RedError as error:
        sys.stderr.write("\n".join(plain_lines(error.message)) + "\n")
        return 2
    app = RedConsole(options, preferences=load_or_default())
    with ending_on_signals(app):
        try:
            code = app.run(mouse=app.options.mouse)
        finally:
            app.link.close()
    if app.last_word:
        sys.stdout.write(f"{app.last_word}\n")
    return app.return_code or 0 if code is None else code
