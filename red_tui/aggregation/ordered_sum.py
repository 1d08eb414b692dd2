"""Updates that come in any order, added up in the order of their nodes, for hosts with several places for work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from red_tui.aggregation.weighted_sum import NEAR_TERMS, Array, SpareArrays, StackedSum, WeightedSum, stacks

FAR_LEVEL = 3
"""Sums of `NEAR_TERMS` x 2**3 updates and more are in float64."""

Sums = dict[str, Array]


class _Run:
    """Neighbouring places: updates are added in their order, and wait while those before them have not come."""

    def __init__(self, first: int, end: int, added: StackedSum | WeightedSum) -> None:
        self.next, self._end = first, end
        self._added = added
        self._waiting: dict[int, tuple[Mapping[str, Array], float] | None] = {}

    def put(self, place: int, given: tuple[Mapping[str, Array], float] | None) -> bool:
        """Note what has come of a place, None for nothing; True if the run is over."""
        if place != self.next:
            # The arrays are the node's, and another one may be about to write there.
            copy = None if given is None else ({name: np.array(value) for name, value in given[0].items()}, given[1])
            self._waiting[place] = copy
            return False
        self._add(given)
        self.next += 1
        while self.next in self._waiting:
            self._add(self._waiting.pop(self.next))
            self.next += 1
        return self.next == self._end

    def end(self) -> None:
        """Those who have not come do not count."""
        for place in sorted(self._waiting):
            self._add(self._waiting[place])
        self._waiting.clear()

    def _add(self, given: tuple[Mapping[str, Array], float] | None) -> None:
        if given is None:
            return
        if isinstance(self._added, StackedSum):
            self._added.put(*given)
        else:
            self._added.add(dict(given[0]), given[1])

    def sums(self) -> Sums:
        """What the run adds up to; {} for nothing."""
        if isinstance(self._added, StackedSum):
            self._added.settle()
            return self._added.taken() if self._added.total > 0 else {}
        return self._added.sums()


class OrderedSum:
    """A weighted sum like `WeightedSum` whose bytes do not depend on the order in which updates come.

    Places are cut into runs.  Within a run updates are added in the order of places; two neighbouring runs that are
    complete become one sum, two such sums the next, and so on: the shape of this tree depends on places only.  One node
    that takes long therefore holds up the updates of its own run and one sum on each level, however many nodes overtake
    it.

    Args:
        model: The model: updates have its names, shapes and kinds of type, and are finite.
        count: Number of places.
    """

    def __init__(self, model: Mapping[str, Array], count: int) -> None:
        self._model = {name: np.asarray(value) for name, value in model.items()}
        self._stacked = stacks(self._model)
        self._length = StackedSum(self._model).capacity if self._stacked else NEAR_TERMS
        self._far = 0 if self._stacked else FAR_LEVEL
        self._places = count
        self._open: dict[int, _Run] = {}
        self._sums: dict[tuple[int, int], Sums] = {}
        """Sums of complete runs, by level and number: a level's number n stands for runs n * 2**level and on."""
        self._weights: list[float] = []
        self._spare = SpareArrays()
        self.count = 0

    @property
    def total(self) -> float:
        """Sum of the weights, to the nearest float."""
        return math.fsum(self._weights)

    def add(self, place: int, update: Mapping[str, Array], weight: float) -> None:
        """Add `weight` times the arrays of the update of a place."""
        self.count += 1
        self._weights.append(weight)
        self._put(place, (update, weight) if weight > 0 else None)

    def skip(self, place: int) -> None:
        """A place has no update: its node failed."""
        self._put(place, None)

    def mean(self) -> dict[str, Array]:
        """Sum divided by `total`: float32 for what is no wider, else float64; {} for none.  It ends the sum."""
        for number in sorted(self._open):
            run = self._open.pop(number)
            run.end()
            self._join(number, run.sums())
        whole: Sums = {}
        for _, sums in sorted(self._sums.items(), key=lambda item: item[0][1] << item[0][0]):
            whole = _added(whole, sums, far=True)
        self._sums.clear()
        total = self.total
        made = {}
        for name, value in whole.items():
            like = self._model[name].dtype
            near = like.kind == "f" and like.itemsize <= 4
            made[name] = np.asarray(value / total).astype(np.float32 if near else value.dtype, copy=False)
        return made

    def _put(self, place: int, given: tuple[Mapping[str, Array], float] | None) -> None:
        number = place // self._length
        run = self._open.get(number)
        if run is None:
            first = number * self._length
            added = StackedSum(self._model) if self._stacked else WeightedSum(self._spare)
            run = self._open[number] = _Run(first, min(first + self._length, self._places), added)
        if run.put(place, given):
            del self._open[number]
            self._join(number, run.sums())

    def _join(self, number: int, sums: Sums) -> None:
        """A run is complete: join it with its neighbour if that is, and both with theirs."""
        level = 0
        while (neighbour := self._sums.pop((level, number ^ 1), None)) is not None:
            left, right = (neighbour, sums) if number & 1 else (sums, neighbour)
            level, number = level + 1, number >> 1
            sums = _added(left, right, far=level >= self._far)
            for name, value in right.items():
                if sums and sums[name] is not value:
                    self._spare.give(value)
        self._sums[level, number] = sums


def _added(left: Sums, right: Sums, *, far: bool) -> Sums:
    """Left plus right; it may be made of either."""
    if not left or not right:
        return left or right
    for name, value in left.items():
        other: Any = right[name]
        if far and value.dtype == np.float32:
            left[name] = np.asarray(np.add(value, other, dtype=np.float64))
        else:
            same = value.dtype == np.result_type(value, other)
            left[name] = np.asarray(np.add(value, other, out=value if same else None))
    return left
