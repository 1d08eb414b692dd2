"""Twenty million virtual nodes: their table is columns, and a round over a few of them is a round like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import red_tui as red
from red_tui.rounds.sampling import choose
from tests.cluster.keep_nodes import Drifting

NODES = 20_000_000
FRACTION = 1e-4


def test_a_round_over_a_few_of_twenty_million_nodes_counts_those_that_were_drawn(
    reserve: Callable[..., Any], config: red.FederationConfig
) -> None:
    with red.StarFederatedLearningSchema(
        Drifting,
        ["train"] * NODES,
        config,
        isolation="bundle",
        resources=reserve(num_nodes=1, num_cpus=1),
        settings={"fraction": FRACTION, "seed": 5},
    ) as federation:
        (result,) = federation.run(1)
        # Row 0 is the server's.
        drawn = choose(np.arange(1, NODES + 1), FRACTION, 5, 1) - 1
        assert list(result.participants) == [f"client_{index}" for index in drawn] and len(drawn) == 2000
        assert (result.failed, result.num_left_out) == (0, 0)
        assert federation.num_nodes == NODES
        assert federation[f"client_{NODES - 1}"].state == "virtual"
