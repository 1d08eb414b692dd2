"""Plans of nodes that share hosts: evenly, within what there is, and without an object a node."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.federation.reports import LeftOutReasons
from red_tui.nodes.ids import IdSpace, PatternIds
from red_tui.placement.build_plan import (
    NO_LIMIT,
    BuildPlan,
    LeftOutNodes,
    Limits,
    PlacedNodes,
    Wanted,
    fill,
    make_hosted_plan,
)
from red_tui.placement.pool import Pool, Slot

few = st.integers(0, 12)


def ask(row: int, slot: Slot) -> Mapping[str, float]:
    return {"CPU": 0.1}


def pool_of(*cpus: float, offset: int = 0) -> Pool:
    return Pool([{"CPU": 0.1}, *({"CPU": cpu} for cpu in cpus)], offset=offset)


def wanted_of(count: int, *, server: int = -1, refused: Sequence[int] = (), preferred: Any = None) -> Wanted:
    rows = np.arange(count)
    before = np.full(count, -1) if preferred is None else np.asarray(preferred, dtype=np.int64)
    return Wanted(
        IdSpace([PatternIds("n", "", 0, max(1, count))]),
        rows,
        np.asarray(refused, dtype=np.int64),
        lambda row: f"node 'n{row}' is already built",
        server,
        before,
    )


def plan_of(
    wanted: Wanted,
    pool: Pool,
    held: Sequence[int] | None = None,
    up: Sequence[int] = (),
    capacity: int | None = None,
    **limits: Any,
) -> BuildPlan:
    counts = np.asarray([0] * len(pool) if held is None else held, dtype=np.int64)
    return make_hosted_plan(wanted, pool, ask, counts, up, capacity, Limits(**limits), None)


# -- filling -----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(few, few), min_size=1, max_size=8), st.integers(0, 120))
def test_hosts_are_filled_as_evenly_as_their_room_allows(hosts: list[tuple[int, int]], count: int) -> None:
    held, room = np.asarray([held for held, _ in hosts]), np.asarray([room for _, room in hosts])
    shares = fill(held, room, count)
    assert shares.sum() == min(count, room.sum())
    assert (shares >= 0).all() and (shares <= room).all()
    after = held + shares
    could_take_one = after[shares < room]
    got_one = after[shares > 0]
    if len(could_take_one) and len(got_one):
        assert got_one.max() - could_take_one.min() <= 1, "who got one is no fuller than who had room, but for one"


def test_a_hundred_billion_places_are_no_trouble() -> None:
    shares = fill(np.zeros(4000, np.int64), np.full(4000, NO_LIMIT), 1_000_001)
    assert shares.sum() == 1_000_001 and shares.max() - shares.min() == 1


def test_filling_nothing_changes_nothing() -> None:
    assert fill(np.asarray([3, 0]), [0, 0], 5).tolist() == [0, 0]
    assert fill(np.asarray([3, 0]), [9, 9], 0).tolist() == [0, 0]


# -- plans -------------------------------------------------------------------------------------------


@given(st.data(), st.integers(0, 40), st.integers(1, 5), st.one_of(st.none(), st.integers(1, 10)), st.integers(0, 3))
def test_every_node_is_placed_or_left_out_and_no_host_holds_more_than_it_may(
    data: st.DataObject, count: int, bundles: int, capacity: int | None, offset: int
) -> None:
    top = 5 if capacity is None else capacity
    held = [0, *data.draw(st.lists(st.integers(0, top), min_size=bundles, max_size=bundles))]
    refused = sorted(data.draw(st.sets(st.integers(0, count - 1)) if count else st.just(set())))
    preferred = data.draw(st.lists(st.integers(-1, bundles + offset + 2), min_size=count, max_size=count))
    pool = pool_of(*[1.0] * bundles, offset=offset)
    plan = plan_of(wanted_of(count, refused=refused, preferred=preferred), pool, held, capacity=capacity)
    assert sorted([*plan.placed.rows, *plan.left_out.rows]) == list(range(count))
    assert set(refused) <= set(plan.left_out.rows.tolist())
    positions = plan.placed.bundles - offset
    assert ((positions > 0) & (positions <= bundles)).all()
    after = np.asarray(held) + np.bincount(positions, minlength=bundles + 1)
    room = sum(top - number for number in held[1:])
    if capacity is None:
        assert len(plan.left_out) == len(refused)
    else:
        assert (after[1:] <= capacity).all()
        assert len(plan.placed) == min(count - len(refused), room), "nobody is left out while there is room"
    for row, bundle in zip(plan.placed.rows.tolist(), plan.placed.bundles.tolist(), strict=True):
        assert plan.placed[plan.placed.rows.tolist().index(row)].bundle_idx == bundle


@given(st.integers(0, 60), st.integers(1, 6), st.integers(1, 20))
def test_new_nodes_are_spread_evenly(count: int, bundles: int, capacity: int) -> None:
    plan = plan_of(wanted_of(count), pool_of(*[1.0] * bundles), capacity=capacity)
    sizes = np.bincount(plan.placed.bundles, minlength=bundles + 1)[1:]
    assert sizes.max() - sizes.min() <= 1
    assert plan.processes == int((sizes > 0).sum())


def test_nodes_go_back_to_their_host_as_far_as_it_has_room() -> None:
    plan = plan_of(wanted_of(5, preferred=[2, 2, 2, 1, -1]), pool_of(1.0, 1.0), capacity=2)
    assert plan.placed.rows.tolist() == [0, 1, 2, 3] and plan.placed.bundles.tolist() == [2, 2, 1, 1]
    assert "2 bundles hold 2 nodes each" in plan.left_out[0].why


def test_hosts_that_run_are_not_counted_as_processes_to_start() -> None:
    plan = plan_of(wanted_of(9), pool_of(1.0, 1.0, 1.0), up=[1, 3])
    assert plan.processes == 1 and plan.shared
    assert "bundle 2" in str(plan) and "3 bundles: 1 process starts" in str(plan)


def test_the_server_sits_in_the_coordinators_bundle_and_takes_its_own_share() -> None:
    plan = plan_of(wanted_of(4, server=0), pool_of(1.0, 2.0, offset=3))
    assert plan.placed[0].bundle_idx == 3 and plan.placed[0].resources == {"CPU": 0.1}
    assert {placed.bundle_idx for placed in plan.placed[1:]} == {4, 5}
    assert plan.processes == 3


@pytest.mark.parametrize("server", [0, 1, 2])
def test_the_server_takes_no_place_of_a_client(server: int) -> None:
    plan = plan_of(wanted_of(5, server=server), pool_of(1.0, 1.0), capacity=2)
    assert len(plan.placed) == 5
    assert np.bincount(plan.placed.bundles).tolist() == [1, 2, 2]


def test_a_second_server_finds_no_room() -> None:
    pool = pool_of(1.0)
    pool.seat(99, 0, {"CPU": 0.1})
    plan = plan_of(wanted_of(2, server=0), pool)
    assert plan.placed.rows.tolist() == [1] and "coordinator" in plan.left_out[0].why


def test_one_bundle_only() -> None:
    pool = pool_of(1.0, 1.0)
    plan = plan_of(wanted_of(3, preferred=[1, -1, -1]), pool, only_bundle=2)
    assert plan.placed.bundles.tolist() == [2, 2, 2]
    full = plan_of(wanted_of(3), pool, [0, 0, 2], capacity=3, only_bundle=2)
    assert len(full.placed) == 1 and [left.why for left in full.left_out] == ["bundle 2 is full"] * 2
    for wrong in (0, 3, 99, -1):
        none = plan_of(wanted_of(1), pool, only_bundle=wrong)
        assert not len(none.placed) and f"bundle {wrong} holds no nodes: the pool's are 1 to 2" in none.left_out[0].why


def test_what_is_available_is_what_hosts_that_start_may_take() -> None:
    pool = pool_of(1.0, 3.0, 1.0)
    plan = plan_of(wanted_of(10), pool, available={"CPU": 2.0})
    assert set(plan.placed.bundles.tolist()) == {1} and len(plan.placed) == 10, "a node in a host asks nothing more"
    going_on = plan_of(wanted_of(10), pool, available={"CPU": 2.0}, skip_large=True)
    assert set(going_on.placed.bundles.tolist()) == {1, 3}
    running = plan_of(wanted_of(10), pool, up=[2], available={"CPU": 0.5})
    assert set(running.placed.bundles.tolist()) == {2}, "a host that runs is paid for"
    nothing = plan_of(wanted_of(2), pool, available={"CPU": 0.5})
    assert len(nothing.placed) == 0
    assert "the host of its bundle asks CPU 1, and of what was given CPU 0.5 is left" in nothing.left_out[0].why


def test_planning_changes_nothing_it_was_given() -> None:
    pool, held = pool_of(1.0, 1.0), np.asarray([0, 3, 0])
    wanted = wanted_of(6, server=0, preferred=[1] * 6)
    before = (wanted.rows.tolist(), wanted.preferred.tolist(), held.tolist())
    budget = {"CPU": 1.5}
    make_hosted_plan(wanted, pool, ask, held, (), 4, Limits(available=budget), None)
    assert (wanted.rows.tolist(), wanted.preferred.tolist(), held.tolist()) == before and budget == {"CPU": 1.5}
    assert all(not slot.rows and not slot.taken for slot in pool.slots)


def test_a_million_rows_are_planned_without_an_object_each() -> None:
    count = 1_000_000
    wanted, pool = wanted_of(count, refused=range(1, 1001)), pool_of(*[1.0] * 100)
    tracemalloc.start()
    plan = plan_of(wanted, pool, capacity=5_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(plan.placed) == 500_000 and len(plan.left_out) == 500_000
    assert peak < 120 * count
    assert "500000 nodes in 100 bundles" in str(plan) and "500000 are left out" in str(plan)
    assert plan.placed[-1].node_id == f"n{plan.placed.rows[-1]}"
    assert plan.left_out[0].why == "node 'n1' is already built" and "no free place" in plan.left_out[-1].why
    reasons = LeftOutReasons(plan.left_out)
    assert len(reasons) == 500_000 and reasons["n1"].endswith("already built")


# -- what plans are made of --------------------------------------------------------------------------


def counting_placed(count: int) -> tuple[PlacedNodes, list[int]]:
    looked: list[int] = []

    def host(bundle: int) -> str:
        looked.append(bundle)
        return f"h{bundle}"

    ids, rows = IdSpace([PatternIds("n", "", 0, 2 * count)]), np.arange(count) * 2
    return PlacedNodes(ids, rows, rows + 1, host, lambda bundle: {"CPU": float(bundle)}), looked


def test_placed_nodes_are_made_when_they_are_looked_at() -> None:
    placed, looked = counting_placed(1000)
    assert len(placed) == 1000 and looked == []
    assert (placed[3].row, placed[3].node_id, placed[3].bundle_idx, placed[3].host) == (6, "n6", 7, "h7")
    assert len(looked) == 4
    assert placed[-1].node_id == "n1998" and next(iter(placed)).node_id == "n0"
    assert [one.row for one in placed[2:5]] == [4, 6, 8] and [one.row for one in placed[::-500]] == [1998, 998]
    assert len(looked) < 15


@given(st.integers(0, 5), st.integers(-8, 8))
def test_they_are_a_sequence_as_any(count: int, index: int) -> None:
    placed, plain = counting_placed(count)[0], list(range(0, 2 * count, 2))
    assert [one.row for one in placed] == plain and [one.row for one in placed[index:]] == plain[index:]
    if -count <= index < count:
        assert placed[index].row == plain[index]
    else:
        with pytest.raises(IndexError):
            placed[index]


def test_reasons_are_asked_for_when_they_are_looked_at() -> None:
    asked: list[int] = []

    def why(row: int) -> str:
        asked.append(row)
        return f"because of {row}"

    ids = IdSpace([PatternIds("n", "", 0, 10)])
    left = LeftOutNodes(ids, [(np.asarray([4, 2]), why), (np.empty(0, int), "nobody"), (np.asarray([9]), "full")])
    assert len(left) == 3 and left.rows.tolist() == [4, 2, 9] and asked == []
    assert [(one.node_id, one.why) for one in left] == [("n4", "because of 4"), ("n2", "because of 2"), ("n9", "full")]
    assert len(LeftOutNodes(ids)) == 0 and list(LeftOutNodes(ids)) == []


def test_reasons_by_id_are_a_mapping_of_all_of_them() -> None:
    ids = IdSpace([PatternIds("n", "", 0, 10)])
    reasons = LeftOutReasons(LeftOutNodes(ids, [(np.asarray([4, 2]), "full")]), {"n7": "stale"})
    assert dict(reasons) == {"n4": "full", "n2": "full", "n7": "stale"} and len(reasons) == 3
    with pytest.raises(KeyError):
        reasons["n1"]
