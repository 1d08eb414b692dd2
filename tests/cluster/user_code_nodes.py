"""Templates of `test_user_code`: workers import this without the tests."""

from __future__ import annotations

from typing import Any

import numpy as np

import red_tui as red
from tests.cluster.templates import Counting
from tests.misbehaving import ENDINGS, exits


class Server(red.FederatedServer):
    """Its `aggregate` ends in another way each round."""

    def aggregate(self, round_number: int, *args: Any) -> Any:
        endings = ["exit", "interrupt", "fork", "unprintable"]
        tries = self.__dict__["tries"] = self.__dict__.get("tries", 0) + 1
        if tries <= len(endings):
            ENDINGS[endings[tries - 1]][0]()
        return super().aggregate(round_number, *args)


class Passing(red.FederatedAggregator):
    def passes_on(self, round_number: int, mean: Any, num_examples: float) -> Any:
        if self.node_id == "edge_1" and round_number == 1:
            exits()
        return mean


class Absurd(Counting):
    """Nodes 1 and 2 give numbers in round 1 that nobody can average."""

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        result = super().fit(parameters, config)
        if config["round"] == 1 and self.node_id == "client_1":
            return red.FitResult(result.parameters, 1e308)
        if config["round"] == 1 and self.node_id == "client_2":
            return red.FitResult({"w": np.full(8, 1.7e308)}, 1)
        return result

    def initial_parameters(self) -> Any:
        return {"w": np.zeros(8)}
