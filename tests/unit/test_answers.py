"""The answers of a phase: what counts, in which order, and what failures take back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, strategies as st

from red_tui.aggregation.answers import Answers, Contribution, Phase, in_order, weighted_mean_of, weighted_means


def answers(rows: list[int], **metrics: list[float]) -> Answers:
    """Answers whose figures all tell the row."""
    array = np.asarray(rows, dtype=np.int64)
    figures = array.astype(np.float64)
    named = {name: np.asarray(values, dtype=np.float64) for name, values in metrics.items()}
    return Answers(array, figures + 1, figures / 10, named, figures * 2)


def test_a_phase_without_answers_counts_nothing() -> None:
    phase = Phase(3)
    phase.take(Answers(failures={1: "late"}))
    counted = phase.counted()
    assert len(counted.rows) == 0 and weighted_means(counted) == {} and phase.done == 1
    assert math.isnan(weighted_mean_of(counted.losses, counted.weights))


@given(st.permutations(range(12)), st.lists(st.integers(0, 12), max_size=3), st.sets(st.integers(0, 14)))
def test_what_counts_stands_in_the_order_of_rows_and_failures_take_answers_back(
    order: list[int], cuts: list[int], failed: set[int]
) -> None:
    phase = Phase(12)
    parts = [part.tolist() for part in np.split(np.asarray(order), sorted(cuts))]
    for part in parts:
        phase.take(answers(part, m=[float(row) for row in part]))
    phase.take(Answers(failures=dict.fromkeys(failed, "its host ended")))
    counted = phase.counted()
    expected = [row for row in range(12) if row not in failed]
    assert counted.rows.tolist() == expected
    assert counted.weights.tolist() == [row + 1 for row in expected]
    assert counted.losses.tolist() == [row * 2 for row in expected]
    assert counted.metrics["m"].tolist() == expected
    np.testing.assert_allclose(counted.seconds, np.asarray(expected) / 10)
    assert phase.done == 12 and set(phase.failures) == failed


@given(st.permutations(range(6)))
def test_the_order_in_which_failures_and_answers_come_does_not_matter(order: list[int]) -> None:
    told: list[Answers] = [answers([row]) for row in range(4)]
    told += [Answers(failures={1: "late"}), Answers(failures={3: "late"})]
    phase = Phase(4)
    for index in order:
        phase.take(told[index])
    assert phase.counted().rows.tolist() == [0, 2]


def test_a_metric_that_some_did_not_report_is_nan_for_them() -> None:
    phase = Phase(4)
    phase.take(answers([2, 0], accuracy=[0.2, 0.0]))
    phase.take(answers([3, 1], f1=[0.3, 0.1]))
    counted = phase.counted()
    np.testing.assert_array_equal(counted.metrics["accuracy"], [0.0, math.nan, 0.2, math.nan])
    np.testing.assert_array_equal(counted.metrics["f1"], [math.nan, 0.1, math.nan, 0.3])
    assert weighted_means(counted) == {"accuracy": (0.0 * 1 + 0.2 * 3) / 4, "f1": (0.1 * 2 + 0.3 * 4) / 6}


def test_answers_of_a_fit_have_no_losses_even_if_they_come_in_parts() -> None:
    phase = Phase(2)
    for row in (1, 0):
        phase.take(Answers(np.asarray([row]), np.ones(1), np.ones(1)))
    assert phase.counted().losses.tolist() == []


def test_contributions_are_combined_in_the_order_of_rows_whichever_came_first() -> None:
    phase = Phase(2)
    made: list[Any] = [Contribution("update", object(), np.asarray([row]), [1.0]) for row in (1, 0)]
    for part in made:
        phase.take(Answers(part.rows, np.ones(1), np.ones(1), contribution=part))
    assert phase.contributions == made[::-1]


def test_a_host_keeps_its_place_among_others_when_its_first_node_fails() -> None:
    first = Contribution("mean", object(), np.asarray([6]), [1.0], asked=0)
    second = Contribution("mean", object(), np.asarray([3, 4]), [1.0], asked=3)
    assert in_order([second, first]) == [first, second]


def test_progress_never_passes_its_end() -> None:
    phase = Phase(2)
    phase.take(answers([0, 1]))
    phase.take(Answers(failures={0: "its host did not hand its sum over"}))
    assert phase.done == 2


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.one_of(st.just(0.0), st.floats(1e-6, 100)), st.booleans()), max_size=20)
)
def test_a_weighted_mean_leaves_out_what_is_no_number(triples: list[tuple[float, float, bool]]) -> None:
    values = np.asarray([math.nan if missing else value for value, _, missing in triples], dtype=np.float64)
    weights = np.asarray([weight for _, weight, _ in triples], dtype=np.float64)
    having = [(value, weight) for value, weight, missing in triples if not missing]
    total = sum(weight for _, weight in having)
    mean = weighted_mean_of(values, weights)
    if total <= 0:
        assert math.isnan(mean)
    else:
        low, high = (bound(value for value, weight in having if weight > 0) for bound in (min, max))
        assert low - 1e-6 <= mean <= high + 1e-6
