"""A link process for tests: it speaks real frames and serves a federation from memory.

python -m tests.console.link_child --pids FILE [--flood]

With `--flood` every watch finds all nodes changed, and a line per watch goes to FILE.watches.
"""

from __future__ import annotations

import os
import sys
import threading

from red_tui.nodes.states import NodeState
from red_tui.protocol.frames import FrameWriter, read_frame
from tests.console.fake_link import DETAIL, busy_federation


def main() -> None:
    with open(sys.argv[sys.argv.index("--pids") + 1], "a") as pids:
        pids.write(f"{os.getpid()}\n")
    federation = busy_federation()
    writer = FrameWriter(sys.stdout.buffer)
    idle = threading.Event()

    flood = "--flood" in sys.argv

    def changed() -> dict[str, object]:
        table = federation.table
        version = table.version
        table.set(slice(1, None), state=(NodeState.READY, NodeState.BUSY)[version % 2])
        federation.event(f"flood {version}", "all nodes changed")
        with open(sys.argv[sys.argv.index("--pids") + 1] + ".watches", "a") as watches:
            watches.write(f"{version}\n")
        wire = table.to_wire(version, 0, len(table.ids.segments))
        return {"cursor": version, "time": 0, "full": False, "table": wire, "events": federation.events[-1:]}

    def answer(number: int, verb: str, args: dict[str, object]) -> None:
        if verb == "watch" and args["cursor"] is not None:
            if flood:
                writer.write({"id": number, "ok": changed()})
                return
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
