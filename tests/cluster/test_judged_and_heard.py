"""Central evaluation, patience, hooks and the figures of every node, in a federation with real processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import red_tui as red
from red_tui.protocol.events import Event
from tests.cluster.conftest import eventually
from tests.cluster.hooked_nodes import LOSSES, Learner, Notes, judge


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_the_servers_node_judges_a_hook_hears_and_a_run_ends_where_nothing_gets_better(
    cluster: None, config: red.FederationConfig, tmp_path: Path, isolation: str
) -> None:
    notes = Notes()
    told = config.updated(depth=3)
    with red.StarFederatedLearningSchema(
        Learner, ["train"] * 2 + ["train-eval"], told, isolation=isolation, evaluator=judge, hooks=[notes],
        settings={"node_history": True}, keep=tmp_path / "run",
    ) as federation:  # fmt: skip
        history = federation.run(5, until="f1>0.9 or no better loss for 2 rounds")
        assert [one.loss for one in history] == list(LOSSES[:4]), "round 2 was the best one, and two rounds old"
        best = history.best()
        assert best is not None and (best.round, best.value) == (2, 0.4)
        assert [one.metrics.get("central_loss") for one in history] == [1.0, None, 3.0, 4.0], (
            "round 2 could not be judged"
        )
        pids = {one.metrics["central_pid"] for one in history if "central_pid" in one.metrics}
        assert len(pids) == 1 and os.getpid() not in pids, "one process judges, and it is not this one"
        events = [Event.from_wire(wire).text for wire in federation.feed.snapshot()["events"]]
        assert any("the central evaluation failed: OSError: the test data are gone" in text for text in events)
        assert any("the run may never end by f1" in text for text in events)
        assert "no better loss for 2 rounds: the run ends" in events
        figures = federation.history.nodes(3)
        assert figures["client_1"].pop("seconds") >= 0 and figures["client_1"] == {"examples": 4.0, "train_loss": 1.0}
        assert figures["client_2"]["accuracy"] == 0.5 and figures["client_2"]["loss"] == LOSSES[2]
        with pytest.raises(red.RedError, match="round 9"):
            federation.history.nodes(9)
        seen = [(federation.fed_id, 1, 5, "f1>0.9 or no better loss for 2 rounds", 3), 1, 2, 3, 4, [1, 2, 3, 4]]
        eventually(lambda: notes.lines == seen, "the hook hears of everything")


def test_figures_of_the_server_alone_are_the_rounds_and_a_bad_evaluator_is_refused(
    cluster: None, config: red.FederationConfig
) -> None:
    with pytest.raises(TypeError, match="evaluator must be"):
        red.StarFederatedLearningSchema(Learner, ["train"], config, evaluator=5)
    with pytest.raises(TypeError, match=r"derives from red_tui\.RoundHook"):
        red.StarFederatedLearningSchema(Learner, ["train"], config, hooks=[Any])

    class Judge:
        def __init__(self) -> None:
            self.rounds = 0

        def evaluate(self, parameters: red.Parameters, config: Any) -> red.EvaluateResult:
            self.rounds += 1
            return red.EvaluateResult(float(parameters["w"][0]), 1, {"rounds": self.rounds})

    with red.StarFederatedLearningSchema(Learner, ["train"] * 2, config, isolation="bundle", evaluator=Judge) as alone:
        history = alone.run(3, until="rounds>=3")
    assert history.loss == [1.0, 2.0, 3.0] and history.metric("rounds") == [1.0, 2.0, 3.0]
    assert history.metric("central_loss") == [1.0, 2.0, 3.0] and history[0].evaluated == 0


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_a_late_node_is_among_the_causes_and_says_so_itself(
    cluster: None, config: red.FederationConfig, isolation: str, tmp_path: Path
) -> None:
    class Late(Learner):
        def fit(self, parameters: red.Parameters, config: Any) -> red.FitResult:
            if self.config.node_index == 1:
                eventually((Path(self.config.folder) / "go").exists, "the round went on")
            return super().fit(parameters, config)

    told = config.updated(folder=str(tmp_path))
    settings = {"deadline": 4.0, "min_results": 1}
    with red.StarFederatedLearningSchema(
        Late, ["train"] * 3, told, isolation=isolation, settings=settings, nodes_per_bundle=None
    ) as federation:
        result = federation.run_round()
        (tmp_path / "go").touch()
        assert result.failures["client_1"] == "no result within the deadline of 4 s"
        causes = {why: ids for why, _, ids in result.spread["failed"]}
        assert "client_1" in causes["no result within the deadline of 4 s"]
        assert sum(count for _, count, _ in result.spread["failed"]) == result.failed
        assert federation["client_1"].last_error == "fit gave no result within the deadline of 4 s"
