"""The console in a real pseudo-terminal: its first frame, its attach, and what it writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pexpect

from benchmarks import console_scale
from benchmarks.measuring import alternate, ratio

TIMES = 9
SIZE = (36, 120)

_NODES = """
federation: bench
template: red_tui.examples.digits:DigitsClient
nodes: [{count: 8, role: train}]
placement: {bundles: 8}
"""


def _environment(home: str) -> dict[str, str]:
    # A fresh environment: what the calling terminal sets (a multiplexer, SSH) would change what is written.
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm-256color", "COLORTERM": "truecolor", "RED_HOME": home}


def _spawn(arguments: list[str], home: str) -> Any:
    return pexpect.spawn(sys.executable, arguments, env=_environment(home), dimensions=SIZE, timeout=60)


def _first_frame(arguments: list[str], sign: str, home: str) -> float:
    started = time.perf_counter()
    terminal = _spawn(arguments, home)
    terminal.expect(sign)
    seconds = time.perf_counter() - started
    terminal.kill(15)
    terminal.expect(pexpect.EOF)
    terminal.close(force=True)
    return seconds


def _written(terminal: Any, seconds: float) -> int:
    """Bytes that the terminal gets within some seconds."""
    count, deadline = 0, time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            count += len(terminal.read_nonblocking(65536, timeout=left))
        except pexpect.TIMEOUT:
            break
    return count


def _quiet(terminal: Any) -> None:
    """Wait until nothing has come for a second and a half."""
    while _written(terminal, 1.5):
        pass


def run() -> list[dict[str, Any]]:
    results = []
    home = tempfile.mkdtemp(prefix="red-bench-")
    console = ["-m", "red_tui.cli", "--address", "127.0.0.1:9"]
    bare = [str(Path(__file__).with_name("bare_app.py"))]
    try:
        mine, theirs = alternate(
            lambda: _first_frame(console, "events", home), lambda: _first_frame(bare, "first frame", home), TIMES
        )
        results.append(ratio("first frame of red-console : of a bare Textual app", mine, theirs, 1.3))
        results += console_scale.run()
        results += _on_a_federation(home)
    finally:
        subprocess.run(
            [sys.executable, "-m", "red_tui.cli", "down", "--all", "--yes"],
            env=_environment(home), stderr=subprocess.DEVNULL, check=False, timeout=60,
        )  # fmt: skip
        shutil.rmtree(home, ignore_errors=True)
    return results


def _on_a_federation(home: str) -> list[dict[str, Any]]:
    layout = Path(home) / "bench.yaml"
    layout.write_text(_NODES)
    subprocess.run(
        [sys.executable, "-m", "red_tui.cli", "up", str(layout)],
        env=_environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=120,
    )  # fmt: skip
    attach = []
    for _ in range(3):
        attach.append(_first_frame(["-m", "red_tui.cli", "bench"], "8 virtual", home))
    terminal = _spawn(["-m", "red_tui.cli", "bench"], home)
    terminal.expect("8 virtual")
    _quiet(terminal)
    idle = _written(terminal, 5.0)
    # One node is built from outside: virtual → pending → starting → ready, with the pool that is reserved for it.
    act = "import sys, red_tui as red; client = red.attach('bench'); getattr(client, sys.argv[1])('id:client_3')"
    _act(act, "build", home)
    _quiet(terminal)
    changes = []
    for verb in ("release", "rebuild"):
        doing = subprocess.Popen([sys.executable, "-c", act, verb], env=_environment(home))
        changes.append(_written(terminal, 4.0))
        doing.wait(timeout=60)
    terminal.send("q")
    terminal.sendcontrol("c")
    terminal.kill(15)
    terminal.expect(pexpect.EOF)
    terminal.close(force=True)
    full = SIZE[0] * SIZE[1]
    return [
        {
            "what": "attach to a running federation, to the filled grid",
            "figure": f"{sorted(attach)[1]:.2f} s",
            "goal": "≤ 3 s",
            "reached": sorted(attach)[1] <= 3,
        },
        {"what": "bytes that an idle console writes in 5 s", "figure": f"{idle}", "goal": "0", "reached": idle == 0},
        {
            "what": "bytes for one node released and one rebuilt (screen of 4,320 cells)",
            "figure": f"{changes[0]} and {changes[1]}",
            "goal": "its rows",
            "reached": None,
            "screen": full,
        },
    ]


def _act(code: str, verb: str, home: str) -> None:
    subprocess.run([sys.executable, "-c", code, verb], env=_environment(home), check=True, timeout=120)
