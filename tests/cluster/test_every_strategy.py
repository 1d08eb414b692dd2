"""Each strategy: a run that lost its server, a round and its script gives the bytes of one that lost nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

import red_tui as red
from red_tui.aggregation.strategies import CLASSES
from tests.cluster.conftest import eventually
from tests.cluster.same_bytes_nodes import Wandering

NODES, ROUNDS = 4, 5
OPTIONS = {"krum": {"keep": 2}, "fedavgm": {"momentum": 0.7}}


def pid_of(fed: red.FederatedBase) -> int:
    """Process of the server; 0 while it does not answer."""
    try:
        return int(ray.get(fed["server"].handle.red_detail.remote(), timeout=90)["pid"])
    except (ray.exceptions.RayError, AttributeError):
        return 0


@pytest.mark.parametrize(
    ("strategy", "isolation"),
    [*((name, "bundle") for name in sorted(CLASSES)), ("fedyogi", "process"), ("krum", "process")],
)
def test_a_run_that_was_broken_is_the_same_as_one_that_was_not(
    strategy: str, isolation: str, reserve: Callable[..., Any], tmp_path: Path
) -> None:
    resources, stage = reserve(num_nodes=4, num_cpus=2), tmp_path / "stage"
    stage.mkdir()

    def make(name: str, resume: bool = False) -> Any:
        return red.StarFederatedLearningSchema(
            Wandering,
            ["train-eval"] * NODES,
            {"federation_id": name, "stage": str(stage)},
            isolation=isolation,
            strategy={"name": strategy, **OPTIONS.get(strategy, {})},
            settings={"seed": 3, "min_results": 1.0},
            failure=red.FailurePolicy("rebuild", backoff=0.01),
            resources=resources,
            keep=tmp_path / name,
            resume=resume,
        )

    with make("whole") as fed:
        fed.run(ROUNDS)
        right = fed.parameters()
    with make("broken") as fed:
        fed.run(2)
        # Its server is lost.
        lost = pid_of(fed)
        os.kill(lost, signal.SIGKILL)
        eventually(
            lambda: str(fed["server"].state) == "ready" and pid_of(fed) not in (0, lost), "there is another server"
        )
        fed.run(1)
        # A round is stopped after it was aggregated.
        (stage / "hold").touch()
        fed.start_run(1)
        eventually(lambda: bool(list(stage.glob("hold-*"))), "nodes evaluate")
        fed.stop(now=True)
        (stage / "hold").unlink()
        eventually(lambda: not fed.running, "the run has ended")
        names = [f"client_{index}" for index in range(NODES)]
        eventually(lambda: all(str(fed[name].state) == "ready" for name in names), "all nodes have come back")
        assert len(fed.history) == 3
        fed.run(1)
    with make("broken", resume=True) as fed:
        fed.run(1)
        found = fed.parameters()
    compared = red.verify(tmp_path / "whole", tmp_path / "broken")
    assert (compared.verdict, compared.compared, compared.same_through) == ("same", ROUNDS, ROUNDS), str(compared)
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in right.items()
    }
