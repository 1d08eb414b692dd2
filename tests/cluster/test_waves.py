"""Training with some nodes only: a wave is built and trained, and nobody else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import red_tui as red
from tests.cluster.conftest import eventually, named_actors
from tests.cluster.templates import Counting


def names(federation: red.FederatedBase) -> list[str]:
    return [name.partition("/")[2] for name in named_actors() if name.startswith(federation.fed_id)]


def test_rounds_among_a_wave_build_and_train_that_wave_only(reserve: Any, config: red.FederationConfig) -> None:
    group = reserve(6, 6)
    with red.StarFederatedLearningSchema(Counting, ["train"] * 6, config, resources=group) as federation:
        seen = []
        for wave in federation.waves(3):
            result = federation.run_round(nodes=wave)
            seen.append(sorted(result.participants))
        assert seen == [["client_0", "client_1"], ["client_2", "client_3"], ["client_4", "client_5"]]
        assert [node.id for node in federation.nodes if node.built] == federation.node_ids
        assert federation.parameters()["w"].tolist() == [3.0] * 8
        assert sorted(federation.run_round().participants) == federation.node_ids


def test_waves_that_are_built_before_a_round_of_all_do_not_end_the_loop(
    reserve: Any, config: red.FederationConfig
) -> None:
    group = reserve(6, 6)
    with red.StarFederatedLearningSchema(Counting, ["train"] * 6, config, resources=group) as federation:
        reports = []
        for wave in federation.waves(3):
            reports.append(federation.build(wave))
            federation.run_round()
        assert [(len(one.built), list(one.already)) for one in reports] == [
            (2, []),
            (0, ["client_2", "client_3"]),
            (0, ["client_4", "client_5"]),
        ]
        assert not any(one.left_out or one.failed for one in reports)
        assert "2 already built" in str(reports[1])
        assert all(node.state == "ready" for node in federation.nodes)


def test_waves_rotate_through_fewer_bundles_and_run_among_nodes_by_any_selection(
    reserve: Any, config: red.FederationConfig
) -> None:
    group = reserve(2, 2)
    with red.StarFederatedLearningSchema(Counting, ["train"] * 6, config, resources=group) as federation:
        assert sorted(federation.train_wave(1, 3).participants) == ["client_2", "client_3"]
        assert "2 nodes fit" in str(federation.plan_round(nodes="id:client_4 or id:client_5"))
        history = federation.run(2, nodes=["client_4", "client_5"])
        assert [sorted(one.participants) for one in history] == [["client_4", "client_5"]] * 2
        assert federation["client_0"].state == "virtual"
        with pytest.raises(red.CommandRefused, match="names nobody"):
            federation.run_round(nodes="state:failed")
        with pytest.raises(red.RoundError, match="no node can take part"):
            federation.run_round(nodes="server")
        with pytest.raises(red.CommandRefused, match="wave 3"):
            federation.train_wave(3, 3)
        eventually(lambda: "client_4" in names(federation), "the last wave lives")
        assert np.allclose(federation.parameters()["w"], 3.0)
