"""What all work on nodes stands on: plans, the pool, waiting for nodes, and background work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from red_tui.errors import PlacementError, RedError
from red_tui.federation.engine import Engine
from red_tui.federation.reports import BuildReport, NodeFailure
from red_tui.federation.state import FederationState
from red_tui.nodes.states import BUILDABLE, HOLDING, NodeState
from red_tui.nodes.table import BoolArray, IntArray
from red_tui.nodes.template import FederatedNode
from red_tui.placement.build_plan import BuildPlan, Limits, Wanted, make_hosted_plan, make_plan
from red_tui.placement.feasibility import ROUNDING, bundle_hosts
from red_tui.placement.pool import Pool, Slot
from red_tui.runtime.bundle_handle import HostedHandle
from red_tui.runtime.node_actor import asked_resources
from red_tui.runtime.virtual_node import refusal

RETIRE_TIMEOUT = 5.0
"""Seconds that a process may take to hand over its state before it is ended all the same."""

WAITING = frozenset({NodeState.PENDING, NodeState.STARTING})

NAMED_IDS = 64
"""Max ids listed in an event; its row ranges are always complete."""


def as_rows(rows: Iterable[int] | IntArray) -> IntArray:
    """Rows as an array."""
    return np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), dtype=np.int64)


class Ground:
    """Plans, the pool, waiting, and background work; all on the engine's thread."""

    def __init__(self, state: FederationState, engine: Engine) -> None:
        self.state = state
        self.engine = engine
        self._waiters: list[tuple[IntArray, frozenset[NodeState], asyncio.Future[None]]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pool_lock = asyncio.Lock()
        self._starting: set[Any] = set()
        self._wave_began, self._wave_came = 0.0, 0
        self.on_wake: Callable[[], None] = lambda: None
        """Called when nodes have changed their state."""
        self.admit: Callable[[], None] = lambda: None
        """Called, off the engine's thread, before the pool is reserved; raises if it may not be."""
        self.closing = False

    # -- planning --------------------------------------------------------------------------------

    @property
    def pool(self) -> Pool:
        """The pool; it exists once the first plan was asked for."""
        assert self.state.pool is not None
        return self.state.pool

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
            plan = make_hosted_plan(wanted, self.pool, self.asked, held, state.hosts, capacity, bounds, state.pace)
        return replace(plan, sizing=self.pool.sizing)

    def held(self) -> IntArray:
        """How many nodes each slot's host holds, by position in the pool."""
        table = self.state.table
        bundles = table.column("bundle")[table.in_states(HOLDING) & (table.column("bundle") >= 0)] - self.pool.offset
        inside = bundles[(bundles >= 0) & (bundles < len(self.pool))]
        counts: IntArray = np.bincount(inside, minlength=len(self.pool))
        return counts

    async def ensure_pool(self) -> None:
        """Reserve the pool's bundles, once.

        Raises:
            PlacementError: If they do not fit; nothing stays reserved and the next call tries again.
        """
        async with self._pool_lock:
            if self.pool.ready:
                if not self.pool.hosts:
                    await self.refresh_hosts()
                return
            started = time.perf_counter()
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(None, self.admit)
                if self.pool.provisional:
                    self.pool.resize(await loop.run_in_executor(None, self.pool.measure))
                await loop.run_in_executor(None, self.pool.reserve)
            except PlacementError as error:
                self.state.record("cluster", "error", "pool", error.message)
                raise
            await self.refresh_hosts()
            count = len(self.pool)
            seconds = time.perf_counter() - started
            self.state.record(
                "cluster", "info", "pool", f"{count} bundles reserved in {seconds:.1f} s", data=self._told_pool()
            )

    def _told_pool(self) -> dict[str, Any]:
        """The pool, for the journal."""
        return {"pool": self.pool.to_wire()}

    async def refresh_hosts(self) -> None:
        """Look up which bundle lies on which host."""
        loop = asyncio.get_running_loop()
        where, hosts = await loop.run_in_executor(None, bundle_hosts, tuple(self.pool.groups))
        self.pool.set_hosts(where, hosts)
        self.state.notify()

    # -- waiting ---------------------------------------------------------------------------------

    def _in(self, rows: IntArray, states: frozenset[NodeState]) -> BoolArray:
        """Which of `rows` are in one of some states."""
        return np.asarray(self.state.table.in_states(states)[rows])

    def _waiting(self, rows: IntArray) -> BoolArray:
        """Which of `rows` are pending or starting."""
        return np.asarray(self.state.table.in_states(WAITING)[rows])

    def wake(self) -> None:
        """Some nodes have changed their state: let those go on who waited for it."""
        self.on_wake()
        for rows, states, future in self._waiters:
            if not future.done() and not self._in(rows, states).any():
                future.set_result(None)
        self._waiters = [waiter for waiter in self._waiters if not waiter[2].done()]

    async def settled(self, rows: Iterable[int] | IntArray, timeout: float | None) -> None:
        """Wait until none of `rows` is pending or starting, at most `timeout` seconds."""
        await self._until_not(as_rows(rows), WAITING, timeout)

    async def idle(self, rows: IntArray, timeout: float | None) -> None:
        """Wait until none of `rows` is at work, at most `timeout` seconds."""
        await self._until_not(rows, frozenset({NodeState.BUSY}), timeout)

    async def _until_not(self, rows: IntArray, states: frozenset[NodeState], timeout: float | None) -> None:
        chosen = rows[self._in(rows, states)]
        if len(chosen):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((chosen, states, future))
            await asyncio.wait([future], timeout=timeout)
            future.cancel()

    def report(
        self, rows: IntArray, left_out: Mapping[str, str], seconds: float, already: Sequence[str] = ()
    ) -> BuildReport:
        """The result of a build of `rows`."""
        table = self.state.table
        holding, waiting = table.in_states(HOLDING)[rows], self._waiting(rows)
        failed = {}
        for row in rows[table.in_states((NodeState.FAILED,))[rows]].tolist():
            cause = self.state.causes[row]
            failed[table.ids[row]] = NodeFailure(table.ids[row], cause.text, cause.traceback)
        built = tuple(table.ids.take(rows[holding & ~waiting]))
        return BuildReport(built, failed, tuple(table.ids.take(rows[waiting])), left_out, seconds, already)

    # -- background --------------------------------------------------------------------------------

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine in the background; its errors are logged."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # A RedError is a refusal or a failed round: whoever asked hears of it, and the journal holds it.
        if error is not None and not isinstance(error, RedError):
            self.state.log.error("background work failed", exc_info=error)

    # -- the pace of starting processes ------------------------------------------------------------

    def submitted(self, key: Any) -> None:
        """A process was asked for."""
        if not self._starting:
            self._wave_began, self._wave_came = time.monotonic(), 0
        self._starting.add(key)

    def came_up(self, key: Any) -> None:
        """A process has answered: the next plan says how long one takes when so many start together."""
        if key in self._starting:
            self._starting.discard(key)
            self._wave_came += 1
            self.state.pace = (time.monotonic() - self._wave_began) / self._wave_came

    def gave_up(self, key: Any) -> None:
        """A process failed before it answered, or is not wanted any more."""
        self._starting.discard(key)


def handle_of(state: FederationState, row: int) -> Any:
    """The handle of a node: its actor's, or one that leads into its host; None without a process."""
    process = state.processes.get(row)
    if process is not None:
        return process.handle
    table = state.table
    host = state.hosts.get(table.value("bundle", row))
    if host is None or state.hosting.isolation != "bundle" or table.state_of(row) not in HOLDING:
        return None
    template = state.groups[table.value("group", row)].template
    return HostedHandle(host.handle, row, table.ids[row], template, host.name)
