"""What the same bytes cost: exact sums, and those in a fixed order, against the usual ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

import red_tui as red
from benchmarks.hosts import HOSTS
from benchmarks.measuring import alternate, cluster, ratio, timed
from red_tui.aggregation.exact_sum import ExactSum
from red_tui.aggregation.ordered_sum import OrderedSum
from red_tui.aggregation.weighted_sum import WeightedSum

SIZES = ((1000, 1000, 10), (100, 100_000, 5))
"""Nodes, float32 numbers of the model, and rounds that are measured at a time."""

TIMES = 9


class Noisy(red.FederatedNode):
    """Adds noise that it has drawn once, as training would; its number of examples is its own."""

    def build(self, **kwargs: Any) -> None:
        draws = np.random.default_rng(self.config.get("node_index"))
        self.noise = draws.normal(size=self.config.get("floats")).astype(np.float32) / 100
        self.examples = int(draws.integers(1, 500))

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        return red.FitResult({"w": parameters["w"] + self.noise}, self.examples, {"loss": 0.5})


def run() -> list[dict[str, Any]]:
    results = []
    for nodes, floats, _ in SIZES:
        results += added_up(nodes, floats)
    with cluster(2 * HOSTS + 4):
        results += [whole_round(*size) for size in SIZES]
    return results


def whole_round(nodes: int, floats: int, rounds: int) -> dict[str, Any]:
    """Rounds of one federation, whose sums are exact or not."""
    group = red.get_resources_split(HOSTS, HOSTS)
    federation = red.StarFederatedLearningSchema(
        Noisy,
        ["train"] * nodes,
        {"federation_id": f"exact-{nodes}", "floats": floats},
        isolation="bundle",
        resources=group,
        initial_parameters={"w": np.zeros(floats, np.float32)},
    )
    federation.run(2)

    def seconds(exact: bool) -> float:
        federation.set_round(exact=exact)
        federation.run(1)
        return timed(lambda: federation.run(rounds)) / rounds

    mine, usual = alternate(lambda: seconds(True), lambda: seconds(False), TIMES)
    federation.close()
    ray.util.remove_placement_group(group)
    return ratio(f"a round of {nodes:,} nodes × {floats:,} floats, exact : usual", mine, usual, 1.5)


def added_up(nodes: int, floats: int) -> list[dict[str, Any]]:
    """A host's part alone: updates that lie in memory."""
    draws = np.random.default_rng(3)
    updates = [{"w": draws.normal(size=floats).astype(np.float32)} for _ in range(min(nodes, 100))]
    terms = [(updates[number % len(updates)], float(draws.integers(1, 500))) for number in range(nodes)]
    model = {"w": np.zeros(floats, np.float32)}

    def usual() -> None:
        added = WeightedSum()
        for update, weight in terms:
            added.add(update, weight)
        added.mean()

    def fixed() -> None:
        ordered = OrderedSum(model, nodes)
        for place, (update, weight) in enumerate(terms):
            ordered.add(place, update, weight)
        ordered.mean()

    def exact() -> None:
        whole = ExactSum()
        for update, weight in terms:
            whole.add(update, weight)
        whole.given()

    what = f"adding {nodes:,} × {floats:,} floats up"
    return [
        ratio(
            f"{what}, in a fixed order : as they come",
            *alternate(lambda: timed(fixed), lambda: timed(usual), TIMES),
            1.03,
        ),
        ratio(f"{what}, exact : as they come", *alternate(lambda: timed(exact), lambda: timed(usual), TIMES), 1.5),
    ]
