"""What the nodes of a process compute, compiled once for all of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from red_tui.errors import RedError
from red_tui.nodes.config import OLD_NAME, FederationConfig

MAX_COMPILED = 8
"""Max kinds of a template that are kept compiled: those of configs that differ in what was read while tracing."""

Result = TypeVar("Result")

_ABSENT = object()
TRACED = "_red_traced"
"""Marks the object that stands in for all nodes while their functions are traced."""


class Descent(NamedTuple):
    """Stochastic gradient descent with momentum and weight decay, as torch's `SGD` does it.

    Attributes:
        rates: `learning_rate`, `momentum` and `weight_decay`.
    """

    rates: Any

    def init(self, tree: Any) -> Any:
        """The velocities, which begin at zero."""
        return jax.tree_util.tree_map(jnp.zeros_like, tree)

    def update(self, gradients: Any, state: Any, tree: Any) -> tuple[Any, Any]:
        """What is to be added to the parameters, and the next velocities."""
        rates, mapped = self.rates, jax.tree_util.tree_map
        velocity = mapped(
            lambda slope, kept, value: (
                rates["momentum"] * kept + slope + rates["weight_decay"] * value
            ).astype(value.dtype),
            gradients, state, tree,
        )  # fmt: skip
        return mapped(lambda kept: (-rates["learning_rate"] * kept).astype(kept.dtype), velocity), velocity


class ReadKeys:
    """Which keys of a config were read while functions were traced: their values are compiled in.

    Attributes:
        config: The config.
        read: Values by key, as they were; a key that was asked for and is not there counts, too.
        names: The names of all keys, once all were read.
    """

    def __init__(self, config: FederationConfig) -> None:
        self.config = config
        self.read: dict[str, Any] = {}
        self.names: frozenset[str] | None = None

    def note(self, key: str) -> None:
        """A key is read."""
        self.read[key] = _value_of(self.config, key)

    def note_all(self) -> None:
        """All keys are read."""
        self.names = frozenset(self.config.as_dict())
        for key in (*self.names, *_private(self.config)):
            self.note(key)

    def differing(self, config: FederationConfig) -> list[str]:
        """The keys that another config has other values of, among those that were read."""
        changed = [key for key, value in list(self.read.items()) if not _same(value, _value_of(config, key))]
        others = self.names ^ frozenset(config.as_dict()) if self.names is not None else ()
        return sorted({*changed, *others})

    def fits(self, config: FederationConfig) -> bool:
        """Whether another config has the same values of all that was read."""
        return not self.differing(config)


class TracedConfig:
    """What functions see as their config while they are traced.

    What gives all keys, such as `as_dict` and all else that the class of the config has, reads all of them.

    Args:
        read: Where it is noted what is read.
    """

    # No name here may hide a key of the config.
    __slots__ = ("_red_read",)

    def __init__(self, read: ReadKeys) -> None:
        self._red_read = read

    def get(self, key: str, default: Any = None) -> Any:
        """As a config does."""
        self._red_read.note(key)
        return self._red_read.config.get(key, default)

    def __getattr__(self, name: str) -> Any:
        if name in TracedConfig.__slots__:
            raise AttributeError(name)  # a copy that is being made
        read = self._red_read
        if name == OLD_NAME or name in _private(read.config) or not hasattr(type(read.config), name):
            read.note(name)
        else:
            read.note_all()
        return getattr(read.config, name)

    def __iter__(self) -> Iterator[Any]:
        self._red_read.note_all()
        return iter(self._red_read.config)


def _private(config: FederationConfig) -> Mapping[str, Any]:
    return type(config).__private_attributes__


def _value_of(config: FederationConfig, key: str) -> Any:
    return getattr(config, key, _ABSENT) if key in _private(config) else config.get(key, _ABSENT)


def _same(one: Any, other: Any) -> bool:
    """Whether two values may be taken for each other; what cannot be compared may not."""
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    try:
        if isinstance(one, (np.ndarray, jax.Array)):
            return one.dtype == other.dtype and np.array_equal(np.asarray(one), np.asarray(other))
        return bool(one == other)
    except Exception:
        return False


class CompiledSteps:
    """The functions of a template, compiled, for all nodes whose config has the values that tracing read.

    Args:
        node: One of the nodes.  What stands in for all of them has its config and what the process shares, and
            nothing of its own.
    """

    def __init__(self, node: Any) -> None:
        self.config = ReadKeys(node.config)
        members = {"config": TracedConfig(self.config), "shared": node.shared}
        self._stand_in: Any = object.__new__(type(type(node).__name__, (type(node),), members))
        self._stand_in.__dict__[TRACED] = True
        self.form: Any = jax.eval_shape(self._stand_in.model, jax.random.PRNGKey(0))
        """The model as a tree of shapes and types."""
        self.begin = jax.jit(self._begin)
        self.step = jax.jit(self._step)
        self.begin_many = jax.jit(jax.vmap(self._begin, in_axes=(None, 0)))
        self.step_many = jax.jit(jax.vmap(self._step))
        self.judge = jax.jit(self._judge)

    def _begin(self, tree: Any, rates: Any) -> tuple[Any, Any]:
        """The parameters, and the state of the optimiser at the beginning of a round."""
        tree = jax.tree_util.tree_map(jnp.asarray, tree)
        return tree, self._stand_in.optimizer(rates).init(tree)

    def _step(self, learner: tuple[Any, Any], batch: Any, weights: Any, key: Any, rates: Any) -> tuple[Any, Any]:
        """One batch: the next parameters and state, and the mean loss.

        Args:
            learner: Parameters, and the state of the optimiser.
            batch: Arrays; a row for each example.
            weights: 1 for each example, 0 for a row that fills the batch up.
            key: Of the random numbers: two halves of the round's seed, and the number of the step.
            rates: Figures that may change without a new compilation.
        """
        tree, state = learner
        total = weights.sum()

        def mean_loss(parameters: Any) -> Any:
            losses = self._stand_in.losses(parameters, batch, _key(key))
            return jnp.where(weights > 0, losses, 0).sum() / jnp.maximum(total, 1)

        loss, gradients = jax.value_and_grad(mean_loss)(tree)
        updates, after = self._stand_in.optimizer(rates).update(gradients, state, tree)
        moved = jax.tree_util.tree_map(lambda value, more: (value + more).astype(value.dtype), tree, updates)
        learner = jax.tree_util.tree_map(lambda new, old: jnp.where(total > 0, new, old), (moved, after), learner)
        return learner, loss

    def _judge(self, tree: Any, batch: Any, weights: Any, key: Any) -> tuple[Any, Any]:
        """Sums of losses and metrics over the examples of a batch."""
        losses = self._stand_in.losses(tree, batch, _key(key), training=False)
        told = self._stand_in.metrics(tree, batch)
        total = {name: jnp.where(weights > 0, values, 0).sum() for name, values in told.items()}
        return jnp.where(weights > 0, losses, 0).sum(), total


def _key(key: Any) -> Any:
    made = jax.random.PRNGKey(key[0])
    return jax.random.fold_in(jax.random.fold_in(made, key[1]), key[2])


def steps_for(node: Any, *, anew: bool = False) -> CompiledSteps:
    """The compiled functions of this process that fit a node's config.

    Args:
        node: The node.
        anew: Whether they are made of this very node's config, whatever there is.
    """
    with _LOCK:
        known = COMPILED.setdefault(type(node), [])
        for steps in known:
            if not anew and steps.config.fits(node.config):
                return steps
        known.append(CompiledSteps(node))
        del known[:-MAX_COMPILED]
        return known[-1]


def with_steps(node: Any, compute: Callable[[CompiledSteps], Result]) -> Result:
    """Compute with the compiled functions that fit a node's config.

    Tracing may read a key that the node has another value of than the node that they were made of: then the same is
    computed once more, with functions of this node's own.

    Args:
        node: The node.
        compute: Is given the functions, and may trace more of them.

    Returns:
        What it gave.

    Raises:
        RedError: If the config did not keep its values meanwhile.
    """
    for anew in (False, True):
        steps = steps_for(node, anew=anew)
        result = compute(steps)
        if steps.config.fits(node.config):
            return result
    differing = ", ".join(map(repr, steps.config.differing(node.config)))
    raise RedError(
        f"node {node.node_id!r}: the config has other values of {differing} than while {type(node).__name__} was"
        " compiled: nothing may change self.config within a round, and a key must give the same value each time"
    )


def device_of(told: str) -> Any:
    """The device that a node computes on: `auto` is a GPU if this process has a share of one, else the CPU."""
    # Several nodes on one card: each takes what it needs, instead of three quarters of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if told != "auto":
        return jax.devices(told)[0]
    import ray

    in_worker = ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE
    return jax.devices("cpu")[0] if in_worker and not ray.get_gpu_ids() else jax.devices()[0]


COMPILED: dict[type, list[CompiledSteps]] = {}
_LOCK = threading.Lock()
