"""A node that adds 1: what is measured is the way there and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import red_tui as red


class Adds(red.FederatedNode):
    """Adds 1 to every parameter."""

    @staticmethod
    def start(size: int) -> dict[str, Any]:
        return {"w": np.zeros(size, np.float32)}

    def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.FitResult:
        return red.FitResult({"w": parameters["w"] + 1}, 1, {"loss": 0.5})
