"""`describe`: what a federation is now, and where that differs from its layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import red_tui as red
from red_tui.examples.digits import DigitsClient
from red_tui.federation.explain import Description
from red_tui.layout import loads
from red_tui.messaging import TopologyRule
from red_tui.supervisor.command_handlers import VERBS

LAYOUT = """
federation: described
schema: ring
template: red_tui.examples.digits:DigitsClient
nodes:
  - {count: 3, role: train, id: "client_{i}"}
  - {count: 1, role: train-eval, id: judge}
rounds: {fraction: 0.5}
config: {learning_rate: 0.3}
"""


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[red.FederatedBase]:
    path = tmp_path / "described.yaml"
    path.write_text(LAYOUT)
    made = red.Federation.from_layout(path)
    yield made
    made.close()


def test_a_federation_that_nobody_changed_is_as_its_layout_says(federation: red.FederatedBase) -> None:
    description = federation.describe()
    assert description.differs == () and description.path.endswith("described.yaml")
    assert loads(str(description), "described") == loads(LAYOUT, "layout")


def test_what_was_changed_while_it_runs_is_in_the_layout_and_is_named(federation: red.FederatedBase) -> None:
    federation.set_round({"fraction": 1.0, "learning_rate": 0.1})
    federation.topology.use(TopologyRule("mesh"))
    description = federation.describe()
    assert description.layout["rounds"]["fraction"] == 1.0 and description.layout["config"]["learning_rate"] == 0.1
    assert "rounds.fraction: 0.5 → 1.0" in description.differs
    assert "config.learning_rate: 0.3 → 0.1" in description.differs
    assert any(line.startswith("topology: ring") and "mesh" in line for line in description.differs)
    assert str(description).splitlines()[-3] == "#   rounds.fraction: 0.5 → 1.0"


def test_a_federation_of_a_script_is_described_too() -> None:
    with red.StarFederatedLearningSchema(
        DigitsClient, ["train"] * 2, config=red.FederationConfig(federation_id="scripted")
    ) as scripted:
        description = scripted.describe()
        assert description.path == "" and "the script that made it" in description.summary
        assert loads(str(description), "described").num_nodes == 2


def test_a_description_crosses_the_wire_whole(federation: red.FederatedBase) -> None:
    federation.set_round({"fraction": 1.0})
    answer = json.loads(json.dumps(VERBS["describe"](federation, {}, True)))
    assert Description.from_wire(answer) == federation.describe()
    assert answer["table"] == str(federation.describe())
