"""Federations inside trials of Ray Tune."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red

tune = pytest.importorskip(
    "ray.tune", reason="Ray Tune is not installed: `make test-extras` installs it", exc_type=ImportError
)


@pytest.fixture(scope="module")
def four_cpus() -> Iterator[None]:
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR", namespace="red")
    yield
    ray.shutdown()


def trial(config: dict[str, Any]) -> None:
    """A federation that learns with what its trial was given; it reports what it used."""

    class Adds(red.FederatedNode):
        def initial_parameters(self) -> dict[str, Any]:
            return {"w": np.zeros(1)}

        def fit(self, parameters: dict[str, Any], told: Any) -> red.FitResult:
            return red.FitResult({"w": parameters["w"] + self.config.step}, 1, {})

        def evaluate(self, parameters: dict[str, Any], told: Any) -> red.EvaluateResult:
            return red.EvaluateResult(0.0, 1, {})

    told = red.FederationConfig(federation_id="sweep", step=config["step"])
    with red.StarFederatedLearningSchema(
        Adds, ["train"] * 2, told, isolation=config["isolation"], is_tune=True
    ) as federation:
        history = federation.run(2)
        ray.tune.report(
            {
                "weight": float(federation.parameters()["w"][0]),
                "rounds": len(history),
                "bundles": [node.bundle_idx for node in federation.nodes],
                "cpus": sum(bundle.get("CPU", 0.0) for bundle in federation.resources),
                "federation": federation.fed_id,
                "slowest": max(result.seconds for result in history),
            }
        )


def test_trials_learn_with_the_resources_that_their_split_gave_them(four_cpus: None, tmp_path: Path) -> None:
    split = red.get_resources_split(2, 2, is_tune=True)
    tuner = tune.Tuner(
        tune.with_resources(trial, split),
        param_space={"step": tune.grid_search([1.0, 3.0]), "isolation": tune.grid_search(["process", "bundle"])},
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="sweep", verbose=0),
    )
    results = tuner.fit()
    assert results.errors == []
    found = [result.metrics for result in results]
    assert sorted(metrics["weight"] for metrics in found) == [2.0, 2.0, 6.0, 6.0]
    assert all(metrics["rounds"] == 2 and metrics["bundles"] == [1, 2] for metrics in found)
    nodes = sum(bundle["CPU"] for bundle in split.bundles[1:])
    assert all(metrics["cpus"] == pytest.approx(nodes) for metrics in found), "bundle 0 is the trainable's"
    names = {metrics["federation"] for metrics in found}
    assert len(names) == 4 and all(name.startswith("sweep-") for name in names), "two trials run at a time"


def test_outside_of_a_trial_the_missing_placement_group_is_told(four_cpus: None) -> None:
    with red.StarFederatedLearningSchema(red.FederatedNode, ["train"], is_tune=True) as federation:
        assert federation.fed_id == "federation"
        with pytest.raises(red.PlacementError, match=r"tune\.with_resources"):
            federation.plan()
