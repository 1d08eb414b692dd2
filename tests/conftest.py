"""Settings of all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.again import TIMES_VARIABLE
from tests.heads import FAIR

# No deadline: a slow machine is no broken law.  The same examples each time where a run decides about a change.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

TESTS = Path(__file__).parent
WITHOUT_RAY = frozenset({"console", "fuzz", "unit"})
SECOND_PART = {"cluster": "test_messages", "system": "test_replay"}
"""Of folders that are run in two parts, each with a cluster of its own: the first file of the second part."""

LONG_FIRST = ("cluster", "system", "docs", "cluster-2", "system-2", "chaos", "recovery")
pytest_plugins = ["tests.endings"]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell that runs the tests in the background has it ignored, and so would the processes that they interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray gives its control service 30 s to start: on a machine with other work that may be too short.
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "90")
os.environ.setdefault(*FAIR)

# Whoever wants no compiled files still gets those of the tests: each process that runs tests reads all of them first.
_write_no_compiled_files = sys.dont_write_bytecode
sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """From here on modules are those that tests write: what a test writes twice in a second must not be mixed up."""
    sys.dont_write_bytecode = _write_no_compiled_files


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`make test-again`: each test so many times."""
    times = int(os.environ.get(TIMES_VARIABLE, "1"))
    if times > 1:
        metafunc.fixturenames.append("turn")
        metafunc.parametrize("turn", range(1, times + 1), ids=lambda turn: f"turn {turn}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs Ray; where several processes run tests, say which go to one process, and which go first.

    Tests of a folder with Ray share a cluster, so a part of it stays together; other files go where there is room.
    The parts with Ray take longest: they go first, and the files without fill the gaps at the end.
    """
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in WITHOUT_RAY:
            group = f"{folder}-{item.path.stem}"
        else:
            item.add_marker(pytest.mark.ray)
            group = folder + ("-2" if item.path.name >= SECOND_PART.get(folder, "~") else "")
        item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    group = str(next(item.iter_markers("xdist_group")).args[0])
    return LONG_FIRST.index(group) if group in LONG_FIRST else len(LONG_FIRST)


@pytest.fixture(autouse=True)
def ray_runs_only_where_it_is_said(request: pytest.FixtureRequest) -> Iterator[None]:
    """`make test-fast` leaves out what is marked: what is not marked must not need it."""
    yield
    if request.node.get_closest_marker("ray") is None and "ray" in sys.modules:
        assert not sys.modules["ray"].is_initialized(), "this test started Ray: it belongs in a folder with Ray"


@pytest.fixture(scope="session", autouse=True)
def one_place_for_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settled before any test: some point the temporary folder elsewhere for their cluster, and remove it."""
    tmp_path_factory.getbasetemp()
