"""How data sets are dealt out: disjoint, complete, the same for every caller, as the rule says, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from red_tui import data
from red_tui.data.description import distances
from red_tui.data.partition import LEAF_PARTS, RULES, dirichlet_shares, split_of
from red_tui.data.shuffle import Shuffle, random_stream

ALL = [
    data.IID(seed=3),
    data.Dirichlet(alpha=0.3, seed=3),
    data.Dirichlet(alpha=1e-8, seed=3),
    data.Dirichlet(alpha=1e4, min_size=0, seed=3),
    data.Shards(seed=3),
    data.Pathological(classes=2, seed=3),
    data.PowerLaw(exponent=1.5, seed=3),
]


def labels_of(num: int, kinds: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, kinds, num)


def is_dealt_out(parts: Any, num_examples: int) -> None:
    together = np.concatenate(list(parts))
    assert together.dtype == np.int64
    assert np.array_equal(np.sort(together), np.arange(num_examples)), "each example in one part and no other"


@pytest.mark.parametrize("rule", ALL, ids=str)
@given(
    num=st.integers(40, 400),
    kinds=st.integers(2, 6),
    num_parts=st.integers(3, 12),
    seed=st.integers(0, 2**31),
    text=st.booleans(),
)
def test_every_example_is_in_one_part_and_the_parts_are_the_same_for_every_caller(
    rule: data.Partition, num: int, kinds: int, num_parts: int, seed: int, text: bool
) -> None:
    labels = labels_of(num, kinds, seed)
    assume(np.bincount(labels, minlength=kinds).min() >= num_parts)
    given_labels = np.asarray([f"class {label}" for label in labels]) if text else labels
    split = rule.split(given_labels, num_parts)
    is_dealt_out(split, num)
    for part in range(num_parts):
        assert np.array_equal(rule.indices(given_labels, num_parts, part), split[part])
        assert np.all(np.diff(split[part]) > 0)
    # Names of labels do not matter where their order is the same.
    assert all(np.array_equal(rule.indices(labels, num_parts, part), split[part]) for part in range(num_parts))


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_another_process_gets_the_same_parts(rule: data.Partition) -> None:
    code = (
        "import numpy as np, sys, json; from red_tui import data; from red_tui.data import *\n"
        f"print(json.dumps({rule!r}.indices(np.random.default_rng(0).integers(0, 5, 300), 7, 4).tolist()))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=150)
    assert json.loads(other.stdout) == rule.indices(labels_of(300, 5), 7, 4).tolist()


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_another_seed_gives_other_parts(rule: data.Partition) -> None:
    labels = labels_of(300, 5)
    other = data.make_partition(rule.name, {"seed": 4})
    assert any(
        not np.array_equal(one, two) for one, two in zip(rule.split(labels, 7), other.split(labels, 7), strict=True)
    )


def test_labels_that_are_changed_in_place_are_seen() -> None:
    labels = labels_of(300, 5)
    rule = data.Shards(per_part=1)
    before = rule.indices(labels, 5, 0)
    labels[:] = labels[::-1].copy()
    assert not np.array_equal(rule.indices(labels, 5, 0), before)


# -- each as its law says ------------------------------------------------------------------------


def test_iid_parts_have_one_size() -> None:
    assert {len(part) for part in data.IID().split(1003, 10)} == {100, 101}


@pytest.mark.parametrize("num_parts", [5, 3 * LEAF_PARTS + 7])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 20.0])
def test_dirichlet_shares_have_the_moments_of_the_distribution(alpha: float, num_parts: int) -> None:
    """A share is Beta(alpha, alpha (K - 1)) distributed, below the tree and across it; each run draws the same."""
    draws = 4000
    rule = data.Dirichlet(alpha=alpha, min_size=0)
    mean, variance = 1 / num_parts, (num_parts - 1) / (num_parts**2 * (alpha * num_parts + 1))
    expected = np.sort(np.random.default_rng(0).beta(alpha, alpha * (num_parts - 1), draws))
    for part in (0, num_parts // 2, num_parts - 1):
        low, high = dirichlet_shares(rule, num_parts, part, draws)
        assert np.all((low >= 0) & (low <= high) & (high <= 1))
        share = np.sort(high - low)
        assert share.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / draws))
        # Kolmogorov and Smirnov's distance of two samples; by chance it is larger once in a thousand.
        both = np.concatenate([share, expected])
        apart = np.searchsorted(share, both, side="right") - np.searchsorted(expected, both, side="right")
        assert np.abs(apart).max() / draws < 1.95 * np.sqrt(2 / draws)


def test_dirichlet_is_as_uneven_as_alpha_says_and_reserves_the_least() -> None:
    labels = labels_of(20_000, 10)
    far = [data.describe(data.Dirichlet(alpha=alpha), labels, 20).hellinger.mean() for alpha in (0.01, 0.3, 10, 1e4)]
    assert far == sorted(far, reverse=True) and far[0] > 0.6 and far[-1] < 0.05
    assert data.describe(data.Dirichlet(alpha=0.01, min_size=25), labels, 400).sizes.min() >= 25


@pytest.mark.parametrize("alpha", [1e-8, 1e-3, 1e4])
def test_no_alpha_gives_nan_or_loses_an_example_also_with_a_label_of_one_example(alpha: float) -> None:
    labels = np.asarray(["rare", *["often"] * 999])
    is_dealt_out(data.Dirichlet(alpha=alpha, min_size=0).split(labels, 700), 1000)


def test_shards_hold_few_labels() -> None:
    labels = np.repeat(np.arange(10), 60)
    described = data.describe(data.Shards(per_part=2), labels, 30)
    assert set(described.sizes.tolist()) == {20} and (described.table > 0).sum(axis=1).max() <= 2


@given(classes=st.integers(1, 5), num_parts=st.integers(5, 80), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_pathological_parts_see_exactly_so_many_labels_and_labels_are_shared_evenly(
    classes: int, num_parts: int, seed: int
) -> None:
    labels = np.repeat(np.arange(5), 200)
    described = data.describe(data.Pathological(classes=classes, seed=seed), labels, num_parts)
    assert set((described.table > 0).sum(axis=1).tolist()) == {classes}
    holders = (described.table > 0).sum(axis=0)
    assert holders.max() - holders.min() <= 1
    for label in range(5):
        counts = described.table[described.table[:, label] > 0, label]
        assert counts.max() - counts.min() <= 1


def test_sizes_fall_by_the_power_of_their_rank() -> None:
    sizes = np.sort(data.describe(data.PowerLaw(exponent=1.0, min_size=0), 100_000, 50).sizes)[::-1]
    expected = 100_000 / np.arange(1, 51) / (1 / np.arange(1, 51)).sum()
    assert np.abs(sizes - expected).max() <= 1
    assert data.describe(data.PowerLaw(exponent=40.0), 1000, 900).sizes.min() == 1


def test_sizes_are_those_that_are_said_and_the_rest_is_nobodys() -> None:
    described = data.describe(data.Sizes(sizes=(5, 0, 90)), 100, 3)
    assert described.sizes.tolist() == [5, 0, 90] and described.left_out == 5


def test_an_owner_keeps_its_examples_together() -> None:
    columns = {"label": labels_of(60, 3), "writer": np.asarray(["ada", "bob", "cy"] * 20)}
    rule = data.NaturalId(column="writer")
    for part, writer in enumerate(["ada", "bob", "cy"]):
        assert set(columns["writer"][rule.indices(columns, 3, part)]) == {writer}
    is_dealt_out(rule.split(columns, 3), 60)
    assert sorted(len(set(columns["writer"][part])) for part in rule.split(columns, 2)) == [1, 2]


def test_parts_can_be_written_down_here_and_in_files(tmp_path: Path) -> None:
    assert data.Explicit(parts=([0, 2], [1])).indices(3, 2, 0).tolist() == [0, 2]
    (tmp_path / "parts.json").write_text("[[0, 2], [1]]")
    np.savez(tmp_path / "parts.npz", part_0=np.asarray([0, 2]), part_1=np.asarray([1]))
    for name in ("parts.json", "parts.npz"):
        assert data.Explicit(parts=str(tmp_path / name)).indices(3, 2, 1).tolist() == [1]
    assert data.Explicit(parts=([0, 1], [1]), overlap=True).indices(3, 2, 1).tolist() == [1]


# -- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "labels", "num_parts", "says"),
    [
        (lambda: data.IID(), 5, 6, r"iid: 5 examples cannot give 6 parts at least 1 each \(6 would be needed\)"),
        (lambda: data.Dirichlet(min_size=10), [0] * 50, 6, "50 examples cannot give 6 parts at least 10 each"),
        (lambda: data.Dirichlet(alpha=0), [0], 1, "alpha must be a finite number above 0, not 0"),
        (lambda: data.Dirichlet(alpha=float("nan")), [0], 1, "alpha must be a finite number above 0, not nan"),
        (lambda: data.Dirichlet(by="digit"), {"label": [1, 2]}, 1, "no column 'digit': there are label"),
        (lambda: data.Dirichlet(), 50, 2, "it looks at the label of each example, and only their number was given"),
        (lambda: data.Dirichlet(), [[1, 2]], 1, "in one dimension, not of shape"),
        (lambda: data.Dirichlet(), [1.0, float("nan")], 1, "a label is NaN"),
        (lambda: data.Pathological(classes=4), [0, 1, 2] * 9, 3, "cannot see 4 labels: the data set has 3"),
        (lambda: data.Pathological(classes=1), [0, 1, 2] * 9, 2, "take at least 3 parts"),
        (
            lambda: data.Pathological(classes=2),
            [0] * 40 + [1] * 40 + [7],
            3,
            "label 7 has 1 examples and 2 parts would see it",
        ),
        (lambda: data.Shards(per_part=0), [0], 1, "per_part must be a whole number of at least 1, not 0"),
        (lambda: data.PowerLaw(exponent=-1), 5, 1, "exponent must be a finite number of at least 0, not -1"),
        (lambda: data.Sizes(sizes=(5,)), 5, 2, "it says 1 sizes, and there are 2 parts"),
        (lambda: data.Sizes(sizes=(5, 1)), 5, 2, "add up to 6, and there are 5 examples"),
        (lambda: data.NaturalId(column="who"), {"label": [1]}, 1, "no column 'who'"),
        (lambda: data.NaturalId(column="who"), {"who": ["a", "b"]}, 3, "has 2 different owners, too few for 3 parts"),
        (lambda: data.Explicit(parts=([0],)), 5, 2, "1 parts are written down, and 2 are wanted"),
        (lambda: data.Explicit(parts=([0], [5])), 5, 2, "part 1 names an example beyond the 5"),
        (lambda: data.Explicit(parts=([0], [0])), 5, 2, "example 0 is in 2 parts: say overlap=True"),
        (lambda: data.Explicit(parts="/nowhere.json"), 5, 2, "/nowhere.json cannot be read"),
        (lambda: data.IID(seed=-1), 5, 1, "seed must be a whole number of at least 0, not -1"),
        (lambda: data.IID(), 5, 0, "num_parts must be a whole number of at least 1, not 0"),
        (lambda: data.Shards(), np.asarray(["a", 1], dtype=object), 1, "labels of different kinds cannot be put in"),
        (lambda: data.IID(), np.asarray("a"), 1, "it deals out the number of examples, or a value for each"),
        (lambda: data.IID(), {"a": [1], "b": [1, 2]}, 1, "the columns have different lengths"),
        (lambda: data.make_partition("dirichlet", {"beta": 1}), 5, 1, "no option 'beta': there are seed, by, alpha"),
        (lambda: data.make_partition("nobody", {}), 5, 1, "no partition 'nobody': there are iid, dirichlet"),
    ],
)
def test_what_cannot_be_says_so_with_figures(make: Any, labels: Any, num_parts: int, says: str) -> None:
    with pytest.raises(data.PartitionError, match=says):
        make().split(labels, num_parts)


def test_there_is_no_part_beyond_the_last() -> None:
    with pytest.raises(IndexError, match="there are 2 parts, numbered from 0: there is no part 2"):
        data.IID().indices(5, 2, 2)


def test_each_rule_has_a_name_in_layouts() -> None:
    assert list(RULES) == [
        "iid", "dirichlet", "shards", "pathological", "power-law", "sizes", "natural-id", "explicit",
    ]  # fmt: skip
    assert data.make_partition("dirichlet", {"alpha": 0.3, "by": "digit"}) == data.Dirichlet(alpha=0.3, by="digit")


# -- millions of parts and examples ----------------------------------------------------------------

MANY = [
    data.IID(),
    data.Dirichlet(alpha=0.3),
    data.Shards(per_part=1),
    data.Pathological(classes=1),
    data.PowerLaw(),
    data.NaturalId(column="label"),
]


@given(size=st.integers(Shuffle.SMALL + 1, 4 * Shuffle.SMALL), seed=st.integers(0, 2**40))
@settings(max_examples=25, deadline=None)
def test_a_shuffle_is_a_permutation_however_it_is_asked(size: int, seed: int) -> None:
    one, other = (Shuffle(random_stream(seed, "a", "b"), size) for _ in range(2))
    whole = one.range(0, size)
    assert np.array_equal(np.sort(whole), np.arange(size))
    places = np.random.default_rng(seed).integers(0, size, 40)
    assert np.array_equal(other.at(places), whole[places])
    for _ in range(Shuffle.TABLE_AFTER):
        first = other.range(5, 9)
    assert np.array_equal(first, whole[5:9]) and other.is_written


def test_shuffles_are_as_random_as_they_must_be() -> None:
    """By seeds 0 to 199: what stays in place, neighbours that stay so, order that stays, where a part lies."""
    size, seeds = Shuffle.SMALL + 4465, 200
    stays, beside, order, chi = [], [], [], []
    for seed in range(seeds):
        found = Shuffle(random_stream(seed, "a", "b"), size).range(0, size)
        stays.append((found == np.arange(size)).sum())
        beside.append((np.abs(np.diff(found)) == 1).sum())
        order.append(np.corrcoef(found, np.arange(size))[0, 1] * np.sqrt(size))
        counts = np.histogram(found[:1000], bins=50, range=(0, size))[0]
        chi.append(((counts - 20) ** 2 / 20).sum())
    # Means of Poisson(1), Poisson(2), a normal and a chi-squared distribution, to five standard errors.
    for drawn, mean, deviation in (
        (stays, 1, 1),
        (beside, 2, 2**0.5),
        (order, 0, 1),
        (chi, 49 * (1 - 1000 / size), 98**0.5),
    ):
        assert abs(np.mean(drawn) - mean) < 5 * deviation / np.sqrt(seeds)
        assert 0.75 * deviation < np.std(drawn) < 1.25 * deviation


@pytest.mark.parametrize("rule", MANY, ids=str)
def test_a_large_data_set_is_dealt_out_whole_too(rule: data.Partition) -> None:
    labels = labels_of(300_000, 3)
    split = rule.split({"label": labels}, 3)
    is_dealt_out(split, 300_000)
    assert all(np.array_equal(rule.indices({"label": labels.astype(str)}, 3, part), split[part]) for part in range(3))


@pytest.mark.parametrize("rule", MANY, ids=str)
def test_one_of_a_million_parts_needs_little_memory(rule: data.Partition) -> None:
    labels = labels_of(1_200_000, 10)
    if isinstance(rule, data.NaturalId):
        labels = np.random.default_rng(0).permutation(1_200_000) % 1_000_000
    split_of.cache_clear()
    tracemalloc.start()
    try:
        found = rule.indices({"label": labels}, 1_000_000, 777_777)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        split_of.cache_clear()
    assert len(found) and most <= 100e6


@pytest.mark.parametrize("kinds", [3, 40, 70_000])
def test_labels_are_found_alike_whether_looked_for_or_sorted(kinds: int) -> None:
    labels = labels_of(140_000, kinds)
    rule = data.NaturalId(column="label")
    owners = np.unique(labels)
    for part in (0, 1, len(owners) - 1):
        expected = np.flatnonzero(labels == owners[part])
        assert rule.indices({"label": labels}, len(owners), part).tolist() == expected.tolist()
    if kinds < 100:
        assert np.array_equal(data.Shards(per_part=1).indices(labels, 1, 0), np.arange(140_000))


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint8, np.uint64, np.float32, bool])
def test_labels_of_any_type_of_number_are_told_apart(kind: Any) -> None:
    given_labels = np.asarray([-100, 100, 0] * 4 if np.dtype(kind).kind in "if" else [1, 0, 0] * 4).astype(kind)
    described = data.describe(data.Pathological(classes=1), given_labels, 3)
    assert described.labels == tuple(np.unique(given_labels).tolist())
    assert described.table.sum(axis=0).tolist() == [(given_labels == label).sum() for label in described.labels]
    assert set((described.table > 0).sum(axis=1).tolist()) == {1}


# -- figures -------------------------------------------------------------------------------------


def test_distances_are_those_of_the_literature() -> None:
    table, overall = np.asarray([[10, 0], [5, 5], [3, 9], [0, 0]]), np.asarray([50, 50])
    hellinger, jensen_shannon = distances(table, overall)
    for row, one, two in zip(table[:3], hellinger, jensen_shannon, strict=False):
        shares = row / row.sum()
        assert one == pytest.approx(np.sqrt(((np.sqrt(shares) - np.sqrt([0.5, 0.5])) ** 2).sum()) / np.sqrt(2))
        middle = (shares + 0.5) / 2
        divergence = sum(share * np.log2(share / half) for share, half in zip(shares, middle, strict=True) if share)
        divergence += sum(0.5 * np.log2(0.5 / half) for half in middle)
        assert two == pytest.approx(np.sqrt(divergence / 2))
    assert np.isnan(hellinger[3]) and np.isnan(jensen_shannon[3])


def test_a_description_is_a_table_to_read() -> None:
    shown = str(data.describe(data.Shards(per_part=1), np.repeat(["a", "b"], 30), 4))
    first, second, heads, row, *_ = shown.splitlines()
    assert first == "60 examples in 4 parts of 15 to 15 (median 15)"
    assert second.startswith("labels of a part against all: Hellinger 0.541 (largest 0.541)")
    assert heads.split() == ["part", "size", "a", "b"] and row.split()[:2] == ["0", "15"]
    assert str(data.describe(data.IID(), 5, 2)) == "5 examples in 2 parts of 2 to 3 (median 2.5)"
