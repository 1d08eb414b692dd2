"""Schemas: federations by the shape in which their nodes learn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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


class HierarchicalFederatedLearningSchema(FederatedBase):
    """Levels of stars: aggregators (edge servers) add the updates of their groups up, and the server the groups'.

    The aggregators are nodes of the federation with the role `aggregator`; `should_participate` is asked of the others.
    A round gives the parameters that a star would give.  Strategies that need every update (median, krum, ...) are
    refused, for an aggregator passes one mean on.

    Args:
        *args: See `FederatedBase`.
        levels: Aggregators below each one of the level above: `[4]`, or `[4, 8]` for four and eight below each of them;
            the nodes are shared out in order among the lowest ones.  Their ids are `edge_0`, `edge_0_3` and so on.
        groups: Instead: ids of nodes, or patterns such as `client_1*`, by the id of their aggregator.
        aggregator_template: A `FederatedAggregator` of one's own; one with a `train` takes part in sessions.
        **kwargs: See `FederatedBase`.

    Raises:
        TopologyError: If levels or groups do not fit the nodes.
        ValueError: If the strategy or the server needs every update.
    """

    schema = "hierarchical"

    def __init__(
        self,
        *args: Any,
        levels: Sequence[int] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        aggregator_template: type | None = None,
        **kwargs: Any,
    ) -> None:
        self._rule = TopologyRule("hierarchical", levels=levels, groups=groups)
        self._aggregator = aggregator_template
        super().__init__(*args, **kwargs)


SCHEMAS: dict[str, type[FederatedBase]] = {
    made.schema: made
    for made in (
        StarFederatedLearningSchema,
        RingFederatedLearningSchema,
        MeshFederatedLearningSchema,
        KConnectedFederatedLearningSchema,
        CustomFederatedLearningSchema,
        HierarchicalFederatedLearningSchema,
    )
}
"""The schemas that a layout names by a word."""


class Federation:
    """Makes federations from layouts."""

    @staticmethod
    def from_layout(
        layout: str | Path,
        *,
        working_dir: str | Path | None = None,
        keep: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> FederatedBase:
        """A federation in this process, of the schema that the layout names.

        Args:
            layout: Path of a layout, or the name of one that red-tui ships.
            working_dir: Folder of the modules that the layout names; None: the layout's own folder.
            keep: Folder in which its journal and checkpoints are kept; None: nothing is kept.
            resume: Go on with what `keep` holds; where it holds nothing, the federation begins there.

        Raises:
            LayoutError: With file, line, column and field.
            RedError: If `keep` is in use, or holds another federation, or one that is not to be resumed.
        """
        from red_tui.federation.layouts import folder_of, spec_of
        from red_tui.layout import load, resolve

        path = resolve(layout)
        folder = folder_of(working_dir) if working_dir else path.resolve().parent
        parsed = load(path)
        schema, spec = spec_of(parsed, str(path), folder)
        return schema.from_spec(spec, keep=keep, resume=resume, layout=(parsed, path.absolute()))
