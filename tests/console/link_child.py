"""A link process for tests: it speaks real frames and serves a federation from memory.

python -m tests.console.link_child [--pids FILE]
"""

from __future__ import annotations

import os
import sys
import threading

from red_tui.link.wire import FrameWriter, read_frame
from tests.console.fake_link import DETAIL, busy_federation


def main() -> None:
    with open(sys.argv[sys.argv.index("--pids") + 1], "a") as pids:
        pids.write(f"{os.getpid()}\n")
    federation = busy_federation()
    writer = FrameWriter(sys.stdout.buffer)
    idle = threading.Event()

    def answer(number: int, verb: str, args: dict[str, object]) -> None:
        if verb == "watch" and args["cursor"] is not None:
            idle.wait()
        answers = {
            "open": {"federation": "digits", "address": "x", "embedded": False, "created": True},
            "watch": federation.full(),
            "command": DETAIL if args.get("verb") == "detail" else {"text": "done"},
        }
        writer.write({"id": number, "ok": answers.get(verb, {})})

    while (message := read_frame(sys.stdin.buffer)) is not None:
        request = (message["id"], message["verb"], message["args"])
        threading.Thread(target=answer, args=request, daemon=True).start()


if __name__ == "__main__":
    main()
