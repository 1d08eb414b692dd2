"""What is told of a topology in numbers."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from red_tui.messaging import Topology, TopologyRule, mixing_matrix, spectral_gap
from red_tui.messaging.topology import MOST_FOR_GAP, star_facts


def made(name: str, count: int, **options: int) -> Topology:
    return Topology(TopologyRule(name, **options), [f"n{number}" for number in range(count)])  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7, 12, 25])
@pytest.mark.parametrize("rule", ["ring", "mesh", "line", "grid", "tree"])
def test_numbers_are_those_of_the_graph(rule: str, count: int) -> None:
    topology = made(rule, count)
    facts, graph = topology.facts, topology.graph
    degrees = [degree for _, degree in graph.degree]
    assert (facts.nodes, facts.edges) == (count, graph.number_of_edges())
    assert (facts.least, facts.most) == (min(degrees), max(degrees))
    assert facts.mean == pytest.approx(np.mean(degrees))
    assert facts.parts == nx.number_connected_components(graph)
    assert facts.gap == pytest.approx(spectral_gap(mixing_matrix(graph)), abs=1e-9)


def test_a_graph_in_parts_never_agrees_and_one_node_has_no_gap() -> None:
    lists = {"n0": ["n1"], "n1": ["n0"], "n2": [], "n3": []}
    facts = Topology(TopologyRule("custom", adjacency=lists), list(lists)).facts
    assert (facts.parts, facts.gap, facts.least) == (3, 0.0, 0)
    assert made("line", 1).facts.gap is None and made("mesh", 1).facts.gap is None
    assert Topology(TopologyRule("ring"), []).facts.nodes == 0


def test_eigenvalues_of_large_graphs_are_left_alone_but_a_ring_has_a_formula() -> None:
    assert made("k-connected", MOST_FOR_GAP + 2, k=4).facts.gap is None
    assert made("ring", 10_000).facts.gap == pytest.approx(1 - (1 + 2 * np.cos(2 * np.pi / 10_000)) / 3)


def test_a_star_is_told_without_its_nodes() -> None:
    facts = star_facts(1_000_000)
    assert (facts.nodes, facts.edges, facts.least, facts.most, facts.parts) == (1_000_000, 1_000_000, 1, 1_000_000, 1)
    assert facts.gap is None and made("star", 3).facts == star_facts(3)
    assert star_facts(0).parts == 0


def test_pairs_are_the_edges_by_place() -> None:
    topology = made("k-connected", 10, k=3)
    assert {frozenset(topology.ids[end] for end in pair) for pair in topology.pairs.tolist()} == {
        frozenset(edge) for edge in topology.graph.edges
    }
    assert made("line", 1).pairs.shape == (0, 2)
