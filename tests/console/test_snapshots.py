"""How the console looks; `pytest --snapshot-update` takes new pictures, which are to be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from syrupy.assertion import SnapshotAssertion

from red_tui.console.connection.connection import ConnectionPhase
from red_tui.errors import LayoutError, NotConnected
from red_tui.messaging import TopologyRule
from red_tui.nodes.states import NodeState
from tests.console.conftest import Clock, console, until
from tests.console.fake_link import EPOCH, FakeFederation, FakeLink, busy_federation, graph_of
from tests.console.fake_replay import FakeReplay
from tests.console.looks import Before, Text, is_pictured, text_of

Looks = Callable[..., bool]


@pytest.fixture
def looks(snapshot: SnapshotAssertion, snap_compare: Callable[..., bool]) -> Looks:
    """Run an app at a size, bring it to a state, and say whether its screen is as it was."""

    def look(app: Any, size: tuple[int, int], before: Before, *, pictured: bool = False) -> bool:
        if pictured or is_pictured(app, size):
            return snap_compare(app, terminal_size=size, run_before=before)
        return bool(asyncio.run(text_of(app, size, before)) == snapshot.use_extension(Text))

    return look


SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])


def pressing(*keys: str, then: Callable[[Any], Any] = lambda app: True) -> Before:
    async def before(pilot: Any) -> None:
        app = pilot.app
        await until(pilot, lambda: app.grid is not None and app.grid.arrangement is not None)
        await pilot.press(*keys)
        if app.has_class("wide"):
            await until(pilot, lambda: app.link.told("detail"))
        await until(pilot, lambda: getattr(app.controller.views.current, "wants_spread", None) is None)
        await until(pilot, lambda: then(app))
        for _ in range(3):
            await pilot.pause(0.05)

    return before


def million() -> FakeFederation:
    federation = FakeFederation([("client_{i}", 999_000, "train"), ("judge_{i}", 1000, "train-eval")], bundles=9)
    rows = np.arange(1, 2001)
    federation.table.set(rows, state=NodeState.READY, bundle=(np.arange(2000) % 8) + 1)
    federation.table.set(rows[::7], state=NodeState.BUSY)
    federation.table.set(slice(None), since=EPOCH)
    return federation


@SIZES
def test_a_layout_that_cannot_be_used(looks: Looks, size: tuple[int, int]) -> None:
    link = FakeLink()
    link.open_answer = LayoutError(
        "unknown key 'nods' in the layout", file="layouts/mine.yaml", line=7, column=1, field="nods",
        allowed=["nodes", "rounds", "placement"],
    )  # fmt: skip
    app, _ = console(link=link)

    async def before(pilot: Any) -> None:
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)

    assert looks(app, size, before)


def test_no_cluster_answers(looks: Looks) -> None:
    link = FakeLink()
    link.open_answer = NotConnected("10.0.0.9:6379 did not answer within 10 s", address="10.0.0.9:6379")
    app, _ = console(link=link)

    async def before(pilot: Any) -> None:
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)

    assert looks(app, (80, 24), before, pictured=True)


@pytest.mark.parametrize("zoom", ["tiles", "counts"])
def test_zooms(looks: Looks, zoom: str) -> None:
    app, _ = console(busy_federation())
    keys = ["z"] if zoom == "tiles" else ["z", "z"]
    assert looks(app, (120, 36), pressing("home", "down", "right", *keys), pictured=True)


@pytest.mark.parametrize("grouping", ["host", "state"])
def test_groupings(looks: Looks, grouping: str) -> None:
    app, _ = console(busy_federation())
    keys = ["g"] if grouping == "host" else ["g", "g"]
    assert looks(app, (120, 36), pressing(*keys), pictured=True)


@SIZES
def test_a_question(looks: Looks, size: tuple[int, int]) -> None:
    app, _ = console(busy_federation())
    before = pressing(
        "home", "down", "right", "space", "right", "space", "x", then=lambda app: len(app.screen_stack) > 1
    )
    assert looks(app, size, before)


@SIZES
def test_an_error_in_a_filter(looks: Looks, size: tuple[int, int]) -> None:
    app, _ = console(busy_federation())
    before = pressing("slash", *"state:failed state:reddy", then=lambda app: "reddy" in app.footer.message)
    assert looks(app, size, before)


@pytest.mark.parametrize("theme", ["red-safe", "textual-light", "ansi"])
def test_themes(looks: Looks, theme: str) -> None:
    app, _ = console(busy_federation(), theme=theme)
    assert looks(app, (80, 24), pressing("home", "down", "right", "space", "right"), pictured=True)


def long_run() -> FakeFederation:
    """Three hundred rounds, results of every node, and a bundle that no host can take."""
    federation = busy_federation()
    for number in range(14, 300):
        failed = number % 41 == 0
        federation.rounds.append({
            "number": number, "state": "failed" if failed else "done",
            "loss": None if failed else 0.23 * (1 + 0.3 * np.sin(number / 7)) * np.exp(-number / 150),
            "metrics": {"accuracy": 1 - 0.1 * np.exp(-number / 90), "recall": 0.8 + 0.0004 * number},
            "train_loss": 0.2 * np.exp(-number / 100), "seconds": 0.8 + 0.3 * (number % 17 == 0),
            "participants": 60 + number % 9, "failed": int(failed), "ended": EPOCH + number, "evaluated": 16,
        })  # fmt: skip
    chance = np.random.default_rng(0)
    federation.table.set(slice(1, 104), loss=chance.gamma(3, 0.1, 103), seconds=chance.gamma(5, 0.1, 103))
    federation.table.set(slice(None), since=EPOCH)
    federation.bundles[7].update(host="", resources={"lidar": 1.0}, gpu=1)
    federation.hosts[1].update(gpu=2.0, resources={"lidar": 4.0})
    federation.hosts[2].update(alive=False)
    federation.round["number"] = 300
    federation.round["target"] = None
    return federation


@SIZES
@pytest.mark.parametrize("key", ["2", "3", "6"], ids=["rounds", "placement", "nodes"])
@pytest.mark.parametrize("ascii_only", [False, True], ids=["unicode", "ascii"])
def test_lists_of_a_long_run(looks: Looks, size: tuple[int, int], key: str, ascii_only: bool) -> None:
    app, link = console(long_run(), ascii=ascii_only)
    link.answers["explain"] = {"text": "client_052 waits: its host actor is not up yet"}
    assert looks(app, size, pressing(key, "j", "j"))


def test_a_million_nodes_in_ascii(looks: Looks) -> None:
    app, _ = console(million(), ascii=True)
    assert looks(app, (80, 24), pressing("down", "space", "end"), pictured=True)


def test_a_million_nodes_as_glyphs(looks: Looks) -> None:
    app, _ = console(million())
    assert looks(app, (120, 36), pressing("z", "end"), pictured=True)


def talking(rule: TopologyRule, count: int = 12) -> tuple[FakeFederation, dict[str, Any]]:
    """Nodes in every state, and their graph."""
    federation = FakeFederation([("peer_{i}", count, "train")])
    for place, state in enumerate((NodeState.READY, NodeState.BUSY, NodeState.FAILED, NodeState.PENDING)):
        federation.table.set(slice(1 + place, count + 1, 5), state=state, bundle=1 + place)
    federation.table.set(slice(None), since=EPOCH)
    return federation, graph_of(federation, rule)


def topology_shown(app: Any) -> bool:
    return (
        app.controller is not None
        and app.controller.view == "topology"
        and app.controller.views.current.graph is not None
    )


@SIZES
@pytest.mark.parametrize("ascii_only", [False, True], ids=["unicode", "ascii"])
@pytest.mark.parametrize("rule", ["k-connected", "grid", "star"])
def test_a_topology_drawn(looks: Looks, size: tuple[int, int], ascii_only: bool, rule: str) -> None:
    federation, told = talking(TopologyRule(rule, k=4 if rule == "k-connected" else None))
    app, link = console(federation, ascii=ascii_only)
    link.answers["graph"] = told
    assert looks(app, size, pressing("4", "right", "space", "down", then=topology_shown))


@SIZES
def test_a_topology_listed_with_rates(looks: Looks, size: tuple[int, int]) -> None:
    federation, told = talking(TopologyRule("small-world", k=4, seed=2), 200)
    federation.session = {"running": True, "nodes": 200, "started": EPOCH, "stopping": False}
    clock = Clock()
    app, link = console(federation, clock=clock)
    link.answers["graph"] = told

    def reading(times: int) -> dict[str, Any]:
        counts = {
            f"peer_{place}": {
                "sent": times * place,
                "received": times * (200 - place),
                "waiting": place % 3,
                "to": {f"peer_{(place + 1) % 200}": [times * place, 8]},
            }
            for place in range(200)
        }
        return {"nodes": counts, "totals": {"sent": 19_900 * times, "waiting": 199}}  # fmt: skip

    link.answers["traffic"] = reading(10)

    def counted(app: Any) -> bool:
        return topology_shown(app) and bool(app.controller.views.current.traffic)

    async def before(pilot: Any) -> None:
        await pressing("4", "j", "j", then=counted)(pilot)
        link.answers["traffic"] = reading(12)
        clock.now += 2
        await until(pilot, lambda: "/s" in app.controller.views.current.text)  # type: ignore[union-attr]
        federation.session = {**federation.session, "running": False}
        await pilot.pause(0.05)

    assert looks(app, size, before)


@SIZES
def test_a_topology_of_a_million_nodes(looks: Looks, size: tuple[int, int]) -> None:
    federation = million()
    app, link = console(federation)
    link.answers["graph"] = graph_of(federation)
    assert looks(app, size, pressing("4", then=topology_shown))


@SIZES
def test_a_topology_of_nobody(looks: Looks, size: tuple[int, int]) -> None:
    federation = FakeFederation([("peer_{i}", 1, "train")])
    federation.table.set(1, state=NodeState.REMOVED)
    federation.table.set(slice(None), since=EPOCH)
    app, link = console(federation)
    link.answers["graph"] = graph_of(federation, TopologyRule("ring"))

    async def before(pilot: Any) -> None:
        await until(pilot, lambda: app.grid is not None and app.grid.arrangement is not None)
        await pilot.press("4")
        await until(pilot, lambda: topology_shown(app))
        await pilot.pause(0.05)

    assert looks(app, size, before)


@SIZES
@pytest.mark.parametrize("ascii_only", [False, True], ids=["unicode", "ascii"])
def test_a_replay_that_plays(looks: Looks, size: tuple[int, int], ascii_only: bool) -> None:
    app, _ = console(FakeReplay(), replay="journal.db", read_only=True, ascii=ascii_only)
    assert looks(app, size, pressing("home", "down", "right"))


@SIZES
def test_a_replay_at_the_end_of_its_rounds(looks: Looks, size: tuple[int, int]) -> None:
    replay = FakeReplay(state="following", position=1204, event=1204, moment=EPOCH + 1000, round=13, rounds=13)
    app, _ = console(replay, replay="journal.db", read_only=True)
    assert looks(app, size, pressing("2", "j"))


@SIZES
def test_the_help_of_a_replay(looks: Looks, size: tuple[int, int]) -> None:
    app, _ = console(FakeReplay(state="paused", speed=None), replay="journal.db", read_only=True)
    before = pressing("question_mark", then=lambda app: len(app.screen_stack) > 1)
    assert looks(app, size, before)
