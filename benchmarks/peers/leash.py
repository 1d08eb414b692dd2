"""What ties a process to the benchmark that started it.  Standard library only: it runs in the peers' venvs too."""

from __future__ import annotations

import os
import signal
import threading


def die_with_parent() -> None:
    """End this process and its group when standard input closes: the benchmark that held it has gone, however."""

    def wait() -> None:
        # Not through `sys.stdin`: the interpreter takes its lock when it ends.
        while os.read(0, 4096):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
