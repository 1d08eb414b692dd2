"""All finished rounds of a federation, in bounded memory: the last ones whole, the older ones as columns.

What a round says of single nodes (who took part, who failed and why, how they did) is most of it.  Of older rounds that
is read from the journal when somebody asks, or lies packed in memory where there is no journal.
"""

from __future__ import annotations

import json
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from red_tui.nodes.ids import IdSpace
from red_tui.nodes.table import NO_ROWS, row_ranges
from red_tui.protocol.figures import better_of
from red_tui.protocol.snapshot import BestRound
from red_tui.rounds.history import History, NodeNames, NodeRows, RoundResult

WHOLE_KEPT = 500
"""Rounds that stay whole in memory, the last ones."""

NAMED_KEPT = 64
"""Nodes that failed or were left out whose causes an older round still names."""

COLUMNS_KEPT = 256
"""Measures that have a column; a name of its own for each round would make a column for each."""

Details = Mapping[str, Any]
"""What a round says of single nodes: `ids` or `rows`, `failures`, `left_out`, `spread`; and its `digests`."""

_NUMBERS = (
    "number", "loss", "seconds", "ended", "num_examples", "evaluated", "participants", "failed", "named", "left_out",
    "named_left_out",
)  # fmt: skip


class _Columns:
    """Numbers by name, a row for each round; grows by doubling."""

    def __init__(self) -> None:
        self._length = 0
        self._columns: dict[str, npt.NDArray[np.float64]] = {}
        self._told: dict[str, npt.NDArray[np.bool_]] = {}

    def __len__(self) -> int:
        return self._length

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return sum(column.nbytes for column in (*self._columns.values(), *self._told.values()))

    def append(self, values: Mapping[str, float]) -> bool:
        """Add a row; gives whether all values found room."""
        capacity = len(next(iter(self._columns.values()))) if self._columns else 0
        if self._length >= capacity:
            self._grow(max(256, 2 * capacity))
        whole = True
        for name, value in values.items():
            if name not in self._columns:
                if len(self._columns) >= COLUMNS_KEPT + len(_NUMBERS):
                    whole = False
                    continue
                capacity = max(256, len(next(iter(self._columns.values()))) if self._columns else 0)
                self._columns[name] = np.full(capacity, np.nan)
                self._told[name] = np.zeros(capacity, dtype=bool)
            self._columns[name][self._length] = value
            self._told[name][self._length] = True
        self._length += 1
        return whole

    def _grow(self, capacity: int) -> None:
        for name, column in self._columns.items():
            more = capacity - len(column)
            self._columns[name] = np.concatenate([column, np.full(more, np.nan)])
            self._told[name] = np.concatenate([self._told[name], np.zeros(more, dtype=bool)])

    def row(self, place: int) -> dict[str, float]:
        """The values of a row that were told."""
        return {name: float(column[place]) for name, column in self._columns.items() if self._told[name][place]}

    def value(self, name: str, place: int) -> float:
        """One value."""
        return float(self._columns[name][place])


class _PastNames(Sequence[str]):
    """Ids of the nodes of an older round; read when they are asked for."""

    __slots__ = ("_length", "_load")

    def __init__(self, length: int, load: Callable[[], Sequence[str]]) -> None:
        self._length, self._load = length, load

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]

    def __iter__(self) -> Iterator[str]:
        found = self._load()
        yield from found if len(found) == self._length else ("",) * self._length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self._length)

    def __repr__(self) -> str:
        return f"<{self._length} nodes of an older round>"


class _PastMapping(Mapping[str, Any]):
    """Something of an older round, by name; read when it is asked for."""

    __slots__ = ("_length", "_load")

    def __init__(self, load: Callable[[], Mapping[str, Any]], length: int | None = None) -> None:
        self._load, self._length = load, length

    def __len__(self) -> int:
        return len(self._load()) if self._length is None else self._length

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __getitem__(self, name: str) -> Any:
        return self._load()[name]

    def __repr__(self) -> str:
        return repr(dict(self._load()))


class RoundLog(Sequence[RoundResult]):
    """Finished rounds, oldest first.  One thread appends, any thread reads.

    Args:
        whole: Rounds that stay whole in memory, the last ones.
    """

    def __init__(self, whole: int = WHOLE_KEPT) -> None:
        self._whole_kept = whole
        self._old = _Columns()
        self._measures: list[dict[str, float] | None] = []
        """Measures of older rounds that found no column."""
        self._packed: dict[int, bytes] = {}
        """What older rounds say of single nodes, where no journal keeps it; by place."""
        self._whole: list[RoundResult] = []
        self._read: tuple[int, Details] = (-1, {})
        self._lock = threading.Lock()
        self.best: BestRound | None = None
        """The best round by its loss."""
        self.journal: Callable[[int], Details | None] | None = None
        """Finds the result of a round in the journal by its number; None where none is kept."""
        self.ids: IdSpace | None = None
        """Ids of the rows by which the journal names who took part."""

    # -- as a sequence ---------------------------------------------------------------------------

    def __len__(self) -> int:
        with self._lock:
            return len(self._old) + len(self._whole)

    @overload
    def __getitem__(self, index: int) -> RoundResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[RoundResult]: ...
    def __getitem__(self, index: int | slice) -> RoundResult | list[RoundResult]:
        if isinstance(index, slice):
            return [self._at(place) for place in range(*index.indices(len(self)))]
        length = len(self)
        place = index + length if index < 0 else index
        if not 0 <= place < length:
            raise IndexError(f"there are {length} rounds")
        return self._at(place)

    def __iter__(self) -> Iterator[RoundResult]:
        for place in range(len(self)):
            yield self._at(place)

    def history(self, of_nodes: Callable[[int], NodeRows] | None = None, last: int | None = None) -> History:
        """The last of them, or all, as they are now; `of_nodes` reads the figures of every node in a round."""
        with self._lock:
            older, whole = len(self._old), tuple(self._whole)
        wanted = older + len(whole) if last is None else last
        if wanted <= len(whole):
            return History(whole[len(whole) - wanted :], of_nodes)
        return History(RoundsOf(self, older + len(whole) - wanted, older + len(whole)), of_nodes)

    @property
    def nbytes(self) -> int:
        """Bytes that the older rounds take: columns, and what lies packed where no journal keeps it."""
        with self._lock:
            return self._old.nbytes + sum(map(len, self._packed.values()))

    @property
    def num_columns(self) -> int:
        """Columns of the older rounds."""
        return len(self._old.names)

    def of_number(self, number: int) -> RoundResult | None:
        """The round of a number, or None."""
        place = self._place(number)
        return self._at(place) if place < len(self) and self._number(place) == number else None

    def since(self, number: int) -> Iterator[RoundResult]:
        """The rounds from a number on."""
        return (self._at(place) for place in range(self._place(number), len(self)))

    def between(self, first: int, stop: int) -> History:
        """The rounds whose numbers are from `first` on and below `stop`."""
        return History(RoundsOf(self, self._place(first), self._place(stop)))

    def _place(self, number: int) -> int:
        return bisect_left(range(len(self)), number, key=lambda at: self._number(at))

    def append(self, result: RoundResult) -> None:
        """Add a round; the oldest of the whole ones becomes a row of columns."""
        self.best = better_of(self.best, result.summary)
        with self._lock:
            self._whole.append(result)
            while len(self._whole) > self._whole_kept:
                self._shed(self._whole[0])
                del self._whole[0]

    def _number(self, place: int) -> int:
        with self._lock:
            older = len(self._old)
            return self._whole[place - older].number if place >= older else int(self._old.value("number", place))

    def _at(self, place: int) -> RoundResult:
        with self._lock:
            older = len(self._old)
            return self._whole[place - older] if place >= older else self._restored(place)

    # -- older rounds ----------------------------------------------------------------------------

    def _shed(self, result: RoundResult) -> None:
        values: dict[str, float] = {
            "number": result.number,
            "loss": result.loss,
            "seconds": result.seconds,
            "ended": result.ended,
            "num_examples": result.num_examples,
            "evaluated": result.evaluated,
            "participants": len(result.participants),
            "failed": result.failed,
            "named": min(NAMED_KEPT, len(result.failures)),
            "left_out": result.num_left_out,
            "named_left_out": min(NAMED_KEPT, len(result.left_out)),
        }
        measures = {f"m {name}": value for name, value in result.metrics.items()}
        measures |= {f"t {name}": value for name, value in result.train_metrics.items()}
        self._measures.append(None if self._old.append({**values, **measures}) else measures)
        if self.journal is None:
            self._packed[len(self._old) - 1] = zlib.compress(json.dumps(details_of(result)).encode(), 6)

    def _restored(self, place: int) -> RoundResult:
        row = self._old.row(place)
        measures = self._measures[place] or {name: value for name, value in row.items() if name not in _NUMBERS}
        number = int(row["number"])

        def part(name: str) -> Callable[[], Any]:
            return lambda: self._details(place, number).get(name) or {}

        return RoundResult(
            number=number,
            loss=row["loss"],
            metrics={name[2:]: value for name, value in measures.items() if name.startswith("m ")},
            train_metrics={name[2:]: value for name, value in measures.items() if name.startswith("t ")},
            participants=_PastNames(int(row["participants"]), lambda: self._ids(place, number)),
            failures=_PastMapping(part("failures"), int(row["named"])) if row["named"] else {},
            seconds=row["seconds"],
            ended=row["ended"],
            num_examples=row["num_examples"],
            evaluated=int(row["evaluated"]),
            unnamed_failures=int(row["failed"] - row["named"]),
            spread=_PastMapping(part("spread")),
            left_out=_PastMapping(part("left_out"), int(row["named_left_out"])) if row["named_left_out"] else {},
            unnamed_left_out=int(row["left_out"] - row["named_left_out"]),
            digests=_PastMapping(part("digests")),
        )

    def _details(self, place: int, number: int) -> Details:
        """What an older round says of single nodes; empty where its journal has lost it."""
        with self._lock:
            at, found = self._read
            packed = self._packed.get(place)
        if at == place:
            return found
        if packed is not None:
            found = json.loads(zlib.decompress(packed))
        else:
            found = (self.journal(number) if self.journal is not None else None) or {}
        with self._lock:
            self._read = place, found
        return found

    def _ids(self, place: int, number: int) -> Sequence[str]:
        found = self._details(place, number)
        if found.get("ids"):
            return list(found["ids"])
        spans = [np.arange(first, stop) for first, stop in found.get("rows") or ()]
        rows = np.concatenate(spans) if spans else NO_ROWS
        known = self.ids is not None and (not len(rows) or int(rows.max()) < len(self.ids))
        return self.ids.take(rows) if self.ids is not None and known else ()


class RoundsOf(Sequence[RoundResult]):
    """Some rounds in a row of a log that grows: a history that stays as it was when it was asked for."""

    def __init__(self, log: RoundLog, first: int, stop: int) -> None:
        self._log, self._places = log, range(first, stop)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> RoundResult: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RoundResult, ...]: ...
    def __getitem__(self, index: int | slice) -> RoundResult | tuple[RoundResult, ...]:
        if isinstance(index, slice):
            return tuple(self._log[place] for place in self._places[index])
        return self._log[self._places[index]]


def details_of(result: RoundResult) -> dict[str, Any]:
    """What a round says of single nodes, as plain data whose size does not grow with those that failed."""
    names = result.participants
    return {
        **({"rows": row_ranges(names.rows)} if isinstance(names, NodeNames) else {"ids": list(names)}),
        "failures": dict(islice(result.failures.items(), NAMED_KEPT)),
        "left_out": dict(islice(result.left_out.items(), NAMED_KEPT)),
        "spread": dict(result.spread),
        "digests": dict(result.digests),
    }
