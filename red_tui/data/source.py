"""Where a node's data come from: a source that a process opens once, a rule, and the part that is the node's own."""

from __future__ import annotations

import csv
import functools
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.data.label_groups import PartitionError
from red_tui.data.partition import IID, IntArray, Labels, Partition, Split, make_partition
from red_tui.errors import RedError

OPENED_SOURCES = 4
LABEL_ATTRIBUTES = ("targets", "labels", "y")
SUFFIXES = (".npz", ".csv")


class DataError(RedError):
    """Data cannot be had.  Fields: source."""

    exit_code = 2


class NoDataError(DataError, AttributeError):
    """A node has no data: nobody says where they come from."""


@dataclass(frozen=True)
class DataRule:
    """What a layout says under `data`.

    Attributes:
        source: `module:function`, which gives the data set; or a `.npz` or `.csv` file.
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
        return opened_source(self.source, json.dumps(self.options, sort_keys=True))

    def split(self, num_parts: int) -> Split:
        """The parts of the data set; `parts` of the rule goes before `num_parts`.

        Raises:
            DataError: If it cannot be opened.
            PartitionError: If it cannot be dealt out so.
        """
        return self.partition.split(labels_of(self.opened(), self.source), self.parts or num_parts)


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
    """What a rule looks at: columns by name, the last of several arrays, an attribute of labels, or how many there are.

    Raises:
        DataError: If it is nothing that can be dealt out.
    """
    if isinstance(data_set, Mapping):
        return dict(data_set)
    if isinstance(data_set, tuple):
        lengths = {len(array) for array in data_set}
        if len(lengths) != 1:
            raise DataError(f"{source}: its arrays have different lengths: {sorted(lengths)}", source=source)
        return np.asarray(data_set[-1])
    for name in LABEL_ATTRIBUTES:
        labels = getattr(data_set, name, None)
        if labels is not None and not callable(labels):
            return np.asarray(labels)
    try:
        return len(data_set)
    except TypeError:
        raise DataError(
            f"{source} gives {type(data_set).__name__}, which cannot be dealt out: give arrays by name, a tuple of"
            " arrays (the last are the labels), or a data set with a length",
            source=source,
        ) from None


def part_of(data_set: Any, indices: IntArray) -> Any:
    """Some examples of a data set, in its own shape: columns by name, a tuple of arrays, an array, or `Examples`."""
    if isinstance(data_set, Mapping):
        return {name: np.asarray(column)[indices] for name, column in data_set.items()}
    if isinstance(data_set, tuple):
        return tuple(array[indices] for array in data_set)
    if isinstance(data_set, np.ndarray):
        return data_set[indices]
    return Examples(data_set, indices)


def node_indices(config: Any, node_id: str) -> IntArray:
    """Which examples of the federation's data set are a node's own.

    Args:
        config: The node's config: `data` is what the layout says, `node_index` the node's place among the nodes,
            `num_nodes` their number; `part` is another part than that of the place.
        node_id: For messages.

    Raises:
        NoDataError: If nobody says where its data come from.
        DataError: If the data set cannot be opened, or it has no part for this node.
        PartitionError: If it cannot be dealt out by the rule.
    """
    told = config.get("data")
    if not isinstance(told, Mapping) or "source" not in told:
        raise NoDataError(
            f"node {node_id!r} has no data: write data: {{source: module:function}} into the layout, or set self.data"
            " in build",
            source="",
        )
    rule = DataRule.of(told)
    part, num_nodes = int(config.get("part", config.get("node_index", 0))), int(config.get("num_nodes", 1))
    split = rule.split(num_nodes)
    if not 0 <= part < len(split):
        raise DataError(
            f"{rule.source}: node {node_id!r} would have part {part}, and there are {len(split):,} parts, numbered from"
            " 0: give data.parts for nodes that come later, or the node a config with part",
            source=rule.source,
        )
    try:
        return split[part]
    except PartitionError:
        raise
    except Exception as error:
        raise DataError(f"{rule.source}: part {part} cannot be made: {error}", source=rule.source) from error


def opened_data(config: Any) -> Any:
    """The federation's data set, whole, as its source gives it."""
    return DataRule.of(config.get("data")).opened()


@functools.lru_cache(maxsize=OPENED_SOURCES)
def opened_source(source: str, options: str) -> Any:
    """What a source gives, opened once in a process.

    Args:
        source: A function as `module:function`, or a file.
        options: Of the function, as JSON.

    Raises:
        DataError: If there is no such source, or it cannot be opened.
    """
    if source.endswith(SUFFIXES):
        if json.loads(options):
            raise DataError(f"{source}: options are for functions; a file takes none", source=source)
        return _read(Path(source).expanduser())
    module, colon, name = source.partition(":")
    if not colon:
        raise DataError(
            f"{source!r} is no source of data: write module:function, or a file that ends in {' or '.join(SUFFIXES)}",
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
    if isinstance(made, list) and all(isinstance(array, np.ndarray) for array in made):
        made = tuple(made)
    labels_of(made, source)
    return made


def _read(path: Path) -> dict[str, Any]:
    """Columns by name from a file."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        with path.open(newline="", encoding="utf-8") as lines:
            heads, *rows = list(csv.reader(lines)) or [[]]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as data: {error}", source=str(path)) from error
    for number, row in enumerate(rows, 2):
        if len(row) != len(heads):
            raise DataError(
                f"{path}, line {number}: {len(row)} fields, and the first line names {len(heads)}", source=str(path)
            )
    return {head: _typed([row[place] for row in rows]) for place, head in enumerate(heads)}


def _typed(values: Sequence[str]) -> Any:
    """Whole numbers, else numbers, else text."""
    for kind in (np.int64, np.float64):
        try:
            return np.asarray(values).astype(kind)
        except ValueError:
            continue
    return np.asarray(values)
