"""A host alone: builds, releases and calls, in this process."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui.runtime.bundle_actor import BundleActor
from tests.unit.steppers import (
    PATIENCE,
    Keeping,
    Stepper,
    Told,
    batch,
    host_of,
    parameters,
    work,
)

# -- the host ------------------------------------------------------------------------------------------


def test_a_build_that_raises_fails_alone_and_the_others_are_there() -> None:
    host = BundleActor()
    records = list(host.build(batch(range(4), Stepper), {"at": 2}))
    assert [row for record in records for row in record["rows"].tolist()] == [0, 1, 3]
    ((row, error, where, trace),) = [failure for record in records for failure in record["failed"]]
    assert (row, error, where) == (2, "OSError: no data for this node", "build") and "Traceback" in trace
    assert host.adopted()["rows"].tolist() == [0, 1, 3]


def test_what_cannot_be_shared_fails_the_nodes_of_its_template_only() -> None:
    class Poor(Stepper):
        @classmethod
        def build_shared(cls, config: red.FederationConfig) -> Any:
            raise MemoryError("no room")

    host = BundleActor()
    records = list(host.build(batch(range(4), Stepper, Poor, groups=[0, 1, 0, 1]), {}))
    assert [row for record in records for row in record["rows"].tolist()] == [0, 2]
    failures = [failure for record in records for failure in record["failed"]]
    assert [(failure[0], failure[2]) for failure in failures] == [(1, "build_shared"), (3, "build_shared")]


def test_released_nodes_come_back_with_their_own_state() -> None:
    host = host_of(6, Keeping)
    Told().read(work(host, [1, 2, 5]))
    report, states = host.release(np.asarray([5, 0, 2, 9]), True, 1)
    assert report["rows"].tolist() == [5, 0, 2] and [state[1] for state in states] == [1, 0, 1]
    assert host.adopted()["rows"].tolist() == [1, 3, 4]
    kept = {row: (0, index) for index, row in enumerate(report["rows"].tolist())}
    list(host.build(batch([0, 2, 5], Keeping, kept=kept, epoch=2), {}, states))
    assert [host.call(row, f"n{row}", "get_state")[1] for row in (0, 2, 5)] == [0, 1, 1]


def test_a_state_that_cannot_be_had_is_told_and_keeps_no_other_from_leaving() -> None:
    class Sealed(Keeping):
        def get_state(self) -> tuple[str, int]:
            if self.node_id == "n1":
                raise ValueError("sealed")
            return super().get_state()

    host = host_of(3, Sealed)
    report, states = host.release(np.arange(3), True, 1)
    assert report["rows"].tolist() == [0, 2] and [state[0] for state in states] == ["n0", "n2"]
    assert [failure[:3] for failure in report["failed"]] == [(1, "ValueError: sealed", "get_state")]
    assert len(host.adopted()["rows"]) == 0


def test_without_keeping_nobody_is_asked_for_a_state() -> None:
    host = host_of(2, Keeping)
    report, states = host.release(np.arange(2), False, 1)
    assert len(report["rows"]) == 0 and states == []


def test_a_call_of_a_node_that_has_left_says_which_and_why() -> None:
    host = host_of(2)
    assert host.call(1, "n1", "evaluate", parameters(), {}).loss == 1.0
    host.discard([1])
    with pytest.raises(LookupError, match="node 'n1' is not in this host any more"):
        host.call(1, "n1", "evaluate", parameters(), {})
    assert host.control(0, "n0", "red_detail")["pid"]


class Gated(Stepper):
    """Its `build` waits at node 0 until the test lets it go on."""

    begun: threading.Event
    gate: threading.Event

    def build(self, **kwargs: Any) -> None:
        if self.config.node_index == 0 and not self.gate.is_set():
            self.begun.set()
            assert self.gate.wait(PATIENCE)


class Building:
    """A build of five nodes that stands in its first one."""

    def __init__(self) -> None:
        self.template = type("Gated", (Gated,), {"begun": threading.Event(), "gate": threading.Event()})
        self.host, self.rows = BundleActor(2), []  # type: BundleActor, list[int]
        self.thread = threading.Thread(target=self._build)
        self.thread.start()
        assert self.template.begun.wait(PATIENCE)

    def _build(self) -> None:
        for record in self.host.build(batch(range(5), self.template), {}):
            self.rows += record["rows"].tolist()

    def end(self) -> None:
        self.template.gate.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def test_nodes_released_while_they_are_built_are_not_there_afterwards() -> None:
    building = Building()
    building.host.release(np.asarray([0, 1, 3]), False, 1)
    building.end()
    assert building.host.adopted()["rows"].tolist() == [2, 4]
    assert building.rows == [2, 4]


def test_a_kept_state_that_is_not_there_fails_its_node_alone() -> None:
    host = BundleActor()
    kept = {0: (0, 0), 1: (0, 7)}
    records = list(host.build(batch(range(3), Keeping, kept=kept), {}, [("n0", 4)]))
    assert [row for record in records for row in record["rows"].tolist()] == [0, 2]
    assert [failure[0] for record in records for failure in record["failed"]] == [1]


def test_a_node_that_exits_in_its_build_fails_alone() -> None:
    class Exiting(Stepper):
        def build(self, **kwargs: Any) -> None:
            if self.config.node_index == 1:
                raise SystemExit(2)

    records = list(BundleActor().build(batch(range(3), Exiting), {}))
    assert [row for record in records for row in record["rows"].tolist()] == [0, 2]


def test_a_build_that_was_overtaken_changes_nothing() -> None:
    building = Building()
    building.host.release(np.asarray([0, 1]), False, 1)
    assert sum(len(record["rows"]) for record in building.host.build(batch([1], Keeping, epoch=2), {})) == 1
    assert Told().read(work(building.host, [1])).rows == [1]
    building.end()
    assert building.rows == [2, 3, 4]
    assert building.host.call(1, "n1", "get_state") == ("n1", 1), "the newer node is still there"


def test_a_new_supervisor_counts_its_builds_from_the_start() -> None:
    host = host_of(2)
    host.release(np.asarray([1, 5]), False, 40)
    host.adopted()
    assert sum(len(record["rows"]) for record in host.build(batch([1, 5], Stepper, epoch=1), {})) == 2
