"""Checkpoints by name: which stay, which is meant, what is read, and what is said where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import red_tui as red
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.checkpoints.keep_rule import KeepRule
from red_tui.checkpoints.sources import StartingPoint, export_parameters, find_checkpoint
from red_tui.cli.main import main
from red_tui.federation.argument_checks import starting_point
from red_tui.federation.run_folder.recovered_run import keep_rule_of
from red_tui.layout import loads
from tests.cluster.templates import Counting

LOSSES = {1: 0.9, 2: 0.3, 3: 0.3, 4: 0.5, 5: 0.7, 6: 0.8}


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    """Six rounds of a federation of this user, of which the last two and that of the lowest loss are kept."""
    monkeypatch.setenv("RED_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "federations" / "digits" / "checkpoints"
    checkpoints = Checkpoints(folder, KeepRule.of(2, "loss"), "digits")
    for number, loss in LOSSES.items():
        figures = {"loss": loss, "accuracy": 1 - loss}
        checkpoints.save(number, {"w": np.full(3, float(number))}, figures=figures)
    return checkpoints


# -- which stay ------------------------------------------------------------------------------------


def test_the_best_round_stays_beside_the_last_ones_the_first_of_equal_ones(digits: Checkpoints) -> None:
    assert list(digits.files()) == [2, 5, 6]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (KeepRule.of(1, "accuracy"), [2, 6]),
        (KeepRule.of(1, "-accuracy"), [1, 6]),
        (KeepRule.of(1, "loss", "highest"), [1, 6]),
        (KeepRule.of(3, "loss"), [2, 4, 5, 6]),
        (KeepRule.of(2, "never_reported"), [5, 6]),
        (KeepRule(1), [6]),
    ],
)
def test_a_rule_says_which_round_is_the_best(tmp_path: Path, rule: KeepRule, kept: list[int]) -> None:
    checkpoints = Checkpoints(tmp_path, rule)
    for number, loss in LOSSES.items():
        saved = checkpoints.save(number, {}, figures={"loss": loss, "accuracy": 1 - loss})
    assert list(checkpoints.files()) == kept
    assert ("best" in saved.to_wire()) is (rule.best in ("loss", "accuracy"))


def test_low_values_of_losses_errors_and_distances_are_the_good_ones() -> None:
    names = ("loss", "train_loss", "val.loss", "rmse", "perplexity", "accuracy", "f1", "lossless", "reward")
    assert [name for name in names if KeepRule.of(1, name).lowest] == list(names[:5])
    assert KeepRule.of(1, "-reward") == KeepRule(1, "reward", True)
    assert KeepRule.of(1, "loss", "highest").words == "highest loss"


def test_a_best_round_that_is_damaged_is_no_best_round(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, KeepRule.of(1, "loss"))
    for number, loss in ((1, 0.1), (2, 0.2)):
        checkpoints.save(number, {"w": np.ones(2)}, figures={"loss": loss})
    os.truncate(checkpoints.path(1), 30)
    checkpoints.save(3, {"w": np.ones(2)}, figures={"loss": 0.3})
    assert list(checkpoints.files()) == [2, 3]


# -- which is meant --------------------------------------------------------------------------------


def test_parameters_are_loaded_by_file_and_by_name_without_ray(digits: Checkpoints, tmp_path: Path) -> None:
    script = """
import json, sys
import red_tui as red
told = [red.load_parameters(source)["w"][0] for source in sys.argv[1:]]
print(json.dumps([told, sorted({"ray", "textual", "torch"} & set(sys.modules))]))
"""
    sources = [
        "digits@best", "digits@last", "digits@5", "digits@best:accuracy", "digits@best:-accuracy",
        str(digits.path(5)), f"{digits.folder.parent}@best", f"{digits.folder}@last",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script, *sources], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[2.0, 6.0, 5.0, 2.0, 6.0, 5.0, 2.0, 6.0], []]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("digits@4", "round 4 of 'digits' is not kept: there are 2, 5 and 6"),
        ("digits@best:f1", "'digits' keeps no round that reports 'f1': they report accuracy, loss"),
        ("digits@first", "'first' is no round: write FILE, FEDERATION@best, FEDERATION@last, or FEDERATION@12"),
        ("digits", "digits is a federation: say which of its rounds, as in digits@best"),
        ("letters@best", "'letters' has no checkpoint"),
        ("nowhere.safetensors", "nowhere.safetensors: there is no such file: write FILE, FEDERATION@best"),
        ("@best", "there is no such file"),
        ("digits@", "there is no such file"),
        ("/nowhere/at/all@3", "has no checkpoint (/nowhere/at/all keeps none)"),
    ],
)
def test_a_source_that_is_not_there_says_which_are(digits: Checkpoints, source: str, told: str) -> None:
    with pytest.raises(red.CheckpointError) as caught:
        red.load_parameters(source)
    assert told in str(caught.value)


def test_looking_for_a_federation_makes_no_folder(digits: Checkpoints) -> None:
    with pytest.raises(red.CheckpointError):
        find_checkpoint("letters@best")
    assert os.listdir(digits.folder.parents[1]) == ["digits"]


def test_a_file_of_another_program_is_read_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    save_file({"layer.0": np.arange(4.0), "b": np.ones((), ml_dtypes.bfloat16)}, tmp_path / "model.safetensors")
    found = red.load_parameters(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(found["layer.0"], np.arange(4.0))
    assert found["b"].dtype == ml_dtypes.bfloat16
    (tmp_path / "note.txt").write_text("no parameters")
    with pytest.raises(red.CheckpointError, match=r"note\.txt is truncated or no checkpoint"):
        red.load_parameters(tmp_path / "note.txt")
    with pytest.raises(red.CheckpointError, match="extension must be"):
        red.load_parameters(tmp_path / "model.safetensors", extension="float16")


def test_an_export_is_a_plain_file_and_replaces_nothing(digits: Checkpoints, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "half" / "checkpoints", federation="half")
    given = {"w": np.array([1.5, -2.0], ml_dtypes.bfloat16), "n": np.array(3)}
    checkpoints.save(1, given, groups={"strategy": {"m": np.ones(9)}})
    export_parameters(f"{tmp_path}/half@last", tmp_path / "a.safetensors")
    export_parameters(f"{tmp_path}/half@last", tmp_path / "b.safetensors", extension="float32")
    kept, wide = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    assert set(kept) == {"w", "n"} and kept["w"].dtype == ml_dtypes.bfloat16 and kept["n"] == 3
    assert wide["w"].dtype == np.float32 and wide["w"].tolist() == [1.5, -2.0]
    with pytest.raises(red.CheckpointError, match="is there already"):
        export_parameters(f"{tmp_path}/half@last", tmp_path / "a.safetensors")
    with pytest.raises(red.CheckpointError, match="cannot be written"):
        export_parameters(f"{tmp_path}/half@last", tmp_path / "no" / "folder.safetensors")
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["a.safetensors", "b.safetensors"]


def test_a_starting_point_stays_when_its_source_goes(digits: Checkpoints, tmp_path: Path) -> None:
    own = tmp_path / "home" / "federations" / "second"
    own.mkdir(mode=0o700)
    start = StartingPoint("digits@best").pinned(own)
    assert (own / "start.safetensors").stat().st_ino == digits.path(2).stat().st_ino
    for path in digits.files().values():
        path.unlink()
    assert start.load()["w"][0] == 2.0
    save_file({"w": np.zeros(1)}, tmp_path / "mine.safetensors")
    again = StartingPoint("mine.safetensors", tmp_path).pinned(own)
    save_file({"w": np.ones(1)}, tmp_path / "mine.safetensors")
    assert again.load()["w"][0] == 0.0


# -- scripts, layouts, command line ------------------------------------------------------------------


def test_a_script_starts_from_a_source_and_hears_at_once_if_there_is_none(digits: Checkpoints) -> None:
    red.StarFederatedLearningSchema(Counting, ["train"], {}, initial_parameters="digits@best").close()
    with pytest.raises(red.CheckpointError, match="round 4 of 'digits' is not kept"):
        red.StarFederatedLearningSchema(Counting, ["train"], {}, initial_parameters="digits@4")
    assert isinstance(starting_point(digits.path(5), resume=False), StartingPoint)
    assert isinstance(starting_point("digits@4", resume=True), StartingPoint)


LAYOUT = """federation: second
template: tests.cluster.templates:Counting
nodes: [{count: 2, role: train}]
"""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", KeepRule(3)),
        ("rounds: {checkpoints: 0}", KeepRule(0)),
        ("rounds: {keep: {last: 5}}", KeepRule(5)),
        ("rounds: {keep: {best: accuracy}}", KeepRule(3, "accuracy")),
        ("rounds: {keep: {last: 1, best: loss}}", KeepRule(1, "loss", True)),
        ("rounds: {keep: {best: -score}}", KeepRule(3, "score", True)),
        ("rounds: {keep: {best: error rate, by: highest}}", KeepRule(3, "error rate", False)),
    ],
)
def test_a_layout_says_which_rounds_stay(text: str, rule: KeepRule) -> None:
    layout = loads(LAYOUT + text)
    assert keep_rule_of(layout.rounds) == rule
    assert loads(layout.to_yaml()) == layout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rounds: {keep: {last: 0}}", "rounds.keep.last"),
        ("rounds: {keep: {by: highest}}", "says how a best round is chosen, and best names no metric"),
        ("rounds: {keep: {best: -loss, by: highest}}", "contradicts best: -loss"),
        ("rounds: {keep: {best: accuracy, by: most}}", "rounds.keep.by"),
        ("rounds: {keep: {beste: accuracy}}", "best"),
        ("rounds: {checkpoints: 4, keep: {last: 3}}", "says 4, and keep.last says 3: write one of them"),
        ("start_from: 12", "start_from"),
        ("start_from: ''", "start_from"),
    ],
)
def test_a_layout_that_keeps_or_starts_in_no_way_is_refused(text: str, told: str) -> None:
    with pytest.raises(red.LayoutError) as caught:
        loads(LAYOUT + text)
    assert told in str(caught.value)


def test_a_layout_that_starts_from_a_round_that_is_gone_says_where_and_which_there_are(
    digits: Checkpoints, tmp_path: Path
) -> None:
    path = tmp_path / "second.yaml"
    path.write_text(LAYOUT + "start_from: digits@4\n")
    with pytest.raises(red.LayoutError, match=r"second\.yaml:4.*round 4 of 'digits' is not kept: there are 2, 5 and 6"):
        red.Federation.from_layout(path, working_dir=Path.cwd())
    path.write_text(LAYOUT + "start_from: digits@5\n")
    red.Federation.from_layout(path, working_dir=Path.cwd()).close()


def told_by(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_checkpoints_are_listed_verified_and_exported_on_the_command_line(
    digits: Checkpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = told_by(capsys, "checkpoint", "ls", "digits")
    assert code == 0 and told["by"] == "lowest loss" and told["refused"] == {}
    assert [(one["round"], one["best"], one["figures"]["loss"]) for one in told["checkpoints"]] == [
        (2, True, 0.3), (5, False, 0.7), (6, False, 0.8),
    ]  # fmt: skip
    assert main(["checkpoint", "ls", str(digits.folder.parent)]) == 0
    assert "round 2  " in (out := capsys.readouterr().out) and "best: lowest loss" in out.splitlines()[0]

    code, told = told_by(capsys, "checkpoint", "verify", "digits")
    assert code == 0 and [one["round"] for one in told["checkpoints"]] == [2, 5, 6]
    content = bytearray(digits.path(5).read_bytes())
    content[-1] ^= 1
    digits.path(5).write_bytes(content)
    code, told = told_by(capsys, "checkpoint", "verify", "digits")
    assert code == 1 and [one["sound"] for one in told["checkpoints"]] == [True, False, True]
    assert "is damaged: its parameters are not those that were written" in told["checkpoints"][1]["why"]
    assert main(["checkpoint", "verify", "digits@6"]) == 0
    capsys.readouterr()

    target = tmp_path / "best.safetensors"
    code, told = told_by(capsys, "export", "digits@best", str(target))
    assert code == 0 and told["size"] == target.stat().st_size
    assert load_file(target)["w"].tolist() == [2.0, 2.0, 2.0]
    assert main(["checkpoint", "export", "digits@best", str(target)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["checkpoint", "ls", "letters"]) == 1
    assert "'letters' has no checkpoint" in capsys.readouterr().err
