"""Hooks hear of every round in order, and neither slow nor break one, whatever they do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from red_tui.federation.argument_checks import hooks_of
from red_tui.federation.engine import Engine
from red_tui.federation.rounds.hook_calls import HookCalls
from red_tui.federation.state import FailurePolicy, FederationState
from red_tui.nodes.config import FederationConfig
from red_tui.rounds.history import History, RoundResult
from red_tui.rounds.hooks import RoundHook, RunStart
from red_tui.rounds.sampling import RoundSettings

SOON = 0.05


class Heard(RoundHook):
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.done = threading.Event()

    def on_run_begin(self, run: RunStart) -> None:
        self.calls.append(("begin", run.first_round, run.last_round, len(run.history)))

    def on_round_end(self, result: RoundResult) -> None:
        self.calls.append(result.number)

    def on_run_end(self, history: History) -> None:
        self.calls.append(("end", [one.number for one in history]))
        self.done.set()


class Scene:
    """A federation's state and engine without Ray, on which rounds end."""

    def __init__(self, *hooks: RoundHook, hung_after: float = 30.0) -> None:
        log = logging.getLogger("tests.hooks")
        self.state = FederationState(FederationConfig(federation_id="hooked"), RoundSettings(), FailurePolicy(), log)
        self.engine = Engine("hooked")
        self.calls = HookCalls(self.state, self.engine, hooks, hung_after)

    def on_engine(self, act: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return act()

        return self.engine.wait(run(), 30)

    def run(self, first: int, last: int) -> None:
        def act() -> None:
            self.calls.run_begins(RunStart("hooked", first, last, history=self.state.history.history()))
            for number in range(first, last + 1):
                self.state.add_result(RoundResult(number, 0.5, {}, {}, ("a",), {}, 0.1, float(number)))
                self.calls.round_ended(number)
            self.calls.run_ended(first)

        self.on_engine(act)

    def troubles(self) -> list[str]:
        found: list[str] = self.on_engine(lambda: list(self.state.troubles.values()))
        return found


@pytest.fixture
def scenes() -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(*hooks: RoundHook, hung_after: float = 30.0) -> Scene:
        made.append(Scene(*hooks, hung_after=hung_after))
        return made[-1]

    yield make
    for scene in made:
        scene.calls.close(timeout=1.0)
        scene.engine.close()


def until(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_hook_hears_of_runs_and_rounds_in_order(scenes: Callable[..., Scene]) -> None:
    heard = Heard()
    scene = scenes(heard)
    scene.run(1, 3)
    assert heard.done.wait(30)
    heard.done.clear()
    scene.run(4, 5)
    assert heard.done.wait(30)
    assert heard.calls == [("begin", 1, 3, 0), 1, 2, 3, ("end", [1, 2, 3]), ("begin", 4, 5, 3), 4, 5, ("end", [4, 5])]
    assert scene.troubles() == []


def test_a_slow_hook_hears_of_every_round_and_nobody_waits_for_it(scenes: Callable[..., Scene]) -> None:
    go = threading.Event()

    class Slow(Heard):
        def on_round_end(self, result: RoundResult) -> None:
            go.wait(30)
            super().on_round_end(result)

    slow, quick = Slow(), Heard()
    scene = scenes(slow, quick)
    scene.run(1, 2_000)
    assert quick.done.wait(30), "a hook does not wait for another one"
    assert slow.calls == [("begin", 1, 2_000, 0)]
    go.set()
    assert slow.done.wait(30)
    assert slow.calls[1:-1] == list(range(1, 2_001)) == quick.calls[1:-1]


def test_a_hook_that_raises_is_called_again_and_a_warning_stands_until_it_succeeds(
    scenes: Callable[..., Scene],
) -> None:
    class Raises(Heard):
        def on_round_end(self, result: RoundResult) -> None:
            super().on_round_end(result)
            if result.number < 3:
                raise SystemExit if result.number == 2 else OSError("the disk is full")

        def on_run_end(self, history: History) -> None:
            super().on_run_end(history)

    hook = Raises()
    scene = scenes(hook)

    def one(number: int) -> None:
        def act() -> None:
            scene.state.add_result(RoundResult(number, 0.5, {}, {}, (), {}, 0.1, 0.0))
            scene.calls.round_ended(number)

        scene.on_engine(act)

    one(1)
    until(scene.troubles, "a warning comes")
    assert "Raises is called again next time: on_round_end raised OSError: the disk is full" in scene.troubles()[0]
    one(2)
    until(lambda: "on_round_end raised" in str(scene.troubles()) and "full" not in str(scene.troubles()), "it exits")
    one(3)
    until(lambda: not scene.troubles(), "all is well again")
    assert hook.calls == [1, 2, 3]
    told = scene.on_engine(lambda: [event for event in scene.state.events if event.subject.startswith("hook ")])
    assert [event.level for event in told] == ["warn", "warn"] and "OSError" in told[0].data["traceback"]


def test_a_hook_that_hangs_is_named_with_its_line_and_rounds_go_on(scenes: Callable[..., Scene]) -> None:
    go = threading.Event()

    class Hangs(Heard):
        def on_run_begin(self, run: RunStart) -> None:
            go.wait(60)
            super().on_run_begin(run)

    hook = Hangs()
    scene = scenes(hook, hung_after=SOON)
    scene.run(1, 5)
    until(scene.troubles, "a warning comes")
    (told,) = scene.troubles()
    assert "has not returned from on_run_begin" in told and "(at test_hooks.py:" in told
    assert "and 6 further calls wait for it; rounds go on" in told
    go.set()
    assert hook.done.wait(30)
    until(lambda: not scene.troubles(), "all is well again")
    assert hook.calls[1:6] == [1, 2, 3, 4, 5]


def test_the_end_of_a_federation_does_not_wait_for_a_hook_that_hangs(scenes: Callable[..., Scene]) -> None:
    go = threading.Event()

    class Hangs(RoundHook):
        def on_round_end(self, result: RoundResult) -> None:
            go.wait(60)

    late = Heard()
    scene = scenes(Hangs(), late)
    scene.run(1, 2)
    scene.calls.close(timeout=0.2)
    assert late.done.wait(30), "what is left is heard of"
    scene.on_engine(lambda: scene.calls.round_ended(2))
    go.set()
    assert late.calls[-1] == ("end", [1, 2]), "after the end nothing is told"


def test_a_hook_hears_only_of_what_it_overrides(scenes: Callable[..., Scene]) -> None:
    scene = scenes(RoundHook())
    scene.run(1, 3)
    assert not any("red-hook" in thread.name for thread in threading.enumerate() if "RoundHook" in thread.name)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (Heard(), "hooks must be a list"),
        ("module:Class", "hooks must be a list"),
        ([object()], r"hooks\[0\]: a hook derives from red_tui.RoundHook, and object does not"),
        ([Heard, int], r"hooks\[1\]: a hook derives from red_tui.RoundHook, and int does not"),
        ([type("Needs", (RoundHook,), {"__init__": lambda self, folder: None})], "made without arguments"),
    ],
)
def test_what_is_no_hook_is_refused(given: Any, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        hooks_of(given)
    assert [type(hook) for hook in hooks_of([Heard, Heard()])] == [Heard, Heard]
