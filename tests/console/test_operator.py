"""Moments in which an operator would be in doubt."""

from __future__ import annotations

import pytest

from red_tui.console.app import RedConsole
from red_tui.console.config.themes import UNICODE
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.connection.mirror import Building, follow
from red_tui.console.dialogs.dialogs import Ask, Reader
from red_tui.console.widgets.events_panel import event_line
from red_tui.console.widgets.header import Piece, chosen_of
from red_tui.errors import NotConnected
from red_tui.nodes.states import NodeState
from red_tui.protocol.events import Event, EventSummary
from red_tui.protocol.snapshot import RoundProgress
from tests.console.conftest import Clock, Pilots, console, running, title_of, until
from tests.console.fake_link import EPOCH, FakeFederation, FakeLink, busy_federation


async def test_a_word_makes_room_for_the_keys_by_itself_and_an_error_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("red_tui.console.widgets.footer.PASSING", 0.05)
    async with running() as (app, _, pilot):
        app.say("building 3 nodes", "good")
        assert app.footer.message == "building 3 nodes"
        await until(pilot, lambda: not app.footer.message)
        app.say("no free bundle", "error")
        await pilot.pause(0.15)
        assert app.footer.message == "no free bundle"


async def test_hints_stay_while_one_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("red_tui.console.widgets.footer.PASSING", 0.05)
    async with running() as (app, _, pilot):
        await pilot.press("colon")
        await pilot.pause(0.15)
        assert "tab completes" in app.footer.message


async def test_a_key_without_a_meaning_is_answered() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("Z")
        assert app.footer.message == "Z does nothing here; ? tells the keys"
        await pilot.press("j")
        assert not app.footer.message


async def test_a_key_that_read_only_takes_away_says_why() -> None:
    async with running(read_only=True) as (app, _, pilot):
        await pilot.press("x")
        assert app.footer.message == "this console is read-only: no release"


async def test_the_cursor_begins_on_a_client() -> None:
    async with running(FakeFederation()) as (app, _, _pilot):
        assert app.grid is not None and app.grid.cursor_id == "client_000"


async def test_the_grid_tells_what_it_is_filtered_by() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"state:failed", "enter")
        await pilot.pause()
        assert app.grid is not None and "by state:failed" in title_of(app.grid)


@pytest.mark.parametrize(("state", "sign"), [("done", "●"), ("failed", "✗"), ("busy", "▶")])
def test_rounds_have_a_sign_in_the_events(state: str, sign: str) -> None:
    line = event_line(EventSummary(1, EPOCH, "round", "info", "round 3", "loss 0.2", state), UNICODE, 10)
    assert line[1][0].startswith(sign)


async def test_older_events_come_from_the_journal_at_the_end_of_the_list() -> None:
    federation = FakeFederation()
    for number in range(300):
        federation.event("client_000", f"event {number}")
    link = FakeLink(federation)
    link.answers["events"] = {"events": federation.events[:100]}
    async with running(link=link) as (app, _, pilot):
        await pilot.press("5")
        await pilot.pause()
        assert "older ones at the end" in title_of(app.query_one("#view-events"))
        await pilot.press("end")
        await until(pilot, lambda: len(app.mirror.events) == 300)
        assert link.told("events") == [{"before": federation.events[100][0], "limit": 200}]
        await until(pilot, lambda: "older" not in title_of(app.query_one("#view-events")))
        assert [event.seq for event in app.mirror.events] == [Event.from_wire(wire).seq for wire in federation.events]


async def test_enter_shows_the_whole_of_an_event() -> None:
    federation = FakeFederation()
    federation.event("client_000", "a long story " * 30 + "with an end")
    async with running(federation, size=(80, 24)) as (app, _, pilot):
        await pilot.press("5", "enter")
        await until(pilot, lambda: isinstance(app.screen, Reader) and "with an end" in app.screen.body.text)


def test_a_build_tells_its_rate_and_the_time_left_and_neither_when_it_stalls() -> None:
    building = follow(None, 8, 10.0)
    assert building == Building(8, 8, 10.0, 10.0)
    building = follow(building, 4, 12.0)
    assert building is not None and building.done == 4
    assert building.rate(12.0) == pytest.approx(2.0) and building.seconds_left(12.0) == pytest.approx(2.0)
    assert building.seconds_left(13.0) == pytest.approx(1.0)
    assert building.rate(60.0) is None
    grown = follow(building, 6, 13.0)
    assert grown is not None and (grown.total, grown.left, grown.done) == (10, 6, 4)
    assert follow(grown, 0, 14.0) is None


async def test_the_header_shows_how_far_a_build_is() -> None:
    federation, clock = FakeFederation(bundles=8), Clock()
    nodes = [f"client_{number:03d}" for number in range(4)]
    async with running(federation, clock=clock) as (app, link, pilot):
        for node in nodes:
            federation.set(node, NodeState.STARTING, bundle=1)
        link.changed()
        await until(pilot, lambda: "building 0/4" in app.header.render().plain)
        clock.now += 2
        for node in nodes[:2]:
            federation.set(node, NodeState.READY)
        link.changed()
        await until(pilot, lambda: "building 2/4" in app.header.render().plain)
        assert "1/s 2 s left" in app.header.render().plain
        for node in nodes[2:]:
            federation.set(node, NodeState.READY)
        link.changed()
        await until(pilot, lambda: "building" not in app.header.render().plain)


def test_the_progress_of_a_round_never_goes_back() -> None:
    steps = [
        ("choose", 0, 0),
        ("fit", 0, 8),
        ("fit", 8, 8),
        ("aggregate", 0, 0),
        ("evaluate", 0, 2),
        ("evaluate", 2, 2),
    ]
    shares = [RoundProgress(number=1, phase=phase, done=done, of=of).share for phase, done, of in steps]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0


def test_a_joined_piece_is_never_shown_without_what_it_belongs_to() -> None:
    pieces = [Piece((("a" * 30, ""),), 5), Piece((("b", ""),), 1, joined=True), Piece((("c" * 5, ""),), 2)]
    assert chosen_of(pieces, 20) == {2}
    assert chosen_of(pieces, 60) == {0, 2}


async def test_leaving_names_what_would_end_and_keeps_it_by_default() -> None:
    link = FakeLink(busy_federation())
    link.open_answer = {"federation": "digits", "address": "x", "embedded": True, "created": True}
    async with running(link=link) as (app, _, pilot):
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        assert isinstance(app.screen, Ask)
        assert "ends with digits" in app.screen.body.text and app.screen.focused_choice == 0
        await pilot.press("enter")
        await until(pilot, lambda: link.leaves == [False])
    assert app.last_word == "digits goes on; `red-console digits` opens it again"


async def test_a_cluster_that_stays_away_is_looked_for_by_another_link() -> None:
    async with running() as (app, link, pilot):
        link.watch_error = NotConnected("the supervisor does not answer")
        link.changed()
        await until(pilot, lambda: link.restarts >= 1)
        assert app.connection.phase is ConnectionPhase.LOST and "does not answer" in app.banner.text
        link.watch_error = None
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.LIVE)
        assert link.opens[-1]["federation"] == "digits"


async def test_another_cluster_is_not_taken_for_the_lost_one() -> None:
    async with running() as (app, link, pilot):
        link.open_answer = {"federation": "digits", "address": "elsewhere:1", "embedded": True, "created": False}
        link.die()
        link.rise()
        await until(pilot, lambda: "another cluster answers" in app.banner.text)
        assert app.connection.phase is ConnectionPhase.LOST


async def test_a_federation_that_is_not_there_is_not_called_a_silent_cluster() -> None:
    app, link = _failing()
    async with app.run_test(size=(80, 24)) as pilot:
        await _failed(app, pilot)
        assert "the cluster answers, the federation does not" in app.notice.text
        assert link.opens


async def test_a_terminal_that_shrinks_is_fitted_at_once() -> None:
    async with running(size=(120, 36)) as (app, _, pilot):
        assert app.detail.display
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert not app.has_class("wide") and app.has_class("low")
        await pilot.resize_terminal(200, 50)
        await pilot.pause()
        assert app.has_class("very-wide") and not app.has_class("low")


def _failing() -> tuple[RedConsole, FakeLink]:
    link = FakeLink(busy_federation())
    link.open_answer = NotConnected("no federation 'nosuch' runs on this cluster", address="")
    app, _ = console(link=link)
    app.notice.step("connect", "connecting", "done", 0.1)
    app.notice.begin = lambda: None  # type: ignore[method-assign]
    return app, link


async def _failed(app: RedConsole, pilot: Pilots) -> None:
    await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)
    await pilot.pause()


async def test_why_asks_the_federation_and_shows_its_answer() -> None:
    async with running() as (app, link, pilot):
        link.answers["explain"] = {"text": "short", "table": "is ready in bundle 2\nasks 1 CPU\n  head: has 4 CPU"}
        await pilot.press("colon", *"why client_001", "enter")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        assert link.told("explain") == [{"id": "client_001"}]
        assert app.screen.body.text.splitlines() == ["is ready in bundle 2", "asks 1 CPU", "  head: has 4 CPU"]  # type: ignore[attr-defined]
        await pilot.press("escape", "e")
        await until(pilot, lambda: len(link.told("explain")) == 2)
        await pilot.press("escape", "colon", *"explain nobody", "enter")
        assert app.footer.message == "there is no node 'nobody'"


@pytest.mark.parametrize(("isolation", "words"), [("process", "Its process ends"), ("bundle", "It leaves its host")])
async def test_the_question_of_a_release_says_what_ends(isolation: str, words: str) -> None:
    async with running() as (app, _, pilot):
        app.mirror.federation = {**app.mirror.federation, "isolation": isolation}
        app.controller.set_filter("id:client_001")  # type: ignore[union-attr]
        await pilot.press("x")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        assert words in app.screen.body.text  # type: ignore[attr-defined]


async def test_a_server_is_no_role_to_add() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("plus")
        await until(pilot, lambda: "train" in app.footer.message)
        assert "server" not in app.footer.message
