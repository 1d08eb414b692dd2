"""A journal as a federation's watchers see it: nodes, rounds, pool and events of any moment, as updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from red_tui.console.config.themes import UNICODE
from red_tui.console.connection.mirror import FederationMirror
from red_tui.console.screens.node_detail import summary
from red_tui.errors import CommandRefused, RedError
from red_tui.journal.journal import Journal
from red_tui.messaging import TopologyRule
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState
from red_tui.protocol.events import Event
from red_tui.replay.replay_commands import OpenReplay, open_replay
from red_tui.replay.timeline import TOLD_EVERY

LAYOUT = """# Ten of them
federation: demo
template: somewhere:Nobody
nodes: [{count: 6, role: train, config: {rate: 3}}, {count: 2, role: train-eval, id: "judge_{i}"}]
placement: {bundles: 4, cpus: 4}
"""
POOL = {
    "bundles": [[0, 1, "head", {"CPU": 0.4}, "ready"], [1, 5, "worker-1", {"CPU": 0.9, "lidar": 1}, "ready"]],
    "hosts": [["head", {"CPU": 4}, True], ["worker-1", {"CPU": 8, "GPU": 1}, True]],
}


def _wire(prefix: str, count: int) -> list[Any]:
    return PatternIds(prefix, "", 0, count).to_wire()


class Story:
    """Writes events into a journal, a second apart."""

    def __init__(self, path: Path, layout: str | None = LAYOUT) -> None:
        self.path = path / "journal.db"
        self.journal = Journal(self.path)
        self.seq = 0
        told = {"layout": layout, "path": "demo.yaml"} if layout is not None else {}
        self.tell("federation", "demo", "8 virtual nodes, launched by op", told)

    def tell(self, kind: str, subject: str, text: str, data: dict[str, Any], level: str = "info") -> None:
        self.seq += 1
        state = data.get("state", "")
        self.journal.append(Event(self.seq, 1000.0 + self.seq, kind, level, subject, text, state, data))

    def node(self, row: int, node_id: str, state: str, bundle: int | None = None, **data: Any) -> None:
        told = {"rows": [[row, row + 1]], "ids": [node_id], "state": state, **data}
        if bundle is not None:
            told["bundle"] = bundle
        self.tell("node", node_id, f"{state} now", told, "error" if state == "failed" else "good")

    def round(self, number: int, rows: list[list[int]], **data: Any) -> None:
        result = {"number": number, "state": "done", "loss": 1 / number, "rows": rows, "failures": {}, **data}
        self.tell("round", f"round {number}", "over", {"result": result}, "good")

    def all(self) -> Story:
        """An hour in the life of a federation."""
        self.tell("round", "run", "begins", {"run": [3, None]}, "trace")
        self.tell("round", "round 1", "begins", {"begin": 1}, "trace")
        self.tell("cluster", "pool", "5 bundles reserved", {"pool": POOL})
        self.node(0, "server", "ready", 0)
        self.node(1, "client_0", "ready", 1)
        self.tell(
            "node", "3 nodes", "ready in 2 bundles",
            {"rows": [[2, 4], [7, 8]], "state": "ready", "bundles": [[2, 4, 2], [7, 8, 4]]}, "good",
        )  # fmt: skip
        self.round(1, [[1, 4], [7, 8]])
        self.node(2, "client_1", "failed", 2, traceback="Traceback:\n  boom", died=True)
        self.tell(
            "node", "late_0", "2 added",
            {"rows": [[9, 11]], "segment": _wire("late_", 2), "role": "train", "state": "virtual"},
        )  # fmt: skip
        self.node(9, "late_0", "ready", 1)
        self.round(2, [[1, 2], [3, 4], [9, 10]], failures={"client_1": "it had failed"})
        self.tell("round", "run", "ends", {"run": None}, "trace")
        self.tell("federation", "topology", "ring", {"topology": TopologyRule("ring").to_wire()})
        self.node(1, "client_0", "removed")
        self.tell("federation", "session", "begins with 3 nodes", {"session": 3})
        self.tell("federation", "session", "ends", {"session": 0})
        return self


class Watched:
    """A replay, and a console's mirror that is kept on it."""

    def __init__(self, path: Path) -> None:
        self.opened: OpenReplay = open_replay(str(path), playing=False)
        self.mirror = FederationMirror()
        self.look(None)

    def look(self, cursor: Any = ...) -> dict[str, Any]:
        cursor = self.mirror.cursor if cursor is ... else cursor
        update = self.opened.feed.watch(cursor, 0.0)
        self.changes = self.mirror.apply(update, 0.0)
        return update

    def go(self, event: int) -> FederationMirror:
        self.opened.feed.act("at", {"moment": f"event {event}" if event else "begin"})
        self.look()
        return self.mirror

    def states(self) -> dict[str, str]:
        table = self.mirror.table
        return {table.ids[row]: str(table.state_of(row)) for row in np.flatnonzero(table.present()).tolist()}


def same(one: FederationMirror, other: FederationMirror) -> None:
    """Two consoles show the same."""
    for name in ("federation", "counts", "bundles", "hosts", "round", "session", "timeline", "note", "round_count"):
        assert getattr(one, name) == getattr(other, name), name
    assert list(one.rounds) == list(other.rounds)
    assert one.topology.rule == other.topology.rule
    for name in ("state", "bundle", "rounds", "since", "role"):
        assert one.table.column(name).tolist() == other.table.column(name).tolist(), name
    # Who came step by step may know more events from before.
    length = min(len(one.events), len(other.events))
    assert list(one.events)[len(one.events) - length :] == list(other.events)[len(other.events) - length :]


def test_a_console_that_comes_by_any_way_sees_what_one_sees_that_opens_there(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    watched = Watched(story.path)
    for event in (3, 8, 17, 12, 9, 11, 1, 0, 16, 15, 10, 17, 2):
        mirror = watched.go(event)
        fresh = Watched(story.path)
        same(mirror, fresh.go(event))
        fresh.look(None)
        same(mirror, fresh.mirror)


def test_nodes_are_who_the_layout_in_the_journal_says_and_as_the_events_say(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    assert set(watched.states().values()) == {"virtual"} and len(watched.states()) == 9
    mirror = watched.go(9)
    table = mirror.table
    assert watched.states()["client_1"] == "failed" and watched.states()["judge_0"] == "ready"
    assert table.value("bundle", 3) == 2 and table.value("bundle", 7) == 4
    assert str(table.role_of(7)) == "train-eval" and table.value("rounds", 1) == 1
    assert table.value("since", 2) == 1009 and table.value("since", 5) == 1001
    assert mirror.federation["id"] == "demo" and mirror.federation["title"] == "Ten of them"


def test_nodes_join_and_leave_when_the_events_say_so_both_ways(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    for event, there in ((9, False), (10, True), (9, False), (17, True)):
        watched.go(event)
        assert ("late_0" in watched.states()) is there
        assert ("client_0" in watched.states()) is (event < 15)
    assert watched.mirror.table.value("rounds", 9) == 1


def test_rounds_under_way_are_told_and_forgotten_when_it_goes_back(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    told = []
    for event in (0, 3, 8, 12, 13, 8, 0):
        mirror = watched.go(event)
        told.append((mirror.round.number, mirror.round.running, mirror.round.target, len(mirror.rounds)))
    assert told == [
        (0, False, None, 0), (1, True, 3, 0), (1, True, 3, 1), (2, True, 3, 2), (2, False, None, 2),
        (1, True, 3, 1), (0, False, None, 0),
    ]  # fmt: skip


def test_who_takes_part_in_a_round_is_busy_while_it_is_under_way(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    watched = Watched(story.path)
    watched.go(7)
    busy = {node for node, state in watched.states().items() if state == "busy"}
    assert busy == {"client_0", "client_1", "client_2", "judge_0"}  # and not the server
    watched.go(8)
    assert "busy" not in watched.states().values()
    story.tell("round", "round 3", "begins", {"begin": 3}, "trace")
    other = Watched(story.path)
    other.go(18)
    assert other.mirror.round.number == 3 and "busy" not in other.states().values()  # who they are is not known yet


def test_a_step_forward_tells_what_is_new_only(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    watched = Watched(story.path)
    watched.go(5)
    watched.opened.feed.act("step", {})
    update = watched.look()
    assert not update["full"] and "anew" not in update
    assert [Event.from_wire(wire).seq for wire in update["events"]] == [6] and not update["rounds"]
    assert np.frombuffer(update["table"]["rows"], dtype="<i4").tolist() == [1]
    assert not {"bundles", "hosts", "topology", "session", "note"} & set(update)


def test_a_step_back_sends_no_more_nodes_and_rounds_than_changed(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    watched.go(12)
    watched.opened.feed.act("step_back", {})
    update = watched.look()
    assert update["anew"] and update["rounds_kept"] == 1 and not update["rounds"] and not update["full"]
    assert watched.changes.history and not watched.changes.full
    assert np.frombuffer(update["table"]["rows"], dtype="<i4").tolist() == [1, 3, 9]


def test_the_pool_is_planned_first_and_then_where_the_journal_says(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    assert {(one.state, one.host) for one in watched.mirror.bundles} == {("planned", "")}
    assert [one.cpu for one in watched.mirror.bundles] == [0.4, 0.9, 0.9, 0.9, 0.9] and not watched.mirror.hosts
    mirror = watched.go(4)
    assert [one.host for one in mirror.bundles] == ["head", *["worker-1"] * 4]
    assert mirror.bundles[1].resources == {"lidar": 1} and [host.gpu for host in mirror.hosts] == [0, 1]


def test_without_a_pool_in_the_journal_bundles_are_those_of_the_layout(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.node(1, "client_0", "ready", 3)
    watched = Watched(story.path)
    assert [one.state for one in watched.mirror.bundles] == ["planned"] * 5
    mirror = watched.go(2)
    assert [one.cpu for one in mirror.bundles] == [0.4, 0.9, 0.9, 0.9, 0.9]
    assert {one.host for one in mirror.bundles} == {"not recorded"} == {host.name for host in mirror.hosts}


def test_the_topology_is_that_of_the_moment(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    verbs = watched.opened.verbs
    assert watched.go(13).topology.rule == "star" and verbs.command("graph", {})["facts"]["edges"] == 10
    assert watched.go(14).topology.rule == "ring"
    told = verbs.command("graph", {})
    assert told["facts"]["edges"] == 10 and told["version"] == list(watched.mirror.topology.version)
    assert verbs.command("graph", {"node": "judge_1"})["neighbors"] == ["judge_0", "late_0"]
    before = watched.mirror.topology.version
    assert watched.go(15).topology.version != before
    assert verbs.command("graph", {})["facts"]["edges"] == 9
    assert watched.go(14).topology.version == before


def test_the_aggregators_of_a_hierarchy_are_nodes_and_its_groups_edges(tmp_path: Path) -> None:
    groups = "schema: hierarchical\ntopology: {groups: {north: [client_*], south: [judge_*]}}\n"
    watched = Watched(Story(tmp_path, LAYOUT + groups).path)
    assert list(watched.states())[-2:] == ["north", "south"] and watched.mirror.topology.rule.startswith("hierarchical")
    assert watched.opened.verbs.command("graph", {"node": "south"})["neighbors"] == ["server", "judge_0", "judge_1"]
    assert len(watched.mirror.bundles) == 5


def test_a_session_is_told_while_it_ran(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    session = watched.go(16).session
    assert session.running and session.nodes == 3 and session.started == 1016
    assert not watched.go(17).session.running


def test_the_time_line_says_where_it_stands(tmp_path: Path) -> None:
    line = Watched(Story(tmp_path).all().path).go(12).timeline
    assert (line.position, line.total, line.event, line.last_event) == (12, 17, 12, 17)
    assert (line.round, line.rounds, line.state, line.speed, line.moment) == (2, 2, "paused", 1.0, 1012)
    assert line.text == "round 2: over"


def test_traces_are_on_no_screen(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    watched.go(17)
    assert [event.seq for event in watched.mirror.events] == [1, *range(4, 13), *range(14, 18)]
    told = watched.opened.verbs.command("events", {"before": 6, "limit": 2})["events"]
    assert [Event.from_wire(wire).seq for wire in told] == [4, 5]
    watched.go(8)
    assert watched.opened.verbs.command("events", {"before": None, "limit": 1})["events"][0][0] == 8


def test_a_node_is_told_with_its_cause_its_config_and_its_story(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    watched.go(12)
    told = watched.opened.verbs.command("detail", {"id": "client_1"})
    assert told["why"] == "failed now" and told["traceback"] == "Traceback:\n  boom" and told["config"] == {"rate": 3}
    assert [text for _, _, text in told["log"]] == ["ready in 2 bundles", "failed now", "over"]
    assert told["bundle"] == 2 and told["rounds"] == 1 and told["since"] == 1009
    assert "failed now" in watched.opened.verbs.command("explain", {"id": "client_1"})["text"]
    assert "not been built" in watched.opened.verbs.command("explain", {"id": "client_5"})["text"]
    watched.go(8)
    told = watched.opened.verbs.command("detail", {"id": "client_1"})
    assert told["state"] == "ready" and told["why"] == "" and len(told["log"]) == 1


def test_config_keys_that_were_changed_are_those_of_the_moment(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.tell("operator", "op", "set", {"changed": {"rate": 9, "fraction": 0.5}})
    watched = Watched(story.path)
    told = [
        (watched.go(event), watched.opened.verbs.command("detail", {"id": "client_0"})["config"]) for event in (1, 2)
    ]
    assert [config for _, config in told] == [{"rate": 3}, {"rate": 9}]


@pytest.mark.parametrize("verb", ["build", "run", "release", "down", "train", "topology"])
def test_nothing_can_be_changed(tmp_path: Path, verb: str) -> None:
    with pytest.raises(CommandRefused, match="replay"):
        Watched(Story(tmp_path).path).opened.verbs.command(verb, {})


def test_a_node_that_is_not_there_at_the_moment_is_refused(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    with pytest.raises(CommandRefused, match="'late_0' is no node of 'demo' at this moment"):
        watched.opened.verbs.command("detail", {"id": "late_0"})


def test_a_journal_that_grows_brings_its_events_rounds_and_nodes(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    watched = Watched(story.path)
    watched.opened.feed.act("follow", {})
    watched.look()
    story.tell(
        "node", "more_0", "added",
        {"rows": [[11, 12]], "segment": _wire("more_", 1), "role": "eval", "state": "virtual"},
    )  # fmt: skip
    story.round(3, [[11, 12]])
    update = watched.opened.feed.watch(watched.mirror.cursor, 20.0)
    watched.mirror.apply(update, 0.0)
    assert not update["full"] and watched.states()["more_0"] == "virtual"
    assert watched.mirror.rounds[-1].number == 3 and watched.mirror.timeline.state == "following"
    assert watched.mirror.table.value("rounds", 11) == 1


def test_a_watch_that_waits_is_woken_by_what_is_asked(tmp_path: Path) -> None:
    import threading

    watched = Watched(Story(tmp_path).all().path)
    told: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: told.append(watched.opened.feed.watch(watched.mirror.cursor, 30.0)))
    thread.start()
    watched.opened.feed.act("at", {"moment": "event 9"})
    thread.join(90)
    assert told and told[0]["timeline"]["event"] == 9


def test_at_infinite_speed_each_look_is_a_part_further(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    watched.opened.feed.act("speed", {"speed": "max"})
    watched.opened.feed.act("play", {})
    seen = []
    while watched.mirror.timeline.state != "end":
        watched.look()
        seen.append(watched.mirror.timeline.position)
    assert seen == list(range(1, 18)) and watched.mirror.timeline.speed is None


def test_a_jump_over_many_events_tells_the_last_of_them_and_more_when_asked(tmp_path: Path) -> None:
    story = Story(tmp_path)
    for number in range(2, 2300):
        story.node(1 + number % 6, f"client_{number % 6}", "ready", 1)
    watched = Watched(story.path)
    mirror = watched.go(2299)
    assert [event.seq for event in mirror.events] == list(range(2100, 2300))
    told = watched.opened.verbs.command("events", {"before": mirror.events[0].seq, "limit": 200})["events"]
    assert mirror.add_older(told) == 200 and mirror.events[0].seq == 1900


@pytest.mark.parametrize(
    "data",
    [
        {"rows": "x", "state": "ready", "ids": ["a"]},
        {"rows": [[3]], "state": "ready", "ids": ["a"]},
        {"rows": [[1, 2**70]], "state": "ready", "ids": ["a"]},
        {"rows": [[1, 2]], "state": "asleep", "ids": ["client_0"]},
        {"result": [1]},
        {"result": {"state": "done"}},
        {"result": {"number": 1, "state": "done", "rows": 7}},
        {"segment": ["?"], "rows": [[9, 10]], "state": "virtual"},
        {"topology": {"name": "cube"}},
        {"topology": {"name": "ring", "colour": 3}},
        {"pool": 5},
        {"pool": {"bundles": [[0, 1]], "hosts": []}},
        {"session": "x"},
        {"begin": "x"},
        {"run": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", [LAYOUT, None], ids=["layout", "no layout"])
def test_an_event_that_makes_no_sense_is_passed_over(tmp_path: Path, data: dict[str, Any], layout: str | None) -> None:
    story = Story(tmp_path, layout)
    story.tell("node", "odd", "odd", data)
    story.node(1, "client_0", "ready", 2)
    watched = Watched(story.path)
    for event in (3, 2, 0, 3):
        watched.go(event)
    assert watched.states()["client_0"] == "ready" and watched.mirror.timeline.event == 3
    assert watched.opened.verbs.command("detail", {"id": "client_0"})["bundle"] == 2
    assert watched.opened.verbs.command("graph", {})["rule"] == "star" and watched.opened.feed.state()["event"] == 3


def test_it_does_not_play_while_nobody_watches_yet(tmp_path: Path) -> None:
    now = [0.0]
    feed = open_replay(str(Story(tmp_path).all().path), clock=lambda: now[0]).feed
    now[0] += 100  # a large journal takes its time to open
    update = feed.watch(None, 0.0)
    assert update["timeline"]["position"] == 1 and update["timeline"]["state"] == "playing"
    now[0] += 3.5
    assert feed.watch(update["cursor"], 0.0)["timeline"]["position"] == 4


# -- who the nodes are --------------------------------------------------------------------------


def test_a_layout_beside_the_journal_names_the_nodes_of_older_ones(tmp_path: Path) -> None:
    story = Story(tmp_path, layout=None).all()
    (tmp_path / "layout.yaml").write_text(LAYOUT)
    watched = Watched(story.path)
    assert list(watched.states())[:3] == ["server", "client_0", "client_1"] and watched.mirror.note == ""


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (None, "this journal has no layout"),
        ("federation: [", "its layout cannot be read"),
        (LAYOUT.replace("count: 6", "count: 7"), "is not this journal's"),
        (LAYOUT.replace("role: train,", "role: train, id: 'peer_{i}',"), "is not this journal's"),
    ],
    ids=["none", "broken", "others", "other names"],
)
def test_without_a_layout_that_fits_nodes_are_those_that_events_name(
    tmp_path: Path, text: str | None, note: str
) -> None:
    story = Story(tmp_path, layout=None).all()
    if text is not None:
        (tmp_path / "layout.yaml").write_text(text)
    watched = Watched(story.path)
    assert note in watched.mirror.note
    watched.go(12)
    states = watched.states()
    assert list(states) == [
        "server",
        "client_0",
        "client_1",
        *[f"row_{row}" for row in range(3, 9)],
        "late_0",
        "late_1",
    ]
    assert states["client_1"] == "failed" and states["row_3"] == "ready" and states["row_5"] == "virtual"
    assert watched.mirror.table.role_of(0) == "server" and watched.mirror.table.role_of(9) == "train"
    assert watched.mirror.federation["id"] == tmp_path.name


def test_without_a_layout_nodes_that_are_named_later_are_taken_in(tmp_path: Path) -> None:
    story = Story(tmp_path, layout=None)
    story.node(1, "client_0", "ready", 1)
    watched = Watched(story.path)
    watched.opened.feed.act("follow", {})
    watched.look()
    story.node(5, "client_4", "ready", 2)
    update = watched.opened.feed.watch(watched.mirror.cursor, 20.0)
    watched.mirror.apply(update, 0.0)
    assert update["full"] and watched.states()["client_4"] == "ready" and len(watched.states()) == 6


def test_a_later_layout_beside_an_older_journal_is_told(tmp_path: Path) -> None:
    from red_tui.journal.launch_record import LaunchRecord

    story = Story(tmp_path, layout=None).all()
    LaunchRecord(LAYOUT, "demo.yaml", {}, "op", created=2e9).save(tmp_path)
    assert "of a later launch" in Watched(story.path).mirror.note


def test_an_id_that_came_back_is_the_node_that_came_last(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    story.tell(
        "node", "client_0", "added",
        {"rows": [[11, 12]], "segment": _wire("client_", 1), "role": "train", "state": "virtual"},
    )  # fmt: skip
    watched = Watched(story.path)
    assert watched.go(18).table.row_of("client_0") == 11
    assert watched.go(8).table.row_of("client_0") == 1


def test_of_a_compacted_journal_it_is_said_where_nodes_are_not_known(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    story.journal.compact(keep=3)
    watched = Watched(story.path)
    assert "compacted" in watched.mirror.note and watched.mirror.federation["id"] == "demo"
    watched.go(17)
    assert watched.mirror.note == "" and watched.states()["client_1"] == "failed" and "late_1" in watched.states()
    assert watched.mirror.table.value("rounds", 9) == 1
    assert [one.number for one in watched.mirror.rounds] == [1, 2] and watched.mirror.topology.rule == "ring"
    assert [one.host for one in watched.mirror.bundles] == ["head", *["worker-1"] * 4]
    assert "compacted" in watched.opened.verbs.command("explain", {"id": "client_1"})["text"]


def test_the_state_in_short_is_that_of_the_moment(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    state = open_replay(str(story.path), at="event 12").feed.state()
    assert state["states"] == {"virtual": 5, "ready": 4, "failed": 1} and state["failed"] == ["client_1"]
    assert state["nodes"] == 10 and state["rounds"] == 2 and state["last_round"]["number"] == 2
    assert state["at"] == 1012 and state["event"] == 12 and state["round"]["phase"] == "under way"


@pytest.mark.parametrize("keywords", [{"at": "round 9"}, {"at": "soon"}, {"speed": "fast"}])
def test_what_makes_no_sense_is_refused_when_it_opens(tmp_path: Path, keywords: dict[str, str]) -> None:
    story = Story(tmp_path).all()
    with pytest.raises(RedError) as told:
        open_replay(str(story.path), **keywords)  # type: ignore[arg-type]
    assert told.value.exit_code == 2


def test_it_begins_playing_at_the_begin_and_paused_where_it_was_asked_to(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    assert open_replay(str(story.path)).player.state == "playing"
    player = open_replay(str(story.path), at="round 1", speed="20x").player
    assert player.state == "paused" and player.replay.position == 8 and player.speed == 20
    assert open_replay(str(story.path), at="round 1", playing=True).player.state == "playing"


def test_a_removed_state_is_never_counted(tmp_path: Path) -> None:
    watched = Watched(Story(tmp_path).all().path)
    assert watched.go(12).counts[NodeState.VIRTUAL] == 5


def test_a_node_tells_its_losses_of_the_rounds_that_name_it_and_why_it_has_none_of_others(tmp_path: Path) -> None:
    story = Story(tmp_path).all()
    measured = {"count": 4, "quantiles": [0.1] * 7, "bins": [4], "low": [["client_2", 0.4]], "high": [["late_0", 0.9]]}
    story.round(3, [[3, 4], [7, 8], [9, 10]], spread={"measures": {"train loss": measured}, "failed": []})
    measured = {**measured, "low": [["client_2", 0.3]]}
    story.round(4, [[3, 4], [7, 8], [9, 10]], spread={"measures": {"loss": measured}, "failed": []})
    watched = Watched(tmp_path)
    watched.opened.feed.act("follow", {})
    watched.look()

    def detail(node_id: str) -> dict[str, Any]:
        return watched.opened.verbs.command("detail", {"id": node_id})

    told = detail("client_2")
    assert (told["loss"], told["loss_round"], told["losses"]) == (0.3, 4, [0.4, 0.3]) and not told["loss_unknown"]
    ids = watched.mirror.table.ids
    assert detail(ids[7])["loss"] is None and "at both ends of a round" in detail(ids[7])["loss_unknown"]
    assert detail(ids[5])["loss_unknown"] == ""  # it took part in none
    row = watched.mirror.table.row_of("client_2")
    assert row is not None
    lines = ["".join(text for text, _ in line) for line in summary(watched.mirror, row, told, UNICODE, 60)]
    assert any(line.endswith(" 0.3 in round 4") for line in lines)
    assert watched.opened.verbs.command("spread", {"number": 4})["spread"]["measures"]["loss"]["count"] == 4
    why = watched.opened.verbs.command("spread", {"number": 1})
    assert not why["spread"] and "did not keep it" in why["text"]


def test_a_long_way_is_told_of(tmp_path: Path) -> None:
    story = Story(tmp_path)
    for number in range(1, 2 * TOLD_EVERY + 1):
        story.round(number, [[1, 4]])
    told: list[tuple[int, int]] = []
    opened = open_replay(str(tmp_path), progress=lambda done, of: told.append((done, of)))
    assert told == []
    opened.feed.act("follow", {})
    assert told == [(TOLD_EVERY, 2 * TOLD_EVERY), (2 * TOLD_EVERY, 2 * TOLD_EVERY)]  # from the first event on
