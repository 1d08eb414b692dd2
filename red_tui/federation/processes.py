"""Processes of nodes: planned, started, heard of and ended, on the engine's thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from red_tui.errors import PlacementError, RedError
from red_tui.federation.engine import Engine
from red_tui.federation.records import BuildReport, NodeFailure, refused_of
from red_tui.federation.state import SERVER_ID, FederationState
from red_tui.nodes.causes import Cause, cause_of_death, first_sentence
from red_tui.nodes.process import NodeProcess, ProcessSpec, asked_resources, start_process
from red_tui.nodes.states import BUILDABLE, HOLDING, NodeState
from red_tui.nodes.template import FederatedNode
from red_tui.nodes.virtual import refusal
from red_tui.placement.hosts import bundle_hosts
from red_tui.placement.plan import BuildPlan, Candidate, Placed, make_plan
from red_tui.placement.pool import Pool, Slot
from red_tui.rounds.completions import answer_of

RETIRE_TIMEOUT = 5.0
"""Seconds that a process may take to hand over its state before it is ended all the same."""

WAITING = frozenset({NodeState.PENDING, NodeState.STARTING})


class Processes:
    """Plans, starts and hears of the processes of nodes."""

    def __init__(self, state: FederationState, engine: Engine) -> None:
        self.state = state
        self.engine = engine
        self._settled: dict[int, list[asyncio.Future[None]]] = {}
        self._retiring: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pool_lock = asyncio.Lock()
        self.closing = False

    # -- planning --------------------------------------------------------------------------------

    @property
    def pool(self) -> Pool:
        """The pool; it exists once the first plan was asked for."""
        assert self.state.pool is not None
        return self.state.pool

    def asked(self, row: int, slot: Slot) -> Mapping[str, float]:
        """What a node takes of a bundle."""
        return asked_resources(self.template(row), slot.spec)

    def template(self, row: int) -> type[FederatedNode]:
        """Template of a row."""
        group: int = self.state.table.value("group", row)
        return self.state.groups[group].template

    def plan(self, rows: Iterable[int], *, rebuild: bool = False, **limits: Any) -> BuildPlan:
        """Where `rows` would go.  Nothing happens."""
        table = self.state.table
        candidates = []
        for row in rows:
            state = table.state_of(row)
            allowed = state in BUILDABLE or (rebuild and state is NodeState.FAILED)
            bundle = table.value("bundle", row)
            candidates.append(
                Candidate(
                    row,
                    table.ids[row],
                    server=table.ids[row] == SERVER_ID,
                    refused="" if allowed else refusal(table, row),
                    preferred=bundle if bundle >= 0 else None,
                )
            )
        return make_plan(candidates, self.pool, self.asked, **limits)

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
            count = len(self.pool)
            try:
                await loop.run_in_executor(None, self.pool.reserve)
            except PlacementError as error:
                self.state.record("cluster", "error", "pool", error.message)
                raise
            await self.refresh_hosts()
            seconds = time.perf_counter() - started
            self.state.record("cluster", "info", "pool", f"{count} bundles reserved in {seconds:.1f} s")

    async def refresh_hosts(self) -> None:
        """Look up which bundle lies on which host."""
        loop = asyncio.get_running_loop()
        where, hosts = await loop.run_in_executor(None, bundle_hosts, tuple(self.pool.groups))
        self.pool.set_hosts(where, hosts)
        self.state.notify()

    # -- build -----------------------------------------------------------------------------------

    async def build(
        self,
        plan: BuildPlan,
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        wait: bool = True,
    ) -> BuildReport:
        """Carry out a plan: all its nodes start together.

        Raises:
            PlacementError: If the pool's bundles do not fit the cluster.
        """
        started = time.perf_counter()
        await self.ensure_pool()
        left_out = refused_of(plan.left_out)
        rows = []
        for placed in plan.placed:
            stale = self._stale(placed)
            if stale:
                left_out[placed.node_id] = stale
                continue
            await self._start(placed, kwargs or {})
            rows.append(placed.row)
            if len(rows) % 16 == 0:
                await asyncio.sleep(0)
        if wait:
            await self.settled(rows, timeout)
        return self._report(rows, left_out, time.perf_counter() - started)

    def _stale(self, placed: Placed) -> str:
        """Why a node that was planned cannot be built any more, or nothing."""
        table, slot = self.state.table, self.pool.slot_of(placed.bundle_idx)
        state = table.state_of(placed.row)
        if state not in BUILDABLE and state is not NodeState.FAILED:
            return refusal(table, placed.row)
        if slot is None or not (slot.has_room(placed.resources) if placed.resources else not slot.rows):
            return f"bundle {placed.bundle_idx} has been taken since the plan was made: plan again"
        return ""

    async def _start(self, placed: Placed, kwargs: Mapping[str, Any]) -> None:
        state, row = self.state, placed.row
        retiring = self._retiring.get(row)
        self.pool.seat(row, placed.bundle_idx, placed.resources)
        state.seats[row] = (placed.bundle_idx, dict(placed.resources))
        state.causes.pop(row, None)
        host = self.pool.host_name(placed.bundle_idx)
        state.causes[row] = Cause(f"waits for a process on {host or 'its host'} (bundle {placed.bundle_idx})")
        state.set_state(row, NodeState.PENDING, bundle=placed.bundle_idx)
        if retiring is not None:
            await asyncio.wait([retiring])
        group, local_idx = self.pool.locate(placed.bundle_idx)
        state.build_args[row] = kwargs or state.build_args.get(row, {})
        spec = ProcessSpec(
            self.template(row),
            state.fed_id,
            placed.node_id,
            state.table.role_of(row),
            state.config_of(row),
            None,
            group,
            local_idx,
            placed.resources,
            state.detached,
            state.namespace,
        )
        try:
            process = start_process(spec, state.build_args[row], state.kept.get(row))
        except Exception as error:
            self._fail(row, Cause(first_sentence(str(error), 400), f"{type(error).__name__}: {error}"))
            return
        state.processes[row] = process
        for reference, heard in (
            (process.hello, self._on_hello),
            (process.start, self._on_start),
            (process.lifeline, self._on_death),
        ):
            self._watch(reference, heard, row, process)

    def _watch(self, reference: Any, heard: Any, row: int, process: NodeProcess) -> None:
        def arrived(done: Future[Any]) -> None:
            self.engine.post(self._hear, heard, row, process, done)

        reference.future().add_done_callback(arrived)

    def _hear(self, heard: Any, row: int, process: NodeProcess, done: Future[Any]) -> None:
        """Pass a completion on, unless its process has been replaced or given back meanwhile."""
        if self.state.processes.get(row) is process:
            heard(row, process, done)

    def _on_hello(self, row: int, process: NodeProcess, done: Future[Any]) -> None:
        if done.exception() is None:
            self.state.facts[row] = done.result()
            if self.state.table.state_of(row) is NodeState.PENDING:
                self.state.causes.pop(row, None)
                self.state.set_state(row, NodeState.STARTING)

    def _on_start(self, row: int, process: NodeProcess, done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            self._fail(row, cause_of_death(error))
            return
        report = done.result()
        if "error" in report:
            self._fail(row, Cause(f"build raised {report['error']}", report["traceback"]))
            return
        state = self.state
        state.causes.pop(row, None)
        state.set_state(row, NodeState.READY)
        bundle, host = state.table.value("bundle", row), self.pool.host_name(state.table.value("bundle", row))
        where = f"bundle {bundle}" + (f" on {host}" if host else "")
        state.record(
            "node", "good", state.table.ids[row], f"ready in {where}, built in {report['seconds']:.2f} s", "ready",
            {"ids": [state.table.ids[row]], "state": "ready", "bundle": bundle},
        )  # fmt: skip
        self._wake(row)

    def _on_death(self, row: int, process: NodeProcess, done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            self._fail(row, cause_of_death(error))

    def node_failed(self, row: int, cause: Cause) -> None:
        """A node raised in a round, or its process died."""
        if row in self.state.processes:
            self._fail(row, cause)

    def _fail(self, row: int, cause: Cause) -> None:
        state = self.state
        if self.closing:
            return
        process = state.processes.pop(row, None)
        state.causes[row] = cause
        self._unseat(row)
        state.set_state(row, NodeState.FAILED)
        name, bundle = state.table.ids[row], state.table.value("bundle", row)
        state.record(
            "node", "error", name, cause.text, "failed",
            {"ids": [name], "state": "failed", "bundle": bundle, "traceback": cause.traceback[-4000:]},
        )  # fmt: skip
        self._wake(row)
        if process is not None and not cause.died:
            self._retire(row, process)
        delay = state.failure.delay(state.table.value("rebuilds", row))
        if cause.died and delay is not None:
            self.spawn(self._rebuild_later(row, delay))

    async def _rebuild_later(self, row: int, delay: float) -> None:
        await asyncio.sleep(delay)
        if not self.closing and self.state.table.state_of(row) is NodeState.FAILED:
            name = self.state.table.ids[row]
            self.state.record("node", "info", name, f"is rebuilt by policy after {delay:g} s")
            await self.rebuild_by_policy(row)

    async def rebuild_by_policy(self, row: int) -> None:
        """Replace a node whose process died."""
        raise NotImplementedError

    def _unseat(self, row: int) -> None:
        seat = self.state.seats.pop(row, None)
        if seat is not None:
            self.pool.unseat(row, *seat)

    # -- waiting ---------------------------------------------------------------------------------

    def _wake(self, row: int) -> None:
        for future in self._settled.pop(row, []):
            if not future.done():
                future.set_result(None)

    async def settled(self, rows: Sequence[int], timeout: float | None) -> None:
        """Wait until none of `rows` is pending or starting, at most `timeout` seconds."""
        waits = []
        for row in rows:
            if self.state.table.state_of(row) in WAITING:
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._settled.setdefault(row, []).append(future)
                waits.append(future)
        if waits:
            await asyncio.wait(waits, timeout=timeout)

    def _report(self, rows: Sequence[int], left_out: Mapping[str, str], seconds: float) -> BuildReport:
        table = self.state.table
        built, waiting, failed = [], [], {}
        for row in rows:
            name, state = table.ids[row], table.state_of(row)
            if state in WAITING:
                waiting.append(name)
            elif state is NodeState.FAILED:
                cause = self.state.causes[row]
                failed[name] = NodeFailure(name, cause.text, cause.traceback)
            elif state in HOLDING:
                built.append(name)
        return BuildReport(tuple(built), failed, tuple(waiting), dict(left_out), seconds)

    # -- ending -------------------------------------------------------------------------------------

    def _retire(self, row: int, process: NodeProcess, *, keep: bool = False) -> asyncio.Task[None]:
        """End a process that is no longer the node's, after it handed its state over if asked."""

        async def retire() -> None:
            try:
                if keep:
                    reference = process.handle.red_state.remote()
                    await answer_of(reference, RETIRE_TIMEOUT)
                    self.state.kept[row] = reference
            except Exception as error:
                name = self.state.table.ids[row]
                self.state.record("node", "warn", name, f"its state could not be kept: {first_sentence(str(error))}")
            finally:
                process.kill()
                await self._gone(process)
                self._retiring.pop(row, None)

        task = self.spawn(retire())
        self._retiring[row] = task
        return task

    async def _gone(self, process: NodeProcess) -> None:
        """Wait until Ray says that a killed process has ended: then its resources are free."""
        done, _ = await asyncio.wait([asyncio.wrap_future(process.lifeline.future())], timeout=RETIRE_TIMEOUT)
        for lifeline in done:
            lifeline.exception()

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
