"""Sessions: nodes run their own `train` at the same time and talk with their neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from red_tui.errors import CommandRefused, NothingToDo, SessionError
from red_tui.federation.lifecycle.bundle_nodes import is_death
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.node_set import handle_of
from red_tui.federation.node_messages import NeighborUpdates, OutsideMessages, counted, named
from red_tui.federation.rounds.bundle_phase import cause_of, fail_node, set_idle
from red_tui.federation.rounds.hierarchical import aggregators_above
from red_tui.nodes.failures import Cause, cause_of_death, first_sentence
from red_tui.nodes.ids import SERVER_ID
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray
from red_tui.nodes.template import FederatedNode
from red_tui.rounds.ray_calls import answer_of
from red_tui.runtime.bundle_handle import BundleProcess

Arguments = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""One dict for all, a list with one a node, or a dict of dicts by id."""


def arguments_of(ids: Sequence[str], given: Arguments, further: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each node's arguments from one dict for all, a list with one a node, or a dict by id.

    A dict by id may name those in `further` too, which are told apart from these.

    Raises:
        SessionError: If a list has another length, or an id is unknown.
    """
    if not isinstance(given, Mapping):
        if len(given) != len(ids):
            raise SessionError(
                f"client_args has {len(given)} entries for {len(ids)} nodes: give one for each", failed={}
            )
        return [dict(one) for one in given]
    if given and all(isinstance(value, Mapping) for value in given.values()) and any(key in ids for key in given):
        unknown = [key for key in given if key not in ids and key not in further and key != SERVER_ID]
        if unknown:
            raise SessionError(f"client_args names {unknown[0]!r}, which takes no part in the session", failed={})
        return [dict(given.get(node_id, {})) for node_id in ids]
    return [dict(given) for _ in ids]


def arguments_inside(ids: Sequence[str], given: Arguments, server: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arguments of a hierarchy's aggregators: what `client_args` says under their id, else what the server is told."""
    by_id = given if isinstance(given, Mapping) else {}
    told = (by_id.get(node_id) for node_id in ids)
    return [dict(own) if isinstance(own, Mapping) else dict(server) for own in told]


STOP_TIMEOUT = 10.0
"""Seconds that a node has to come back from `train` once STOP has reached it."""


@dataclass(frozen=True)
class SessionResult:
    """The result of a session.

    Attributes:
        results: What each node's `train` returned, by id.
        failures: Why other nodes gave nothing, by id.
        seconds: Wall time.
        stopped: Whether it was told to stop.
    """

    results: Mapping[str, Any]
    failures: Mapping[str, str]
    seconds: float
    stopped: bool = False


@dataclass
class _Course:
    """A session under way."""

    rows: IntArray
    arguments: Mapping[int, Mapping[str, Any]]
    results: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    stopping: bool = False
    dropped: dict[str, Mapping[str, int]] = field(default_factory=dict)
    """What nodes dropped because their mailboxes were full, by sender."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def missing(self) -> list[int]:
        """Rows that have not come back."""
        return [row for row in self.rows.tolist() if row not in self.results and row not in self.failures]


class Sessions:
    """Runs one session at a time; all on the engine's thread."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle, self._state = lifecycle, lifecycle.state
        self._outside = OutsideMessages(lifecycle.state)
        self._neighbors = NeighborUpdates(lifecycle)
        self._task: asyncio.Task[SessionResult] | None = None
        self._course: _Course | None = None
        lifecycle.directory.heard = self._heard_of_drops

    @property
    def running(self) -> bool:
        """Whether a session is under way."""
        return self._task is not None and not self._task.done()

    def start(
        self, rows: IntArray, server_args: Mapping[str, Any], client_args: Arguments
    ) -> asyncio.Task[SessionResult]:
        """Begin a session in the background.

        Raises:
            CommandRefused: If one runs already, or nobody can take part.
            SessionError: If the arguments do not fit the nodes.
        """
        if self.running:
            raise CommandRefused("a session runs already: stop it first (stop)")
        state = self._state
        if len(rows) == 0:
            raise CommandRefused("no node can take part in a session: none has the role train and is idle")
        inner = aggregators_above(state, rows)
        inner = inner[[self._lifecycle.template(row).train is not FederatedNode.train for row in inner.tolist()]]
        names = state.table.ids.take(inner)
        arguments = arguments_of(state.table.ids.take(rows), client_args, names)
        by_row = dict(zip(rows.tolist(), arguments, strict=True))
        by_row.update(zip(inner.tolist(), arguments_inside(names, client_args, server_args), strict=True))
        rows = np.concatenate([inner, rows])
        server, template = state.server_row, state.groups[0].template
        if template.train is not FederatedNode.train:
            rows = np.concatenate([np.asarray([server]), rows])
            by_row[server] = dict(server_args)
        elif server_args and not len(inner):
            raise SessionError(
                f"the server's template {template.__name__} has no train, so it takes no server_args", failed={}
            )
        self._task = self._lifecycle.spawn(self._run(rows, by_row))
        return self._task

    async def _run(self, rows: IntArray, arguments: Mapping[int, Mapping[str, Any]]) -> SessionResult:
        state, started = self._state, time.perf_counter()
        await self._build(rows)
        self._neighbors.begins()
        await self._neighbors.link(rows)
        course = self._course = _Course(rows, arguments)
        state.set_state(rows, NodeState.BUSY)
        state.record("federation", "info", "session", f"begins with {len(rows)} nodes", data={"session": len(rows)})
        watching = self._lifecycle.spawn(self._neighbors.watch(course.missing))
        try:
            await asyncio.gather(*self._begin(course, rows.tolist()))
        finally:
            watching.cancel()
            await self._neighbors.all_told()
            set_idle(self._lifecycle, rows)
            self._course = None
        names = state.table.ids
        failures = {names[row]: why for row, why in course.failures.items()}
        results = {names[row]: value for row, value in course.results.items()}
        seconds = time.perf_counter() - started
        text = f"ends after {seconds:.1f} s, {len(results)} nodes came back" + (
            f", {len(failures)} failed ({next(iter(failures))}: {first_sentence(next(iter(failures.values())), 120)})"
            if failures
            else ""
        )
        state.record("federation", "warn" if failures else "good", "session", text, data={"session": 0})
        self._tell_drops(course)
        return SessionResult(results, failures, seconds, course.stopping)

    async def _build(self, rows: IntArray) -> None:
        """All nodes of a session live at the same time."""
        turn = await self._lifecycle.next_turn(rows, self._state.settings.build_timeout)
        missing = rows[~np.isin(rows, turn.rows)]
        if len(missing):
            names = self._state.table.ids
            why = {names[row]: turn.missing.get(row, "no bundle is free for it") for row in missing.tolist()}
            first = next(iter(why))
            raise SessionError(
                f"{len(missing)} of {len(rows)} nodes could not be built, and a session needs all at once: {first}:"
                f" {why[first]}",
                failed=why,
            )

    async def relink(self) -> None:
        """The topology has changed: a session that runs learns of it."""
        if self._course is not None:
            await self._neighbors.link(np.asarray(self._course.missing(), dtype=np.int64))

    # -- from outside ----------------------------------------------------------------------------

    async def send(self, header: str, body: Any, rows: IntArray, named: bool) -> int:
        """Send from outside to nodes that are built, in a session or without one; gives to how many it went.

        Raises:
            MessageError: If a node that was named is not built, or one does not take it.
        """
        return await self._outside.send(header, body, rows, named)

    async def pull(self, rows: IntArray, timeout: float) -> dict[str, Any]:
        """The version that each node published last; waits until it has published one.

        Raises:
            SessionError: If a node is not built or publishes none within `timeout` seconds.
        """
        return await self._outside.pull(rows, timeout, lambda: self.running)

    async def test(self, rows: IntArray, phase: str, arguments: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Value and weight of each node's `test`.

        Raises:
            SessionError: If nodes could not be built, or failed.
        """
        await self._build(rows)
        return await self._outside.test(rows, phase, arguments)

    # -- at work ---------------------------------------------------------------------------------

    def _begin(self, course: _Course, rows: Sequence[int]) -> list[Any]:
        state, arguments = self._state, course.arguments
        calls: list[Any] = []
        inside: dict[int, list[int]] = {}
        for row in rows:
            process = state.processes.get(row)
            if process is not None:
                calls.append(self._one(course, row, process.handle.red_train.remote(arguments[row])))
            else:
                inside.setdefault(state.table.value("bundle", row), []).append(row)
        for bundle, hosted in inside.items():
            told = {row: arguments[row] for row in hosted}
            host = state.bundle_actors[bundle]
            stream = host.handle.train.remote(np.asarray(hosted, dtype=np.int64), told)
            calls.append(self._host(course, hosted, host, stream))
        return calls

    async def _one(self, course: _Course, row: int, call: Any) -> None:
        try:
            report = await self._unless_given_up(course, row, answer_of(call, None))
        except Exception as error:
            cause = cause_of(self._state, row, error)
            fail_node(self._lifecycle, row, cause)
            await self._died(course, [row], cause, dead=is_death(error))
            return
        if report is not None:
            self._came(course, row, report)

    async def _unless_given_up(self, course: _Course, row: int, answer: Any) -> Any:
        """What a node answers, or None once it was given up."""
        waiting = asyncio.ensure_future(answer)
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        while True:
            changed = asyncio.ensure_future(course.changed.wait())
            await asyncio.wait([waiting, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if waiting.done():
                return waiting.result()
            course.changed.clear()
            if row in course.failures:
                waiting.cancel()
                return None

    async def _host(self, course: _Course, rows: Sequence[int], host: BundleProcess, stream: Any) -> None:
        reading = self._lifecycle.spawn(self._read(course, rows, host, stream))
        while not reading.done() and any(row in course.missing() for row in rows):
            changed = asyncio.ensure_future(course.changed.wait())
            await asyncio.wait([reading, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            course.changed.clear()
        reading.cancel()

    async def _read(self, course: _Course, rows: Sequence[int], host: BundleProcess, stream: Any) -> None:
        try:
            async for reference in stream:
                row, report = await reference
                self._came(course, row, report)
        except Exception as error:
            cause = host.ended or cause_of_death(error)
            lost = [row for row in course.missing() if row in rows]
            if is_death(error):
                self._lifecycle.bundle_actor_died(host, cause)
            await self._died(course, lost, cause, dead=is_death(error))

    async def _died(self, course: _Course, rows: Sequence[int], cause: Cause, *, dead: bool) -> None:
        """Processes ended in the middle of the session: their nodes take part again once they are rebuilt."""
        back = await self._back(course, rows) if dead else []
        for row in rows:
            if row not in back:
                self._came(course, row, {"error": cause.text})
        # The others learn of the new processes, or that there will be none.
        await self._neighbors.link_again(course.missing())
        await asyncio.gather(*self._begin(course, back))

    async def _back(self, course: _Course, rows: Sequence[int]) -> list[int]:
        """Those of some rows that are rebuilt and at work again."""
        if course.stopping or not self._lifecycle.healing:
            return []
        names = ", ".join(self._state.table.ids[row] for row in rows[:4])
        text = f"died in the session: waits for {'them' if len(rows) > 1 else 'it'} to be rebuilt"
        self._state.record("federation", "warn", names, text)
        healed = self._lifecycle.spawn(self._lifecycle.healed(self._state.settings.build_timeout))
        while not healed.done() and not course.stopping:
            changed = asyncio.ensure_future(course.changed.wait())
            await asyncio.wait([healed, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            course.changed.clear()
        if course.stopping:
            healed.cancel()
            return []
        table = self._state.table
        back = [row for row in rows if row not in course.failures and table.state_of(row) is NodeState.READY]
        self._state.set_state(np.asarray(back, dtype=np.int64), NodeState.BUSY)
        return back

    def _came(self, course: _Course, row: int, report: Mapping[str, Any]) -> None:
        if row in course.results or row in course.failures:
            return
        if report.get("dropped"):
            course.dropped[self._state.table.ids[row]] = report["dropped"]
        if "error" in report:
            course.failures[row] = str(report["error"])
            if "traceback" in report:
                fail_node(self._lifecycle, row, Cause(f"train raised {report['error']}", report["traceback"]))
        else:
            course.results[row] = report["result"]
            set_idle(self._lifecycle, np.asarray([row]))
        course.changed.set()

    # -- dropped messages ------------------------------------------------------------------------

    def _heard_of_drops(self, node_id: str, dropped: Mapping[str, int]) -> None:
        """A node has begun to drop messages: it is told once a session, and in all at its end."""
        course = self._course
        if course is not None and node_id not in course.dropped:
            course.dropped[node_id] = dropped
            rule = self._state.mailbox
            text = (
                f"its mailbox of {rule.capacity:,} is full and drops messages ({rule.policy}): {named(dropped, 'from')}"
            )
            self._state.record("federation", "warn", node_id, text)

    def _tell_drops(self, course: _Course) -> None:
        totals = {node_id: sum(dropped.values()) for node_id, dropped in course.dropped.items()}
        if totals:
            first = max(totals, key=lambda node_id: totals[node_id])
            text = (
                f"{counted(sum(totals.values()))} dropped by full mailboxes ({named(totals, 'by')}; most of {first}'s:"
                f" {named(course.dropped[first], 'from')})"
            )
            self._state.record("federation", "warn", "session", text)

    # -- the end ---------------------------------------------------------------------------------

    async def stop(self, timeout: float = STOP_TIMEOUT) -> str:
        """STOP reaches each node at the head of its queue; one that does not come back in time is ended.

        Raises:
            CommandRefused: If no session runs.
        """
        course, task = self._course, self._task
        if task is None or task.done():
            raise NothingToDo("no session runs: there is nothing to stop")
        if course is None:
            task.cancel()
            await asyncio.wait([task], timeout=timeout)
            return "the session has ended before its nodes were at work"
        course.stopping = True
        course.changed.set()
        for row in course.missing():
            handle = handle_of(self._state, row)
            if handle is not None:
                handle.red_stop.remote()
        await asyncio.wait([task], timeout=timeout)
        late = course.missing()
        for row in late:
            why = f"it did not come back within {timeout:g} s of STOP: it was ended"
            course.failures[row] = why
            fail_node(self._lifecycle, row, Cause(why, died=row in self._state.processes))
        if late:
            course.changed.set()
            await asyncio.wait([task], timeout=timeout)
        return f"the session has ended; {len(late)} nodes had to be ended" if late else "the session has ended"

    async def end(self) -> None:
        """The federation ends: a session is cut short."""
        if self.running and self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=STOP_TIMEOUT)
