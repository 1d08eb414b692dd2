"""What `red-console new` writes for other libraries runs: its own test, and its layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

import red_tui as red
from red_tui.cli.main import main
from tests.unit.test_new_folder import assert_its_test_passes

KINDS = ("torch", "sklearn", "jax")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster whose workers find what is written into three folders of it."""
    made = tmp_path_factory.mktemp("new")
    found = {"env_vars": {"PYTHONPATH": os.pathsep.join(str(made / f"new-{kind}") for kind in KINDS)}}
    ray.init(
        "local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR", namespace="red",
        runtime_env=found,
    )  # fmt: skip
    yield made
    ray.shutdown()


@pytest.mark.timeout(500)
@pytest.mark.parametrize("kind", KINDS)
def test_what_it_wrote_runs(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(kind, reason=f"{kind} is not installed: `make test-extras` installs it", exc_type=ImportError)
    monkeypatch.chdir(folder)
    name = f"new-{kind}"
    assert main(["new", name, f"--{kind}"]) == 0
    assert_its_test_passes(name)
    monkeypatch.syspath_prepend(folder / name)
    with red.Federation.from_layout(f"{name}/layout.yaml") as federation:
        federation.run(3)
        assert not any(result.failures for result in federation.history)
        assert federation.history[-1].metrics["accuracy"] > 0.4
