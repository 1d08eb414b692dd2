"""State and bundle of each row of a federation's table, as the events of a journal tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.journal.limits import BUNDLES_LIMIT, ROWS_LIMIT
from red_tui.protocol.events import Event

UNKNOWN = 255
"""State code of a row that no event has named."""

WAITING = 2_000
"""Spans that wait at most until they are written into the columns together."""

_DTYPES = {"state": "<u1", "bundle": "<i4", "seq": "<i8"}
_EMPTY = {"state": UNKNOWN, "bundle": -1, "seq": 0}

Spans = npt.NDArray[np.int64]
"""Half-open row ranges, one a line; a third column may hold a bundle."""


class Rows:
    """Three columns that grow: the last state, the bundle, and the event that said so.

    What events say of ranges waits and is written when somebody looks: of ranges that overlap, however many they are,
    only what the last one says is written.
    """

    def __init__(self) -> None:
        self._length = 0
        self._written = {name: np.empty(0, dtype=dtype) for name, dtype in _DTYPES.items()}
        # Spans, and what each column gets there: [first, stop, state, bundle, seq]; state is -1 for bundles only.
        self._waiting: list[Spans] = []
        self._waiting_spans = 0

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
        self._put(np.asarray([[row, row + 1, state, bundle, seq]], dtype=np.int64))

    def put_spans(self, spans: Spans, state: int, bundle: int, seq: int) -> None:
        """Set all rows of ranges."""
        said = np.empty((len(spans), 5), dtype=np.int64)
        said[:, :2], said[:, 2:] = spans, (state, bundle, seq)
        self._put(said)

    def put_bundles(self, spans: Spans) -> None:
        """Set the bundles of ranges; the third column holds them."""
        said = np.full((len(spans), 5), -1, dtype=np.int64)
        said[:, :2], said[:, 3] = spans[:, :2], spans[:, 2]
        self._put(said)

    def _put(self, said: Spans) -> None:
        if not len(said):
            return
        self._length = max(self._length, int(said[:, 1].max()))
        self._waiting.append(said)
        self._waiting_spans += len(said)
        if self._waiting_spans > WAITING:
            self._write()

    @property
    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        """The columns with all that was said."""
        if self._waiting or self._length > len(self._written["state"]):
            self._write()
        return self._written

    def _write(self) -> None:
        """Write what waits, in its order; of parts that several spans name only the last."""
        self._reach(self._length)
        said = np.concatenate(self._waiting) if self._waiting else np.empty((0, 5), dtype=np.int64)
        self._waiting, self._waiting_spans = [], 0
        bounds = said[0, :2] if len(said) == 1 else np.unique(said[:, :2])
        if len(bounds) < 2:
            return
        last = {name: np.full(len(bounds) - 1, -1, dtype=np.int64) for name in _DTYPES}
        places = np.searchsorted(bounds, said[:, :2])
        for index, (first, stop) in enumerate(places.tolist()):
            last["bundle"][first:stop] = index
            if said[index, 2] >= 0:
                last["state"][first:stop] = last["seq"][first:stop] = index
        for name, where in zip(_DTYPES, (2, 3, 4), strict=True):
            self._fill(name, bounds, last[name], said[:, where])

    def _fill(self, name: str, bounds: Any, last: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> None:
        """Write a column's values between bounds: neighbours that were said together as one."""
        column = self._written[name]
        cuts = np.concatenate(([0], np.flatnonzero(np.diff(last)) + 1, [len(last)]))
        for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            if last[start] >= 0:
                column[bounds[start] : bounds[stop]] = values[last[start]]

    def put_newer(self, newer: Rows) -> None:
        """Set what later events have set."""
        self._length = max(self._length, len(newer))
        told = np.flatnonzero(newer.seq)
        columns = self._columns
        for name, column in newer._columns.items():
            columns[name][told] = column[told]

    def _reach(self, length: int) -> None:
        """Make room for rows, doubling."""
        have = len(self._written["state"])
        if length > have:
            for name, old in self._written.items():
                self._written[name] = np.full(max(length, 2 * have, 64), _EMPTY[name], dtype=_DTYPES[name])
                self._written[name][:have] = old
        self._length = max(self._length, length)

    def copy(self) -> Rows:
        """Columns of their own that say the same."""
        made = Rows()
        made._reach(self._length)
        for name, column in self._columns.items():
            made._written[name][: self._length] = column[: self._length]
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
            ValueError: If there are not as many bytes, or a bundle that no pool has.
        """
        if len(data) - start != length * sum(np.dtype(dtype).itemsize for dtype in _DTYPES.values()):
            raise ValueError(f"{length:,} rows do not take {len(data) - start:,} bytes")
        made = cls()
        made._reach(length)
        for name, dtype in _DTYPES.items():
            made._written[name][:length] = np.frombuffer(data, dtype=dtype, count=length, offset=start)
            start += length * np.dtype(dtype).itemsize
        made.state[:] = codes[made.state]
        if length and not -1 <= int(made.bundle.min()) <= int(made.bundle.max()) < BUNDLES_LIMIT:
            raise ValueError("it names bundles that no pool has")
        return made


def read_spans(ranges: Sequence[Sequence[int]], width: int, limit: int = ROWS_LIMIT) -> Spans:
    """Half-open row ranges as an array of `width` columns.  No row is beyond `limit`, and they name no more in all.

    Raises:
        ValueError: If they are none, or name rows or bundles beyond what a federation can have.
        OverflowError: The same.
    """
    if not len(ranges):
        return np.empty((0, width), dtype=np.int64)
    spans = np.asarray(ranges, dtype=np.int64).reshape(-1, width)
    first, stop = spans[:, 0], spans[:, 1]
    if len(spans) == 1:  # most events name one range, and a journal has many of them
        good = 0 <= int(first[0]) <= int(stop[0]) <= limit
    else:
        good = not ((first < 0).any() or (stop < first).any() or (stop > limit).any())
        # Together too: many ranges that overlap name more rows than there are.
        good = good and int((stop - first).sum()) <= limit
    if width == 3:
        good = good and not ((spans[:, 2] < -1).any() or (spans[:, 2] >= BUNDLES_LIMIT).any())
    if len(spans) != len(ranges) or not good:
        raise ValueError(f"{str(ranges)[:80]} are no half-open row ranges")
    return spans


def spans_of(event: Event) -> list[list[int]]:
    """Half-open row ranges that an event names; none where they cannot be read."""
    try:
        return list(read_spans(event.data.get("rows") or (), 2).tolist())
    except (TypeError, ValueError, OverflowError):
        return []


def rows_of(spans: Spans) -> npt.NDArray[np.int64]:
    """All rows of half-open ranges, in their order."""
    lengths = spans[:, 1] - spans[:, 0]
    ends = np.cumsum(lengths)
    rows: npt.NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(spans[:, 0] - (ends - lengths), lengths)
    return rows
