"""Runs that are the same to the bit: whoever answers first, and with exact sums wherever nodes live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import red_tui as red
from tests.cluster.repeat_nodes import Whenever

NODES, ROUNDS = 9, 2


def run(reserve: Callable[..., Any], fed_id: str, bundles: int, **options: Any) -> tuple[Any, ...]:
    """Bytes of the parameters after each round, and what the rounds told."""
    settings = {"seed": 7, "exact": options.pop("exact", False)}
    with red.StarFederatedLearningSchema(
        Whenever,
        ["train"] * NODES,
        red.FederationConfig(federation_id=fed_id),
        resources=reserve(num_nodes=bundles, num_cpus=1),
        settings=settings,
        **options,
    ) as federation:
        told = []
        for _ in range(ROUNDS):
            (result,) = federation.run(1)
            parameters = federation.parameters()
            told.append((parameters["w"].tobytes(), parameters["n"].tobytes(), result.train_metrics["loss"]))
        return tuple(told)


def test_hosts_that_answer_in_any_order_give_the_same_bytes(
    reserve: Callable[..., Any], config: red.FederationConfig
) -> None:
    fed_id = config.federation_id
    for concurrency in (1, 3):
        options: dict[str, Any] = {"isolation": "bundle", "concurrency": concurrency}
        runs = {run(reserve, f"{fed_id}-{concurrency}-{number}", 3, **options) for number in range(3)}
        assert len(runs) == 1, f"concurrency {concurrency}"


def test_exact_sums_are_the_same_in_both_isolations_and_with_1_3_and_4_bundles(
    reserve: Callable[..., Any], config: red.FederationConfig
) -> None:
    fed_id = config.federation_id
    runs = {
        f"{bundles} bundles": run(reserve, f"{fed_id}-{bundles}", bundles, isolation="bundle", exact=True)
        for bundles in (1, 3, 4)
    }
    for bundles in (1, 3, 4):
        runs[f"processes in {bundles}"] = run(reserve, f"{fed_id}-p{bundles}", bundles, exact=True)
    runs["in turns"] = run(reserve, f"{fed_id}-turns", 2, isolation="bundle", nodes_per_bundle=2)
    different = {name for name, told in runs.items() if told != runs["1 bundles"]}
    assert different == set()


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_exact_is_true_or_false(value: Any) -> None:
    with pytest.raises(ValueError, match="exact"):
        red.RoundSettings(exact=value)
