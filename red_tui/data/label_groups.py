"""The examples of a data set by label, each label's in an order of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.data.shuffle import Shuffle
from red_tui.errors import RedError


class PartitionError(RedError):
    """A data set cannot be dealt out by a rule.  Fields: rule (its name)."""

    exit_code = 2


class Groups:
    """The examples of a data set by label: a label's are looked for when somebody asks for them.

    Args:
        column: The label of each example.
        shuffle: Makes a permutation from its name and its size.
    """

    LOOKED_FOR = 32
    """Labels that are looked for one at a time; from then on all are sorted at once."""

    def __init__(self, column: npt.NDArray[Any], shuffle: Callable[[str, int], Shuffle]) -> None:
        self._shuffle = shuffle
        self._codes, num_labels = codes_of(column)
        self.counts: npt.NDArray[np.int64] = np.bincount(self._codes, minlength=num_labels).astype(np.int64)
        self.starts: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        self._found: dict[int, npt.NDArray[Any]] = {}
        self._sorted: npt.NDArray[Any] | None = None
        self._shuffles: dict[int, Shuffle] = {}

    def between(self, first: int, last: int) -> list[tuple[int, npt.NDArray[np.int64]]]:
        """Labels and places within them of a stretch of all examples in the order of their labels."""
        labels = range(
            int(np.searchsorted(self.starts, first, side="right")) - 1, int(np.searchsorted(self.starts, last))
        )
        starts = self.starts
        return [
            (label, np.arange(max(first, starts[label]), min(last, starts[label + 1])) - starts[label])
            for label in labels
        ]

    def examples(self, chosen: Sequence[tuple[int, npt.NDArray[np.int64]]]) -> npt.NDArray[np.int64]:
        """Indices of the examples at some places of some labels, in the label's own order."""
        members = self._members([label for label, places in chosen if len(places)])
        found = [
            members[label][self._shuffled(label, places)].astype(np.int64) for label, places in chosen if len(places)
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *found])

    def whole(self, labels: Sequence[int]) -> npt.NDArray[np.int64]:
        """Indices of all examples of some labels."""
        members = self._members(labels)
        return np.concatenate([members[label] for label in labels]).astype(np.int64)

    def _shuffled(self, label: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        shuffle = self._shuffles.get(label)
        if shuffle is None:
            shuffle = self._shuffles[label] = self._shuffle(f"label {label}", int(self.counts[label]))
        return shuffle.at(places)

    def _members(self, labels: Sequence[int]) -> Mapping[int, npt.NDArray[Any]]:
        missing = set(labels).difference(self._found)
        if self._sorted is None and len(self._found) + len(missing) > self.LOOKED_FOR:
            self._sorted = _sorted_by(self._codes)
        if self._sorted is not None:
            ordered, starts = self._sorted, self.starts
            return {label: ordered[starts[label] : starts[label + 1]] for label in labels}
        for label in missing:
            self._found[label] = np.flatnonzero(self._codes == label).astype(_index_type(len(self._codes)))
        return self._found


def _index_type(size: int) -> type[np.signedinteger[Any]]:
    return np.int32 if size < 2**31 else np.int64


def _sorted_by(codes: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[Any]:
    """Indices in the order of the codes; numbers of 16 bits are sorted in linear time, larger ones in two steps."""
    kind = _index_type(len(codes))
    order: npt.NDArray[Any] = np.argsort(codes.astype(np.uint16), kind="stable").astype(kind)
    if codes.dtype.itemsize > 2:
        high = (codes >> 16).astype(np.uint16)
        order = order[np.argsort(high[order], kind="stable")]
    return order


def codes_of(column: npt.NDArray[Any]) -> tuple[npt.NDArray[np.unsignedinteger[Any]], int]:
    """For each value the place of its label among all labels in ascending order, and the number of labels.

    The places are of the smallest unsigned type that holds them.
    """
    if column.dtype.kind in "iu" and column.size:
        low, high = int(column.min()), int(column.max())
        if high - low < max(65536, column.size):
            shifted = (column - column.dtype.type(low)).astype(np.min_scalar_type(high - low), copy=False)
            present = np.bincount(shifted, minlength=high - low + 1) > 0
            labels = int(present.sum())
            if labels == high - low + 1:
                return shifted, labels
            return (np.cumsum(present) - 1).astype(np.min_scalar_type(labels - 1))[shifted], labels
    if column.dtype.kind == "f" and np.isnan(column).any():
        raise PartitionError("a label is NaN: leave out what has no label, or give it one", rule="")
    try:
        found, codes = np.unique(column, return_inverse=True)
    except TypeError as error:
        raise PartitionError(
            f"labels of different kinds cannot be put in order ({error}): make all of them text, or all numbers",
            rule="",
        ) from error
    return codes.astype(np.min_scalar_type(max(len(found) - 1, 0))), len(found)
