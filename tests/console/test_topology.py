"""The screen of the topology: drawn, listed or told by its rule, and the rates of messages."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from red_tui.console.connection.traffic import Traffic
from red_tui.console.screens.topology_graph import Drawing, Graph
from red_tui.errors import NotConnected
from red_tui.messaging import TopologyRule
from red_tui.nodes.states import NodeState
from tests.console.conftest import Clock, running, title_of, until
from tests.console.fake_link import EPOCH, FakeFederation, FakeLink, busy_federation, graph_of
from tests.console.test_grid import a_million

RING = TopologyRule("ring")


def shown(app: Any) -> Any:
    return app.controller.views.current


def small(count: int = 12, rule: TopologyRule = RING) -> tuple[FakeFederation, dict[str, Any]]:
    federation = FakeFederation([("peer_{i}", count, "train")])
    return federation, graph_of(federation, rule)


async def opened(app: Any, link: FakeLink, pilot: Any, told: Any) -> Any:
    link.answers["graph"] = told
    await pilot.press("4")
    await until(pilot, lambda: shown(app).graph is not None)
    return shown(app)


async def test_a_hierarchy_is_drawn_level_by_level_below_its_server() -> None:
    federation = FakeFederation([("client_{i}", 7, "train"), ("edge_{i}", 3, "aggregator")])
    told = graph_of(federation, TopologyRule("hierarchical", levels=[3]))
    async with running(federation, size=(80, 24)) as (app, link, pilot):
        view = await opened(app, link, pilot, told)
        assert view.drawn and "hierarchical (levels 3)" in title_of(view)
        lines = view.text.splitlines()
        heights = {
            name: next(number for number, line in enumerate(lines[2:]) if name in line)
            for name in ("server", "edge_1", "client_4")
        }
        assert heights["server"] < heights["edge_1"] < heights["client_4"]
        assert "client_0  1 neighbour: edge_0" in lines[1]
        await pilot.press("up")
        await until(pilot, lambda: "edge_0  4 neighbours: server, client_0, client_1, client_2" in view.text)
        await pilot.press("up")
        await until(pilot, lambda: "server  3 neighbours: edge_0, edge_1, edge_2" in view.text)


# -- drawing --------------------------------------------------------------------------------------


def drawing(rule: TopologyRule, count: int, width: int = 76, height: int = 18, ascii_only: bool = False) -> Drawing:
    federation = FakeFederation([("n{i}", count, "train")])
    graph = Graph.from_wire(graph_of(federation, rule))
    rows = np.flatnonzero(graph.members(federation.table))
    pairs = graph.pairs_among(rows, federation.table)
    return Drawing(rule.name, federation.table.ids.take(rows), pairs, width, height, ascii_only)


RULES = [
    TopologyRule("star"), RING, TopologyRule("line"), TopologyRule("mesh"), TopologyRule("grid"), TopologyRule("tree"),
    TopologyRule("k-connected", k=4), TopologyRule("small-world", k=4, seed=1),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("ascii_only", [False, True], ids=["unicode", "ascii"])
def test_every_node_stands_at_a_place_of_its_own_and_no_line_is_too_long(rule: TopologyRule, ascii_only: bool) -> None:
    made = drawing(rule, 14, ascii_only=ascii_only)
    assert made.fits and len({tuple(cell) for cell in made.cells.tolist()}) == len(made.names)
    lines = made.lines(["@"] * len(made.names), ["ready"] * len(made.names), 0, frozenset())
    texts = ["".join(text for text, _ in line) for line in lines]
    assert len(texts) == 18 and {len(text) for text in texts} == {76}
    assert sum(text.count("@") for text in texts) == len(made.names)
    assert not ascii_only or all(text.isascii() for text in texts)
    assert all(name in "\n".join(texts) for name in made.names)


@given(st.sampled_from(RULES), st.integers(6, 60), st.integers(30, 120), st.integers(8, 40))
@settings(deadline=None, max_examples=60)
def test_nodes_that_are_drawn_never_stand_on_each_other(
    rule: TopologyRule, count: int, width: int, height: int
) -> None:
    made = drawing(rule, count, width, height)
    if made.fits:
        assert len({tuple(cell) for cell in made.cells.tolist()}) == len(made.names)
        assert (made.cells >= 0).all() and (made.cells < [width, height]).all()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_arrows_reach_every_node_of_a_drawing(rule: TopologyRule) -> None:
    made = drawing(rule, 14)
    ways = nx.DiGraph()
    for place in range(len(made.names)):
        for way in ("left", "right", "up", "down"):
            ways.add_edge(place, made.towards(place, way))
    assert set(ways) == set(range(len(made.names)))
    assert nx.is_strongly_connected(ways)


def test_the_edges_of_the_cursor_stand_out_without_colour() -> None:
    made = drawing(RING, 12, ascii_only=True)

    def text(cursor: int | None, near: frozenset[int]) -> str:
        lines = made.lines(["@"] * 12, ["ready"] * 12, cursor, near)
        return "\n".join("".join(part for part, _ in line) for line in lines)

    strong = text(3, frozenset({2, 4}))
    assert "*" in strong and ":" in strong and "*" not in text(None, frozenset())


# -- the screen -----------------------------------------------------------------------------------


async def test_the_graph_is_asked_for_once_when_it_is_looked_at_and_again_when_it_is_another() -> None:
    federation, told = small()
    async with running(federation) as (app, link, pilot):
        assert link.told("graph") == []
        view = await opened(app, link, pilot, told)
        assert "12 nodes   12 edges   degree 2   connected   spectral gap" in view.text
        assert "peer_0  2 neighbours: peer_1, peer_11" in view.text
        federation.set("peer_3", NodeState.READY, bundle=1)
        link.changed()
        await until(pilot, lambda: "●" in view.text)
        await pilot.press("1", "4")
        assert link.told("graph") == [{}]

        link.answers["graph"] = graph_of(federation, TopologyRule("k-connected", k=4))
        link.changed()
        await until(pilot, lambda: view.graph.name == "k-connected (k = 4)")
        assert "24 edges   degree 4" in view.text and link.told("graph") == [{}, {}]
        assert "k-connected (k = 4)" in title_of(view)

        await pilot.press("1")
        link.answers["graph"] = graph_of(federation, TopologyRule("line"))
        link.changed()
        await until(pilot, lambda: app.mirror.topology.rule == "line")
        assert link.told("graph") == [{}, {}]
        await pilot.press("4")
        await until(pilot, lambda: view.graph.name == "line")


async def test_the_cursor_moves_over_the_drawing_and_its_node_is_told_and_marked_and_opened() -> None:
    federation, told = small()
    async with running(federation) as (app, link, pilot):
        view = await opened(app, link, pilot, told)
        assert view.drawn and view.cursor_id == "peer_0"
        await pilot.press("right")
        assert view.cursor_id == "peer_1" and "peer_1  2 neighbours: peer_0, peer_2" in view.text
        await pilot.press("end")
        assert view.cursor_id == "peer_11"
        await pilot.press("space")
        assert app.controller is not None and app.grid is not None
        assert app.grid.marked_ids() == ["peer_11"] and "1 marked" in title_of(view)
        await until(pilot, lambda: "peer_11" in title_of(app.detail))
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("escape")
        await pilot.press("b")
        await until(pilot, lambda: link.told("build") == [{"ids": ["peer_11"]}])


async def test_a_list_marks_the_neighbours_of_its_cursor_and_z_goes_back_to_the_drawing() -> None:
    federation, told = small()
    async with running(federation) as (app, link, pilot):
        view = await opened(app, link, pilot, told)
        await pilot.press("z", "j", "j")
        assert view.cursor_id == "peer_2" and not view.drawn
        near = [line for line in view.text.splitlines() if line.startswith("▸")]
        assert [line.split()[1] for line in near] == ["peer_1", "peer_3"]
        await pilot.press("z")
        assert view.drawn and view.cursor_id == "peer_2"
        await pilot.press("colon", *"zoom list", "enter")
        await until(pilot, lambda: not view.drawn)


async def test_a_filter_shows_its_nodes_and_the_edges_between_them() -> None:
    federation, told = small()
    async with running(federation) as (app, link, pilot):
        view = await opened(app, link, pilot, told)
        await pilot.press("slash", *"id:peer_1*", "enter")
        await until(pilot, lambda: "3 of 12 shown" in title_of(view))
        assert view.count() == 3 and "peer_5" not in view.text.split("\n", 2)[2]
        await pilot.press("escape")
        await until(pilot, lambda: view.count() == 12)
        # Letter by letter a filter may hide all nodes: the panel beside goes with the cursor, and comes back with it.
        await pilot.press("slash", *"nobody")
        await until(pilot, lambda: view.count() == 0 and "no node" in title_of(app.detail))
        await pilot.press("escape")
        await until(pilot, lambda: view.cursor_id is not None and view.cursor_id in title_of(app.detail))


async def test_a_large_graph_is_listed_and_costs_the_lines_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    federation, told = small(5000, TopologyRule("k-connected", k=4))
    async with running(federation) as (app, link, pilot):
        view = await opened(app, link, pilot, told)
        assert not view.drawn and view.count() == 5000
        made: list[int] = []
        real = view.make_line
        monkeypatch.setattr(view, "make_line", lambda place: made.append(place) or real(place))
        await pilot.press("end")
        assert view.cursor_id == "peer_4999" and len(made) <= view.size.height
        await pilot.press("z")
        await until(pilot, lambda: "5,000 nodes find no room" in app.footer.message)


async def test_neighbours_are_asked_for_where_a_graph_is_too_large_to_be_told() -> None:
    federation, told = small()
    async with running(federation) as (app, link, pilot):
        told = {**told, "pairs": None, "neighbors": ["peer_7", "peer_9"], "count": 2}
        view = await opened(app, link, pilot, told)
        assert not view.drawn
        await until(pilot, lambda: "peer_0  2 neighbours: peer_7, peer_9" in view.text)
        await pilot.press("j")
        await until(pilot, lambda: link.told("graph")[-1] == {"node": "peer_1"})
        await until(pilot, lambda: "peer_1  2 neighbours" in view.text)


async def test_a_star_of_a_million_nodes_is_told_by_its_rule_and_never_listed() -> None:
    federation = a_million()
    async with running(federation) as (app, link, pilot):
        view = await opened(app, link, pilot, graph_of(federation))
        assert "a star: every node talks with the server, and with nobody else" in view.text
        assert "1,000,000 nodes   1,000,000 edges" in view.text and len(view.lines) < 15
        before = app.controller.current_id if app.controller is not None else None
        await pilot.press("end", "down", "z")
        assert app.controller is not None and app.controller.current_id == before
        await until(pilot, lambda: "told by its rule" in app.footer.message)
        await pilot.press("slash", *"id:c_77,c_78", "enter")
        await until(pilot, lambda: view.count() == 2)
        assert "c_77  1 neighbour: server" in view.text


async def test_why_there_is_no_graph_is_said_on_the_screen() -> None:
    async with running() as (app, link, pilot):
        link.answers["graph"] = NotConnected("the supervisor does not answer", address="")
        await pilot.press("4")
        await until(pilot, lambda: "the supervisor does not answer" in shown(app).text)


async def test_a_hostile_id_is_shown_plain() -> None:
    federation, told = small(3)
    told["name"] = "ring\x1b[31m"
    async with running(federation) as (app, link, pilot):
        view = await opened(app, link, pilot, told)
        assert "\x1b" not in title_of(view) + view.text


# -- messages -------------------------------------------------------------------------------------


def reading(messages: int) -> dict[str, Any]:
    node = {"sent": messages, "sent_bytes": 8 * messages, "received": messages, "waiting": 3, "latency": 0.01}
    nodes = {
        "peer_0": {**node, "to": {"peer_1": [messages, 8 * messages], "peer_11": [0, 0]}},
        "peer_1": {**node, "to": {"peer_0": [messages, 8 * messages], "peer_2": [0, 0]}},
    }
    totals = {"sent": 2 * messages, "sent_bytes": 16 * messages, "received": 2 * messages, "waiting": 6}
    return {"text": "", "nodes": nodes, "totals": totals, "count": 2}


def test_rates_come_of_two_readings_and_begin_anew_with_the_counts() -> None:
    traffic = Traffic()
    assert not traffic and traffic.total_rate("sent") is None
    traffic.take(reading(100)["nodes"], {"sent": 200}, 10.0)
    assert traffic.rate("peer_0", "sent") is None and traffic.count("peer_0", "waiting") == 3
    traffic.take(reading(150)["nodes"], {"sent": 300}, 12.0)
    assert traffic.rate("peer_0", "sent") == 25.0 and traffic.total_rate("sent") == 50.0
    assert traffic.edge_rate("peer_0", "peer_1") == 25.0 and traffic.edge_rate("peer_0", "peer_11") == 0.0
    assert traffic.edge_rate("peer_9", "peer_0") is None
    traffic.take(reading(10)["nodes"], {"sent": 20}, 14.0)
    assert traffic.rate("peer_0", "sent") is None
    traffic.take(reading(20)["nodes"], {"sent": 40}, 15.0)
    assert traffic.rate("peer_0", "sent") == 10.0
    traffic.rest()
    assert traffic.rate("peer_0", "sent") is None and traffic.count("peer_0", "sent") == 20


async def test_message_rates_are_shown_while_a_session_runs_and_read_no_more_when_it_is_over() -> None:
    federation, told = small()
    clock = Clock()
    async with running(federation, clock=clock) as (app, link, pilot):
        link.answers["traffic"] = reading(100)
        view = await opened(app, link, pilot, told)
        assert link.told("traffic") == []
        federation.session = {"running": True, "nodes": 12, "started": EPOCH, "stopping": False}
        link.changed()
        await until(pilot, lambda: "200 messages, 6 wait" in title_of(view))
        link.answers["traffic"] = reading(150)
        clock.now += 2.0
        await until(pilot, lambda: "300 messages, 50/s, 6 wait" in title_of(view))
        assert "peer_1 25/s, peer_11" in view.text
        dropped = {**reading(150), "totals": {**reading(150)["totals"], "dropped": 1900}}
        link.answers["traffic"] = dropped
        clock.now += 2.0
        await until(pilot, lambda: "6 wait, 1,900 dropped" in title_of(view))
        link.answers["traffic"] = reading(200)
        clock.now += 2.0
        await until(pilot, lambda: "peer_1 25/s, peer_11" in view.text)
        await pilot.press("z")
        assert "25/s" in next(line for line in view.text.splitlines() if line.startswith(" · peer_0"))
        federation.session = {**federation.session, "running": False}
        link.changed()
        await until(pilot, lambda: "/s" not in view.text + title_of(view))
        asked = len(link.told("traffic"))
        clock.now += 10
        await pilot.pause(0.05)
        assert len(link.told("traffic")) == asked and "400 messages" in title_of(view)


async def test_nothing_is_read_of_messages_while_the_grid_is_shown() -> None:
    federation, told = small()
    async with running(federation, size=(80, 24)) as (app, link, pilot):
        await opened(app, link, pilot, told)
        await pilot.press("1")
        federation.session = {"running": True, "nodes": 12, "started": EPOCH, "stopping": False}
        link.changed()
        await until(pilot, lambda: app.mirror.session.running)
        await pilot.pause(0.05)
        assert link.told("traffic") == [] and link.told("detail") == []


def flat(text: str) -> str:
    return " ".join(text.split())


async def test_a_nodes_mailbox_stands_in_its_detail_with_rates() -> None:
    clock, link = Clock(), FakeLink(busy_federation())
    talk = {
        "sent": 10, "sent_bytes": 8000, "received": 1200, "doubles": 1, "dropped": 0, "waiting": 7, "latency": 0.02,
        "to": {"client_001": [10, 8000]},
    }  # fmt: skip
    link.federation.session = {"running": True, "nodes": 3, "started": EPOCH, "stopping": False}
    link.answers["detail"] = {"talk": talk}
    async with running(link=link, clock=clock) as (app, _, pilot):
        await until(pilot, lambda: "7 in its mailbox" in app.detail.text)
        assert "10, 8kB" in app.detail.text and "1 came twice, read once" in app.detail.text
        clock.now += 2
        link.answers["detail"] = {"talk": {**talk, "sent": 30, "to": {"client_001": [30, 24000]}}}
        await until(pilot, lambda: "30, 10/s" in app.detail.text)
        whose = {name: [9, 0, count, 0.0] for name, count in (("client_002", 5), ("client_003", 7), ("client_004", 0))}
        clock.now += 2
        link.answers["detail"] = {"talk": {**talk, "sent": 31, "dropped": 12, "from": whose}}
        await until(pilot, lambda: "12 found no room: 7 of client_003, 5 of client_002" in flat(app.detail.text))
        clock.now += 2
        link.answers["detail"] = {"talk": {**talk, "sent": 50, "to": {"client_001": [30, 24000]}}}
        await pilot.press("enter")
        await until(pilot, lambda: "messages to neighbours" in getattr(app.screen, "body", app.detail).text)
        assert "30 messages" in app.screen.body.text  # type: ignore[attr-defined]
