"""A console of a million nodes against one of a thousand, in pseudo-terminals side by side."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pexpect

from benchmarks.measuring import ratio

LARGE, SMALL = 1_000_000, 1_000
TICKS, KEYS, PAIRS = 100, 20, 3
FLOOD = 10_000
SIZE = (36, 120)


class Scene:
    """A console with some number of nodes in a terminal of its own."""

    def __init__(self, nodes: int, folder: Path, changes: int = 0) -> None:
        self._result = folder / f"result-{nodes}"
        script = str(Path(__file__).with_name("console_child.py"))
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
        root = str(Path(__file__).parent.parent)
        environment = {
            **kept,
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONPATH": root,
        }
        self.terminal = pexpect.spawn(
            sys.executable, [script, str(nodes), str(TICKS), str(self._result), *([str(changes)] if changes else [])],
            env=environment, dimensions=SIZE, timeout=60,
        )  # fmt: skip
        self.terminal.delaybeforesend = None
        self.terminal.expect("800 ready")
        self.read_until_quiet()

    def read_until_quiet(self, quiet: float = 0.5) -> int:
        """Bytes until nothing comes for a while."""
        count = 0
        while True:
            try:
                count += len(self.terminal.read_nonblocking(65536, timeout=quiet))
            except pexpect.TIMEOUT:
                return count

    def ticks(self) -> tuple[float, float]:
        """CPU seconds and bytes of a tick with 100 changed nodes."""
        os.kill(self.terminal.pid, signal.SIGUSR1)
        written = self.read_until_quiet(1.0)
        while not self._result.exists():
            written += self.read_until_quiet(0.2)
        return float(self._result.read_text()) / TICKS, written / TICKS

    def longest_blocks(self) -> tuple[float, float]:
        """How long the event loop stood still at most, idle and under the flood, in seconds."""
        self.read_until_quiet(3.0)
        os.kill(self.terminal.pid, signal.SIGUSR1)
        while not self._result.exists():
            self.read_until_quiet(0.2)
        idle, flooded = self._result.read_text().split()
        return float(idle), float(flooded)

    def key(self, key: str) -> float:
        """Seconds from a key to the first byte of what it paints."""
        started = time.perf_counter()
        self.terminal.send(key)
        self.terminal.read_nonblocking(1, timeout=10)
        seconds = time.perf_counter() - started
        self.read_until_quiet(0.25)  # the detail beside the grid follows a cursor that rests
        return seconds

    def grid_drawn_whole(self) -> int:
        """Bytes of the grid's whole picture."""
        os.kill(self.terminal.pid, signal.SIGUSR2)
        return self.read_until_quiet()

    def end(self) -> None:
        self.terminal.kill(15)
        self.terminal.expect(pexpect.EOF)
        self.terminal.close(force=True)


def run() -> list[dict[str, Any]]:
    cpu: dict[int, list[float]] = {LARGE: [], SMALL: []}
    paint: dict[int, list[float]] = {LARGE: [], SMALL: []}
    scattered, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PAIRS):
            home = Path(folder) / str(number)
            home.mkdir()
            scenes = {nodes: Scene(nodes, home) for nodes in (LARGE, SMALL)}
            for nodes in (SMALL, LARGE) if number % 2 else (LARGE, SMALL):
                seconds, written = scenes[nodes].ticks()
                cpu[nodes].append(seconds)
                if nodes == LARGE:
                    scattered.append(written)
                    whole.append(scenes[nodes].grid_drawn_whole())
            for place in range(KEYS):
                for nodes, scene in scenes.items():
                    paint[nodes].append(scene.key("jk"[place % 2]))
            for scene in scenes.values():
                scene.end()
        blocks = []
        for number in range(PAIRS):
            home = Path(folder) / f"flood-{number}"
            home.mkdir()
            scene = Scene(LARGE, home, FLOOD)
            blocks.append(scene.longest_blocks())
            scene.end()
    idle, flooded = statistics.median(one for one, _ in blocks), statistics.median(two for _, two in blocks)
    told = statistics.median(scattered), statistics.median(whole)
    return [
        ratio("CPU of a tick of 100 changes, at 1,000,000 nodes : at 1,000", cpu[LARGE], cpu[SMALL], 1.3),
        ratio("key to paint, at 1,000,000 nodes : at 1,000", paint[LARGE], paint[SMALL], 1.3),
        {
            "what": "bytes of a tick of 100 scattered changes, 120×36, of the whole grid",
            "figure": f"{told[0] / told[1]:.2f} × ({told[0]:.0f} : {told[1]:.0f})",
            "goal": "≤ 1 ×",
            "reached": told[0] <= told[1],
            "ratio": told[0] / told[1],
        },
        {
            "what": "longest block of the event loop, 10,000 of 1,000,000 nodes moving a tick : idle",
            "figure": f"{flooded * 1e3:.1f} ms ({flooded / max(idle, 1e-6):.1f} × {idle * 1e3:.1f} ms)",
            "goal": "≤ 50 ms",
            "reached": flooded <= 0.05,
            "ratio": flooded / max(idle, 1e-6),
        },
    ]


if __name__ == "__main__":
    for one in run():
        print(one["what"], one["figure"], one["goal"], one["reached"])
