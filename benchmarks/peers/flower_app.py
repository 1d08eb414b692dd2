"""Runs in Flower's venv: `python -m benchmarks.peers.flower_app CLIENTS FLOATS ROUNDS WORKERS` prints one JSON line.

NumPy clients that add 1, averaged by Flower's own `FedAvg` over its message API and its Ray backend.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib.metadata import version
from itertools import pairwise

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.peers.leash import die_with_parent


def simulate(clients: int, floats: int, rounds: int, workers: int) -> dict[str, object]:
    # The app's callables travel to Flower's actors by value, so what they find out stays here in the closure.
    ends: list[float] = []
    means: list[float] = []
    results: list[int] = []
    client_app, server_app = ClientApp(), ServerApp()

    @client_app.train()
    def train(message: Message, context: Context) -> Message:
        updated = [array + 1 for array in message.content["arrays"].to_numpy_ndarrays()]
        metrics = MetricRecord({"num-examples": 1, "loss": 0.5})
        return Message(RecordDict({"arrays": ArrayRecord(updated), "metrics": metrics}), reply_to=message)

    class Counting(FedAvg):
        """Federated averaging that says of how many clients each mean was."""

        def aggregate_train(self, server_round, replies):  # type: ignore[no-untyped-def]
            replies = list(replies)
            results.append(sum(not reply.has_error() for reply in replies))
            return super().aggregate_train(server_round, replies)

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        def after_round(number: int, arrays: ArrayRecord) -> None:
            ends.append(time.perf_counter())
            means.append(float(np.mean(arrays.to_numpy_ndarrays()[0], dtype=np.float64)))

        start = ArrayRecord([np.zeros(floats, np.float32)])
        strategy = Counting(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
        strategy.start(grid, start, num_rounds=rounds, evaluate_fn=after_round)

    run_simulation(
        server_app,
        client_app,
        num_supernodes=clients,
        backend_config={
            "init_args": {"num_cpus": workers, "address": "local", "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    seconds = [end - start for start, end in pairwise(ends)]
    return {
        "version": version("flwr"),
        "seconds": seconds,
        "clients": clients,
        "results": results,
        "mean": means[-1],
        "rounds": rounds,
        "workers": workers,
    }


if __name__ == "__main__":
    die_with_parent()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    print(json.dumps(simulate(*(int(argument) for argument in sys.argv[1:]))), flush=True)
