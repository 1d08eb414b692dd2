"""A client gives what a federation gives: each verb's type is the same, and it comes over the wire whole."""

from __future__ import annotations

import typing
from typing import Any

import pytest

import red_tui as red
from red_tui.examples.digits import DigitsClient
from red_tui.federation.explain import Explanation
from red_tui.federation.selections import Selection
from red_tui.messaging import TopologyRule
from red_tui.nodes.table import NodeTable
from red_tui.placement.build_plan import BuildPlan
from red_tui.supervisor.client import Client
from red_tui.supervisor.command_handlers import VERBS

SAME = ("select", "build", "build_within", "release", "rebuild", "move", "plan", "explain", "describe", "set_topology",
        "run_round", "run", "train")  # fmt: skip


class Near(Client):
    """A client whose supervisor is a federation in this process."""

    def __init__(self, federation: red.FederatedBase) -> None:
        super().__init__(None, federation.fed_id)
        self._federation, self.asked = federation, []  # type: ignore[var-annotated]

    def command(self, verb: str, args: Any = None, *, wait: bool = True, command_id: str | None = None) -> Any:
        self.asked.append(verb)
        return VERBS[verb](self._federation, dict(args or {}), wait)

    def table(self) -> NodeTable:
        return self._federation.table


@pytest.fixture
def federation() -> typing.Iterator[red.FederatedBase]:
    config = red.FederationConfig(federation_id="equal")
    with red.RingFederatedLearningSchema(DigitsClient, ["train"] * 5, config=config) as made:
        yield made


@pytest.mark.parametrize("verb", SAME)
def test_client_and_federation_declare_the_same_type(verb: str) -> None:
    def returned(cls: type) -> Any:
        return getattr(cls, verb).__annotations__["return"]

    assert returned(Client) == returned(red.FederatedBase)


def test_a_client_is_one_class() -> None:
    assert Client.__mro__ == (Client, object)


def test_the_topology_of_a_client_has_the_neighbours_and_the_graph_of_the_federation(
    federation: red.FederatedBase,
) -> None:
    client = Near(federation)
    shapes: list[tuple[str, dict[str, int]]] = [("ring", {}), ("k-connected", {"k": 2}), ("star", {})]
    for rule, options in shapes:
        federation.topology.use(TopologyRule(rule, **options))
        assert str(client.topology) == str(federation.topology)
        assert client.topology.neighbors("client_1") == federation.topology.neighbors("client_1")
    federation.topology.use(TopologyRule("ring"))
    assert set(map(frozenset, client.topology.graph.edges)) == set(map(frozenset, federation.topology.graph.edges))


def test_an_explanation_crosses_the_wire_whole() -> None:
    made = Explanation("a", "busy", "waits", {"CPU": 1.0}, [("h", {"CPU": 4.0}, {})], "release", [("b", {"CPU": 2.0})])
    assert str(Explanation.from_wire("a", made.to_wire())) == str(made)


def test_a_client_selects_the_nodes_that_the_federation_selects(federation: red.FederatedBase) -> None:
    client = Near(federation)
    ways: list[Any] = [None, "role:train", "id:client_[12]", "server", "id:server", ["client_3", "client_0"],
                       lambda node: node.id.endswith("4")]  # fmt: skip
    for what in ways:
        mine, theirs = client.select(what), federation.select(what)
        assert isinstance(mine, Selection)
        assert (mine.ids, len(mine)) == (theirs.ids, len(theirs))
        assert [(node.id, str(node.role), node.state) for node in mine] == [
            (node.id, str(node.role), node.state) for node in theirs
        ]
    assert client.nodes.ids == client.node_ids == federation.node_ids
    assert client.select(client.select("id:client_2")).ids == ["client_2"]
    with pytest.raises(red.CommandRefused, match="'nobody' is no node of federation 'equal'"):
        client.select(["nobody"])
    with pytest.raises(KeyError, match="'nobody' is no node"):
        client["nobody"]


def test_a_node_of_a_client_tells_what_the_federation_knows_of_it(federation: red.FederatedBase) -> None:
    node = Near(federation)["client_1"]
    assert (node.fed_id, node.state, node.bundle_idx, node.log) == ("equal", "virtual", None, None)
    assert not node.built
    with pytest.raises(red.CommandRefused, match="describe"):
        _ = node.template
    with pytest.raises(red.CommandRefused, match="chooses the bundle"):
        node.build(2)


def test_a_history_is_asked_for_without_the_table_of_nodes(federation: red.FederatedBase) -> None:
    client = Near(federation)
    assert len(client.history) == 0 and client.asked == ["history"]


def test_a_plan_is_told_whole_and_reads_as_the_federations_own() -> None:
    import numpy as np

    from red_tui.nodes.ids import IdSpace, PatternIds
    from red_tui.placement.build_plan import LeftOutNodes, PlacedNodes

    ids = IdSpace([PatternIds.parse("client_{i}", 1500)])
    rows, bundles = np.arange(1, 1301), np.arange(1, 1301) % 7
    asked = [{"CPU": 0.5}] * 1300
    left = LeftOutNodes(ids, [(np.arange(1301, 1500), "no bundle has room")])
    made = BuildPlan(PlacedNodes(ids, rows, bundles, lambda bundle: f"host-{bundle}", asked), left, True, 1300, 0.5,
                     no_room="all is taken", ids_space=ids)  # fmt: skip
    come = BuildPlan.from_wire(made.to_wire())
    assert str(come) == str(made) and come.ids == made.ids and len(come) == 1300
    assert [(out.node_id, out.why) for out in come.left_out] == [(out.node_id, out.why) for out in made.left_out]
    assert come.placed[3].resources == {"CPU": 0.5} and come.seconds == made.seconds
    short = made.to_wire(10)
    assert len(short["placed"]) == 10 and short["placed_count"] == 1300 and "amounts" not in short
