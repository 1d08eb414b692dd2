"""Who takes part in a round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from red_tui import checks
from red_tui.aggregation.strategies import OwnStrategy, StrategyChoice, choice_of
from red_tui.nodes.table import IntArray


class UsualStrategy(dict[str, Any]):
    """The strategy of settings that were given none: an argument beside them may name another."""

    def __init__(self) -> None:
        super().__init__(name="fedavg")

    def __reduce__(self) -> tuple[Any, ...]:
        return UsualStrategy, ()


@dataclass(frozen=True)
class RoundSettings:
    """How rounds are run.

    Attributes:
        strategy: A name, `{"name": "fedavg", ...}` with its options, one of `red.strategies`, or a
            class of one's own (also `module:Class`); kept as the dict.
        fraction: Of the eligible nodes, the part that is chosen each round (at least one node).
        deadline: Seconds that `fit` and `evaluate` may each take; None: no limit.
        min_results: Part (a float up to 1) or number (an int) of the chosen nodes that must answer.
        seed: Of the choice; each round draws from its own stream, so rounds differ and runs repeat.
        evaluate_every: Rounds between two evaluations; 0: never.
        exact: Add updates up without an error: the same bytes whatever the isolation and the number of bundles.
        build_timeout: Seconds that missing nodes may take to be built.
        node_history: Whether the figures of every node in every round are kept; `History.nodes` gives them.

    Raises:
        ValueError: If one of them cannot be.
    """

    strategy: StrategyChoice = field(default_factory=UsualStrategy)
    fraction: float = 1.0
    deadline: float | None = 60.0
    min_results: float = 0.5
    seed: int = 0
    evaluate_every: int = 1
    exact: bool = False
    build_timeout: float = 120.0
    node_history: bool = False

    def __post_init__(self) -> None:
        strategy = self.strategy if isinstance(self.strategy, UsualStrategy) else choice_of(self.strategy)
        checked = {
            "strategy": strategy,
            "fraction": checks.number(self.fraction, "fraction", above=0, most=1),
            "deadline": checks.number(self.deadline, "deadline", above=0, unit="seconds", none="no limit"),
            "min_results": _part_or_number(self.min_results),
            "seed": checks.whole(self.seed, "seed", least=0),
            "evaluate_every": checks.whole(self.evaluate_every, "evaluate_every", least=0),
            "exact": checks.flag(self.exact, "exact"),
            "build_timeout": checks.number(self.build_timeout, "build_timeout", above=0, unit="seconds"),
            "node_history": checks.flag(self.node_history, "node_history"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, given: RoundSettings | Mapping[str, Any] | None) -> RoundSettings:
        """Settings from settings, or from a dict of some of them; None: the usual ones.

        Raises:
            ValueError: If it is neither, a key is unknown, or a value cannot be.
        """
        if given is None or isinstance(given, RoundSettings):
            return given or cls()
        keys = [one.name for one in fields(cls)]
        return cls(**checks.mapping(given, "settings", '{"fraction": 0.5} or RoundSettings(fraction=0.5)', keys=keys))

    @property
    def choice(self) -> dict[str, Any]:
        """The strategy as `{"name": ..., ...}`."""
        if isinstance(self.strategy, OwnStrategy):
            return self.strategy.copy()
        return dict(self.strategy) if isinstance(self.strategy, dict) else choice_of(self.strategy)

    def evaluates(self, number: int) -> bool:
        """Whether nodes evaluate after a round."""
        return bool(self.evaluate_every) and number % self.evaluate_every == 0

    def needed(self, chosen: int) -> int:
        """How many of `chosen` nodes must answer for the round to count; at least one."""
        if isinstance(self.min_results, int) and not isinstance(self.min_results, bool):
            return max(1, min(self.min_results, chosen))
        return max(1, math.ceil(self.min_results * chosen - 1e-9))


def _part_or_number(value: Any) -> Any:
    """`min_results`: a part of the chosen nodes, or a whole number of them."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return checks.whole(value, "min_results", least=1)
    try:
        return checks.number(value, "min_results", above=0, most=1)
    except ValueError:
        raise ValueError(
            "min_results must be a part of the chosen nodes (a float above 0 and at most 1.0, such as 0.5) or a whole"
            f" number of them (3), not {checks.shown(value)}"
        ) from None


def choose(eligible: IntArray, fraction: float, seed: int, round_number: int) -> IntArray:
    """Rows that take part in a round, in row order: a uniform draw without replacement."""
    if fraction >= 1.0 or len(eligible) == 0:
        return eligible
    count = max(1, round(fraction * len(eligible)))
    generator = np.random.default_rng([seed, round_number])
    return np.sort(generator.choice(eligible, size=count, replace=False))
