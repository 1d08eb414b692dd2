"""Schemas: federations by the shape in which their nodes learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from red_tui.federation.base import FederatedBase
from red_tui.messaging import TopologyRule


class StarFederatedLearningSchema(FederatedBase):
    """A server in the middle that aggregates, and clients that speak with it only."""

    schema = "star"


class RingFederatedLearningSchema(FederatedBase):
    """Each node has two neighbours; a round is local `fit` and then gossip between neighbours."""

    schema = "ring"
    _rule = TopologyRule("ring")


class MeshFederatedLearningSchema(FederatedBase):
    """All nodes are neighbours; a round is local `fit` and then gossip between them."""

    schema = "mesh"
    _rule = TopologyRule("mesh")


class KConnectedFederatedLearningSchema(FederatedBase):
    """Each node has `k` neighbours, drawn at random (`topology_seed`); a round is local `fit` and then gossip.

    Raises:
        TopologyError: If `k` is too large, or the number of nodes times `k` is odd.
    """

    schema = "k-connected"

    def __init__(self, *args: Any, k: int, topology_seed: int = 0, **kwargs: Any) -> None:
        self._rule = TopologyRule("k-connected", k=k, seed=topology_seed)
        super().__init__(*args, **kwargs)


class CustomFederatedLearningSchema(FederatedBase):
    """Neighbours as given: a square symmetric `adjacency` matrix, neighbours by id, or a `networkx.Graph`.

    Raises:
        TopologyError: If it breaks a rule, naming the row.
    """

    schema = "custom"

    def __init__(self, *args: Any, adjacency: Any = None, graph: Any = None, **kwargs: Any) -> None:
        self._rule = TopologyRule("custom", adjacency=adjacency, graph=graph)
        super().__init__(*args, **kwargs)


SCHEMAS: dict[str, type[FederatedBase]] = {
    made.schema: made
    for made in (
        StarFederatedLearningSchema,
        RingFederatedLearningSchema,
        MeshFederatedLearningSchema,
        KConnectedFederatedLearningSchema,
        CustomFederatedLearningSchema,
    )
}
"""The schemas that a layout names by a word."""


class Federation:
    """Makes federations from layouts."""

    @staticmethod
    def from_layout(layout: str | Path, *, working_dir: str | Path | None = None) -> FederatedBase:
        """A federation in this process, of the schema that the layout names.

        Args:
            layout: Path of a layout, or the name of one that red-tui ships.
            working_dir: Folder of the modules that the layout names; None: the layout's own folder.

        Raises:
            LayoutError: With file, line, column and field.
        """
        from red_tui.federation.layouts import spec_of
        from red_tui.layout import load, resolve

        path = resolve(layout)
        folder = Path(working_dir) if working_dir else path.resolve().parent
        schema, spec = spec_of(load(path), str(path), folder)
        return schema.from_spec(spec)
