"""Rounds go to the disk beside the next one, count in order once they are there, and none is lost."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from red_tui.errors import RedError
from red_tui.federation.rounds import round_writer
from red_tui.federation.rounds.round_writer import FinishedRound, RoundWriter
from red_tui.federation.state import FederationState
from red_tui.rounds.history import RoundResult


class Disk:
    """A store that writes a round when it is let; what it was given stays."""

    measure = ""

    def __init__(self) -> None:
        self.given: list[tuple[int, Any, dict[str, float]]] = []
        self.writing: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def save(self, number: int, parameters: Any, groups: Any, figures: dict[str, float], extra: Any) -> Any:
        self.given.append((number, parameters, figures))
        self.writing[number] = asyncio.get_running_loop().create_future()
        return await self.writing[number]

    def write(self, number: int, **told: Any) -> None:
        self.writing[number].set_result({"round": number, **told})


class Scene:
    """A writer over a disk, and what the federation hears of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, grace: float = 0.0, written: bool = True) -> None:
        monkeypatch.setattr(round_writer, "GRACE", grace)
        self.disk, self.told, self.counted, self.stopped = Disk(), [], [], False
        self.state = SimpleNamespace(
            keeper=self.disk, troubles={}, note="", notify=lambda: None, log=logging.getLogger("red")
        )
        self.state.trouble = lambda what, text: FederationState.trouble(cast("Any", self.state), what, text)
        self.state.settings = SimpleNamespace(evaluate_every=1)
        self.state.record = lambda *args, data: self.told.append(data["checkpoint"]["round"])
        self.tasks: set[asyncio.Task[Any]] = set()
        self.writer = RoundWriter(
            cast("Any", self.state), self.spawn, lambda result: self.counted.append(result.number), lambda: self.stopped
        )

        self.writer.written = written

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        return task

    async def put(self, number: int, beside: bool = True, evaluated: int = 2) -> None:
        result = RoundResult(number, 0.5, {"accuracy": 0.25}, {}, (), {}, 1.0, 0.0, evaluated=evaluated)
        await self.writer.put(FinishedRound(result, f"parameters {number}"), beside=beside)


async def until(task: asyncio.Task[Any], condition: Any) -> None:
    """Let other tasks run until a condition holds, while a task is not done."""
    while not condition():
        assert not task.done()
        await asyncio.sleep(0)


async def test_the_next_round_begins_before_the_one_in_hand_is_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    await scene.put(1)
    assert scene.writer.pending is not None and scene.counted == []
    scene.disk.write(1)
    await scene.writer.settle()
    assert scene.writer.pending is None and scene.counted == [1] and scene.told == [1]
    assert scene.disk.given == [(1, "parameters 1", {"accuracy": 0.25, "loss": 0.5})]


async def test_rounds_wait_when_two_are_finished_and_it_is_said_until_the_disk_keeps_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch)
    await scene.put(1)
    second = asyncio.ensure_future(scene.put(2))
    await until(second, lambda: "disk" in scene.state.troubles)
    assert "rounds outrun the disk" in scene.state.note and list(scene.disk.writing) == [1]
    scene.disk.write(1)
    await second
    assert scene.counted == [1] and list(scene.disk.writing) == [1, 2] and "disk" in scene.state.troubles
    scene.disk.write(2)
    await until(asyncio.ensure_future(asyncio.sleep(60)), lambda: scene.writer.pending.saving.done())
    await scene.put(3)
    assert scene.counted == [1, 2] and scene.state.note == ""


async def test_a_round_after_which_no_other_may_begin_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    last = asyncio.ensure_future(scene.put(1, beside=False))
    await until(last, lambda: 1 in scene.disk.writing)
    scene.disk.write(1)
    await last
    assert scene.counted == [1] and scene.writer.pending is None


async def test_a_checkpoint_that_is_written_at_once_counts_before_the_next_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, grace=3600.0)
    first = asyncio.ensure_future(scene.put(1))
    await until(first, lambda: 1 in scene.disk.writing)
    scene.disk.write(1)
    await first
    assert scene.counted == [1]


async def test_a_round_that_cannot_be_written_counts_says_so_and_the_next_one_waits_for_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch)
    await scene.put(1)
    scene.disk.writing[1].set_exception(RedError("the disk is full: free it. Older ones stay"))
    await scene.writer.settle()
    assert scene.counted == [1] and scene.told == []
    assert scene.state.note.startswith("the parameters cannot be saved: the disk is full")
    second = asyncio.ensure_future(scene.put(2))
    await until(second, lambda: 2 in scene.disk.writing)
    scene.disk.write(2)
    await second
    assert scene.counted == [1, 2] and scene.state.note == ""


async def test_a_run_that_is_stopped_now_brings_its_finished_round_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    await scene.put(1)
    ending = asyncio.ensure_future(scene.writer.settle())
    for _ in range(3):
        await asyncio.sleep(0)
        scene.stopped = True
        ending.cancel()
    assert scene.counted == []
    scene.disk.write(1)
    await ending
    assert scene.counted == [1] and scene.told == [1]


async def test_a_federation_that_closes_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    await scene.put(1)
    ending = asyncio.ensure_future(scene.writer.settle())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert scene.counted == [] and scene.writer.pending is not None


async def test_without_a_store_rounds_count_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    scene.state.keeper = None
    await scene.put(1)
    assert scene.counted == [1]


async def test_it_is_said_while_nobody_reports_what_the_best_round_is_chosen_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch)
    scene.disk.measure = "highest f1"
    for number, evaluated, told in ((1, 0, {}), (2, 2, {}), (3, 2, {"best": 3})):
        await scene.put(number, evaluated=evaluated)
        scene.disk.write(number, **told)
        await scene.writer.settle()
        said = "no best round is kept: nobody reports what rounds.keep asks for (highest f1); there are accuracy, loss"
        assert scene.state.note == (said if number == 2 else "")


async def test_the_first_round_waits_for_the_process_that_writes_which_is_no_slow_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, written=False)
    first = asyncio.ensure_future(scene.put(1))
    await until(first, lambda: 1 in scene.disk.writing)
    scene.disk.write(1)
    await first
    assert scene.counted == [1] and scene.state.note == ""
    await scene.put(2)
    assert scene.counted == [1] and scene.writer.pending is not None


async def test_states_that_cannot_be_saved_are_left_out_and_the_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    result = RoundResult(1, 0.5, {"accuracy": 0.25}, {}, (), {}, 1.0, 0.0, evaluated=2)

    async def states() -> Any:
        raise RuntimeError("their machine is gone")

    putting = asyncio.ensure_future(
        scene.writer.put(FinishedRound(result, "parameters 1", states=states), beside=False)
    )
    await until(putting, lambda: 1 in scene.disk.writing)
    scene.disk.write(1)
    await putting
    assert scene.counted == [1] and "what nodes keep is not in the checkpoint of round 1" in scene.state.note
    assert "their machine is gone" in scene.state.note
