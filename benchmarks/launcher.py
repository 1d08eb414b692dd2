"""Rounds of a federation whose launcher has gone, against one whose launcher is still connected."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray

import red_tui as red
from benchmarks.measuring import alternate, cluster, ratio, timed

ROUNDS = 50
TIMES = 5
GOAL = 1 / 0.95

LAYOUT = """\
federation: {name}
template: benchmarks.launcher:Adds
nodes: [{{count: 4, role: train-eval}}]
placement: {{isolation: bundle, cpus: 1, bundles: 2}}
"""

LAUNCH = "import sys, red_tui; red_tui.launch(sys.argv[1], address=sys.argv[2], namespace='bench')"


class Adds(red.FederatedNode):
    """Adds 1: a round is what red-tui itself costs, its checkpoint included."""

    def initial_parameters(self) -> dict[str, Any]:
        """Parameters that a checkpoint writes in no time."""
        return {"w": np.zeros(1000)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        """The parameters plus 1."""
        return red.FitResult({"w": parameters["w"] + 1.0}, 1)

    def evaluate(self, parameters: dict[str, Any], config: Any) -> red.EvaluateResult:
        """A loss that falls."""
        return red.EvaluateResult(1.0 / (1.0 + float(parameters["w"][0])), 1, {})


def run() -> list[dict[str, Any]]:
    """Rounds of both, in turn."""
    before = os.environ.get("RED_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["RED_HOME"] = home
        try:
            with cluster(16):
                return [compare(Path(home))]
        finally:
            os.environ.pop("RED_HOME") if before is None else os.environ.update(RED_HOME=before)


def compare(home: Path) -> dict[str, Any]:
    """The ratio of two federations on one cluster."""
    address = ray.get_runtime_context().gcs_address
    layouts = {}
    for name in ("gone", "alive"):
        layouts[name] = home / f"{name}.yaml"
        layouts[name].write_text(LAYOUT.format(name=name))
    alive = red.launch(layouts["alive"], address=address, namespace="bench")
    subprocess.run([sys.executable, "-c", LAUNCH, str(layouts["gone"]), address], check=True, timeout=120)
    gone = red.attach("gone", address=address, namespace="bench")
    ours, theirs = alternate(lambda: timed(lambda: gone.run(ROUNDS)), lambda: timed(lambda: alive.run(ROUNDS)), TIMES)
    for client in (gone, alive):
        client.down()
    return ratio(f"{ROUNDS} rounds with checkpoints, launcher gone : launcher connected", ours, theirs, GOAL)
