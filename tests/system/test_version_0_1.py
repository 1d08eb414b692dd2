"""Federations that red-tui 0.1 left on disk go on, and its console's session is taken up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import red_tui as red
from tests.fixtures.version_0_1.nodes import kept
from tests.fixtures.version_0_1.opening import ANSWERS, HERE, copied
from tests.system.support import Home
from tests.system.terminal import MakeTerminal


def test_a_federation_of_processes_is_adopted_with_all_that_had_changed(cluster: Home) -> None:
    copied("moved", cluster.path / "federations")
    client = red.adopt("moved")
    try:
        status = client.status()
        assert (status["round"], status["nodes"], status.get("damage", "")) == (7, 6, "")
        assert sorted(client.node_ids) == ["client_0", "client_1", "judge", "walker_1", "walker_2", "walker_3"]
        before = [one["loss"] for one in ANSWERS["moved"]["history"]["rounds"]]
        assert [one.loss for one in client.history] == before
        assert client.parameters()["rounds"] == 7.0
        settings = client.round_settings
        assert (settings["learning_rate"], settings["momentum"]) == (0.5, 0.9)
        assert client.neighbors("walker_2") == ["walker_1", "walker_3"], "the ring has closed where one left"
        result = client.run(1)[-1]
        assert (result.number, result.failed) == (8, 0)
        assert result.participants == ("walker_1", "walker_2", "walker_3", "judge")
        assert result.loss == pytest.approx(before[-1] / 2), "the walk goes on from the checkpoint"
    finally:
        client.down()


def test_a_federation_whose_supervisor_died_is_adopted_and_its_strategy_begins_anew(cluster: Home) -> None:
    copied("adaptive", cluster.path / "federations")
    client = red.adopt("adaptive")
    try:
        assert client.status()["round"] == 3 and client.round_settings["fraction"] == 1.0
        assert any("strategy fedadam begins without what it remembered" in event.text for event in client.events())
        assert len(client.rebuild().built) == 12, "their processes went with their cluster"
        result = client.run(1)[-1]
        assert result.number == 4 and len(result.participants) == 11
        assert result.loss is not None and result.loss < ANSWERS["adaptive"]["history"]["rounds"][-1]["loss"]
    finally:
        client.down()


def test_a_script_goes_on_with_what_it_kept(cluster: Home, tmp_path: Path) -> None:
    folder = copied("kept", tmp_path)
    with kept(folder, resume=True) as federation:
        assert [one.number for one in federation.history] == [1, 2, 3, 4]
        assert federation.node_ids == ["client_0", "client_1", "client_2", "client_3"]
        assert str(federation.topology.rule) == "star"
        assert federation.parameters()["rounds"] == 4.0
        assert federation.run_round().number == 5
        np.testing.assert_allclose(federation.parameters()["w"], np.arange(4.0) * (1 - 0.5**5))


@pytest.mark.terminal
def test_the_console_begins_where_its_last_session_ended(home: Home, terminal: MakeTerminal) -> None:
    copied("moved", home.path / "federations")
    (home.path / "console-session.json").write_bytes((HERE / "console-session.json").read_bytes())
    for path in (home.path, home.path / "federations"):
        path.chmod(0o700)
    console = terminal(home, "replay", "moved")
    console.shows(r"role:train[\s\S]*walker_1 +train-test")
    assert "client_0" not in console.text and console.text.index("role:train")
    console.press("F")
    console.shows("trainers")
