"""Examples that need optional libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.timeout(400)
def test_each_trial_of_a_search_is_a_federation_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("ray.tune", reason="Ray Tune is not installed: `make test-extras` does", exc_type=ImportError)
    command = [sys.executable, str(EXAMPLES / "tune_trials.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the best learning rate is 0.9" in done.stdout


@pytest.mark.timeout(400)
def test_a_model_of_pytorch_learns_digits(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: `make test-extras` does", exc_type=ImportError)
    command = [sys.executable, str(EXAMPLES / "torch_digits.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(done.stdout.rpartition("accuracy ")[2]) > 0.75
