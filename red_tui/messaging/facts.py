"""What there is to say of a topology without listing it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

from red_tui.messaging.mixing import mixing_matrix, spectral_gap

if TYPE_CHECKING:
    from red_tui.messaging.topologies import Topology

MOST_FOR_GAP = 400
"""Nodes up to which the eigenvalues of a graph without a formula are computed: they take a twentieth of a second."""


@dataclass(frozen=True)
class GraphFacts:
    """A topology in numbers.

    Attributes:
        nodes: Client nodes.
        edges: Pairs that are neighbours.
        least: The smallest number of neighbours that a node has; the server of a star counts as a node.
        mean: Neighbours of a node on average.
        most: The largest number.
        parts: Parts between which there is no path.
        gap: Spectral gap of the Metropolis-Hastings matrix: how fast gossip agrees; None where nobody gossips (a
            star) or where it would take long.
    """

    nodes: int
    edges: int
    least: int
    mean: float
    most: int
    parts: int
    gap: float | None


def facts_of(topology: Topology) -> GraphFacts:
    """The numbers of a topology; those of stars and meshes come from their rule."""
    count, edges = len(topology.ids), topology.num_edges
    if count == 0:
        return GraphFacts(0, 0, 0, 0.0, 0, 0, None)
    if topology.rule.name == "star":
        return star_facts(count)
    if topology.rule.name == "mesh":
        return GraphFacts(count, edges, count - 1, float(count - 1), count - 1, 1, 1.0 if count > 1 else None)
    degrees = [degree for _, degree in topology.graph.degree]
    parts = nx.number_connected_components(topology.graph)
    gap = _gap(topology, count, parts) if count > 1 and not topology.rule.served else None
    return GraphFacts(count, edges, min(degrees), 2 * edges / count, max(degrees), parts, gap)


def star_facts(count: int) -> GraphFacts:
    """The numbers of a star of `count` client nodes, none of which is looked at."""
    if count == 0:
        return GraphFacts(0, 0, 0, 0.0, 0, 0, None)
    return GraphFacts(count, count, 1, 2 * count / (count + 1), count, 1, None)


def _gap(topology: Topology, count: int, parts: int) -> float | None:
    if parts > 1:
        return 0.0
    if topology.rule.name == "ring" and count > 2:
        # All weights are 1/3: the eigenvalues are those of a circulant matrix, and the least of them is -1/3.
        return 1.0 - max(1.0 / 3.0 * (count % 2 == 0), abs(1.0 + 2.0 * math.cos(2.0 * math.pi / count)) / 3.0)
    if count > MOST_FOR_GAP:
        return None
    return max(0.0, spectral_gap(mixing_matrix(topology.graph)))
