from __future__ import annotations

import numpy as np
import pytest

from red_tui.console.connection.mirror import FederationMirror, OutOfStep
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState
from tests.console.fake_link import EPOCH, FakeFederation, busy_federation


def mirrored(federation: FakeFederation) -> FederationMirror:
    mirror = FederationMirror()
    mirror.apply(federation.full(), 10.0)
    return mirror


def test_a_full_update_holds_everything() -> None:
    federation = busy_federation()
    mirror = mirrored(federation)
    assert mirror.federation["id"] == "digits"
    assert mirror.table.counts() == federation.table.counts()
    assert [bundle.idx for bundle in mirror.bundles] == list(range(8))
    assert mirror.round.number == 14 and mirror.round.running
    accuracy = mirror.latest("accuracy")
    assert accuracy is not None and accuracy.value == pytest.approx(0.927, abs=0.001) and accuracy.round == 13
    assert len(mirror.rounds) == 13 and mirror.latest("nothing") is None


def test_an_empty_update_changes_nothing_but_the_age() -> None:
    federation = busy_federation()
    mirror = mirrored(federation)
    changes = mirror.apply(federation.delta(mirror.cursor), 20.0)
    assert not changes
    assert mirror.age(25.0) == 5.0


def test_a_change_of_state_is_no_change_of_place() -> None:
    federation = busy_federation()
    mirror = mirrored(federation)
    federation.set("client_000", NodeState.BUSY)
    changes = mirror.apply(federation.delta(mirror.cursor), 11.0)
    assert [mirror.table.ids[int(row)] for row in changes.rows] == ["client_000"]
    assert not changes.placement and not changes.full


@pytest.mark.parametrize("values", [{"bundle": 7}, {"state": NodeState.REMOVED}])
def test_a_node_that_moves_or_goes_changes_places(values: dict[str, object]) -> None:
    federation = busy_federation()
    mirror = mirrored(federation)
    federation.table.set(federation.row("client_000"), **values)
    assert mirror.apply(federation.delta(mirror.cursor), 11.0).placement


def test_added_nodes_appear() -> None:
    federation = busy_federation()
    mirror = mirrored(federation)
    federation.table.append(PatternIds.parse("late_{i}", 5), "test")
    changes = mirror.apply(federation.delta(mirror.cursor), 11.0)
    assert changes.placement and len(changes.rows) == 5
    assert mirror.table.row_of("late_4") is not None


def test_a_delta_before_anything_full_is_refused() -> None:
    federation = busy_federation()
    with pytest.raises(OutOfStep):
        FederationMirror().apply(federation.delta(federation.full()["cursor"]), 1.0)


def test_missing_segments_are_noticed() -> None:
    federation = busy_federation()
    mirror = mirrored(federation)
    federation.table.append(PatternIds.parse("a_{i}", 1), "test")
    cursor = federation.full()["cursor"]
    federation.table.append(PatternIds.parse("b_{i}", 1), "test")
    with pytest.raises(OutOfStep):
        mirror.apply(federation.delta(cursor), 11.0)


def test_events_are_told_once_and_in_order() -> None:
    federation = busy_federation()
    mirror = mirrored(federation)
    federation.event("client_1", "came \x1b[31m")
    update = federation.delta(mirror.cursor)
    assert [event.subject for event in mirror.apply(update, 11.0).events] == ["client_1"]
    assert not mirror.apply({**update}, 12.0).events
    assert "\x1b" not in mirror.events[-1].text


def test_events_do_not_grow_without_bound() -> None:
    federation = FakeFederation()
    mirror = mirrored(federation)
    for start in range(0, 12_000, 1000):
        wire = [[seq, EPOCH, "node", "info", "n", "t"] for seq in range(start, start + 1000)]
        mirror.apply({"cursor": 1, "events": wire}, 1.0)
    assert len(mirror.events) == mirror.events.maxlen
    assert mirror.events[-1].seq == 11_999


def test_a_full_update_replaces_what_was_there() -> None:
    federation = busy_federation()
    mirror = mirrored(federation)
    other = FakeFederation([("x_{i}", 3, "train")], bundles=2)
    changes = mirror.apply(other.full(), 30.0)
    assert changes.full and not mirror.rounds and not mirror.events
    assert mirror.table.row_of("client_000") is None
    assert np.count_nonzero(mirror.table.present()) == 4


def test_a_note_that_is_cleared_is_gone() -> None:
    federation = busy_federation()
    federation.note = "journal: disk full"
    mirror = mirrored(federation)
    assert mirror.note
    federation.note = ""
    assert "note" in mirror.apply(federation.delta(mirror.cursor), 11.0).parts
    assert mirror.note == ""


def test_the_time_left_follows_the_last_rounds() -> None:
    mirror = mirrored(busy_federation())
    left = mirror.seconds_left()
    # From the end of one round to that of the next: what lies between them counts too.
    assert left is not None and 35 < left < 38
