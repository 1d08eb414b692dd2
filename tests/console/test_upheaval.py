"""Whatever the nodes and bundles do, the grid follows: it stands as one that was made just now, cursor included."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from red_tui.console.app import RedConsole
from red_tui.console.grid.arrangement import GROUPINGS, Arrangement
from red_tui.console.grid.canvas import ZOOMS
from red_tui.console.grid.grid import Grid
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import STATES, NodeState
from tests.console.conftest import Pilots, running
from tests.console.fake_link import FakeFederation

PLACED = (NodeState.PENDING, NodeState.STARTING, NodeState.READY, NodeState.BUSY, NodeState.FAILED)
MOVES = ("up", "down", "left", "right", "page_up", "page_down", "home", "end")
CASES = [
    pytest.param(zoom, grouping, query, id=f"{zoom}-{grouping}-{'filtered' if query else 'all'}")
    for zoom in ZOOMS
    for grouping in GROUPINGS
    for query in ("", "id:client_*")
]


def all_built(count: int = 40, bundles: int = 5) -> FakeFederation:
    """Every node holds a process, the server too: nothing is in the pool."""
    federation = FakeFederation([("client_{i:03d}", count, "train"), ("judge_{i}", 6, "train-eval")], bundles)
    rows = np.arange(len(federation.table))
    federation.table.set(rows, state=NodeState.READY, bundle=rows % (bundles - 1) + 1)
    federation.table.set(0, bundle=0)
    return federation


def tell(app: RedConsole, federation: FakeFederation) -> None:
    """Let the console take over what changed, as its session does."""
    federation.version += 1
    mirror = app.mirror
    app.connection_changed(mirror.apply(federation.delta(mirror.cursor), app.clock()))


def as_made_now(grid: Grid) -> Arrangement:
    """The arrangement of the same nodes, made anew and laid out alike."""
    ours = grid.arrangement
    assert ours is not None
    shown = None if grid.filtered_by is None else grid.filtered_by.mask(grid.mirror.table)
    fresh = Arrangement(grid.mirror.table, grid.sections(), shown)
    fresh.lay_out(80, ours.item, ours.single)
    # Widths stay as long as they do, so they tell of the past: the new one gets the same.
    fresh.widths, fresh.offsets, fresh.capacities = ours.widths, ours.offsets, ours.capacities
    if fresh.roles == ours.roles:
        fresh.lay_lines()
    return fresh


def check(grid: Grid) -> None:
    """The grid shows what a new one would show, and its cursor stands on a node that is shown."""
    ours, fresh = grid.arrangement, as_made_now(grid)
    assert ours is not None
    present = [role for role in ours.roles if role in fresh.roles]
    assert present == fresh.roles, "a column is missing"
    assert ours.total == fresh.total
    if ours.roles == fresh.roles:  # a column that became empty stays until all is sorted anew
        assert ours.lines == fresh.lines
        assert np.array_equal(ours.key, fresh.key) and np.array_equal(ours.tally, fresh.tally)
        for line in range(fresh.lines):
            assert ours.section_at(line) == fresh.section_at(line)
            mine, theirs = ours.cells(line), fresh.cells(line)
            assert [cell.rows.tolist() for cell in mine] == [cell.rows.tolist() for cell in theirs]
    for y in range(grid.size.height):
        grid.render_line(y)
    if not ours.total:
        assert grid.cursor is None
        return
    assert grid.cursor is not None and ours.shows(grid.cursor)
    assert grid.cursor_id == grid.mirror.table.ids[grid.cursor]
    assert grid.place == ours.locate(grid.cursor)
    assert grid.place is not None and ours.section_at(grid.place[0]) is not None


async def prepared(app: RedConsole, pilot: Pilots, zoom: str, grouping: str, query: str) -> Grid:
    app.do("group", {"value": grouping})
    app.do("zoom", {"value": zoom})
    app.do("filter", {"query": query})
    await pilot.pause()
    assert app.grid is not None
    return app.grid


@pytest.mark.parametrize(("zoom", "grouping", "query"), CASES)
async def test_the_pool_comes_and_goes_under_the_cursor(zoom: str, grouping: str, query: str) -> None:
    federation = all_built()
    async with running(federation) as (app, _, pilot):
        grid = await prepared(app, pilot, zoom, grouping, query)
        chosen = "client_017"
        grid.go_to(federation.row(chosen))
        federation.set(chosen, NodeState.RELEASED, bundle=-1)
        tell(app, federation)
        await pilot.pause()
        assert grid.cursor_id == chosen
        check(grid)
        for way in MOVES:
            grid.move(way)
            check(grid)
        grid.go_to(federation.row(chosen))
        federation.set(chosen, NodeState.READY, bundle=2)
        tell(app, federation)
        await pilot.pause()
        assert grid.cursor_id == chosen
        check(grid)


@pytest.mark.parametrize("query", ["", "id:client_*"])
async def test_marked_nodes_are_released_all_at_once(query: str) -> None:
    federation = all_built(count=300)
    async with running(federation) as (app, _, pilot):
        grid = await prepared(app, pilot, "glyphs", "bundle", query)
        app.do("mark_shown", {})
        federation.table.set(grid.marks.rows(), state=NodeState.RELEASED, bundle=-1)
        tell(app, federation)
        await pilot.pause()
        check(grid)
        assert grid.marks.count == (300 if query else 307)


@pytest.mark.parametrize("grouping", GROUPINGS)
async def test_the_bundles_of_a_lost_host_vanish_under_the_cursor(grouping: str) -> None:
    federation = all_built()
    async with running(federation) as (app, _, pilot):
        grid = await prepared(app, pilot, "glyphs", grouping, "")
        grid.move("end")
        index = federation.table.value("bundle", grid.cursor or 0)
        rows = np.flatnonzero(federation.table.column("bundle") == index)
        federation.table.set(rows, state=NodeState.REMOVED)
        federation.bundles = [bundle for bundle in federation.bundles if bundle["idx"] != index]
        federation.hosts = federation.hosts[:-1]
        tell(app, federation)
        await pilot.pause()
        check(grid)


class Upheaval:
    """Does things to a federation, as chance says."""

    def __init__(self, federation: FakeFederation, seed: int) -> None:
        self.federation = federation
        self.chance = random.Random(seed)
        self.added = 0

    def _rows(self, most: int = 8) -> Any:
        count = len(self.federation.table)
        if self.chance.random() < 0.1:
            return np.arange(count)
        return np.array(sorted({self.chance.randrange(count) for _ in range(self.chance.randint(1, most))}))

    def build(self) -> None:
        most = max((bundle["idx"] for bundle in self.federation.bundles), default=0) + 1
        self.federation.table.set(self._rows(), state=self.chance.choice(PLACED), bundle=self.chance.randint(0, most))

    def release(self) -> None:
        self.federation.table.set(self._rows(), state=NodeState.RELEASED, bundle=-1)

    def change(self) -> None:
        self.federation.table.set(self._rows(), state=self.chance.choice(STATES))

    def remove(self) -> None:
        self.federation.table.set(self._rows(), state=NodeState.REMOVED)

    def add(self) -> None:
        self.added += 1
        role = self.chance.choice(["train", "train-eval", "test", "server"])
        self.federation.table.append(PatternIds.parse(f"new{self.added}_{{i}}", self.chance.randint(1, 30)), role)

    def lose_bundles(self) -> None:
        self.federation.bundles = self.federation.bundles[: self.chance.randint(0, len(self.federation.bundles))]

    def gain_bundles(self) -> None:
        index = max((bundle["idx"] for bundle in self.federation.bundles), default=-1) + self.chance.randint(1, 3)
        bundle = {"idx": index, "host": self.chance.choice(["head", "worker-1", "new"]), "cpu": 1.0, "gpu": 0,
                  "resources": {}, "state": self.chance.choice(["ready", "pending", "lost"]), "what": ""}  # fmt: skip
        self.federation.bundles = [*self.federation.bundles, bundle]

    def swap_hosts(self) -> None:
        hosts = list(self.federation.hosts)
        self.chance.shuffle(hosts)
        self.federation.hosts = hosts

    def once(self) -> None:
        things: list[Callable[[], None]] = [
            self.build, self.build, self.release, self.release, self.change, self.remove, self.add,
            self.lose_bundles, self.gain_bundles, self.gain_bundles, self.swap_hosts,
        ]  # fmt: skip
        for _ in range(self.chance.randint(1, 3)):
            self.chance.choice(things)()


@pytest.mark.parametrize(("zoom", "grouping", "query"), CASES)
async def test_after_any_change_the_grid_stands_as_if_made_anew(zoom: str, grouping: str, query: str) -> None:
    seed = sum(map(ord, zoom + grouping + query))
    federation = all_built()
    upheaval = Upheaval(federation, seed)
    async with running(federation, size=(100, 16)) as (app, _, pilot):
        grid = await prepared(app, pilot, zoom, grouping, query)
        for step in range(40):
            upheaval.once()
            tell(app, federation)
            check(grid)
            grid.move(upheaval.chance.choice(MOVES))
            if step % 10 == 0:
                app.do(upheaval.chance.choice(["group", "mark", "mark_range", "mark_shown", "escape"]), {})
                await prepared(app, pilot, zoom, grouping, query)
            await pilot.pause()
            check(grid)
