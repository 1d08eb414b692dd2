"""How updates become the next global parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from red_tui.nodes.template import Parameters


class Strategy(Protocol):
    """What a server does with the updates of a round."""

    def aggregate(self, current: Parameters, updates: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """The next global parameters."""


def weighted_mean(updates: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
    """Mean of parameters weighted by `weights`, summed in float64 and given back in the arrays' own types.

    Integer arrays (counters of batch norm, say) are rounded to the nearest integer.  The formula is
    that of federated averaging: McMahan et al., "Communication-Efficient Learning of Deep Networks
    from Decentralized Data", AISTATS 2017, algorithm 1.

    Raises:
        ValueError: If there is no update or all weights are zero.
    """
    total = float(sum(weights))
    if not updates or total <= 0:
        raise ValueError("there is nothing to average: every update has zero examples")
    mean: Parameters = {}
    for name, first in updates[0].items():
        first = np.asarray(first)
        accumulator = np.zeros(first.shape, dtype=np.complex128 if first.dtype.kind == "c" else np.float64)
        for update, weight in zip(updates, weights, strict=True):
            # One scaled temporary of one array at a time; weights are normalised last, so that
            # equal weights of 1 give sums that are exact for small integers.
            accumulator += np.multiply(update[name], weight, dtype=accumulator.dtype)
        accumulator /= total
        if first.dtype.kind in "iub":
            accumulator = np.rint(accumulator)
        mean[name] = accumulator.astype(first.dtype)
    return mean


class FedAvg:
    """Federated averaging: the mean of the updates, weighted by their numbers of examples."""

    def aggregate(self, current: Parameters, updates: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """The weighted mean; `current` is not used."""
        return weighted_mean(updates, weights)


_STRATEGIES: dict[str, Callable[..., Strategy]] = {"fedavg": FedAvg}


def make_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy of a name.

    Raises:
        ValueError: If there is none of that name, or it does not take the options.
    """
    if name not in _STRATEGIES:
        raise ValueError(f"there is no strategy {name!r}: use {', '.join(sorted(_STRATEGIES))}")
    try:
        return _STRATEGIES[name](**(options or {}))
    except TypeError as error:
        given = ", ".join(options or {})
        raise ValueError(f"strategy {name!r} does not take these options ({given}): {error}") from error
