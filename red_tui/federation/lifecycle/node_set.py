"""The nodes of a federation as a set: planned, waited for, told of, and noted as failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from red_tui.federation.reports import BuildReport, NodeFailure
from red_tui.federation.state import FederationState
from red_tui.nodes.failures import Cause
from red_tui.nodes.states import BUILDABLE, HOLDING, NodeState
from red_tui.nodes.table import BoolArray, IntArray, bundle_spans, row_ranges
from red_tui.nodes.template import FederatedNode
from red_tui.nodes.user_code import TRACEBACK_LIMIT, without_middle
from red_tui.placement.build_plan import BuildPlan, Limits, Wanted, make_hosted_plan, make_plan
from red_tui.placement.feasibility import ROUNDING
from red_tui.placement.pool import Pool, Slot
from red_tui.runtime.bundle_handle import HostedHandle
from red_tui.runtime.node_actor import asked_resources
from red_tui.runtime.virtual_node import refusal


class StartPace:
    """Measures the seconds a process into the state's `pace`: the next plan says how long its processes take."""

    def __init__(self, state: FederationState) -> None:
        self._state = state
        self._starting: set[Any] = set()
        self._wave_began, self._wave_came = 0.0, 0

    def submitted(self, key: Any) -> None:
        """A process was asked for."""
        if not self._starting:
            self._wave_began, self._wave_came = time.monotonic(), 0
        self._starting.add(key)

    def came_up(self, key: Any) -> None:
        """A process has answered."""
        if key in self._starting:
            self._starting.discard(key)
            self._wave_came += 1
            self._state.pace = (time.monotonic() - self._wave_began) / self._wave_came

    def gave_up(self, key: Any) -> None:
        """A process failed before it answered, or is not wanted any more."""
        self._starting.discard(key)


WAITING = frozenset({NodeState.PENDING, NodeState.STARTING})

NAMED_IDS = 64
"""Max ids listed in an event; its row ranges are always complete."""

NodesFailed = Callable[[IntArray, Cause], None]
"""Hears of nodes that failed, all for one reason."""


def as_rows(rows: Iterable[int] | IntArray) -> IntArray:
    """Rows as an array."""
    return np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), dtype=np.int64)


class NodeSet:
    """Plans, waits and events of nodes, however they live; all on the engine's thread."""

    def __init__(self, state: FederationState) -> None:
        self.state = state
        self._waiters: list[tuple[IntArray, frozenset[NodeState], asyncio.Future[None]]] = []
        self.on_wake: Callable[[], None] = lambda: None
        """Called when nodes have changed their state."""
        self.closing = False
        """Whether the federation ends: what happens to nodes then is of no interest."""

    @property
    def pool(self) -> Pool:
        """The pool; it exists once the first plan was asked for."""
        assert self.state.pool is not None
        return self.state.pool

    # -- planning --------------------------------------------------------------------------------

    def asked(self, row: int, slot: Slot) -> Mapping[str, float]:
        """What a node takes of a bundle as a process of its own; the server leaves clients there what they took."""
        asked = asked_resources(self.template(row), slot.spec)
        if row != self.state.server_row or not slot.rows:
            return asked
        free = {name: round(slot.spec.get(name, 0.0) - slot.taken.get(name, 0.0), 4) for name in asked}
        return {name: min(amount, free[name]) for name, amount in asked.items() if free[name] > ROUNDING}

    def template(self, row: int) -> type[FederatedNode]:
        """Template of a row."""
        group: int = self.state.table.value("group", row)
        return self.state.groups[group].template

    def plan(self, rows: Iterable[int] | IntArray, *, rebuild: bool = False, **limits: Any) -> BuildPlan:
        """Where `rows` would go.  Nothing happens."""
        state, table = self.state, self.state.table
        wanted_rows = as_rows(rows)
        allowed = (*BUILDABLE, NodeState.FAILED) if rebuild else tuple(BUILDABLE)
        refused = wanted_rows[~table.in_states(allowed)[wanted_rows]]
        wanted = Wanted(
            table.ids,
            wanted_rows,
            refused,
            lambda row: refusal(table, row),
            state.server_row,
            table.column("bundle")[wanted_rows],
        )
        bounds = Limits(**limits)
        if state.hosting.isolation != "bundle":
            plan = make_plan(wanted, self.pool, self.asked, bounds, state.pace)
        else:
            capacity, held = state.hosting.capacity, self.held()
            plan = make_hosted_plan(
                wanted, self.pool, self.asked, held, state.bundle_actors, capacity, bounds, state.pace
            )
        return replace(plan, sizing=self.pool.sizing)

    def room_for(self, rows: IntArray, bundle_idx: int) -> str:
        """Why `rows` do not fit into a bundle beside those that stay there, or nothing."""
        table = self.state.table
        states, bundles = table.column("state")[rows].copy(), table.column("bundle")[rows].copy()
        # A plan of nodes as if they were released: their present state comes back before anybody looks.
        table.column("state")[rows] = NodeState.RELEASED.code
        try:
            plan = self.plan(rows, only_bundle=bundle_idx)
        finally:
            table.column("state")[rows], table.column("bundle")[rows] = states, bundles
        return plan.left_out[0].why if len(plan.left_out) else ""

    def held(self) -> IntArray:
        """How many nodes each bundle holds, by position in the pool."""
        table = self.state.table
        bundles = table.column("bundle")[table.in_states(HOLDING) & (table.column("bundle") >= 0)] - self.pool.offset
        inside = bundles[(bundles >= 0) & (bundles < len(self.pool))]
        counts: IntArray = np.bincount(inside, minlength=len(self.pool))
        return counts

    # -- who is where ----------------------------------------------------------------------------

    def among(self, rows: IntArray, states: Iterable[NodeState]) -> IntArray:
        """Those of `rows` that are in one of some states."""
        chosen: IntArray = rows[self.state.table.in_states(tuple(states))[rows]]
        return chosen

    def waiting(self, rows: IntArray) -> BoolArray:
        """Which of `rows` are pending or starting."""
        return np.asarray(self.state.table.in_states(WAITING)[rows])

    def all_waiting(self) -> IntArray:
        """Rows of all nodes that are pending or starting."""
        return np.flatnonzero(self.state.table.in_states(WAITING))

    def in_bundles(self, bundles: range) -> IntArray:
        """Rows of the nodes with a process in some bundles."""
        column = self.state.table.column("bundle")
        inside = (column >= bundles.start) & (column < bundles.stop) & self.state.table.in_states(HOLDING)
        return np.flatnonzero(inside)

    def idle_except(self, rows: IntArray) -> IntArray:
        """Rows of ready client nodes that are not among `rows`."""
        ready = np.flatnonzero(self.state.table.in_states((NodeState.READY,)))
        idle: IntArray = ready[~np.isin(ready, rows) & (ready != self.state.server_row)]
        return idle

    # -- waiting ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Some nodes have changed their state: let those go on who waited for it."""
        self.on_wake()
        for rows, states, future in self._waiters:
            if not future.done() and not len(self.among(rows, states)):
                future.set_result(None)
        self._waiters = [waiter for waiter in self._waiters if not waiter[2].done()]

    async def settled(self, rows: Iterable[int] | IntArray, timeout: float | None) -> None:
        """Wait until none of `rows` is pending or starting, at most `timeout` seconds."""
        await self._until_not(as_rows(rows), WAITING, timeout)

    async def idle(self, rows: IntArray, timeout: float | None) -> None:
        """Wait until none of `rows` is at work, at most `timeout` seconds."""
        await self._until_not(rows, frozenset({NodeState.BUSY}), timeout)

    async def _until_not(self, rows: IntArray, states: frozenset[NodeState], timeout: float | None) -> None:
        chosen = self.among(rows, states)
        if len(chosen):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((chosen, states, future))
            await asyncio.wait([future], timeout=timeout)
            future.cancel()

    # -- telling ---------------------------------------------------------------------------------

    def name(self, rows: IntArray) -> str:
        """The id of one node, or how many they are."""
        return self.state.table.ids[int(rows[0])] if len(rows) == 1 else f"{len(rows)} nodes"

    def tell(self, rows: IntArray, level: str, text: str, node_state: NodeState, **data: Any) -> None:
        """One event about some nodes."""
        told: dict[str, Any] = {"rows": row_ranges(rows), "state": str(node_state), **data}
        if len(rows) <= NAMED_IDS:
            told["ids"] = self.state.table.ids.take(rows)
        self.state.record("node", level, self.name(rows), text, str(node_state), told)

    def note_failed(self, rows: IntArray, cause: Cause) -> None:
        """Nodes are failed from now on, all for one reason."""
        state = self.state
        for row in rows.tolist():
            state.causes[row] = cause
            state.note_error(row, cause)
        state.set_state(rows, NodeState.FAILED)
        bundles = state.table.column("bundle")[rows]
        # Without it they would stand in the pool in a replay, and after a recovery.
        alone = len(rows) == 1 and not state.hosted(rows)[0]
        where = {"bundle": int(bundles[0])} if alone else {"bundles": bundle_spans(rows, bundles)}
        trace = without_middle(cause.traceback, TRACEBACK_LIMIT)
        self.tell(rows, "error", cause.text, NodeState.FAILED, traceback=trace, died=cause.died, **where)
        self.wake()

    def report(
        self, rows: IntArray, left_out: Mapping[str, str], seconds: float, already: Sequence[str] = ()
    ) -> BuildReport:
        """The result of a build of `rows`."""
        table = self.state.table
        holding, waiting = table.in_states(HOLDING)[rows], self.waiting(rows)
        failed = {}
        for row in self.among(rows, (NodeState.FAILED,)).tolist():
            cause = self.state.causes[row]
            failed[table.ids[row]] = NodeFailure(table.ids[row], cause.text, cause.traceback)
        built = tuple(table.ids.take(rows[holding & ~waiting]))
        return BuildReport(built, failed, tuple(table.ids.take(rows[waiting])), left_out, seconds, already)


def handle_of(state: FederationState, row: int) -> Any:
    """The handle of a node: its actor's, or one that leads into its bundle's actor; None without a process."""
    process = state.processes.get(row)
    if process is not None:
        return process.handle
    table = state.table
    host = state.bundle_actors.get(table.value("bundle", row))
    if host is None or state.hosting.isolation != "bundle" or table.state_of(row) not in HOLDING:
        return None
    template = state.groups[table.value("group", row)].template
    return HostedHandle(host.handle, row, table.ids[row], template, host.name)
