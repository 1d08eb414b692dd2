"""Templates of `test_gossip`: workers import this without the tests."""

from __future__ import annotations

from typing import Any

import red_tui as red


class Own(red.FederatedNode):
    """Adds its own number in the first round and says what it started from."""

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        number = float(self.node_id.rpartition("_")[2]) if config["round"] == 1 else 0.0
        start = float(parameters["w"][0])
        return red.FitResult({name: value + number for name, value in parameters.items()}, 1, {"start": start})

    def evaluate(self, parameters: dict[str, Any], config: Any) -> red.EvaluateResult:
        return red.EvaluateResult(float(parameters["w"][0]), 1, {})
