"""`python -m red_tui.link`: the console's child process: it holds the Ray driver, or replays a journal."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Keep stdout for frames, send everything else that is printed to a file, and serve until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m red_tui.link", description="The console's bridge to Ray.")
    parser.add_argument("--log", help="file for what Ray and this process print")
    parser.add_argument("--replay", action="store_true", help="serve a journal; no cluster is looked for")
    options = parser.parse_args()
    frames = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    target = os.devnull
    if options.log:
        target = options.log
        Path(target).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if _large(target) else os.O_APPEND)
    log = os.open(target, flags, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)

    # What the terminal tells its whole process group is the console's to answer: it ends this pipe.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave_it_to_the_console)
    if options.replay:
        from red_tui.link.replay_link import ReplayLink

        ReplayLink(sys.stdin.buffer, frames).serve()
    else:
        from red_tui.link.cluster_link import ClusterLink

        ClusterLink(sys.stdin.buffer, frames).serve()
        # A local Ray that is not up yet would be nobody's.
        from red_tui.supervisor.local_cluster import end_half_started

        end_half_started()
    # Ray's own shut-down can take seconds; a console that has gone must leave nothing behind at once.
    os._exit(0)


def _leave_it_to_the_console(number: int, frame: object) -> None:
    """A handler, as an ignored signal would stay ignored in the cluster that this process starts."""


def _large(path: str) -> bool:
    try:
        return os.path.getsize(path) > 1_000_000
    except OSError:
        return False


if __name__ == "__main__":
    main()
