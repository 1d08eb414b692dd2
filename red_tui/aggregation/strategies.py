"""How updates become the next global parameters."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.aggregation.weighted_sum import WeightedSum, combine
from red_tui.checks import number, shown
from red_tui.nodes.arrays import is_inexact
from red_tui.nodes.extension_types import widened
from red_tui.nodes.template import Parameters
from red_tui.nodes.user_code import error_text

Array = npt.NDArray[Any]


class Strategy:
    """What a server does with the updates of a round.

    Derive from it for a way of your own: write `step` and set `additive`, or write `aggregate`.  What a step keeps for
    the next one (momenta, counters) belongs into `state_dict`: it is then in each checkpoint, goes to a server that is
    rebuilt, and is undone with a round that does not count.

    Attributes:
        additive: Whether the weighted mean of the updates is all that it needs.  Bundles then add their nodes'
            updates up and send one mean; otherwise every update travels.
        memoryless: Whether a step leaves no trace: one that turns out not to count needs no undoing.
    """

    additive = False
    memoryless = False

    def state_dict(self) -> dict[str, Array]:
        """Give what the next step needs of those before, beside the parameters.

        Returns:
            Arrays by name, any shapes, of types that a checkpoint holds; nothing before the first step.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Go on from a state: of a round before, or of another process.

        Args:
            state: What `state_dict` gave; `{}` is the state before the first step.  Its arrays are this strategy's own.

        Raises:
            ValueError: If it is no state of this strategy.  What the strategy had before stays then.
        """
        if state:
            names = ", ".join(sorted(state)[:3])
            raise ValueError(
                f"{type(self).__name__} keeps no state, and was given one ({names}): it is another strategy's"
            )

    def check_model(self, parameters: Parameters) -> None:
        """Look whether what was loaded is of this model.

        Args:
            parameters: The present parameters, arrays by name.

        Raises:
            ValueError: If it is of a model with other names or shapes.
        """

    def remember(self) -> dict[str, Any]:
        """Give what a step may change, for `go_back` in the same process.

        Returns:
            What `state_dict` gives, if it is written; else the attributes.
        """
        if writes_state(self):
            return self.state_dict()
        own = type(self).__module__ != __name__
        return {name: _kept(value, own) for name, value in vars(self).items()}

    def go_back(self, remembered: dict[str, Any]) -> None:
        """Undo a step that failed or does not count: what it made of momenta would spoil all that follow.

        Args:
            remembered: What `remember` gave before the step.
        """
        if writes_state(self):
            self.load_state_dict(remembered)
            return
        for name in vars(self).keys() - remembered.keys():
            delattr(self, name)
        vars(self).update(remembered)

    def configure(self, round_number: int) -> Mapping[str, Any]:
        """Tell the nodes of a round what to do: what it gives is in the `config` of `fit` and `evaluate`.

        It is asked on the server's node before each round, and may look at what the steps before have left.  A round
        of such a strategy begins when the one before has been aggregated, and no earlier.

        Args:
            round_number: 1 for the first round.

        Returns:
            Plain data by name (numbers, text, lists and dicts of them), over keys of the nodes' config.  `round` is
            the number of the round, and cannot be another.
        """
        return {}

    def aggregate(
        self,
        current: Parameters,
        updates: Sequence[Parameters],
        weights: Sequence[float],
        metrics: Sequence[Mapping[str, float]] = (),
    ) -> Parameters:
        """Make the next global parameters from every update.

        Args:
            current: The present parameters, arrays by name.
            updates: What each `fit` returned: the same names and shapes as `current`.
            weights: The number of examples behind each update.
            metrics: What each `fit` reported, numbers by name.  A class that does not take it gets the other three.

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


def configures(strategy: Strategy) -> bool:
    """Whether a strategy tells the nodes of each round something; a `configure` that takes no round is its own."""
    if type(strategy).configure is Strategy.configure:
        return False
    try:
        inspect.signature(strategy.configure).bind(1)
    except (TypeError, ValueError):
        return False
    return True


def configuration_of(strategy: Strategy, round_number: int) -> dict[str, Any]:
    """What a strategy tells the nodes of a round.

    Raises:
        ValueError: If it is no plain data, or says which round it is.
    """
    given: Any = strategy.configure(round_number)
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"configure must give a dict with text for names, not {shown(given)}")
    if "round" in given:
        raise ValueError("configure gave 'round', which is the number of the round: use another name")
    return {name: _plain_value(value, name) for name, value in given.items()}


def _plain_value(value: Any, name: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain_value(item, name) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain_value(item, name) for key, item in value.items()}
    raise ValueError(
        f"configure gave {name!r} as {type(value).__name__}: give numbers, text, and lists and dicts of them"
    )


def aggregated(
    strategy: Strategy,
    current: Parameters,
    updates: Sequence[Parameters],
    weights: Sequence[float],
    metrics: Sequence[Mapping[str, float]],
) -> Parameters:
    """What a strategy makes of every update; one whose `aggregate` takes no metrics gets none.

    It takes them under the name `metrics`, as one more argument that it cannot do without, or as `*args` or `**kwargs`;
    another one that it has a default for is its own.
    """
    try:
        taken = inspect.signature(strategy.aggregate).parameters
    except (TypeError, ValueError):  # compiled: it says nothing of what it takes
        return strategy.aggregate(current, updates, weights)
    by_place, by_name = _takes_metrics(list(taken.values()))
    if by_place:
        return strategy.aggregate(current, updates, weights, metrics)
    if by_name:
        return strategy.aggregate(current, updates, weights, metrics=metrics)
    return strategy.aggregate(current, updates, weights)


def _takes_metrics(taken: Sequence[inspect.Parameter]) -> tuple[bool, bool]:
    """Whether a method takes metrics as its fourth argument, and whether by name."""
    kinds = [one.kind for one in taken]
    positional = [one for one in taken if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    named = [one for one in taken if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if len(positional) > 3:
        by_place = positional[3].name == "metrics" or positional[3].default is inspect.Parameter.empty
    else:
        by_place = inspect.Parameter.VAR_POSITIONAL in kinds
    return by_place, inspect.Parameter.VAR_KEYWORD in kinds or any(one.name == "metrics" for one in named)


def writes_state(strategy: Strategy) -> bool:
    """Whether a class of one's own says what a strategy keeps between rounds."""
    return getattr(inspect.unwrap(type(strategy).state_dict), "__module__", "") != __name__


def keeps_state(strategy: Strategy) -> bool:
    """Whether a strategy has a state that goes along with the parameters."""
    return type(strategy).state_dict is not Strategy.state_dict


def _kept(value: Any, changed_in_place: bool) -> Any:
    """An attribute as it is now, whatever a step does to its containers (and, in classes of one's own, its arrays)."""
    if isinstance(value, dict):
        return {key: _kept(item, changed_in_place) for key, item in value.items()}
    if not changed_in_place:
        return value
    if type(value) is list:
        return [_kept(item, changed_in_place) for item in value]
    if isinstance(value, (np.ndarray, np.random.Generator, set, deque)):
        return copy.deepcopy(value)
    return value


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

    Its state holds float64 arrays (complex128 for complex parameters) of the parameters' shapes, named
    `fedadam.first.w` for the first moment of the parameter `w`, say.
    """

    additive = True
    _label = ""
    """How its state is marked as its own."""
    _moments: tuple[str, ...] = ()
    """What it keeps for each parameter: `first` lies in `_first`, by the parameter's name."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate: float = number(learning_rate, "learning_rate", above=0)

    def state_dict(self) -> dict[str, Array]:
        """The moments; nothing before the first step."""
        return {
            f"{self._label}.{moment}.{name}": np.asarray(value)
            for moment in self._moments
            for name, value in getattr(self, f"_{moment}").items()
        }

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Go on from these moments.

        Raises:
            ValueError: If they are another strategy's, or not whole.
        """
        loaded: dict[str, dict[str, Array]] = {moment: {} for moment in self._moments}
        for key, value in state.items():
            label, _, rest = key.partition(".")
            moment, _, name = rest.partition(".")
            if label != self._label or moment not in loaded:
                kinds = " and ".join(f"{self._label}.{one}.NAME" for one in self._moments) or "nothing"
                raise ValueError(f"{key!r} is another strategy's: {type(self).__name__} keeps {kinds}")
            array = np.asarray(value)
            if array.dtype not in (np.float64, np.complex128):
                raise ValueError(f"{key!r} is {array.dtype}: moments are float64, or complex128 for complex parameters")
            if np.isnan(array).any():
                raise ValueError(f"{key!r} holds NaN")
            loaded[moment][name] = array
        for moment, arrays in loaded.items():
            for name, array in arrays.items():
                for other, beside in loaded.items():
                    if name not in beside or beside[name].shape != array.shape:
                        raise ValueError(
                            f"the state is not whole: {self._label}.{moment}.{name} has the shape {array.shape}, and"
                            f" {self._label}.{other}.{name} "
                            + (f"{beside[name].shape}" if name in beside else "is missing")
                        )
        vars(self).update({f"_{moment}": arrays for moment, arrays in loaded.items()})

    def check_model(self, parameters: Parameters) -> None:
        """Look whether the moments are those of this model.

        Raises:
            ValueError: If names or shapes differ.
        """
        for moment in self._moments:
            kept: dict[str, Array] = getattr(self, f"_{moment}")
            moved = {name for name, value in parameters.items() if is_inexact(np.asarray(value).dtype)}
            if kept and kept.keys() != moved:
                name = min(kept.keys() ^ moved)
                what = "keeps nothing of" if name in moved else "keeps a moment of"
                raise ValueError(
                    f"the state is that of another model: it {what} {name!r},"
                    f" which {'is a parameter' if name in parameters else 'is no parameter'} of this one"
                )
            for name, value in kept.items():
                if value.shape != np.shape(parameters[name]):
                    raise ValueError(
                        f"the state is that of another model: {self._label}.{moment}.{name} has the shape"
                        f" {value.shape}, and the parameter {name!r} {np.shape(parameters[name])}"
                    )

    def step(self, current: Parameters, mean: Parameters) -> Parameters:
        """Present parameters plus a step along the difference."""
        made: Parameters = {}
        for name, value in mean.items():
            if not is_inexact(value.dtype):
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

    _label = "fedavgm"
    _moments = ("velocity",)

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

    _moments = ("first", "second")

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

    _label = "fedadagrad"

    def second(self, present: Array, square: Array) -> Array:
        """Sum of squares."""
        return present + square


class FedAdam(_Adaptive):
    """v = beta2 v + (1 - beta2) delta²."""

    _label = "fedadam"

    def second(self, present: Array, square: Array) -> Array:
        """Moving mean of squares."""
        return self.beta2 * present + (1 - self.beta2) * square


class FedYogi(_Adaptive):
    """v = v - (1 - beta2) delta² sign(v - delta²)."""

    _label = "fedyogi"

    def second(self, present: Array, square: Array) -> Array:
        """Moves towards the squares by a bounded step."""
        return np.asarray(present - (1 - self.beta2) * square * np.sign(present - square))


class Median(Strategy):
    """The coordinate-wise median; weights are not used.

    Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.
    """

    def aggregate(
        self,
        current: Parameters,
        updates: Sequence[Parameters],
        weights: Sequence[float],
        metrics: Sequence[Mapping[str, float]] = (),
    ) -> Parameters:
        """The median of each number."""
        return {
            name: _like(np.median(_stack(updates, name), axis=0), current.get(name, first))
            for name, first in updates[0].items()
        }


class TrimmedMean(Strategy):
    """The mean of each number without its `trim` share of largest and smallest ones.  Yin et al., ICML 2018."""

    def __init__(self, trim: float = 0.1) -> None:
        self.trim = _below_one(trim, "trim", limit=0.5)

    def aggregate(
        self,
        current: Parameters,
        updates: Sequence[Parameters],
        weights: Sequence[float],
        metrics: Sequence[Mapping[str, float]] = (),
    ) -> Parameters:
        """The mean of what is left of each number; weights are not used."""
        cut = int(self.trim * len(updates))
        made: Parameters = {}
        for name, first in updates[0].items():
            ordered = np.sort(_stack(updates, name), axis=0)
            made[name] = _like(
                ordered[cut : len(updates) - cut].mean(axis=0, dtype=np.float64), current.get(name, first)
            )
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

    def aggregate(
        self,
        current: Parameters,
        updates: Sequence[Parameters],
        weights: Sequence[float],
        metrics: Sequence[Mapping[str, float]] = (),
    ) -> Parameters:
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
        flat = np.stack(
            [np.concatenate([np.ravel(value).astype(np.float64) for value in update.values()]) for update in updates]
        )
        squares = np.einsum("ij,ij->i", flat, flat)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * flat @ flat.T, 0.0)
        np.fill_diagonal(distances, np.inf)
        scores = np.sort(distances, axis=1)[:, :nearest].sum(axis=1)
        best = np.argsort(scores, kind="stable")[: self.keep].tolist()
        return weighted_mean([updates[index] for index in best], [1.0] * len(best), current or None)


def _stack(updates: Sequence[Parameters], name: str) -> Array:
    return np.stack([widened(np.asarray(update[name])) for update in updates])


def _like(value: Any, first: Any) -> Array:
    dtype = np.asarray(first).dtype
    array = np.asarray(value)
    return np.asarray(np.rint(array) if dtype.kind in "iub" else array).astype(dtype)


CLASSES: dict[str, Callable[..., Strategy]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
}


StrategyChoice = str | Mapping[str, Any] | Strategy | type[Strategy]
"""How a strategy is named: `"median"`, `{"name": "trimmed-mean", "trim": 0.2}`, `TrimmedMean(0.2)`, a class of one's
own."""


class OwnStrategy(dict[str, Any]):
    """A strategy of one's own as the settings of rounds hold it: its name and plain options, and what it is made of.

    Args:
        described: `{"name": "module:Class", ...}` with the options that are plain data.
        source: The class, or an object of it that is copied for each server.
    """

    def __init__(self, described: Mapping[str, Any], source: Strategy | type[Strategy]) -> None:
        super().__init__(described)
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnStrategy, (dict(self), self.source)

    def copy(self) -> OwnStrategy:
        """Another one of the same strategy."""
        return OwnStrategy(self, self.source)

    def make(self) -> Strategy:
        """Make the strategy.

        Raises:
            ValueError: If its class does not take the options, or cannot aggregate.
        """
        if isinstance(self.source, Strategy):
            return copy.deepcopy(self.source)
        options = {key: value for key, value in self.items() if key != "name"}
        try:
            made = self.source(**options)
        except Exception as error:
            given = f" with {', '.join(options)}" if options else ""
            raise ValueError(f"strategy {self['name']!r} cannot be made{given}: {error_text(error)}") from error
        return made


def choice_of(given: Any) -> dict[str, Any]:
    """A strategy as `{"name": ..., ...}` with its options.

    Raises:
        ValueError: If it is none, or does not take its options.
    """
    choice = _named(given)
    make_strategy(choice["name"], {key: value for key, value in choice.items() if key != "name"}, choice)
    return choice


def _named(given: Any) -> dict[str, Any]:
    """A choice whose strategy has not been made yet."""
    if isinstance(given, Strategy):
        return _described(given)
    if isinstance(given, str):
        given = {"name": given}
    if isinstance(given, type) and issubclass(given, Strategy):
        given = {"name": given}
    if isinstance(given, OwnStrategy):
        return given.copy()
    if not (isinstance(given, Mapping) and "name" in given):
        raise ValueError(
            'strategy must be a name such as "median", a dict such as {"name": "trimmed-mean", "trim": 0.2}, one of'
            " red.strategies such as TrimmedMean(0.2), or a class of your own that derives from red.Strategy, not"
            f" {shown(given)}"
        )
    choice = dict(given)
    name = choice["name"]
    if isinstance(name, str) and ":" in name:
        name = _imported(name)
    if isinstance(name, type) and issubclass(name, Strategy):
        return _own(name, {key: value for key, value in choice.items() if key != "name"})
    return choice


def _own(kind: type[Strategy], options: Mapping[str, Any]) -> dict[str, Any]:
    for name, ships in CLASSES.items():
        if kind is ships:
            return {"name": name, **options}
    return OwnStrategy({"name": _class_name(kind), **options}, kind)


def _class_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__name__}"


def _imported(spec: str) -> Any:
    """The class of `module:Class`.

    Raises:
        ValueError: If there is none, or it is no strategy.
    """
    module_name, _, class_name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:
        raise ValueError(f"strategy {spec!r} cannot be imported: {error_text(error)}") from error
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise ValueError(f"strategy {spec!r} is no class that derives from red.Strategy: {shown(found)}")
    return found


def _described(strategy: Strategy) -> dict[str, Any]:
    """Name and options of a strategy: the server makes its own from them, or copies one's own."""
    for name, kind in CLASSES.items():
        if type(strategy) is kind:
            options = inspect.signature(kind).parameters
            return {"name": name, **{option: getattr(strategy, option) for option in options}}
    described: dict[str, Any] = {"name": _class_name(type(strategy))}
    if type(strategy).__init__ is not object.__init__:
        for option in inspect.signature(type(strategy)).parameters:
            value = getattr(strategy, option, None)
            if type(value) in (bool, int, float, str):
                described[option] = value
    return OwnStrategy(described, strategy)


def make_strategy(name: str, options: Mapping[str, Any] | None = None, choice: Any = None) -> Strategy:
    """The strategy of a name.

    Args:
        name: Its name, or `module:Class`.
        options: Its options.
        choice: The choice that they stand in, if it is known: one's own class comes with it.

    Raises:
        ValueError: If there is none of that name, or it does not take the options.
    """
    if isinstance(choice, OwnStrategy):
        return _able(choice.make())
    if isinstance(name, str) and ":" in name:
        return _able(OwnStrategy({"name": name, **(options or {})}, _imported(name)).make())
    if not isinstance(name, str) or name not in CLASSES:
        near = get_close_matches(name, CLASSES, 1) if isinstance(name, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        allowed = f"{', '.join(sorted(CLASSES))}, or module:Class of your own"
        raise ValueError(f"there is no strategy {shown(name)}: use {allowed}{hint}")
    try:
        return CLASSES[name](**(options or {}))
    except TypeError as error:
        given = ", ".join(options or {})
        raise ValueError(f"strategy {name!r} does not take these options ({given}): {error}") from error


def _able(strategy: Strategy) -> Strategy:
    """Return a strategy of one's own if it can aggregate.

    Raises:
        ValueError: If it cannot.
    """
    kind = type(strategy)
    steps, aggregates = kind.step is not Strategy.step, kind.aggregate is not Strategy.aggregate
    if not steps and not aggregates:
        raise ValueError(f"strategy {kind.__name__} writes neither step nor aggregate: write one of them")
    if strategy.additive and not steps:
        raise ValueError(
            f"strategy {kind.__name__} says additive = True, so it gets the mean of the updates: write step, or leave"
            " additive out to get every update in aggregate"
        )
    if kind.state_dict is not Strategy.state_dict and kind.load_state_dict is Strategy.load_state_dict:
        raise ValueError(f"strategy {kind.__name__} writes state_dict and no load_state_dict: write both")
    return strategy
