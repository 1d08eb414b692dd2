"""What a message brings is the same whether the receiver shares the sender's process or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import red_tui as red
from tests.cluster.bodies_nodes import LARGE, Talker

Reserve = Callable[..., Any]
ISOLATIONS = ("process", "bundle")
SMALL = 3


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_receiver_gets_what_was_sent_whatever_others_do_with_theirs(
    reserve: Reserve, config: red.FederationConfig, isolation: str
) -> None:
    group = reserve(num_nodes=3 if isolation == "process" else 1, num_cpus=3 if isolation == "process" else 1)
    schema = red.MeshFederatedLearningSchema
    refused = ["lock", "deep lock", "generator"]
    with schema(Talker, ["train"] * 3, config, resources=group, isolation=isolation) as federation:
        for size in (SMALL, LARGE):  # one after the other: nothing of a session is left to the next
            result = federation.train(client_args={"size": size, "refused": refused})
            assert result is not None and not result.failures, result
            first = result.results["client_0"]
            assert first["kept"] == [2.0 * size, 1.0 * size, 1] and first["words"] == ["mine", "too"]
            assert sorted(first["heard"]) == ["client_1", "client_2"]
            assert set(first["whys"]) == set(refused)
            assert all(why.startswith("the body of 'wrong' cannot be sent: ") for why in first["whys"].values()), first
            for node_id in ("client_1", "client_2"):
                assert result.results[node_id] == {
                    "writable": [],
                    "sums": [1.0 * size] * 4,
                    "n": 2,
                    "length": 3,
                    "words": ["mine", node_id],
                    "reference": "there",
                    **({"copies": [isolation == "bundle"] * 2} if size == LARGE else {}),
                }
