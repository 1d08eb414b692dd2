"""Weighted sums of parameters: what a host adds up, and what a server makes of its hosts' sums."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from red_tui.nodes.arrays import FLOAT32, FLOAT64, MOST_EXAMPLES, trouble_of
from red_tui.nodes.extension_types import is_extension

Array = npt.NDArray[Any]

NEAR_TERMS = 8
"""Terms that are summed in float32, on two levels, before a sum moves to float64: the rounding stays
below 2 x 8 x 6e-8."""

EXAMPLES = frozenset({int, float})
"""Types of a plain number of examples."""

PIECE = 32_768
_RATIO_LIMIT = 1e3


class _DirectSum:
    """Sum of one array's updates in float64 (complex128 for complex ones)."""

    def __init__(self, like: Array) -> None:
        self._sum = np.zeros(like.shape, dtype=np.complex128 if like.dtype.kind == "c" else np.float64)
        self._scratch: Array | None = None

    def add(self, value: Array, weight: float) -> None:
        if weight == 1.0:
            self._sum += value
        else:
            if self._scratch is None:
                self._scratch = np.empty_like(self._sum)
            np.multiply(value, weight, out=self._scratch, dtype=self._sum.dtype)
            np.add(self._sum, self._scratch, out=self._sum)

    def sum(self) -> Array:
        """The sum; nothing is added to it any more."""
        return self._sum

    def mean(self, total: float) -> Array:
        return np.asarray(self._sum / total)


class SpareArrays:
    """Float32 arrays that nobody needs any more, for sums that follow: new memory costs more than an addition."""

    def __init__(self) -> None:
        self._spare: dict[tuple[int, ...], list[Array]] = {}

    def take(self, shape: tuple[int, ...]) -> Array:
        """An array with any numbers in it."""
        spare = self._spare.get(shape)
        return spare.pop() if spare else np.empty(shape, dtype=np.float32)

    def give(self, array: Array) -> None:
        """Nobody needs an array any more."""
        if array.dtype == np.float32:
            self._spare.setdefault(array.shape, []).append(array)


class _NearSum:
    """Sum of one array's updates, of at most 32 bits: a few in float32, a few of those sums, then in float64.

    `_near` holds the latest updates in units of the first one's weight, so that equal weights cost
    one addition and no product; `_middle` holds sums of them.  One scratch array serves all updates whose
    weights differ.
    """

    def __init__(self, like: Array, spare: SpareArrays) -> None:
        self._spare = spare
        self._near = spare.take(like.shape)
        self._middle: Array | None = None
        self._sums = 0
        self._far: Array | None = None
        self._scratch: Array | None = None
        self._unit = 1.0
        self._terms = 0

    def add(self, value: Array, weight: float) -> None:
        if weight == self._unit and 0 < self._terms < NEAR_TERMS:
            self._near += value
            self._terms += 1
            return
        if self._terms == NEAR_TERMS or (self._terms and not 1 / _RATIO_LIMIT < weight / self._unit < _RATIO_LIMIT):
            self._flush()
        if self._terms == 0:
            np.copyto(self._near, value)
            self._unit = weight
        else:
            if self._scratch is None:
                self._scratch = self._spare.take(self._near.shape)
            np.multiply(value, np.float32(weight / self._unit), out=self._scratch)
            self._near += self._scratch
        self._terms += 1

    def _flush(self) -> None:
        if self._unit != 1.0:
            self._near *= np.float32(self._unit)
        if self._sums == NEAR_TERMS:
            self._flush_middle()
        if self._middle is None:
            self._middle, self._near = self._near, self._spare.take(self._near.shape)
        elif self._sums == 0:
            self._middle, self._near = self._near, self._middle
        else:
            self._middle += self._near
        self._sums += 1
        self._terms = 0

    def _flush_middle(self) -> None:
        assert self._middle is not None
        if self._far is None:
            self._far = self._middle.astype(np.float64)
        else:
            self._far += self._middle
        self._sums = 0

    def sum(self) -> Array:
        """The sum; nothing is added to it any more."""
        if self._terms:
            self._flush()
        assert self._middle is not None
        for array in (self._near, self._scratch):
            if array is not None:
                self._spare.give(array)
        if self._far is None:
            return self._middle
        if self._sums:
            self._flush_middle()
        return self._far

    def mean(self, total: float) -> Array:
        if self._terms:
            self._flush()
        assert self._middle is not None
        if self._far is None:
            return np.asarray(self._middle / np.float32(total))
        if self._sums:
            self._flush_middle()
        return np.divide(self._far, total, out=np.empty(self._far.shape, dtype=np.float32), casting="same_kind")


class WeightedSum:
    """Adds updates up as they come, without a temporary for each.

    Float32, float16, bfloat16 and float8 arrays are added in float32 for `NEAR_TERMS` updates at a time and in float64
    beyond; everything else in float64.
    """

    def __init__(self, spare: SpareArrays | None = None) -> None:
        self._parts: dict[str, _DirectSum | _NearSum] = {}
        self._spare = spare or SpareArrays()
        self.total = 0.0
        self.count = 0

    def add(self, update: dict[str, Array], weight: float) -> None:
        """Add `weight` times the arrays of one update; all updates have the same names and shapes."""
        self.count += 1
        if weight <= 0:
            return
        self.total += weight
        if not self._parts:
            for name, value in update.items():
                near = (value.dtype.kind == "f" and value.dtype.itemsize <= 4) or is_extension(value.dtype)
                self._parts[name] = _NearSum(value, self._spare) if near else _DirectSum(value)
        for name, part in self._parts.items():
            part.add(update[name], weight)

    def sums(self) -> dict[str, Array]:
        """The sum, in float32 where that is exact enough so far; {} for none.  Nothing is added to it any more."""
        return {name: part.sum() for name, part in self._parts.items()}

    def mean(self) -> dict[str, Array]:
        """Sum divided by `total`, in float32 where the updates are float32 or float16, else in float64; {} for none."""
        return {name: part.mean(self.total) for name, part in self._parts.items()}


class PartialMean(NamedTuple):
    """What a host or an aggregator makes of its nodes' updates: their weighted mean, and the sum of the weights."""

    mean: dict[str, Array]
    total: float

    @property
    def nbytes(self) -> int:
        """Size of its arrays."""
        return sum(value.nbytes for value in self.mean.values())


def combine(means: Sequence[dict[str, Array]], totals: Sequence[float], dtypes: Mapping[str, Any]) -> dict[str, Array]:
    """The mean over all updates from the means of their hosts, in given types.

    Integer arrays are rounded to the nearest integer.

    Raises:
        ValueError: If all weights are zero.
    """
    having = [(mean, total) for mean, total in zip(means, totals, strict=True) if total > 0]
    whole = float(sum(total for _, total in having))
    if whole <= 0:
        raise ValueError("there is nothing to average: every update has zero examples")
    made: dict[str, Array] = {}
    for name, own in dtypes.items():
        parts = [np.asarray(part[name]) for part, _ in having]
        mean = np.empty(parts[0].shape, dtype=np.dtype(own))
        _mix([part.reshape(-1) for part in parts], [total / whole for _, total in having], mean.reshape(-1))
        made[name] = mean
    return made


Mixture = tuple[int, Sequence[tuple[int, int | None, float]]]
"""A row, and what its model is mixed of: (block, place in the block or None where the block is the model, weight)."""


def mix_models(plan: Sequence[Mixture], blocks: Sequence[Any]) -> list[dict[str, Array]]:
    """The models of some rows after a round's gossip: each the weighted mean of its own and its neighbours'.

    Args:
        plan: For each row what its model is made of; the weights of a row add up to 1.
        blocks: Models, or lists of models.
    """
    made = []
    for _, shares in plan:
        models = [blocks[block] if place is None else blocks[block][place] for block, place, _ in shares]
        types = {name: np.asarray(value).dtype for name, value in models[0].items()}
        made.append(combine(models, [weight for _, _, weight in shares], types))
    return made


def consensus_distance(models: Sequence[Mapping[str, Any]], mean: Mapping[str, Any]) -> float:
    """How far models are from their mean: the root of the mean square of |x_i - mean|, over all parameters.

    (Kong and others 2021, Consensus control for decentralized deep learning.)
    """
    total = 0.0
    for model in models:
        for name, value in model.items():
            gap = np.asarray(value, dtype=np.float64) - np.asarray(mean[name], dtype=np.float64)
            total += float(np.vdot(gap, gap).real)
    return float(np.sqrt(total / max(1, len(models))))


def _mix(parts: Sequence[Array], shares: Sequence[float], into: Array) -> None:
    """Weighted sum of flat arrays, a piece at a time: what is added in float64 stays in the processor's cache."""
    wide = np.complex128 if into.dtype.kind == "c" else np.float64
    for start in range(0, len(into), PIECE):
        piece = slice(start, start + PIECE)
        mixed = np.multiply(parts[0][piece], shares[0], dtype=wide)
        for part, share in zip(parts[1:], shares[1:], strict=True):
            mixed += np.multiply(part[piece], share, dtype=wide)
        into[piece] = np.rint(mixed) if into.dtype.kind in "iub" else mixed


STACK_MODEL_BYTES = 64_000
"""Models up to this size are stacked; larger ones cost more to copy than to look at one by one."""

STACK_BYTES = 512_000
STACK_ROWS = 64
"""Max updates in a stack, fewer for larger models: a stack has to fit a core's cache."""


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
        self._bad: dict[int, tuple[str, str]] = {}
        """Updates on the stack that do not count, as far as they were looked at."""
        self._checked = 0

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

    def check(self) -> dict[int, tuple[str, str]]:
        """Look at the updates that were put on the stack since the last look.

        They stay there: what is added up with what must not depend on when somebody looked.

        Returns:
            Those that are not finite or too large, which do not count: their places on the stack, in the order of
            `push`, with the name of the array and what is wrong with it.
        """
        bad: dict[int, tuple[str, str]] = {}
        first, depth = self._checked, len(self._weights)
        if first < depth:
            for name, stack in self._stacks.items():
                with np.errstate(all="ignore"):
                    modest = _modest(stack[first:depth])
                if not modest:
                    troubles = enumerate(map(trouble_of, stack[first:depth]), first)
                    bad.update({place: (name, trouble) for place, trouble in troubles if trouble})
            self._checked = depth
            self._bad.update(bad)
        return bad

    def settle(self) -> dict[int, tuple[str, str]]:
        """Add up what is on the stack.

        Returns:
            What `check` gives, of updates that it had not looked at yet.
        """
        depth = len(self._weights)
        if not depth:
            return {}
        found: dict[int, tuple[str, str]] = {}
        if FLOAT64 in self._types.values():
            # A number that is too large may become small enough by its weight; one of float32 is none or stays one.
            found = self.check()
        weights = self._weights
        heaviest = float(max(weights))
        for place in self._bad:
            for stack in self._stacks.values():
                stack[place] = 0
        with np.errstate(all="ignore"):
            if weights.count(heaviest) < depth:
                share = np.asarray(weights) / heaviest
                for stack in self._stacks.values():
                    stack[:depth] *= share[:, None].astype(stack.dtype)
            sums = {} if self._bad else {name: _added(stack, depth) for name, stack in self._stacks.items()}
            if not sums or not all(map(_modest, sums.values())):
                # Some do not count, or what is finite by itself was too large to be added up in its own type.  The sum
                # is the same whether they were found now or when somebody looked before.
                found |= self.check()
                for place in self._bad:
                    weights[place] = 0.0
                    for stack in self._stacks.values():
                        stack[place] = 0
                sums = {
                    name: np.add.reduce(stack[:depth], axis=0, dtype=np.float64) for name, stack in self._stacks.items()
                }
        bad = self._bad
        self._weights, self._bad, self._checked = [], {}, 0
        for name, value in sums.items():
            into = self._sums[name]
            into += (value if heaviest == 1.0 else heaviest * value).reshape(into.shape)
        self.total += fsum(weights)
        self.count += depth - len(bad)
        return found

    def taken(self) -> dict[str, Array]:
        """The sum, which is nothing again; what is on the stack is not in it."""
        sums, self._sums = self._sums, {name: np.zeros_like(value) for name, value in self._sums.items()}
        return sums

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
