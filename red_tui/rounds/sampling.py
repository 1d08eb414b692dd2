"""Who takes part in a round."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from red_tui.nodes.table import IntArray


@dataclass(frozen=True)
class RoundSettings:
    """How rounds are run.

    Attributes:
        strategy: `{"name": "fedavg", ...}`.
        fraction: Of the eligible nodes, the part that is chosen each round (at least one node).
        deadline: Seconds that `fit` and `evaluate` may each take; None: no limit.
        min_results: Part (a float up to 1) or number (an int) of the chosen nodes that must answer.
        seed: Of the choice; each round draws from its own stream, so rounds differ and runs repeat.
        evaluate_every: Evaluate after every so many rounds; 0: never.
        build_timeout: Seconds that missing nodes may take to be built.
    """

    strategy: dict[str, Any] = field(default_factory=lambda: {"name": "fedavg"})
    fraction: float = 1.0
    deadline: float | None = 60.0
    min_results: float = 0.5
    seed: int = 0
    evaluate_every: int = 1
    build_timeout: float = 120.0

    def evaluates(self, number: int) -> bool:
        """Whether nodes evaluate after a round."""
        return bool(self.evaluate_every) and number % self.evaluate_every == 0

    def needed(self, chosen: int) -> int:
        """How many of `chosen` nodes must answer for the round to count; at least one."""
        if isinstance(self.min_results, int) and not isinstance(self.min_results, bool):
            return max(1, min(self.min_results, chosen))
        return max(1, math.ceil(self.min_results * chosen - 1e-9))


def choose(eligible: IntArray, fraction: float, seed: int, round_number: int) -> IntArray:
    """Rows that take part in a round, in row order: a uniform draw without replacement."""
    if fraction >= 1.0 or len(eligible) == 0:
        return eligible
    count = max(1, round(fraction * len(eligible)))
    generator = np.random.default_rng([seed, round_number])
    return np.sort(generator.choice(eligible, size=count, replace=False))
