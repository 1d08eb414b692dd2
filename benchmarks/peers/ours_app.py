"""Our side: `python -m benchmarks.peers.ours_app add|sgd CLIENTS SIZE ROUNDS HOSTS [ISOLATION]` prints one JSON line.

`add` runs where red-tui does, `sgd` in a venv that has PyTorch as well.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import ray

import red_tui as red
from benchmarks.measuring import cluster, timed
from benchmarks.peers.leash import die_with_parent


def measure(work: str, clients: int, size: int, rounds: int, hosts: int, isolation: str = "bundle") -> dict[str, Any]:
    if work == "add":
        from benchmarks.peers.adding import Adds as template
    else:
        from benchmarks.peers.stepping import Steps as template
    config = red.FederationConfig(federation_id="peer", size=size)
    # A node of its own process needs a bundle of its own; a host takes them all.
    bundles = clients if isolation == "process" else hosts
    with cluster(bundles + 2):
        group = red.get_resources_split(bundles, num_cpus=bundles + 1)
        with red.StarFederatedLearningSchema(
            client_template=template,
            roles=["train"] * clients,
            config=config,
            isolation=isolation,
            resources=group,
            initial_parameters=template.start(size),
        ) as federation:
            federation.run(rounds=1)
            seconds = [timed(lambda: federation.run(rounds=1)) for _ in range(rounds - 1)]
            parameters = federation.parameters()
            results = [len(row.participants) for row in federation.history.rounds]
        ray.util.remove_placement_group(group)
    values = [np.asarray(value, np.float64) for value in parameters.values()]
    return {
        "version": ray.__version__,
        "seconds": seconds,
        "clients": clients,
        "results": results,
        "rounds": rounds,
        "hosts": bundles,
        "mean": float(np.mean(np.concatenate([value.ravel() for value in values]))),
        "checksum": float(sum(np.square(value).sum() for value in values)),
    }


if __name__ == "__main__":
    die_with_parent()
    named, *numbers = sys.argv[1:]
    chosen = {"isolation": numbers.pop()} if not numbers[-1].isdigit() else {}
    print(json.dumps(measure(named, *(int(number) for number in numbers), **chosen)), flush=True)
