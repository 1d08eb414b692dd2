"""A federation of a script has a folder: its journal, history and checkpoints, with which a later script goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import red_tui as red
from red_tui.checkpoints.checkpoint_file import digest_of
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.cli import main as cli
from red_tui.errors import CommandRefused, NameTaken
from red_tui.journal.journal import Journal
from tests.cluster.conftest import eventually
from tests.cluster.keep_nodes import Drifting, Wide, falling

SCRIPT = """
import os, sys
import numpy as np, ray
import red_tui as red
from tests.cluster.keep_nodes import Drifting

ray.init(sys.argv[1], namespace="tests", log_to_driver=False, logging_level="ERROR")
fed = red.StarFederatedLearningSchema(
    Drifting, ["train"] * 3, {"federation_id": "killed"}, isolation="bundle", keep=sys.argv[2], strategy="median"
)
fed.run(100_000)
"""


@pytest.fixture(params=["process", "bundle"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "runs" / "a"


def make(fed_id: str, isolation: str = "bundle", **more: Any) -> Any:
    roles = more.pop("roles", ["train"] * 3)
    return red.StarFederatedLearningSchema(Drifting, roles, {"federation_id": fed_id}, isolation=isolation, **more)


def newest(folder: Path) -> int:
    """The last round whose parameters have been saved; 0 if there is none."""
    return max(
        (int(path.stem.removeprefix("round-")) for path in folder.glob("checkpoints/round-*.safetensors")), default=0
    )


def assert_equal(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.tobytes() == other[name].tobytes(), name


def test_a_later_script_goes_on_as_if_the_first_had_not_ended(isolation: str, folder: Path) -> None:
    # A median does not depend on the order in which updates arrive.
    with make("whole", isolation, strategy="median") as fed:
        fed.run(4)
        whole = fed.parameters()
    with make("parts", isolation, keep=folder, strategy="median") as fed:
        fed.run(2)
        before = fed.parameters()
    (run,) = red.runs(folder)
    assert (run.summary.rounds, run.summary.ending.split(" of ")[0]) == (2, "closed by the script")
    with make("parts", isolation, keep=folder, resume=True, strategy="median") as fed:
        assert red.runs(folder)[0].in_use
        assert [result.number for result in fed.history] == [1, 2]
        assert fed.placement_groups == []  # nothing was reserved to look at it
        assert_equal(fed.parameters(), before)
        assert [result.number for result in fed.run(2)] == [3, 4]
        assert (red.runs(folder)[0].summary.rounds, red.runs(folder)[0].summary.ending) == (4, "")
        assert [result.number for result in fed.history] == [1, 2, 3, 4]
        assert_equal(fed.parameters(), whole)


def test_two_runs_are_verified_by_what_they_keep_and_by_their_histories(folder: Path) -> None:
    for name, rounds, changed in (("one", 3, 0), ("two", 2, 0), ("three", 3, 1)):
        with make(name, keep=folder.with_name(name), strategy={"name": "fedavgm", "momentum": 0.5}) as fed:
            fed.run(2)
            if changed:
                fed.set_round(fraction=0.34)
            if rounds > 2:
                fed.run(1)
            assert all(len(one.digests["parameters"]) == len(one.digests["state"]) == 64 for one in fed.history)
    with make("memory", strategy={"name": "fedavgm", "momentum": 0.5}) as fed:
        fed.run(3)
        # What the server tells of a small model is what a checkpoint tells.
        assert red.verify(fed, folder.with_name("one")).same_through == 3
    same = red.verify(folder.with_name("one"), folder.with_name("two"))
    assert (same.verdict, same.same_through, same.last, same.differences) == ("same", 2, (3, 2), ())
    parted = red.verify(folder.with_name("one"), folder.with_name("three"))
    assert (parted.verdict, parted.round, parted.same_through) == ("parted", 3, 2)
    assert any(line.startswith("changed after the launch") for line in parted.differences)


def test_a_large_model_without_checkpoints_has_digests_too() -> None:
    with red.StarFederatedLearningSchema(Wide, ["train"] * 2, {"federation_id": "large"}, isolation="bundle") as fed:
        (result,) = fed.run(1)
        assert result.digests == {"parameters": digest_of(fed.parameters()), "state": ""}


@pytest.mark.parametrize(
    ("asked", "kept"), [(5, [2, 3, 4, 5, 6]), (0, []), ({"last": 1, "best": "loss", "by": "highest"}, [1, 6])]
)
def test_a_script_says_which_rounds_stay(asked: Any, kept: list[int], folder: Path) -> None:
    with make("stays", keep=folder, keep_rounds=asked, evaluator=falling) as fed:
        fed.run(6)
    assert list(Checkpoints(folder / "checkpoints").files()) == kept


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (-1, "keep_rounds must be a whole number"),
        ("best", "keep_rounds must be a whole number"),
        ({"last": 0}, r"keep_rounds\['last'\]: .* greater than or equal to 1"),
        ({"best": "loss", "newest": 3}, r"keep_rounds\['newest'\]: "),
    ],
)
def test_what_says_of_no_round_that_it_stays_is_refused(asked: Any, why: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=why):
        make("stays", keep=folder, keep_rounds=asked)
    with pytest.raises(ValueError, match="there is none: name a folder"):
        make("stays", keep_rounds=3)


def test_nodes_that_joined_and_left_are_there_and_gone_again(folder: Path) -> None:
    with make("members", keep=folder) as fed:
        fed.add_nodes(2)
        fed.remove_nodes("client_0")
        fed.run(1)
        ids = fed.node_ids
    with make("members", keep=folder, resume=True) as fed:
        assert fed.node_ids == ids == ["client_1", "client_2", "client_3", "client_4"]
        assert {str(node.state) for node in fed.nodes} == {"virtual"}
        assert sorted(fed.run_round().participants) == ids


def test_files_are_private_and_the_verbs_read_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with red.RingFederatedLearningSchema(
        Drifting, ["train"] * 3, {"federation_id": "ring"}, isolation="bundle", keep=folder
    ) as fed:
        fed.run(2)
    modes = {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert {mode for name, mode in modes.items() if (folder / name).is_file()} == {0o600}
    assert folder.stat().st_mode & 0o777 == modes["checkpoints"] == 0o700
    assert {"journal.db", "layout.yaml", "launch.json", "checkpoints/round-000002.safetensors"} <= set(modes)
    assert cli.main(["history", str(folder), "--json"]) == 0
    assert [one["number"] for one in json.loads(capsys.readouterr().out)["rounds"]] == [1, 2]
    assert cli.main(["replay", str(folder), "--at", "end", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["federation"], told["topology"], told["rounds"]) == ("ring", "ring", 2)
    assert (told["nodes"], told["states"], told["event"]) == (3, {"released": 3}, told["last_event"])
    journal = Journal(folder / "journal.db", read_only=True)
    assert journal.before(None, 1)[0].text.startswith("closed by the script of ")
    journal.close()


def test_a_folder_that_is_used_is_refused_with_the_way_on(folder: Path) -> None:
    used = pytest.raises(NameTaken, match="in use by this very process: close that federation first")
    with make("first", keep=folder), used:
        make("first", keep=folder, resume=True)
    with pytest.raises(CommandRefused, match="keeps a federation already: pass resume=True"):
        make("first", keep=folder)
    with pytest.raises(CommandRefused, match=r"keeps another federation \(nodes\[0\].count: 3 → 2\)"):
        make("first", keep=folder, resume=True, roles=["train"] * 2)
    with pytest.raises(CommandRefused, match=r'keeps another federation .federation: "first" → "second"'):
        make("second", keep=folder, resume=True)
    record = json.loads((folder / "launch.json").read_text())
    (folder / "launch.json").write_text(json.dumps({**record, "cluster": {"address": "10.0.0.1:6379"}}))
    with pytest.raises(CommandRefused, match=r"belongs to a federation that was launched.*red-console adopt"):
        make("first", keep=folder, resume=True)
    (folder / "launch.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match='name the folder with keep="runs/a"'):
        make("first", resume=True)
    with make("first", keep=folder, resume=True) as fed:  # none of those refusals holds the folder
        assert fed.num_nodes == 3


def test_other_settings_are_told_when_it_goes_on(folder: Path) -> None:
    with make("told", keep=folder, strategy="fedadam") as fed:
        fed.run(1)
    with make("told", keep=folder, resume=True, settings={"deadline": 30.0}, strategy="fedadam") as fed:
        fed.parameters()
        texts = [event.text for event in fed.feed.events]
    assert not any("begins without what it remembered" in text for text in texts)
    assert "goes on with other settings: rounds.deadline: 60.0 → 30.0" in texts


def test_a_script_that_is_killed_goes_on_from_its_last_round(folder: Path, tmp_path: Path) -> None:
    """SIGKILL amid rounds: what counts is as if it had never been killed."""
    address = ray.get_runtime_context().gcs_address
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, str(script), address, str(folder)], env={**os.environ, "PYTHONPATH": root}
    )
    try:
        # A round is saved before it counts: where the fourth has been saved, three count.
        saved = "four rounds have been saved, or the script has ended"
        eventually(lambda: process.poll() is not None or newest(folder) >= 4, saved, 500.0)
        assert process.poll() is None, "a script that runs for ever has ended by itself"
        with pytest.raises(NameTaken, match=f"in use by process {process.pid} of"):
            make("killed", keep=folder, resume=True, strategy="median")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with make("killed", keep=folder, resume=True, strategy="median") as fed:
        done = len(fed.history)
        assert done >= 3
        fed.run(2)
        resumed = fed.parameters()
        assert [result.number for result in fed.history] == list(range(1, done + 3))
    with make("whole", strategy="median") as fed:
        fed.run(done + 2)
        assert_equal(fed.parameters(), resumed)


def test_a_layout_federation_keeps_its_folder_too(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "small.yaml"
    layout.write_text(
        "federation: laid\ntemplate: tests.cluster.keep_nodes:Drifting\nnodes: [{count: 2, role: train}]\n"
        "placement: {isolation: bundle, cpus: 1, bundles: 1}\nrounds: {checkpoints: 1}\n"
    )
    with red.Federation.from_layout(layout, keep=folder) as fed:
        fed.run(2)
    assert [path.name for path in folder.glob("checkpoints/*")] == ["round-000002.safetensors"]
    with red.Federation.from_layout(layout, keep=folder, resume=True) as fed:
        assert fed.run_round().number == 3


def test_damage_in_a_folder_is_told_and_ends_no_script(folder: Path) -> None:
    with make("hurt", keep=folder, strategy="median") as fed:
        fed.run(2)
        before = fed.parameters()
        fed.run(1)
    (folder / "checkpoints" / "round-000003.safetensors").write_bytes(b"no checkpoint")
    journal = folder / "journal.db"
    journal.write_bytes(b"\xff" * 100 + journal.read_bytes()[100:])
    (folder / "launch.json").write_text("{")
    with make("hurt", keep=folder, resume=True, strategy="median") as fed:
        assert len(fed.history) == 3
        assert_equal(fed.parameters(), before)  # those of the checkpoint before
        note = fed.feed.snapshot()["note"]
        (aside,) = folder.glob("journal-damaged-*.db")
        assert "the journal is damaged" in note and aside.name in note
        assert fed.run_round().number == 4
    for left in folder.glob("journal*"):
        left.unlink()
    with pytest.raises(CommandRefused, match="keeps a federation already"):
        make("hurt", keep=folder)
    with make("hurt", keep=folder, resume=True, strategy="median") as fed:
        fed.build()
        assert "journal.db (the file is empty or gone)" in fed.feed.snapshot()["note"]
        assert fed.run_round().number == 5, "after the newest checkpoint"


def test_a_folder_that_vanishes_is_a_standing_warning_and_rounds_go_on(folder: Path) -> None:
    with make("gone", keep=folder) as fed:
        fed.run(2)
        shutil.rmtree(folder.parent)
        assert [result.number for result in fed.run(2)] == [3, 4]
        assert "what was written before (the file was removed" in fed.feed.snapshot()["note"]
        fed.run(1)
        assert "what was written before (the file was removed" in fed.feed.snapshot()["note"], "it stands"
    journal = Journal(folder / "journal.db", read_only=True)
    assert [one["number"] for one in journal.fold().rounds][-1] == 5, "it is kept again where it can be"
    journal.close()


def test_a_folder_that_cannot_be_written_costs_no_round(folder: Path) -> None:
    with make("full", keep=folder) as fed:
        fed.run(1)
        shutil.rmtree(folder.parent)
        folder.parent.write_text("in the way")  # no folder can be made there: as on a full disk
        assert [result.number for result in fed.run(2)] == [2, 3]
        note = fed.feed.snapshot()["note"]
        assert "what happens now is not kept on disk" in note and "cannot be saved" in note
        folder.parent.unlink()
        assert fed.run_round().number == 4
        note = fed.feed.snapshot()["note"]
        assert "not kept on disk" not in note and "cannot be saved" not in note
