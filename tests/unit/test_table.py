from __future__ import annotations

import fnmatch
import sys

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from red_tui.nodes.ids import IdSpace, ListedIds, PatternIds, check_id
from red_tui.nodes.states import STATES, NodeState, Roles
from red_tui.nodes.table import COLUMNS, NodeTable


def filled() -> NodeTable:
    table = NodeTable()
    table.append(ListedIds(("server",)), "server")
    table.append(PatternIds("client_", "", 0, 50), "train")
    table.append(PatternIds("judge_", "", 0, 5), "train-eval", 1)
    return table


def over_the_wire(wire: dict[str, object]) -> dict[str, object]:
    return msgpack.unpackb(msgpack.packb(wire), strict_map_key=False)


def test_roles_match_whole_words_only() -> None:
    assert "train" in Roles("train-eval") and "eval" in Roles("train-eval")
    assert "train" not in Roles("pretrain") and "train" not in Roles("train_all")
    assert "train-eval" in Roles("train-eval-test")
    assert Roles("train") == "train"
    for wrong in ("", "train-", "-", "tra in", "1st", "a--b"):
        with pytest.raises(ValueError, match="not a role"):
            Roles(wrong)


@pytest.mark.parametrize("wrong", ["", "a/b", ".x", "-x", "x" * 64, "ü", "a b", "supervisor", "topology", "bundle-3"])
def test_ids_that_would_clash_in_the_cluster_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        check_id(wrong)


@given(st.integers(0, 500), st.integers(1, 400), st.integers(0, 4), st.text("0123456789c_*", max_size=6))
@settings(max_examples=300)
def test_pattern_ids_find_and_match_like_a_list_of_them(first: int, count: int, width: int, tail: str) -> None:
    pattern = PatternIds("c_", "", first, count, width)
    listed = list(pattern)
    assert [pattern.index(node_id) for node_id in listed] == list(range(count))
    assert pattern.index("c_x") is None and pattern.index(f"c_{first + count}") in (None, count)
    glob = f"c_{tail}"
    assert pattern.match(glob).tolist() == [fnmatch.fnmatchcase(node_id, glob) for node_id in listed]


def test_a_number_with_a_leading_zero_is_not_an_id_of_the_pattern() -> None:
    assert PatternIds("c_", "", 0, 20).index("c_07") is None
    assert PatternIds("c_", "", 0, 20, 2).index("c_07") == 7


def test_an_id_twice_is_refused_and_nothing_is_added() -> None:
    table = filled()
    for segment in (
        ListedIds(("new", "client_7")),
        ListedIds(("a", "a")),
        PatternIds("client_", "", 49, 3),
        PatternIds("client_4", "", 9, 1),
    ):
        with pytest.raises(ValueError, match=r"already in the federation|stands twice"):
            table.append(segment, "train")
        assert len(table) == 56


def test_a_removed_nodes_id_can_be_used_again() -> None:
    table = filled()
    table.set(table.row_of("client_3"), state=NodeState.REMOVED)
    assert table.row_of("client_3") is None
    table.append(ListedIds(("client_3",)), "eval")
    assert table.row_of("client_3") == 56


@given(
    st.lists(
        st.tuples(st.integers(0, 55), st.sampled_from(STATES[:-1]), st.integers(-1, 9)),
        max_size=60,
    ),
    st.integers(1, 5),
)
@settings(max_examples=100)
def test_deltas_add_up_to_the_table(writes: list[tuple[int, NodeState, int]], every: int) -> None:
    table, mirror = filled(), NodeTable()
    mirror.apply_wire(over_the_wire(table.to_wire()))
    since, segments = table.version, len(table.ids.segments)
    for number, (row, state, bundle) in enumerate(writes):
        table.set(row, state=state, bundle=bundle)
        if number == 10:
            table.append(ListedIds(("late",)), "train-test")
        if number % every == 0:
            changed = mirror.apply_wire(over_the_wire(table.to_wire(since, known_segments=segments)))
            assert set(changed.tolist()) >= {row}
            since, segments = table.version, len(table.ids.segments)
    mirror.apply_wire(over_the_wire(table.to_wire(since, known_segments=segments)))
    assert list(mirror.ids) == list(table.ids) and mirror.roles == table.roles
    for name in COLUMNS:
        np.testing.assert_array_equal(mirror.column(name), table.column(name))


def test_a_delta_of_ten_rows_in_a_million_is_small() -> None:
    table = NodeTable()
    table.append(PatternIds("client_", "", 0, 1_000_000), "train")
    since = table.version
    for row in range(0, 1_000_000, 100_000):
        table.set(row, state=NodeState.READY, bundle=3)
    wire = table.to_wire(since, known_segments=1)
    assert len(msgpack.packb(wire)) <= 1024
    assert len(np.frombuffer(wire["rows"], "<i4")) == 10


def test_a_million_rows_are_columns_and_not_objects() -> None:
    table = NodeTable()
    table.append(PatternIds("client_", "", 0, 1_000_000), "train")
    size = sum(table.column(name).nbytes for name in (*COLUMNS, "changed"))
    assert size <= 100_000_000
    assert sum(sys.getsizeof(segment) for segment in table.ids.segments) < 1000
    assert table.row_of("client_999999") == 999_999
    assert table.counts()[NodeState.VIRTUAL] == 1_000_000


def test_id_space_gives_every_row_its_id() -> None:
    space = IdSpace([ListedIds(("a", "b")), PatternIds("n", "x", 5, 3), ListedIds(("z",))])
    assert [space[row] for row in range(len(space))] == list(space) == ["a", "b", "n5x", "n6x", "n7x", "z"]
    with pytest.raises(IndexError):
        space[6]


def test_one_role_for_each_node_of_a_segment() -> None:
    table = NodeTable()
    table.append(PatternIds("c", "", 0, 4), ["train", "eval", "train", "train-eval"])
    assert [str(table.role_of(row)) for row in range(4)] == ["train", "eval", "train", "train-eval"]
    assert table.with_role("train").tolist() == [True, False, True, True]
