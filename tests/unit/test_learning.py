from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.aggregation.answers import Answers, weighted_means
from red_tui.aggregation.strategies import make_strategy, weighted_mean
from red_tui.nodes.template import check_parameters
from red_tui.rounds.history import RoundResult
from red_tui.rounds.sampling import RoundSettings, choose

# Numbers of examples below 1e-307 are none: what they weigh is less than a float can say.
EXAMPLES = st.floats(0, 1e6, allow_subnormal=False)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), EXAMPLES), min_size=1, max_size=20))
def test_the_weighted_mean_lies_among_its_values(pairs: list[tuple[float, float]]) -> None:
    values, weights = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if sum(weights) <= 0:
        with pytest.raises(ValueError, match="zero examples"):
            weighted_mean([{"w": np.asarray(value)} for value in values], weights)
        return
    mean = weighted_mean([{"w": np.asarray([value])} for value in values], weights)["w"][0]
    used = [value for value, weight in pairs if weight > 0]
    slack = 1e-6 * max(1.0, max(abs(value) for value in used))
    assert min(used) - slack <= mean <= max(used) + slack


def test_float32_updates_are_summed_in_double_precision() -> None:
    updates = [{"w": np.full(4, 16777216.0, np.float32)}, {"w": np.full(4, 1.0, np.float32)}]
    mean = weighted_mean(updates, [1, 1])["w"]
    assert mean.dtype == np.float32
    assert mean[0] == np.float32((16777216.0 + 1.0) / 2)


def test_integer_buffers_keep_their_type_and_are_rounded() -> None:
    mean = weighted_mean([{"n": np.asarray([3])}, {"n": np.asarray([4])}], [1, 3])["n"]
    assert mean.tolist() == [4] and mean.dtype.kind == "i"


def test_updates_are_not_changed_by_their_mean() -> None:
    updates = [{"w": np.ones(3)}, {"w": np.zeros(3)}]
    weighted_mean(updates, [2, 2])
    assert updates[0]["w"].tolist() == [1, 1, 1]


def test_an_unknown_strategy_and_an_unknown_option_are_refused() -> None:
    with pytest.raises(ValueError, match="fedavg"):
        make_strategy("fedsomething")
    with pytest.raises(ValueError, match="momentum"):
        make_strategy("fedavg", {"momentum": 1})


@given(st.integers(1, 500), st.floats(0.01, 1), st.integers(0, 5), st.integers(1, 50))
def test_a_choice_is_without_replacement_and_repeats(count: int, fraction: float, seed: int, number: int) -> None:
    rows = np.arange(count) * 3
    chosen = choose(rows, fraction, seed, number)
    assert chosen.tolist() == choose(rows, fraction, seed, number).tolist()
    assert len(set(chosen.tolist())) == len(chosen) >= 1
    assert set(chosen.tolist()) <= set(rows.tolist())
    assert abs(len(chosen) - fraction * count) <= 1


def test_rounds_draw_differently() -> None:
    draws = {tuple(choose(np.arange(100), 0.1, 0, number).tolist()) for number in range(1, 20)}
    assert len(draws) == 19


@pytest.mark.parametrize(
    ("min_results", "chosen", "needed"), [(0.5, 5, 3), (0.5, 4, 2), (3, 10, 3), (3, 2, 2), (1.0, 7, 7), (0.01, 5, 1)]
)
def test_min_results_is_a_part_or_a_number(min_results: float, chosen: int, needed: int) -> None:
    assert RoundSettings(min_results=min_results).needed(chosen) == needed


def test_metrics_are_averaged_over_the_nodes_that_report_them() -> None:
    reported = {"a": np.asarray([1.0, 2.0]), "b": np.asarray([np.nan, 5.0])}
    answers = Answers(np.arange(2), np.asarray([1.0, 3.0]), metrics=reported)
    assert weighted_means(answers) == {"a": 1.75, "b": 5.0}


def result(**values: float) -> RoundResult:
    return RoundResult(1, values.pop("loss", float("nan")), values, {"loss": 9.0}, ("a",), {}, 0.1, 0.0)


def test_results_travel_without_loss() -> None:
    before = result(accuracy=0.5)
    after = RoundResult.from_wire(before.to_wire())
    assert np.isnan(after.loss) and after.metrics == before.metrics and len(after.participants) == 1


@pytest.mark.parametrize("wrong", [None, [1], {"w": [1.0]}, {1: np.zeros(1)}])
def test_what_are_no_parameters_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        check_parameters(wrong, "it")
