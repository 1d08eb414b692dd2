"""How a data set is dealt out to nodes: rules that say which examples a part holds, without making the others."""

from __future__ import annotations

from red_tui.data.data_files import DataError
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
from red_tui.data.ray_parts import RayPart, RayParts, from_ray
from red_tui.data.source import DataRule, Examples, NoDataError

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
    "RayPart",
    "RayParts",
    "Shards",
    "Sizes",
    "Split",
    "describe",
    "from_ray",
    "make_partition",
]
