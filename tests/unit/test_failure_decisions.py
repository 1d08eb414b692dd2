"""What a failure policy decides, before anybody acts: no cluster, no federation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.federation.state import REPLACEMENTS, ROUND_TRIES, FailureAction, FailurePolicy

REBUILD, LEAVE = FailureAction.REBUILD, FailureAction.LEAVE


def rows_of(*rows: int) -> Any:
    return np.asarray(rows, dtype=np.int64)


def test_a_node_that_died_is_rebuilt_and_waits_twice_as_long_each_time() -> None:
    policy = FailurePolicy("rebuild", max_rebuilds=3, backoff=0.5)
    decisions = [policy.decide(rows_of(7), rows_of(rebuilds)) for rebuilds in range(4)]
    assert [decision.action for decision in decisions] == [REBUILD, REBUILD, REBUILD, LEAVE]
    assert [decision.delay for decision in decisions] == [0.5, 1.0, 2.0, 0.0]
    assert [decision.rows.tolist() for decision in decisions] == [[7], [7], [7], []]


def test_the_policy_leave_leaves_nodes_failed() -> None:
    assert FailurePolicy().decide(rows_of(1, 2), rows_of(0, 0)).action is LEAVE


def test_a_node_that_only_raised_is_left_failed() -> None:
    assert FailurePolicy("rebuild").decide(rows_of(1), rows_of(0), died=False).action is LEAVE


def test_nodes_that_were_rebuilt_too_often_are_left_and_those_beside_them_are_not() -> None:
    decision = FailurePolicy("rebuild", max_rebuilds=2, backoff=1).decide(rows_of(3, 4, 5), rows_of(2, 1, 5))
    assert (decision.action, decision.rows.tolist(), decision.delay) == (REBUILD, [4], 2.0)


@pytest.mark.parametrize("policy", [FailurePolicy("leave"), FailurePolicy("rebuild", max_rebuilds=0)])
def test_a_round_gets_its_server_back_whatever_the_policy_says(policy: FailurePolicy) -> None:
    decision = policy.decide(rows_of(0), rows_of(9), needed=True)
    assert (decision.action, decision.rows.tolist(), decision.delay) == (REBUILD, [0], 0.0)
    assert policy.decide(rows_of(0), rows_of(9), needed=True, tries=REPLACEMENTS).action is LEAVE


def test_nobody_failed_means_nothing_is_done() -> None:
    for needed in (False, True):
        assert FailurePolicy("rebuild").decide(rows_of(), rows_of(), needed=needed).action is LEAVE


def test_a_round_is_tried_again_while_its_nodes_are_being_rebuilt_and_not_for_ever() -> None:
    policy = FailurePolicy("rebuild")
    again = [policy.decide_round(tries, single=False, rebuilding=True).action for tries in range(1, ROUND_TRIES + 1)]
    assert again == [*[FailureAction.RETRY_ROUND] * (ROUND_TRIES - 1), FailureAction.END_RUN]
    assert policy.decide_round(1, single=False, rebuilding=False).action is FailureAction.END_RUN
    assert policy.decide_round(1, single=True, rebuilding=True).action is FailureAction.END_RUN


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 5), st.booleans())
def test_nobody_is_rebuilt_more_often_than_the_policy_allows(rebuilds: list[int], most: int, died: bool) -> None:
    rows, counts = np.arange(len(rebuilds), dtype=np.int64) + 100, np.asarray(rebuilds, dtype=np.int64)
    decision = FailurePolicy("rebuild", max_rebuilds=most, backoff=0.25).decide(rows, counts, died=died)
    chosen = [row for row, count in zip(rows.tolist(), rebuilds, strict=True) if died and count < most]
    assert decision.rows.tolist() == chosen
    assert (decision.action is REBUILD) == bool(chosen)
    assert decision.delay == (0.25 * 2 ** min(rebuilds) if chosen else 0.0)
