"""How a data set is dealt out to nodes: rules that say which examples a part holds, without making the others."""

from __future__ import annotations

from red_tui.data.description import DataDescription, describe
from red_tui.data.label_groups import PartitionError
from red_tui.data.partition import (
    IID,
    Dirichlet,
    Explicit,
    NaturalId,
    Partition,
    Pathological,
    PowerLaw,
    Shards,
    Sizes,
    Split,
    make_partition,
)
from red_tui.data.source import DataError, DataRule, Examples, NoDataError

__all__ = [
    "IID",
    "DataDescription",
    "DataError",
    "DataRule",
    "Dirichlet",
    "Examples",
    "Explicit",
    "NaturalId",
    "NoDataError",
    "Partition",
    "PartitionError",
    "Pathological",
    "PowerLaw",
    "Shards",
    "Sizes",
    "Split",
    "describe",
    "make_partition",
]
