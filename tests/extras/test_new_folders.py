"""What `red-console new` writes for other libraries runs: its own test, and its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

import red_tui as red
from red_tui.cli.main import main
from tests.unit.test_new_folder import assert_its_test_passes


@pytest.mark.timeout(500)
@pytest.mark.parametrize("kind", ["torch", "sklearn", "jax"])
def test_what_it_wrote_runs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(kind, reason=f"{kind} is not installed: `make test-extras` installs it", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    name = f"new-{kind}"
    assert main(["new", name, f"--{kind}"]) == 0
    assert_its_test_passes(name)
    monkeypatch.syspath_prepend(tmp_path / name)
    path = {"env_vars": {"PYTHONPATH": str(tmp_path / name)}}
    ray.init(
        "local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        namespace="red",
        runtime_env=path,
    )
    try:
        with red.Federation.from_layout(f"{name}/layout.yaml") as federation:
            federation.run(3)
            assert not any(result.failures for result in federation.history)
            assert federation.history[-1].metrics["accuracy"] > 0.4
    finally:
        ray.shutdown()
