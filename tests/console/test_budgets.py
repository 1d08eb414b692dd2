"""What a change may cost: rows that are written, and time in which the event loop answers no key."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from red_tui.console.connection.mirror import FederationMirror
from red_tui.nodes.states import NodeState
from tests.console.conftest import running, until
from tests.console.fake_link import FakeFederation
from tests.console.test_quiet import Written, settled

CHANGED = ("client_000", "client_012", "client_024", "client_037")
"""Nodes of four bundles, each on a line of the grid of its own."""


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_a_tick_writes_no_rows_of_the_grid_but_those_that_changed(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as (app, link, pilot):
        grid = app.grid
        assert grid is not None and grid.arrangement is not None
        await pilot.press("end")
        await settled(pilot, app, link)
        written, table = Written(app, monkeypatch), app.mirror.table
        lines = set()
        for name in CHANGED[:count]:
            where = grid.arrangement.locate(table.row_of(name) or 0)
            assert where is not None
            lines.add(grid.region.y + 1 + 1 + where[0] + 1)
            link.federation.set(name, NodeState.FAILED)
        link.changed()
        await until(pilot, lambda: written.texts)
        await pilot.pause()
        assert written.frames == 1
        assert written.rows == lines | {grid.region.bottom}, "the lines of the nodes, and the counts"


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_a_tick_writes_no_rows_of_a_list_but_those_that_changed(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as (app, link, pilot):
        assert app.controller is not None
        await pilot.press("6")
        await settled(pilot, app, link)
        view = app.controller.views.current
        names = [f"client_{number:03d}" for number in range(3, 3 + 2 * count, 2)]
        shown = view.text.split("\n")
        first = view.region.y + 1 + 1  # its frame; and rows of a terminal are counted from 1
        lines = {first + next(nth for nth, row in enumerate(shown) if name in row) for name in names}
        written = Written(app, monkeypatch)
        for name in names:
            link.federation.set(name, NodeState.FAILED)
        link.changed()
        await until(pilot, lambda: written.texts)
        await pilot.pause()
        inside = {row for row in written.rows if view.region.y < row <= view.region.bottom}
        assert written.frames == 1 and len(lines) == count
        assert inside == lines


class Blocks:
    """Processor seconds that each step of the event loop takes: no other step, and no key, has its turn meanwhile.

    Processor time, as on a busy machine the loop waits for others without being to blame.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: list[float] = []
        real: Any = asyncio.events.Handle._run

        def run(handle: Any) -> None:
            began = time.thread_time()
            real(handle)
            self.seconds.append(time.thread_time() - began)

        monkeypatch.setattr(asyncio.events.Handle, "_run", run)

    def longest(self) -> float:
        """The longest one since it was asked last."""
        found = max(self.seconds, default=0.0)
        self.seconds.clear()
        return found


LONGEST = 5.0
"""Times that one drawing of the whole screen takes, about 10 ms where this was written: 50 ms."""


async def drawn_whole(app: Any, pilot: Any, blocks: Blocks) -> float:
    """The longest step of an idle console that is made to draw all."""
    blocks.longest()
    for _ in range(5):
        app.grid.forget()
        app.screen.refresh(layout=True)
        await pilot.pause()
    return blocks.longest()


async def flooded(app: Any, link: Any, pilot: Any, rows: Any, ticks: int = 6) -> None:
    """Change 10,000 nodes before each tick, with all that is shown of them."""
    chance = np.random.default_rng(0)
    for tick in range(ticks):
        some = chance.choice(rows, 10_000, replace=False)
        states = (NodeState.BUSY, NodeState.READY, NodeState.FAILED)
        link.federation.table.set(some, state=states[tick % 3], loss=0.1 * tick, rounds=tick)
        link.federation.event("all", f"changed {tick}")
        watches = link.watches
        link.changed()
        await until(pilot, lambda watches=watches: link.watches > watches)  # type: ignore[misc]


def crowd(nodes: int) -> tuple[FakeFederation, Any]:
    federation = FakeFederation([("c_{i}", nodes, "train")], bundles=9)
    rows = np.arange(1, min(nodes, 100_000) + 1)
    federation.table.set(rows, state=NodeState.READY, bundle=rows % 8 + 1)
    return federation, rows


@pytest.mark.parametrize("nodes", [10_000, 1_000_000])
async def test_a_flood_holds_the_event_loop_up_hardly_longer_than_drawing_the_screen(
    nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, rows = crowd(nodes)
    async with running(federation) as (app, link, pilot):
        await settled(pilot, app, link)
        blocks = Blocks(monkeypatch)
        longest = {}
        whole = await drawn_whole(app, pilot, blocks)
        for key in ("1", "3", "5", "6"):
            await pilot.press(key)
            if key == "6":
                app.do("sort", {"value": "loss"})
            await settled(pilot, app, link)
            blocks.longest()
            await flooded(app, link, pilot, rows)
            longest[key] = blocks.longest() / whole
        assert max(longest.values()) < LONGEST, (longest, whole)


async def test_a_loop_over_all_that_changed_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    federation, rows = crowd(10_000)
    real = FederationMirror.apply

    def slow(self: FederationMirror, *arguments: Any) -> Any:
        changes = real(self, *arguments)
        began = time.thread_time()
        while changes and time.thread_time() - began < whole * LONGEST:
            pass
        return changes

    async with running(federation) as (app, link, pilot):
        await settled(pilot, app, link)
        blocks = Blocks(monkeypatch)
        whole = await drawn_whole(app, pilot, blocks)
        monkeypatch.setattr(FederationMirror, "apply", slow)
        await flooded(app, link, pilot, rows, ticks=1)
        assert blocks.longest() / whole > LONGEST
