"""How updates become the next global parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.aggregation.weighted_sum import WeightedSum, combine
from red_tui.checks import number, shown
from red_tui.nodes.template import Parameters

Array = npt.NDArray[Any]


class Strategy:
    """What a server does with the updates of a round.

    One that ships writes `step` (and sets `additive`) or `aggregate`.  A way of your own is a `FederatedServer` that
    overrides `aggregate`.

    Attributes:
        additive: Whether the weighted mean of the updates is all that it needs.  Bundles then add their nodes'
            updates up and send one mean; otherwise every update travels.
        memoryless: Whether a step leaves no trace: one that turns out not to count needs no undoing.
    """

    additive = False
    memoryless = False

    def remember(self) -> dict[str, Any]:
        """Give what a step may change, such as momenta.

        Returns:
            Attributes by name, for `go_back`.
        """
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}

    def go_back(self, remembered: dict[str, Any]) -> None:
        """Undo a step that failed: what it made of momenta would spoil all that follow.

        Args:
            remembered: What `remember` gave before the step.
        """
        vars(self).update(remembered)

    def aggregate(self, current: Parameters, updates: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """Make the next global parameters from every update.

        Args:
            current: The present parameters, arrays by name.
            updates: What each `fit` returned: the same names and shapes as `current`.
            weights: The number of examples behind each update.

        Returns:
            Arrays by name, with the names, shapes and types of `current`.

        Raises:
            ValueError: If there is no update, or all weights are zero.
        """
        return self.step(current, weighted_mean(updates, weights, current))

    def step(self, current: Parameters, mean: Parameters) -> Parameters:
        """Make the next global parameters from the weighted mean of the updates.

        Args:
            current: The present parameters, arrays by name.
            mean: The mean, with the names, shapes and types of `current`.

        Returns:
            Arrays by name, with the names, shapes and types of `current`.

        Raises:
            NotImplementedError: If the strategy needs every update.
        """
        raise NotImplementedError(f"{type(self).__name__} needs every update")


def weighted_mean(
    updates: Sequence[Parameters], weights: Sequence[float], like: Parameters | None = None
) -> Parameters:
    """Mean of parameters weighted by `weights`, in the types of `like` (None: of the first update).

    Integer arrays (counters of batch norm, say) are rounded to the nearest integer.  The formula is
    that of federated averaging: McMahan et al., "Communication-Efficient Learning of Deep Networks
    from Decentralized Data", AISTATS 2017, algorithm 1.

    Raises:
        ValueError: If there is no update or all weights are zero.
    """
    added = WeightedSum()
    for update, weight in zip(updates, weights, strict=True):
        added.add({name: np.asarray(value) for name, value in update.items()}, float(weight))
    if added.total <= 0:
        raise ValueError("there is nothing to average: every update has zero examples")
    dtypes = {name: np.asarray((like or updates[0])[name]).dtype for name in updates[0]}
    return combine([added.mean()], [added.total], dtypes)


class FedAvg(Strategy):
    """Federated averaging: the mean of the updates, weighted by their numbers of examples."""

    additive = True
    memoryless = True

    def step(self, current: Parameters, mean: Parameters) -> Parameters:
        """The mean; `current` is not used."""
        return mean


class ServerOptimizer(Strategy):
    """The server takes the difference between the mean and the present parameters for a gradient.

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithms 1 and 2.  Integer arrays are
    averaged only.
    """

    additive = True

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate: float = number(learning_rate, "learning_rate", above=0)

    def step(self, current: Parameters, mean: Parameters) -> Parameters:
        """Present parameters plus a step along the difference."""
        made: Parameters = {}
        for name, value in mean.items():
            if value.dtype.kind not in "fc":
                made[name] = value
                continue
            wide = np.complex128 if value.dtype.kind == "c" else np.float64
            delta = np.subtract(value, current[name], dtype=wide)
            with np.errstate(all="ignore"):  # whether the step is finite is looked at by the server
                step = current[name] + self.learning_rate * self.direction(name, delta)
            made[name] = np.asarray(step).astype(value.dtype)
        return made

    def direction(self, name: str, delta: Array) -> Array:
        """The step for one array, before the learning rate."""
        raise NotImplementedError


def _below_one(value: Any, what: str, limit: float = 1.0) -> float:
    """Return a number from 0 to below a limit."""
    checked: float = number(value, what, least=0)
    if checked >= limit:
        raise ValueError(f"{what} must be from 0 to below {limit:g}, not {shown(value)}")
    return checked


class FedAvgM(ServerOptimizer):
    """Server momentum: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution", 2019, section 4.3."""

    def __init__(self, learning_rate: float = 1.0, momentum: float = 0.9) -> None:
        super().__init__(learning_rate)
        self.momentum = _below_one(momentum, "momentum")
        self._velocity: dict[str, Array] = {}

    def direction(self, name: str, delta: Array) -> Array:
        """V = momentum v + delta."""
        velocity = self.momentum * self._velocity.get(name, np.zeros_like(delta)) + delta
        self._velocity[name] = velocity
        return velocity


class _Adaptive(ServerOptimizer):
    """m = beta1 m + (1 - beta1) delta, step m / (sqrt(v) + tau); the strategies differ in v."""

    def __init__(self, learning_rate: float = 0.1, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> None:
        super().__init__(learning_rate)
        self.beta1, self.beta2 = _below_one(beta1, "beta1"), _below_one(beta2, "beta2")
        self.tau: float = number(tau, "tau", above=0)
        self._first: dict[str, Array] = {}
        self._second: dict[str, Array] = {}

    def direction(self, name: str, delta: Array) -> Array:
        """The first moment over the root of the second."""
        first = self.beta1 * self._first.get(name, np.zeros_like(delta)) + (1 - self.beta1) * delta
        square = np.square(np.abs(delta))
        second = self.second(self._second.get(name, np.full(delta.shape, self.tau**2)), square)
        self._first[name], self._second[name] = first, second
        return np.asarray(first / (np.sqrt(second) + self.tau))

    def second(self, present: Array, square: Array) -> Array:
        """The next second moment."""
        raise NotImplementedError


class FedAdagrad(_Adaptive):
    """v = v + delta²."""

    def second(self, present: Array, square: Array) -> Array:
        """Sum of squares."""
        return present + square


class FedAdam(_Adaptive):
    """v = beta2 v + (1 - beta2) delta²."""

    def second(self, present: Array, square: Array) -> Array:
        """Moving mean of squares."""
        return self.beta2 * present + (1 - self.beta2) * square


class FedYogi(_Adaptive):
    """v = v - (1 - beta2) delta² sign(v - delta²)."""

    def second(self, present: Array, square: Array) -> Array:
        """Moves towards the squares by a bounded step."""
        return np.asarray(present - (1 - self.beta2) * square * np.sign(present - square))


class Median(Strategy):
    """The coordinate-wise median; weights are not used.

    Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.
    """

    def aggregate(self, current: Parameters, updates: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """The median of each number."""
        return {name: _like(np.median(_stack(updates, name), axis=0), updates[0][name]) for name in updates[0]}


class TrimmedMean(Strategy):
    """The mean of each number without its `trim` share of largest and smallest ones.  Yin et al., ICML 2018."""

    def __init__(self, trim: float = 0.1) -> None:
        self.trim = _below_one(trim, "trim", limit=0.5)

    def aggregate(self, current: Parameters, updates: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """The mean of what is left of each number; weights are not used."""
        cut = int(self.trim * len(updates))
        made: Parameters = {}
        for name, first in updates[0].items():
            ordered = np.sort(_stack(updates, name), axis=0)
            made[name] = _like(ordered[cut : len(updates) - cut].mean(axis=0, dtype=np.float64), first)
        return made


class Krum(Strategy):
    """The mean of the `keep` updates that lie closest to their neighbours.

    Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017:
    an update's score is the sum of squared distances to its n - f - 2 nearest others.

    Args:
        byzantine: f, how many updates may be arbitrary.
        keep: Updates that are averaged; 1 is Krum, more is Multi-Krum.
    """

    def __init__(self, byzantine: int = 0, keep: int = 1) -> None:
        if not (type(byzantine) is int and type(keep) is int):
            raise ValueError(f"byzantine and keep must be whole numbers, not {byzantine!r} and {keep!r}")
        if byzantine < 0 or keep < 1:
            raise ValueError(f"byzantine must not be below 0 and keep not below 1, not {byzantine} and {keep}")
        self.byzantine, self.keep = byzantine, keep

    def aggregate(self, current: Parameters, updates: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """The mean of the best updates.

        Raises:
            ValueError: If there are fewer than `byzantine` + 3 updates.
        """
        count = len(updates)
        nearest = count - self.byzantine - 2
        if nearest < 1:
            raise ValueError(
                f"krum with byzantine={self.byzantine} needs {self.byzantine + 3} updates, there are {count}"
            )
        flat = np.stack([np.concatenate([np.ravel(value) for value in update.values()]) for update in updates])
        flat = flat.astype(np.float64)
        squares = np.einsum("ij,ij->i", flat, flat)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * flat @ flat.T, 0.0)
        np.fill_diagonal(distances, np.inf)
        scores = np.sort(distances, axis=1)[:, :nearest].sum(axis=1)
        best = np.argsort(scores, kind="stable")[: self.keep].tolist()
        return weighted_mean([updates[index] for index in best], [1.0] * len(best))


def _stack(updates: Sequence[Parameters], name: str) -> Array:
    return np.stack([np.asarray(update[name]) for update in updates])


def _like(value: Any, first: Any) -> Array:
    dtype = np.asarray(first).dtype
    array = np.asarray(value)
    return np.asarray(np.rint(array) if dtype.kind in "iub" else array).astype(dtype)


_STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
}


def remembers(name: str) -> bool:
    """Whether a strategy keeps something of earlier rounds beside the parameters: momentum, moments."""
    made = _STRATEGIES.get(name)
    return isinstance(made, type) and issubclass(made, ServerOptimizer)


StrategyChoice = str | Mapping[str, Any] | Strategy
"""How a strategy is named: `"median"`, `{"name": "trimmed-mean", "trim": 0.2}` or `TrimmedMean(0.2)`."""


def choice_of(given: Any) -> dict[str, Any]:
    """A strategy as `{"name": ..., ...}` with its options.

    Raises:
        ValueError: If it is none, or does not take its options.
    """
    if isinstance(given, Strategy):
        choice = _described(given)
    elif isinstance(given, str):
        choice = {"name": given}
    elif isinstance(given, Mapping) and "name" in given:
        choice = dict(given)
    else:
        raise ValueError(
            'strategy must be a name such as "median", a dict such as {"name": "trimmed-mean", "trim": 0.2}, or one of'
            f" red.strategies such as TrimmedMean(0.2), not {shown(given)}"
        )
    make_strategy(choice["name"], {key: value for key, value in choice.items() if key != "name"})
    return choice


def _described(strategy: Strategy) -> dict[str, Any]:
    """Name and options of a strategy of this module: the server makes its own from them."""
    for name, kind in _STRATEGIES.items():
        if type(strategy) is kind:
            options = inspect.signature(kind).parameters
            return {"name": name, **{option: getattr(strategy, option) for option in options}}
    raise ValueError(
        f"strategy {type(strategy).__name__} is a class of your own: use one of {', '.join(sorted(_STRATEGIES))}, or"
        " override aggregate of a red.FederatedServer and pass it as server_template"
    )


def make_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy of a name.

    Raises:
        ValueError: If there is none of that name, or it does not take the options.
    """
    if not isinstance(name, str) or name not in _STRATEGIES:
        near = get_close_matches(name, _STRATEGIES, 1) if isinstance(name, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no strategy {shown(name)}: use {', '.join(sorted(_STRATEGIES))}{hint}")
    try:
        return _STRATEGIES[name](**(options or {}))
    except TypeError as error:
        given = ", ".join(options or {})
        raise ValueError(f"strategy {name!r} does not take these options ({given}): {error}") from error
