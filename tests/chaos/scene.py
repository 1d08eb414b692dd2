"""What all schedules play on: a cluster of three raylets, and layouts of the digits federation with a stage."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.heads import BARE, FAIR

Found = TypeVar("Found")

CPUS = 4
"""Logical CPUs of each of the three hosts."""
STORE = 80 * 2**20
JUDGES = 2
SEED = 7
ROOT = Path(__file__).parents[2]

LAYOUT = """\
# Handwritten digits on a stage
federation: {federation}
template: tests.chaos.actors:StagedClient
server: tests.chaos.actors:StagedServer
nodes:
  - {{count: {clients}, role: train, id: "client_{{i}}"}}
  - {{count: {judges}, role: train-eval, id: "judge_{{i}}", config: {{eval_parts: {judges}}}}}
placement: {{isolation: {isolation}, strategy: SPREAD, bundles: [{{count: {bundles}, cpu: 1}}]}}
rounds: {{count: {rounds}, deadline: {deadline}, min_results: 0.3, seed: 7, strategy: {strategy}, exact: {exact}}}
failure: {{policy: rebuild, max_rebuilds: 20, backoff: 0.05}}
config: {{stage: {stage}, seed: {seed}, partition: dirichlet, alpha: 1.0, learning_rate: 0.3, local_epochs: 4}}
"""


@dataclass(frozen=True)
class Federation:
    """One federation on paper.

    Attributes:
        fed_id: Its id.
        isolation: `process` or `bundle`.
        nodes: Client nodes, the two judges included.
        bundles: Bundles for nodes.
        rounds: Rounds that it runs in all.
        deadline: Seconds that a phase of a round may take.
        momentum: Of the server's steps, which is a state beside the parameters; 0: there is none.
        exact: Whether sums do not depend on which nodes are in a bundle together.
    """

    fed_id: str
    isolation: str
    nodes: int
    bundles: int
    rounds: int
    deadline: float
    momentum: float = 0.0
    exact: bool = False

    def write(self, path: Path, stage: Path) -> Path:
        """Write the layout."""
        path.write_text(
            LAYOUT.format(
                federation=self.fed_id,
                clients=self.nodes - JUDGES,
                judges=JUDGES,
                isolation=self.isolation,
                bundles=self.bundles,
                rounds=self.rounds,
                deadline=self.deadline,
                strategy=f"{{name: fedavgm, momentum: {self.momentum}}}" if self.momentum else "{name: fedavg}",
                exact=str(self.exact).lower(),
                stage=stage,
                seed=SEED,
            )
        )
        return path

    @property
    def ids(self) -> list[str]:
        """Ids of the client nodes, in order."""
        clients = self.nodes - JUDGES
        return [f"client_{index}" for index in range(clients)] + [f"judge_{index}" for index in range(JUDGES)]


def eventually(condition: Callable[[], Found], what: str | Callable[[], str], timeout: float = 120.0) -> Found:
    """What a condition gives once it holds; the deadline only says that it never does, and `what` with the reasons."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Scene:
    """A cluster of a head and two workers; what is broken of it is replaced.

    Attributes:
        folder: Where Ray, the journals and the stages are.
        durable: Whether the head's control service keeps what it knows on disk (embedded RocksDB), so that
            it can be killed and come back.
    """

    folder: Path
    durable: bool
    cluster: Any = None
    hosts: list[Any] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """RED_HOME of all processes."""
        return self.folder / "home"

    @property
    def address(self) -> str:
        """Address of the control service."""
        return str(self.cluster.address)

    def start(self) -> None:
        """Start the three hosts and connect this process."""
        if self.durable:
            tables = tempfile.mkdtemp(prefix="gcs-", dir=self.folder)
            os.environ.update(RAY_gcs_storage="rocksdb", RAY_gcs_storage_path=tables)
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": CPUS,
                **BARE,
                "object_store_memory": STORE,
                "gcs_server_port": free_port(),
            },
        )
        for _ in range(2):
            self.add_host()
        ray.init(self.address, namespace="red", log_to_driver=False, logging_level="ERROR")
        self.cluster.wait_for_nodes()

    def add_host(self) -> None:
        """Start one more worker."""
        self.hosts.append(self.cluster.add_node(num_cpus=CPUS, object_store_memory=STORE))

    def lose_host(self, victim: int) -> None:
        """Kill a worker's raylet, with all that runs there, and start another."""
        doomed = self.hosts.pop(victim % len(self.hosts))
        self.cluster.remove_node(doomed, allow_graceful=False)
        self.add_host()

    def head_service(self) -> int:
        """Process of the control service."""
        (info,) = self.cluster.head_node.all_processes["gcs_server"]
        return int(info.process.pid)

    def raylet(self, victim: int) -> int:
        """Process of a worker host's raylet."""
        (info,) = self.hosts[victim % len(self.hosts)].all_processes["raylet"]
        return int(info.process.pid)

    def lose_head_service(self) -> None:
        """Kill the control service and start it again on the same address."""
        self.cluster.head_node.kill_gcs_server()
        self.cluster.head_node.start_gcs_server()

    def lose_all(self) -> None:
        """Kill every host, the head's too, and start another cluster that knows nothing of this one."""
        ray.shutdown()
        for host in [*self.hosts, self.cluster.head_node]:
            self.cluster.remove_node(host, allow_graceful=False)
        self.hosts.clear()
        self.start()

    def close(self) -> None:
        """End all of it."""
        ray.shutdown()
        if self.cluster is not None:
            self.cluster.shutdown()


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    """A scene with an environment of its own, for its processes and for this one."""
    ray.shutdown()  # of tests in other folders
    # The path is short: Ray puts sockets into it.
    with tempfile.TemporaryDirectory(prefix="rc-", dir="/tmp") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setattr(tempfile, "tempdir", None)
        for variable in [key for key in os.environ if key.startswith("RAY_")]:
            patch.delenv(variable)
        settings = {"RED_HOME": str(folder / "home"), "TMPDIR": name, "RAY_TMPDIR": name, "PYTHONPATH": str(ROOT)}
        # A host that is lost is noticed within a second: what it takes afterwards is what is tried here.
        settings.update([("RAY_health_check_period_ms", "300"), ("RAY_health_check_failure_threshold", "3"), FAIR])
        for variable, value in settings.items():
            patch.setenv(variable, value)
        for variable in ("RAY_gcs_storage", "RAY_gcs_storage_path"):
            patch.setenv(variable, "")  # so that what `start` sets is taken back
            del os.environ[variable]
        made = Scene(folder, has_rocksdb())
        try:
            made.start()
            yield made
        finally:
            made.close()


def has_rocksdb() -> bool:
    """Whether this Ray's control service can keep its tables on disk."""
    program = Path(ray.__file__).parent / "core/src/ray/gcs/gcs_server"
    return b"gcs_rocksdb" in program.read_bytes()
