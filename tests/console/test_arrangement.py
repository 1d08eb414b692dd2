from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.console.grid.arrangement import GROUPINGS, Arrangement, sections_for, share
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import STATES, NodeState
from red_tui.nodes.table import NodeTable
from red_tui.protocol.snapshot import BundleStatus

BUNDLES = [BundleStatus(index, f"h{index // 2}", 1.0, 0.0, {}, "ready", "") for index in range(4)]


def table_of(places: list[int], roles: list[int] | None = None) -> NodeTable:
    table = NodeTable()
    for code in range(3):
        table.append(PatternIds.parse(f"r{code}_{{i}}", len(places)), ["train", "server", "train-eval"][code])
    count = len(places)
    for code in range(3):
        rows = np.arange(code * count, code * count + count)
        keep = np.array([(roles[i] if roles else i % 3) == code for i in range(count)], dtype=bool)
        table.set(rows, bundle=np.array(places))
        table.set(rows[~keep], state=NodeState.REMOVED)
    return table


def seats(table: NodeTable) -> np.ndarray[Any, Any]:
    bundles = table.column("bundle")[table.present()]
    return np.bincount(bundles[bundles >= 0], minlength=1)


def arranged(table: NodeTable, grouping: str = "bundle", width: int = 40, item: int = 1) -> Arrangement:
    made = Arrangement(table, sections_for(grouping, BUNDLES, seats(table), ["h0", "h1"]))
    made.lay_out(width, item)
    return made


@given(st.lists(st.integers(-1, 5), max_size=60), st.sampled_from(GROUPINGS), st.integers(10, 60), st.integers(1, 9))
def test_each_node_stands_once_and_is_found_where_it_stands(
    places: list[int], grouping: str, width: int, item: int
) -> None:
    table = table_of(places)
    made = arranged(table, grouping, width, item)
    seen = [int(row) for line in range(made.lines) for cell in made.cells(line) for row in cell.rows]
    assert sorted(seen) == np.flatnonzero(table.present()).tolist()
    for line in range(made.lines):
        for cell in made.cells(line):
            for nth, row in enumerate(cell.rows):
                assert made.locate(int(row)) == (line, cell.x + nth * item)
                assert made.near(line, cell.x + nth * item) == row


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=60), st.integers(10, 60))
def test_going_right_visits_every_node(places: list[int], width: int) -> None:
    table = table_of(places)
    made = arranged(table, width=width)
    line_starts = [made.near(line, -1) for line in range(made.lines)]
    row = next(row for row in line_starts if row is not None)
    seen = {row}
    while (following := made.beside(row, 1)) is not None:
        assert following not in seen
        seen.add(following)
        assert made.beside(following, -1) == row
        row = following
    assert len(seen) == int(table.present().sum())


Change = tuple[int, int, int]


@given(
    st.lists(st.integers(-1, 5), min_size=4, max_size=40),
    st.lists(st.lists(st.tuples(st.integers(0, 119), st.integers(-1, 5), st.integers(0, 7)), max_size=20), max_size=4),
    st.sampled_from(GROUPINGS),
    st.booleans(),
)
def test_nodes_that_changed_stand_where_sorting_all_anew_would_put_them(
    places: list[int], steps: list[list[Change]], grouping: str, filtered: bool
) -> None:
    table = table_of([*places, 0, 1, 2, 3, 4, 5])
    seated = np.ones(6, dtype=np.int64)
    shown = np.arange(len(table)) % 3 > 0 if filtered else None
    made = Arrangement(table, sections_for(grouping, BUNDLES, seated, ["h0", "h1"]), shown)
    for step in steps:
        for row, bundle, state in step:
            table.set(row % len(table), bundle=bundle, state=STATES[state])
        rows = np.array(sorted({row % len(table) for row, _, _ in step}), dtype=np.int64)
        if made.update(rows) is None:
            return
        made.lay_out(40)
        fresh = Arrangement(table, sections_for(grouping, BUNDLES, seated, ["h0", "h1"]), shown)
        if fresh.roles != made.roles:
            return  # a column that became empty stays until all is sorted anew
        fresh.lay_out(40)
        assert made.total == fresh.total and made.lines == fresh.lines
        assert np.array_equal(made.key, fresh.key) and np.array_equal(made.tally, fresh.tally)
        for line in range(fresh.lines):
            ours, theirs = made.cells(line), fresh.cells(line)
            assert [cell.rows.tolist() for cell in ours] == [cell.rows.tolist() for cell in theirs]


def test_a_hidden_node_stands_nowhere() -> None:
    table = table_of([0, 1, 2])
    shown = table.present()
    hidden = int(np.flatnonzero(shown)[0])
    shown[hidden] = False
    assert Arrangement(table, sections_for("bundle", BUNDLES, seats(table)), shown).locate(hidden) is None


def test_the_server_column_comes_first() -> None:
    assert arranged(table_of([0, 1, 2])).roles[0] == "server"


def test_bundles_without_nodes_are_rows_and_an_empty_pool_is_not() -> None:
    names = [section.name for section, _ in sections_on(arranged(table_of([0, 0, 0])))]
    assert names == ["0", "1", "2", "3"]
    names = [section.name for section, _ in sections_on(arranged(table_of([0, 0, -1])))]
    assert names[-1] == "pool"


def test_a_bundle_that_nobody_described_still_shows_its_nodes() -> None:
    made = arranged(table_of([9, 9, 9]))
    assert [section.name for section, _ in sections_on(made)][-1] == "9"


def test_a_full_cell_wraps_in_its_column() -> None:
    made = arranged(table_of([-1] * 90, [0] * 90), width=30)
    assert made.lines > 3
    assert all(len(cell.rows) <= 30 for line in range(made.lines) for cell in made.cells(line))


def test_going_down_keeps_the_column_and_skips_what_is_empty() -> None:
    table = table_of([0, 0, 0, 3, 3, 3], [0] * 6)
    made = arranged(table)
    first = made.first()
    assert first is not None
    below = made.above(first + 2, 1)
    assert below is not None
    assert made.locate(below) == (3, 2)
    assert made.above(below, 1) is None


@given(st.lists(st.integers(1, 80), min_size=1, max_size=6), st.integers(1, 200))
def test_columns_get_what_they_want_or_share_all_there_is(wanted: list[int], available: int) -> None:
    least = [min(want, 4) for want in wanted]
    widths = share(wanted, least, available)
    assert all(low <= width <= want for low, width, want in zip(least, widths, wanted, strict=True))
    assert sum(widths) <= max(available, sum(least))
    assert widths == wanted or sum(widths) >= available


def test_a_million_nodes_are_arranged_without_a_loop_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    table = NodeTable()
    table.append(PatternIds.parse("c_{i}", 1_000_000), "train")
    looked_up = []
    monkeypatch.setattr(PatternIds, "__getitem__", lambda self, index: looked_up.append(index) or "x")
    made = arranged(table, width=100)
    assert len(made.cells(made.lines - 1)) == 1
    assert made.locate(999_999) is not None
    assert not looked_up


def sections_on(made: Arrangement) -> list[tuple[object, int]]:
    found = [made.section_at(line) for line in range(made.lines)]
    return [here for here in found if here is not None and here[1] == 0]  # type: ignore[misc]
