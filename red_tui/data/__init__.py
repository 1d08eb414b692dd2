"""How a data set is dealt out to nodes: rules that say which examples a part holds, without making the others."""

from __future__ import annotations

from red_tui.data.description import Description as Description, describe as describe
from red_tui.data.partition import (
    IID as IID,
    Dirichlet as Dirichlet,
    Explicit as Explicit,
    NaturalId as NaturalId,
    Partition as Partition,
    PartitionError as PartitionError,
    Pathological as Pathological,
    PowerLaw as PowerLaw,
    Shards as Shards,
    Sizes as Sizes,
    Split as Split,
    make_partition as make_partition,
)
