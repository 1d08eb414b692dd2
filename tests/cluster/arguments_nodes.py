"""Templates of `test_arguments`: workers import this without the tests."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import numpy as np

import red_tui as red


@dataclasses.dataclass
class Model:
    rate: float
    layers: list[int]


class Kind(enum.Enum):
    FAST = "fast"


class Apart(red.FederatedNode):
    """Its parameters are a number of its own; it says what it found in its config."""

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros(2)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        number = [0.0, 1.0, 50.0][self.config.node_index]
        return red.FitResult({"w": np.full(2, number)}, 1)

    def config_seen(self) -> dict[str, Any]:
        return self.config.as_dict()
