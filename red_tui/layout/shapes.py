"""What a layout says of who talks to whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from red_tui.layout.part import Part
from red_tui.layout.rules import NEED_EACH, Refused
from red_tui.nodes.hierarchy import Hierarchy
from red_tui.nodes.ids import Segment


class Topology(Part):
    """What schemas other than star need to know about neighbours."""

    k: Annotated[int, Field(ge=1)] | None = None
    """Neighbours of each node, for the schema k-connected."""
    adjacency: dict[str, list[str]] | None = None
    """Neighbours by node id, for the schema custom."""
    levels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] | None = None
    """Aggregators below each one of the level above, for the schema hierarchical: [4], or [4, 8]."""
    groups: dict[str, list[str]] | None = None
    """Ids of nodes, or patterns such as client_1*, by the id of their aggregator, for the schema hierarchical."""

    @property
    def aggregators(self) -> list[str]:
        """Ids of the aggregators that levels or groups name; none where these make no tree."""
        try:
            return Hierarchy(self.levels, self.groups).aggregators
        except ValueError:
            return []


class Mailbox(Part):
    """What happens where more messages come than a node reads."""

    capacity: Annotated[int, Field(ge=1)] = 1024
    """Messages that wait in a node's mailbox at most."""
    policy: Literal["wait", "drop-oldest", "drop-newest"] = "wait"
    """wait: who sends waits for room.  drop-oldest, drop-newest: that message is dropped, and counted."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that a sender waits for room, or for a node that is being rebuilt, before it gets an error."""


NEEDED = {"k-connected": ("k",), "custom": ("adjacency",), "hierarchical": ("levels", "groups")}


def check_shape(schema: str, topology: Topology, count: int, segments: Sequence[Segment], strategy: str) -> None:
    """Raise Refused if schema, topology, nodes and strategy do not go together."""
    needed = NEEDED.get(schema, ())
    given = [name for name in type(topology).model_fields if getattr(topology, name) is not None]
    for name in given:
        if name not in needed and ":" not in schema:
            raise Refused(f"the schema {schema} takes no {name}; leave it out", path=("topology", name))
    if needed and not given:
        words = " or ".join(f"{{{name}: ...}}" for name in needed)
        raise Refused(f"the schema {schema} needs {' or '.join(needed)}: write topology: {words}", path=("schema",))
    k = topology.k
    if schema == "k-connected" and k is not None and (k >= count or k * count % 2):
        why = f"has at most {count - 1} neighbours" if k >= count else "times k must be even: each edge has two ends"
        raise Refused(
            f"k = {k} with {count} nodes: {'a node' if k >= count else 'their number'} {why}", path=("topology", "k")
        )
    if "levels" in given or "groups" in given:
        _check_hierarchy(topology, segments, strategy)


def _check_hierarchy(topology: Topology, segments: Sequence[Segment], strategy: str) -> None:
    if topology.levels is not None and topology.groups is not None:
        raise Refused("levels and groups both say which groups there are: leave one out", path=("topology", "groups"))
    told = "levels" if topology.levels is not None else "groups"
    try:
        hierarchy = Hierarchy(topology.levels, topology.groups)
    except ValueError as error:
        raise Refused(str(error), path=("topology", told)) from None
    trouble = hierarchy.trouble(node_id for segment in segments for node_id in segment)
    if trouble:
        raise Refused(trouble, path=("topology", told))
    if strategy in NEED_EACH:
        raise Refused(
            f"{strategy} needs every update, and in a hierarchy aggregators pass the means of their groups on: use a"
            " strategy of means, or the schema star",
            path=("rounds", "strategy"),
        )
