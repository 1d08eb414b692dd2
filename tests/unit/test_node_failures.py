"""A failure goes one way: a backend hears of it, `Lifecycle.node_failed` notes it, the policy decides.  No Ray here."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from red_tui.federation.engine import Engine
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.reports import GroupDefinition
from red_tui.federation.state import FailurePolicy, FederationState, Hosting
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.failures import Cause
from red_tui.nodes.ids import SERVER_ID, ListedIds, PatternIds
from red_tui.nodes.states import NodeState
from red_tui.nodes.template import FederatedNode
from red_tui.placement.pool import Pool
from red_tui.rounds.sampling import RoundSettings

DIED = Cause("killed by a signal", died=True)


def lifecycle_of(policy: str = "leave", isolation: str = "process") -> Lifecycle:
    """A server in bundle 0 and four clients in bundles 1 and 2, all of them ready."""
    config = FederationConfig.of({"federation_id": "failing"})
    failure = FailurePolicy(policy, backoff=60)
    log = logging.getLogger("red_tui.test")
    state = FederationState(config, RoundSettings(), failure, log, hosting=Hosting(isolation))
    state.pool = Pool([{"CPU": 1.0}, {"CPU": 2.0}, {"CPU": 2.0}])
    state.groups += [GroupDefinition(FederatedNode, row_start=0), GroupDefinition(FederatedNode, row_start=1)]
    state.table.append(ListedIds((SERVER_ID,)), "server", 0)
    state.table.append(PatternIds("n", "", 0, 4), "train", 1)
    state.table.set(np.arange(5), state=NodeState.READY, bundle=np.asarray([0, 1, 1, 2, 2]))
    return Lifecycle(state, Engine("failing"))


class Process:
    """Stands for a process: says whether it was killed."""

    def __init__(self, bundle: int = -1) -> None:
        self.killed, self.bundle, self.name, self.ended = 0, bundle, f"failing/bundle-{bundle}", None

    def kill(self) -> None:
        self.killed += 1


def give_process(lifecycle: Lifecycle, row: int) -> Any:
    process: Any = Process()
    lifecycle.state.processes[row] = process
    lifecycle.pool.seat(row, 1, {"CPU": 1.0})
    lifecycle.state.seats[row] = (1, {"CPU": 1.0})
    return process


def rows(*numbers: int) -> Any:
    return np.asarray(numbers, dtype=np.int64)


def states(lifecycle: Lifecycle) -> list[str]:
    return [str(lifecycle.state.table.state_of(row)) for row in range(5)]


async def test_a_process_that_died_frees_its_place_and_its_node_is_failed_with_the_cause() -> None:
    lifecycle = lifecycle_of()
    process = give_process(lifecycle, 1)
    lifecycle.process_failed(1, process, DIED)
    assert states(lifecycle) == ["ready", "failed", "ready", "ready", "ready"]
    assert process.killed == 1 and not lifecycle.state.processes and not lifecycle.state.seats
    assert not lifecycle.pool.slots[1].rows and lifecycle.state.causes[1] is DIED
    event = lifecycle.state.events[-1]
    assert (event.subject, event.text, event.state) == ("n0", "killed by a signal", "failed")
    assert {"rows": [[1, 2]], "bundle": 1, "died": True}.items() <= event.data.items()
    assert not lifecycle.healing


async def test_the_end_of_a_process_that_was_replaced_does_not_fail_the_node() -> None:
    lifecycle = lifecycle_of()
    old = give_process(lifecycle, 1)
    lifecycle.process_failed(1, old, DIED)
    lifecycle.state.table.set(1, state=NodeState.READY)
    new = give_process(lifecycle, 1)
    lifecycle.process_failed(1, old, DIED)
    assert states(lifecycle)[1] == "ready" and lifecycle.state.processes[1] is new and not new.killed


@pytest.mark.parametrize("state", [NodeState.RELEASED, NodeState.FAILED, NodeState.REMOVED, NodeState.VIRTUAL])
async def test_nodes_that_have_no_process_do_not_fail_again(state: NodeState) -> None:
    lifecycle = lifecycle_of("rebuild")
    lifecycle.state.table.set(rows(1, 2), state=state)
    lifecycle.node_failed(rows(1, 2), DIED)
    assert states(lifecycle)[1:3] == [str(state)] * 2 and not lifecycle.state.events and not lifecycle.healing


async def test_a_lost_connection_does_not_fail_a_node_with_a_lifeline_of_its_own() -> None:
    lifecycle = lifecycle_of("rebuild")
    process = give_process(lifecycle, 1)
    lifecycle.process_failed(1, process, Cause("its process does not answer", died=True, unsure=True))
    assert states(lifecycle)[1] == "ready" and lifecycle.state.processes[1] is process and not process.killed


async def test_the_policy_rebuilds_a_node_that_died_and_not_one_that_raised() -> None:
    for cause, healing in ((DIED, True), (Cause("build raised ValueError: no"), False)):
        lifecycle = lifecycle_of("rebuild", "bundle")
        lifecycle.node_failed(rows(1, 2), cause)
        assert states(lifecycle) == ["ready", "failed", "failed", "ready", "ready"]
        assert lifecycle.healing is healing
        for task in list(lifecycle.rebuilding):
            task.cancel()


async def test_the_end_of_a_bundles_actor_fails_its_nodes_and_nobody_else() -> None:
    lifecycle = lifecycle_of(isolation="bundle")
    first, second = (lifecycle.state.bundle_actors.setdefault(bundle, Process(bundle)) for bundle in (1, 2))  # type: ignore[arg-type]
    lifecycle.bundle_actor_died(first, DIED)
    assert states(lifecycle) == ["ready", "failed", "failed", "ready", "ready"]
    assert lifecycle.state.bundle_actors == {2: second} and first.ended is DIED
    event = lifecycle.state.events[-1]
    assert (event.subject, event.text) == ("2 nodes", "the host of bundle 1 ended: killed by a signal")
    assert event.data["bundles"] == [[1, 3, 1]] and event.data["died"] is True
    lifecycle.bundle_actor_died(first, DIED)
    assert lifecycle.state.events[-1] is event, "its end is heard once"


async def test_a_federation_that_ends_fails_nobody() -> None:
    lifecycle = lifecycle_of("rebuild", "bundle")
    lifecycle.nodes.closing = True
    lifecycle.node_failed(rows(1, 2, 3, 4), DIED, machine_lost=True)
    assert states(lifecycle) == ["ready"] * 5 and not lifecycle.healing


def test_one_failure_of_many_nodes_is_one_event() -> None:
    lifecycle = lifecycle_of(isolation="bundle")
    lifecycle.fail_each([(1, "ValueError: no", "build", "t"), (2, "ValueError: no", "build", "t"), (3, "gone", "", "")])
    told = [(event.subject, event.text) for event in lifecycle.state.events]
    assert told == [("2 nodes", "build raised ValueError: no"), ("n2", "gone")]
    assert SimpleNamespace(**lifecycle.state.events[0].data).ids == ["n0", "n1"]
