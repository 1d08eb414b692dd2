"""Templates of `test_state_memory`: workers import this without the tests."""

from __future__ import annotations

from typing import Any

import numpy as np

import red_tui as red

SIZE = 25_000
"""Numbers in a node's state: 100 kB."""


class Remembering(red.FederatedNode):
    """Its update depends on all rounds that it took part in, and on who it is."""

    def build(self, **kwargs: Any) -> None:
        self.rounds = 0
        self.memory = np.full(SIZE, float(self.config.get("node_index")), dtype=np.float32)

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros(4)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        self.rounds += 1
        self.memory = self.memory * np.float32(0.5) + np.float32(self.rounds)
        step = float(self.memory[0]) + float(self.memory[-1])
        metrics = {"seen": float(self.rounds), "memory": float(self.memory[SIZE // 2])}
        return red.FitResult({"w": parameters["w"] + step}, 1, metrics)

    def get_state(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "memory": self.memory}

    def set_state(self, state: dict[str, Any]) -> None:
        self.rounds, self.memory = state["rounds"], state["memory"]


class Locked(Remembering):
    """One of its nodes keeps what no other process can have."""

    def get_state(self) -> dict[str, Any]:
        import threading

        kept = super().get_state()
        return {**kept, "lock": threading.Lock()} if self.node_id == "client_1" else kept
