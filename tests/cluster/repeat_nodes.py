"""Templates of `test_repeat`: workers import this without the tests."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np

import red_tui as red


@red.remote(num_cpus=0.01)
class Whenever(red.FederatedNode):
    """Adds numbers of its own, and comes back whenever it likes."""

    def initial_parameters(self) -> red.Parameters:
        return {"w": self.rng(0).normal(size=200).astype(np.float32), "n": np.asarray(0)}

    def fit(self, parameters: red.Parameters, config: Any) -> red.FitResult:
        time.sleep(random.random() / 50)
        draws = self.rng(config["round"])
        noise = draws.normal(size=200).astype(np.float32)
        return red.FitResult(
            {"w": parameters["w"] * np.float32(0.9) + noise, "n": parameters["n"] + draws.integers(9)},
            int(draws.integers(1, 500)),
            {"loss": float(noise.mean())},
        )
