"""A real red-console on a real Ray: homes of their own, one shared cluster, and nothing that outlives it."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.held_rounds import Rounds
from tests.system.support import Home, Sandbox, eventually, marked_processes, write_layout
from tests.system.terminal import MakeTerminal, Terminal

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Where all processes of these tests keep their files.  The path is short: Ray puts sockets into it."""
    tmp_path_factory.getbasetemp()  # chosen now: `cluster` changes TMPDIR for a while
    folder = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    yield Sandbox(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package", autouse=True)
def nothing_outlives_the_tests(sandbox: Sandbox) -> Iterator[None]:
    """No process of a cluster, a console, a link or a command of ours is left when all tests are done."""
    yield
    try:
        eventually(lambda: not marked_processes(sandbox.mark), "all processes of the tests have ended")
    except AssertionError:
        left = marked_processes(sandbox.mark)
        told = "\n".join(f"{process.pid} {' '.join(process.cmdline())[:150]}" for process in left)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        pytest.fail(f"processes outlived the tests:\n{told}")


@pytest.fixture
def home(tmp_path: Path, sandbox: Sandbox) -> Iterator[Home]:
    """A RED_HOME of its own; a cluster that a test left in it is ended."""
    own = Home(tmp_path / "home", sandbox)
    yield own
    if (own.path / "cluster.json").exists():
        own.red("down", "--all", "--yes")


@pytest.fixture(scope="package")
def cluster(sandbox: Sandbox) -> Iterator[Home]:
    """The home of an embedded cluster that tests share; this process is connected to it as a driver."""
    import ray

    from red_tui.supervisor.connect import connect
    from red_tui.supervisor.local_cluster import start_cluster, stop_cluster

    shared = Home(sandbox.folder / "home", sandbox)
    ray.shutdown()  # of tests in other folders
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
            # Set first: what was not there before is taken away again, also where these tests have set it meanwhile.
            patch.setenv(name, "")
            patch.delenv(name)
        for name, value in shared.variables().items():
            patch.setenv(name, value)
        start_cluster(cpus=4)
        try:
            connect(start=False)
            yield shared
        finally:
            ray.shutdown()
            stop_cluster()
    # Ray reads mode and token once in a process: tests in other folders use it without a token.
    core: Any = importlib.import_module("ray._raylet")
    core.Config.initialize("")
    core.AuthenticationTokenLoader.instance().reset_cache()


@pytest.fixture
def fed_id(cluster: Home) -> Iterator[str]:
    """The id of a federation for one test; whatever of it is left in the shared cluster is ended."""
    from red_tui.errors import NotConnected
    from red_tui.supervisor.registry import end_orphan

    name = f"t{next(_numbers)}"
    yield name
    with contextlib.suppress(NotConnected):
        end_orphan(name)


@pytest.fixture
def layout(tmp_path: Path, fed_id: str) -> Path:
    """A layout of one training and one judging node, under `fed_id`."""
    return write_layout(tmp_path / "layouts" / "small.yaml", fed_id)


@pytest.fixture
def client(layout: Path, cluster: Home) -> Iterator[Any]:
    """A launched federation of `layout`."""
    import red_tui

    yield red_tui.launch(layout)


@pytest.fixture
def rounds(cluster: Home, fed_id: str, tmp_path: Path) -> Iterator[Rounds]:
    """A federation of two nodes with endless rounds to be had."""
    made = Rounds(cluster, tmp_path, fed_id)
    yield made
    made.client.down()


@pytest.fixture
def terminal() -> Iterator[MakeTerminal]:
    """Opens terminals for one test."""
    made: list[Terminal] = []

    def make(home: Home, *arguments: str, **further: Any) -> Terminal:
        made.append(Terminal(home, *arguments, **further))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that a test puts here are killed after it, if they still run."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(60)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
