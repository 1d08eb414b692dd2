"""Templates of `test_states_in_checkpoints`: workers import this without the tests."""

from __future__ import annotations

from typing import Any

import numpy as np

import red_tui as red


@red.remote(num_cpus=0.01)
class Counting(red.FederatedNode):
    """Counts the rounds in which it took part, and keeps what it saw of the parameters."""

    rounds = 0
    seen: Any = None

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros(3)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        self.rounds += 1
        self.seen = np.asarray(parameters["w"]) + (0 if self.seen is None else self.seen)
        step = 0.1 * self.seen + self.config.get("node_index") + 1.0
        return red.FitResult({"w": parameters["w"] + step}, 2, {"rounds": self.rounds})

    def get_state(self) -> Any:
        return {"rounds": self.rounds, "seen": self.seen}

    def set_state(self, state: Any) -> None:
        self.rounds, self.seen = state["rounds"], state["seen"]


class Odd(Counting):
    """One of them keeps what no checkpoint may hold."""

    def get_state(self) -> Any:
        odd = {"odd": {1, 2}} if self.config.get("node_index") == 1 else {}
        return {**super().get_state(), **odd}
