"""Nodes whose losses are known, an evaluator and hooks for the tests of what hears of rounds."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import red_tui as red

LOSSES = (0.5, 0.4, 0.45, 0.41, 0.3)


class Learner(red.FederatedNode):
    """Adds one a round; its losses are written down."""

    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: Any) -> red.FitResult:
        return red.FitResult({"w": parameters["w"] + 1}, 4, {"loss": float(self.config.node_index)})

    def evaluate(self, parameters: red.Parameters, config: Any) -> red.EvaluateResult:
        return red.EvaluateResult(LOSSES[config["round"] - 1], 1, {"accuracy": self.config.node_index / 4})


def judge(parameters: red.Parameters, config: Any) -> dict[str, float]:
    """Judges on the server's node: the process says where."""
    if config["round"] == 2:
        raise OSError("the test data are gone")
    return {"loss": float(parameters["w"].mean()), "pid": float(os.getpid())}


class Notes(red.RoundHook):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def on_run_begin(self, run: red.RunStart) -> None:
        self.lines.append((run.federation, run.first_round, run.last_round, run.until, run.config["depth"]))

    def on_round_end(self, result: red.RoundResult) -> None:
        self.lines.append(result.number)

    def on_run_end(self, history: red.History) -> None:
        self.lines.append([one.number for one in history])
