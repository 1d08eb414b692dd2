"""Templates of `test_hierarchy`: workers import this without the tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

import red_tui as red


class Uneven(red.FederatedNode):
    """Gives numbers of its own, in several types, with examples of its own."""

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros(50, np.float32), "b": np.zeros(3), "steps": np.zeros(2, np.int64)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        number = int(self.node_id.rpartition("_")[2])
        draws = np.random.default_rng([number, config["round"]])
        made = {
            "w": parameters["w"] + draws.normal(size=50).astype(np.float32),
            "b": parameters["b"] - draws.normal(size=3) * 1e3,
            "steps": parameters["steps"] + number,
        }
        return red.FitResult(made, 3 * number, {"loss": float(number)})


class Mortal(red.FederatedAggregator):
    """Its process ends in the middle of adding up, as often as the file that the config names has letters."""

    def passes_on(self, round_number: int, mean: dict[str, Any], num_examples: float) -> dict[str, Any]:
        file = Path(self.config.get("deaths"))
        left = file.read_text()
        if left and self.node_id == "edge_1":
            file.write_text(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        return mean


class Faulty(red.FederatedAggregator):
    """Raises for one group, and gives something else for another."""

    def passes_on(self, round_number: int, mean: dict[str, Any], num_examples: float) -> dict[str, Any]:
        if self.node_id == "edge_1":
            raise ValueError("no noise left")
        return {"w": mean["w"][:2]} if self.node_id == "edge_2" else mean


class Teller(red.FederatedNode):
    """Tells its number upwards and hears the sum from there."""

    def train(self, **arguments: Any) -> Any:
        self.send("number", self.config.get("node_index"), self.neighbors[0])
        message = self.receive(timeout=150)
        assert message is not None and message.header == "sum"
        return message.body, list(self.neighbors)


class Middle(red.FederatedAggregator):
    """Adds its children's numbers up, tells the sum upwards, and what comes from there downwards."""

    def train(self, **arguments: Any) -> Any:
        above, *below = self.neighbors
        total = 0
        for _ in below:
            message = self.receive(timeout=150)
            assert message is not None and message.header == "number"
            total += message.body
        self.send("number", total, above)
        message = self.receive(timeout=150)
        assert message is not None and message.sender == above
        self.send("sum", message.body, below)
        return list(self.neighbors)


class Root(red.FederatedServer):
    """The server adds up and tells the sum."""

    def train(self, **arguments: Any) -> Any:
        total = 0
        for _ in self.neighbors:
            message = self.receive(timeout=150)
            assert message is not None
            total += message.body
        self.send("sum", total + arguments.get("more", 0), list(self.neighbors))
        return list(self.neighbors)
