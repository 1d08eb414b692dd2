"""A walk through every screen of a running console: what has to hold on each of them is tested on this way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from red_tui.console.connection.connection import ConnectionPhase
from red_tui.messaging import TopologyRule
from tests.console.conftest import until
from tests.console.fake_link import FakeFederation, FakeLink, graph_of

SCREENS = ("1", "2", "3", "4", "5", "6")
"""Keys of the screens, as the help tells them."""


NO_ROOM = "no free bundle: 7 of 7 are in use; release nodes, or build in waves"


def plan_of(asked: dict[str, Any]) -> dict[str, Any]:
    """What a federation answers that is asked for a plan: there is room for the first six nodes."""
    ids = [str(node_id) for node_id in asked.get("ids") or ()]
    return {
        "text": "", "reserves": False, "processes": len(ids[:6]), "seconds": 9.3,
        "placed": [[node_id, 1 + place % 7, "head"] for place, node_id in enumerate(ids[:6])],
        "left_out": [[node_id, NO_ROOM] for node_id in ids[6:]],
    }  # fmt: skip


def told_all(link: FakeLink, rule: TopologyRule | None = None) -> FakeLink:
    """A link that answers all that the screens of the tour ask for."""
    link.answers.setdefault("plan", plan_of)
    link.answers.setdefault("graph", graph_of(link.federation, rule or TopologyRule("k-connected", k=4)))
    link.answers.setdefault("explain", {"text": "client_052 waits: its host actor is not up yet"})
    link.federation.session = {**link.federation.session}
    return link


async def tour(app: Any, link: FakeLink, pilot: Any) -> AsyncIterator[str]:
    """Stand on each screen in turn, with its name; `told_all` is to have prepared the link."""

    async def press(*keys: str) -> None:
        await pilot.press(*keys)
        await pilot.pause()

    async def opened(*keys: str) -> None:
        await press(*keys)
        await until(pilot, lambda: len(app.screen_stack) > 1 or app.footer.message)
        assert len(app.screen_stack) > 1, f"{keys} only said: {app.footer.message}"
        await until(pilot, lambda: app.screen.body.text or app.mistakes)
        assert not app.mistakes, app.mistakes

    async def typed(key: str, text: str) -> None:
        """Type a text, all but its last sign at once: a key at a time costs a test seconds."""
        await press(key)
        app.focused.value = text[:-1]
        app.focused.cursor_position = len(text) - 1
        await press(text[-1])

    async def closed() -> None:
        await press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)

    writes = not app.actions.read_only
    await press("home", "down", "right", "space", "right", "space", "right")
    yield "grid"
    for zoom in ("tiles", "counts"):
        app.do("zoom", {"value": zoom})
        await pilot.pause()
        yield f"grid {zoom}"
    app.do("zoom", {"value": "glyphs"})
    for grouping in ("host", "state"):
        app.do("group", {"value": grouping})
        await pilot.pause()
        yield f"grid by {grouping}"
    app.do("group", {"value": "bundle"})
    for level in ("info", "good", "warn", "error"):
        app.say(f"a word that is {level}", level)
        await pilot.pause()
        yield f"a word: {level}"
    app.say("")
    view = app.controller.views
    for key, name in zip(SCREENS[1:], ("rounds", "placement", "topology", "events", "nodes"), strict=True):
        await press(key)
        await until(pilot, lambda: getattr(view.current, "wants_spread", None) is None)
        if name == "topology":
            await until(pilot, lambda: view.current.graph is not None)
        await press("j", "space")
        yield name
        if name == "topology":
            await press("z")
            yield "topology in its other form"
    await press("1")
    await opened("question_mark")
    yield "help"
    await closed()
    await opened("ctrl+p")
    await press("down")
    yield "palette"
    await closed()
    await opened("enter")
    await until(pilot, lambda: "log" in app.screen.body.text)
    yield "node detail"
    await closed()
    await typed("slash", "state:failed")
    yield "filter"
    await typed("end", "state:failed state:reddy")
    await until(pilot, lambda: "reddy" in app.footer.message)
    yield "an error in a filter"
    await press("escape")
    await typed("colon", "theme r")
    yield "command line"
    await press("escape")
    if writes:
        app.grid.clear_marks()
        for name, key in (("wave planner", "W"), ("build plan", "B"), ("run rounds", "R"), ("next rounds", "P"),
                          ("release", "x"), ("remove", "D"), ("stop", "s")):  # fmt: skip
            if name == "build plan":
                await press("end")
            if name in ("run rounds", "next rounds"):
                link.federation.round = {**link.federation.round, "phase": "idle", "of": 0, "done": 0, "target": None}
                link.changed()
                await until(pilot, lambda: not app.mirror.round.running)
            if name == "release":
                await press("home", "down")
            if name == "stop":
                link.federation.session = {"running": True, "nodes": 7, "started": 0.0, "stopping": False}
                link.changed()
                await until(pilot, lambda: app.mirror.session.running)
            await opened(key)
            yield name
            await closed()
    link.die()
    await until(pilot, lambda: app.connection.phase is ConnectionPhase.LOST)
    yield "disconnected"


def drawn(app: Any) -> list[Any]:
    """What the screen shows, as strips."""
    strips: list[Any] = app.screen._compositor.render_strips()
    return strips


def federation_for_tour() -> FakeFederation:
    """Every state, marks, a lost host and rounds that failed: what the screens have colours for."""
    from tests.console.test_snapshots import long_run

    return long_run()
