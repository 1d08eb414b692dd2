"""Sums a stack at a time, and what a server makes of a call that came before the results it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import red_tui as red
from red_tui.aggregation.server import FederatedServer
from red_tui.aggregation.strategies import make_strategy
from red_tui.aggregation.weighted_sum import STACK_MODEL_BYTES, STACK_ROWS, PartialMean, StackedSum, stacks

MODEL = {"w": np.zeros((3, 2), np.float32), "b": np.zeros(4)}


def update_of(number: int) -> dict[str, Any]:
    draws = np.random.default_rng(number)
    return {name: draws.normal(size=value.shape).astype(value.dtype) for name, value in MODEL.items()}


def added(updates: list[dict[str, Any]], weights: list[float], model: dict[str, Any] = MODEL) -> StackedSum:
    stack = StackedSum(model)
    for update, weight in zip(updates, weights, strict=True):
        if stack.push(update, weight):
            assert stack.settle() == {}
    assert stack.settle() == {}
    return stack


@given(st.lists(st.sampled_from([0.0, 1.0]) | st.floats(1e-6, 1e4), min_size=1, max_size=150))
@settings(max_examples=60)
def test_a_stacked_sum_is_the_weighted_mean(weights: list[float]) -> None:
    updates = [update_of(number) for number in range(len(weights))]
    made = added(updates, weights)
    assert made.count == len(weights) and made.total == pytest.approx(sum(weights))
    if sum(weights) == 0:
        assert made.mean() == {}
        return
    for name, mean in made.mean().items():
        plain = sum(w * u[name].astype(np.float64) for w, u in zip(weights, updates, strict=True)) / sum(weights)
        assert mean.dtype == MODEL[name].dtype and mean.shape == MODEL[name].shape
        np.testing.assert_allclose(mean, plain, rtol=2e-6, atol=2e-6)


@given(st.sets(st.integers(0, 99), max_size=6), st.booleans())
@settings(max_examples=30)
def test_updates_that_are_not_finite_are_named_and_do_not_count(bad: set[int], weighted: bool) -> None:
    stack, found = StackedSum(MODEL), {}
    weights = [float(number % 3) if weighted else 1.0 for number in range(100)]
    for number in range(100):
        update = update_of(number)
        if number in bad:
            update["w" if number % 2 else "b"].flat[0] = np.inf if number % 4 else np.nan
        if stack.push(update, weights[number]):
            before = number + 1 - stack.capacity
            found.update({before + place: name for place, (name, _) in stack.settle().items()})
    last = 100 - 100 % stack.capacity
    found.update({last + place: name for place, (name, _) in stack.settle().items()})
    assert found == {number: "w" if number % 2 else "b" for number in bad}
    good = [number for number in range(100) if number not in bad]
    alone = added([update_of(number) for number in good], [weights[number] for number in good])
    assert stack.total == alone.total and stack.count == len(good)
    for name, mean in stack.mean().items():
        np.testing.assert_allclose(mean, alone.mean()[name], rtol=1e-5, atol=1e-6)


def test_a_buffer_that_is_used_again_does_not_change_what_was_pushed() -> None:
    stack, buffer = StackedSum({"w": np.zeros(2)}), np.zeros(2)
    for number in (1.0, 2.0, 6.0):
        buffer[:] = number
        stack.push({"w": buffer}, 1.0)
    stack.settle()
    assert stack.mean()["w"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    "update",
    [
        {"w": np.zeros(5, np.float32), "b": np.zeros(4)},
        {"w": np.zeros((3, 2)), "b": np.zeros(4)},
        {"w": [[0.0, 0.0]] * 3, "b": np.zeros(4)},
        {"w": np.zeros((3, 2), np.float32)},
        {"w": np.zeros((3, 2), np.float32), "c": np.zeros(4)},
        "no dict",
    ],
)
def test_what_does_not_look_like_the_model_is_not_pushed(update: Any) -> None:
    stack = StackedSum(MODEL)
    assert stack.push(update, 1.0) is None
    assert stack.settle() == {} and stack.count == 0


@pytest.mark.parametrize(
    "weight", [-1, -0.5, float("nan"), float("inf"), 1e308, 2**53 + 1, "3", None, np.float32(2), True]
)
def test_what_is_no_plain_number_of_examples_is_not_pushed(weight: Any) -> None:
    stack = StackedSum(MODEL)
    assert stack.push(update_of(1), weight) is None
    assert stack.settle() == {} and stack.count == 0


def test_updates_of_other_types_can_be_put_on_the_stack_once_they_were_looked_at() -> None:
    stack = StackedSum(MODEL)
    assert stack.push(update_of(1), 1) is False
    assert stack.put({"w": np.ones((3, 2)), "b": np.ones(4, np.int32)}, np.float32(3)) is False
    assert stack.settle() == {} and (stack.count, stack.total) == (2, 4.0)
    mean = stack.mean()
    for name, first in update_of(1).items():
        assert mean[name].dtype == MODEL[name].dtype
        np.testing.assert_allclose(mean[name], (first + 3) / 4, rtol=1e-6)


def test_large_numbers_whose_sum_leaves_float32_are_no_fault_of_their_nodes() -> None:
    model = {"w": np.zeros(2, np.float32)}
    huge = {"w": np.full(2, 3e38, np.float32)}
    made = added([huge] * 10, [1.0] * 10, model)
    np.testing.assert_allclose(made.mean()["w"], huge["w"])


@pytest.mark.parametrize("alone", [True, False])
def test_numbers_that_are_too_large_are_named_and_do_not_count(alone: bool) -> None:
    stack = StackedSum({"w": np.zeros(2)})
    for value in (1.0, 1.7e308, 3.0) if alone else (1.0, 1.7e308, 3.0, -1e200, 1.7e308):
        stack.push({"w": np.full(2, value)}, 1.0)
    bad = stack.settle()
    assert bad[1] == ("w", "holds numbers up to 1.7e+308, which are too large to be averaged")
    assert sorted(bad) == ([1] if alone else [1, 3, 4]) and stack.mean()["w"].tolist() == [2.0, 2.0]


def test_only_small_models_of_plain_floats_are_stacked() -> None:
    assert stacks(MODEL)
    assert not stacks({})
    assert not stacks({"n": np.zeros(3, np.int64)}) and not stacks({**MODEL, "h": np.zeros(3, np.float16)})
    assert not stacks({"w": np.zeros(STACK_MODEL_BYTES, np.float32)})
    assert StackedSum({"w": np.zeros(1)}).capacity == STACK_ROWS


# -- the server's call that is made with the hosts' --------------------------------------------------------


def server_at(round_number: int, value: float) -> FederatedServer:
    server = FederatedServer.__new__(FederatedServer)
    server.config = red.FederationConfig(federation_id="f")
    server.build()
    server.red_set_parameters({"w": np.full(2, value)}, round_number)
    return server


def mean_of(value: float, total: float) -> PartialMean:
    return PartialMean({"w": np.full(2, value)}, total)


def test_a_call_ahead_makes_what_the_plain_one_makes() -> None:
    made, report = server_at(3, 0.0).red_aggregate_ahead(4, mean_of(1.0, 1.0), mean_of(4.0, 2.0))
    assert report.keys() <= {"digests"} and made is not None and made["w"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("given", [None, {"w": np.zeros(2)}])
def test_a_call_ahead_is_declined_where_a_host_gave_nothing(given: Any) -> None:
    server = server_at(3, 7.0)
    assert server.red_aggregate_ahead(4, mean_of(1.0, 1.0), given) == (None, {"declined": True})
    held, _ = server.red_holding(3)
    assert held is not None and held["w"].tolist() == [7.0, 7.0]


def test_a_round_that_was_aggregated_ahead_and_did_not_count_is_undone() -> None:
    server = server_at(3, 7.0)
    server.red_aggregate_ahead(4, mean_of(1.0, 1.0))
    held, _ = server.red_holding(3)
    assert held is not None and held["w"].tolist() == [7.0, 7.0], "for a supervisor that comes after"
    server.red_aggregate_ahead(4, mean_of(1.0, 1.0))
    made, report = server.red_aggregate(4, [("mean", np.arange(0), ())], (np.arange(0), {}), mean_of(2.0, 5.0))
    assert report.keys() <= {"digests"} and made is not None and made["w"].tolist() == [2.0, 2.0]
    held, _ = server.red_holding(3)
    assert held is not None and held["w"].tolist() == [7.0, 7.0], "the round before is that before both tries"


def test_a_call_ahead_that_comes_late_changes_nothing() -> None:
    server = server_at(3, 7.0)
    server.red_aggregate(4, [("mean", np.arange(0), ())], (np.arange(0), {}), mean_of(2.0, 5.0))
    assert server.red_aggregate_ahead(4, mean_of(9.0, 1.0)) == (None, {"declined": True})
    held, _ = server.red_holding(4)
    assert held is not None and held["w"].tolist() == [2.0, 2.0]


def test_only_steps_without_a_memory_may_be_made_ahead() -> None:
    assert make_strategy("fedavg").memoryless
    assert not any(make_strategy(name).memoryless for name in ("fedavgm", "fedadam", "fedyogi", "fedadagrad", "median"))


def test_the_models_of_a_round_that_did_not_count_are_not_those_of_the_next_try() -> None:
    server = server_at(0, 0.0)
    models = {value: {"w": np.full(2, float(value))} for value in range(5)}
    for number, placed in ((1, (0, 1)), (2, (2, 3)), (2, (3, 4))):
        blocks = [models[placed[0]], [models[placed[1]]]]
        server.red_consensus(number, {7: (0, None), 9: (1, 0)}, *blocks)
        if number == 1:
            server.red_counted(1)
    assert server.red_modelled(1) == server.red_modelled(2) == [7, 9] and server.red_modelled(3) == []
    held = server.red_models(2, [9, 7], False)
    assert [one["w"][0] for one in held] == [4.0, 3.0]
    assert server.red_models(1, [9], True)["w"][0] == 1.0
    assert server.red_holding(1)[1] == {"round": 1} and server.red_modelled(2) == []
    server.red_counted(2)
    assert server.red_modelled(1) == []
