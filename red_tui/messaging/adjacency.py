"""Graphs as somebody wrote them down: each violation is named with its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np

from red_tui.errors import TopologyError


def over(ids: Sequence[str], edges: Any) -> nx.Graph:
    """A graph of ids from pairs of places."""
    graph = nx.Graph()
    graph.add_nodes_from(ids)
    graph.add_edges_from((ids[one], ids[other]) for one, other in edges)
    return graph


def custom_graph(graph: Any, adjacency: Any, ids: Sequence[str]) -> nx.Graph:
    """The graph over `ids` that a networkx graph, lists of neighbours or a matrix tell.

    Raises:
        TopologyError: If it breaks a rule, naming the row.
    """
    if graph is not None:
        return _of_graph(graph, ids)
    if isinstance(adjacency, Mapping):
        return _of_lists(adjacency, ids)
    return _of_matrix(adjacency, ids)


def _of_graph(graph: Any, ids: Sequence[str]) -> nx.Graph:
    if not isinstance(graph, nx.Graph) or graph.is_directed():
        raise TopologyError("custom: the graph must be an undirected networkx.Graph", rule="custom")
    loops = [str(one) for one in nx.nodes_with_selfloops(graph)]
    if loops:
        raise TopologyError(f"custom: {loops[0]!r} is its own neighbour: take the edge to itself out", rule="custom")
    made = nx.Graph()
    made.add_nodes_from(ids)
    inside = set(ids)
    made.add_edges_from(
        (str(one), str(other)) for one, other in graph.edges if str(one) in inside and str(other) in inside
    )
    return made


def _of_lists(adjacency: Mapping[str, Sequence[str]], ids: Sequence[str]) -> nx.Graph:
    for one, others in adjacency.items():
        if isinstance(others, str) or not isinstance(others, Sequence):
            raise TopologyError(f"custom: row {one!r} must be a list of ids, not {others!r}", rule="custom")
        for other in others:
            if other == one:
                raise TopologyError(f"custom: row {one!r}: a node is not its own neighbour", rule="custom")
            if one not in adjacency.get(other, ()):
                raise TopologyError(
                    f"custom: row {one!r} names {other!r}, but row {other!r} does not name {one!r}: neighbours are"
                    " each other's",
                    rule="custom",
                )
    made = nx.Graph()
    made.add_nodes_from(ids)
    inside = set(ids)
    made.add_edges_from(
        (one, other) for one, others in adjacency.items() for other in others if one in inside and other in inside
    )
    return made


def _of_matrix(adjacency: Any, ids: Sequence[str]) -> nx.Graph:
    count = len(ids)
    rows = list(adjacency)
    for place, row in enumerate(rows):
        if len(row) != len(rows):
            raise TopologyError(
                f"custom: row {place} has {len(row)} entries in a matrix of {len(rows)} rows: it must be square",
                rule="custom",
            )
    if len(rows) != count:
        raise TopologyError(
            f"custom: a matrix of {len(rows)} rows for {count} nodes: write one row a node", rule="custom"
        )
    matrix = np.asarray(rows) != 0
    for place in range(count):
        if matrix[place, place]:
            raise TopologyError(
                f"custom: row {place} ({ids[place]}): the diagonal must be 0, a node is not its own neighbour",
                rule="custom",
            )
        other = np.flatnonzero(matrix[place] != matrix[:, place])
        if len(other):
            raise TopologyError(
                f"custom: row {place} ({ids[place]}) and row {int(other[0])} ({ids[int(other[0])]}) differ about each"
                " other: the matrix must be symmetric",
                rule="custom",
            )
    return over(ids, np.argwhere(np.triu(matrix)).tolist())
