"""A program in a venv of its own, with a deadline; whatever happens, no process that it started is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "peers"
INSTALL_TIMEOUT = 1200.0
MARK = "RED_BENCHMARK_RUN"


class AppFailed(Exception):
    """A program failed, was late, or could not be installed."""


def venv(name: str, requirements: Sequence[str], files: Sequence[Path] = ()) -> Path:
    """The Python of a venv with these requirements; made at the first call, and anew when they or `files` change."""
    home, wanted = CACHE / name, "\n".join([sys.version, *requirements, *(file.read_text() for file in files)])
    python, stamp = home / "bin" / "python", home / ".requirements"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    print(f"installing {' '.join(requirements)} ...", file=sys.stderr, flush=True)
    _execute([sys.executable, "-m", "venv", str(home)], os.environ, INSTALL_TIMEOUT)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    _execute(install, os.environ, INSTALL_TIMEOUT)
    stamp.write_text(wanted)
    return python


def run_app(python: Path | str, module: str, arguments: Sequence[object], timeout: float) -> dict[str, Any]:
    """Run `python -m module arguments` and read the JSON object on its last line.

    Raises:
        AppFailed: If it fails or is not done within `timeout` seconds.
    """
    # Short, as paths of sockets have to be.
    scratch = tempfile.mkdtemp(prefix="red-peer-")
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    environment = {
        **kept,
        "RAY_TMPDIR": scratch,
        "RED_HOME": scratch,
        "FLWR_HOME": scratch,
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    try:
        printed = _execute([str(python), "-m", module, *map(str, arguments)], environment, timeout)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lines = printed.strip().splitlines()
    try:
        return dict(json.loads(lines[-1]))
    except (IndexError, ValueError) as error:
        raise AppFailed(f"{module} printed no result: {lines[-3:]}") from error


def _execute(command: list[str], environment: Mapping[str, str], timeout: float) -> str:
    """Run a command to its end and end everything that it started; what it printed."""
    mark = uuid.uuid4().hex
    with _ended_by_signals(), tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**environment, MARK: mark}, start_new_session=True,
            stdin=subprocess.PIPE, stdout=printed, stderr=complaints, text=True,
        )  # fmt: skip
        try:
            # Its standard input stays open as long as this process lives: see `leash`.
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AppFailed(f"{' '.join(command[1:4])} was not done within {timeout:g} s") from None
        finally:
            _end(process, mark)
        printed.seek(0)
        complaints.seek(0)
        if status:
            last = "".join(complaints.readlines()[-12:]).strip()
            raise AppFailed(f"{' '.join(command[1:4])} ended with {status}: {last}")
        return printed.read()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that clean-up runs."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen[str], mark: str) -> None:
    """Kill the process's group, and every process that carries its mark in its environment.

    Ray's daemons live in sessions of their own and are nobody's children when their driver has died.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    while marked := list(_marked(mark)):
        for one in marked:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(marked, timeout=5)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if one.status() != psutil.STATUS_ZOMBIE and one.environ().get(MARK) == mark:
                yield one
