"""How the nodes of a round did, in numbers whose size does not grow with the nodes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.aggregation.answers import Answers
from red_tui.federation.rounds.round_plan import NAMED_FAILURES, finished_wire, summary
from red_tui.protocol.figures import CAUSES
from red_tui.rounds.history import BINS, MEASURES, RoundResult, node_statistics

NOBODY = Answers()


def names(rows: np.ndarray) -> list[str]:
    assert np.all(np.diff(rows) > 0), "rows are asked for in order, each once"
    return [f"node_{row}" for row in rows.tolist()]


def fitted(values: list[float]) -> Answers:
    rows = np.arange(10, 10 + len(values))
    return Answers(rows, np.full(len(rows), 5.0), np.asarray(values, dtype=np.float64))


def test_who_stands_at_the_ends_is_named_and_quantiles_are_those_of_numpy() -> None:
    told = node_statistics(fitted([0.5, 0.1, 0.9, 0.3, 0.7]), NOBODY, {}, names)["measures"]
    seconds = told["seconds"]
    assert seconds["quantiles"] == pytest.approx([0.1, 0.18, 0.3, 0.5, 0.7, 0.82, 0.9]) and seconds["count"] == 5
    assert seconds["high"] == [["node_12", 0.9], ["node_14", 0.7], ["node_10", 0.5]]
    assert seconds["low"][0] == ["node_11", 0.1]
    assert told["examples"]["bins"] == [5]  # all alike


def test_what_is_looked_for_first_stands_first_and_no_more_than_a_few_measures_are_kept() -> None:
    rows = np.arange(4)
    numbers = np.arange(4.0)
    fit = Answers(rows, numbers, numbers, {"zeta": numbers, "loss": numbers, **{f"m{n}": numbers for n in range(20)}})
    judged = Answers(rows, numbers, numbers, {"accuracy": numbers}, numbers)
    told = list(node_statistics(fit, judged, {}, names)["measures"])
    assert told[:5] == ["seconds", "loss", "train loss", "accuracy", "examples"] and len(told) == MEASURES


def test_equal_causes_are_told_once_the_most_frequent_first() -> None:
    failures = {f"a{n}": "gradient exploded" for n in range(5)} | {"b": "killed"}
    failures |= {f"c{n}": f"cause {n}" for n in range(20)}
    told = node_statistics(NOBODY, NOBODY, failures, names)["failed"]
    assert told[0] == ["gradient exploded", 5, ["a0", "a1", "a2"]] and len(told) == CAUSES + 1
    assert told[-1] == ["16 other causes", 16, ["c4", "c5", "c6"]], "nobody who failed is missing from the counts"


@pytest.mark.parametrize("count", [100, 10_000])
def test_ten_thousand_nodes_cost_as_many_bytes_as_a_hundred(count: int) -> None:
    rng = np.random.default_rng(3)
    rows = np.arange(count)
    metrics = {f"metric_{n}": rng.normal(size=count) for n in range(30)}
    fit = Answers(rows, rng.random(count), rng.random(count), metrics)
    failures = {f"{'x' * 60}{n}": f"{'why ' * 100}{n}" for n in range(count)}
    evaluate = Answers(rows, rng.random(count), rng.random(count), metrics, rng.random(count))
    told = node_statistics(fit, evaluate, failures,
                           lambda rows: [f"{'y' * 57}{row:06d}" for row in rows.tolist()])  # fmt: skip
    assert len(json.dumps(told)) < 9_000


def test_a_round_in_which_ten_thousand_nodes_fail_is_a_small_row_of_the_journal() -> None:
    failures = {f"client_{n:05d}": f"ValueError: batch {n} of this node is broken" * 40 for n in range(10_000)}
    spread = node_statistics(fitted([0.5]), NOBODY, failures, names)
    result = RoundResult(7, 0.5, {}, {}, ("client_x",), failures, 1.0, 1.7e9, spread=spread)
    wire = finished_wire(result)
    assert len(json.dumps(wire)) < 90_000 and wire["failed"] == 10_000
    assert list(wire["failures"]) == list(failures)[:NAMED_FAILURES]
    read = RoundResult.from_wire(json.loads(json.dumps(wire)))
    assert read.failed == 10_000 and read.to_wire()["failed"] == 10_000 and len(read.failures) == NAMED_FAILURES
    assert "10000 failed (client_00000: ValueError" in summary(read)
    few = finished_wire(RoundResult(8, 0.5, {}, {}, ("x",), {"client_1": "late"}, 1.0, 1.7e9))
    assert few["failures"] == {"client_1": "late"} and RoundResult.from_wire(few).failed == 1


@given(st.lists(st.floats(width=32), min_size=1, max_size=60))
def test_every_number_is_in_a_bin_and_between_the_ends(values: list[float]) -> None:
    told = node_statistics(fitted(values), NOBODY, {}, names)["measures"].get("seconds")
    finite = [value for value in values if np.isfinite(value)]
    assert (told is None) == (not finite)
    if told is not None:
        assert sum(told["bins"]) == told["count"] == len(finite) and len(told["bins"]) in (1, BINS)
        assert told["quantiles"] == sorted(told["quantiles"])
        assert (told["quantiles"][0], told["quantiles"][-1]) == (min(finite), max(finite))
    json.dumps(told, allow_nan=False)
