from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from red_tui.journal.fold import CHECKPOINTS_KEPT, UNKNOWN
from red_tui.journal.journal import Fold, Journal, JournalError
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState
from red_tui.protocol.events import Event

READY, FAILED, VIRTUAL = NodeState.READY.code, NodeState.FAILED.code, NodeState.VIRTUAL.code


def event(seq: int, kind: str = "node", **data: Any) -> Event:
    return Event(seq, 1000.0 + seq, kind, "info", "x", "text", "", data)


def folded(*data: dict[str, Any], kind: str = "node") -> Fold:
    made = Fold()
    for seq, one in enumerate(data, 1):
        made.take(event(seq, kind, **one))
    return made


# -- rows and ids ----------------------------------------------------------------------------------


def test_rows_get_states_and_bundles_by_range() -> None:
    made = folded(
        {"rows": [[0, 1]], "state": "ready", "bundle": 0},
        {"rows": [[1, 4], [6, 8]], "state": "ready", "bundles": [[1, 3, 1], [3, 4, 2], [6, 8, 3]]},
        {"rows": [[2, 3]], "state": "failed", "bundle": 1},
        {"rows": [[7, 8]], "state": "released"},
    )
    expected = [READY, READY, FAILED, READY, UNKNOWN, UNKNOWN, READY, NodeState.RELEASED.code]
    assert made.state_codes.tolist() == expected
    assert made.row_bundles.tolist() == [0, 1, 1, 2, -1, -1, 3, -1]
    assert made.states == {} and made.bundles == {}


def test_columns_fit_a_table_and_take_ids_of_older_journals_along() -> None:
    made = folded(
        {"rows": [[1, 3]], "state": "ready", "bundle": 4},
        {"ids": ["a"], "state": "failed", "bundle": 2},
        {"ids": ["gone"], "state": "ready", "bundle": 2},
    )
    codes, bundles = made.columns(6, {"a": 5}.get)
    assert codes.tolist() == [VIRTUAL, READY, READY, VIRTUAL, VIRTUAL, FAILED]
    assert bundles.tolist() == [-1, 4, 4, -1, -1, 2]
    assert [column.tolist() for column in made.columns(2)] == [[VIRTUAL, READY], [-1, 4]]


def test_ids_that_came_with_rows_follow_later_events_by_row_and_by_id() -> None:
    made = folded(
        {"ids": ["a", "b", "c"], "rows": [[4, 7]], "state": "ready", "bundle": 1},
        {"rows": [[4, 6]], "state": "released"},
        {"ids": ["b"], "state": "failed", "bundle": 2},
        {"rows": [[6, 7]], "state": "removed"},
    )
    assert made.states == {"a": "released", "b": "failed"}
    assert made.bundles == {"b": 2}
    assert made.state_codes[5] == FAILED and made.row_of("b") == 5


def test_an_id_may_come_back_in_another_row() -> None:
    made = folded(
        {"ids": ["a"], "rows": [[1, 2]], "state": "ready", "bundle": 1},
        {"ids": ["a"], "state": "removed"},
        {"segment": ["listed", ["a", "b"]], "rows": [[7, 9]], "role": "train", "template": None, "state": "virtual"},
        {"ids": ["b"], "state": "failed"},
    )
    assert made.states == {"a": "virtual", "b": "failed"}
    assert made.state_codes[[1, 7, 8]].tolist() == [NodeState.REMOVED.code, VIRTUAL, FAILED]


def test_added_segments_come_back_in_order() -> None:
    first, second = PatternIds("client_", "", 50, 1000), PatternIds("late_", "", 0, 2)
    made = folded(
        {"segment": first.to_wire(), "rows": [[51, 1051]], "role": "train", "template": "m:C", "state": "virtual"},
        {"segment": second.to_wire(), "role": ["train", "train-eval"], "template": None},
    )
    assert [added.ids for added in made.added] == [first, second]
    assert [added.first for added in made.added] == [51, None]
    assert [added.role for added in made.added] == ["train", ["train", "train-eval"]]
    assert made.added[0].template == "m:C"
    assert made.row_of("client_77") == 78 and made.row_of("late_0") is None
    assert len(made.states) == 1000 and made.states["client_1049"] == "virtual"


def test_a_million_rows_are_columns_and_not_objects() -> None:
    million = 1_000_000
    bundles = [[1 + 100 * i, 1 + 100 * (i + 1), 1 + i % 500] for i in range(10_000)]
    made = folded(
        {"rows": [[1, 1 + million]], "state": "ready", "bundles": bundles},
        {"rows": [[row, row + 1] for row in range(1, million, 20)], "state": "failed", "bundle": 3},
    )
    assert np.bincount(made.state_codes)[[READY, FAILED]].tolist() == [950_000, 50_000]
    assert made.row_bundles[2 + 100 * 499] == 500
    again = Fold.from_bytes(made.to_bytes())
    assert again == made
    assert made.num_single == 0


# -- rounds ----------------------------------------------------------------------------------------


def test_a_round_that_began_and_did_not_end_is_interrupted() -> None:
    done = {"number": 1, "state": "done"}
    assert folded({"begin": 1}, kind="round").interrupted == 1
    assert folded({"begin": 1}, {"result": done}, kind="round").interrupted is None
    assert folded({"begin": 1}, {"result": {"number": 1, "state": "failed"}}, kind="round").interrupted is None
    assert folded({"begin": 1}, {"stopped": 1}, kind="round").interrupted is None
    again = folded({"begin": 1}, {"result": done}, {"begin": 2}, kind="round")
    assert again.interrupted == 2 and again.rounds == [done]


def test_a_run_among_some_nodes_is_known_with_its_rows_and_one_of_all_without() -> None:
    assert folded({"run": [3, None, [[1, 3], [5, 6]]]}, kind="round").among == [[1, 3], [5, 6]]
    some = Fold.from_bytes(folded({"run": [3, "loss<1", [[1, 3]]]}, kind="round").to_bytes())
    assert (some.run, some.among) == ((3, "loss<1"), [[1, 3]])
    everybody = folded({"run": [3, None]}, kind="round")
    assert (everybody.run, everybody.among) == ((3, None), None)
    ended = folded({"run": [3, None, [[1, 3]]]}, {"run": None}, kind="round")
    assert (ended.run, ended.among) == (None, None)


def test_the_last_checkpoints_and_the_last_topology_are_known() -> None:
    made = folded(*({"checkpoint": {"round": n, "file": f"{n}", "digest": "d"}} for n in range(100)))
    assert [one["round"] for one in made.checkpoints] == list(range(100))[-CHECKPOINTS_KEPT:]
    changes = [{"changed": {"rate": 0.3, "fraction": 1}}, {"changed": {"rate": 0.1}}]
    assert folded(*changes).changed == {"rate": 0.1, "fraction": 1}
    assert folded({"topology": {"kind": "ring"}}, {"topology": {"kind": "star"}}).topology == {"kind": "star"}


@pytest.mark.parametrize(
    "data",
    [
        {"state": "elsewhere", "ids": ["a"]},
        {"state": "ready", "rows": [[3, 1]]},
        {"state": "ready", "rows": [[0, 10**15]]},
        {"state": "ready", "rows": "all"},
        {"state": "ready", "ids": 7},
        {"segment": ["pattern"]},
        {"fold": "no hex"},
        {"fold": "00"},
    ],
)
def test_an_event_that_cannot_be_read_costs_only_itself(data: dict[str, Any]) -> None:
    made = folded({"ids": ["a"], "state": "ready"}, data, {"ids": ["b"], "state": "ready"})
    assert made.states == {"a": "ready", "b": "ready"}
    assert made.unread == [2] and made.last_seq == 3


def test_a_damaged_snapshot_is_refused() -> None:
    whole = folded({"rows": [[0, 100]], "state": "ready"}).to_bytes()
    for damaged in (b"", whole[:-5], b"?" + whole[1:]):
        with pytest.raises(JournalError, match="snapshot of the journal is damaged"):
            Fold.from_bytes(damaged)


# -- laws ------------------------------------------------------------------------------------------

STATES = ["virtual", "ready", "failed", "released", "removed"]
IDS = ["a", "b", "c", "d"]
ROWS = 12


@st.composite
def data_of_event(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    kind = draw(st.sampled_from(["ids", "rows", "both", "segment", "round", "begin", "stopped", "checkpoint", "odd"]))
    state = draw(st.sampled_from(STATES))
    bundle = draw(st.sampled_from([{}, {"bundle": 1}, {"bundle": 2}]))
    first = draw(st.integers(0, ROWS))
    stop = draw(st.integers(first, ROWS))
    ids = draw(st.lists(st.sampled_from(IDS), unique=True, max_size=3))
    if kind == "ids":
        return "node", {"ids": ids, "state": state, **bundle}
    if kind == "rows":
        return "wave", {"rows": [[first, stop]], "state": state, **bundle, "bundles": [[first, stop, 5]][: first % 2]}
    if kind == "both":
        return "node", {"ids": ids, "rows": [[first, first + len(ids)]], "state": state, **bundle}
    if kind == "segment":
        rows = draw(st.sampled_from([{}, {"rows": [[first, first + len(ids)]], "state": "virtual"}]))
        return "node", {"segment": ["listed", ids], "role": "train", "template": None, **rows}
    if kind == "round":
        return "round", {"result": {"number": first, "state": draw(st.sampled_from(["done", "failed"]))}}
    if kind == "odd":
        return draw(st.sampled_from(["operator", "round", "cluster"])), draw(
            st.sampled_from(
                [
                    *({}, {"topology": {"k": 1}}, {"topology": {"k": 2}}, {"state": "no such", "ids": ["a"]}),
                    *({"changed": {"fraction": 0.5}}, {"changed": {"fraction": 0.7, "rate": 1}}, {"changed": 3}),
                ]
            )
        )
    return "round", {kind: {"round": first} if kind == "checkpoint" else first}


histories = st.lists(data_of_event(), max_size=25).map(
    lambda some: [event(seq, kind, **data) for seq, (kind, data) in enumerate(some, 1)]
)


def sum_of(events: list[Event]) -> Fold:
    made = Fold()
    for one in events:
        made.take(one)
    return made


@settings(max_examples=300, deadline=None)
@given(histories, st.integers(0, 25), st.integers(0, 25))
def test_folds_of_consecutive_events_add_up(events: list[Event], one: int, other: int) -> None:
    low, high = sorted((one, other))
    whole = sum_of(events)
    assert sum_of(events[:low]) + sum_of(events[low:]) == whole
    parts = [sum_of(part) for part in (events[:low], events[low:high], events[high:])]
    assert (parts[0] + parts[1]) + parts[2] == parts[0] + (parts[1] + parts[2]) == whole
    assert Fold() + whole == whole + Fold() == whole
    assert (parts[0] + Fold.from_bytes(sum_of(events[low:]).to_bytes())).states == whole.states


@settings(max_examples=300, deadline=None)
@given(histories)
def test_a_fold_comes_back_from_its_bytes(events: list[Event]) -> None:
    whole = sum_of(events)
    again = Fold.from_bytes(whole.to_bytes())
    assert again == whole
    assert (again.states, again.bundles, again.interrupted) == (whole.states, whole.bundles, whole.interrupted)


@settings(max_examples=60, deadline=None)
@given(histories, st.lists(st.integers(0, 10), min_size=1, max_size=3))
def test_the_fold_of_a_compacted_journal_is_that_of_the_journal(events: list[Event], keeps: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.db")
        size = -(-len(events) // len(keeps)) or 1
        for number, keep in enumerate(keeps):
            for one in events[number * size : (number + 1) * size]:
                journal.append(one)
            journal.compact(keep)
        assert journal.fold() == sum_of(events)
        assert journal.last_seq() == len(events)
        journal.close()


by_ids = st.tuples(st.lists(st.sampled_from(IDS), unique=True, max_size=3), st.sampled_from(STATES))


@settings(max_examples=60, deadline=None)
@given(st.lists(by_ids, max_size=25))
def test_where_only_ids_are_known_the_last_word_on_each_counts(words: list[tuple[list[str], str]]) -> None:
    last = {node_id: state for ids, state in words for node_id in ids}
    made = folded(*({"ids": ids, "state": state} for ids, state in words))
    assert made.states == {node_id: state for node_id, state in last.items() if state != "removed"}


def test_a_round_that_began_before_the_one_ahead_was_on_disk_is_the_interrupted_one() -> None:
    result = {"number": 4, "state": "done", "loss": None, "metrics": {}, "seconds": 1.0, "ended": 0.0}
    told = [({"begin": 4}, 1), ({"begin": 5}, 2), ({"result": result}, 3)]
    whole, parts = Fold(), Fold()
    for data, seq in told:
        event = Event(seq, 0.0, "round", "trace", "round", "", "", data)
        whole.take(event)
        part = Fold()
        part.take(event)
        parts.merge(Fold.from_bytes(part.to_bytes()))
    assert whole.interrupted == parts.interrupted == 5
    assert [one["number"] for one in whole.rounds] == [4]
    end = Event(4, 0.0, "round", "warn", "round 5", "", "", {"stopped": 5})
    whole.take(end)
    assert whole.interrupted is None
