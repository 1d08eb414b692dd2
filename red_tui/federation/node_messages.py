"""What nodes are sent and asked from outside, and what they are told of their neighbours while they talk."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.errors import MessageError, SessionError
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.node_set import handle_of
from red_tui.federation.state import FederationState
from red_tui.messaging.mailbox import ReadEvidence, check_header
from red_tui.messaging.messenger import OUTSIDE, Absent
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.states import HOLDING, NodeState
from red_tui.nodes.table import IntArray
from red_tui.rounds.ray_calls import answer_of

LINK_TIMEOUT = 30.0
PUBLISH_PERIOD = 0.05


def handle_by_id(state: FederationState, node_id: str) -> Any:
    """The handle of a node that is built, by its id; None if it is not."""
    row = state.table.row_of(node_id)
    if row is None or state.table.state_of(row) not in (NodeState.READY, NodeState.BUSY):
        return None
    return handle_of(state, row)


class OutsideMessages:
    """What is said to nodes, and asked of them, by the federation itself; all on the engine's thread."""

    def __init__(self, state: FederationState) -> None:
        self._state = state
        self._numbers: dict[int, tuple[Any, int]] = {}

    async def send(self, header: str, body: Any, rows: IntArray, named: bool) -> int:
        """Send from outside to nodes that are built; the sender is `supervisor`.

        Raises:
            MessageError: If a node that was named is not built, or one does not take it.
        """
        check_header(header)
        state, calls = self._state, []
        for row in rows.tolist():
            node_id = state.table.ids[row]
            handle = handle_by_id(state, node_id)
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
                call = handle.red_deliver.remote(header, body, OUTSIDE, number, time.time(), "")
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

    async def pull(self, rows: IntArray, timeout: float, in_session: Callable[[], bool]) -> dict[str, Any]:
        """The version that each node published last; waits until it has published one.

        Args:
            rows: The nodes.
            timeout: Seconds to wait.
            in_session: Whether a session is under way: a node that is not built may be rebuilt in it.

        Raises:
            SessionError: If a node is not built or publishes none within `timeout` seconds.
        """
        until = asyncio.get_running_loop().time() + timeout
        found: dict[str, Any] = {}
        for row in rows.tolist():
            node_id = self._state.table.ids[row]
            while node_id not in found:
                handle = handle_by_id(self._state, node_id)
                if handle is None and in_session() and asyncio.get_running_loop().time() < until:
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
        """Value and weight of the `test` of each of some nodes, which are built.

        Raises:
            SessionError: If nodes failed.
        """
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


PAUSE = 0.02
"""Seconds in which changes of nodes are gathered before those at work are told."""

LINK_AGAIN = 1.0
"""Seconds until nodes at work are told again, where one of them did not take it."""

REMOVED = "was removed from the federation"

NAMED = 4
"""Nodes that an event names at most."""

UP = (NodeState.READY, NodeState.BUSY)
COMING = (NodeState.PENDING, NodeState.STARTING)

EVIDENCE_TIMEOUT = 5.0
"""Seconds in which nodes say what others had read before they were rebuilt."""

Lost = dict[str, dict[str, tuple[int, int]]]
"""By a node whose process ended and by sender: messages that did not arrive, and that waited unread at most."""


class NeighborUpdates:
    """Tells nodes who their neighbours are and how to reach them; all on the engine's thread."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle, self._state = lifecycle, lifecycle.state
        self._linked: dict[int, Any] = {}
        """What the neighbours of nodes at work were when those were told of them last, by row."""
        self._looked = 0
        self._stirred = asyncio.Event()
        self._telling: set[asyncio.Task[None]] = set()
        self._tell_all = False
        self._untold = ""
        """Why the last change did not reach all nodes at work, or nothing."""
        self._evidence = ReadEvidence()
        """What nodes had read before they were rebuilt in this session."""
        self._rebuilt: set[str] = set()
        """Nodes that were at work when their processes ended and have others now: they get what they had not read."""
        self._at_work: Callable[[], Sequence[int]] = list
        self._seal = uuid.uuid4().hex
        """Messages of this federation's nodes carry it."""
        lifecycle.nodes.on_wake = self._stirred.set
        lifecycle.directory.remade = self._tell_again

    def begins(self) -> None:
        """A session begins: what was read in the one before is of no use."""
        self._evidence.clear()
        self._rebuilt.clear()

    def _tell_again(self) -> None:
        """Nodes at work are to hear of another directory."""
        self._tell_all = True
        self._stirred.set()

    async def link(self, rows: IntArray) -> None:
        """Tell nodes who their neighbours are now, and how to reach those that are built.

        Raises:
            SessionError: If a node that lives does not take it.
        """
        known = await self._link(rows)
        if known > self._lifecycle.directory.version:
            # They heard of later versions from a supervisor before this one.
            self._lifecycle.directory.version = known
            await self._link(rows)

    async def _link(self, rows: IntArray) -> int:
        """One version; gives the latest that a node knows."""
        await self._ask_for_evidence()
        state = self._state
        directory = self._lifecycle.directory
        directory.version += 1
        version, asked = directory.version, directory.open() if rows.size else None
        topology, names = state.topology.current(), state.table.ids
        self._looked = state.table.version
        left = {names[row]: REMOVED for row in self._linked if state.table.state_of(row) is NodeState.REMOVED}
        ways: dict[str, Any] = {}
        reports: list[tuple[int, Any]] = []
        for row in rows.tolist():
            node_id, handle = names[row], handle_of(state, row)
            if handle is None:
                continue
            told = {}
            for other in topology.neighbors(node_id):
                if other not in ways:
                    ways[other] = self._neighbor(other)
                told[other] = ways[other]
            ways.setdefault(node_id, handle)
            more = [state.bundle_actors[state.table.value("bundle", row)].name] if row not in state.processes else []
            report = handle.red_link.remote(
                version,
                str(topology.rule),
                told,
                state.mailbox,
                asked,
                self._seal,
                left,
                self._reads_of(told),
                *more,
            )
            reports.append((row, report))
        found = {other: state.table.row_of(other) for other in ways}
        self._linked = {row: self._identity(row) for row in found.values() if row is not None}
        latest, lost = 0, Lost()
        for row, report in reports:
            try:
                answer: Mapping[str, Any] = await answer_of(report, LINK_TIMEOUT)
            except Exception as error:
                if state.table.state_of(row) not in HOLDING or handle_of(state, row) is None:
                    continue  # it has ended meanwhile: whoever reads what its `train` gives hears of it
                why = first_sentence(str(error)) or f"no answer within {LINK_TIMEOUT:g} s"
                raise SessionError(f"{names[row]} could not be linked: {why}", failed={names[row]: why}) from error
            latest = max(latest, int(answer["version"]))
            for other, counts in answer["lost"].items():
                lost.setdefault(other, {})[names[row]] = counts
        self._tell_lost(lost)
        if rows.size and latest <= version:
            directory.publish(topology, ways)
        return latest

    async def _ask_for_evidence(self) -> None:
        """Ask the nodes of a session what those that were rebuilt had read before their processes ended."""
        state, names = self._state, self._state.table.ids
        asked: set[int] = set()
        while True:
            rebuilt = {row for row in self._linked if self._has_changed(row) and state.table.state_of(row) in UP}
            if rebuilt <= asked:
                return
            asked |= rebuilt
            self._rebuilt.update(names[row] for row in rebuilt.intersection(self._at_work()))
            readers = [names[row] for row in rebuilt]
            others = [handle_of(state, row) for row in self._linked if row not in rebuilt]
            calls = [handle.red_evidence.remote(readers) for handle in others if handle is not None]
            answers = await asyncio.gather(
                *(answer_of(call, EVIDENCE_TIMEOUT) for call in calls), return_exceptions=True
            )
            for answer in answers:
                # A node that does not answer has ended as well, or is about to be given up.
                if not isinstance(answer, BaseException):
                    self._evidence.add(answer)

    def _reads_of(self, node_ids: Iterable[str]) -> dict[str, Mapping[str, int]]:
        """What those of some nodes had read that were rebuilt while they were at work."""
        known = self._evidence.of(node_ids)
        return {node_id: known.get(node_id, {}) for node_id in node_ids if node_id in self._rebuilt}

    def _neighbor(self, node_id: str) -> Any:
        """A node's handle, or why it has none."""
        handle = handle_by_id(self._state, node_id)
        if handle is not None:
            return handle
        row = self._state.table.row_of(node_id)
        if row is None:
            return Absent("is not in the federation any more")
        state, cause = self._state.table.state_of(row), self._state.cause_of(row)
        if state is NodeState.REMOVED:
            return Absent(REMOVED)
        why = f"is {state}" + (f": {first_sentence(cause.text, 120)}" if cause is not None else "")
        return Absent(why, self._is_coming(row))

    def _is_coming(self, row: int) -> bool:
        """Whether a node without a process is about to get one."""
        state, cause = self._state.table.state_of(row), self._state.cause_of(row)
        died = state is NodeState.FAILED and cause is not None and cause.died
        return state in COMING or (died and self._lifecycle.healing)

    def _identity(self, row: int) -> Any:
        """Something that changes when a node's process does."""
        state = self._state.table.state_of(row)
        if state in UP:
            process = self._state.processes.get(row)
            return ("up", id(process), self._lifecycle.epoch_of(row))
        return "coming" if self._is_coming(row) else "down"

    async def watch(self, at_work: Callable[[], Sequence[int]]) -> None:
        """Let the nodes at work learn when a neighbour gets a process, another one, or loses it."""
        table = self._state.table
        self._at_work = at_work
        while True:
            await self._stirred.wait()
            await asyncio.sleep(PAUSE)
            self._stirred.clear()
            moved = table.changed_since(self._looked).tolist()
            self._looked = table.version
            waiting = [row for row, was in self._linked.items() if was == "coming"]
            if self._tell_all or any(self._has_changed(row) for row in (*moved, *waiting)):
                self._tell_all = False
                await self.link_again(at_work())

    async def link_again(self, rows: Sequence[int]) -> None:
        """Tell nodes at work of a change; again after a moment, if one of them does not take it.

        Whoever waits here may be cancelled: what the nodes answer is heard all the same.
        """

        async def tell() -> None:
            try:
                await self.link(np.asarray(rows, dtype=np.int64))
            except SessionError as error:
                if error.message != self._untold:
                    self._state.record("federation", "warn", "session", error.message)
                self._untold = error.message
                await asyncio.sleep(LINK_AGAIN)
                self._tell_again()
            else:
                self._untold = ""

        telling = self._lifecycle.spawn(tell())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        await asyncio.wait([telling])

    async def all_told(self) -> None:
        """Wait until the nodes have answered to the last change: they say what was lost with a process."""
        if self._telling:
            await asyncio.wait(set(self._telling), timeout=LINK_TIMEOUT)

    def _has_changed(self, row: int) -> bool:
        """Whether a neighbour of nodes at work has another process than they were told, or none any more."""
        return row in self._linked and self._linked[row] != self._identity(row)

    def _tell_lost(self, lost: Lost) -> None:
        """What had been sent to nodes whose process ended: one event for each of them."""
        for receiver, senders in lost.items():
            gone = {sender: count for sender, (count, _) in senders.items() if count}
            unread = max(count for _, count in senders.values())
            parts = []
            if gone:
                parts.append(f"{counted(sum(gone.values()))} for it did not arrive ({named(gone, 'from')})")
            if unread:
                parts.append(f"up to {counted(unread)} that it had not read went with its process")
            row = self._state.table.row_of(receiver)
            again = row is not None and self._state.table.state_of(row) in UP
            text = f"{'was rebuilt' if again else 'has no process any more'}: {'; '.join(parts)}"
            self._state.record("federation", "warn", receiver, text)


def counted(number: int) -> str:
    """How many messages."""
    return f"{number:,} message{'' if number == 1 else 's'}"


def named(counts: Mapping[str, int], way: str) -> str:
    """Who they are, those with most first: `1,976 from client_0, 3 from client_2 and 4 others`."""
    most = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{count:,} {way} {name}" for name, count in most[:NAMED])
    return shown + (f" and {len(most) - NAMED} others" if len(most) > NAMED else "")
