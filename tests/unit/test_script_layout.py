"""A script's federation as a layout: a replay shows the same nodes in the same rows."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

import red_tui as red
from red_tui.federation.core import core_of
from red_tui.federation.explain import layout_of
from red_tui.federation.run_folder.script_folder import changes
from red_tui.messaging import TopologyRule

ROLES = ["train", "train", "eval", "train-eval", "train"]


class Client(red.FederatedNode):
    pass


class OwnSchema(red.StarFederatedLearningSchema):
    pass


def described(federation: Any) -> Any:
    return layout_of(core_of(federation).spec, type(federation), federation.topology.rule)


@pytest.mark.parametrize(
    ("make", "schema"),
    [
        (lambda **more: red.StarFederatedLearningSchema(Client, ROLES, **more), "star"),
        (lambda **more: OwnSchema(Client, ROLES, **more), f"{__name__}:OwnSchema"),
        (lambda **more: red.StarFederatedLearningSchema(Client, ROLES, ids=list("vwxyz"), **more), "star"),
        (lambda **more: red.StarFederatedLearningSchema(Client, ["coach", "train"], **more), "star"),
        (lambda **more: red.RingFederatedLearningSchema(Client, ROLES, **more), "ring"),
        (lambda **more: red.KConnectedFederatedLearningSchema(Client, ROLES, k=2, **more), "k-connected"),
        (
            lambda **more: red.CustomFederatedLearningSchema(
                Client, ROLES, graph=nx.path_graph([f"client_{i}" for i in range(5)]), **more
            ),
            "custom",
        ),
        (lambda **more: red.HierarchicalFederatedLearningSchema(Client, ROLES, levels=[2], **more), "hierarchical"),
    ],
)
def test_a_layout_names_the_same_nodes_in_the_same_order(make: Any, schema: str) -> None:
    with make(config={"federation_id": "described", "lr": 0.5}) as federation:
        layout = described(federation)
        ids = [node_id for group in layout.node_groups() for node_id in group.segment]
        roles = [group.role for group in layout.node_groups() for _ in group.segment]
        assert [*ids, *layout.topology.aggregators] == federation.node_ids
        assert roles == federation.roles[: len(roles)]
        assert (layout.schema_name, layout.federation, layout.config["lr"]) == (schema, "described", 0.5)


def test_a_million_nodes_are_one_entry() -> None:
    with red.StarFederatedLearningSchema(Client, ["train"] * 1_000_000, isolation="bundle") as federation:
        layout = described(federation)
    assert [(group.count, group.id) for group in layout.nodes] == [(1_000_000, "client_{i}")]


def test_a_template_of_the_main_module_is_the_same_one_when_it_is_imported() -> None:
    with red.StarFederatedLearningSchema(Client, ["train"] * 2) as federation:
        before = described(federation)
        now = before.model_copy(update={"template": "__main__:Client"})
        other = before.model_copy(update={"template": "__main__:OtherClient"})
    assert changes(before, now)[0] == []
    assert changes(before, other)[0] == [f'template: "{__name__}:Client" → "__main__:OtherClient"']


def test_other_nodes_and_strategies_are_another_federation_and_other_deadlines_are_not() -> None:
    spec = core_of(red.StarFederatedLearningSchema(Client, ["train"] * 2)).spec
    before = layout_of(spec, red.StarFederatedLearningSchema, TopologyRule())
    with red.StarFederatedLearningSchema(Client, ["train"] * 3, strategy="median") as federation:
        fixed, free = changes(before, described(federation))
    assert fixed == ["nodes[0].count: 2 → 3", 'rounds.strategy.name: "fedavg" → "median"']
    assert free == []
    with red.StarFederatedLearningSchema(Client, ["train"] * 2, settings={"deadline": 5.0}) as federation:
        fixed, free = changes(before, described(federation))
    assert fixed == []
    assert free == ["rounds.deadline: 60.0 → 5.0"]
