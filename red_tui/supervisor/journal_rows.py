"""State and bundle of each row of a federation's table, as the events of a journal tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

UNKNOWN = 255
"""State code of a row that no event has named."""

SLICES = 16
"""Up to so many row ranges are written one by one, more of them through one index."""

ROWS_LIMIT = 1 << 28
"""No table has so many rows: a range beyond it is a damaged event."""

_DTYPES = {"state": "<u1", "bundle": "<i4", "seq": "<i8"}
_EMPTY = {"state": UNKNOWN, "bundle": -1, "seq": 0}

Spans = npt.NDArray[np.int64]
"""Half-open row ranges, one a line; a third column may hold a bundle."""


class Rows:
    """Three columns that grow: the last state, the bundle, and the event that said so."""

    def __init__(self) -> None:
        self._length = 0
        self._columns = {name: np.empty(0, dtype=dtype) for name, dtype in _DTYPES.items()}

    def __len__(self) -> int:
        return self._length

    @property
    def state(self) -> npt.NDArray[np.uint8]:
        """Code of each row's state, or `UNKNOWN`."""
        return self._columns["state"][: self._length]

    @property
    def bundle(self) -> npt.NDArray[np.int32]:
        """Bundle of each row, -1 for none."""
        return self._columns["bundle"][: self._length]

    @property
    def seq(self) -> npt.NDArray[np.int64]:
        """Number of the event that last named each row, 0 for none."""
        return self._columns["seq"][: self._length]

    def put(self, row: int, state: int, bundle: int, seq: int) -> None:
        """Set one row."""
        self._reach(row + 1)
        self.state[row], self.bundle[row], self.seq[row] = state, bundle, seq

    def put_spans(self, spans: Spans, state: int, bundle: int, seq: int) -> None:
        """Set all rows of ranges."""
        if not len(spans):
            return
        self._reach(int(spans[:, 1].max()))
        few = len(spans) <= SLICES
        places: list[Any] = [slice(first, stop) for first, stop in spans.tolist()] if few else [rows_of(spans)]
        for place in places:
            self.state[place], self.bundle[place], self.seq[place] = state, bundle, seq

    def put_bundles(self, spans: Spans) -> None:
        """Set the bundles of ranges; the third column holds them."""
        if not len(spans):
            return
        self._reach(int(spans[:, 1].max()))
        if len(spans) <= SLICES:
            for first, stop, bundle in spans.tolist():
                self.bundle[first:stop] = bundle
        else:
            self.bundle[rows_of(spans)] = np.repeat(spans[:, 2], spans[:, 1] - spans[:, 0])

    def put_newer(self, newer: Rows) -> None:
        """Set what later events have set."""
        self._reach(len(newer))
        told = np.flatnonzero(newer.seq)
        for name, column in newer._columns.items():
            self._columns[name][told] = column[told]

    def _reach(self, length: int) -> None:
        """Make room for rows, doubling."""
        have = len(self._columns["state"])
        if length > have:
            for name, old in self._columns.items():
                self._columns[name] = np.full(max(length, 2 * have, 64), _EMPTY[name], dtype=_DTYPES[name])
                self._columns[name][: self._length] = old[: self._length]
        self._length = max(self._length, length)

    def copy(self) -> Rows:
        """Columns of their own that say the same."""
        made = Rows()
        made._reach(self._length)
        for name, column in self._columns.items():
            made._columns[name][: self._length] = column[: self._length]
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _DTYPES)

    def to_bytes(self) -> bytes:
        """The columns one after another."""
        return b"".join(column[: self._length].tobytes() for column in self._columns.values())

    @classmethod
    def from_bytes(cls, data: bytes, start: int, length: int, codes: npt.NDArray[np.uint8]) -> Rows:
        """The columns that `to_bytes` gave; `codes` turns the state codes of then into those of now.

        Raises:
            ValueError: If there are fewer bytes than that.
        """
        made = cls()
        made._reach(length)
        for name, dtype in _DTYPES.items():
            made._columns[name][:length] = np.frombuffer(data, dtype=dtype, count=length, offset=start)
            start += length * np.dtype(dtype).itemsize
        made.state[:] = codes[made.state]
        return made


def read_spans(ranges: Sequence[Sequence[int]], width: int) -> Spans:
    """Half-open row ranges as an array of `width` columns.

    Raises:
        ValueError: If they are none.
    """
    if not len(ranges):
        return np.empty((0, width), dtype=np.int64)
    spans = np.asarray(ranges, dtype=np.int64).reshape(-1, width)
    first, stop = spans[:, 0], spans[:, 1]
    if len(spans) == 1:  # most events name one range, and a journal has many of them
        good = 0 <= int(first[0]) <= int(stop[0]) <= ROWS_LIMIT
    else:
        good = not ((first < 0).any() or (stop < first).any() or (stop > ROWS_LIMIT).any())
    if len(spans) != len(ranges) or not good:
        raise ValueError(f"{str(ranges)[:80]} are no half-open row ranges")
    return spans


def rows_of(spans: Spans) -> npt.NDArray[np.int64]:
    """All rows of half-open ranges, in their order."""
    lengths = spans[:, 1] - spans[:, 0]
    ends = np.cumsum(lengths)
    rows: npt.NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(spans[:, 0] - (ends - lengths), lengths)
    return rows
