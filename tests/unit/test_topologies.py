"""Topologies by their rules, their errors, and how models mix along them."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from red_tui.errors import TopologyError, from_wire
from red_tui.federation.federation_topology import FederationTopology, rule_of
from red_tui.messaging import (
    Topology,
    TopologyRule,
    consensus_distance,
    mixing_matrix,
    mixing_weights,
    spectral_gap,
)


def ids(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


def degrees(name: str, count: int, **options: Any) -> list[int]:
    topology = Topology(TopologyRule(name, **options), ids(count))
    return [len(topology.neighbors(node_id)) for node_id in ids(count)]


def test_each_rule_gives_its_degrees() -> None:
    assert degrees("ring", 6) == [2] * 6
    assert degrees("ring", 2) == [1, 1] and degrees("ring", 1) == [0]
    assert degrees("line", 4) == [1, 2, 2, 1]
    assert degrees("mesh", 5) == [4] * 5
    assert degrees("grid", 9) == [2, 3, 2, 3, 4, 3, 2, 3, 2]
    assert degrees("grid", 5) == [2, 3, 1, 2, 2]
    assert degrees("tree", 7) == [2, 3, 3, 1, 1, 1, 1]
    assert degrees("tree", 4, branching=3) == [3, 1, 1, 1]
    assert degrees("k-connected", 10, k=3) == [3] * 10
    assert sum(degrees("small-world", 12, k=4)) == 12 * 4
    assert degrees("star", 3) == [1, 1, 1]


def test_a_star_of_a_million_is_told_by_its_rule() -> None:
    names = ids(1_000_000)
    star = Topology(TopologyRule(), names)
    assert star.neighbors("n7") == ("server",) and len(star.neighbors("server")) == 1_000_000
    assert "graph" not in star.__dict__ and len(star.components()) == 1
    with pytest.raises(TopologyError, match="'nobody' is not in the topology"):
        star.neighbors("nobody")


def test_random_rules_are_seeded_and_connected() -> None:
    def edges(seed: int) -> set[frozenset[str]]:
        return {frozenset(edge) for edge in Topology(TopologyRule("k-connected", k=2, seed=seed), ids(20)).graph.edges}

    assert edges(3) == edges(3) and edges(3) != edges(4)
    for seed in range(20):
        assert len(Topology(TopologyRule("k-connected", k=2, seed=seed), ids(12)).components()) == 1


@pytest.mark.parametrize(
    ("name", "options", "count", "words"),
    [
        ("rign", {}, 4, "no topology 'rign'.*did you mean 'ring'"),
        ("k-connected", {}, 4, "needs k"),
        ("ring", {"k": 2}, 4, "takes no k"),
        ("k-connected", {"k": 0}, 4, "at least 1, not 0"),
        ("k-connected", {"k": True}, 4, "whole number"),
        ("k-connected", {"k": 4}, 4, "k = 4 with 4 nodes: a node has at most 3"),
        ("k-connected", {"k": 3}, 5, "5 nodes with k = 3: one of the two must be even"),
        ("small-world", {"k": 1}, 5, "k must be 2 to 4"),
        ("custom", {}, 3, "either an adjacency or a networkx graph"),
        ("mesh", {"adjacency": [[0]]}, 1, "takes no adjacency"),
        ("mesh", {}, 5000, "12,497,500 edges"),
        ("custom", {"adjacency": [[0, 1], [1, 0, 0]]}, 2, "row 1 has 3 entries"),
        ("custom", {"adjacency": [[0, 1], [1, 0]]}, 3, "2 rows for 3 nodes"),
        ("custom", {"adjacency": [[0, 1, 0], [1, 1, 0], [0, 0, 0]]}, 3, r"row 1 \(n1\): the diagonal must be 0"),
        ("custom", {"adjacency": [[0, 1, 0], [1, 0, 0], [1, 0, 0]]}, 3, r"row 0 \(n0\) and row 2 \(n2\) differ"),
        ("custom", {"adjacency": {"n0": ["n1"], "n1": []}}, 2, "row 'n0' names 'n1', but row 'n1' does not"),
        ("custom", {"adjacency": {"n0": ["n0"]}}, 2, "not its own neighbour"),
        ("custom", {"adjacency": {"n0": "n1"}}, 2, "row 'n0' must be a list"),
        ("custom", {"adjacency": {"n0": ["ghost"], "ghost": ["n0"]}}, 2, "'ghost' is no node"),
        ("custom", {"graph": nx.path_graph(["a", "b"])}, 2, "'a' and 1 more is no node"),
        ("custom", {"graph": nx.DiGraph([("n0", "n1")])}, 2, "undirected"),
        ("custom", {"graph": nx.Graph([("n0", "n0")])}, 2, "its own neighbour"),
        ("tree", {"branching": 0}, 2, "branching"),
    ],
)
def test_what_cannot_be_says_what_and_where(name: str, options: dict[str, Any], count: int, words: str) -> None:
    with pytest.raises(TopologyError, match=words) as caught:
        rule = TopologyRule(name, **options)
        Topology(rule, ids(count))
        rule.check_names(ids(count))
    assert isinstance(from_wire(caught.value.to_wire()), TopologyError)


def test_custom_takes_lists_matrices_and_graphs_alike() -> None:
    lists = TopologyRule("custom", adjacency={"n0": ["n1"], "n1": ["n0", "n2"], "n2": ["n1"]})
    matrix = TopologyRule("custom", adjacency=[[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    graph = rule_of(nx.path_graph(ids(3)), {})
    found = [{frozenset(edge) for edge in Topology(rule, ids(3)).graph.edges} for rule in (lists, matrix, graph)]
    assert found[0] == found[1] == found[2] == {frozenset({"n0", "n1"}), frozenset({"n1", "n2"})}
    for rule in (lists, matrix, graph):
        again = TopologyRule(**rule.to_wire())
        assert {frozenset(edge) for edge in Topology(again, ids(3)).graph.edges} == found[0]


def test_partition_is_told() -> None:
    cut = Topology(TopologyRule("custom", adjacency={"n0": ["n2"], "n2": ["n0"]}), ids(4))
    assert cut.components() == [["n0", "n2"], ["n1"], ["n3"]]
    assert str(cut) == "custom: 4 nodes, 1 edges, in 3 parts without a path between them"


@given(count=st.integers(2, 12), edges=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))), seed=st.integers(0))
@settings(max_examples=60, deadline=None)
def test_weights_are_doubly_stochastic_on_any_graph(count: int, edges: set[tuple[int, int]], seed: int) -> None:
    graph = nx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from((one, other) for one, other in edges if one != other and max(one, other) < count)
    part = sorted(np.random.default_rng(seed).permutation(count)[: max(1, count - 1)].tolist())
    matrix = mixing_matrix(graph, part)
    assert np.allclose(matrix, matrix.T) and np.allclose(matrix.sum(axis=0), 1) and (matrix > -1e-12).all()
    assert all(other in set(part) for row in mixing_weights(graph, part) for other in row)


def test_spectral_gaps_of_ring_and_complete_graph_are_those_of_theory() -> None:
    for count in (4, 7, 16):
        ring = mixing_matrix(Topology(TopologyRule("ring"), ids(count)).graph, ids(count))
        # The circulant of (1/3, 1/3, 1/3): eigenvalues (1 + 2 cos(2 pi j / n)) / 3.
        values = [abs(1 + 2 * math.cos(2 * math.pi * j / count)) / 3 for j in range(1, count)]
        assert spectral_gap(ring) == pytest.approx(1 - max(values), abs=1e-9)
        mesh = mixing_matrix(Topology(TopologyRule("mesh"), ids(count)).graph)
        assert np.allclose(mesh, 1 / count) and spectral_gap(mesh) == pytest.approx(1)
    cut = Topology(TopologyRule("custom", adjacency={"n0": ["n1"], "n1": ["n0"]}), ids(4)).graph
    assert spectral_gap(mixing_matrix(cut)) == pytest.approx(0)


def test_the_consensus_distance_is_the_root_of_the_mean_square() -> None:
    models = [{"w": np.asarray([0.0, 0.0])}, {"w": np.asarray([2.0, 4.0])}]
    assert consensus_distance(models, {"w": np.asarray([1.0, 2.0])}) == pytest.approx(math.sqrt(5))
    assert consensus_distance(models[:1], models[0]) == 0


class Members:
    """Nodes that join and leave."""

    def __init__(self, count: int) -> None:
        self.names = ids(count)
        self.troubles: list[str] = []
        self.topology = FederationTopology(
            lambda: np.arange(len(self.names)),
            lambda rows: [self.names[row] for row in rows.tolist()],
            lambda: tuple(self.names),
            lambda _, text: self.troubles.append(text),
        )


def test_joining_and_leaving_nodes_keep_the_rule() -> None:
    members = Members(5)
    members.topology.use(TopologyRule("ring"))
    assert members.topology.neighbors("n0") == ("n1", "n4")
    members.names.remove("n1")
    assert members.topology.neighbors("n0") == ("n2", "n4")
    members.names.append("n9")
    assert members.topology.neighbors("n0") == ("n2", "n9")
    with pytest.raises(TopologyError, match="'n1' is not in the topology"):
        members.topology.neighbors("n1")


def test_a_federation_that_goes_by_a_star_names_nobody_until_somebody_asks() -> None:
    members = Members(4)
    asked: list[int] = []
    members.topology = FederationTopology(
        lambda: np.arange(4), lambda rows: asked.append(len(rows)) or members.names, lambda: 4, lambda *_: None
    )
    members.topology.use(TopologyRule())
    assert asked == [] and members.topology.rule.name == "star"
    assert members.topology.neighbors("server") == tuple(members.names) and asked == [4]


def test_where_the_rule_cannot_be_kept_the_nearest_is_and_it_is_said() -> None:
    members = Members(6)
    members.topology.use(TopologyRule("k-connected", k=3))
    members.names.pop()
    assert len(members.topology.neighbors("n0")) == 4 and "until that changes k is 4" in members.troubles[-1]
    members.names[:] = ids(1)
    assert members.topology.neighbors("n0") == () and "nobody has neighbours" in members.troubles[-1]
    members.names[:] = ids(8)
    assert len(members.topology.neighbors("n0")) == 3 and members.troubles[-1] == ""


def test_a_topology_in_parts_is_a_standing_warning_until_it_is_whole_again() -> None:
    members = Members(4)
    members.topology.use(TopologyRule("custom", adjacency={"n0": ["n1"], "n1": ["n0"], "n2": ["n3"], "n3": ["n2"]}))
    assert "in 2 parts without a path between them (the smallest: n2, n3)" in members.troubles[-1]
    members.topology.use(TopologyRule("ring"))
    assert members.troubles[-1] == ""
    members.topology.use(TopologyRule("custom", adjacency={f"n{one}": [f"n{1 - one}"] for one in (0, 1)}))
    members.names[:] = ids(2)
    members.topology.current()
    assert members.troubles[-1] == ""
    # Who joins a graph that was written down is nobody's neighbour.
    members.names.append("n9")
    members.topology.current()
    assert "the smallest: n9)" in members.troubles[-1]


def test_a_rule_that_is_refused_leaves_the_one_before() -> None:
    members = Members(5)
    members.topology.use(TopologyRule("ring"))
    with pytest.raises(TopologyError):
        members.topology.use(TopologyRule("k-connected", k=3))
    assert members.topology.rule.name == "ring" and members.topology.neighbors("n0") == ("n1", "n4")
    for wrong in (("ring", {"kk": 2}), (7, {}), (TopologyRule("ring"), {"k": 2})):
        with pytest.raises(TopologyError):
            rule_of(*wrong)


def test_a_rule_from_a_journal_goes_by_who_is_there_now() -> None:
    members = Members(6)
    members.topology.use(TopologyRule("custom", adjacency={"n0": ["n1"], "n1": ["n0"]}))
    wire = members.topology.rule.to_wire()
    again = Members(6)
    again.names.remove("n1")
    again.topology.restore(wire)
    assert again.topology.neighbors("n0") == ()
    again.topology.restore(TopologyRule("k-connected", k=2, seed=5).to_wire())
    assert len(again.topology.neighbors("n0")) == 2 and str(again.topology).startswith("k-connected (k = 2): 5 nodes")
