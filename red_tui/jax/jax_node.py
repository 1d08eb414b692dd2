"""A node that trains a model of JAX: pure functions over a tree of arrays, compiled once for all nodes of a process."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from red_tui.data.columns import as_arrays
from red_tui.errors import RedError
from red_tui.jax.compiled_steps import TRACED, CompiledSteps, Descent, device_of, steps_for, with_steps
from red_tui.jax.trees import parameters_to_tree, tree_to_parameters
from red_tui.nodes.config import round_seed, seed_of
from red_tui.nodes.learning_keys import BATCH_SIZE, LEARNING_RATE, LOCAL_EPOCHS, number_of, steps_of, whole_of
from red_tui.nodes.template import EvaluateResult, FederatedNode, FitResult, Parameters

CUT_AHEAD = 2**22
"""Bytes of batches that are cut at a time where several nodes learn together; one step's at least."""


class JaxNode(FederatedNode):
    """A node that trains and judges a model of JAX.  Write `model` and `apply`; override what differs.

    `model`, `apply`, `losses`, `metrics` and `optimizer` are traced and compiled once for all nodes of a process.  They
    may read `self.config` and `self.shared`, and nothing else of a node: what is a node's own comes with its batches.
    A key that they have read, there or not, and that changes compiles them again; what reads all keys at once, such as
    `self.config.as_dict()`, compiles them for each node whose config differs.

    Batches have one shape: the last one of an epoch is filled up with rows that do not count.  So the nodes of a bundle
    can learn together, as one computation over an axis of nodes (`jax.vmap`); that gives what one after another
    gives, to the precision of float32.

    Keys of the config, each of which may be changed between rounds:
        learning_rate: Of the usual optimiser; 0.01.
        momentum, weight_decay: Of the usual optimiser; 0.
        batch_size: Examples a batch; 32.
        local_epochs: Passes over the data in a round; 1.
        local_steps: Batches in a round, in place of `local_epochs`.
        device: `auto` (a GPU if this node has a share of one, else the CPU), `cpu` or `gpu`.
        seed: Of the initial parameters and of all random numbers; else that of the rounds.

    Attributes:
        fits_together: Max nodes of a bundle that learn together; 1: one after another.
    """

    fits_together: ClassVar[int] = 128

    def __getattr__(self, name: str) -> Any:
        if TRACED in self.__dict__:
            raise AttributeError(
                f"{name}: apply, losses, metrics and optimizer are compiled once for all nodes of a process, and read"
                " self.config and self.shared only: what is a node's own comes with its batches"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- what a template says ----------------------------------------------------------------------

    def model(self, key: Any) -> Any:
        """Make the initial parameters.

        Args:
            key: Of JAX's random numbers, from the config's `seed`.

        Returns:
            A tree of arrays: nested dicts, lists, tuples, classes that are registered with JAX.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method model(self, key) that gives its parameters")

    def apply(self, parameters: Any, inputs: Any) -> Any:
        """Compute the outputs of the model.

        Args:
            parameters: The tree.
            inputs: A row for each example.

        Returns:
            Outputs, a row for each example.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method apply(self, parameters, inputs)")

    def train_data(self) -> Any:
        """Give what this node learns from: a tuple of inputs and targets, arrays by name, or a data set.

        Left as it is, it is `self.data`, this node's part of the data set that the layout names.
        """
        return self.data

    def eval_data(self) -> Any:
        """Give what this node judges on, as `train_data` does; None: it does not judge, and counts nothing."""
        return None

    def losses(self, parameters: Any, batch: Any, key: Any, *, training: bool = True) -> Any:
        """The loss of each example of a batch; traced.

        Args:
            parameters: The tree.
            batch: The arrays of the data; the usual losses take inputs and targets.
            key: Of JAX's random numbers, for dropout and the like: another one for each node, round and batch.
            training: False where the node judges.

        Returns:
            One number an example: the cross-entropy for whole numbers, else the mean squared error.
        """
        inputs, targets = batch
        outputs = self.apply(parameters, inputs)
        if jnp.issubdtype(targets.dtype, jnp.floating):
            squares = (outputs.reshape(targets.shape) - targets) ** 2
            return squares.reshape(len(targets), -1).mean(axis=1)
        logs = jax.nn.log_softmax(outputs)
        return -jnp.take_along_axis(logs, targets[:, None], axis=1)[:, 0]

    def optimizer(self, rates: Mapping[str, Any]) -> Any:
        """Make the optimiser; traced.

        Args:
            rates: `learning_rate`, `momentum` and `weight_decay` of the round: a change does not compile anything anew.

        Returns:
            What has `init(parameters)` and `update(gradients, state, parameters)`, as those of optax do: it gives what
            is to be added to the parameters, and the next state.
        """
        return Descent(rates)

    def metrics(self, parameters: Any, batch: Any) -> Mapping[str, Any]:
        """Figures of each example of a batch when the node judges; traced.

        The usual one is `accuracy`, for inputs and whole numbers.
        """
        if len(batch) != 2 or jnp.issubdtype(batch[1].dtype, jnp.floating):
            return {}
        return {"accuracy": (self.apply(parameters, batch[0]).argmax(axis=1) == batch[1]).astype(jnp.float32)}

    # -- what the federation calls -----------------------------------------------------------------

    def initial_parameters(self) -> Parameters:
        """The parameters of a new model; each node gives the same."""
        with jax.default_device(self._device):
            made = self.model(jax.random.PRNGKey(int(seed_of(self.config)) % 2**32))
            return {name: np.array(array) for name, array in tree_to_parameters(made).items()}

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Train the model on this node's data, for the epochs or steps that the config says.

        Returns:
            The trained parameters, the number of examples, and the mean loss over all batches as `loss`.

        Raises:
            TreeError: If the parameters are not the model's.
        """
        number = int(config.get("round", 0))
        work = self._work(number)

        def learnt(steps: CompiledSteps) -> FitResult:
            tree = parameters_to_tree(parameters, steps.form)
            learner, losses = steps.begin(tree, work.rates), []
            for place in range(len(work.order)):
                learner, loss = steps.step(
                    learner, work.batch(place), work.weights[place], (*work.seed, np.uint32(place)), work.rates
                )
                losses.append(loss)
            return work.result(learner[0], np.asarray(losses))

        with jax.default_device(self._device):
            return with_steps(self, learnt)

    @classmethod
    def fit_together(
        cls, nodes: Sequence[FederatedNode], parameters: Parameters, config: Mapping[str, Any]
    ) -> list[FitResult | None]:
        """Train the models of several nodes as one computation.

        Args:
            nodes: Nodes of this class.
            parameters: What they all start from.
            config: As in `fit`.

        Returns:
            What `fit` of each would give; None for a node that has to learn by itself.
        """
        number = int(config.get("round", 0))
        given: list[FitResult | None] = [None] * len(nodes)
        works: dict[int, _Work] = {}
        for place, node in enumerate(nodes):
            try:
                works[place] = node._work(number)  # type: ignore[attr-defined]
            except Exception:
                continue  # its own fit says what is wrong
        for places in _alike(works):
            if len(places) > 1:
                together = _together([nodes[place] for place in places], [works[place] for place in places], parameters)
                for place, result in zip(places, together, strict=False):
                    given[place] = result
        return given

    def evaluate(self, parameters: Parameters, config: Mapping[str, Any]) -> EvaluateResult:
        """Judge the parameters on `eval_data`.

        Returns:
            Mean loss and metrics over the examples; without data nothing, with the weight 0.

        Raises:
            TreeError: If the parameters are not the model's.
        """
        given = self.eval_data()
        if given is None:
            return EvaluateResult(0.0, 0, {})
        number = int(config.get("round", 0))
        arrays = self._arrays(given)
        count, size = len(arrays[0]), whole_of(self.config, "batch_size", BATCH_SIZE)
        if not count:
            return EvaluateResult(0.0, 0, {})
        work = _Work(arrays, *_filled([np.arange(count)], size), self._halves(number), self._rates())

        def judged(steps: CompiledSteps) -> EvaluateResult:
            tree = parameters_to_tree(parameters, steps.form)
            loss, sums = 0.0, dict[str, float]()
            for place in range(len(work.order)):
                batch, key = work.batch(place), (*work.seed, np.uint32(place))
                total, told = steps.judge(tree, batch, work.weights[place], key)
                loss += float(total)
                for name, value in told.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
            return EvaluateResult(loss / count, count, {name: value / count for name, value in sums.items()})

        with jax.default_device(self._device):
            return with_steps(self, judged)

    # -- a round's work ----------------------------------------------------------------------------

    @property
    def _device(self) -> Any:
        return device_of(str(self.config.get("device", "auto")))

    def _arrays(self, given: Any) -> tuple[Any, ...]:
        return as_arrays(given, f"node {self.node_id!r}: its data")

    def _halves(self, number: int) -> tuple[Any, Any]:
        seed = round_seed(seed_of(self.config), self.node_id, number)
        return np.uint32(seed % 2**32), np.uint32(seed >> 32)

    def _rates(self) -> dict[str, Any]:
        defaults = {"learning_rate": LEARNING_RATE, "momentum": 0.0, "weight_decay": 0.0}
        return {name: np.float32(number_of(self.config, name, default)) for name, default in defaults.items()}

    def _work(self, number: int) -> _Work:
        """Data, order and random numbers of a round."""
        arrays = self._arrays(self.train_data())
        count = len(arrays[0])
        if not count:
            raise RedError(f"node {self.node_id!r} has no examples to train on: train_data gave nothing")
        size, limit, rng = whole_of(self.config, "batch_size", BATCH_SIZE), steps_of(self.config), self.rng(number)
        epochs = whole_of(self.config, "local_epochs", LOCAL_EPOCHS)
        if limit is not None:
            epochs = math.ceil(limit / math.ceil(count / size))
        order, weights = _filled([rng.permutation(count) for _ in range(epochs)], size)
        return _Work(arrays, order[:limit], weights[:limit], self._halves(number), self._rates())


class _Work(NamedTuple):
    """What a node computes in a round: which examples each batch holds, and the figures that it learns with."""

    arrays: tuple[Any, ...]
    order: Any
    weights: Any
    seed: tuple[Any, Any]
    rates: dict[str, Any]

    def batch(self, place: int) -> tuple[Any, ...]:
        return tuple(array[self.order[place]] for array in self.arrays)

    def result(self, tree: Any, losses: Any) -> FitResult:
        """What the node gives; losses beyond its own batches are those of nodes beside it."""
        counts = self.weights.sum(axis=1)
        loss = float(np.dot(losses[: len(counts)], counts) / counts.sum())
        return FitResult(tree_to_parameters(tree), len(self.arrays[0]), {"loss": loss})


def _filled(epochs: list[Any], size: int) -> tuple[Any, Any]:
    """Batches of one shape: indices, and 1 for those that count; the last of an epoch is filled up with its first."""
    rows, weights = [], []
    for order in epochs:
        lacking = -len(order) % size
        rows.append(np.concatenate([order, np.repeat(order[:1], lacking)]).reshape(-1, size))
        weights.append(np.r_[np.ones(len(order), np.float32), np.zeros(lacking, np.float32)].reshape(-1, size))
    return np.concatenate(rows), np.concatenate(weights)


def _alike(works: Mapping[int, _Work]) -> list[list[int]]:
    """Who has batches of one shape and type, and of a number that differs by less than a factor of two.

    All go as many steps as the longest of them.
    """
    groups: dict[Any, list[int]] = {}
    for place, work in works.items():
        form = tuple((array.shape[1:], str(array.dtype)) for array in work.arrays)
        groups.setdefault((form, work.order.shape[1], (len(work.order) - 1).bit_length()), []).append(place)
    return list(groups.values())


def _together(nodes: Sequence[Any], works: Sequence[_Work], parameters: Parameters) -> list[FitResult]:
    """Some nodes as one computation; nothing if what they have compiled in differs."""
    node = nodes[0]
    steps: CompiledSteps = steps_for(node)
    if not all(steps.config.fits(one.config) for one in nodes):
        return []
    # One compilation for any number of nodes up to a power of two: those who fill it up learn nothing.
    width = 1 << (len(works) - 1).bit_length()
    spare = width - len(works)
    filled = [*works, *[works[0]] * spare]
    with jax.default_device(node._device):
        rates = {name: np.stack([work.rates[name] for work in filled]) for name in works[0].rates}
        learners = steps.begin_many(parameters_to_tree(parameters, steps.form), rates)
        halves = tuple(np.stack([work.seed[half] for work in filled]) for half in (0, 1))
        losses = []
        for place, batch, weights in _side_by_side(works, spare):
            key = (*halves, np.full(width, place, np.uint32))
            learners, loss = steps.step_many(learners, batch, weights, key, rates)
            losses.append(loss)
        if not all(steps.config.fits(one.config) for one in nodes):
            return []
        leaves, form = jax.tree_util.tree_flatten(learners[0])
        learnt = [np.asarray(leaf) for leaf in leaves]
        told = np.stack([np.asarray(loss) for loss in losses])
    return [
        work.result(jax.tree_util.tree_unflatten(form, [column[place] for column in learnt]), told[:, place])
        for place, work in enumerate(works)
    ]


def _side_by_side(works: Sequence[_Work], spare: int) -> Iterator[tuple[int, tuple[Any, ...], Any]]:
    """A row of batches for each node, step by step: the step's number, the batches and their weights.

    Rows are cut for a few steps at a time, so that memory does not depend on how many there are.  What is beyond a
    node's last batch are zeros that do not count.
    """
    most = max(len(work.order) for work in works)
    width = len(works) + spare
    ahead = max(1, CUT_AHEAD // max(1, width * sum(array.nbytes for array in works[0].batch(0))))
    for begin in range(0, most, ahead):
        steps = min(ahead, most - begin)
        columns = [
            _stacked([work.arrays[column][work.order[begin : begin + steps]] for work in works], steps, width)
            for column in range(len(works[0].arrays))
        ]
        weights = _stacked([work.weights[begin : begin + steps] for work in works], steps, width)
        for place in range(steps):
            yield begin + place, tuple(column[:, place] for column in columns), weights[:, place]


def _stacked(batches: list[Any], steps: int, width: int) -> Any:
    """Batches of some nodes in one array, and zeros beyond them."""
    made = np.zeros((width, steps, *batches[0].shape[1:]), batches[0].dtype)
    for row, those in zip(made, batches, strict=False):
        row[: len(those)] = those
    return made
