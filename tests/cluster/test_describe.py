"""`describe` of a federation whose nodes change."""

from __future__ import annotations

import red_tui as red
from red_tui.layout import loads
from tests.cluster.templates import Counting


def test_who_joined_and_who_left_is_named_and_the_layout_has_those_who_are_there(
    cluster: None, config: red.FederationConfig
) -> None:
    with red.RingFederatedLearningSchema(Counting, ["train"] * 3, config, ids=["a", "b", "c"]) as federation:
        federation.add_nodes(2, "eval")
        federation.remove_nodes(["b"])
        federation.set_topology("mesh")
        description = federation.describe()
        entries = [(entry["id"], entry["role"]) for entry in description.layout["nodes"]]
        assert entries == [("a", "train"), ("c", "train"), ("client_0", "eval"), ("client_1", "eval")]
        assert description.differs[:2] == ("nodes: b left", "nodes: client_0, client_1 joined")
        assert description.differs[2].startswith("topology: ring") and "mesh" in description.differs[2]
        assert loads(str(description), "described").num_nodes == 4
