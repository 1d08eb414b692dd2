from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from red_tui.console.connection.connection import TICK, WATCH_SECONDS, ConnectionPhase, ConsoleConnection
from red_tui.console.connection.link_process import LinkStatus
from red_tui.console.connection.mirror import Changes, FederationMirror
from red_tui.errors import LayoutError, NotConnected, RedError
from red_tui.nodes.states import NodeState
from tests.console.fake_link import FakeLink, busy_federation


class Listener:
    def __init__(self) -> None:
        self.phases: list[ConnectionPhase] = []
        self.errors: list[RedError | None] = []
        self.choices: list[Mapping[str, Any]] = []
        self.changes: list[Changes] = []

    def connection_phase(self, phase: ConnectionPhase, error: RedError | None) -> None:
        self.phases.append(phase)
        self.errors.append(error)

    def connection_choose(self, choices: Mapping[str, Any]) -> None:
        self.choices.append(choices)

    def connection_changed(self, changes: Changes) -> None:
        self.changes.append(changes)

    async def connection_drained(self) -> None:
        return


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(240):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def session(link: FakeLink) -> AsyncIterator[tuple[ConsoleConnection, Listener, list[float]]]:
    listener, pauses = Listener(), []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0.001)

    made = ConsoleConnection(link, {"layout": "a.yaml"}, listener, FederationMirror, lambda: 1.0, pause)
    link.start(lambda message: made.link_status(message) if isinstance(message, LinkStatus) else None)
    task = asyncio.ensure_future(made.run())
    try:
        yield made, listener, pauses
    finally:
        task.cancel()


async def test_it_opens_then_watches() -> None:
    link = FakeLink(busy_federation())
    async with session(link) as (made, listener, _):
        await until(lambda: made.phase is ConnectionPhase.LIVE)
        assert link.opens[0]["layout"] == "a.yaml"
        await until(lambda: listener.changes)
        assert listener.changes[0].full


async def test_the_next_watch_waits_a_tick_after_each_change() -> None:
    link = FakeLink(busy_federation())
    async with session(link) as (_, listener, pauses):
        await until(lambda: len(listener.changes) == 1)
        for count in range(2, 5):
            link.federation.set("client_000", NodeState.BUSY)
            link.changed()
            await until(lambda count=count: len(listener.changes) == count)
        assert pauses.count(TICK) >= 3
        assert link.watches <= len(pauses) + 1


async def test_an_answer_without_changes_is_not_told() -> None:
    link = FakeLink(busy_federation())
    async with session(link) as (_, listener, _):
        await until(lambda: listener.changes)
        watches = link.watches
        link.changed()
        await until(lambda: link.watches > watches + 1 or link.watches > watches)
        await until(lambda: link.change.is_set() is False)
        assert len(listener.changes) == 1


async def test_a_failed_open_waits_for_the_operator() -> None:
    link = FakeLink(busy_federation())
    link.open_answer = LayoutError("unknown key", file="a.yaml", line=3)
    async with session(link) as (made, listener, _):
        await until(lambda: made.phase is ConnectionPhase.FAILED)
        assert len(link.opens) == 1 and isinstance(listener.errors[-1], LayoutError)
        link.open_answer = {"federation": "digits", "address": "x", "embedded": False, "created": True}
        made.retry()
        await until(lambda: made.phase is ConnectionPhase.LIVE)


async def test_what_the_operator_chose_is_opened() -> None:
    link = FakeLink(busy_federation())
    opened = {"federation": "digits", "address": "x", "embedded": False, "created": False}
    link.open_answer = [{"choose": {"federations": [{"id": "digits"}], "layouts": []}}, opened]
    async with session(link) as (made, listener, _):
        await until(lambda: listener.choices)
        assert made.phase is ConnectionPhase.CHOOSING
        made.choose(federation="digits")
        await until(lambda: made.phase is ConnectionPhase.LIVE)
        assert link.opens[1]["federation"] == "digits"


async def test_a_lost_cluster_is_watched_for_ever_with_longer_pauses() -> None:
    link = FakeLink(busy_federation())
    async with session(link) as (made, listener, pauses):
        await until(lambda: made.phase is ConnectionPhase.LIVE)
        link.watch_error = NotConnected("the supervisor does not answer")
        link.changed()
        await until(lambda: pauses.count(20.0) > 3)
        assert made.phase is ConnectionPhase.LOST
        assert [seconds for seconds in pauses if seconds != TICK][:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0]
        link.watch_error = None
        await until(lambda: made.phase is ConnectionPhase.LIVE)
        assert listener.phases[-1] is ConnectionPhase.LIVE


async def test_a_link_that_dies_is_replaced_and_the_same_federation_is_opened() -> None:
    link = FakeLink(busy_federation())
    async with session(link) as (made, listener, _):
        await until(lambda: made.phase is ConnectionPhase.LIVE)
        link.die()
        await until(lambda: made.phase is ConnectionPhase.LOST)
        link.federation.set("client_000", NodeState.FAILED)
        link.rise()
        await until(lambda: made.phase is ConnectionPhase.LIVE)
        assert link.opens[-1]["federation"] == "digits" and link.opens[-1]["layout"] is None
        await until(lambda: listener.changes[-1].full and len(listener.changes) > 1)
        assert made.mirror is not None
        row = made.mirror.table.row_of("client_000")
        assert row is not None and made.mirror.table.state_of(row) is NodeState.FAILED


async def test_an_update_that_does_not_fit_is_followed_by_a_full_one() -> None:
    link = FakeLink(busy_federation())
    async with session(link) as (made, listener, _):
        await until(lambda: listener.changes)
        real = link.federation.delta

        def broken(cursor: Any) -> dict[str, Any]:
            link.federation.delta = real  # type: ignore[method-assign]
            return {"table": {"rows": b"x"}}

        link.federation.delta = broken  # type: ignore[method-assign]
        link.changed()
        await until(lambda: len(listener.changes) > 1)
        assert listener.changes[-1].full and made.phase is ConnectionPhase.LIVE


async def test_a_command_carries_an_id_and_who_gave_it() -> None:
    asked: list[dict[str, Any]] = []

    class Recording(FakeLink):
        async def call(self, verb: str, args: dict[str, Any], timeout: float | None) -> Any:
            asked.append(args)
            return await super().call(verb, args, timeout)

    link = Recording(busy_federation())
    async with session(link) as (made, _, _):
        await until(lambda: made.phase is ConnectionPhase.LIVE)
        await made.command("build", {"ids": ["client_000"]})
        await made.command("build", {"ids": ["client_000"]})
        first, second = [args for args in asked if "command_id" in args]
        assert first["command_id"] != second["command_id"] and "@" in first["who"]
        assert WATCH_SECONDS > 0
