"""Runs in pfl-research's venv: `python -m benchmarks.peers.pfl_app USERS SIZE ROUNDS PROCESSES` prints one JSON line.

Processes of one thread each, joined by its own distribution; in each one model through which its users go.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel

from benchmarks.peers.leash import die_with_parent
from benchmarks.peers.task import LEARNING_RATE, Linear, batch


class Judged(Linear):
    """The layer with the metrics that the framework asks for."""

    def metrics(self, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        with torch.no_grad():
            return {"loss": Weighted(float(self.loss(inputs, targets)) * len(inputs), len(inputs))}


class Clock(TrainingProcessCallback):
    """When each round ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: Any, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        self.ends.append(time.perf_counter())
        return False, Metrics()


def simulate(users: int, size: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    layer, data, clock = Judged(size), batch(size), Clock()
    model = PyTorchModel(layer, torch.optim.SGD, torch.optim.SGD(layer.parameters(), lr=1.0))
    population = FederatedDataset(
        lambda user: Dataset(data, user_id=user), get_user_sampler("minimize_reuse", list(range(users)))
    )
    # Its rounds judge the model before and after training on users only every so often: never but in the first.
    parameters = NNAlgorithmParams(
        central_num_iterations=rounds, evaluation_frequency=rounds + 1, train_cohort_size=users, val_cohort_size=0
    )
    training = NNTrainHyperParams(local_num_epochs=1, local_learning_rate=LEARNING_RATE, local_batch_size=None)
    FederatedAveraging().run(
        parameters, SimulatedBackend(population, population), model, training, callbacks=[clock],
        send_metrics_to_platform=False,
    )  # fmt: skip
    return {
        "version": f"{version('pfl')}, PyTorch {torch.__version__}",
        "seconds": [end - start for start, end in pairwise(clock.ends)],
        "clients": users,
        "rounds": rounds,
        "checksum": layer.checksum(),
    }


def distribute(arguments: list[str], processes: int) -> str:
    """Run the same in several processes that know of each other; what the first one prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        addresses = ",".join(f"localhost:{free.getsockname()[1] + rank}" for rank in range(processes))
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.pfl_app", *arguments, "1"],
            env={**os.environ, "PFL_WORKER_ADDRESSES": addresses, "PFL_WORKER_RANK": str(rank)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip
    printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit(f"its processes ended with {[process.returncode for process in running]}")
    return printed[0].strip()


if __name__ == "__main__":
    *given, count = sys.argv[1:]
    if "PFL_WORKER_RANK" not in os.environ:
        die_with_parent()
    if int(count) > 1:
        print(distribute(given, int(count)), flush=True)
    else:
        print(json.dumps(simulate(*(int(argument) for argument in given))), flush=True)
