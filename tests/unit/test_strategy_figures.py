"""Each strategy over several rounds against the formula of its paper, number by number in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from red_tui.aggregation.server import mean_of
from red_tui.aggregation.strategies import make_strategy, weighted_mean
from red_tui.aggregation.weighted_sum import PartialMean

ROUNDS = 6
EIGHTHS = 8.0
TYPES = (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)
MODEL: dict[str, tuple[Any, tuple[int, ...]]] = {
    **{f"w.{np.dtype(kind).name}": (kind, (2, 2)) for kind in TYPES},
    **{f"scalar.{np.dtype(kind).name}": (kind, ()) for kind in TYPES},
    "empty": (np.float32, (0, 3)),
    "count": (np.int64, ()),
    "counts": (np.int32, (3,)),
}

Numbers = list[float]


def numbers_of(array: Any) -> Numbers:
    return [float(one) for one in np.asarray(array).astype(np.float64).ravel()]


def rounded(number: float, kind: Any) -> float:
    """A number as a type has it: to the nearest, ties to even."""
    dtype = np.dtype(kind)
    if dtype.kind in "iu":
        return float(round(number))
    return float(np.float64(number).astype(dtype).astype(np.float64))


def plain_mean(updates: Sequence[dict[str, Any]], weights: Sequence[float], name: str) -> Numbers:
    total = math.fsum(weights)
    listed = [numbers_of(update[name]) for update in updates]
    return [
        math.fsum(weight * numbers[place] for numbers, weight in zip(listed, weights, strict=True)) / total
        for place in range(len(listed[0]))
    ]


class Plain:
    """The state of one number under a server optimizer, as the papers write it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.velocity, self.first, self.second = 0.0, 0.0, 1e-3**2

    def step(self, delta: float) -> float:
        if self.name == "fedavgm":
            self.velocity = 0.9 * self.velocity + delta
            return self.velocity
        self.first = 0.9 * self.first + 0.1 * delta
        square = delta * delta
        if self.name == "fedadagrad":
            self.second = self.second + square
        elif self.name == "fedadam":
            self.second = 0.99 * self.second + 0.01 * square
        else:
            sign = (self.second > square) - (self.second < square)
            self.second = self.second - 0.01 * square * sign
        return 0.1 * self.first / (math.sqrt(self.second) + 1e-3)

    @property
    def kept(self) -> dict[str, float]:
        if self.name == "fedavgm":
            return {"velocity": self.velocity}
        return {"first": self.first, "second": self.second}


def plain_median(listed: list[float]) -> float:
    ordered = sorted(listed)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def plain_trimmed(listed: list[float]) -> float:
    cut = int(0.2 * len(listed))
    left = sorted(listed)[cut : len(listed) - cut]
    return math.fsum(left) / len(left)


ROBUST: dict[str, Callable[[list[float]], float]] = {"median": plain_median, "trimmed-mean": plain_trimmed}


def model_at(value: float) -> dict[str, Any]:
    return {name: np.full(shape, value).astype(kind) for name, (kind, shape) in MODEL.items()}


def updates_at(rng: np.random.Generator, clients: int) -> list[dict[str, Any]]:
    """Updates in eighths up to 4, which every type has."""
    return [
        {
            name: np.asarray(rng.integers(-32, 33, shape) / (1 if np.dtype(kind).kind == "i" else EIGHTHS)).astype(kind)
            for name, (kind, shape) in MODEL.items()
        }
        for _ in range(clients)
    ]


def weights_at(rng: np.random.Generator, clients: int) -> list[float]:
    """Unequal, some of them zero, never all."""
    weights = rng.integers(0, 7, clients).astype(float)
    weights[rng.integers(clients)] += 1.0
    return [float(weight) for weight in weights]


def close(made: Numbers, expected: Numbers, kind: Any) -> None:
    """To two units in the last place of the type; types of up to 32 bits are added up in float32, numbers up to 4."""
    dtype = np.dtype(kind)
    if dtype.kind == "i":
        assert made == expected
        return
    wide = dtype == np.float64
    unit, sums = (1e-13, 1e-14) if wide else (2 * float(ml_dtypes.finfo(dtype).eps), 4 * 16 * 2.0**-24)
    for one, right in zip(made, expected, strict=True):
        assert abs(one - right) <= sums + unit * max(abs(right), 0.25), (dtype, one, right)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi"]),
    st.integers(1, 30),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.5, -1.25, 0.0]),
)
def test_a_strategy_of_means_gives_the_figures_of_its_paper(name: str, clients: int, seed: int, start: float) -> None:
    rng, strategy, current = np.random.default_rng(seed), make_strategy(name), model_at(start)
    plain = {
        key: [Plain(name) for _ in range(math.prod(shape))]
        for key, (kind, shape) in MODEL.items()
        if np.dtype(kind).kind != "i"
    }
    for _ in range(ROUNDS):
        updates, weights = updates_at(rng, clients), weights_at(rng, clients)
        made = strategy.aggregate(current, updates, weights)
        for key, (kind, shape) in MODEL.items():
            assert made[key].dtype == np.dtype(kind) and made[key].shape == shape
            mean = [rounded(one, kind) for one in plain_mean(updates, weights, key)]
            if name == "fedavg" or np.dtype(kind).kind == "i":
                close(numbers_of(made[key]), mean, kind)
                continue
            # What a step starts from is rounded to the model's type; the moments are not.
            taken = numbers_of(weighted_mean(updates, weights, current)[key])
            close(taken, mean, kind)
            steps = [
                one.step(new - old) for one, new, old in zip(plain[key], taken, numbers_of(current[key]), strict=True)
            ]
            close(
                numbers_of(made[key]),
                [old + step for old, step in zip(numbers_of(current[key]), steps, strict=True)],
                kind,
            )
        state = strategy.state_dict()
        for key, kept in plain.items():
            for moment in kept[0].kept if kept and name != "fedavg" else ():
                np.testing.assert_allclose(
                    numbers_of(state[f"{name}.{moment}.{key}"]),
                    [one.kept[moment] for one in kept],
                    rtol=1e-12,
                    atol=1e-15,
                )
        current = made


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(ROBUST)), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_a_robust_strategy_gives_the_figures_of_its_paper(name: str, clients: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    strategy, current = make_strategy(name, {"trim": 0.2} if name == "trimmed-mean" else {}), model_at(0.5)
    for _ in range(ROUNDS):
        updates = updates_at(rng, clients)
        made = strategy.aggregate(current, updates, weights_at(rng, clients))
        for key, (kind, shape) in MODEL.items():
            assert made[key].dtype == np.dtype(kind) and made[key].shape == shape
            listed = zip(*(numbers_of(update[key]) for update in updates), strict=True)
            close(numbers_of(made[key]), [rounded(ROBUST[name](list(one)), kind) for one in listed], kind)
        current = made


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_krum_gives_the_figures_of_its_paper(byzantine: int, keep: int, seed: int) -> None:
    rng, clients = np.random.default_rng(seed), byzantine + 6
    strategy, current = make_strategy("krum", {"byzantine": byzantine, "keep": keep}), model_at(0.5)
    for _ in range(ROUNDS):
        updates = updates_at(rng, clients)
        flat = [[number for value in update.values() for number in numbers_of(value)] for update in updates]
        scores = []
        for mine in range(clients):
            away = sorted(
                sum((a - b) ** 2 for a, b in zip(flat[mine], flat[other], strict=True))
                for other in range(clients)
                if other != mine
            )
            scores.append(sum(away[: clients - byzantine - 2]))
        best = sorted(range(clients), key=lambda one: scores[one])[:keep]
        made = strategy.aggregate(current, updates, weights_at(rng, clients))
        for key, (kind, _) in MODEL.items():
            mean = plain_mean([updates[one] for one in best], [1.0] * keep, key)
            close(numbers_of(made[key]), [rounded(one, kind) for one in mean], kind)
        current = made


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi"])
def test_ten_thousand_clients_in_bundles_give_the_figures_of_the_paper(name: str) -> None:
    rng, clients, bundles = np.random.default_rng(3), 10_000, 4
    strategy, current = make_strategy(name), {"w": np.full(3, 0.5)}
    plain = [Plain(name) for _ in range(3)]
    for _ in range(ROUNDS):
        values = rng.normal(size=(clients, 3))
        weights = rng.integers(0, 50, clients).astype(float)
        means = []
        for bundle in range(bundles):
            own = slice(bundle * clients // bundles, (bundle + 1) * clients // bundles)
            mean = weighted_mean([{"w": one} for one in values[own]], weights[own].tolist(), current)
            means.append(PartialMean(mean, float(weights[own].sum())))
        mean = mean_of([("mean", np.arange(0), ())] * bundles, means, current)
        total = math.fsum(weights)
        exact = [math.fsum(weights * values[:, place]) / total for place in range(3)]
        np.testing.assert_allclose(mean["w"], exact, rtol=1e-11, atol=1e-13)
        made = strategy.step(current, mean)
        if name == "fedavg":
            np.testing.assert_allclose(made["w"], exact, rtol=1e-11, atol=1e-13)
        else:
            steps = [one.step(float(new - old)) for one, new, old in zip(plain, mean["w"], current["w"], strict=True)]
            np.testing.assert_allclose(made["w"], current["w"] + np.asarray(steps), rtol=1e-12)
        current = made


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum"])
def test_a_robust_strategy_gives_the_types_of_the_model_whoever_comes_first(name: str) -> None:
    model = {"w": np.zeros(2, np.float32), "n": np.zeros((), np.int64)}
    updates = [{"w": np.asarray([one, one]), "n": np.asarray(one)} for one in (1, 2, 4, 5)]
    options = {"keep": 4} if name == "krum" else {"trim": 0.25} if name == "trimmed-mean" else {}
    made = make_strategy(name, options).aggregate(model, updates, [1, 1, 1, 1])
    assert made["w"].dtype == np.float32 and made["w"].tolist() == [3.0, 3.0]
    assert made["n"].dtype == np.int64 and made["n"].tolist() == 3
