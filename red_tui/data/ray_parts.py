"""Parts of a data set of Ray Data: a stream each, of rows that are picked out where they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from red_tui.data.data_files import DataError
from red_tui.data.partition import ByColumn, NaturalId, Partition

BATCH_SIZE = 256


class RayPart:
    """A node's part of a data set of Ray Data.  Nothing is read before somebody iterates, and then block by block.

    Attributes:
        dataset: The part as a lazy data set of Ray Data, for whatever else that library can do with it.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def iter_batches(self, batch_size: int = BATCH_SIZE) -> Iterator[dict[str, Any]]:
        """The part's rows, in batches, in the order in which Ray Data reads them.

        Args:
            batch_size: Rows of a batch; the last may have fewer.

        Returns:
            Columns by name, as arrays whose first dimension are the rows.
        """
        for batch in self.dataset.iter_batches(batch_size=batch_size, batch_format="numpy"):
            if len(next(iter(batch.values()), ())):
                yield batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The part's rows, one by one."""
        for batch in self.iter_batches():
            for place in range(len(next(iter(batch.values())))):
                yield {name: column[place] for name, column in batch.items()}

    def count(self) -> int:
        """How many rows the part has; they are read for it."""
        return sum(len(next(iter(batch.values()))) for batch in self.iter_batches())


class RayParts:
    """A data set of Ray Data, dealt out by a rule: what `from_ray` gives.

    What a process has to know of the whole is read once, when the first part is asked for: the values of the key and of
    the rule's column, or, with `NaturalId`, the owners alone.

    Attributes:
        dataset: The data set.
        partition: The rule; None: that of the layout or the config.
        key: Name of the column whose values tell rows apart.
    """

    def __init__(self, dataset: Any, partition: Partition | None = None, key: str | None = None) -> None:
        self.dataset, self.partition, self.key = dataset, partition, key
        self._read: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": {}}

    def part(self, num_parts: int, part: int, partition: Partition | None = None) -> RayPart:
        """One part, lazily.

        Args:
            num_parts: Number of parts.
            part: The part's number, from 0.
            partition: The rule, where `from_ray` was given none.

        Raises:
            DataError: If there is no such column, keys do not tell rows apart, or a row has no key or no owner.
            PartitionError: If the data set cannot be dealt out so; with figures.
            IndexError: If there is no such part.
        """
        rule = self._rule(partition)
        if isinstance(rule, NaturalId):
            column, values = rule.column, self._owners(rule.column)
            chosen = rule.split(values, num_parts)[part]
        else:
            column, values = self._key(rule), self._sorted(rule)[0]
            chosen = rule.split(self.labels(rule), num_parts)[part]
        return RayPart(self.dataset.map_batches(RowsOf(column, values[chosen]), batch_size=None, batch_format="numpy"))

    def labels(self, partition: Partition | None = None) -> Any:
        """What the rule looks at: columns by name in the order of the keys, or the number of rows.

        Args:
            partition: The rule, where `from_ray` was given none.

        Raises:
            DataError: As `part`.
        """
        rule = self._rule(partition)
        if isinstance(rule, NaturalId):
            if ("column", rule.column) not in self._read:
                self._read["column", rule.column] = self._columns([rule.column], full=rule.column)[rule.column]
            return {rule.column: self._read["column", rule.column]}
        keys, labels = self._sorted(rule)
        return {rule.by: labels} if isinstance(rule, ByColumn) else len(keys)

    def _rule(self, partition: Partition | None) -> Partition:
        rule = self.partition or partition
        if rule is None:
            raise DataError("no rule deals this data set of Ray Data out: from_ray(dataset, partition)", source="")
        return rule

    def _key(self, rule: Partition) -> str:
        if self.key is None:
            raise DataError(
                f"{rule.name} deals out rows by number, and Ray Data reads rows in any order: name a column whose"
                " values tell rows apart, from_ray(dataset, partition, key=…), or deal out whole owners with"
                " NaturalId(column=…)",
                source="",
            )
        return self.key

    def _sorted(self, rule: Partition) -> tuple[Any, Any]:
        """The keys in ascending order, and beside them the values of the rule's column, or None."""
        name, by = self._key(rule), rule.by if isinstance(rule, ByColumn) else None
        if ("sorted", by) not in self._read:
            # Both in one pass: the next one may give the rows in another order.
            read = self._columns([name] if by in (None, name) else [name, by], full=name)
            order = np.argsort(read[name], kind="stable")
            keys = read[name][order]
            twice = np.flatnonzero(keys[1:] == keys[:-1])
            if len(twice):
                raise DataError(
                    f"column {name!r} does not tell rows apart: {keys[twice[0]]!s} is in more than one of the"
                    f" {len(keys):,} rows",
                    source="",
                )
            self._read["sorted", by] = keys, None if by is None else read[by][order]
        found: tuple[Any, Any] = self._read["sorted", by]
        return found

    def _owners(self, column: str) -> Any:
        if ("owners", column) not in self._read:
            self._known([column])
            owners = np.asarray(self.dataset.unique(column))
            if owners.ndim == 1 and _nulls(owners):
                self._columns([column], full=column)  # says in how many rows
            self._read["owners", column] = np.unique(_flat(owners, column))
        return self._read["owners", column]

    def _columns(self, names: list[str], full: str) -> dict[str, Any]:
        """Some columns, in one pass; one of them must have a value in every row."""
        self._known(names)
        parts: dict[str, list[Any]] = {name: [] for name in names}
        rows = nulls = 0
        for batch in self.dataset.select_columns(names).iter_batches(batch_size=None, batch_format="numpy"):
            for name in names:
                parts[name].append(_flat(np.asarray(batch[name]), name))
            rows, nulls = rows + len(batch[full]), nulls + _nulls(np.asarray(batch[full]))
        if nulls:
            raise _no_value(full, nulls, rows)
        return {name: np.concatenate(found) if found else np.zeros(0, np.int64) for name, found in parts.items()}

    def _known(self, names: list[str]) -> None:
        there = self.dataset.columns() or []
        for name in names:
            if name not in there:
                raise DataError(
                    f"the data set of Ray Data has no column {name!r}: it has {', '.join(map(str, there)) or 'none'}",
                    source="",
                )


class RowsOf:
    """Picks rows by the value of a column; it runs where blocks are read.

    Args:
        column: Name of the column.
        values: Values whose rows stay.
    """

    def __init__(self, column: str, values: Any) -> None:
        self.column, self.values = column, values

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Pick rows of a block.

        Args:
            batch: Columns by name.

        Returns:
            The rows that stay, as columns by name.
        """
        column = np.asarray(batch[self.column])
        if nulls := _nulls(column):
            raise _no_value(self.column, nulls, len(column))
        stays = np.isin(_flat(column, self.column), self.values)
        return {name: np.asarray(column)[stays] for name, column in batch.items()}


def _nulls(column: Any) -> int:
    """In how many rows there is no value: None, NaN, NaT."""
    if column.dtype == object:
        # What is missing in tables of pandas can be told neither equal nor unequal.
        return sum(
            value is None or type(value).__name__ in ("NAType", "NaTType") or _differs(value) for value in column
        )
    return int(np.count_nonzero(column != column)) if column.dtype.kind in "fcmM" else 0


def _differs(value: Any) -> bool:
    """Whether a value is a NaN: a number that is not equal to itself."""
    return isinstance(value, (float, complex, Decimal, np.generic)) and bool(value != value)


def _no_value(column: str, nulls: int, rows: int) -> DataError:
    return DataError(
        f"column {column!r} has no value in {nulls:,} of {rows:,} rows, and nobody could be given them: leave them out"
        f" (dataset.filter, or dataset.map_batches with a function that drops them), or fill them in",
        source="",
    )


def _flat(column: Any, name: str) -> Any:
    """One plain value a row."""
    if column.ndim != 1:
        raise DataError(f"column {name!r} has the shape {column.shape[1:]} a row: name one of single values", source="")
    if column.dtype == object:
        return np.asarray([str(value) for value in column], dtype=np.str_)
    return column


def from_ray(dataset: Any, partition: Partition | None = None, *, key: str | None = None) -> RayParts:
    """Deal a data set of Ray Data out: streams, which may be larger than a host's memory.

    Rows are picked out where blocks are read, so that only a node's own travel to it; each pass of a node reads the
    whole source once.  The reading takes CPUs that no placement group holds: leave one or more free.

    Args:
        dataset: A `ray.data.Dataset`.
        partition: The rule; None: that of the layout or the config.  `NaturalId` shards by a column.
        key: Name of a column whose values tell rows apart; every rule but `NaturalId` needs it, as Ray Data reads rows
            in any order.  The key and the column that the rule looks at must fit into memory, the data need not.  Each
            row must have a key or an owner.

    Returns:
        What a source of a layout may give, and the key `data` of a config; each node's `self.data` is then a `RayPart`.

    Raises:
        DataError: If it is no data set of Ray Data.
    """
    if not is_ray_dataset(dataset):
        raise DataError(f"from_ray takes a ray.data.Dataset, not {type(dataset).__name__}", source="")
    return RayParts(dataset, partition, key)


def is_ray_dataset(value: Any) -> bool:
    """Whether it is a data set of Ray Data; nothing is imported to tell."""
    return any(kind.__module__ == "ray.data.dataset" and kind.__name__ == "Dataset" for kind in type(value).__mro__)
