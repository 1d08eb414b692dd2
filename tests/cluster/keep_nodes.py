"""Templates of `test_keep`: workers import this without the tests."""

from __future__ import annotations

from typing import Any

import numpy as np

import red_tui as red


class Drifting(red.FederatedNode):
    """Steps to a value of its own: what a round gives depends on all rounds before it."""

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros(3), "count": np.array(0.0)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        step = np.full(3, self.config.get("node_index") + 1.0)
        return red.FitResult({"w": parameters["w"] * 0.9 + step, "count": parameters["count"] + 1.0}, 2)


class Wide(Drifting):
    """Its parameters are more than a server tells the digest of with a round."""

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros((64, 1600, 3)), "count": np.array(0.0)}


def falling(parameters: dict[str, Any], config: Any) -> dict[str, float]:
    """A loss that is the highest after the first round."""
    return {"loss": 1.0 / config["round"]}
