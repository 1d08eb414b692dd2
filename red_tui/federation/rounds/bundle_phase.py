"""The nodes of one host at work in one phase of a round: one streaming call, cut at the deadline."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from red_tui.aggregation.answers import Answers, Contribution
from red_tui.federation.lifecycle.bundle_nodes import is_death
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.node_set import NAMED_IDS
from red_tui.federation.state import FederationState
from red_tui.node_states.kept_states import Kept
from red_tui.nodes.failures import Cause, cause_of_death, first_sentence
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray, row_ranges
from red_tui.rounds.ray_calls import BundleStream, QuickAnswer, answer_of
from red_tui.runtime.batch import GONE, Order, packed
from red_tui.runtime.bundle_handle import BundleProcess

TOLD_CAUSES = 8
"""Max events for the errors of one answer: ten thousand nodes may each fail in words of their own."""


class PhaseCall:
    """What the parts of a phase have in common."""

    def __init__(
        self,
        phase: str,
        parameters: Any,
        config: Mapping[str, Any],
        each: bool,
        deadline: float | None,
        models: Mapping[int, Kept] | None = None,
        exact: bool = False,
    ) -> None:
        self.exact = exact and phase == "fit" and not each
        """Whether updates are added up without an error."""
        self.models = models or {}
        """Where the models of nodes lie that have one of their own (gossip)."""
        self.phase, self.parameters, self.config, self.each = phase, parameters, config, each
        self.deadline = deadline
        self.until: float | None = None
        """When the phase is over (loop time); None: no limit."""

    def begin(self) -> None:
        """The time of the phase begins."""
        if self.deadline is not None:
            self.until = asyncio.get_running_loop().time() + self.deadline

    def model_of(self, row: int) -> Any:
        """Reference to what the node of a row starts from."""
        own = self.models.get(row)
        return self.parameters if own is None else own.reference

    @property
    def hung_at(self) -> float | None:
        """When a node that is still at work is taken for hung (loop time)."""
        return None if self.until is None or self.deadline is None else self.until + self.deadline

    @property
    def hung(self) -> str:
        """Why the process of such a node is ended."""
        return f"no answer within {2 * (self.deadline or 0):g} s, twice the deadline of a round: its process was ended"

    @property
    def late(self) -> str:
        """Why a node that is still at work does not count."""
        return f"no result within the deadline of {self.deadline:g} s"


def note_late(state: FederationState, rows: Iterable[int], call: PhaseCall) -> dict[int, str]:
    """Nodes are still at work at the deadline: `explain` and their detail say so; gives why each does not count."""
    cause = Cause(f"{call.phase} gave {call.late}")
    for row in rows:
        state.note_error(row, cause)
    return dict.fromkeys(rows, call.late)


def blocks_of(models: Mapping[int, Kept], rows: Sequence[int]) -> tuple[dict[int, tuple[int, int | None]], list[Any]]:
    """Where the models of `rows` lie: for each the number of its block and its place there; and the blocks."""
    places: dict[int, tuple[int, int | None]] = {}
    blocks: list[Any] = []
    numbers: dict[Any, int] = {}
    for row in rows:
        kept = models.get(row)
        if kept is None:
            continue
        if kept.reference not in numbers:
            numbers[kept.reference] = len(blocks)
            blocks.append(kept.reference)
        places[row] = (numbers[kept.reference], kept.place)
    return places, blocks


def set_idle(lifecycle: Lifecycle, rows: IntArray) -> None:
    """Mark nodes ready again, unless they have failed meanwhile."""
    still = rows[lifecycle.state.table.column("state")[rows] == NodeState.BUSY.code]
    if len(still):
        lifecycle.state.set_state(still, NodeState.READY)
        lifecycle.wake()


def cause_of(state: FederationState, row: int, error: BaseException) -> Cause:
    """Why a call to a node failed: what was heard of the end of its process, else what Ray says of the call."""
    known = state.causes.get(row)
    if known is not None and known.died and state.table.state_of(row) is NodeState.FAILED:
        return known
    return cause_of_death(error)


def forgive(lifecycle: Lifecycle, phase: str, causes: Mapping[int, Cause]) -> dict[int, str]:
    """Nodes whose work failed are ready again: they do not count in this round, and take part in the next one.

    Args:
        lifecycle: Where the nodes are.
        phase: What they were at.
        causes: What went wrong, by row.

    Returns:
        Why each does not count, by row.
    """
    if not causes or lifecycle.closing:
        return {row: cause.text for row, cause in causes.items()}
    state = lifecycle.state
    alike: dict[str, list[int]] = {}
    for row, cause in causes.items():
        rows = alike.setdefault(cause.text, [])
        rows.append(row)
        # One object for all of them.
        state.note_error(row, causes[rows[0]])
    groups = list(alike.items())
    for text, rows in groups[:TOLD_CAUSES]:
        _tell_error(state, text, rows, causes[rows[0]].traceback)
    if len(groups) > TOLD_CAUSES:
        rest = sorted(row for _, rows in groups[TOLD_CAUSES:] for row in rows)
        text = f"{phase} failed with {len(groups) - TOLD_CAUSES:,} other errors: each node's detail has its own"
        _tell_error(state, text, rest, "")
    set_idle(lifecycle, np.fromiter(causes, dtype=np.int64, count=len(causes)))
    return {row: cause.text for row, cause in causes.items()}


def _tell_error(state: FederationState, text: str, rows: Sequence[int], traceback: str) -> None:
    """One event about nodes that failed alike and go on."""
    chosen = np.asarray(rows, dtype=np.int64)
    told: dict[str, Any] = {"rows": row_ranges(chosen), "traceback": traceback, "error": state.round.number}
    ids = state.table.ids.take(chosen[:NAMED_IDS])
    if len(rows) <= NAMED_IDS:
        told["ids"] = ids
    subject = ids[0] if len(rows) == 1 else f"{len(rows):,} nodes"
    state.record("node", "warn", subject, text, str(NodeState.FAILED), told)


def fail_node(lifecycle: Lifecycle, row: int, cause: Cause) -> None:
    """A node is failed: its process ends, or its host forgets it."""
    state = lifecycle.state
    process = state.processes.get(row)
    if process is not None:
        lifecycle.process_failed(row, process, cause)
        return
    host = state.bundle_actors.get(state.table.value("bundle", row))
    lifecycle.node_failed(np.asarray([row]), cause)
    if host is not None:
        host.handle.discard.remote([row])


CUT_TIMEOUT = 5.0
"""Seconds that a host may take to hand over what it has when the deadline has passed."""

QUICK_SECONDS = 0.1
"""A host whose part of a phase is likely to take no longer is asked for a plain answer."""

_tokens = itertools.count()


class BundlePhase:
    """The nodes of one host: one streaming call."""

    def __init__(
        self, lifecycle: Lifecycle, bundle: int, rows: IntArray, call: PhaseCall, answers: asyncio.Queue[Answers | None]
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._lifecycle, self._rows, self._call, self._answers = lifecycle, rows, call, answers
        self._state, self._bundle = lifecycle.state, bundle
        self._host: BundleProcess | None = self._state.bundle_actors.get(bundle)
        self._token = f"{id(self)}-{next(_tokens)}"
        self._open = set(rows.tolist())
        self._tentative: list[IntArray] = []
        self._told = 0
        self._news = asyncio.Event()
        self._closed = False
        self._over = False
        self._cutting = False
        self._broke_off = False
        self._dropped = False
        self._reading: asyncio.Task[None] | None = None
        self._stream: BundleStream | QuickAnswer | None = None
        self._uncalled: Exception | None = None
        if self._host is not None:
            try:
                self._stream = self._called(self._host)
            except Exception as error:
                self._uncalled = error

    @property
    def first(self) -> int:
        """The first row that is asked: its place among the others of the phase."""
        return int(self._rows[0])

    @property
    def promised(self) -> Any:
        """Reference to the sum of updates that the host is going to give; None where it is not known yet."""
        adds_up = self._call.phase == "fit" and not self._call.each
        return self._stream.promised if adds_up and isinstance(self._stream, QuickAnswer) else None

    # -- the course of a phase -----------------------------------------------------------------------

    async def run(self) -> None:
        """Call the host and pass its answers on; at the deadline take what it has."""
        if self._host is None:
            self._emit(Answers(failures=dict.fromkeys(self._open, "its host ended before the phase began")))
            self._answers.put_nowait(None)
            return
        call = self._call
        reading = self._reading = self._lifecycle.spawn(self._read(self._host))
        try:
            loop = asyncio.get_running_loop()
            left = None if call.until is None else max(0.0, call.until - loop.time())
            await asyncio.wait([reading], timeout=left)
            if not reading.done():
                await self._cut(self._host, reading)
        finally:
            self._finish()
            if reading.done():
                self._rest()

    async def _read(self, host: BundleProcess) -> None:
        call, stream, began = self._call, self._stream, time.monotonic()
        try:
            if stream is None:
                raise self._uncalled or RuntimeError("it was not called")
            while (record := await stream.record()) is not None:
                if record["late"]:
                    host.pace.pop(call.phase, None)
                    self._late(record)
                    return
                payload = await stream.payload(small=record["small"]) if record["payload"] else None
                states = await stream.states() if record["states"] else None
                if self._dropped:
                    self._late(record)
                else:
                    self._take(record, payload, states)
                if record["last"]:
                    host.pace[call.phase] = (time.monotonic() - began) / max(1, len(self._rows))
                    return
        except Exception as error:
            if not self._dropped:
                # Else it may have been the server that failed: of a host's death its lifeline tells.
                self._broken(host, error)
        finally:
            self._stream = None
            self._rest()
            if not self._cutting:
                self._finish()

    def _finish(self) -> None:
        """Nothing comes any more that counts."""
        if not self._over:
            self._over = True
            self._answers.put_nowait(None)

    def _called(self, host: BundleProcess) -> BundleStream | QuickAnswer:
        """Call the host: plainly if its nodes were quick the last time, for a stream costs more than they do."""
        call, pace = self._call, host.pace.get(self._call.phase)
        places, blocks = blocks_of(call.models, self._rows.tolist()) if call.models else (None, [])
        place = self._lifecycle.states.place
        order = Order(self._token, call.phase, self._rows, call.config, call.each, places, call.exact, place)
        if pace is None or pace * len(self._rows) > QUICK_SECONDS:
            return BundleStream(host.handle.work.remote(order, call.parameters, *blocks))
        references = host.handle.quick.remote(packed(order), call.parameters, *blocks)
        return QuickAnswer(references, lambda: host.handle.more.remote(self._token))

    def _rest(self) -> None:
        """The call has ended: whoever it said nothing of does not work any more."""
        if self._cutting and not self._over:
            # What the cut brings is on its way, and may be overtaken by the end of the call.
            return
        if self._open:
            left = np.asarray(sorted(self._open), dtype=np.int64)
            self._emit(Answers(failures=dict.fromkeys(self._open, "its host said nothing of it")))
            self._open.clear()
            set_idle(self._lifecycle, left)

    def _broken(self, host: BundleProcess, error: BaseException) -> None:
        """The call failed: what the host had added up is lost with it, so none of it counts."""
        # The host itself may have said more than Ray knows.
        cause = host.ended or cause_of_death(error)
        self._broke_off = True
        lost = self._open | {row for rows in self._tentative for row in rows.tolist()}
        self._emit(Answers(failures=dict.fromkeys(lost, cause.text)))
        if is_death(error):
            self._lifecycle.bundle_actor_died(host, cause)
        elif cause.unsure:
            # The lifeline will say what became of it.
            set_idle(self._lifecycle, np.asarray(sorted(self._open), dtype=np.int64))
        else:
            # The call could not be carried out, and the host lives.
            alive = replace(cause, died=False)
            self._lifecycle.node_failed(np.asarray(sorted(self._open), dtype=np.int64), alive)
        self._open.clear()

    # -- answers -------------------------------------------------------------------------------------

    def _take(self, record: Mapping[str, Any], payload: Any, states: Any) -> None:
        self._told += 1
        rows = record["rows"]
        told = rows.tolist()
        if len(set(told)) != len(told) or not self._open.issuperset(told):
            raise ValueError(f"{self._host and self._host.name} told of nodes that it was not asked for")
        if states is not None or record["stored"] or record["trouble"]:
            self._keep(told, record, states)
        contribution = None
        if payload is not None and self._call.each:
            contribution = Contribution("block", payload, rows, record["weights"].tolist(), self.first)
        elif payload is not None:
            counted = np.concatenate([*self._tentative, rows])
            contribution = Contribution("mean", payload, counted, [record["total"]], self.first)
            self._tentative.clear()
        elif self._call.phase == "fit":
            self._tentative.append(rows)
        failures = self._settled(record)
        self._emit(
            Answers(
                rows,
                record["weights"],
                record["seconds"],
                record["metrics"],
                record["losses"],
                failures,
                contribution,
            )
        )

    def _keep(self, rows: list[int], record: Mapping[str, Any], states: Any) -> None:
        """Note where the states of nodes lie."""
        store = self._lifecycle.states
        written = store.written(self._bundle, record)
        if states is not None:
            store.hold(rows, states, record["state_bytes"], but=written)
        store.look()

    def _settled(self, record: Mapping[str, Any]) -> dict[int, str]:
        """Note in their rows who has answered and who failed."""
        rows = record["rows"]
        self._open.difference_update(rows.tolist())
        set_idle(self._lifecycle, rows)
        gone = [failure for failure in record["failed"] if failure[2] == GONE]
        raised = {
            row: Cause(f"{where} raised {error}", trace)
            for row, error, where, trace in record["failed"]
            if where != GONE
        }
        failures = {row: why for row, why, *_ in gone}
        failures.update(forgive(self._lifecycle, self._call.phase, raised))
        self._open.difference_update(failures)
        self._lifecycle.fail_each(gone)
        self._news.set()
        return failures

    def _emit(self, answers: Answers) -> None:
        if not (self._closed or self._over):
            self._answers.put_nowait(answers)

    def _late(self, record: Mapping[str, Any]) -> None:
        """Nodes that came back after the round had gone on, or from work that does not count."""
        mine = np.isin(record["rows"], np.fromiter(self._open, dtype=np.int64, count=len(self._open)))
        self._settled({**record, "rows": record["rows"][mine]})

    # -- the deadline --------------------------------------------------------------------------------

    async def _cut(self, host: BundleProcess, reading: asyncio.Task[None]) -> None:
        """Take what the host has; who is at work stays busy until it answers, who had not begun is free."""
        self._cutting = True
        report, payload, states = host.handle.cut.remote(self._token)
        try:
            record = await answer_of(report, CUT_TIMEOUT)
        except Exception as error:
            why = f"{self._call.late}, and its host does not answer ({first_sentence(str(error)) or 'silent'})"
            self._emit(Answers(failures=dict.fromkeys(self._open, why)))
            self._void()
            self._lifecycle.spawn(self._watch_hung(host, reading))
            return
        if record.get("gone"):
            await asyncio.wait([reading], timeout=CUT_TIMEOUT)
            if not reading.done():
                self._emit(Answers(failures=note_late(self._state, self._open, self._call)))
                self._void()
                self._lifecycle.spawn(self._watch_hung(host, reading))
            return
        # What the host told before the cut is on its way.
        deadline = asyncio.get_running_loop().time() + CUT_TIMEOUT
        while self._told < record["told"] and not reading.done() and asyncio.get_running_loop().time() < deadline:
            self._news.clear()
            timer = asyncio.get_running_loop().call_at(deadline, self._news.set)
            await self._news.wait()
            timer.cancel()
        if self._told < record["told"] or self._broke_off:
            # It broke off, or what it told before does not arrive: a sum without its parts counts for nothing.
            self._emit(Answers(failures=note_late(self._state, self._open, self._call)))
            self._void()
            return
        working = set(record["working"])
        self._take(record, payload if record["payload"] else None, states if record["states"] else None)
        waiting = self._open - working
        set_idle(self._lifecycle, np.asarray(sorted(waiting), dtype=np.int64))
        # Who came back meanwhile has said so.
        self._open &= working
        if self._open:
            self._lifecycle.spawn(self._watch_hung(host, reading))
        why = f"its host did not come to it within the deadline of {self._call.deadline:g} s" if waiting else ""
        self._emit(Answers(failures={**dict.fromkeys(waiting, why), **note_late(self._state, working, self._call)}))

    async def _watch_hung(self, host: BundleProcess, reading: asyncio.Task[None]) -> None:
        """A host whose node does not come back is ended, for no thread can be."""
        hung_at = self._call.hung_at
        assert hung_at is not None
        await asyncio.wait([reading], timeout=max(0.0, hung_at - asyncio.get_running_loop().time()))
        if not reading.done():
            names = ", ".join(self._state.table.ids.take(np.asarray(sorted(self._open), dtype=np.int64))[:4])
            self._lifecycle.bundle_actor_died(host, Cause(f"{names} gave {self._call.hung}", died=True))

    def _void(self) -> None:
        """Take back what was reported but never handed over."""
        rows = [row for rows in self._tentative for row in rows.tolist()]
        self._emit(Answers(failures=dict.fromkeys(rows, "its host did not hand its sum over before the deadline")))
        self._tentative.clear()

    def close(self) -> None:
        """Stopped: the host is told to begin no further node, and its answers no longer count."""
        self._closed = True
        if self._host is not None and self.task is not None and not (self._over or self.task.done()):
            self.task.cancel()
            self._lifecycle.spawn(self._abandon(self._host))

    async def drop(self) -> None:
        """What the host was asked for ahead of its time does not count: return when its nodes are free again.

        Nodes that have begun and do not come back within `CUT_TIMEOUT` stay busy until they do.
        """
        self._closed = self._dropped = True
        host = self._host
        if host is None:
            self._free(self._open)
            return
        reading = self._reading = self._lifecycle.spawn(self._read(host))
        try:
            record = await answer_of(host.handle.cut.remote(self._token)[0], CUT_TIMEOUT)
        except Exception:
            # A host that has died is heard of through its lifeline; one that does not answer may be hung.
            self._watch_if_hung(host, reading)
            return
        if record.get("gone") and not record.get("ended", True):
            # The call has not come to the host, and nobody begins when it does.
            self._free(self._open)
            return
        if not record.get("gone"):
            self._let_go(host, record)
        await asyncio.wait([reading], timeout=CUT_TIMEOUT)
        if not reading.done() and record.get("gone"):
            self._watch_if_hung(host, reading)

    async def _abandon(self, host: BundleProcess) -> None:
        try:
            record = await answer_of(host.handle.cut.remote(self._token)[0], CUT_TIMEOUT)
        except Exception:
            # A host that has died is heard of through its lifeline.
            return
        if not record.get("gone"):
            self._let_go(host, record)

    def _let_go(self, host: BundleProcess, record: Mapping[str, Any]) -> None:
        """The call was cut, and no answer counts: whoever had not begun is free, the others are when they come back."""
        self._settled(record)
        self._free(self._open - set(record["working"]))
        if self._open and self._reading is not None:
            self._watch_if_hung(host, self._reading)

    def _watch_if_hung(self, host: BundleProcess, reading: asyncio.Task[None]) -> None:
        if self._call.hung_at is not None:
            self._lifecycle.spawn(self._watch_hung(host, reading))

    def _free(self, rows: set[int]) -> None:
        """These do not work for this call."""
        set_idle(self._lifecycle, np.asarray(sorted(rows), dtype=np.int64))
        self._open = self._open - rows
