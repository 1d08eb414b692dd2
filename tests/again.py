"""Runs tests many times, on a busy machine too: `python -m tests.again NAME… --times 200 --load 0,4,20`.

A test that fails once in fifty runs is found here, before it lands.  All runs share one process and its cluster, so
that two hundred of them take little more than the tests themselves.  Every failure is shown with its output.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

TIMES_VARIABLE = "RED_TEST_TIMES"
"""How often each test runs; `tests/conftest.py` reads it."""

FAILURES = 5
"""Failures after which a run ends: the first ones say enough."""

BURN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
"""Ends by itself when nobody is left who would end it."""


@contextlib.contextmanager
def burners(count: int) -> Iterator[None]:
    """Keep so many processes busy."""
    started = [subprocess.Popen([sys.executable, "-S", "-c", BURN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def run(names: list[str], times: int, load: int, more: list[str]) -> int:
    """Run some tests so often; pytest's exit code."""
    print(f"{' '.join(names)}: {times} times beside {load} busy processes", flush=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    with burners(load):
        return subprocess.run(
            [*command, f"--maxfail={FAILURES}", *more, *names],
            env={**os.environ, TIMES_VARIABLE: str(times)},
        ).returncode


def main() -> int:
    """Run as the arguments say; 0 if nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.again", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="what pytest takes: tests/x.py::test_y")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--load", default="0", help="busy processes beside it; several: 0,4,20")
    told, more = parser.parse_known_args()
    try:
        loads = [int(load) for load in told.load.split(",")]
    except ValueError:
        parser.error(f"--load is a number, or several as in 0,4,20; not {told.load!r}")
    if told.times < 1 or min(loads) < 0:
        parser.error("--times is at least 1, and --load at least 0")
    codes = {load: run(told.names, told.times, load, more) for load in loads}
    for load, code in codes.items():
        print(f"load {load}: {'no failure' if code == 0 else f'pytest ended with {code}'} in {told.times} times")
    return max(codes.values())


if __name__ == "__main__":
    sys.exit(main())
