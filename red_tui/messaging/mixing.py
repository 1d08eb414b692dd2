"""Gossip: how the models of neighbours mix, and how far from each other they are."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from red_tui.aggregation.weighted_sum import consensus_distance

__all__ = ["consensus_distance", "mixing_matrix", "mixing_weights", "spectral_gap"]

Floats = npt.NDArray[np.float64]


def mixing_weights(graph: nx.Graph, taking_part: Sequence[Hashable]) -> list[dict[Any, float]]:
    """Metropolis-Hastings weights of each node over itself and its neighbours that take part.

    The weight of an edge is 1 / (1 + the larger degree of its two ends), counted among those who take part;
    what is left of 1 is the node's own.  The matrix is symmetric and doubly stochastic, so mixing keeps the mean
    of all models (Xiao, Boyd and Lashkari 2006, Distributed average consensus with least-mean-square deviation).

    Args:
        graph: Who is whose neighbour.
        taking_part: Nodes that mix, in order; only edges between them count.
    """
    among = graph.subgraph(taking_part)
    degree = dict(among.degree)
    weights = []
    for one in taking_part:
        row = {other: 1.0 / (1 + max(degree[one], degree[other])) for other in among[one]}
        weights.append({one: 1.0 - sum(row.values()), **row})
    return weights


def mixing_matrix(graph: nx.Graph, taking_part: Sequence[Hashable] | None = None) -> Floats:
    """`mixing_weights` as a matrix W: the models after a round's gossip are `W @ x`."""
    order = list(graph.nodes) if taking_part is None else list(taking_part)
    place = {one: index for index, one in enumerate(order)}
    matrix = np.zeros((len(order), len(order)))
    for index, row in enumerate(mixing_weights(graph, order)):
        for other, weight in row.items():
            matrix[index, place[other]] = weight
    return matrix


def spectral_gap(matrix: Floats) -> float:
    """1 - |the second largest eigenvalue| of a symmetric mixing matrix: how fast models agree; 0 for a cut graph."""
    if len(matrix) < 2:
        return 1.0
    sizes = np.sort(np.abs(np.linalg.eigvalsh(matrix)))
    return float(1.0 - sizes[-2])
