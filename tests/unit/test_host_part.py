"""What becomes of a phase when the answers of its host cross: the deadline's cut against the stream, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from red_tui.aggregation.answers import Phase
from red_tui.federation.rounds import bundle_phase as host_work
from red_tui.federation.rounds.bundle_phase import TOLD_CAUSES, BundlePhase, PhaseCall, forgive
from red_tui.node_states.kept_states import KeptStates
from red_tui.nodes.failures import Cause
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NodeTable
from red_tui.runtime.batch import GONE, Results

ROWS = np.arange(6)


class Scripted:
    """A host that answers what the test says, when it says so."""

    def __init__(self) -> None:
        self.stream: asyncio.Queue[Any] = asyncio.Queue()
        self.cut_asked = asyncio.Event()
        self.cut_answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.handle = SimpleNamespace(
            work=SimpleNamespace(remote=lambda *arguments: self.stream), cut=SimpleNamespace(remote=self._cut)
        )
        self.name, self.bundle, self.pace, self.ended = "fed/bundle-1", 1, {}, None

    def _cut(self, token: str) -> tuple[Any, Any, Any]:
        self.cut_asked.set()
        return self.cut_answer, "the sum at the cut", None


class Stream:
    """Stands for `BundleStream`: items of a queue, of which exceptions are raised."""

    def __init__(self, items: asyncio.Queue[Any]) -> None:
        self._items = items

    async def record(self) -> Any:
        item = await self._items.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def payload(self, *, small: bool = False) -> Any:
        return await self.record()

    async def states(self) -> Any:
        return await self.record()


async def answer(future: Any, timeout: float | None) -> Any:
    done, _ = await asyncio.wait([future], timeout=timeout)
    if not done:
        raise TimeoutError
    return future.result()


def record_of(*rows: int, late: bool = False, **more: Any) -> dict[str, Any]:
    results = Results()
    results.given = [(row, 1.0, 0.1, 0.0) for row in rows]
    return {**results.record("fit", late=late), **more}


class Phased:
    """A part at its deadline, and a phase that collects what it gives."""

    def __init__(self, begin: bool = True) -> None:
        table = NodeTable()
        table.append(PatternIds("n", "", 0, len(ROWS)), "train")
        table.set(ROWS, state=NodeState.BUSY, bundle=1)
        self.host, self.table, self.failed, self.died = Scripted(), table, [], []  # type: Any, Any, list[int], list[Any]
        self.errors: dict[int, str] = {}
        self.events: list[tuple[str, str]] = []
        self.state = SimpleNamespace(
            table=table,
            kept=KeptStates(),
            bundle_actors={1: self.host},
            round=SimpleNamespace(number=4),
            set_state=self._set_state,
            note_error=lambda row, cause: self.errors.update({row: cause.text}),
            record=lambda kind, level, subject, text, *more: self.events.append((subject, text)),
        )
        lifecycle: Any = SimpleNamespace(
            state=self.state,
            states=SimpleNamespace(place=None),
            closing=False,
            spawn=lambda coroutine: asyncio.get_running_loop().create_task(coroutine),
            fail_each=lambda failures: self._fail(np.asarray([one[0] for one in failures], dtype=np.int64)),
            node_failed=lambda rows, cause: self._fail(rows),
            bundle_actor_died=lambda host, cause: self.died.append(cause),
            wake=lambda: None,
        )
        call = PhaseCall("fit", None, {}, False, 60.0)
        call.until = asyncio.get_running_loop().time()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.part = BundlePhase(lifecycle, 1, ROWS, call, self.answers)
        if begin:
            self.part.task = asyncio.get_running_loop().create_task(self.part.run())

    def _set_state(self, rows: Any, state: NodeState) -> None:
        self.table.set(rows, state=state)

    def _fail(self, rows: Any) -> None:
        self.failed += rows.tolist()
        if len(rows):
            self.table.set(rows, state=NodeState.FAILED)

    async def phase(self) -> Phase:
        phase = Phase(len(ROWS))
        while (told := await self.answers.get()) is not None:
            phase.take(told)
        return phase

    @property
    def busy(self) -> list[int]:
        return np.flatnonzero(self.table.in_states((NodeState.BUSY,))).tolist()


async def passed_on() -> None:
    """Let everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_work, "BundleStream", Stream)
    monkeypatch.setattr(host_work, "answer_of", answer)
    monkeypatch.setattr(host_work, "CUT_TIMEOUT", 0.2)


def at_the_cut(*rows: int, told: int = 1, working: list[int]) -> dict[str, Any]:
    return record_of(*rows, told=told, working=working, payload=True, total=float(len(rows) + told))


async def overtaken(phased: Phased) -> None:
    phased.host.stream.put_nowait(record_of(2, late=True))
    await passed_on()
    phased.host.cut_answer.set_result(at_the_cut(1, working=[2]))


async def in_order(phased: Phased) -> None:
    phased.host.cut_answer.set_result(at_the_cut(1, working=[2]))
    await passed_on()
    phased.host.stream.put_nowait(record_of(2, late=True))


@pytest.mark.parametrize("course", [in_order, overtaken])
async def test_what_a_host_had_done_counts_whoever_of_its_answers_comes_first(course: Callable[[Phased], Any]) -> None:
    phased = Phased()
    phased.host.stream.put_nowait(record_of(0))
    await phased.host.cut_asked.wait()
    await passed_on()
    await course(phased)
    phase = await phased.phase()
    assert phase.counted().rows.tolist() == [0, 1] and sorted(phase.failures) == [2, 3, 4, 5]
    (sum_,) = phase.contributions
    assert sum_.reference == "the sum at the cut" and sorted(sum_.rows.tolist()) == [0, 1]
    await passed_on()
    assert phased.busy == [], "nobody of an ended call works any more"


async def test_who_is_still_at_work_stays_busy_until_it_says_otherwise() -> None:
    phased = Phased()
    await phased.host.cut_asked.wait()
    phased.host.cut_answer.set_result(at_the_cut(0, 1, told=0, working=[2]))
    phase = await phased.phase()
    assert phase.counted().rows.tolist() == [0, 1] and phased.busy == [2]
    assert "no result within the deadline of 60 s" in phase.failures[2] and "did not come to it" in phase.failures[3]
    phased.host.stream.put_nowait(record_of(2, late=True))
    await passed_on()
    assert phased.busy == []


async def test_a_sum_whose_parts_do_not_arrive_counts_for_nothing() -> None:
    phased = Phased()
    await phased.host.cut_asked.wait()
    phased.host.cut_answer.set_result(at_the_cut(1, told=1, working=[]))
    phase = await phased.phase()
    assert phase.contributions == [] and len(phase.counted().rows) == 0 and sorted(phase.failures) == ROWS.tolist()
    phased.host.stream.put_nowait(record_of(0))
    phased.host.stream.put_nowait(record_of(late=True))
    await passed_on()
    assert phased.busy == [] and phased.answers.empty(), "what comes after the end is not an answer"


async def test_a_host_that_does_not_answer_the_cut_gives_nothing_and_its_nodes_are_free_when_it_comes_back() -> None:
    phased = Phased()
    phased.host.stream.put_nowait(record_of(0))
    phase = await phased.phase()
    assert sorted(phase.failures) == ROWS.tolist() and phase.contributions == []
    phased.host.stream.put_nowait(record_of(1, 2, late=True))
    await passed_on()
    assert phased.busy == [] and phased.answers.empty()


@pytest.mark.parametrize("wrong", [(9,), (1, 1), (0,)])
async def test_a_host_that_tells_of_rows_it_was_not_asked_for_is_not_believed(wrong: tuple[int, ...]) -> None:
    phased = Phased()
    phased.host.stream.put_nowait(record_of(0))
    phased.host.stream.put_nowait(record_of(*wrong))
    phased.host.cut_answer.set_result({"gone": True})
    phase = await phased.phase()
    await passed_on()
    assert len(phase.counted().rows) == 0 and phase.contributions == [] and phased.busy == []
    assert all("not asked for" in phase.failures[row] for row in range(1, len(ROWS)))


async def test_a_host_that_forgets_a_node_is_told_on() -> None:
    phased = Phased()
    phased.host.stream.put_nowait(record_of(0, 1, 2, 3, last=True, payload=True, total=4.0))
    phased.host.stream.put_nowait("the sum")
    phased.host.cut_answer.set_result({"gone": True})
    phase = await phased.phase()
    await passed_on()
    assert phase.counted().rows.tolist() == [0, 1, 2, 3] and len(phase.contributions) == 1
    assert phase.failures == dict.fromkeys([4, 5], "its host said nothing of it") and phased.busy == []


async def test_a_host_that_breaks_off_while_it_is_cut_gives_nothing() -> None:
    phased = Phased()
    phased.host.stream.put_nowait(record_of(0, 1))
    await phased.host.cut_asked.wait()
    phased.host.stream.put_nowait(ConnectionError("gone"))
    await passed_on()
    phased.host.cut_answer.set_result(at_the_cut(2, working=[]))
    phase = await phased.phase()
    assert phase.contributions == [] and len(phase.counted().rows) == 0
    assert sorted(phase.failures) == ROWS.tolist() and phased.busy == []


# -- what was asked ahead of its time --------------------------------------------------------------------


async def test_what_was_begun_ahead_and_is_dropped_frees_its_nodes_before_the_call_has_come() -> None:
    phased = Phased(begin=False)
    assert phased.busy == list(ROWS)
    end = asyncio.create_task(phased.part.drop())
    await phased.host.cut_asked.wait()
    assert phased.busy == list(ROWS)
    phased.host.cut_answer.set_result({"gone": True, "ended": False})
    await asyncio.wait_for(end, 60)
    assert (phased.busy, phased.failed, phased.died) == ([], [], [])
    phased.table.set(ROWS, state=NodeState.BUSY)
    phased.host.stream.put_nowait(record_of(late=True))
    await passed_on()
    assert phased.busy == list(ROWS), "they are at the work of another call"


async def test_a_server_that_dies_over_the_parameters_is_not_the_hosts_fault() -> None:
    phased = Phased(begin=False)
    phased.host.cut_answer.set_result({"gone": True, "ended": False})
    phased.host.stream.put_nowait(ray.exceptions.ActorDiedError())
    await asyncio.wait_for(phased.part.drop(), 60)
    await passed_on()
    assert (phased.busy, phased.failed, phased.died) == ([], [], [])


async def test_nodes_that_worked_before_it_was_dropped_are_heard_of_and_do_not_count() -> None:
    phased = Phased(begin=False)
    phased.host.cut_answer.set_result({"gone": True, "ended": True})
    end = asyncio.create_task(phased.part.drop())
    await passed_on()
    assert not end.done() and phased.busy == list(ROWS), "its answer is on its way"
    phased.host.stream.put_nowait(record_of(0, 1, 2, 4, 5, last=True, failed=[(3, "ValueError: no", "fit", "")]))
    await asyncio.wait_for(end, 60)
    assert (phased.busy, phased.failed) == ([], [])
    assert phased.errors == {3: "fit raised ValueError: no"}
    assert (await asyncio.wait_for(phased.phase(), 60)).contributions == []


async def test_who_raised_is_ready_again_and_who_is_not_in_the_host_any_more_has_failed() -> None:
    phased = Phased()
    failed = [(1, "ValueError: no", "fit", "t"), (2, "ValueError: no", "fit", "t"), (3, "it is gone", GONE, "")]
    phased.host.stream.put_nowait(record_of(0, 4, 5, last=True, failed=failed))
    phase = await asyncio.wait_for(phased.phase(), 60)
    raised = "fit raised ValueError: no"
    assert phase.failures == {1: raised, 2: raised, 3: "it is gone"}
    assert (phased.busy, phased.failed, phased.errors) == ([], [3], {1: raised, 2: raised})
    assert phased.events == [("2 nodes", raised)], "one event a cause"


async def test_nodes_that_each_raise_something_else_are_a_few_events() -> None:
    phased, lifecycle = Phased(begin=False), SimpleNamespace()
    lifecycle.state, lifecycle.closing, lifecycle.wake = phased.state, False, lambda: None
    why = forgive(lifecycle, "fit", {row: Cause(f"fit raised {row}") for row in range(6)})  # type: ignore[arg-type]
    assert len(why) == 6 == len(phased.errors) and len(phased.events) == 6
    phased.events.clear()
    phased.table.append(PatternIds("k", "", 0, 1000), "train")
    forgive(lifecycle, "fit", {row: Cause(f"fit raised {row}") for row in range(1000)})  # type: ignore[arg-type]
    assert len(phased.events) == TOLD_CAUSES + 1 and phased.events[-1] == (
        "992 nodes",
        "fit failed with 992 other errors: each node's detail has its own",
    )


async def test_nodes_that_are_at_work_when_it_is_dropped_are_free_when_they_come_back() -> None:
    phased = Phased(begin=False)
    phased.host.cut_answer.set_result(at_the_cut(0, 1, working=[2]))
    end = asyncio.create_task(phased.part.drop())
    await passed_on()
    assert phased.busy == [2]
    phased.host.stream.put_nowait(record_of(2, late=True))
    await asyncio.wait_for(end, 60)
    assert phased.busy == []
