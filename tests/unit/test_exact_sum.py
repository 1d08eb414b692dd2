"""Exact sums: the same bytes for any order and any grouping, and those of rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import red_tui as red
from red_tui.aggregation import exact_sum
from red_tui.aggregation.exact_sum import ExactMean, ExactSum
from red_tui.aggregation.server import FederatedAggregator, FederatedServer
from red_tui.runtime.batch import Order
from red_tui.runtime.bundle_actor import BundleActor
from tests.unit.steppers import batch

HALF_ULP = Fraction(1, 2**53)

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
float64 = st.floats(-1e150, 1e150)
weight = st.one_of(st.just(0.0), st.just(1.0), st.integers(1, 2**29 - 1).map(float), st.floats(1e-9, 1e9))


def merged(groups: list[list[tuple[dict[str, Any], float]]]) -> ExactSum:
    """Each group adds up, and hands on; they are joined in their order."""
    whole = ExactSum()
    for group in groups:
        part = ExactSum()
        for update, examples in group:
            part.add(update, examples)
        whole.merge(part.given())
    return whole


def bytes_of(mean: dict[str, Any]) -> dict[str, bytes]:
    return {name: np.asarray(value).tobytes() for name, value in mean.items()}


@given(st.data(), st.sampled_from(["<f4", "<f8"]))
@settings(max_examples=150, deadline=None)
def test_any_order_and_any_grouping_give_the_bytes_of_the_rational_mean(data: st.DataObject, kind: str) -> None:
    count, numbers = data.draw(st.integers(1, 12)), float32 if kind == "<f4" else float64
    values = [data.draw(st.lists(numbers, min_size=3, max_size=3)) for _ in range(count)]
    examples = [data.draw(weight) for _ in range(count)]
    updates = [{"w": np.asarray(row, dtype=kind)} for row in values]
    terms = list(zip(updates, examples, strict=True))
    plain = merged([terms]).mean()
    order = data.draw(st.permutations(terms))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, count - 1)), max_size=4)))
    groups = [order[first:last] for first, last in zip([0, *cuts], [*cuts, count], strict=True)]
    again = merged(groups)
    assert bytes_of(again.mean()) == bytes_of(plain)
    total = sum(map(Fraction, examples), Fraction(0))
    assert again.total == float(total) == math.fsum(examples)
    if total == 0:
        assert plain == {}
        return
    for place in range(3):
        # Each product is rounded by itself where it needs more than 53 bits; nothing else is.
        whole = sum((Fraction(float(np.float64(u["w"][place]) * w)) for u, w in terms if w), Fraction(0))
        mean = Fraction(float(plain["w"][place]))
        smallest = Fraction(5e-324)
        assert abs(mean - whole / total) <= 4 * HALF_ULP * abs(whole / total) + smallest


@given(st.lists(float64, min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_a_sum_whose_terms_cancel_is_that_of_fsum(values: list[float]) -> None:
    added = ExactSum()
    for value in [*values, *(-value for value in values[1:])]:
        added.add({"x": np.asarray(value)}, 1.0)
    assert added.mean()["x"] * added.total == pytest.approx(values[0], rel=1e-15, abs=1e-320)


LARGE = 2 * exact_sum.PIECE + 7


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from(["ones", "whole", "any"]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_large_arrays_are_added_up_as_small_ones_are(seed: int, count: int, weights: str, wild: bool) -> None:
    draws = np.random.default_rng(seed)
    spread = draws.integers(-60, 30) if wild else 0

    def numbers() -> Any:
        made = draws.normal(size=LARGE) * 2.0**spread
        made[draws.integers(0, LARGE, 50)] *= 1e-9 if wild else 1e-5
        made[draws.integers(0, LARGE, 50)] = 0
        return made.astype(np.float32)

    given_weights = {
        "ones": lambda: 1.0,
        "whole": lambda: float(draws.integers(1, 2000)),
        "any": lambda: float(draws.uniform(0.1, 3)),
    }
    terms = [
        (numbers() * np.float32(2.0 ** draws.integers(-40, 40) if wild else 1), given_weights[weights]())
        for _ in range(count)
    ]
    whole = merged([[({"w": value}, examples) for value, examples in terms]]).mean()["w"]
    halves = merged([[({"w": value}, examples)] for value, examples in reversed(terms)]).mean()["w"]
    assert whole.tobytes() == halves.tobytes()
    for start in range(0, LARGE, 9000):
        part = merged([[({"w": value[start : start + 9000]}, examples) for value, examples in terms]]).mean()["w"]
        assert part.tobytes() == whole[start : start + 9000].tobytes()


@pytest.mark.parametrize("size", [5, LARGE])
def test_more_terms_than_a_level_holds_move_up(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    draws = np.random.default_rng(1)
    terms = [({"w": draws.normal(size=size)}, float(draws.integers(1, 9))) for _ in range(40)]
    plain = merged([terms]).mean()
    monkeypatch.setattr(exact_sum, "MOST_TERMS", 4)
    monkeypatch.setattr(exact_sum, "MOST_ROWS", 2)
    assert bytes_of(merged([terms[:17], terms[17:]]).mean()) == bytes_of(plain)


def test_what_is_handed_on_is_no_larger_than_it_has_to_be() -> None:
    draws, added = np.random.default_rng(1), ExactSum()
    for _ in range(200):
        added.add({"w": draws.normal(size=20_000).astype(np.float32)}, float(draws.integers(1, 500)))
    assert added.given().nbytes <= 12 * 20_000, "the levels themselves are 8 bytes a number each"


def test_arrays_of_all_kinds_keep_their_shapes() -> None:
    update = {
        "f": np.ones((2, 3), np.float16), "n": np.asarray(7), "e": np.zeros((0, 4)),
        "c": np.asarray([1 + 2j, 3.5 - 1j]), "u": np.asarray([250], np.uint8),
    }  # fmt: skip
    mean = merged([[(update, 2.0)], [(update, 1.0)]]).mean()
    assert {name: value.shape for name, value in mean.items()} == {name: value.shape for name, value in update.items()}
    for name, value in update.items():
        np.testing.assert_array_equal(mean[name], value)


# -- in rounds -----------------------------------------------------------------------------------------

MODELS = {
    "small": {"w": np.zeros((4, 3), np.float32), "n": np.zeros((), np.int64)},
    "large": {"w": np.zeros(LARGE, np.float32), "n": np.zeros((), np.int64)},
}
NODES = 13


class Draws(red.FederatedNode):
    """Gives numbers of its own."""

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        draws = np.random.default_rng(int(self.node_id[1:]))
        if self.node_id == "n5":
            raise ValueError("gradient exploded")
        made = {
            "w": (draws.normal(size=parameters["w"].shape) * 3).astype(
                np.float64 if self.node_id == "n3" else np.float32
            )
        }
        return red.FitResult({**made, "n": np.asarray(draws.integers(0, 99))}, int(draws.integers(0, 500)))


def of_bundles(bundles: int, model: dict[str, Any], concurrency: int) -> list[ExactMean]:
    """What the processes of some bundles hand on."""
    made = []
    for rows in np.array_split(np.arange(NODES), bundles):
        host = BundleActor(concurrency)
        list(host.build(batch(rows.tolist(), Draws), {}))
        asked = Order("t", "fit", rows, {"round": 1}, False, None, True)
        made += [item for item in host.work(asked, model) if isinstance(item, ExactMean)]
    return made


def of_processes(model: dict[str, Any]) -> list[tuple[Any, float]]:
    """What nodes with processes of their own give."""
    made = []
    for row in range(NODES):
        if row != 5:
            result = Draws(f"n{row}", "train", red.FederationConfig()).fit(model, {"round": 1})
            made.append((result.parameters, result.num_examples))
    return made


def aggregated(model: dict[str, Any], kinds: list[tuple[str, Any]], payloads: list[Any]) -> dict[str, bytes]:
    server = FederatedServer("server", "server", red.FederationConfig())
    server.build()
    server.red_set_parameters(model)
    none = np.arange(0)
    made, report, *_ = server.red_aggregate(
        1, [(kind, none, weights) for kind, weights in kinds], (none, {}), *payloads
    )
    assert "error" not in report and {name: value.dtype for name, value in made.items()} == {
        name: value.dtype for name, value in model.items()
    }
    return bytes_of(made)


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_both_isolations_any_number_of_bundles_and_a_hierarchy_give_the_same_bytes(model: dict[str, Any]) -> None:
    apart = of_processes(model)
    expected = aggregated(model, [("term", [weight]) for _, weight in apart], [update for update, _ in apart])
    for bundles, concurrency in ((1, 1), (1, 3), (3, 1), (4, 2)):
        means = of_bundles(bundles, model, concurrency)
        assert aggregated(model, [("mean", ())] * len(means), list(means)) == expected
    means = of_bundles(4, model, 1)
    inner = FederatedAggregator("a", "aggregator", red.FederationConfig())
    group, report = inner.red_add_up(1, [("mean", ())] * 2, *means[:2])
    assert isinstance(group, ExactMean) and report["total"] == group.total
    rest, _ = inner.red_add_up(1, [("mean", ()), ("mean", ())], *means[2:])
    assert aggregated(model, [("mean", ())] * 2, [rest, group]) == expected
    terms = [("term", [weight]) for _, weight in apart]
    whole, _ = inner.red_add_up(1, terms, *(update for update, _ in apart))
    assert aggregated(model, [("mean", ())], [whole]) == expected


class Halves(FederatedAggregator):
    """Gives half of the mean."""

    def passes_on(self, round_number: int, mean: Any, num_examples: float) -> Any:
        return {name: value / 2 for name, value in mean.items()}


def test_an_aggregator_of_ones_own_gets_the_mean_of_its_group_and_what_it_makes_of_it_counts() -> None:
    model = {"w": np.zeros(3, np.float32)}
    parts = [ExactSum(), ExactSum()]
    parts[0].add({"w": np.full(3, 4.0)}, 1.0)
    parts[1].add({"w": np.full(3, 8.0)}, 3.0)
    given, _ = Halves("a", "aggregator", red.FederationConfig()).red_add_up(1, [("mean", ())], parts[0].given())
    made = aggregated(model, [("mean", ())] * 2, [given, parts[1].given()])
    assert made == bytes_of({"w": np.full(3, (2.0 + 24.0) / 4, np.float32)})


def test_a_round_in_which_nobody_has_examples_says_so() -> None:
    server = FederatedServer("server", "server", red.FederationConfig())
    server.build()
    server.red_set_parameters({"w": np.zeros(3)})
    made, report, *_ = server.red_aggregate(1, [("term", np.arange(0), [0.0])], (np.arange(0), {}), {"w": np.ones(3)})
    assert made is None and "every update has zero examples" in report["error"]


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.sampled_from([0, 30, 60]))
@settings(max_examples=25, deadline=None)
def test_sums_of_hosts_that_most_numbers_hold_in_one_float_are_the_rational_ones(
    seed: int, hosts: int, spread: int
) -> None:
    draws = np.random.default_rng(seed)

    def numbers() -> Any:
        made = draws.normal(size=LARGE) * 2.0 ** draws.integers(-spread, spread + 1)
        made[draws.integers(0, LARGE, 300)] *= 1e-12
        made[draws.integers(0, LARGE, 300)] *= 0.0
        return made.astype(np.float32)

    groups = [
        [({"w": numbers()}, float(draws.integers(1, 400))) for _ in range(draws.integers(1, 4))] for _ in range(hosts)
    ]
    # Some numbers cancel between hosts.
    update, examples = groups[0][0]
    groups[-1].append(({"w": -update["w"]}, examples))
    whole = merged(groups)
    bytes_made = bytes_of(whole.mean())
    assert bytes_of(whole.mean()) == bytes_made, "asking twice changes nothing"
    assert bytes_of(merged([[term for group in reversed(groups) for term in group]]).mean()) == bytes_made
    # An aggregator on the way, which hands on what it has merged.
    half = ExactSum()
    half.merge(merged(groups[:1]).given())
    half.merge(merged(groups[1:]).given())
    assert bytes_of(half.mean()) == bytes_made
    mean = whole.mean()["w"]
    total = sum(Fraction(weight) for group in groups for _, weight in group)
    for place in [*draws.integers(0, LARGE, 40), *np.flatnonzero(np.abs(mean) < 1e-10)[:40]]:
        right = sum(Fraction(float(one["w"][place])) * Fraction(weight) for group in groups for one, weight in group)
        found = Fraction(float(mean[place]))
        assert abs(found - right / total) <= 4 * HALF_ULP * abs(right / total) + Fraction(5e-324)
