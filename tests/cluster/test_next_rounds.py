"""The next rounds are changed while a federation runs: nodes see it from the next round on, and never in the middle."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import red_tui as red
from red_tui.errors import CommandRefused
from tests.cluster.conftest import eventually
from tests.cluster.templates import Told

Reserve = Callable[..., Any]
ISOLATIONS = ["process", "bundle"]


@pytest.fixture
def group(reserve: Reserve) -> Any:
    return reserve(num_nodes=2, num_cpus=2)


def star(config: red.FederationConfig, group: Any, isolation: str, **options: Any) -> red.FederatedBase:
    return red.StarFederatedLearningSchema(Told, ["train"] * 2, config, resources=group, isolation=isolation, **options)


def seen(result: red.RoundResult) -> dict[str, float]:
    return {name: round(value, 6) for name, value in result.train_metrics.items()}


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_nodes_of_the_next_round_see_the_new_learning_rate(
    group: Any, config: red.FederationConfig, isolation: str
) -> None:
    with star(config.updated(learning_rate=0.3), group, isolation) as federation:
        assert seen(federation.run_round()) == {"told": -1, "own": 0.3, "at_first": 0.3, "momentum": 0}
        changes = federation.set_round({"+momentum": 0.9}, learning_rate=0.1, fraction=0.5)
        assert [str(change) for change in changes] == [
            "momentum is new: 0.9",
            "learning_rate 0.3 → 0.1",
            "fraction 1.0 → 0.5",
        ]
        half = federation.run_round()
        assert seen(half) == {"told": 0.1, "own": 0.1, "at_first": 0.3, "momentum": 0.9}
        assert len(half.participants) == 1
        federation.set_round(fraction=1.0)
        federation.release(None)  # who is built anew knows it from the beginning
        assert seen(federation.run_round()) == {"told": 0.1, "own": 0.1, "at_first": 0.1, "momentum": 0.9}
        assert federation.round_settings["learning_rate"] == 0.1
        with pytest.raises(CommandRefused, match="did you mean learning_rate"):
            federation.set_round(lerning_rate=1)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_change_in_the_middle_of_a_round_waits_for_the_next(
    group: Any, config: red.FederationConfig, isolation: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = config.updated(learning_rate=0.3, gate=str(tmp_path))
    settings = red.RoundSettings(deadline=None)
    with caplog.at_level(logging.INFO), star(told, group, isolation, settings=settings) as federation:
        federation.start_run(2)
        eventually(lambda: any(tmp_path.iterdir()), "a node is in the first round")
        federation.set_round(learning_rate=0.1, deadline=30)
        assert federation.feed.snapshot()["next_rounds"]["later"] == ["deadline", "learning_rate"]
        (tmp_path / "open").touch()
        eventually(lambda: not federation.running, "both rounds are over")
        first, second = federation.history
        assert (seen(first)["own"], seen(second)["own"]) == (0.3, 0.1)
        assert federation.feed.snapshot()["next_rounds"] == {
            "values": {
                "fraction": [1.0], "deadline": [30], "min_results": [0.5], "evaluate_every": [1], "exact": [False],
                "learning_rate": [0.1], "gate": [str(tmp_path)],
            },
            "later": [],
        }  # fmt: skip
    assert "next rounds: learning_rate 0.3 → 0.1, deadline null → 30; from round 2 on" in caplog.text
