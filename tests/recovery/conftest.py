"""One cluster of one host for all tests of this folder, in which each federation has a name of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.heads import BARE

COUNTING = """
import numpy as np
import red_tui as red


class Counting(red.FederatedNode):
    rounds = 0

    def initial_parameters(self):
        return {"w": np.zeros(3)}

    def fit(self, parameters, config):
        self.rounds += 1
        return red.FitResult({"w": parameters["w"] + 1}, 1, {"seen": self.rounds})

    def evaluate(self, parameters, config):
        return red.EvaluateResult(0.0, 1)

    def get_state(self):
        return self.rounds

    def set_state(self, state):
        self.rounds = state
"""

PASSING = """
import red_tui as red


class Passing(red.FederatedNode):
    def train(self, rounds):
        place, seen = int(self.node_id[-1]), 0
        following = f"client_{(place + 1) % 4}"
        if place == 0:
            self.send("token", 1, following)
        while seen < rounds:
            message = self.receive(timeout=150)
            assert message is not None, "the token is lost"
            seen += 1
            if place or seen < rounds:
                self.send("token", message.body + 1, following)
        return message.body
"""

DRIFTING = """
import numpy as np
import red_tui as red


class Drifting(red.FederatedNode):
    def initial_parameters(self):
        return {"w": np.zeros(50_000)}

    def fit(self, parameters, config):
        return red.FitResult({"w": parameters["w"] + int(self.node_id[-1])}, 1)
"""


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where federations keep their files; modules beside it are found by the workers that are started meanwhile."""
    folder = tmp_path_factory.mktemp("recovery")
    (folder / "modules").mkdir()
    for name, text in (("counting", COUNTING), ("passing", PASSING), ("drifting", DRIFTING)):
        (folder / "modules" / f"{name}_nodes.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RED_HOME", str(folder / "home"))
        patch.setenv("PYTHONPATH", str(folder / "modules"))
        yield folder / "home"


@pytest.fixture(scope="package")
def cluster(home: Path) -> Iterator[Cluster]:
    """One host; its workers inherit the home."""
    hosts = Cluster(initialize_head=True, head_node_args={"num_cpus": 6, **BARE})
    connect(hosts)
    yield hosts
    ray.shutdown()
    hosts.shutdown()


def connect(hosts: Cluster) -> None:
    """Become a driver of a cluster."""
    ray.init(hosts.address, namespace="red", log_to_driver=False, logging_level="ERROR")


@pytest.fixture
def disconnected(cluster: Cluster) -> Iterator[None]:
    """This process is no driver of the shared cluster while a test uses others."""
    ray.shutdown()
    yield
    connect(cluster)
