"""Each script of `examples/` does what its first line says."""

from __future__ import annotations

from pathlib import Path

import pytest

import red_tui
from tests.docs.blocks import ROOT, run_script
from tests.system.support import Home

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OPTIONAL = {"torch_digits", "tune_trials"}
"""What `make test-extras` runs: it needs optional libraries."""


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.stem not in OPTIONAL], ids=lambda path: path.stem
)  # fmt: skip
def test_an_example_runs_and_leaves_nothing(
    path: Path, cluster: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_script(path, monkeypatch, tmp_path)
    assert capsys.readouterr().out.strip(), "it says what it has done"
    assert red_tui.open_federations() == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60
