"""Random numbers of a node: those of its seed, its id and the round, whoever ran before and wherever it lives."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui.nodes.config import seeded
from red_tui.runtime.batch import Order
from red_tui.runtime.bundle_actor import BundleActor
from tests.unit.steppers import batch


class Draws(red.FederatedNode):
    """Gives what it draws, and disturbs what others might draw from."""

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        np.random.seed(len(self.node_id))
        return red.FitResult({"w": self.rng(config["round"]).normal(size=3)}, 1)


def node(node_id: str, seed: int = 0, **keys: Any) -> Draws:
    config = pickle.loads(pickle.dumps(seeded(red.FederationConfig(**keys), seed).updated(node_index=3)))
    return Draws(node_id, "train", config)


def draws(node_id: str = "a", round_number: int = 1, **given: Any) -> list[float]:
    return node(node_id, **given).rng(round_number).normal(size=4).tolist()


def test_it_depends_on_the_seed_the_id_and_the_round_and_on_nothing_else() -> None:
    assert draws() == draws() and draws(seed=7) == draws(seed=7, other=1)
    different = [draws(), draws("b"), draws(round_number=2), draws(seed=7), draws("a/1"), draws("a", 11)]
    assert len(set(map(tuple, different))) == len(different)


def test_numbers_stay_what_they_are_in_later_versions() -> None:
    assert node("a", seed=7).rng(1).integers(0, 1000, 4).tolist() == [985, 238, 541, 974]


def test_a_key_named_seed_stands_over_the_seed_of_the_rounds() -> None:
    keyed = Draws("a", "train", seeded(red.FederationConfig(seed=5), 7))
    assert keyed.rng(1).random() == node("a", seed=5).rng(1).random()


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", True])
def test_a_round_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="round_number"):
        node("a").rng(wrong)


def test_a_host_gives_what_a_process_of_its_own_does_in_any_order_and_after_a_rebuild() -> None:
    def hosted(rows: list[int]) -> dict[int, Any]:
        host = BundleActor()
        asked = {**batch(rows, Draws), "common": seeded(red.FederationConfig(federation_id="fed"), 7)}
        for epoch in (1, 2):
            list(host.build({**asked, "epoch": epoch}, {}))
        order = Order("t", "fit", np.asarray(rows), {"round": 3}, True)
        _, updates = host.work(order, {"w": np.zeros(3)})
        return {row: update["w"].tolist() for row, update in zip(rows, updates, strict=True)}

    apart = {row: node(f"n{row}", seed=7).rng(3).normal(size=3).tolist() for row in range(4)}
    assert hosted([0, 1, 2, 3]) == hosted([3, 1, 0, 2]) == apart
