"""A console on the terminal that it is started on, whose federation says hostile things.

python -m tests.console.hostile_console FILE

On SIGUSR1 it writes the lines that it means to show to FILE.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from red_tui.console.app import RedConsole
from red_tui.console.config.options import ConsoleOptions
from tests.console.test_untrusted import evil_link
from tests.console.tour import drawn


def main() -> None:
    target = Path(sys.argv[1])

    class Told(RedConsole):
        def on_mount(self) -> None:
            super().on_mount()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._tell)

        def _tell(self) -> None:
            aside = target.with_suffix(".new")
            aside.write_text(json.dumps([strip.text for strip in drawn(self)]))
            os.replace(aside, target)

    with tempfile.TemporaryDirectory() as home:
        Told(ConsoleOptions(ascii=False, remember=False, home=home), evil_link()).run(mouse=False)


if __name__ == "__main__":
    main()
