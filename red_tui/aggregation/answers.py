"""What nodes answer in one phase of a round: columns, and references to what they made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from red_tui.nodes.table import NO_ROWS, IntArray

Floats = npt.NDArray[np.floating[Any]]

NO_FLOATS: Floats = np.empty(0, dtype=np.float64)


@dataclass(frozen=True)
class Contribution:
    """What one reference brings to the aggregate.

    Attributes:
        kind: `update`: one node's. `term`: one node's, of which only the exact sum with the others is wanted.
            `block`: several nodes' in a list. `mean`: the `PartialMean` or `ExactMean` of a host's nodes.
        reference: Where it lies in the object store.
        rows: Whose it is.
        weights: Number of examples of each of them; a mean says itself on how many it stands.
        asked: The first row of all that were asked with them, whether or not these answered; None: the first of `rows`.
    """

    kind: str
    reference: Any
    rows: IntArray
    weights: Sequence[float]
    asked: int | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among others: the order depends on who was asked and who answered, not on when."""
        first = int(np.min(self.rows)) if len(self.rows) else -1
        return first if self.asked is None else self.asked, first


def in_order(contributions: Iterable[Contribution]) -> list[Contribution]:
    """Contributions in the one order in which they are combined, whatever the order in which they came.

    Sums of floating-point numbers depend on the order of their terms: with this one, equal rounds give equal bytes.
    """
    return sorted(contributions, key=lambda part: part.place)


@dataclass(frozen=True)
class Answers:
    """Some nodes' answers, in columns, and why others gave none.

    Attributes:
        rows: Nodes that answered.
        weights: Their numbers of examples.
        seconds: What they took.
        metrics: By name; NaN where a node did not report it.
        losses: Of an evaluation.
        failures: Why nodes do not count, by row; that of a node which had answered takes the answer back.
        contribution: What they made, or None.
    """

    rows: IntArray = field(default_factory=lambda: NO_ROWS)
    weights: Floats = field(default_factory=lambda: NO_FLOATS)
    seconds: Floats = field(default_factory=lambda: NO_FLOATS)
    metrics: Mapping[str, Floats] = field(default_factory=dict)
    losses: Floats = field(default_factory=lambda: NO_FLOATS)
    failures: Mapping[int, str] = field(default_factory=dict)
    contribution: Contribution | None = None


class PhaseWork(Protocol):
    """Nodes at work in one phase."""

    @property
    def promised(self) -> Sequence[Any]:
        """References to all that is going to be contributed, if that is known already."""

    async def next(self) -> Answers | None:
        """The next answers, as soon as there are any; None when all have answered or the deadline has passed."""

    def close(self) -> None:
        """No more answers are wanted: nodes that have not begun do not begin, the others are late."""


class Phase:
    """Collects the answers of one phase."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.failures: dict[int, str] = {}
        self._contributions: list[Contribution] = []
        self._parts: list[Answers] = []
        self._answered = 0

    @property
    def done(self) -> int:
        """How many nodes have answered or failed."""
        return min(self.total, self._answered + len(self.failures))

    def take(self, answers: Answers) -> None:
        """Add answers."""
        if len(answers.rows):
            self._parts.append(answers)
            self._answered += len(answers.rows)
        self.failures.update(answers.failures)
        if answers.contribution is not None:
            self._contributions.append(answers.contribution)

    @property
    def contributions(self) -> list[Contribution]:
        """What nodes made, in the order in which it is combined."""
        return in_order(self._contributions)

    def counted(self) -> Answers:
        """All answers that count, in the order of rows."""
        parts = self._parts
        if not parts:
            return Answers()
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows, kind="stable")
        if self.failures:
            void = np.fromiter(self.failures, dtype=np.int64, count=len(self.failures))
            order = order[~np.isin(rows[order], void)]

        def joined(columns: Sequence[Floats]) -> Floats:
            whole: Floats = np.concatenate(columns)
            return whole[order] if len(whole) == len(rows) else NO_FLOATS

        names = dict.fromkeys(name for part in parts for name in part.metrics)
        metrics = {
            name: joined([part.metrics.get(name, np.full(len(part.rows), np.nan)) for part in parts]) for name in names
        }
        return Answers(
            rows[order],
            joined([part.weights for part in parts]),
            joined([part.seconds for part in parts]),
            metrics,
            joined([part.losses for part in parts]),
        )


def weighted_mean_of(values: Floats, weights: Floats) -> float:
    """Mean of the values that are numbers, weighted; NaN for none."""
    having = ~np.isnan(values)
    total = float(weights[having].sum())
    if total <= 0:
        return float("nan")
    with np.errstate(over="ignore"):
        mean = float((values[having] * weights[having]).sum() / total)
    # The sum may be more than a float holds, the mean is not.
    return mean if np.isfinite(mean) else float((values[having] * (weights[having] / total)).sum())


def weighted_means(answers: Answers) -> dict[str, float]:
    """Each metric's weighted mean over the nodes that reported it."""
    return {name: weighted_mean_of(answers.metrics[name], answers.weights) for name in sorted(answers.metrics)}
