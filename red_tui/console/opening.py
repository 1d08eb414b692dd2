"""Opening the console on this terminal, and what is left when it ends."""

from __future__ import annotations

import sys

from red_tui.console.app import RedConsole
from red_tui.console.ending import ending_on_signals
from red_tui.console.options import ConsoleOptions
from red_tui.console.preferences import load_or_default
from red_tui.console.text import plain_lines
from red_tui.errors import RedError
from red_tui.state_folder import check_folder


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
