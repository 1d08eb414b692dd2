"""Settings of all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.again import TIMES_VARIABLE

# No deadline: a slow machine is no broken law.  The same examples each time where a run decides about a change.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

TESTS = Path(__file__).parent
WITHOUT_RAY = frozenset({"console", "fuzz", "unit"})
pytest_plugins = ["tests.endings"]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell that runs the tests in the background has it ignored, and so would the processes that they interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray gives its control service 30 s to start: on a machine with other work that may be too short.
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "90")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`make test-again`: each test so many times."""
    times = int(os.environ.get(TIMES_VARIABLE, "1"))
    if times > 1:
        metafunc.fixturenames.append("turn")
        metafunc.parametrize("turn", range(1, times + 1), ids=lambda turn: f"turn {turn}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run tests: those that share a cluster stay together, a folder in one process."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        item.add_marker(pytest.mark.xdist_group(f"{folder}-{item.path.stem}" if folder in WITHOUT_RAY else folder))


@pytest.fixture(scope="session", autouse=True)
def one_place_for_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settled before any test: some point the temporary folder elsewhere for their cluster, and remove it."""
    tmp_path_factory.getbasetemp()
