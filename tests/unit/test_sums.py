"""Weighted sums: whatever the split over hosts, the mean is the mean."""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from red_tui.aggregation.weighted_sum import NEAR_TERMS, PIECE, WeightedSum, combine
from red_tui.nodes.arrays import all_finite

Update = dict[str, npt.NDArray[Any]]

KINDS = ["<f2", "<f4", "<f8", "<i8", "<i4", "u1", "<c8", "<c16"]
SHAPES: list[tuple[int, ...]] = [(), (0,), (3,), (2, 3), (0, 4)]
PRECISION = {"<f2": 1e-3}
"""What the type itself can say; for all others 1e-6 holds."""

weights = st.one_of(
    st.just(0.0), st.integers(1, 1000).map(float), st.floats(1e-9, 1e9), st.sampled_from([1e-30, 1.0, 1e30])
)


def updates_of(kind: str, shape: tuple[int, ...], count: int, seed: int) -> list[Update]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        value = rng.normal(size=shape) * 10
        if np.dtype(kind).kind == "c":
            value = value + 1j * rng.normal(size=shape)
        value = np.abs(value) if np.dtype(kind).kind == "u" else value
        made.append({"w": np.asarray(value).astype(kind)})
    return made


def reference(updates: list[Update], given_weights: list[float]) -> tuple[Any, Any]:
    """The mean in float64 (complex128), and the mean of magnitudes that its rounding is measured by."""
    wide = np.complex128 if updates[0]["w"].dtype.kind == "c" else np.float64
    shares = np.asarray(given_weights) / np.sum(given_weights)
    values = np.stack([update["w"].astype(wide) for update in updates])
    return np.tensordot(shares, values, axes=1), np.tensordot(shares, np.abs(values), axes=1)


def hosts_mean(parts: list[list[tuple[Update, float]]], dtypes: dict[str, Any]) -> Update:
    sums = []
    for part in parts:
        added = WeightedSum()
        for update, weight in part:
            added.add(update, weight)
        sums.append(added)
    return combine([added.mean() for added in sums], [added.total for added in sums], dtypes)


@given(st.data())
@settings(max_examples=150)
def test_any_split_over_hosts_gives_the_weighted_mean(data: st.DataObject) -> None:
    kind, shape = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(SHAPES))
    given_weights = data.draw(st.lists(weights, min_size=1, max_size=25).filter(lambda many: sum(many) > 0))
    updates = updates_of(kind, shape, len(given_weights), data.draw(st.integers(0, 999)))
    places = data.draw(st.lists(st.integers(0, 3), min_size=len(updates), max_size=len(updates)))
    pairs = list(zip(updates, given_weights, places, strict=True))
    parts = [[(update, weight) for update, weight, at in pairs if at == host] for host in range(4)]
    dtype = updates[0]["w"].dtype
    made = hosts_mean(parts, {"w": dtype.str})["w"]
    mean, size = reference(updates, given_weights)
    assert made.dtype == dtype and made.shape == shape
    if dtype.kind in "iu":
        # Rounded to the nearest; where the mean lies on the half, either neighbour is right.
        assert (np.abs(made.astype(np.float64) - mean) <= 0.5 + 1e-6 * size).all()
    else:
        assert (np.abs(made - mean) <= PRECISION.get(kind, 1e-6) * size + 1e-7).all()


@given(st.integers(1, 6), st.integers(0, 99))
def test_large_arrays_are_mixed_in_pieces_without_a_seam(hosts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = [{"w": rng.normal(size=(3, PIECE // 2 + 1)).astype(np.float32)} for _ in range(hosts)]
    totals = rng.uniform(1, 9, hosts).tolist()
    made = combine(means, totals, {"w": "<f4"})["w"]
    expected = np.tensordot(np.asarray(totals) / sum(totals), np.stack([mean["w"] for mean in means]), axes=1)
    np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-6)


def test_means_that_are_not_contiguous_are_mixed_too() -> None:
    mean = {"w": np.arange(12.0).reshape(3, 4).T}
    assert combine([mean, mean], [1, 3], {"w": "<f8"})["w"].tolist() == mean["w"].tolist()


def test_an_update_without_weight_adds_nothing_but_counts_as_seen() -> None:
    added = WeightedSum()
    added.add({"w": np.full(2, np.float32(1e30))}, 0.0)
    assert (added.count, added.total, added.mean()) == (1, 0.0, {})
    added.add({"w": np.ones(2, np.float32)}, 2.0)
    assert added.mean()["w"].tolist() == [1.0, 1.0]


def test_a_host_whose_nodes_have_no_examples_does_not_count() -> None:
    made = combine([{}, {"w": np.ones(2)}], [0.0, 3.0], {"w": "<f8"})
    assert made["w"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("means", [[], [{}], [{"w": np.ones(1)}]])
def test_nothing_to_average_is_said(means: list[Update]) -> None:
    with pytest.raises(ValueError, match="zero examples"):
        combine(means, [0.0] * len(means), {"w": "<f8"})


def test_updates_are_only_read() -> None:
    added, updates = WeightedSum(), [{"w": np.ones(4, np.float32)} for _ in range(3 * NEAR_TERMS)]
    for number, update in enumerate(updates):
        update["w"].flags.writeable = False
        added.add(update, 1.0 + number % 3)
    assert added.mean()["w"].tolist() == [1.0] * 4


def test_ten_thousand_equal_steps_are_that_step() -> None:
    added = WeightedSum()
    step = {"w": np.full(5, np.float32(0.1))}
    for _ in range(10_000):
        added.add(step, 1.0)
    np.testing.assert_allclose(added.mean()["w"], np.float32(0.1), rtol=3e-7)


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<i8"])
@pytest.mark.parametrize("uneven", [False, True])
def test_the_memory_of_a_sum_does_not_grow_with_the_number_of_updates(kind: str, uneven: bool) -> None:
    update = {"w": np.ones(50_000, dtype=kind)}

    def peak(count: int) -> int:
        tracemalloc.start()
        added = WeightedSum()
        for number in range(count):
            added.add(update, 1.0 + (number % 5 if uneven else 0))
        added.mean()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    levels = NEAR_TERMS * NEAR_TERMS
    few, many = peak(2 * levels), peak(10 * levels)
    assert many <= few + 20_000
    assert many <= 5 * 50_000 * 8


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", "<c8", "<c16"])
@pytest.mark.parametrize("size", [1, 8192, 8192 + 1])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found_wherever_it_stands(kind: str, size: int, wrong: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = np.ones(size, dtype=kind)
        assert all_finite(value)
        for place in {0, size // 2, size - 1}:
            spoiled = value.copy()
            spoiled[place] = wrong
            assert not all_finite(spoiled)
            assert not all_finite(np.repeat(spoiled, 2)[::2])


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_large_finite_numbers_whose_squares_overflow_are_finite(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all_finite(np.full(8192 + 1, np.finfo(kind).max, dtype=kind))
        assert all_finite(np.full((8192, 4), np.finfo(kind).max, dtype=kind).T)


@pytest.mark.parametrize("value", [np.arange(9), np.asarray([True]), np.empty(0), np.empty((0, 3), np.float32)])
def test_ints_bools_and_nothing_are_finite(value: npt.NDArray[Any]) -> None:
    assert all_finite(value)


def test_scalars_are_looked_at_too() -> None:
    assert all_finite(np.asarray(1.0)) and all_finite(np.float32(2.0))
    assert not all_finite(np.asarray(np.nan)) and not all_finite(np.float64("inf"))
