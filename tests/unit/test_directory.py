"""The directory by itself: versions, neighbours, edges, and news of nodes."""

from __future__ import annotations

import threading

import pytest

from red_tui.errors import TopologyError
from red_tui.messaging.messenger import Absent
from red_tui.messaging.topology_actor import TopologyDirectory

IDS = ["a", "b", "c", "d"]


def test_a_later_version_holds_and_an_older_one_is_left() -> None:
    directory = TopologyDirectory("fed")
    assert directory.publish(3, {"name": "ring"}, IDS, {"a": Absent("is virtual")}) == 3
    assert directory.publish(2, {"name": "mesh"}, IDS, {}) == 3
    assert directory.version() == 3 and directory.describe() == "ring: 4 nodes, 4 edges"
    assert directory.neighbors("a") == ("b", "d")
    assert sorted(map(sorted, directory.edges())) == [["a", "b"], ["a", "d"], ["b", "c"], ["c", "d"]]
    assert len(directory.edges(most=2)) == 2
    version, ways = directory.ways("b")
    assert version == 3 and ways["a"].why == "is virtual" and ways["c"].why == "has no part in a session"
    with pytest.raises(TopologyError, match="'ghost' is not in the topology"):
        directory.neighbors("ghost")
    assert directory.publish(4, {"name": "hierarchical", "levels": [1]}, [*IDS, "edge_0"], {}) == 4
    assert directory.neighbors("edge_0") == ("server", *IDS) and directory.neighbors("server") == ("edge_0",)


def test_who_asks_before_the_first_version_waits_for_it() -> None:
    directory = TopologyDirectory("fed")
    found: list[tuple[str, ...]] = []
    asking = threading.Thread(target=lambda: found.append(directory.neighbors("a")))
    asking.start()
    assert found == []
    directory.publish(1, {"name": "line"}, IDS, {})
    asking.join(90)
    assert found == [("b",)]


def test_news_are_told_once_to_each_who_listens() -> None:
    directory = TopologyDirectory("fed")
    assert directory.news(0, 0.01) == (0, [])
    directory.heard("a", {"b": 3})
    directory.heard("c", {"b": 1})
    assert directory.news(0, 30) == (2, [("a", {"b": 3}), ("c", {"b": 1})])
    assert directory.news(1, 30) == (2, [("c", {"b": 1})])
    assert directory.news(2, 0.01) == (2, [])


def test_without_a_session_nothing_is_counted() -> None:
    directory = TopologyDirectory("fed")
    directory.publish(1, {"name": "ring"}, IDS, {"a": Absent("is virtual"), "b": None})
    told = directory.statistics()
    assert told["version"] == 1 and told["nodes"] == {} and told["edges"] == [] and told["totals"]["sent"] == 0
