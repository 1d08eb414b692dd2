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


KEEPING = """
import os
import time
import numpy as np
import red_tui as red


class Learner(red.FederatedNode):
    def initial_parameters(self):
        return {"w": np.zeros((3, 2), np.float32), "b": np.asarray(0.5), "n": np.asarray(4)}

    def fit(self, parameters, config):
        noise = np.random.default_rng([config["round"], int(self.node_id[-1])])
        step = {name: noise.normal(size=value.shape) for name, value in parameters.items()}
        made = {name: np.asarray(0.9 * value + step[name]).astype(value.dtype) for name, value in parameters.items()}
        return red.FitResult(made, int(self.node_id[-1]) + 1)

    def evaluate(self, parameters, config):
        folder, number = self.config.get("stage"), config["round"]
        if folder and os.path.exists(f"{folder}/hold-{number}"):
            open(f"{folder}/held-{number}-{os.getpid()}", "w").close()
            while os.path.exists(f"{folder}/hold-{number}"):
                time.sleep(0.01)
        return red.EvaluateResult(float(abs(parameters["w"]).sum()), 1)


class Momentum(red.Strategy):
    additive = True

    def __init__(self, momentum=0.5):
        self.momentum, self.velocity, self.steps = momentum, {}, np.asarray(0)

    def step(self, current, mean):
        self.steps += 1
        for name, value in mean.items():
            kept = self.velocity.setdefault(name, np.zeros(value.shape))
            kept *= self.momentum
            kept += np.subtract(value, current[name], dtype=np.float64) / int(self.steps)
        made = {name: current[name] + value for name, value in self.velocity.items()}
        return {name: np.asarray(value).astype(mean[name].dtype) for name, value in made.items()}

    def state_dict(self):
        return {"steps": self.steps, **{f"velocity.{name}": value for name, value in self.velocity.items()}}

    def load_state_dict(self, state):
        self.steps = state.get("steps", np.asarray(0))
        self.velocity = {name[9:]: value for name, value in state.items() if name != "steps"}


class Noisy(red.FederatedServer):
    def build(self, **kwargs):
        super().build(**kwargs)
        self.generator = np.random.default_rng(7)

    def aggregate(self, round_number, current, updates, num_examples, metrics):
        made = super().aggregate(round_number, current, updates, num_examples, metrics)
        noise = {name: self.generator.normal(size=value.shape) for name, value in made.items()}
        return {name: np.asarray(value + noise[name]).astype(value.dtype) for name, value in made.items()}

    def get_state(self):
        return self.generator.bit_generator.state

    def set_state(self, state):
        self.generator.bit_generator.state = state
"""


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where federations keep their files; modules beside it are found by the workers that are started meanwhile."""
    folder = tmp_path_factory.mktemp("recovery")
    (folder / "modules").mkdir()
    for name, text in (("counting", COUNTING), ("passing", PASSING), ("drifting", DRIFTING), ("keeping", KEEPING)):
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
