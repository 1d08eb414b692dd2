"""Templates of `test_every_strategy`: workers import this without the tests."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

import red_tui as red


@red.remote(num_cpus=0.01)
class Wandering(red.FederatedNode):
    """Goes where its own random numbers say; its evaluation waits as long as somebody holds it."""

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.ones((3, 2), np.float32), "b": np.asarray(0.5), "n": np.asarray(4)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        draws = self.rng(config["round"])
        made = {name: np.asarray(0.9 * value + draws.normal(size=value.shape)) for name, value in parameters.items()}
        return red.FitResult({name: value.astype(parameters[name].dtype) for name, value in made.items()}, 3)

    def evaluate(self, parameters: dict[str, Any], config: Any) -> red.EvaluateResult:
        hold = os.path.join(self.config.get("stage"), "hold")
        while os.path.exists(hold):
            with open(f"{hold}-{self.node_id}", "w"):
                pass
            time.sleep(0.01)
        return red.EvaluateResult(float(abs(parameters["w"]).sum()), 1)
