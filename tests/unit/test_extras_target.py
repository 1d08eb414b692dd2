"""`make test-extras` where some or all of the optional libraries cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# As somebody calls it, also where make runs these tests.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "GNUMAKE"))}

PYTHON = """#!/bin/sh
# Stands for the Python of the second environment: notes what it is asked for, and has no network for some of it.
echo "$*" >> asked
case "$*" in
  *pip*install*) for one in $(cat refused); do case "$*" in *"$one"*) exit 1 ;; esac; done ;;
  *"import pytest"*) test ! -e bare ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    binaries = tmp_path / ".venv-extras" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").write_text(PYTHON)
    (binaries / "python").chmod(0o755)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )


def made(folder: Path, refused: str) -> tuple[list[str], str]:
    """What `make test-extras` asked Python for, and what it told, where some installations fail; it must not fail."""
    (folder / "refused").write_text(refused)
    (folder / "asked").write_text("")
    done = make(folder, "test-extras")
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "asked").read_text().splitlines(), done.stderr


def installed(asked: list[str]) -> int:
    return sum(" install " in line for line in asked)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("[tune,pandas]", "Ray Tune or pandas"),
        ("jax", "scikit-learn, JAX or Ray Data"),
        ("torch==", "PyTorch or MNIST"),
        ("mnist pandas", "Ray Tune or pandas, PyTorch or MNIST"),
    ],
)
def test_what_could_not_be_installed_is_told_and_tried_again_and_the_rest_is_tested(
    refused: str, told: str, folder: Path
) -> None:
    for _ in range(2):
        asked, said = made(folder, refused)
        assert installed(asked) >= 4 and asked[-1] == "-m pytest tests/extras"
        assert f"cannot be installed here: {told}; their tests are skipped, and the next make" in said
    asked, said = made(folder, "")
    assert installed(asked) == 5 and "cannot be installed" not in said
    asked, said = made(folder, "install")
    assert installed(asked) == 0 and asked[-1] == "-m pytest tests/extras", "all is there: nothing is asked for"


def test_each_installation_has_a_limit_of_time(folder: Path) -> None:
    dry = make(folder, "-n", "test-extras")
    assert dry.stdout.count("pip install") == dry.stdout.count("timeout ") == 5


def test_without_any_of_it_the_tests_are_left_out_and_it_says_so(folder: Path) -> None:
    (folder / "bare").touch()
    asked, said = made(folder, "install")
    assert not any("-m pytest" in line for line in asked)
    assert "cannot be installed here: what tests need, Ray Tune" in said and "tests/extras cannot run here" in said
