"""`red-console new`: a folder that runs at once, and nothing that is overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from red_tui.cli.main import main
from red_tui.cli.new_folder import KINDS, files_of
from red_tui.layout import loads


def assert_its_test_passes(folder: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_writes_four_files_and_says_how_to_run_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "my-digits"]) == 0
    told = capsys.readouterr()
    assert told.out.split() == [
        f"my-digits/{name}" for name in ("layout.yaml", "my_digits_nodes.py", "test_my_digits_nodes.py", "README.md")
    ]
    assert "cd my-digits && red-console run layout.yaml" in told.err
    assert main(["check", "my-digits/layout.yaml"]) == 0
    assert main(["data", "my-digits/layout.yaml", "--json"]) == 0


def test_what_it_wrote_runs() -> None:
    """Its own test, which trains a node without Ray; those of other kinds are in tests/extras."""
    assert main(["new", "mine"]) == 0
    assert_its_test_passes("mine")


@pytest.mark.parametrize("kind", KINDS)
def test_its_layout_is_one_and_its_modules_are_python(kind: str) -> None:
    files = files_of("a-b", kind)
    assert loads(files["layout.yaml"]).template == "a_b_nodes:Client"
    for name, text in files.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
    assert ("pip install 'red-tui[" + kind in files["README.md"]) == (kind != "numpy")


@pytest.mark.parametrize(
    "name", ["", "My", "a_b", "1a", "a--b", "-a", "a/b", "../a", "a.b", "class", "a" * 41, "é", "a\n"]
)
def test_a_name_that_cannot_be_one_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "--", name]) == 2
    assert "cannot name a federation and its module" in capsys.readouterr().err
    assert [*Path().iterdir()] == []


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("other").write_text("precious")
    for name in ("mine", "other"):
        assert main(["new", name]) == 1
        assert f"{name} is there already, and nothing in it is overwritten" in capsys.readouterr().err
    assert [*Path("mine").iterdir()] == [] and Path("other").read_text() == "precious"


def test_one_kind_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["new", "mine", "--torch", "--jax"])
    assert "not allowed with" in capsys.readouterr().err
