"""What the end-to-end tests share: a sandbox, homes that run `red-console`, conditions with deadlines, layouts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.heads import FAIR

Found = TypeVar("Found")

RED_CONSOLE = str(Path(sys.executable).with_name("red-console"))
DIGITS = "red_tui.examples.digits:DigitsClient"
OURS = "RED_TEST_SANDBOX"
"""Environment variable that every process of these tests carries."""

SMALL = """\
# Two nodes that know digits
federation: {federation}
template: {template}
nodes:
  - {{count: 1, role: train}}
  - {{count: 1, role: train-eval, id: judge, config: {{partition: iid}}}}
placement: {{cpus: 1}}
rounds: {{count: 2, deadline: 60}}
failure: {{policy: leave}}
config: {{local_epochs: 1}}
"""


def eventually(condition: Callable[[], Found], what: str, timeout: float = 120.0) -> Found:
    """What a condition gives once it holds; fails after a deadline that only says that it never does."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)
    return found


def write_layout(path: Path, federation: str, *, template: str = DIGITS, more: Sequence[tuple[str, str]] = ()) -> Path:
    """Write `SMALL` with replacements of text; each of them has to find its place."""
    text = SMALL.format(federation=federation, template=template)
    for old, new in more:
        assert old in text, old
        text = text.replace(old, new)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Sandbox:
    """Folder of all files, and mark of all processes, of one run of these tests."""

    folder: Path

    @property
    def mark(self) -> tuple[str, str]:
        """Environment variable and value that our processes carry."""
        return OURS, str(self.folder)


@dataclass(frozen=True)
class Result:
    """What a command gave."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        """Standard output, which has to be JSON and nothing else."""
        return json.loads(self.out)


class Home:
    """A RED_HOME, and commands that use it."""

    def __init__(self, path: Path, sandbox: Sandbox) -> None:
        self.path = path
        self.sandbox = sandbox

    def variables(self) -> dict[str, str]:
        """What this home sets in an environment; no Ray that runs elsewhere on this machine is found with it."""
        folder = str(self.sandbox.folder)
        return {"RED_HOME": str(self.path), "TMPDIR": folder, "RAY_TMPDIR": folder, OURS: folder, **dict([FAIR])}

    def environment(self, **further: str) -> dict[str, str]:
        """The whole environment of a command."""
        dropped = ("RAY_", "RED_", "SSH_", "NO_COLOR", "COLUMNS", "LINES")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {**kept, "LANG": "C.UTF-8", "TERM": "xterm-256color", **self.variables(), **further}

    def start(self, *command: str, **further: str) -> subprocess.Popen[bytes]:
        """Start a command; output and errors are pipes."""
        return subprocess.Popen(
            command,
            env=self.environment(**further),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *command: str, timeout: float = 150.0, **further: str) -> Result:
        """Run a command to its end; `timeout` says that it hangs."""
        begun = time.monotonic()
        process = self.start(*command, **further)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{command} hangs; {out.decode()!r} {err.decode()!r}") from None
        return Result(process.returncode, out.decode(), err.decode(), time.monotonic() - begun)

    def red(self, *arguments: str, timeout: float = 150.0, **further: str) -> Result:
        """Run `red-console`."""
        return self.run(RED_CONSOLE, *arguments, timeout=timeout, **further)

    def python(self, code: str, timeout: float = 150.0, **further: str) -> Result:
        """Run a piece of Python."""
        return self.run(sys.executable, "-c", code, timeout=timeout, **further)

    @property
    def noted(self) -> dict[str, Any] | None:
        """What `cluster.json` holds, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            noted: dict[str, Any] = json.loads((self.path / "cluster.json").read_text())
            return noted
        return None


def marked_processes(mark: tuple[str, str]) -> list[psutil.Process]:
    """Living processes that carry a mark in their environment, this one excepted."""
    from red_tui.supervisor.local_cluster import marked

    return marked(*mark)


def processes_of(home: Home) -> list[psutil.Process]:
    """Living processes of a home: its commands, consoles, links and its cluster."""
    return marked_processes(("RED_HOME", str(home.path)))


def cluster_processes(home: Home) -> list[psutil.Process]:
    """Living processes of the embedded cluster that a home has noted, up or not."""
    noted = home.noted
    return marked_processes(("RED_EMBEDDED_CLUSTER", noted["folder"])) if noted else []


def ended(process: subprocess.Popen[bytes], timeout: float = 120.0) -> int:
    """Exit code of a process that has to end by itself."""
    eventually(lambda: process.poll() is not None, "the process ends", timeout)
    return int(process.returncode)
