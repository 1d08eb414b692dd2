"""The digits federation with a stage: nodes and a server that wait, hang, fill memory or end when they are cued.

A cue is a file; so is the sign that it was heard, and the sign to go on.  What a fault meets is thereby
certain: it strikes in the round and in the phase that the schedule names, not some milliseconds beside it.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from red_tui.aggregation.server import FederatedServer
from red_tui.examples.digits import DigitsClient
from red_tui.nodes.template import EvaluateResult, FitResult, Parameters
from tests.chaos import clock

clock.install()

MEMORY = 192 * 2**20
"""Bytes that a node fills at most."""
CHUNK = 16 * 2**20
PATIENCE = 300.0
"""Seconds that an actor waits at most, should the one who gives cues have died."""


class Stage:
    """The folder through which a schedule and its actors speak."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- the schedule's side ---------------------------------------------------------------------

    def cue(self, who: str, phase: str, act: str) -> None:
        """What an actor does the next time that it comes to a phase."""
        self._write(self._file(who, phase, "cue"), act)

    def heard(self, who: str, phase: str) -> int | None:
        """Process that has begun to do as it was told, or None."""
        try:
            return int(self._file(who, phase, "on").read_text())
        except FileNotFoundError:
            return None

    def go(self, who: str, phase: str) -> None:
        """Let an actor go on that was told to wait, dead or alive."""
        for kind in ("cue", "on"):
            self._file(who, phase, kind).unlink(missing_ok=True)
        self._write(self._file(who, phase, "go"), "")

    def pids(self) -> dict[int, float]:
        """All processes that have ever held a node or the server, with the second of their birth."""
        return {int(file.name[:-4]): float(file.read_text()) for file in self.folder.glob("*.pid")}

    def fits(self) -> set[tuple[int, str]]:
        """(round, node) of every fit that came to its end."""
        try:
            lines = (self.folder / "fits").read_text().splitlines()
        except FileNotFoundError:
            return set()
        return {(int(number), node_id) for number, node_id in map(str.split, lines)}

    # -- the actors' side ------------------------------------------------------------------------

    def enter(self) -> None:
        """Note that this process plays."""
        import psutil

        file = self.folder / f"{os.getpid()}.pid"
        if not file.exists():
            self._write(file, str(psutil.Process().create_time()))

    def fitted(self, number: int, node_id: str) -> None:
        """Note a fit."""
        descriptor = os.open(self.folder / "fits", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{number} {node_id}\n".encode())
        finally:
            os.close(descriptor)

    def act(self, who: str, phase: str) -> None:
        """Do what one was told to do in this phase, if anything."""
        cue = self._file(who, phase, "cue")
        if not cue.exists():
            return
        act = cue.read_text()
        go = self._file(who, phase, "go")
        go.unlink(missing_ok=True)
        self._write(self._file(who, phase, "on"), str(os.getpid()))
        cue.unlink(missing_ok=True)
        ACTS[act](go)

    # -- files -----------------------------------------------------------------------------------

    def _file(self, who: str, phase: str, kind: str) -> Path:
        return self.folder / f"{who}.{phase}.{kind}"

    def _write(self, file: Path, text: str) -> None:
        aside = file.with_name(f".{file.name}.{os.getpid()}")
        aside.write_text(text)
        aside.rename(file)


def wait(go: Path) -> None:
    """Wait for the sign to go on."""
    deadline = time.monotonic() + PATIENCE
    while not go.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def leave(go: Path) -> None:
    """End without a word."""
    os._exit(7)


def fill_memory(go: Path) -> None:
    """Ask for more and more until the limit on addresses says no."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, hard))
    held = []
    try:
        while True:
            held.append(bytearray(CHUNK))
    finally:
        held.clear()
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fill_memory_and_be_killed(go: Path) -> None:
    """Fill a bounded part of the memory and be killed for it, as the kernel does it."""
    held = [bytearray(CHUNK) for _ in range(MEMORY // CHUNK)]
    assert held
    os.kill(os.getpid(), signal.SIGKILL)


ACTS = {"wait": wait, "leave": leave, "fill": fill_memory, "fill and be killed": fill_memory_and_be_killed}


class StagedClient(DigitsClient):
    """Learns digits, and listens for its cue before it fits or evaluates."""

    def build(self, **kwargs: Any) -> None:
        super().build(**kwargs)
        self.stage = Stage(Path(self.config.get("stage")))
        self.stage.enter()

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        self.stage.act(self.node_id, "fit")
        result = super().fit(parameters, config)
        self.stage.fitted(int(config["round"]), self.node_id)
        return result

    def evaluate(self, parameters: Parameters, config: Mapping[str, Any]) -> EvaluateResult:
        self.stage.act(self.node_id, "evaluate")
        return super().evaluate(parameters, config)


class StagedServer(FederatedServer):
    """Aggregates as ever, and listens for its cue before and after it."""

    def build(self, **kwargs: Any) -> None:
        super().build(**kwargs)
        self.stage = Stage(Path(self.config.get("stage")))
        self.stage.enter()

    def red_aggregate(self, *args: Any) -> tuple[Any, ...]:
        self.stage.act("server", "aggregate")
        made = super().red_aggregate(*args)
        self.stage.act("server", "aggregated")
        return made
