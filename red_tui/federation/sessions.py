"""Sessions: nodes run their own `train` at the same time and talk with their neighbours."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from red_tui.errors import CommandRefused, MessageError, SessionError
from red_tui.federation.calls import set_idle
from red_tui.federation.host_ends import is_death
from red_tui.federation.lifecycle import Lifecycle
from red_tui.federation.session_args import Arguments, arguments_of
from red_tui.federation.state import FederationState
from red_tui.federation.verbs import handle_of
from red_tui.nodes.causes import Cause, cause_of_death, first_sentence
from red_tui.nodes.hosting import HostProcess
from red_tui.nodes.mailbox import check_header
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray
from red_tui.nodes.template import FederatedNode
from red_tui.rounds.completions import answer_of

LINK_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
"""Seconds that a node has to come back from `train` once STOP has reached it."""

PUBLISH_PERIOD = 0.05


@dataclass(frozen=True)
class SessionResult:
    """What came of a session.

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
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def missing(self) -> list[int]:
        """Rows that have not come back."""
        return [row for row in self.rows.tolist() if row not in self.results and row not in self.failures]


class Sessions:
    """Runs one session at a time; all on the engine's thread."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._state: FederationState = lifecycle.state
        self._task: asyncio.Task[SessionResult] | None = None
        self._course: _Course | None = None
        self._version = 0
        self._numbers: dict[int, tuple[Any, int]] = {}
        self._process = uuid.uuid4().hex

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
        arguments = arguments_of(state.table.ids.take(rows), client_args)
        by_row = dict(zip(rows.tolist(), arguments, strict=True))
        server, template = state.server_row, state.groups[0].template
        if template.train is not FederatedNode.train:
            rows = np.concatenate([np.asarray([server]), rows])
            by_row[server] = dict(server_args)
        elif server_args:
            raise SessionError(
                f"the server's template {template.__name__} has no train, so it takes no server_args", failed={}
            )
        self._task = self._lifecycle.spawn(self._run(rows, by_row))
        return self._task

    async def _run(self, rows: IntArray, arguments: Mapping[int, Mapping[str, Any]]) -> SessionResult:
        state, started = self._state, time.perf_counter()
        await self._build(rows)
        await self.link(rows)
        course = self._course = _Course(rows, arguments)
        state.set_state(rows, NodeState.BUSY)
        state.record("federation", "info", "session", f"begins with {len(rows)} nodes")
        try:
            await asyncio.gather(*self._begin(course, rows.tolist()))
        finally:
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
        state.record("federation", "warn" if failures else "good", "session", text)
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

    async def link(self, rows: IntArray) -> None:
        """Tell nodes who their neighbours are now, and how to reach those that are built.

        Raises:
            SessionError: If a node does not take it.
        """
        state = self._state
        self._version += 1
        topology, reports = state.topology.current(), []
        names = state.table.ids
        for row in rows.tolist():
            node_id = names[row]
            handle = handle_of(state, row)
            if handle is None:
                continue
            told = {other: self._way_to(other) for other in topology.neighbors(node_id)}
            more = [state.hosts[state.table.value("bundle", row)].name] if row not in state.processes else []
            reports.append((node_id, handle.red_link.remote(self._version, str(topology.rule), told, *more)))
        for node_id, report in reports:
            try:
                await answer_of(report, LINK_TIMEOUT)
            except Exception as error:
                why = first_sentence(str(error)) or f"no answer within {LINK_TIMEOUT:g} s"
                raise SessionError(f"{node_id} could not be linked: {why}", failed={node_id: why}) from error

    def _way_to(self, node_id: str) -> Any:
        row = self._state.table.row_of(node_id)
        if row is None or self._state.table.state_of(row) not in (NodeState.READY, NodeState.BUSY):
            return None
        return handle_of(self._state, row)

    async def relink(self) -> None:
        """The topology has changed: a session that runs learns of it."""
        if self._course is not None:
            await self.link(np.asarray(self._course.missing(), dtype=np.int64))

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
            host = state.hosts[bundle]
            stream = host.handle.train.remote(np.asarray(hosted, dtype=np.int64), told)
            calls.append(self._host(course, hosted, host, stream))
        return calls

    async def _one(self, course: _Course, row: int, call: Any) -> None:
        try:
            report = await self._unless_given_up(course, row, answer_of(call, None))
        except Exception as error:
            cause = cause_of_death(error)
            self._fail(row, cause)
            await self._died(course, [row], cause, dead=is_death(error))
            return
        if report is not None:
            self._came(course, row, report)

    def _fail(self, row: int, cause: Cause) -> None:
        """A node is failed: its process ends, or its host forgets it."""
        if row in self._state.processes:
            self._lifecycle.node_failed(row, cause)
            return
        host = self._state.hosts.get(self._state.table.value("bundle", row))
        self._lifecycle.fail_rows(np.asarray([row]), cause)
        if host is not None:
            host.handle.discard.remote([row])

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

    async def _host(self, course: _Course, rows: Sequence[int], host: HostProcess, stream: Any) -> None:
        reading = self._lifecycle.spawn(self._read(course, rows, host, stream))
        while not reading.done() and any(row in course.missing() for row in rows):
            changed = asyncio.ensure_future(course.changed.wait())
            await asyncio.wait([reading, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            course.changed.clear()
        reading.cancel()

    async def _read(self, course: _Course, rows: Sequence[int], host: HostProcess, stream: Any) -> None:
        try:
            async for reference in stream:
                row, report = await reference
                self._came(course, row, report)
        except Exception as error:
            cause = cause_of_death(error)
            lost = [row for row in course.missing() if row in rows]
            if is_death(error):
                self._lifecycle.host_died(host, cause)
            await self._died(course, lost, cause, dead=is_death(error))

    async def _died(self, course: _Course, rows: Sequence[int], cause: Cause, *, dead: bool) -> None:
        """Processes ended in the middle of the session: their nodes take part again once they are rebuilt."""
        back = await self._back(course, rows) if dead else []
        for row in rows:
            if row not in back:
                self._came(course, row, {"error": cause.text})
        try:
            # The others learn of the new processes, or that there will be none.
            await self.link(np.asarray(course.missing(), dtype=np.int64))
        except SessionError as error:
            self._state.record("federation", "warn", "session", error.message)
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
        if "error" in report:
            course.failures[row] = str(report["error"])
            if "traceback" in report:
                self._fail(row, Cause(f"train raised {report['error']}", report["traceback"]))
        else:
            course.results[row] = report["result"]
            set_idle(self._lifecycle, np.asarray([row]))
        course.changed.set()

    # -- the end ---------------------------------------------------------------------------------

    async def stop(self, timeout: float = STOP_TIMEOUT) -> str:
        """STOP reaches each node at the head of its queue; one that does not come back in time is ended.

        Raises:
            CommandRefused: If no session runs.
        """
        course, task = self._course, self._task
        if course is None or task is None:
            raise CommandRefused("no session runs: there is nothing to stop")
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
            self._fail(row, Cause(why, died=row in self._state.processes))
        if late:
            course.changed.set()
            await asyncio.wait([task], timeout=timeout)
        return f"the session has ended; {len(late)} nodes had to be ended" if late else "the session has ended"

    async def end(self) -> None:
        """The federation ends: a session is cut short."""
        if self.running and self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=STOP_TIMEOUT)

    # -- from outside ----------------------------------------------------------------------------

    async def send(self, header: str, body: Any, rows: IntArray, named: bool) -> int:
        """Send from outside to nodes that are built; the sender is `supervisor`.

        Raises:
            MessageError: If a node that was named is not built, or one does not take it.
        """
        check_header(header)
        state, calls = self._state, []
        for row in rows.tolist():
            node_id = state.table.ids[row]
            handle = self._way_to(node_id)
            if handle is None:
                if named:
                    raise MessageError(
                        f"{node_id!r} is {state.table.state_of(row)}: messages go to built nodes only; build it first",
                        node=node_id,
                    )
                continue
            known = self._numbers.get(row)
            number = known[1] + 1 if known is not None and known[0] == handle else 1
            self._numbers[row] = (handle, number)
            try:
                call = handle.red_deliver.remote(header, body, "supervisor", number, time.time(), self._process)
            except Exception as error:
                raise MessageError(f"the body of {header!r} cannot be sent: {first_sentence(str(error))}") from error
            calls.append((node_id, call))
        for node_id, call in calls:
            try:
                await answer_of(call, LINK_TIMEOUT)
            except Exception as error:
                why = first_sentence(str(error)) or f"no answer within {LINK_TIMEOUT:g} s"
                raise MessageError(f"{node_id!r} did not take the message: {why}", node=node_id) from error
        return len(calls)

    async def pull(self, rows: IntArray, timeout: float) -> dict[str, Any]:
        """The version that each node published last; waits until it has published one.

        Raises:
            SessionError: If a node is not built or publishes none within `timeout` seconds.
        """
        until = asyncio.get_running_loop().time() + timeout
        found: dict[str, Any] = {}
        for row in rows.tolist():
            node_id = self._state.table.ids[row]
            while node_id not in found:
                handle = self._way_to(node_id)
                if handle is None and self.running and asyncio.get_running_loop().time() < until:
                    await asyncio.sleep(PUBLISH_PERIOD)
                    continue
                if handle is None:
                    raise SessionError(f"{node_id} is not built, so it has no version", failed={node_id: "not built"})
                left = until - asyncio.get_running_loop().time()
                try:
                    told = await answer_of(handle.red_version.remote(), max(0.1, left))
                except Exception as error:
                    why = first_sentence(str(error)) or f"no answer within {timeout:g} s"
                    raise SessionError(f"{node_id}: {why}", failed={node_id: why}) from error
                if told is not None:
                    found[node_id] = told[1]
                elif left <= 0:
                    why = f"it has published no version within {timeout:g} s (update_version in its train)"
                    raise SessionError(f"{node_id}: {why}", failed={node_id: why})
                else:
                    await asyncio.sleep(PUBLISH_PERIOD)
        return found

    async def test(self, rows: IntArray, phase: str, arguments: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Value and weight of each node's `test`.

        Raises:
            SessionError: If nodes could not be built, or failed.
        """
        await self._build(rows)
        names, deadline = self._state.table.ids, self._state.settings.deadline
        calls = [(row, handle_of(self._state, row).red_test.remote(phase, dict(arguments))) for row in rows.tolist()]
        answers = await asyncio.gather(*(answer_of(call, deadline) for _, call in calls), return_exceptions=True)
        found, failed = {}, {}
        for (row, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, BaseException):
                failed[names[row]] = first_sentence(str(answer)) or f"no answer within {deadline:g} s"
            elif "error" in answer:
                failed[names[row]] = answer["error"]
            else:
                found[names[row]] = (answer["value"], answer["weight"])
        if failed:
            first = next(iter(failed))
            raise SessionError(
                f"test failed on {len(failed)} of {len(rows)} nodes; {first}: {failed[first]}", failed=failed
            )
        return found
