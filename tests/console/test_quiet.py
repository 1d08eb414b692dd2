"""What reaches the terminal: nothing when nothing happens, and no more than the rows that changed."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import numpy as np
import pytest

from red_tui.nodes.states import NodeState
from tests.console.conftest import running, until
from tests.console.fake_link import FakeFederation


class Written:
    """Counts what a driver writes."""

    def __init__(self, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        monkeypatch.setattr(app._driver, "write", self.texts.append)
        self.frames = 0
        real = app._display

        def display(*arguments: Any) -> None:
            self.frames += 1
            renderable = arguments[-1]
            if renderable is not None and app.is_running:
                self.texts.append(app.console_text(renderable))
            real(*arguments)

        app.console_text = lambda renderable: (
            renderable.render_segments(app.console)
            if hasattr(renderable, "render_segments")
            else "".join(segment.text for segment in app.console.render(renderable))
        )
        monkeypatch.setattr(app, "_display", display)

    @property
    def rows(self) -> set[int]:
        """The terminal rows that were written."""
        return {int(row) for text in self.texts for row in re.findall(r"\x1b\[(\d+);\d+H", text)}

    def clear(self) -> None:
        self.texts.clear()
        self.frames = 0


async def settled(pilot: Any, app: Any, link: Any) -> None:
    """Wait until an idle watch is outstanding and the detail was fetched."""
    await until(pilot, lambda: link.told("detail"))
    for _ in range(5):
        await pilot.pause()
        await asyncio.sleep(0.02)


async def test_an_idle_console_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (app, link, pilot):
        await settled(pilot, app, link)
        written = Written(app, monkeypatch)
        for _ in range(5):
            app.each_second()
            link.changed()
            await pilot.pause()
            await asyncio.sleep(0.01)
        assert "".join(written.texts) == ""


async def test_one_changed_node_writes_its_row_the_counts_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        await settled(pilot, app, link)
        written = Written(app, monkeypatch)
        link.federation.set("client_001", NodeState.BUSY)
        link.changed()
        await until(pilot, lambda: written.texts)
        await pilot.pause()
        assert grid.arrangement is not None
        where = grid.arrangement.locate(grid.mirror.table.row_of("client_001") or 0)
        assert where is not None
        row = grid.region.y + 1 + 1 + where[0] + 1
        border = grid.region.bottom
        assert written.rows == {row, border}
        assert sum(map(len, written.texts)) < 1500


async def test_a_flood_of_changes_is_painted_once_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = FakeFederation([("c_{i}", 5000, "train")])
    gate = asyncio.Event()

    async def tick(seconds: float) -> None:
        await gate.wait()
        gate.clear()

    from tests.console import conftest

    monkeypatch.setattr(conftest, "short_pause", tick)
    app, link = conftest.console(federation)
    app.connection.pause = tick
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.grid is not None and app.grid.arrangement is not None)
        await settled(pilot, app, link)
        watches = link.watches
        for state in (NodeState.READY, NodeState.BUSY, NodeState.FAILED):
            federation.table.set(np.arange(1, 5001), state=state)
            link.changed()
            await pilot.pause()
        assert link.watches == watches
        gate.set()
        await until(pilot, lambda: link.watches == watches + 1)
        assert app.mirror.table.counts()[NodeState.FAILED] == 5000


async def test_moving_the_cursor_writes_two_rows_of_the_grid_and_its_name_where_no_panel_tells_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(size=(90, 30)) as (app, _, pilot):
        written = Written(app, monkeypatch)
        await pilot.press("down")
        await pilot.pause()
        grid = app.grid
        assert grid is not None
        frame = grid.region.bottom
        assert len({row for row in written.rows if grid.region.y < row <= frame}) == 3
        assert frame in written.rows  # narrower than the panel beside the grid needs


def grid_rows(grid: Any, rows: set[int]) -> set[int]:
    return {row for row in rows if grid.region.y < row <= grid.region.bottom}


async def test_a_new_event_writes_one_row_of_its_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (app, link, pilot):
        await settled(pilot, app, link)
        panel = app.events
        while len(panel.lines) < panel.size.height:
            link.federation.event("client_001", "one more")
            link.changed()
            await until(pilot, lambda: len(app.mirror.events) == len(link.federation.events))
        sizes = []
        for number in range(9):
            written = Written(app, monkeypatch)
            link.federation.event("client_001", f"ready in bundle {number}")
            link.changed()
            await until(pilot, lambda number=number: panel.text.endswith(f"bundle {number}"))  # type: ignore[misc]
            await until(pilot, lambda written=written: written.texts)  # type: ignore[misc]
            sizes.append(len(written.rows))
        assert min(sizes) == 1 and sizes.count(1) >= 4
        assert max(sizes) <= panel.size.height


async def test_a_node_that_is_built_writes_the_rows_it_leaves_and_comes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (app, link, pilot):
        grid = app.grid
        assert grid is not None and grid.arrangement is not None
        await settled(pilot, app, link)
        for node_id, bundle in (("client_070", 2), ("client_071", 3), ("client_072", 1)):
            written = Written(app, monkeypatch)
            link.federation.set(node_id, NodeState.PENDING, bundle=bundle)
            link.changed()
            row = grid.mirror.table.row_of(node_id) or 0
            await until(pilot, lambda row=row, bundle=bundle: app.mirror.table.value("bundle", row) == bundle)  # type: ignore[misc]
            await until(pilot, lambda written=written: written.texts)  # type: ignore[misc]
            assert len(grid_rows(grid, written.rows)) <= 3  # its bundle, the pool, the counts


async def test_a_hundred_scattered_changes_write_less_than_the_grid_drawn_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation = FakeFederation([("c_{i}", 1_000_000, "train")], bundles=20)
    rows = np.arange(1, 2001)
    federation.table.set(rows, state=NodeState.READY, bundle=rows % 19 + 1)
    async with running(federation) as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        app.do("zoom", {"value": "glyphs"})
        await settled(pilot, app, link)
        written = Written(app, monkeypatch)
        grid.refresh()
        await until(pilot, lambda: written.texts)
        whole = sum(map(len, written.texts))
        written.clear()
        chosen = np.random.default_rng(0).choice(rows, 100, replace=False)
        federation.table.set(chosen, state=NodeState.BUSY)
        link.changed()
        await until(pilot, lambda: app.mirror.counts[NodeState.BUSY] == 100)
        await until(pilot, lambda: written.texts)
        scattered = written.texts[:]
        written.clear()
        grid.refresh()
        await until(pilot, lambda: written.texts)
        after = sum(map(len, written.texts))
        assert whole < after, "more runs cost more"
        assert sum(map(len, scattered)) <= after


async def test_ten_thousand_changes_a_tick_cost_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = FakeFederation([("c_{i}", 10_000, "train")], bundles=9)
    rows = np.arange(1, 10_001)
    federation.table.set(rows, state=NodeState.READY, bundle=rows % 8 + 1)
    async with running(federation) as (app, link, pilot):
        await settled(pilot, app, link)
        written = Written(app, monkeypatch)
        for state in (NodeState.BUSY, NodeState.READY, NodeState.BUSY):
            federation.table.set(rows, state=state)
        link.changed()
        await until(pilot, lambda: app.mirror.counts[NodeState.BUSY] == 10_000)
        await until(pilot, lambda: written.texts)
        await pilot.pause()
        assert written.frames <= 2


async def test_ten_thousand_changes_a_second_are_painted_at_most_four_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation = FakeFederation([("c_{i}", 10_000, "train")], bundles=9)
    rows = np.arange(1, 10_001)
    federation.table.set(rows, state=NodeState.READY, bundle=rows % 8 + 1)
    chance, seconds_passed = np.random.default_rng(0), 0.0
    async with running(federation) as (app, link, pilot):
        await settled(pilot, app, link)

        async def flooded(seconds: float) -> None:
            """Time that the console waits, in which changes come five hundred at a time."""
            nonlocal seconds_passed
            for number in range(round(10_000 * seconds / 500)):
                some = chance.choice(rows, 500, replace=False)
                federation.table.set(some, state=(NodeState.READY, NodeState.BUSY)[number % 2])
                link.changed()
                await asyncio.sleep(0)
            seconds_passed += seconds

        app.connection.pause = flooded
        written, painted = Written(app, monkeypatch), link.watches
        link.changed()
        await until(pilot, lambda: seconds_passed >= 10)
        assert link.watches - painted >= 4 * 10, "updates came"
        assert 10 <= written.frames <= 4 * seconds_passed + 1
