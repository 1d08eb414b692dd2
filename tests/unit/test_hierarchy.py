"""Trees of aggregators: who stands below whom, however many there are, and what cannot be one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.aggregation.server import FederatedAggregator, mean_of, partial_mean
from red_tui.aggregation.strategies import make_strategy
from red_tui.errors import TopologyError
from red_tui.layout.rules import NEED_EACH, STRATEGIES
from red_tui.messaging import Topology, TopologyRule
from red_tui.nodes.hierarchy import Hierarchy


def names(count: int) -> list[str]:
    return [f"client_{place}" for place in range(count)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 40))
def test_every_node_hangs_below_the_server_and_groups_differ_by_one_at_most(levels: list[int], more: int) -> None:
    lowest = int(np.prod(levels))
    clients = names(lowest + more)
    hierarchy = Hierarchy(levels)
    assert hierarchy.trouble(clients) == ""
    ids = [*clients, *hierarchy.aggregators]
    graph = Topology(TopologyRule("hierarchical", levels=levels), ids).graph
    assert nx.is_tree(graph) and set(graph) == {"server", *ids}
    parents = hierarchy.parents(clients)
    sizes = Counter(parents[one] for one in clients)
    assert len(sizes) == lowest and max(sizes.values()) - min(sizes.values()) <= 1
    assert {hierarchy.depth(group) for group in sizes} == {len(levels)}
    assert [len(graph["server"]), *({len(graph[one]) - 1 for one in hierarchy.aggregators if hierarchy.depth(one) == 1}
                                    if len(levels) > 1 else [])] == levels[: min(2, len(levels))]  # fmt: skip


def test_ids_tell_the_way_and_the_one_above_comes_first() -> None:
    topology = Topology(TopologyRule("hierarchical", levels=[2, 2]), [*names(5), *Hierarchy([2, 2]).aggregators])
    assert topology.neighbors("server") == ("edge_0", "edge_1")
    assert topology.neighbors("edge_0") == ("server", "edge_0_0", "edge_0_1")
    assert topology.neighbors("edge_0_0") == ("edge_0", "client_0", "client_1")
    assert topology.neighbors("client_4") == ("edge_1_1",)
    assert str(topology).startswith("hierarchical (levels 2 × 2): 11 nodes, 11 edges")
    assert topology.facts.parts == 1 and topology.facts.gap is None
    # In a console the server is the place after the last.
    assert max(topology.pairs.ravel()) == len(topology.ids)
    assert topology.components() == [["server", *topology.ids]]


def test_groups_name_patterns_and_who_joins_goes_where_the_fewest_are() -> None:
    hierarchy = Hierarchy(groups={"north": ["client_0", "client_1*"], "south": ["client_2"]})
    assert hierarchy.trouble(["client_0", "client_1", "client_12", "client_2"]) == ""
    parents = hierarchy.parents(["client_0", "client_1", "client_12", "client_2", "client_3", "client_4"])
    assert [name for name, above in parents.items() if above == "south"] == ["client_2", "client_3", "client_4"]
    rule = TopologyRule("hierarchical", groups={"north": ["client_0", "client_1*"], "south": ["client_2"]})
    assert TopologyRule(**rule.to_wire()) == rule and str(rule) == "hierarchical (2 groups)"
    levels = TopologyRule("hierarchical", levels=(2, 3))
    assert TopologyRule(**levels.to_wire()) == levels


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give one of the two"),
        ({"levels": [2], "groups": {"a": ["b"]}}, "give one of the two"),
        ({"levels": []}, r"such as \[4\] or \[4, 8\]"),
        ({"levels": "42"}, "levels is a list"),
        ({"levels": [2, True]}, "at least 1, not True"),
        ({"levels": [200, 200]}, "more than 10,000"),
        ({"groups": {}}, "with one group at least"),
        ({"groups": {"server": ["a"]}}, "the server's id"),
        ({"groups": {"a b": ["a"]}}, "'a b' cannot be a group"),
        ({"groups": {"a": "client_1"}}, "group 'a' is a list"),
    ],
)
def test_what_is_no_tree_says_so(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        TopologyRule("hierarchical", **options)
    with pytest.raises(TopologyError, match="ring takes no levels"):
        TopologyRule("ring", levels=[2])


def test_means_of_means_are_the_mean_and_whole_numbers_are_rounded_once() -> None:
    draws = np.random.default_rng(3)
    updates = [{"w": draws.normal(size=9).astype(np.float32), "n": draws.integers(0, 100, size=2)} for _ in range(12)]
    weights = draws.integers(0, 50, size=12).tolist()
    like = updates[0]
    flat = mean_of([("update", np.asarray([0]), [weight]) for weight in weights], updates, like)
    parts = [("update", [weight]) for weight in weights]
    lower = [partial_mean(parts[first : first + 4], updates[first : first + 4]) for first in (0, 4, 8)]
    upper = [partial_mean([("mean", [])] * 2, lower[:2]), lower[2]]
    made = mean_of([("mean", np.asarray([0]), [])] * len(upper), upper, like)
    np.testing.assert_allclose(made["w"], flat["w"], rtol=1e-6, atol=1e-6)
    assert made["n"].dtype == flat["n"].dtype and made["n"].tolist() == flat["n"].tolist()
    assert partial_mean([("update", [0.0])], updates[:1]) == ({}, 0.0)


def test_an_aggregator_reports_what_goes_wrong() -> None:
    class Odd(FederatedAggregator):
        def passes_on(self, round_number: int, mean: Any, num_examples: float) -> Any:
            return {"w": mean["w"] * np.nan}

    node = Odd.__new__(Odd)
    made, report = node.red_add_up(1, [("update", [2.0])], {"w": np.ones(2)})
    assert made is None and "holds NaN" in report["error"]


def test_the_layout_knows_which_strategies_pass_means_on() -> None:
    assert {name for name in STRATEGIES if not make_strategy(name).additive} == NEED_EACH
