"""Nodes with a process of their own: started, heard of and ended, on the engine's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np

from red_tui.federation.lifecycle.lifelines import RETIRE_TIMEOUT, gone
from red_tui.federation.lifecycle.node_set import NodesFailed
from red_tui.federation.lifecycle.state_store import NodeServices
from red_tui.node_states.kept_states import Kept
from red_tui.nodes.failures import Cause, cause_of_death, first_sentence
from red_tui.nodes.states import BUILDABLE, NodeState
from red_tui.nodes.table import IntArray
from red_tui.placement.build_plan import BuildPlan, Placed
from red_tui.rounds.ray_calls import answer_of
from red_tui.runtime.node_actor import NodeProcess, ProcessSpec, start_process
from red_tui.runtime.virtual_node import refusal

NO_STATE = Kept(None)


class ProcessNodes:
    """Starts the processes of nodes, hears of their end and ends them.

    Args:
        services: What starting and ending nodes stands on.
        failed: Told of each node that fails; it decides what happens to it.
    """

    def __init__(self, services: NodeServices, failed: NodesFailed) -> None:
        self._nodes, self._state, self._states = services.nodes, services.nodes.state, services.states
        self._engine, self._tasks = services.engine, services.tasks
        self._lifelines, self._pace, self._failed = services.lifelines, services.pace, failed
        self._retiring: dict[int, asyncio.Task[None]] = {}

    # -- building --------------------------------------------------------------------------------

    async def build(self, plan: BuildPlan, kwargs: Mapping[str, Any], stale: dict[str, str]) -> IntArray:
        """Start those of a plan that have a process of their own; gives their rows, and why others are `stale`."""
        started: list[int] = []
        own = np.flatnonzero(~self._state.hosted(plan.placed.rows))
        for count, position in enumerate(own.tolist(), start=1):
            placed = plan.placed[position]
            why = self._why_stale(placed)
            if why:
                stale[placed.node_id] = why
                continue
            await self._start(placed, kwargs)
            started.append(placed.row)
            if count % 16 == 0:
                await asyncio.sleep(0)
        return np.asarray(started, dtype=np.int64)

    def _why_stale(self, placed: Placed) -> str:
        """Why a node that was planned cannot be built any more, or nothing."""
        table, slot = self._state.table, self._nodes.pool.slot_of(placed.bundle_idx)
        state = table.state_of(placed.row)
        if state not in BUILDABLE and state is not NodeState.FAILED:
            return refusal(table, placed.row)
        alone = not placed.resources and placed.row != self._state.server_row
        if slot is None or not (slot.has_room(placed.resources) and not (alone and slot.rows)):
            return f"bundle {placed.bundle_idx} has been taken since the plan was made: plan again"
        return ""

    async def _start(self, placed: Placed, kwargs: Mapping[str, Any]) -> None:
        state, row = self._state, placed.row
        retiring = self._retiring.get(row)
        self._seat(row, placed.bundle_idx, placed.resources)
        state.causes.pop(row, None)
        state.set_state(row, NodeState.PENDING, bundle=placed.bundle_idx)
        if retiring is not None:
            await asyncio.wait([retiring])
        group, local_idx = self._nodes.pool.locate(placed.bundle_idx)
        if kwargs:
            state.build_args[row] = kwargs
        spec = ProcessSpec(
            self._nodes.template(row),
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
            state.common_config(),
        )
        seat = state.seats[row]
        kept = state.kept.get(row) or await self._states.fetch_one(row)
        if state.seats.get(row) is not seat:
            # Released, or built elsewhere, while its state was fetched.
            return
        self._pace.submitted(row)
        try:
            process = start_process(spec, state.build_args.get(row, {}), *(kept or NO_STATE))
        except Exception as error:
            self._fail(row, cause_of_death(error))
            return
        state.processes[row] = process
        self._hear(process.hello, self._on_hello, row, process)
        self._hear(process.start, self._on_start, row, process)
        self._watch(row, process)

    def _seat(self, row: int, bundle: int, resources: Mapping[str, float]) -> None:
        self._nodes.pool.seat(row, bundle, resources)
        self._state.seats[row] = (bundle, dict(resources))

    def _unseat(self, row: int) -> None:
        seat = self._state.seats.pop(row, None)
        if seat is not None:
            self._nodes.pool.unseat(row, *seat)

    def adopt(self, row: int, process: NodeProcess, bundle: int, facts: Mapping[str, Any]) -> None:
        """Go on with a process that lives from before: its node is ready."""
        slot = self._nodes.pool.slot_of(bundle)
        assert slot is not None
        self._seat(row, bundle, self._nodes.asked(row, slot))
        self._state.processes[row] = process
        self._state.facts[row] = facts
        self._state.table.set(row, state=NodeState.READY, bundle=bundle)
        self._watch(row, process)

    # -- hearing ---------------------------------------------------------------------------------

    def _is_current(self, row: int, process: NodeProcess) -> bool:
        """Whether a process is still its node's: it has not been replaced or given back."""
        return self._state.processes.get(row) is process

    def _watch(self, row: int, process: NodeProcess) -> None:
        self._lifelines.watch(
            process,
            lambda: self._is_current(row, process) and not self._nodes.closing,
            lambda cause: self.process_failed(row, process, cause),
        )

    def process_failed(self, row: int, process: NodeProcess, cause: Cause) -> None:
        """A process has ended, or is to be, or lost its work: its node fails, unless it has another process by now."""
        if self._is_current(row, process):
            self._fail(row, cause)

    def _hear(self, reference: Any, heard: Any, row: int, process: NodeProcess) -> None:
        def arrived(done: Future[Any]) -> None:
            self._engine.post(self._heard, heard, row, process, done)

        reference.future().add_done_callback(arrived)

    def _heard(self, heard: Any, row: int, process: NodeProcess, done: Future[Any]) -> None:
        if self._is_current(row, process):
            heard(row, done)

    def _on_hello(self, row: int, done: Future[Any]) -> None:
        if done.exception() is None:
            self._pace.came_up(row)
            self._state.facts[row] = done.result()
            if self._state.table.state_of(row) is NodeState.PENDING:
                self._state.causes.pop(row, None)
                self._state.set_state(row, NodeState.STARTING)

    def _on_start(self, row: int, done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            self._fail(row, cause_of_death(error))
            return
        report = done.result()
        if "error" in report:
            self._fail(row, Cause(f"{report['where']} raised {report['error']}", report["traceback"]))
            return
        state = self._state
        state.causes.pop(row, None)
        state.set_state(row, NodeState.READY)
        if row == state.server_row:
            # One that was replaced took with it what it held.
            self.keep_with_server(np.fromiter(state.kept.held(), dtype=np.int64))
        bundle = state.table.value("bundle", row)
        host = self._nodes.pool.host_name(bundle)
        where = f"bundle {bundle}" + (f" on {host}" if host else "")
        text = f"ready in {where}, built in {report['seconds']:.2f} s"
        self._nodes.tell(np.asarray([row]), "good", text, NodeState.READY, bundle=bundle)
        self._nodes.wake()

    def _fail(self, row: int, cause: Cause) -> None:
        self._failed(np.asarray([row], dtype=np.int64), cause)

    # -- ending ----------------------------------------------------------------------------------

    def detach(self, rows: IntArray) -> list[tuple[int, NodeProcess]]:
        """Take the processes of nodes away from them, and their places in the pool; the processes live on."""
        processes = []
        for row in rows.tolist():
            process = self._state.processes.pop(row, None)
            self._pace.gave_up(row)
            self._unseat(row)
            if process is not None:
                processes.append((row, process))
        return processes

    def end(self, row: int, process: NodeProcess, *, keep: bool = False) -> asyncio.Task[None]:
        """End a process that is no longer the node's, after it handed its state over if asked."""

        async def retire() -> None:
            try:
                if keep:
                    reference = process.handle.red_state.remote()
                    await answer_of(reference, RETIRE_TIMEOUT)
                    self._state.kept.hold(row, Kept(reference))
                    self._states.look()
            except Exception as error:
                name = self._state.table.ids[row]
                why = f"get_state {cause_of_death(error).text}" if str(error) else f"no answer in {RETIRE_TIMEOUT:g} s"
                self._state.record("node", "warn", name, f"its state could not be kept: {first_sentence(why)}")
            finally:
                process.kill()
                await gone(process.lifeline)
                self._retiring.pop(row, None)

        task = self._tasks.spawn(retire())
        self._retiring[row] = task
        return task

    def release(self, rows: IntArray) -> list[asyncio.Task[None]]:
        """Give processes back; the states of those that are ready are kept once the tasks are done."""
        tasks = []
        for row in rows.tolist():
            keep = self._state.table.state_of(row) is NodeState.READY
            processes = self.detach(np.asarray([row]))
            self._state.causes.pop(row, None)
            self._state.set_state(row, NodeState.RELEASED, bundle=-1)
            self._nodes.wake()
            tasks += [self.end(row, process, keep=keep) for _, process in processes]
        return tasks

    def keep_with_server(self, rows: IntArray) -> None:
        """Give the states of nodes without a process to the server: what a supervisor keeps dies with it."""
        server = self._state.processes.get(self._state.server_row)
        held = self._state.kept.held() if self._state.detached and not self._state.kept.on_disk else {}
        kept = {row: held[row] for row in rows.tolist() if row in held}
        if not (self._state.detached and kept and server is not None):
            return
        blocks = list(dict.fromkeys(where.reference for where in kept.values()))
        number = {reference: place for place, reference in enumerate(blocks)}
        places = [(number[where.reference], where.place) for where in kept.values()]
        server.handle.red_keep.remote(list(kept), places, *blocks)

    def kill_all(self) -> tuple[list[Any], list[asyncio.Task[None]]]:
        """End all processes at once; gives their lifelines, and the tasks of those that end already."""
        processes = self.detach(np.asarray(list(self._state.processes), dtype=np.int64))
        for _, process in processes:
            process.kill()
        return [process.lifeline for _, process in processes], list(self._retiring.values())
