"""The grid in a running app: cursor, marks, filter, and how little is painted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from red_tui.console.grid.grid import Grid
from red_tui.nodes.states import NodeState
from tests.console.conftest import running, title_of, until
from tests.console.fake_link import FakeFederation, busy_federation


def lines_of(grid: Grid) -> list[str]:
    return [grid.render_line(y).text.rstrip() for y in range(grid.size.height)]


def line_with(grid: Grid, start: str) -> str:
    return next(line for line in lines_of(grid) if line.strip().startswith(start))


async def test_each_node_stands_at_its_bundle_and_role() -> None:
    async with running() as (app, _, _pilot):
        grid = app.grid
        assert grid is not None
        assert "●●●▶▶▶▶▶●●●●" in line_with(grid, "2 ")
        assert "●●●✗●" in line_with(grid, "4 ")
        assert "◍◍◍◍◌◌◌◌◌◌◌◌" in line_with(grid, "6 ")
        assert line_with(grid, "pool").count("·") == 30
        assert "103 nodes + server" in title_of(grid)
        assert "coordinator" in line_with(grid, "0 ")


async def test_cursor_stays_on_its_node_when_rows_move() -> None:
    async with running() as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("home", "down", "right", "right")
        chosen = grid.cursor_id
        assert chosen is not None and chosen.startswith("client_0")
        federation = link.federation
        federation.table.set(federation.row(chosen), bundle=7)
        for other in ("client_001", "client_003"):
            federation.set(other, NodeState.REMOVED)
        link.changed()
        await until(pilot, lambda: grid.mirror.table.value("bundle", grid.mirror.table.row_of(chosen) or 0) == 7)
        assert grid.cursor_id == chosen
        assert grid.arrangement is not None and grid.cursor is not None
        where = grid.arrangement.locate(grid.cursor)
        assert where is not None
        assert grid.arrangement.section_at(where[0])[0].name == "7"  # type: ignore[index]


async def test_cursor_and_marks_stay_on_their_nodes_when_everything_is_sent_anew() -> None:
    async with running() as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("home", "down", "right", "space", "right", "space", "right")
        chosen, marked = grid.cursor_id, grid.marked_ids()
        assert len(marked) == 2
        shifted = FakeFederation([("early_{i}", 5, "train"), ("client_{i:03d}", 74, "train")])
        link.federation = shifted
        link.die()
        link.rise()
        await until(pilot, lambda: grid.mirror.table.row_of("early_0") is not None)
        assert grid.cursor_id == chosen and grid.marked_ids() == marked
        assert grid.mirror.table.ids[grid.cursor or 0] == chosen


async def test_a_cursor_whose_node_is_removed_goes_to_its_neighbour() -> None:
    async with running() as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("home", "down", "right", "right")
        gone = grid.cursor_id
        assert gone is not None
        link.federation.set(gone, NodeState.REMOVED)
        link.changed()
        await until(pilot, lambda: grid.cursor_id != gone)
        assert grid.arrangement is not None and grid.cursor is not None
        assert grid.arrangement.locate(grid.cursor) is not None
        assert abs(int(str(grid.cursor_id)[-3:]) - int(gone[-3:])) == 1


@pytest.mark.parametrize("keys", [("j", "k"), ("l", "h"), ("pagedown", "pageup"), ("end", "home")])
async def test_moves_lead_there_and_back(keys: tuple[str, str]) -> None:
    async with running() as (app, _, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("home")
        start = grid.cursor_id
        await pilot.press(keys[0])
        assert grid.cursor_id != start
        await pilot.press(keys[1])
        if keys[1] != "pageup":
            assert grid.cursor_id == start


async def test_a_filter_hides_and_escape_shows_again() -> None:
    async with running() as (app, _, pilot):
        grid = app.grid
        assert grid is not None and app.controller is not None
        await pilot.press("slash", *"state:failed", "enter")
        assert grid.arrangement is not None and grid.arrangement.total == 2
        assert grid.cursor_id in ("client_033", "judge_08")
        assert "2 shown" in title_of(grid)
        await pilot.press("escape")
        assert grid.arrangement.total == 104


async def test_a_filter_acts_while_it_is_typed_and_an_error_changes_nothing() -> None:
    async with running() as (app, _, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("slash", *"state:failed")
        await until(pilot, lambda: grid.arrangement and grid.arrangement.total == 2)
        await pilot.press(*" (")
        await pilot.pause()
        assert grid.arrangement is not None and grid.arrangement.total == 2
        assert "^" in app.footer.message
        await pilot.press("enter")
        assert app.focused is not None


async def test_a_filter_follows_the_states() -> None:
    async with running() as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("slash", *"state:failed", "enter")
        link.federation.set("client_000", NodeState.FAILED)
        link.changed()
        await until(pilot, lambda: grid.arrangement and grid.arrangement.total == 3)


async def test_marks_are_by_node_over_ranges_and_filters() -> None:
    async with running() as (app, _, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("home", "down", "right", "space", "right", "right", "right", "v")
        assert len(grid.marked_ids()) == 4
        await pilot.press("slash", *"state:failed", "enter")
        assert len(grid.marked_ids()) == 4
        await pilot.press("asterisk")
        assert len(grid.marked_ids()) == 6
        await pilot.press("escape", "escape")
        assert grid.marked_ids() == []


async def test_only_lines_that_changed_are_painted() -> None:
    async with running() as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        painted: list[int] = []
        real = grid.draw_line

        def counted(line: int) -> Any:
            painted.append(line)
            return real(line)

        grid.draw_line = counted  # type: ignore[method-assign]
        link.federation.set("client_000", NodeState.BUSY)
        link.changed()
        await until(pilot, lambda: painted)
        await pilot.pause()
        assert len(painted) == 1


async def test_equal_nodes_are_one_segment() -> None:
    federation = FakeFederation([("c_{i}", 60, "train")], bundles=2)
    async with running(federation, size=(90, 30)) as (app, _, _pilot):
        grid = app.grid
        assert grid is not None
        line = next(y for y in range(grid.size.height) if "pool" in grid.render_line(y).text)
        assert sum("·" in segment.text for segment in grid.render_line(line)) <= 3


def a_million() -> FakeFederation:
    federation = FakeFederation([("c_{i}", 1_000_000, "train")], bundles=9)
    rows = np.arange(1, 401)
    federation.table.set(rows, state=NodeState.READY, bundle=(np.arange(400) % 8) + 1)
    return federation


async def test_a_million_nodes_cost_the_visible_lines() -> None:
    federation = a_million()
    async with running(federation) as (app, link, pilot):
        grid = app.grid
        assert grid is not None and grid.arrangement is not None
        app.do("zoom", {"value": "glyphs"})
        assert grid.arrangement.lines > 10_000
        drawn: list[int] = []
        real = grid.draw_line
        grid.draw_line = lambda line: drawn.append(line) or real(line)  # type: ignore[method-assign, func-returns-value]
        await pilot.press("end")
        assert grid.cursor_id == "c_999999"
        assert len(drawn) <= grid.size.height * 2
        drawn.clear()
        federation.table.set(np.arange(500_000, 510_000), state=NodeState.FAILED)
        link.changed()
        await until(pilot, lambda: grid.mirror.counts[NodeState.FAILED] == 10_000)
        assert not drawn


async def test_where_a_sign_each_would_be_a_wall_counts_are_shown_until_the_operator_zooms() -> None:
    async with running(a_million()) as (app, _, pilot):
        grid = app.grid
        assert grid is not None and grid.zoom == "counts"
        assert "999,600" in line_with(grid, "pool")
        await pilot.press("slash", *"state:ready", "enter")
        await until(pilot, lambda: grid.zoom == "glyphs")
        await pilot.press("escape")
        await until(pilot, lambda: grid.zoom == "counts")
        app.do("zoom", {"value": "glyphs"})
        assert "·····" in line_with(grid, "pool")


async def test_a_change_among_a_million_nodes_sorts_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = a_million()
    async with running(federation) as (app, link, pilot):
        grid = app.grid
        assert grid is not None and grid.arrangement is not None
        arrangement = grid.arrangement
        monkeypatch.setattr(grid, "sort_nodes", lambda: pytest.fail("all nodes are sorted anew"))
        for step in range(3):
            rows = np.arange(500_000 + step * 10, 500_010 + step * 10)
            federation.table.set(rows, state=NodeState.READY, bundle=3)
            link.changed()
            await until(pilot, lambda rows=rows: grid.mirror.table.value("bundle", int(rows[-1])) == 3)  # type: ignore[misc]
        assert grid.arrangement is arrangement
        assert "80" in line_with(grid, "3 ") and "999,570" in line_with(grid, "pool")


async def test_a_filter_of_a_million_nodes_follows_changes_and_the_newest_one_wins() -> None:
    federation = a_million()
    async with running(federation) as (app, link, pilot):
        grid = app.grid
        assert grid is not None
        for query in ("id:c_1*", "id:*7*", "state:ready"):
            app.do("filter", {"query": query})
        await until(pilot, lambda: grid.arrangement and grid.arrangement.total == 401 - 1)
        federation.table.set(np.arange(2000, 2010), state=NodeState.READY, bundle=2)
        federation.table.set(np.arange(1, 4), state=NodeState.BUSY)
        link.changed()
        await until(pilot, lambda: grid.arrangement and grid.arrangement.total == 407)


async def test_marking_a_counted_cell_marks_all_its_nodes() -> None:
    async with running(a_million()) as (app, _, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("end", "space")
        assert grid.marks.count == 999_600
        assert "999,600 marked" in title_of(grid)
        assert app.controller is not None and app.controller.situation().targets == {"virtual": 999_600}
        await pilot.press("space")
        assert grid.marks.count == 0


@pytest.mark.parametrize("zoom", ["tiles", "counts"])
async def test_zooms_show_the_same_nodes_under_the_cursor(zoom: str) -> None:
    async with running() as (app, _, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("home", "down", "right", "right")
        chosen = grid.cursor_id
        app.do("zoom", {"value": zoom})
        await pilot.pause()
        assert grid.cursor_id == chosen
        text = "\n".join(lines_of(grid))
        assert ("client_002" in text) if zoom == "tiles" else ("12" in text and "▶" in text)


async def test_grouping_keeps_the_cursor_and_counts_every_node() -> None:
    async with running() as (app, _, pilot):
        grid = app.grid
        assert grid is not None
        await pilot.press("home", "down", "right")
        chosen = grid.cursor_id
        for grouping in ("host", "state", "bundle"):
            await pilot.press("g")
            assert grid.grouping == grouping and grid.cursor_id == chosen
            assert grid.arrangement is not None and grid.arrangement.total == 104


async def test_a_grid_without_nodes_says_so() -> None:
    federation = busy_federation()
    federation.table.set(slice(None), state=NodeState.REMOVED)
    federation.bundles = []
    async with running(federation) as (app, _, _pilot):
        assert app.grid is not None
        assert "no nodes" in "\n".join(lines_of(app.grid))


async def test_a_wall_of_signs_is_shown_as_counts_and_as_signs_where_one_asks() -> None:
    federation = FakeFederation([("c_{i}", 10_000, "train")], bundles=5)
    federation.table.set(np.arange(1, 10_001), state=NodeState.READY, bundle=np.arange(10_000) % 4 + 1)
    async with running(federation) as (app, _, pilot):
        grid = app.grid
        assert grid is not None and grid.zoom == "counts"
        assert " of " not in title_of(grid)
        app.do("zoom", {"value": "glyphs"})
        lines, height = grid.arrangement.lines, grid.size.height - 1  # type: ignore[union-attr]
        assert f"lines 1–{height} of {lines}" in title_of(grid)
        await pilot.press("end")
        await until(pilot, lambda: f"–{lines} of {lines}" in title_of(grid))


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_the_pools_row_stands_under_its_title_and_its_words_are_whole(size: tuple[int, int]) -> None:
    federation = FakeFederation([("c_{i}", 111, "train")], bundles=5)
    async with running(federation, size=size) as (app, _, _pilot):
        assert app.grid is not None
        titles, pool = lines_of(app.grid)[0], line_with(app.grid, "pool")
        assert pool.index("·") == titles.index("server")
        assert pool.index("··") == titles.index("train")
        assert "111 nodes" in pool or "111 unplaced" in pool
