"""Ids of nodes.  Ids that follow a pattern are kept as the pattern: a million of them cost one object."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

SERVER_ID = "server"
"""The one node that aggregates; it has this id in every federation."""

ID_RULE = "1 to 63 of A-Z a-z 0-9 . _ -, starting with a letter or digit"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_FIELD = re.compile(r"\{i(?::0(\d+)d)?\}")
_RESERVED = re.compile(r"(supervisor|topology|bundle-\d+)\Z")


def check_id(node_id: str, what: str = "node id") -> str:
    """Return `node_id` if it may name a node or federation.

    Raises:
        ValueError: If it breaks `ID_RULE` or is a word that the cluster's names reserve.
    """
    if not isinstance(node_id, str) or not _ID.match(node_id):
        raise ValueError(f"{node_id!r} cannot be a {what}: use {ID_RULE}")
    if _RESERVED.match(node_id):
        raise ValueError(f"{node_id!r} cannot be a {what}: supervisor, topology and bundle-K are reserved names")
    return node_id


def is_pattern(text: str) -> bool:
    """Whether `text` holds the `{i}` (or `{i:03d}`) of an id pattern."""
    return _FIELD.search(text) is not None


@dataclass(frozen=True)
class PatternIds:
    """`prefix + str(i).zfill(width) + suffix` for `i` from `first` to `first + count - 1`."""

    prefix: str
    suffix: str
    first: int
    count: int
    width: int = 0

    @classmethod
    def parse(cls, pattern: str, count: int, first: int = 0) -> PatternIds:
        """Read a pattern such as `client_{i}` or `client_{i:03d}`.

        Raises:
            ValueError: If it holds no or several `{i}`, or makes ids that break `ID_RULE`.
        """
        fields = list(_FIELD.finditer(pattern))
        if len(fields) != 1:
            raise ValueError(f"{pattern!r} is not an id pattern: it needs exactly one {{i}} (or {{i:03d}})")
        found = fields[0]
        made = cls(pattern[: found.start()], pattern[found.end() :], first, count, int(found.group(1) or 0))
        check_id(made[0])
        check_id(made[max(0, count - 1)])
        return made

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> str:
        return f"{self.prefix}{self.first + index:0{self.width}d}{self.suffix}"

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(self.count))

    def index(self, node_id: str) -> int | None:
        """Position of `node_id`, or None."""
        if not (node_id.startswith(self.prefix) and node_id.endswith(self.suffix)):
            return None
        digits = node_id[len(self.prefix) : len(node_id) - len(self.suffix)]
        if not (digits.isascii() and digits.isdigit()):
            return None
        index = int(digits) - self.first
        return index if 0 <= index < self.count and self[index] == node_id else None

    def match(self, glob: str) -> npt.NDArray[np.bool_]:
        """Which ids match a glob; a literal and `literal*` are answered by arithmetic."""
        mask = np.zeros(self.count, dtype=bool)
        if not any(sign in glob for sign in "*?["):
            index = self.index(glob)
            if index is not None:
                mask[index] = True
            return mask
        literal = glob[:-1]
        if glob.endswith("*") and not any(sign in literal for sign in "*?["):
            if self.prefix.startswith(literal):
                mask[:] = True
                return mask
            if not literal.startswith(self.prefix):
                return mask
            digits = literal[len(self.prefix) :]
            if digits.isascii() and digits.isdigit() and not self.width:
                self._mark_leading(mask, digits)
                return mask
        expression = re.compile(fnmatch.translate(glob))
        for index, node_id in enumerate(self):
            mask[index] = expression.match(node_id) is not None
        return mask

    def _mark_leading(self, mask: npt.NDArray[np.bool_], digits: str) -> None:
        """Mark numbers whose decimal text starts with `digits`: one range per number of digits."""
        if digits[0] == "0":
            spans = [(0, 1)] if digits == "0" else []
        else:
            spans = [(int(digits) * 10**more, (int(digits) + 1) * 10**more) for more in range(20 - len(digits))]
        for low, high in spans:
            start, stop = max(low - self.first, 0), min(high - self.first, self.count)
            if start < stop:
                mask[start:stop] = True

    def to_wire(self) -> list[Any]:
        """Plain data for `segment_from_wire`."""
        return ["pattern", self.prefix, self.suffix, self.first, self.count, self.width]


@dataclass(frozen=True)
class ListedIds:
    """Ids given one by one."""

    ids: tuple[str, ...]
    _positions: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._positions.update({node_id: index for index, node_id in enumerate(self.ids)})

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> str:
        return self.ids[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def index(self, node_id: str) -> int | None:
        """Position of `node_id`, or None."""
        return self._positions.get(node_id)

    def match(self, glob: str) -> npt.NDArray[np.bool_]:
        """Which ids match a glob."""
        expression = re.compile(fnmatch.translate(glob))
        return np.fromiter((expression.match(i) is not None for i in self.ids), dtype=bool, count=len(self.ids))

    def to_wire(self) -> list[Any]:
        """Plain data for `segment_from_wire`."""
        return ["listed", list(self.ids)]


Segment = PatternIds | ListedIds


def segment_from_wire(data: Sequence[Any]) -> Segment:
    """The segment that `to_wire` described."""
    if data[0] == "pattern":
        return PatternIds(str(data[1]), str(data[2]), int(data[3]), int(data[4]), int(data[5]))
    return ListedIds(tuple(data[1]))


class IdSpace:
    """The ids of a table's rows, as consecutive segments."""

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self._segments: list[Segment] = []
        self._starts: list[int] = []
        self._length = 0
        for segment in segments:
            self.extend(segment)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments in row order."""
        return tuple(self._segments)

    def extend(self, segment: Segment) -> range:
        """Append ids and return their rows.  Uniqueness is the table's business."""
        rows = range(self._length, self._length + len(segment))
        self._starts.append(self._length)
        self._segments.append(segment)
        self._length = rows.stop
        return rows

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < self._length:
            raise IndexError(row)
        where = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._segments[where][row - self._starts[where]]

    def __iter__(self) -> Iterator[str]:
        for segment in self._segments:
            yield from segment

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> list[str]:
        """The ids of some rows, in their order; the segment is looked up once for a run of rows."""
        if len(rows) == 0:
            return []
        where = np.searchsorted(self._starts, rows, side="right") - 1
        cuts = np.flatnonzero(np.diff(where)) + 1
        found: list[str] = []
        for run, part in zip(np.split(rows, cuts), where[np.r_[0, cuts]].tolist(), strict=True):
            segment, start = self._segments[part], self._starts[part]
            found += [segment[row - start] for row in run.tolist()]
        return found

    def rows_of(self, node_id: str) -> list[int]:
        """All rows that ever had this id (a removed node's id can be used again), oldest first."""
        found = []
        for start, segment in zip(self._starts, self._segments, strict=True):
            index = segment.index(node_id)
            if index is not None:
                found.append(start + index)
        return found

    def match(self, glob: str) -> npt.NDArray[np.bool_]:
        """One boolean per row: whether its id matches the glob."""
        if not self._segments:
            return np.zeros(0, dtype=bool)
        return np.concatenate([segment.match(glob) for segment in self._segments])

    def to_wire(self, first_segment: int = 0) -> list[list[Any]]:
        """Segments from `first_segment` on, as plain data."""
        return [segment.to_wire() for segment in self._segments[first_segment:]]
