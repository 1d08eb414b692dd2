"""Each strategy against the formula of its paper, written down plainly."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.aggregation.server import mean_of, needs_each
from red_tui.aggregation.strategies import (
    CLASSES,
    FedAvg,
    Strategy,
    aggregated,
    configures,
    make_strategy,
    weighted_mean,
)
from red_tui.aggregation.weighted_sum import PartialMean
from red_tui.layout.rules import STRATEGIES as LAYOUT_STRATEGIES

ROUNDS, COUNT = 4, 7
OPTIMIZERS = ["fedavgm", "fedadagrad", "fedadam", "fedyogi"]


def rounds_of(seed: int, count: int = COUNT) -> list[tuple[list[dict[str, Any]], list[float]]]:
    rng = np.random.default_rng(seed)
    return [
        (
            [{"w": rng.normal(size=(2, 3)), "b": rng.normal(size=())} for _ in range(count)],
            rng.uniform(1, 9, count).tolist(),
        )
        for _ in range(ROUNDS)
    ]


def started() -> dict[str, Any]:
    return {"w": np.zeros((2, 3)), "b": np.asarray(0.5)}


def plain_mean(updates: Sequence[dict[str, Any]], weights: Sequence[float], name: str) -> Any:
    return sum(weight * update[name] for update, weight in zip(updates, weights, strict=True)) / sum(weights)


def fedavgm(state: dict[str, Any], delta: Any, rate: float = 1.0, momentum: float = 0.9) -> Any:
    state["v"] = momentum * state.get("v", 0.0) + delta
    return rate * state["v"]


def adaptive(second: Callable[[Any, Any, float], Any]) -> Callable[..., Any]:
    def step(state: dict[str, Any], delta: Any) -> Any:
        rate, beta1, beta2, tau = 0.1, 0.9, 0.99, 1e-3
        state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * delta
        state["v"] = second(state.get("v", np.full(np.shape(delta), tau**2)), delta**2, beta2)
        return rate * state["m"] / (np.sqrt(state["v"]) + tau)

    return step


PLAIN: dict[str, Callable[..., Any]] = {
    "fedavgm": fedavgm,
    "fedadagrad": adaptive(lambda v, square, beta2: v + square),
    "fedadam": adaptive(lambda v, square, beta2: beta2 * v + (1 - beta2) * square),
    "fedyogi": adaptive(lambda v, square, beta2: v - (1 - beta2) * square * np.sign(v - square)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_server_optimizer_walks_as_its_paper_says(name: str, seed: int) -> None:
    strategy, current, expected = make_strategy(name), started(), started()
    states: dict[str, dict[str, Any]] = {"w": {}, "b": {}}
    for updates, weights in rounds_of(seed):
        current = strategy.aggregate(current, updates, weights)
        for key, state in states.items():
            expected[key] = expected[key] + PLAIN[name](state, plain_mean(updates, weights, key) - expected[key])
            np.testing.assert_allclose(current[key], expected[key], rtol=1e-9, atol=1e-12)


def test_federated_averaging_is_the_weighted_mean() -> None:
    updates, weights = rounds_of(3)[0]
    made = make_strategy("fedavg").aggregate(started(), updates, weights)
    for name in ("w", "b"):
        np.testing.assert_allclose(made[name], plain_mean(updates, weights, name), rtol=1e-12)


@given(st.integers(1, 12), st.integers(0, 99))
def test_the_median_and_the_trimmed_mean_are_those_of_numpy(count: int, seed: int) -> None:
    updates, weights = rounds_of(seed, count)[0]
    stacked = np.stack([update["w"] for update in updates])
    made = make_strategy("median").aggregate(started(), updates, weights)["w"]
    np.testing.assert_allclose(made, np.median(stacked, axis=0))
    for trim in (0.0, 0.2, 0.49):
        cut = int(trim * count)
        made = make_strategy("trimmed-mean", {"trim": trim}).aggregate(started(), updates, weights)["w"]
        np.testing.assert_allclose(
            made, np.sort(stacked, axis=0)[cut : count - cut].mean(axis=0), rtol=1e-9, atol=1e-12
        )


def plain_krum(updates: Sequence[dict[str, Any]], byzantine: int, keep: int) -> Any:
    flat = [np.concatenate([update["w"].ravel(), update["b"].ravel()]) for update in updates]
    scores = []
    for mine in range(len(flat)):
        away = sorted(float(((flat[mine] - other) ** 2).sum()) for index, other in enumerate(flat) if index != mine)
        scores.append(sum(away[: len(flat) - byzantine - 2]))
    best = sorted(range(len(flat)), key=lambda index: scores[index])[:keep]
    return np.mean([updates[index]["w"] for index in best], axis=0)


@given(st.integers(0, 99), st.integers(0, 3), st.integers(1, 7))
def test_krum_keeps_the_updates_with_the_lowest_scores(seed: int, byzantine: int, keep: int) -> None:
    updates, weights = rounds_of(seed)[0]
    made = make_strategy("krum", {"byzantine": byzantine, "keep": keep}).aggregate(started(), updates, weights)
    np.testing.assert_allclose(made["w"], plain_krum(updates, byzantine, keep), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "krum", "byzantine": 2},
        {"name": "krum", "byzantine": 2, "keep": 3},
        {"name": "median"},
        {"name": "trimmed-mean", "trim": 0.3},
    ],
)
def test_two_attackers_of_seven_do_not_move_a_robust_strategy(strategy: dict[str, Any]) -> None:
    updates, weights = rounds_of(5)[0]
    honest = np.stack([update["w"] for update in updates[2:]])
    for attacker in updates[:2]:
        attacker["w"] = attacker["w"] * 0 + 1e9
    weights[:2] = [1e12, 1e12]
    options = {key: value for key, value in strategy.items() if key != "name"}
    made = make_strategy(strategy["name"], options).aggregate(started(), updates, weights)["w"]
    assert (made >= honest.min(axis=0) - 1e-12).all() and (made <= honest.max(axis=0) + 1e-12).all()
    assert make_strategy("fedavg").aggregate(started(), updates, weights)["w"].max() > 1e8


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_types_and_shapes_stay_and_arguments_are_not_changed(name: str) -> None:
    current = {"f": np.zeros((2, 2), np.float32), "h": np.zeros(3, np.float16), "n": np.asarray(4), "d": np.zeros(0)}
    updates = [{key: (value + 1 + index).astype(value.dtype) for key, value in current.items()} for index in range(5)]
    before = [{key: value.tolist() for key, value in update.items()} for update in [current, *updates]]
    made = make_strategy(name).aggregate(current, updates, [1, 1, 1, 1, 1])
    assert {key: (value.dtype, value.shape) for key, value in made.items()} == {
        key: (value.dtype, value.shape) for key, value in current.items()
    }
    assert before == [{key: value.tolist() for key, value in update.items()} for update in [current, *updates]]
    if name != "krum":
        assert made["n"] == 7, "integer buffers are averaged, whatever the strategy"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_is_additive_needs_the_mean_only(name: str) -> None:
    one, other = make_strategy(name), make_strategy(name)
    if not one.additive:
        with pytest.raises(NotImplementedError, match="needs every update"):
            one.step(started(), started())
        return
    current, same = started(), started()
    for updates, weights in rounds_of(7):
        halves = [
            PartialMean(weighted_mean(updates[:3], weights[:3]), sum(weights[:3])),
            PartialMean(weighted_mean(updates[3:], weights[3:]), sum(weights[3:])),
        ]
        parts: list[Any] = [("mean", np.arange(3), []), ("mean", np.arange(3, 7), [])]
        current = one.aggregate(current, updates, weights)
        same = other.step(same, mean_of(parts, halves, same))
        for key, value in current.items():
            np.testing.assert_allclose(same[key], value, rtol=1e-6, atol=1e-9)


def test_updates_blocks_and_means_of_hosts_mix() -> None:
    updates, weights = rounds_of(9)[0]
    parts: list[Any] = [
        ("update", np.asarray([0]), weights[:1]),
        ("block", np.arange(1, 4), weights[1:4]),
        ("mean", np.arange(4, 7), []),
    ]
    hosted = PartialMean(weighted_mean(updates[4:], weights[4:]), sum(weights[4:]))
    made = mean_of(parts, [updates[0], updates[1:4], hosted], started())
    np.testing.assert_allclose(made["w"], plain_mean(updates, weights, "w"), rtol=1e-9)


def test_the_mean_has_the_types_of_the_model_whoever_comes_first() -> None:
    model = {"w": np.zeros(2, np.float32)}
    updates = [{"w": np.asarray([0, 0])}, {"w": np.asarray([0.5, 0.25])}]
    for order in (updates, updates[::-1]):
        for made in (
            make_strategy("fedavg").aggregate(model, order, [1, 1]),
            mean_of([("block", np.arange(2), [1.0, 1.0])], [order], model),
        ):
            assert made["w"].dtype == np.float32 and made["w"].tolist() == [0.25, 0.125]


def test_a_server_with_an_aggregate_of_its_own_gets_every_update() -> None:
    from red_tui.aggregation.server import FederatedServer

    class Own(FederatedServer):
        def aggregate(self, *arguments: Any) -> Any:
            return arguments[1]

    assert needs_each(Own, make_strategy("fedavg")) and needs_each(FederatedServer, make_strategy("median"))
    assert not needs_each(FederatedServer, make_strategy("fedadam"))


@pytest.mark.parametrize("name", ["median", "krum", "trimmed-mean"])
def test_integer_arrays_are_rounded_by_robust_strategies_too(name: str) -> None:
    updates = [{"n": np.asarray([value])} for value in (1, 2, 2, 3)]
    assert make_strategy(name).aggregate({}, updates, [1] * 4)["n"].dtype.kind == "i"


def test_krum_says_how_many_updates_it_needs() -> None:
    updates, weights = rounds_of(1, 4)[0]
    with pytest.raises(ValueError, match="byzantine=2 needs 5 updates, there are 4"):
        make_strategy("krum", {"byzantine": 2}).aggregate(started(), updates, weights)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("fedsgd", {}, "there is no strategy 'fedsgd': use .*fedavg.*krum"),
        ("fedavg", {"learning_rate": 1.0}, "does not take these options .*learning_rate"),
        ("fedavgm", {"momentum": 1.0}, "momentum must be from 0 to below 1, not 1.0"),
        ("fedavgm", {"learning_rate": 0.0}, "learning_rate must be a number above 0, not 0.0"),
        ("fedavgm", {"learning_rate": float("nan")}, "learning_rate must be a number above 0, not nan"),
        ("fedadam", {"beta1": 1.0}, "beta1 must be from 0 to below 1, not 1.0"),
        ("fedyogi", {"tau": 0.0}, "tau must be a number above 0, not 0.0"),
        ("trimmed-mean", {"trim": 0.5}, "trim must be from 0 to below 0.5, not 0.5"),
        ("trimmed-mean", {"trim": "half"}, "trim must be a number at least 0, not 'half'"),
        ("krum", {"keep": 0}, "keep not below 1"),
        ("krum", {"byzantine": -1}, "byzantine must not be below 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_strategy(name, options)


def test_a_layout_knows_exactly_the_strategies_there_are_and_their_options() -> None:
    assert set(LAYOUT_STRATEGIES) == set(CLASSES)
    for name, strategy in CLASSES.items():
        taken: dict[str, type] = {}
        if strategy.__init__ is not Strategy.__init__:
            parameters = inspect.signature(strategy.__init__).parameters
            taken = {key: type(parameter.default) for key, parameter in parameters.items() if key != "self"}
        assert LAYOUT_STRATEGIES[name] == taken
        make_strategy(name, {key: (kind(1) if kind is int else kind(0.25)) for key, kind in taken.items()})


def test_aggregate_gets_what_nodes_reported_where_it_takes_that() -> None:
    class Three(Strategy):
        def aggregate(self, current: Any, updates: Any, weights: Any) -> Any:  # type: ignore[override]
            return super().aggregate(current, updates, weights) if current is None else updates[0]

    class Four(Strategy):
        def aggregate(self, current: Any, updates: Any, weights: Any, metrics: Any = ()) -> Any:
            return updates[int(np.argmin([one["loss"] for one in metrics]))]

    updates = [{"w": np.asarray(1.0)}, {"w": np.asarray(2.0)}]
    metrics = [{"loss": 0.5}, {"loss": 0.25}]
    assert aggregated(Three(), updates[0], updates, [1, 1], metrics)["w"] == 1.0
    assert aggregated(Four(), updates[0], updates, [1, 1], metrics)["w"] == 2.0
    assert aggregated(make_strategy("median"), updates[0], updates, [1, 1], metrics)["w"] == 1.5


def test_metrics_are_given_where_they_are_taken_and_nowhere_else() -> None:
    metrics = [{"loss": 0.5}]
    given: list[Any] = []

    class Trimming(Strategy):
        def aggregate(self, current: Any, updates: Any, weights: Any, trim: float = 0.1) -> Any:  # type: ignore[override]
            given.append(trim)
            return current

    class Fifth(Strategy):
        def aggregate(self, current: Any, updates: Any, weights: Any, trim: Any = 0.1, metrics: Any = ()) -> Any:
            given.append((trim, metrics))
            return current

    class ByName(Strategy):
        def aggregate(self, current: Any, updates: Any, weights: Any, *, metrics: Any) -> Any:  # type: ignore[override]
            given.append(metrics)
            return current

    class Needed(Strategy):
        def aggregate(self, current: Any, updates: Any, weights: Any, reported: Any) -> Any:  # type: ignore[override]
            given.append(reported)
            return current

    class Listed(Strategy):
        def aggregate(self, *listed: Any) -> Any:
            given.append(listed[3])
            return listed[0]

    class Named(Strategy):
        def aggregate(self, current: Any, updates: Any, weights: Any, **named: Any) -> Any:  # type: ignore[override]
            given.append(named)
            return current

    for kind in (Trimming, Fifth, ByName, Needed, Listed, Named):
        aggregated(kind(), {}, [], [], metrics)
    assert given == [0.1, (0.1, metrics), metrics, metrics, metrics, {"metrics": metrics}]


def test_a_configure_that_takes_no_round_is_a_strategys_own() -> None:
    class Told(FedAvg):
        def configure(self, round_number: int) -> dict[str, Any]:
            return {"rate": round_number}

    class Own(FedAvg):
        def configure(self, *, rate: float = 0.1) -> Any:  # type: ignore[override]
            self.rate = rate

    class Bare(FedAvg):
        def configure(self) -> Any:  # type: ignore[override]
            self.rate = 1.0

    assert [configures(one) for one in (FedAvg(), Told(), Own(), Bare())] == [False, True, False, False]
