"""Every screen in every state that it can be in; `pytest --snapshot-update` takes new pictures, to be looked at.

One console runs for each state and size and goes through its screens: starting one for each picture would take
minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.dialogs.dialogs import ChooseFrom
from red_tui.console.export import screen_text
from red_tui.messaging import TopologyRule
from tests.console.conftest import Clock, console, running, until
from tests.console.fake_link import FakeFederation, FakeLink, busy_federation
from tests.console.looks import looks_as_before
from tests.console.test_snapshots import million
from tests.console.tour import told_all

NARROW, LOW, WIDE = (60, 20), (80, 24), (120, 36)

VIEWS = ("grid", "rounds", "placement", "topology", "events", "nodes")
DIALOGS = ("detail", "planner", "plan", "help", "palette", "command", "filter", "run", "set")


@dataclass(frozen=True)
class State:
    """A state of the console.

    Attributes:
        federation: Makes what it shows.
        screens: The screens that look different in it.
        sizes: The sizes at which they are looked at.
        options: Of the console.
        rule: Of the topology.
        lost: Whether the cluster goes away before the screens are looked at.
    """

    federation: Callable[[], FakeFederation]
    screens: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = (LOW, WIDE)
    options: dict[str, Any] = field(default_factory=dict)
    rule: TopologyRule | None = None
    lost: bool = False


STATES = {
    "full": State(busy_federation, VIEWS + DIALOGS),
    "empty": State(FakeFederation, (*VIEWS, "detail", "planner", "plan"), rule=TopologyRule()),
    "narrow": State(busy_federation, VIEWS + DIALOGS, (NARROW,)),
    "disconnected": State(busy_federation, (*VIEWS, "detail", "palette"), lost=True),
    "read-only": State(busy_federation, ("grid", "detail", "help", "palette", "command"), options={"read_only": True}),
    "ascii": State(busy_federation, VIEWS + DIALOGS, (LOW,), {"ascii": True}),
    "million": State(
        million, ("grid", "placement", "nodes", "detail", "planner", "plan", "filter"), rule=TopologyRule()
    ),
}


async def still(app: Any, pilot: Any) -> None:
    """Return when the screen shows what was asked for, and nothing is on its way."""
    await until(pilot, lambda: getattr(app.controller.views.current, "wants_spread", None) is None)
    await until(pilot, lambda: app.controller.inspector.complete)
    shown, times = screen_text(app), 0
    while times < 3:  # a busy machine paints late: the same three times running
        await pilot.pause(0.02)
        before, shown = shown, screen_text(app)
        times = times + 1 if shown == before else 0


async def open_screen(name: str, state: State, app: Any, link: FakeLink, pilot: Any) -> None:
    """Open one of the screens."""
    keys = {"rounds": "2", "placement": "3", "topology": "4", "events": "5", "nodes": "6"}
    app.do("view_grid", {})
    await pilot.press("home", *(("end",) if name == "plan" else ("down", "right", "right")))
    if name in keys:
        await pilot.press(keys[name])
        if name == "topology":
            await until(pilot, lambda: app.controller.views.current.graph is not None or state.lost)
        await pilot.press("down")
    elif name == "command":
        await pilot.press("colon", *"s")
    elif name == "filter":
        await pilot.press("slash", *"state:failed state:red")
        await until(pilot, lambda: "ready" in app.footer.message)
    elif name != "grid":
        pressed = {"detail": "enter", "planner": "W", "plan": "B", "help": "question_mark", "palette": "ctrl+p"}
        if name in pressed:
            await pilot.press(pressed[name])
        else:
            app.do(name, {})  # where a round runs their keys are not bound
        await until(pilot, lambda: len(app.screen_stack) > 1 and app.screen.body.text)
        if name == "detail":
            await until(pilot, lambda: "config" in app.screen.body.text or state.lost)
        elif name == "planner":
            await until(pilot, lambda: app.screen.preview is not None)
    await still(app, pilot)


async def close_screen(app: Any, pilot: Any) -> None:
    """Go back to where the next one can be opened."""
    while len(app.screen_stack) > 1:
        await pilot.press("escape")
    if app.focused is not None:
        await pilot.press("escape")
    app.say("")


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name, state in STATES.items() for size in state.sizes],
    ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value)),
)
async def test_screens(name: str, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    state, clock = STATES[name], Clock()
    link = told_all(FakeLink(state.federation()), state.rule)
    differ = []
    async with running(link=link, size=size, clock=clock, **state.options) as (app, link, pilot):
        if state.lost:
            link.die("the link ended with code -9")
            await until(pilot, lambda: app.connection.phase is ConnectionPhase.LOST)
            clock.now += 75
            app.each_second()
        for screen in state.screens:
            await open_screen(screen, state, app, link, pilot)
            if not looks_as_before(app, snapshot, size, screen):
                differ.append(screen)
            await close_screen(app, pilot)
    assert differ == []


@pytest.mark.parametrize("size", [NARROW, LOW, WIDE], ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("empty", [False, True], ids=["some", "none"])
async def test_picker(size: tuple[int, int], empty: bool, snapshot: SnapshotAssertion) -> None:
    link = FakeLink(busy_federation())
    federations = [
        {"id": "digits", "state": "running", "age_s": 7200, "nodes": 50, "round": 14, "orphan": False},
        {"id": "a-federation-with-a-long-name-that-goes-on", "state": "idle", "age_s": 90, "nodes": 1_000_000,
         "round": None, "orphan": False},
        {"id": "old", "state": "", "age_s": 90_000, "nodes": 5, "round": 1, "orphan": True},
    ]  # fmt: skip
    layouts = [
        {
            "path": "/x/layouts/mesh.yaml",
            "title": "A mesh of five that talk with each other, each with its own data",
        },
        {"path": "/x/layouts/digits.yaml", "title": "Handwritten digits"},
    ]
    link.open_answer = [{"choose": {"federations": [] if empty else federations, "layouts": layouts}}]
    app, _ = console(link=link)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChooseFrom))
        await pilot.press("down")
        await pilot.pause(0.02)
        assert looks_as_before(app, snapshot, size, "picker")
        await pilot.press("escape")


def test_pictures_and_texts_stay_small() -> None:
    taken = [path.stat().st_size for path in (Path(__file__).parent / "__snapshots__").rglob("*") if path.is_file()]
    assert len(taken) >= 178 and sum(taken) <= 4_000_000, f"{len(taken)} files of {sum(taken):,} bytes"
