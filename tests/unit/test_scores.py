"""What the table keeps of each node's rounds, and names and rows in columns."""

from __future__ import annotations

import itertools
import math
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.federation.state import LOSSES_KEPT, NodeScores
from red_tui.nodes.ids import IdSpace, ListedIds, PatternIds
from red_tui.nodes.table import row_ranges
from red_tui.rounds.history import NodeNames


def rows_of(*numbers: int) -> Any:
    return np.asarray(numbers, dtype=np.int64)


# -- scores ------------------------------------------------------------------------------------------


def test_a_node_without_results_has_none() -> None:
    scores = NodeScores()
    assert scores.metrics_of(3) == {} and scores.losses_of(3) == []
    scores.record(rows_of(7), {"a": np.asarray([1.0])}, np.asarray([0.5]))
    assert scores.metrics_of(3) == {} and scores.losses_of(3) == []


@given(st.integers(1, 3 * LOSSES_KEPT))
def test_the_latest_losses_are_kept_oldest_first(count: int) -> None:
    scores = NodeScores()
    for number in range(count):
        scores.record(rows_of(5, 2), {}, np.asarray([number, -number], dtype=float))
    kept = list(range(max(0, count - LOSSES_KEPT), count))
    assert scores.losses_of(5) == kept and scores.losses_of(2) == [-loss for loss in kept]


def test_metrics_are_those_of_the_last_result_and_what_was_not_reported_is_gone() -> None:
    scores, nan = NodeScores(), math.nan
    scores.record(rows_of(0, 1), {"a": np.asarray([1.0, nan])}, np.asarray([0.1, nan]))
    assert scores.metrics_of(0) == {"a": 1.0} and scores.metrics_of(1) == {}
    assert math.isnan(scores.losses_of(1)[0])
    scores.record(rows_of(0), {"b": np.asarray([2.0])}, np.asarray([0.2]))
    assert scores.metrics_of(0) == {"b": 2.0}
    scores.record(rows_of(9), {"a": np.asarray([4.0])}, np.asarray([0.3]))
    assert scores.metrics_of(0) == {"b": 2.0} and scores.metrics_of(9) == {"a": 4.0}


@given(st.lists(st.lists(st.integers(0, 40), unique=True, max_size=12), max_size=12))
def test_any_order_of_rows_and_rounds_is_kept_apart_by_node(rounds: list[list[int]]) -> None:
    scores, expected = NodeScores(), {row: [] for row in range(41)}  # type: dict[int, list[float]]
    for number, rows in enumerate(rounds):
        values = np.asarray([100 * number + row for row in rows], dtype=float)
        scores.record(rows_of(*rows), {"m": values}, values)
        for row, value in zip(rows, values.tolist(), strict=True):
            expected[row].append(value)
    for row, losses in expected.items():
        assert scores.losses_of(row) == losses
        assert scores.metrics_of(row) == ({"m": losses[-1]} if losses else {})


def test_ten_used_nodes_of_a_million_cost_a_few_bytes_a_row() -> None:
    tracemalloc.start()
    scores = NodeScores()
    for number in range(5):
        rows = np.arange(10) * 99_999 + number % 2
        scores.record(rows, {"loss": np.ones(10), "accuracy": np.ones(10)}, np.ones(10))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 9 * 1_000_000
    assert len(scores.losses_of(99_999)) == 3


# -- names -------------------------------------------------------------------------------------------

IDS = IdSpace([PatternIds("client_", "", 0, 500), ListedIds(("anna", "bert", "carl")), PatternIds("x", "y", 7, 200, 4)])


@given(st.lists(st.integers(0, len(IDS) - 1), max_size=60))
def test_taking_ids_is_looking_each_up(rows: list[int]) -> None:
    assert IDS.take(rows_of(*rows)) == [IDS[row] for row in rows]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_ids_are_taken_across_segments_in_any_order_of_any_type(dtype: type) -> None:
    rows = np.arange(len(IDS), dtype=dtype)
    assert IDS.take(rows) == list(IDS)
    assert IDS.take(rows[::-1]) == list(IDS)[::-1]
    assert IDS.take(rows[:0]) == []


@given(st.lists(st.integers(0, 60)))
def test_ranges_of_rows_give_the_rows_back(rows: list[int]) -> None:
    ranges = row_ranges(rows_of(*rows))
    assert [row for first, stop in ranges for row in range(first, stop)] == rows
    for (_, stop), (first, _) in itertools.pairwise(ranges):
        assert stop != first, "neighbours would be one range"


@given(st.lists(st.integers(0, len(IDS) - 1), max_size=60), st.integers(-70, 70), st.integers(-70, 70))
def test_names_are_the_sequence_of_their_ids(rows: list[int], start: int, stop: int) -> None:
    names, plain = NodeNames(IDS, rows_of(*rows)), tuple(IDS[row] for row in rows)
    assert len(names) == len(plain) and tuple(names) == plain and names == plain and names == list(plain)
    assert names.rows.tolist() == rows
    assert names[start:stop] == plain[start:stop] and names[::-1] == plain[::-1]
    assert tuple(reversed(names)) == plain[::-1]
    for index in (start, 0, -1):
        if -len(plain) <= index < len(plain):
            assert names[index] == plain[index]
        else:
            with pytest.raises(IndexError):
                names[index]
    assert all(name in names for name in plain) and "nobody" not in names
    assert names == NodeNames(IDS, rows_of(*rows)) and hash(names) == hash(NodeNames(IDS, rows_of(*rows)))
    assert names != (*plain, "nobody") and names != "client_0"


@given(st.booleans())
def test_the_names_of_a_million_nodes_in_a_row_are_a_few_bytes(halved: bool) -> None:
    ids = IdSpace([PatternIds("client_", "", 0, 1_000_000)])
    rows = np.arange(1_000_000)
    if halved:
        rows = np.concatenate([rows[:400_000], rows[600_000:]])
    names = NodeNames(ids, rows)
    assert len(names) == len(rows)
    assert sum(sys.getsizeof(getattr(names, name)) for name in NodeNames.__slots__) < 1_000
    assert repr(names).startswith(f"<{len(rows)} nodes: client_0, client_1, client_2, …>")


def test_scattered_names_are_four_bytes_a_row() -> None:
    ids = IdSpace([PatternIds("client_", "", 0, 1_000_000)])
    names = NodeNames(ids, np.arange(0, 1_000_000, 100))
    assert names.rows.tolist() == list(range(0, 1_000_000, 100))
    assert sum(sys.getsizeof(getattr(names, name)) for name in NodeNames.__slots__) < 4 * 10_000 + 1_000
