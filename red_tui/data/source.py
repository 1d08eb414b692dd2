"""Where a node's data come from: a source that a process opens once, a rule, and the part that is the node's own."""

from __future__ import annotations

import functools
import importlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.data.data_files import READERS, DataError, columns_of_table, read_columns
from red_tui.data.label_groups import PartitionError
from red_tui.data.partition import IID, ByColumn, IntArray, Labels, NaturalId, Partition, Split, make_partition
from red_tui.data.ray_parts import RayPart, RayParts, is_ray_dataset

OPENED_SOURCES = 4
LABEL_ATTRIBUTES = ("targets", "labels", "y")


class NoDataError(DataError, AttributeError):
    """A node has no data: nobody says where they come from."""


@dataclass(frozen=True)
class DataRule:
    """What a layout says under `data`.

    Attributes:
        source: `module:function`, which gives the data set; or a `.npz`, `.csv` or `.parquet` file.
        partition: The rule that deals it out.
        parts: Number of parts; None: one for each node that the federation begins with.
        options: Arguments by name for the function.
    """

    source: str
    partition: Partition = field(default_factory=IID)
    parts: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> DataRule:
        """The rule from plain data, as in a layout or a config.

        Raises:
            PartitionError: If there is no such rule, or its options make no sense.
        """
        named = dict(told.get("partition") or {"name": "iid"})
        rule = make_partition(str(named.pop("name", "iid")), named)
        return cls(str(told["source"]), rule, told.get("parts"), dict(told.get("options") or {}))

    def opened(self) -> Any:
        """The data set: opened once a process.

        Raises:
            DataError: If it cannot be opened, or gives nothing that can be dealt out.
        """
        return self._source().whole

    def labels(self) -> Labels:
        """What the rule looks at.

        Raises:
            DataError: If the data set cannot be opened, or has no labels and the rule looks at them.
        """
        return self._source().labels_for(self.partition)

    def split(self, num_parts: int) -> Split:
        """The parts of the data set; `parts` of the rule goes before `num_parts`.

        Raises:
            DataError: If it cannot be opened, or has no labels and the rule looks at them.
            PartitionError: If it cannot be dealt out so.
        """
        return self._source().split(self.partition, self.parts or num_parts)

    def _source(self) -> OpenedSource:
        return opened_source(self.source, json.dumps(self.options, sort_keys=True))


class OpenedSource:
    """A data set that a process has open, and how it was dealt out so far.

    Args:
        source: As the layout names it, for messages.
        whole: The data set.
    """

    def __init__(self, source: str, whole: Any) -> None:
        self.source, self.whole = source, whole
        self._labels: Labels | None = None
        self._splits: dict[tuple[Partition, int], Split] = {}
        self._lock = threading.Lock()

    def labels_for(self, rule: Partition) -> Labels:
        """What a rule looks at.

        Args:
            rule: The rule.

        Raises:
            DataError: If the data set has no labels, and the rule looks at them.
        """
        if isinstance(self.whole, RayParts):
            labels: Labels = self.whole.labels(rule)
            return labels
        if self._labels is None:
            self._labels = labels_of(self.whole, self.source)
        if isinstance(self._labels, int) and isinstance(rule, ByColumn):
            looked_at = rule.column if isinstance(rule, NaturalId) else rule.by
            raise DataError(
                f"{self.source} gives {type(self.whole).__name__} without labels, and {rule.name} looks at the"
                f" {looked_at} of each example: give arrays by name, a tuple whose last array are the labels, or a data"
                f" set with an attribute {', '.join(LABEL_ATTRIBUTES[:-1])} or {LABEL_ATTRIBUTES[-1]}",
                source=self.source,
            )
        return self._labels

    def split(self, rule: Partition, num_parts: int) -> Split:
        """The parts by a rule; kept for the next node that asks.

        Args:
            rule: The rule.
            num_parts: Number of parts.

        Raises:
            DataError: If the data set has no labels, and the rule looks at them.
            PartitionError: If it cannot be dealt out so.
        """
        with self._lock:
            split = self._splits.get((rule, num_parts))
            if split is None:
                if len(self._splits) >= OPENED_SOURCES:
                    self._splits.clear()
                split = self._splits[rule, num_parts] = rule.split(self.labels_for(rule), num_parts)
        return split


class Examples(Sequence[Any]):
    """Some examples of a data set that gives one at a time, such as one of torch; nothing is copied.

    Args:
        whole: The data set.
        indices: Which of its examples.
    """

    def __init__(self, whole: Any, indices: IntArray) -> None:
        self.whole, self.indices = whole, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Examples(self.whole, self.indices[index])
        return self.whole[int(self.indices[index])]

    def __iter__(self) -> Iterator[Any]:
        return (self.whole[int(index)] for index in self.indices)


def labels_of(data_set: Any, source: str = "") -> Labels:
    """What a rule looks at: columns by name, the last of several arrays, labels of a data set, or how many there are.

    Labels of a data set are its attribute `targets`, `labels` or `y`; of torch's `TensorDataset` the last tensor, of
    `Subset` and `ConcatDataset` those of what they are made of.

    Raises:
        DataError: If it is nothing that can be dealt out.
    """
    if isinstance(data_set, (Mapping, tuple)):
        arrays = dict(data_set) if isinstance(data_set, Mapping) else dict(enumerate(data_set))
        lengths = {name: _length(array, f"{source}: {name!r}", source) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{name!r} {length:,}" for name, length in lengths.items())
            raise DataError(
                f"{source}: its arrays have different lengths: {told}" if told else f"{source} gives no array",
                source=source,
            )
        labels: Labels = {str(name): array for name, array in arrays.items()}
        return labels if isinstance(data_set, Mapping) else np.asarray(data_set[-1])
    if isinstance(data_set, np.ndarray):
        return _length(data_set, f"{source}: the array", source)
    if not hasattr(data_set, "__getitem__"):
        raise DataError(
            f"{source} gives {type(data_set).__name__}, which cannot be dealt out: give arrays by name, a tuple of"
            " arrays (the last are the labels), a data set with a length and examples by number, or one of Ray Data",
            source=source,
        )
    length, found = _length(data_set, f"{source}: {type(data_set).__name__}", source), _labels_in(data_set)
    if found is None or found.ndim != 1:
        return length
    if len(found) != length:
        raise DataError(
            f"{source}: {type(data_set).__name__} has {len(found):,} labels for {length:,} examples", source=source
        )
    return found


def _length(array: Any, what: str, source: str) -> int:
    """How many examples there are."""
    try:
        return len(array)
    except TypeError:
        raise DataError(
            f"{what} has no length: it must be an array with a value for each example", source=source
        ) from None


def _labels_in(data_set: Any) -> npt.NDArray[Any] | None:
    """The labels of a data set that gives one example at a time, as an array, or None."""
    for name in LABEL_ATTRIBUTES:
        labels = getattr(data_set, name, None)
        if labels is not None and not callable(labels):
            return np.asarray(labels)
    tensors, within = getattr(data_set, "tensors", None), getattr(data_set, "datasets", None)
    if isinstance(tensors, tuple) and len(tensors) > 1:
        return np.asarray(tensors[-1])
    if isinstance(within, (list, tuple)) and within:
        each = [found for found in map(_labels_in, within) if found is not None and found.ndim == 1]
        return np.concatenate(each) if len(each) == len(within) else None
    if hasattr(data_set, "dataset") and hasattr(data_set, "indices"):
        inner = _labels_in(data_set.dataset)
        return None if inner is None else inner[np.asarray(data_set.indices, dtype=np.int64)]
    return None


def part_of(data_set: Any, indices: IntArray) -> Any:
    """Some examples of a data set, in its own shape: columns by name, a tuple of arrays, an array, or `Examples`."""
    if isinstance(data_set, Mapping):
        return {name: np.asarray(column)[indices] for name, column in data_set.items()}
    if isinstance(data_set, tuple):
        return tuple(array[indices] for array in data_set)
    if isinstance(data_set, np.ndarray):
        return data_set[indices]
    return Examples(data_set, indices)


def data_of(config: Any, node_id: str, kept: dict[str, Any]) -> Any:
    """What a node has of the federation's data set.

    Args:
        config: The node's config: `data` is what the layout says, or what `from_ray` gave; `node_index` the node's
            place among the nodes, `num_nodes` their number; `part` is another part than that of the place.
        node_id: For messages.
        kept: Where the node keeps which examples are its own.

    Returns:
        The examples, in the shape of the data set; of Ray Data a `RayPart`.

    Raises:
        NoDataError: If nobody says where its data come from.
        DataError: If the data set cannot be opened, or it has no part for this node.
        PartitionError: If it cannot be dealt out by the rule.
    """
    told = config.get("data")
    if isinstance(told, RayParts):
        if "_data_part" not in kept:
            kept["_data_part"] = _stream(told, None, config, node_id, "from_ray")
        return kept["_data_part"]
    if not isinstance(told, Mapping) or "source" not in told:
        raise NoDataError(
            f"node {node_id!r} has no data: write data: {{source: module:function}} into the layout, or set self.data"
            " in build",
            source="",
        )
    rule = DataRule.of(told)
    whole = rule.opened()
    if isinstance(whole, RayParts):
        if "_data_part" not in kept:
            if whole.partition is not None and told.get("partition") and whole.partition != rule.partition:
                raise DataError(
                    f"{rule.source} is dealt out by {whole.partition}, and data.partition says {rule.partition}: leave"
                    " one of them out",
                    source=rule.source,
                )
            kept["_data_part"] = _stream(whole, rule, config, node_id, rule.source)
        return kept["_data_part"]
    if "_data_indices" not in kept:
        kept["_data_indices"] = _indices(rule, config, node_id)
    return part_of(whole, kept["_data_indices"])


def _place(config: Any, node_id: str, num_parts: int, source: str) -> int:
    """The part of a node."""
    part = int(config.get("part", config.get("node_index", 0)))
    if not 0 <= part < num_parts:
        raise DataError(
            f"{source}: node {node_id!r} would have part {part}, and there are {num_parts:,} parts, numbered from"
            " 0: give data.parts for nodes that come later, or the node a config with part",
            source=source,
        )
    return part


def _stream(parts: RayParts, rule: DataRule | None, config: Any, node_id: str, source: str) -> RayPart:
    num_parts = (rule.parts if rule else None) or int(config.get("num_nodes", 1))
    return parts.part(num_parts, _place(config, node_id, num_parts, source), rule.partition if rule else None)


def _indices(rule: DataRule, config: Any, node_id: str) -> IntArray:
    split = rule.split(int(config.get("num_nodes", 1)))
    part = _place(config, node_id, len(split), rule.source)
    try:
        return split[part]
    except PartitionError:
        raise
    except Exception as error:
        raise DataError(f"{rule.source}: part {part} cannot be made: {error}", source=rule.source) from error


def opened_data(config: Any) -> Any:
    """The federation's data set, whole, as its source gives it.

    Args:
        config: The node's config.

    Raises:
        DataError: If it cannot be opened.
    """
    return DataRule.of(config.get("data")).opened()


def opened_source(source: str, options: str) -> OpenedSource:
    """What a source gives, opened once in a process, also where several threads ask.

    Args:
        source: A function as `module:function`, or a file.
        options: Of the function, as JSON.

    Raises:
        DataError: If there is no such source, or it cannot be opened.
    """
    with _OPENING:
        return _opened(source, options)


def forget_sources() -> None:
    """Open sources anew when they are asked for next."""
    _opened.cache_clear()


_OPENING = threading.RLock()


@functools.lru_cache(maxsize=OPENED_SOURCES)
def _opened(source: str, options: str) -> OpenedSource:
    if source.endswith(tuple(READERS)):
        if json.loads(options):
            raise DataError(f"{source}: options are for functions; a file takes none", source=source)
        columns = read_columns(Path(source).expanduser())
        labels_of(columns, source)
        return OpenedSource(source, columns)
    module, colon, name = source.partition(":")
    if not colon:
        raise DataError(
            f"{source!r} is no source of data: write module:function, or a file that ends in {' or '.join(READERS)}",
            source=source,
        )
    try:
        function = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise DataError(
            f"{source}: {error}; the module must lie beside the layout or be installed", source=source
        ) from error
    except AttributeError:
        raise DataError(f"{source}: the module {module} has no {name}", source=source) from None
    try:
        made = function(**json.loads(options)) if callable(function) else function
    except Exception as error:
        raise DataError(f"{source} raised {type(error).__name__}: {error}", source=source) from error
    whole = _whole(made, source)
    if not isinstance(whole, RayParts):
        labels_of(whole, source)
    return OpenedSource(source, whole)


def _whole(made: Any, source: str) -> Any:
    """A data set as it is dealt out: tables become columns by name, lists of values arrays."""
    library = type(made).__module__.partition(".")[0]
    if is_ray_dataset(made):
        return RayParts(made)
    if library == "pyarrow" and hasattr(made, "column_names"):
        return columns_of_table(made)
    if library == "pandas" and hasattr(made, "columns"):
        return {str(name): made[name].to_numpy() for name in made.columns}
    if isinstance(made, list) and all(isinstance(array, np.ndarray) for array in made):
        made = tuple(made)
    if isinstance(made, Mapping):
        return {name: _array(value, f"{source}: {name!r}", source) for name, value in made.items()}
    if isinstance(made, tuple):
        return tuple(_array(value, f"{source}: array {place}", source) for place, value in enumerate(made))
    return made


def _array(value: Any, what: str, source: str) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError(f"{what} cannot become an array: {error}", source=source) from error
