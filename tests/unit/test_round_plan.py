"""What a round would do, said beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from red_tui.federation.rounds.round_plan import RoundPlan, plan_round
from red_tui.federation.state import Hosting
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NodeTable
from red_tui.placement.build_plan import NO_LIMIT
from red_tui.placement.pool import Pool, Slot

CLIENTS = 12


def lifecycle_of(*cpus: float, hosting: Hosting | None = None, pace: float | None = None, share: float = 1.0) -> Any:
    """As much of a federation as planning looks at: rows 0 (server) and 1 to 12, nobody built."""
    table = NodeTable()
    table.append(PatternIds("n", "", 0, CLIENTS + 1), "train")
    pool = Pool([{"CPU": 0.1}, *({"CPU": cpu} for cpu in cpus)])

    def asked(row: int, slot: Slot) -> Mapping[str, float]:
        return {"CPU": share} if share else {}

    state = SimpleNamespace(
        table=table, hosting=hosting or Hosting(), processes={}, bundle_actors={}, server_row=0, pace=pace, pool=pool
    )
    return SimpleNamespace(state=state, pool=pool, asked=asked)


def clients(*numbers: int) -> Any:
    return np.asarray(numbers or range(1, CLIENTS + 1), dtype=np.int64)


NOBODY = np.empty(0, dtype=np.int64)


def test_the_first_round_starts_a_process_for_each_and_one_for_the_server() -> None:
    plan = plan_round(lifecycle_of(*[1.0] * 12), 1, clients(), clients(1, 2))
    assert (plan.participants, plan.judges, plan.places, plan.turns, plan.processes) == (12, 2, 12, 1, 13)
    assert plan.seconds is None
    assert str(plan) == "round 1: 12 nodes fit, 2 evaluate; 13 processes to start"


def test_nodes_that_are_built_start_nothing() -> None:
    lifecycle = lifecycle_of(*[1.0] * 12, pace=0.5)
    lifecycle.state.table.set(np.arange(13), state=NodeState.READY)
    lifecycle.state.processes[0] = object()
    plan = plan_round(lifecycle, 3, clients(), NOBODY)
    assert plan.processes == 0 and plan.seconds == 0
    assert str(plan) == "round 3: 12 nodes fit"


@pytest.mark.parametrize(("share", "places", "turns"), [(1.0, 5, 3), (0.5, 10, 2), (0.25, 20, 1), (0.0, 4, 3)])
def test_turns_are_counted_by_the_places_that_bundles_have(share: float, places: int, turns: int) -> None:
    plan = plan_round(lifecycle_of(1.0, 1.0, 2.0, 1.0, share=share, pace=2.0), 1, clients(), NOBODY)
    assert (plan.places, plan.turns) == (places, turns)
    assert plan.processes == 13 and plan.seconds == 26.0
    if turns > 1:
        assert f"12 nodes fit in {turns} turns of {places} places; 13 processes to start, about 26 s" in str(plan)


def test_hosts_are_the_processes_where_nodes_share_them() -> None:
    lifecycle = lifecycle_of(1.0, 1.0, 1.0, hosting=Hosting("bundle"))
    plan = plan_round(lifecycle, 1, clients(), clients())
    assert (plan.places, plan.turns, plan.processes) == (NO_LIMIT, 1, 4)
    assert plan_round(lifecycle, 1, clients(1, 2), NOBODY).processes == 3


def test_a_capacity_makes_turns() -> None:
    lifecycle = lifecycle_of(1.0, 1.0, hosting=Hosting("bundle", capacity=2), pace=1.5)
    lifecycle.state.processes[0] = lifecycle.state.bundle_actors[1] = object()
    plan = plan_round(lifecycle, 2, clients(), NOBODY)
    assert (plan.places, plan.turns, plan.processes, plan.seconds) == (4, 3, 1, 1.5)
    assert "in 3 turns of 4 places; 1 process to start, about 2 s" in str(plan)


def test_hosted_nodes_that_are_built_start_nothing() -> None:
    lifecycle = lifecycle_of(1.0, 1.0, 1.0, hosting=Hosting("bundle"))
    lifecycle.state.processes[0] = lifecycle.state.bundle_actors[1] = object()
    lifecycle.state.table.set(clients(1, 2, 3), state=NodeState.READY, bundle=1)
    assert plan_round(lifecycle, 2, clients(1, 2, 3), NOBODY).processes == 0


def test_a_round_of_nobody_is_a_plan_too() -> None:
    plan = plan_round(lifecycle_of(1.0), 1, NOBODY, NOBODY)
    assert (plan.participants, plan.turns, plan.processes) == (0, 0, 1)


def test_planning_looks_at_everything_and_changes_nothing() -> None:
    lifecycle = lifecycle_of(1.0, 2.0, hosting=Hosting("bundle", capacity=3))
    version = lifecycle.state.table.version
    plans = [plan_round(lifecycle, 1, clients(), clients()) for _ in range(2)]
    assert plans[0] == plans[1] and isinstance(plans[0], RoundPlan)
    assert lifecycle.state.table.version == version and not lifecycle.state.bundle_actors
    assert all(not slot.taken and not slot.rows for slot in lifecycle.pool.slots)
