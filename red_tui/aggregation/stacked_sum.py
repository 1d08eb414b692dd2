"""Small updates of many nodes: copied as they come, then looked at and added up together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import fsum

import numpy as np

from red_tui.aggregation.weighted_sum import EXAMPLES, NEAR_TERMS, Array
from red_tui.nodes.arrays import FLOAT32, FLOAT64, MOST_EXAMPLES, trouble_of

STACK_MODEL_BYTES = 64_000
"""Models up to this size are stacked; larger ones cost more to copy than to look at one by one."""

STACK_BYTES = 512_000
STACK_ROWS = 64
"""A stack holds so many updates, fewer of larger models: it shall stay in a core's cache."""


def stacks(model: Mapping[str, Array]) -> bool:
    """Whether updates of a model can be stacked: it is small, and of float32 and float64 arrays only."""
    return (
        len(model) > 0
        and all(value.dtype is FLOAT32 or value.dtype is FLOAT64 for value in model.values())
        and sum(value.nbytes for value in model.values()) <= STACK_MODEL_BYTES
    )


class StackedSum:
    """A weighted sum like `WeightedSum` that takes updates a stack at a time.

    A call of numpy costs more than a small update does: what is done once a stack is nearly free.  Updates are
    copied, so that what is not finite is found with its node although the node has gone on with its buffers.

    Args:
        model: The model: updates have its names, shapes and types.
    """

    def __init__(self, model: Mapping[str, Array]) -> None:
        size = max(1, sum(value.nbytes for value in model.values()))
        self.capacity = max(NEAR_TERMS, min(STACK_ROWS, STACK_BYTES // size // NEAR_TERMS * NEAR_TERMS))
        self.total = 0.0
        self.count = 0
        self._stacks = {name: np.empty((self.capacity, value.size), dtype=value.dtype) for name, value in model.items()}
        self._places = [
            (name, stack.dtype, model[name].shape, [row.reshape(model[name].shape) for row in stack])
            for name, stack in self._stacks.items()
        ]
        self._sums = {name: np.zeros(value.shape, dtype=np.float64) for name, value in model.items()}
        self._types = {name: value.dtype for name, value in model.items()}
        self._weights: list[float] = []

    def push(self, update: Mapping[str, Array], weight: float) -> bool | None:
        """Put an update on the stack, if it looks like the model and its weight like a number of examples.

        Returns:
            True if the stack is full now: `settle` has to come before the next.  None if nothing was put on it.
        """
        weights = self._weights
        place = len(weights)
        if type(update) is not dict or len(update) != len(self._places):
            return None
        if type(weight) not in EXAMPLES or not 0 <= weight <= MOST_EXAMPLES:
            return None
        for name, dtype, shape, places in self._places:
            value = update.get(name)
            if type(value) is not np.ndarray or value.dtype is not dtype or value.shape != shape:
                return None
            places[place][...] = value
        weights.append(weight)
        return place + 1 == self.capacity

    def put(self, update: Mapping[str, Array], weight: float) -> bool:
        """As `push`, for an update that was checked: of other types than the model, say, but such as fit into it."""
        place = len(self._weights)
        for name, _, _, places in self._places:
            places[place][...] = update[name]
        self._weights.append(float(weight))
        return place + 1 == self.capacity

    def settle(self) -> dict[int, tuple[str, str]]:
        """Add up what is on the stack.

        Returns:
            Updates that are not finite or too large, which do not count: their places on the stack, in the order of
            `push`, with the name of the array and what is wrong with it.
        """
        weights, depth = self._weights, len(self._weights)
        if not depth:
            return {}
        self._weights = []
        heaviest = float(max(weights))
        with np.errstate(all="ignore"):
            if weights.count(heaviest) < depth:
                share = np.asarray(weights) / heaviest
                for stack in self._stacks.values():
                    stack[:depth] *= share[:, None].astype(stack.dtype)
            sums = {name: _added(stack, depth) for name, stack in self._stacks.items()}
            bad: dict[int, tuple[str, str]] = {}
            if not all(map(_modest, sums.values())):
                for name, stack in self._stacks.items():
                    if not np.isfinite(np.vdot(stack[:depth], stack[:depth])):
                        troubles = enumerate(map(trouble_of, stack[:depth]))
                        bad.update({place: (name, trouble) for place, trouble in troubles if trouble})
                finite = np.ones(depth, dtype=bool)
                finite[list(bad)] = False
                weights = np.asarray(weights)[finite].tolist()
                # What is finite by itself was too large to be added up in its own type.
                sums = {
                    name: np.add.reduce(stack[:depth][finite], axis=0, dtype=np.float64)
                    for name, stack in self._stacks.items()
                }
        for name, value in sums.items():
            into = self._sums[name]
            into += (value if heaviest == 1.0 else heaviest * value).reshape(into.shape)
        self.total += fsum(weights)
        self.count += depth - len(bad)
        return bad

    def mean(self) -> dict[str, Array]:
        """Sum divided by `total`, in the types of the model; {} for none."""
        if self.total <= 0:
            return {}
        return {name: (value / self.total).astype(self._types[name]) for name, value in self._sums.items()}


def _modest(array: Array) -> bool:
    """Whether every number of an array is finite, and so are their squares."""
    return math.isfinite(np.vdot(array, array))


def _added(stack: Array, depth: int) -> Array:
    """Sum of the first rows of a stack: `NEAR_TERMS` at a time in their own type, those sums in float64."""
    groups = -(-depth // NEAR_TERMS)
    padded = groups * NEAR_TERMS
    stack[depth:padded] = 0
    near = np.add.reduce(stack[:padded].reshape(groups, NEAR_TERMS, stack.shape[1]), axis=1)
    return np.asarray(np.add.reduce(near, axis=0, dtype=np.float64))
