"""The aggregator of a group in a hierarchy (an edge server): it adds its group's updates up and passes one mean on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from red_tui.nodes.sums import PartialMean, WeightedSum, combine
from red_tui.nodes.table import IntArray
from red_tui.nodes.template import FederatedNode, Parameters, check_parameters
from red_tui.nodes.user_code import called, check_fork, failure_report


class FederatedAggregator(FederatedNode):
    """Adds up.  Derive from it to do something to a group's mean (`passes_on`), or to `train` in sessions."""

    def passes_on(self, round_number: int, mean: Parameters, num_examples: float) -> Parameters:
        """What goes up in place of the group's mean: noise may be added to it, say, or it may be clipped.

        Args:
            round_number: The round.
            mean: The mean of the group's updates, weighted by their numbers of examples; float32 or float64.
            num_examples: How many examples stand behind it.
        """
        return mean

    def red_add_up(
        self, round_number: int, parts: Sequence[tuple[str, Sequence[float]]], *payloads: Any
    ) -> tuple[PartialMean | None, dict[str, Any]]:
        """One mean of all that the group gave (stays in the object store), and a report with the examples behind it.

        Args:
            round_number: The round.
            parts: For each payload its kind (see `Contribution`) and weights.
            *payloads: Updates, or means of hosts and of aggregators further down.
        """
        try:
            mean, total = partial_mean(parts, payloads)
            if total > 0:
                mean = called("passes_on", self._passed_on, round_number, mean, total)
        except BaseException as error:
            return None, failure_report(error, "add_up")
        check_fork()
        return PartialMean(mean, total), {"total": total}

    def _passed_on(self, round_number: int, mean: Parameters, total: float) -> Parameters:
        given = check_parameters(self.passes_on(round_number, mean, total), "what passes_on gave")
        _same_shapes(given, mean)
        return given


def partial_mean(parts: Sequence[tuple[str, Sequence[float]]], payloads: Sequence[Any]) -> PartialMean:
    """The weighted mean of updates and of means, and the sum of the weights; {} and 0.0 where nobody has examples.

    It stays in float32 where the updates are float32 or float16, else in float64: whole numbers are rounded by the
    server at the end, and not on each level.
    """
    own, means, totals = WeightedSum(), [], []
    for (kind, weights), payload in zip(parts, payloads, strict=True):
        if kind == "mean":
            means.append(payload.mean)
            totals.append(payload.total)
            continue
        for update, weight in zip([payload] if kind == "update" else payload, weights, strict=True):
            own.add(update, float(weight))
    if own.total > 0:
        means.append(own.mean())
        totals.append(own.total)
    having = [(mean, total) for mean, total in zip(means, totals, strict=True) if total > 0]
    if not having:
        return PartialMean({}, 0.0)
    if len(having) == 1:
        return PartialMean(*having[0])
    types = {name: np.asarray(value).dtype for name, value in having[0][0].items()}
    return PartialMean(
        combine([mean for mean, _ in having], [total for _, total in having], types),
        float(sum(total for _, total in having)),
    )


def _same_shapes(given: Parameters, mean: Parameters) -> None:
    """Raise ValueError unless `given` can stand in the place of `mean`."""
    if given.keys() != mean.keys() or any(np.shape(given[name]) != np.shape(mean[name]) for name in mean):
        raise ValueError("passes_on gave other parameters than it was given: keep their names and shapes")


def rows_of(parts: Sequence[Any]) -> IntArray:
    """Rows of all contributions together."""
    return np.concatenate([np.asarray(part.rows) for part in parts])
