from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.nodes.ids import IdSpace, PatternIds
from red_tui.placement.build_plan import BuildPlan, Limits, Wanted, make_plan as plan_of, split_waves
from red_tui.placement.pool import Pool, Slot

Ask = Callable[[int, Slot], Mapping[str, float]]


def whole(row: int, slot: Slot) -> Mapping[str, float]:
    return slot.spec


def quarter(row: int, slot: Slot) -> Mapping[str, float]:
    return {"CPU": 0.25}


def pool_of(*cpus: float, offset: int = 0) -> Pool:
    return Pool([{"CPU": 0.1}, *({"CPU": cpu} for cpu in cpus)], offset=offset)


def nodes(count: int, server: int = -1, preferred: list[int] | None = None) -> Wanted:
    ids = IdSpace([PatternIds("n", "", 0, count)])
    rows = np.arange(count)
    before = np.full(count, -1) if preferred is None else np.asarray(preferred)
    return Wanted(ids, rows, rows[:0], lambda row: "", server, before)


def make_plan(wanted: Wanted, pool: Pool, ask: Ask, **limits: Any) -> BuildPlan:
    return plan_of(wanted, pool, ask, Limits(**limits), None)


@given(st.integers(0, 30), st.integers(1, 12))
def test_nobody_sits_in_the_coordinators_bundle_and_no_bundle_is_taken_twice(count: int, bundles: int) -> None:
    plan = make_plan(nodes(count), pool_of(*[1.0] * bundles), whole)
    taken = [placed.bundle_idx for placed in plan.placed]
    assert taken == list(range(1, 1 + min(count, bundles)))
    assert len(plan.placed) + len(plan.left_out) == count


def test_the_server_sits_in_the_coordinators_bundle() -> None:
    plan = make_plan(nodes(2, server=0), pool_of(1.0), whole)
    assert [placed.bundle_idx for placed in plan.placed] == [0, 1]


def test_nodes_that_ask_less_share_a_bundle() -> None:
    plan = make_plan(nodes(6), pool_of(1.0, 1.0), quarter)
    assert [placed.bundle_idx for placed in plan.placed] == [1, 1, 1, 1, 2, 2]


def test_a_node_goes_back_to_its_bundle_if_it_is_free_and_elsewhere_if_not() -> None:
    back = nodes(2, preferred=[2, 2])
    assert [placed.bundle_idx for placed in make_plan(back, pool_of(1.0, 1.0), whole).placed] == [2, 1]


def test_an_offset_moves_every_index() -> None:
    plan = make_plan(nodes(3), pool_of(1.0, 1.0, offset=5), whole)
    assert [placed.bundle_idx for placed in plan.placed] == [6, 7]


def test_planning_seats_nobody() -> None:
    pool = pool_of(1.0)
    make_plan(nodes(1), pool, whole)
    assert len(make_plan(nodes(1), pool, whole).placed) == 1


def test_a_wrong_bundle_is_named_with_those_there_are() -> None:
    plan = make_plan(nodes(1), pool_of(1.0), whole, only_bundle=4)
    assert "bundle 4 does not exist: the pool has bundles 0 to 1" in plan.left_out[0].why


def test_a_budget_stops_at_the_first_that_does_not_fit_or_goes_on_with_smaller_ones() -> None:
    pool = pool_of(1.0, 3.0, 1.0)
    stopped = make_plan(nodes(3), pool, whole, available={"CPU": 2})
    assert [placed.node_id for placed in stopped.placed] == ["n0"]
    going_on = make_plan(nodes(2), pool, whole, available={"CPU": 0.5}, skip_large=True)
    assert [left.node_id for left in going_on.left_out] == ["n0", "n1"]


@given(st.integers(0, 200), st.integers(1, 30))
def test_waves_by_count_differ_by_one_at_most_and_lose_nobody(nodes_: int, count: int) -> None:
    waves = split_waves(np.arange(nodes_), count=count)
    assert np.concatenate([np.empty(0, int), *waves]).tolist() == list(range(nodes_))
    sizes = [len(wave) for wave in waves]
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(st.integers(0, 200), st.integers(1, 30))
def test_waves_by_size_are_full_but_the_last_and_lose_nobody(nodes_: int, size: int) -> None:
    waves = split_waves(np.arange(nodes_), size=size)
    assert sum(len(wave) for wave in waves) == nodes_
    assert all(len(wave) == size for wave in waves[:-1])


@pytest.mark.parametrize("wrong", [{}, {"count": 0}, {"size": -1}, {"count": 2, "size": 2}])
def test_waves_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"count|size"):
        split_waves(np.arange(3), **wrong)
