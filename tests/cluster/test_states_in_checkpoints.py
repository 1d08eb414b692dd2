"""What nodes keep is in checkpoints where that is asked for: a run that goes on elsewhere is the same run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import red_tui as red
from red_tui.checkpoints.checkpoint_file import read_checkpoint
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.checkpoints.plain_state import from_joined_arrays
from tests.cluster.counting_nodes import Counting, Odd


def make(folder: Path, isolation: str = "bundle", template: type = Counting, **more: Any) -> Any:
    return red.StarFederatedLearningSchema(
        template, ["train"] * 3, {"federation_id": "counts"}, isolation=isolation, keep=folder, **more
    )


def elsewhere(folder: Path) -> Path:
    """Another machine: nothing but the journal and the checkpoints are there."""
    made = folder.with_name(f"{folder.name}-elsewhere")
    made.mkdir(mode=0o700)
    for path in folder.iterdir():
        if path.name != "states":
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, made / path.name)
    return made


@pytest.mark.parametrize(("isolation", "state_memory"), [("process", "1GB"), ("bundle", "1GB"), ("bundle", 0)])
def test_nodes_go_on_elsewhere_with_what_they_kept(isolation: str, state_memory: Any, tmp_path: Path) -> None:
    options = {"isolation": isolation, "keep_rounds": {"last": 1, "node_states": True}, "state_memory": state_memory}
    with make(tmp_path / "whole", **options) as fed:
        fed.run(4)
        right = fed.parameters()["w"].tobytes()
    with make(tmp_path / "parts", **options) as fed:
        fed.run(3)
    (path,) = Checkpoints(tmp_path / "parts" / "checkpoints").files().values()
    kept = from_joined_arrays(read_checkpoint(path).groups["nodes"])
    assert {name: state["rounds"] for name, state in kept.items()} == {f"client_{index}": 3 for index in range(3)}
    with make(elsewhere(tmp_path / "parts"), resume=True, **options) as fed:
        (result,) = fed.run(1)
        assert result.train_metrics["rounds"] == 4
        assert any("3 nodes go on with what the checkpoint of round 3" in event.text for event in fed.feed.events)
        assert fed.parameters()["w"].tobytes() == right
    assert red.verify(tmp_path / "whole", tmp_path / "parts-elsewhere")


def test_without_the_option_they_begin_anew_elsewhere(tmp_path: Path) -> None:
    with make(tmp_path / "parts") as fed:
        fed.run(3)
    with make(elsewhere(tmp_path / "parts"), resume=True) as fed:
        assert fed.run(1)[0].train_metrics["rounds"] == 1


def test_a_state_that_no_checkpoint_may_hold_costs_no_round_and_is_named(tmp_path: Path) -> None:
    with make(tmp_path / "parts", template=Odd, keep_rounds={"node_states": True}) as fed:
        fed.run(1)
        told = fed.feed.snapshot()["note"]
        assert "what node client_1 keeps is in no checkpoint" in told and "['odd']" in told
    (path,) = Checkpoints(tmp_path / "parts" / "checkpoints").files().values()
    assert set(from_joined_arrays(read_checkpoint(path).groups["nodes"])) == {"client_0", "client_2"}
