"""What a script says reaches the nodes as it was said."""

from __future__ import annotations

import pathlib

import pytest

import red_tui as red
from tests.cluster.arguments_nodes import Apart, Kind, Model


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_settings_name_the_strategy_and_config_values_keep_their_types(
    cluster: None, config: red.FederationConfig, isolation: str
) -> None:
    import ray

    values = {"model": Model(0.1, [1, 2]), "kind": Kind.FAST, "home": pathlib.Path("/tmp"), "few": {1, 2}}
    told = config.updated(**values)
    settings = red.RoundSettings(strategy={"name": "median"})
    with red.StarFederatedLearningSchema(
        Apart, ["train"] * 3, told, settings=settings, isolation=isolation, failure="rebuild"
    ) as federation:
        assert federation.run_round().failures == {}
        assert federation.parameters()["w"].tolist() == [1.0, 1.0]
        seen = ray.get(federation["client_1"].handle.config_seen.remote())
        here = federation["client_1"].config.as_dict()
        assert {key: seen[key] for key in values} == {key: here[key] for key in values} == values
        assert (seen["node_index"], seen["num_nodes"], seen["strategy"]) == (1, 3, {"name": "median"})
