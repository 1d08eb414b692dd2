"""A console over a link that plays prepared updates: `console_child.py NODES TICKS FILE [CHANGES]`.

SIGUSR1 starts the updates, of 100 (CHANGES) changed nodes each; the CPU seconds that they took are written to FILE.
With CHANGES, FILE gets how long the event loop stood still at most: idle, and while the updates came.
SIGUSR2 draws the grid whole.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from textual.message import Message

from red_tui.console.app import RedConsole
from red_tui.console.config.options import ConsoleOptions
from red_tui.console.connection.link_process import LinkStatus
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NodeTable

BUILT, BUNDLES, CHANGES = 800, 16, 100
BEAT = 0.001
PACE = 0.03


class Monitor:
    """How much CPU time the event loop spends at most without a breath, before and during the flood.

    CPU time of its thread, not the clock's: what other processes take from it is none of its blocks.
    """

    def __init__(self) -> None:
        self.flooded = False
        self.longest = {False: 0.0, True: 0.0}

    async def watch(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(BEAT)
            late = time.thread_time() - before
            self.longest[self.flooded] = max(self.longest[self.flooded], late)


class PlayedLink:
    """Answers `watch` with updates that were made beforehand."""

    def __init__(self, nodes: int, ticks: int, result: Path, changes: int = 0) -> None:
        table = NodeTable()
        table.append(PatternIds.parse("client_{i}", nodes), "train")
        built = np.arange(BUILT)
        table.set(built, state=NodeState.READY, bundle=built % BUNDLES + 1)
        hosts = [{"id": "h", "name": "h", "alive": True, "cpu": 16.0, "gpu": 0, "head": True}]
        bundles = [
            {"idx": idx, "host": "h", "cpu": 1.0, "gpu": 0, "resources": {}, "state": "ready", "what": ""}
            for idx in range(BUNDLES + 1)
        ]
        self._full = {
            "cursor": 0, "time": 0.0, "full": True, "read_only": False, "note": "", "federation": {"id": "bench"},
            "table": table.to_wire(), "bundles": bundles, "hosts": hosts, "cluster": {}, "round": {}, "rounds": [],
            "events": [],
        }  # fmt: skip
        self._updates = []
        chance = np.random.default_rng(7)
        for number in range(ticks):
            version = table.version
            rows = chance.choice(max(changes, BUILT), changes or CHANGES, replace=False)
            state = (NodeState.BUSY, NodeState.READY)[number % 2]
            if changes:  # nodes move too, as a wave of thousands does
                table.set(rows, state=state, bundle=number % BUNDLES + 1)
            else:
                table.set(rows, state=state)
            wire = table.to_wire(version, 0, len(table.ids.segments))
            self._updates.append({"cursor": number + 1, "time": 0.0, "full": False, "table": wire})
        self._result = result
        self._started = 0.0
        self.monitor = Monitor() if changes else None
        self.go = asyncio.Event()

    def start(self, sink: Callable[[Message], object]) -> None:
        sink(LinkStatus(True, 1))

    async def call(self, verb: str, args: dict[str, Any], timeout: float | None) -> Any:
        if verb == "open":
            return {"federation": "bench", "address": "", "embedded": False, "created": False}
        if verb == "command":
            return {"text": "", "why": ""}
        if args["cursor"] is None:
            return self._full
        await self.go.wait()
        if not self._started:
            self._started = time.process_time()
            if self.monitor is not None:
                self.monitor.flooded = True
        if args["cursor"] < len(self._updates):
            return self._updates[args["cursor"]]
        await asyncio.sleep(PACE)
        gaps = self.monitor
        told = f"{gaps.longest[False]} {gaps.longest[True]}" if gaps else str(time.process_time() - self._started)
        self._result.write_text(told)
        await asyncio.Event().wait()

    def succeeded(self) -> None: ...

    def restart(self) -> None: ...

    def close(self, grace: float = 2.0) -> None: ...


async def _pace(seconds: float) -> None:
    await asyncio.sleep(PACE)


class Played(RedConsole):
    def on_ready(self) -> None:
        # Textual calls the handler of each class: the console's own one has been, or will be.
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.link.go.set)  # type: ignore[attr-defined]
        loop.add_signal_handler(signal.SIGUSR2, lambda: self.grid.refresh() if self.grid else None)

    def connection_changed(self, changes: Any) -> None:
        first = self.controller is None
        super().connection_changed(changes)
        if first and self.grid is not None:
            self.grid.set_zoom("glyphs")
            if self.link.monitor is not None:  # type: ignore[attr-defined]
                self.set_timer(1.0, lambda: self.run_worker(self.link.monitor.watch()))  # type: ignore[attr-defined]


if __name__ == "__main__":
    nodes, ticks, where = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    played = PlayedLink(nodes, ticks, where, int(sys.argv[4]) if len(sys.argv) > 4 else 0)
    Played(ConsoleOptions(home=str(where.parent)), played, pause=_pace).run(mouse=False)
