"""What supervisor, replay, link, console and fakes exchange is defined once, and has a version."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgpack
import pytest

from red_tui import errors
from red_tui.errors import NotConnected
from red_tui.protocol import events, snapshot
from red_tui.protocol.commands import PROTOCOL, check_protocol
from red_tui.protocol.update import Cursor, ReplayCursor, Update
from red_tui.rounds.history import RoundResult
from red_tui.supervisor.supervisor_actor import Supervisor
from tests.console.fake_link import busy_federation
from tests.console.fake_replay import FakeReplay

RECORDS: list[Any] = [
    snapshot.FederationInfo("digits", "star", "a:B", "Digits", 1.0, "process", "digits.yaml"),
    snapshot.BundleStatus.of(1, "head", {"CPU": 1.0, "lidar": 2.0}, "ready", ""),
    snapshot.HostStatus.of("a", "head", True, {"CPU": 4.0, "GPU": 1.0, "lidar": 2.0}, True),
    snapshot.ClusterStatus("a:1", True, 1.0, 4.0, 0.0, 1.0),
    snapshot.ClusterStatus(error="it does not answer"),
    snapshot.RoundProgress(3, "fit", 1, 2, 5.0, 9, "loss<1", True),
    snapshot.SessionStatus(True, 4, 5.0, True),
    snapshot.TopologyVersion((1, 2, 3), "ring"),
    snapshot.TimeLine("playing", 3, 9, 4, 12, 7.0, 1.0, 9.0, 2, 5, None, "text", 2.0, 3.0),
    snapshot.ShownSettings({"fraction": (0.5, 1.0)}, ("fraction",)),
    snapshot.RoundSummary(1, "done", 0.5, {"accuracy": 0.9}, 0.4, 1.0, 3, 0, 9.0, 2, 10.0, train_metrics={"loss": 0.4}),
    events.Event(3, 4.0, "node", "info", "client_0", "is ready", "ready"),
    Cursor("a", 1, 2, 3, 4, 5, 6, 7, 8, "note", (1, 2), 9, 10),
    ReplayCursor("a", 1, 2, 3, 4, 5, {"round": 1}),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_its_bytes_as_it_was(record: Any) -> None:
    wire = msgpack.unpackb(msgpack.packb(record.to_wire()), strict_map_key=False)
    assert type(record).from_wire(wire) == record
    assert dataclasses.is_dataclass(record) and type(record).__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_an_update_comes_back_with_its_parts_and_without_those_that_are_not_told() -> None:
    update = Update(["a"], 4.0, True, RECORDS[0], note="", session=snapshot.SessionStatus(), bundles=(RECORDS[1],))
    wire = update.to_wire()
    assert set(wire) == {"cursor", "time", "full", "federation", "note", "session", "bundles"}
    assert Update.from_wire(wire) == update
    assert Update.from_wire({**wire, "of a newer red-tui": 1}) == update


def test_an_update_that_tells_of_nothing_has_a_cursor_and_a_time_only() -> None:
    assert set(Update(Cursor("a").to_wire(), 4.0).to_wire()) == {"cursor", "time", "full"}


def test_a_round_that_no_one_judged_crosses_the_wire() -> None:
    result = RoundResult(1, math.nan, {"accuracy": math.nan}, {"loss": 0.5}, ("a", "b"), {}, 1.0, 2.0)
    wire = result.to_wire()
    assert (wire["loss"], wire["metrics"], wire["train_loss"]) == (None, {"accuracy": None}, 0.5)
    assert snapshot.RoundSummary.from_wire(wire).loss is None
    assert math.isnan(RoundResult.from_wire(wire).metrics["accuracy"])


@pytest.mark.parametrize("wire", [None, [], ["a"], {"epoch": "a"}, 3, ["a"] * 12])
def test_a_cursor_of_another_kind_is_none(wire: Any) -> None:
    assert Cursor.from_wire(wire) is None and ReplayCursor.from_wire(wire) is None


@pytest.mark.parametrize("fake", [busy_federation(), FakeReplay()], ids=["federation", "replay"])
def test_what_the_fakes_tell_is_what_the_records_tell(fake: Any) -> None:
    wire = fake.full()
    assert set(wire) <= set(Update.__dataclass_fields__)
    told = Update.from_wire(wire).to_wire()
    for name in ("federation", "round", "session", "topology", "next_rounds", "cluster"):
        assert set(wire[name]) == set(told[name]), name
    for name in ("bundles", "hosts"):
        assert all(set(one) <= set(record) for one, record in zip(wire[name], told[name], strict=True)), name
    assert all(events.Event.from_wire(event).to_wire() == event for event in wire["events"])
    assert all(snapshot.RoundSummary.from_wire(one).number == one["number"] for one in wire["rounds"])


def test_a_side_of_another_version_is_refused_with_both_versions() -> None:
    check_protocol(PROTOCOL, "this client", "the supervisor of 'digits'")
    for stated, version in ((None, 1), (1, 1), (PROTOCOL + 1, PROTOCOL + 1)):
        with pytest.raises(NotConnected) as error:
            check_protocol(stated, "this client", "the supervisor of 'digits'")
        assert f"this client speaks version {version} " in error.value.message
        assert f"the supervisor of 'digits' version {PROTOCOL}:" in error.value.message


def test_a_client_that_states_no_version_is_refused_by_each_method_but_those_that_list_and_end() -> None:
    supervisor = Supervisor("digits")
    asked = [
        supervisor.watch(None, 0.0),
        supervisor.command("1", "build", {"query": ""}, "me@here"),
        supervisor.command("2", "detail", {"id": "client_0"}, "me@here"),
        supervisor.parameters(),
    ]
    for answer in asked:
        assert "version 1 of red-tui's protocol" in answer["error"]["message"], answer


def test_every_error_is_of_its_own_kind_behind_the_wire() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RedError)]
    assert {errors.NothingToDo, errors.RunError} <= set(kinds)
    for kind in kinds:
        there = errors.from_wire(kind("why", file="x").to_wire())
        assert (type(there), there.message, there.fields["file"]) == (kind, "why", "x")
