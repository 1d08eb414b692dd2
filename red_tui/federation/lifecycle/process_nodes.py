"""Nodes as processes of their own: started, heard of and ended, on the engine's thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from red_tui.federation.engine import Engine
from red_tui.federation.lifecycle.lost_machines import Losses
from red_tui.federation.lifecycle.node_set import RETIRE_TIMEOUT
from red_tui.federation.reports import BuildReport, LeftOutReasons
from red_tui.federation.state import FederationState, Kept
from red_tui.nodes.failures import Cause, cause_of_death, cause_of_exit, first_sentence, is_host_lost
from red_tui.nodes.states import BUILDABLE, HOLDING, NodeState
from red_tui.nodes.table import IntArray
from red_tui.nodes.user_code import TRACEBACK_LIMIT, without_middle
from red_tui.placement.build_plan import BuildPlan, Placed
from red_tui.rounds.ray_calls import answer_of
from red_tui.runtime.node_actor import NodeProcess, ProcessSpec, start_process
from red_tui.runtime.virtual_node import refusal

NO_STATE = Kept(None)


class Processes(Losses):
    """Starts and hears of the processes of nodes; what lives in hosts is the base's business."""

    def __init__(self, state: FederationState, engine: Engine) -> None:
        super().__init__(state, engine)
        self._retiring: dict[int, asyncio.Task[None]] = {}

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
        stale: dict[str, str] = {}
        held = self.state.table.in_states(HOLDING)[plan.left_out.rows]
        already = self.state.table.ids.take(plan.left_out.rows[held]) if held.any() else []
        if plan.sizing != self.pool.sizing:
            again = self.plan(plan.placed.rows, rebuild=True)
            stale.update({left.node_id: left.why for left in again.left_out})
            plan = replace(again, left_out=plan.left_out)
        rows = [self._build_hosted(plan, kwargs or {}, stale)]
        own = np.flatnonzero(~self.state.hosted(plan.placed.rows))
        for count, position in enumerate(own.tolist(), start=1):
            placed = plan.placed[position]
            why = self._stale(placed)
            if why:
                stale[placed.node_id] = why
                continue
            await self._start(placed, kwargs or {})
            rows.append(np.asarray([placed.row]))
            if count % 16 == 0:
                await asyncio.sleep(0)
        done = np.concatenate(rows)
        if wait:
            await self.settled(done, timeout)
        left_out = LeftOutReasons(plan.left_out.where(~held) if already else plan.left_out, stale)
        return self.report(done, left_out, time.perf_counter() - started, already)

    def _build_hosted(self, plan: BuildPlan, kwargs: Mapping[str, Any], stale: dict[str, str]) -> IntArray:
        """Submit those of a plan that live in hosts; gives their rows."""
        state, table = self.state, self.state.table
        mine = state.hosted(plan.placed.rows)
        rows, bundles = plan.placed.rows[mine], plan.placed.bundles[mine]
        able = table.in_states((*BUILDABLE, NodeState.FAILED))[rows]
        for row in rows[~able].tolist():
            stale[table.ids[row]] = refusal(table, row)
        rows, bundles = rows[able], bundles[able]
        if state.hosting.capacity is not None and len(rows):
            room = state.hosting.capacity - self.held()[bundles - self.pool.offset]
            order = np.zeros(len(rows), dtype=np.int64)
            for bundle in np.unique(bundles).tolist():
                order[bundles == bundle] = np.arange((bundles == bundle).sum())
            for row in rows[order >= room].tolist():
                stale[table.ids[row]] = "its host has filled up since the plan was made: plan again"
            rows, bundles = rows[order < room], bundles[order < room]
        if len(rows):
            self.start_hosted(rows, bundles, kwargs)
        return rows

    def _stale(self, placed: Placed) -> str:
        """Why a node that was planned cannot be built any more, or nothing."""
        table, slot = self.state.table, self.pool.slot_of(placed.bundle_idx)
        state = table.state_of(placed.row)
        if state not in BUILDABLE and state is not NodeState.FAILED:
            return refusal(table, placed.row)
        alone = not placed.resources and placed.row != self.state.server_row
        if slot is None or not (slot.has_room(placed.resources) and not (alone and slot.rows)):
            return f"bundle {placed.bundle_idx} has been taken since the plan was made: plan again"
        return ""

    async def _start(self, placed: Placed, kwargs: Mapping[str, Any]) -> None:
        state, row = self.state, placed.row
        retiring = self._retiring.get(row)
        self.pool.seat(row, placed.bundle_idx, placed.resources)
        state.seats[row] = (placed.bundle_idx, dict(placed.resources))
        state.causes.pop(row, None)
        state.set_state(row, NodeState.PENDING, bundle=placed.bundle_idx)
        if retiring is not None:
            await asyncio.wait([retiring])
        group, local_idx = self.pool.locate(placed.bundle_idx)
        if kwargs:
            state.build_args[row] = kwargs
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
            state.common_config(),
        )
        kept = state.kept.get(row)
        self.submitted(row)
        try:
            process = start_process(spec, state.build_args.get(row, {}), *(kept or NO_STATE))
        except Exception as error:
            self._fail(row, cause_of_death(error))
            return
        state.processes[row] = process
        self._watch(process.hello, self._on_hello, row, process)
        self._watch(process.start, self._on_start, row, process)
        self.watch_process(row, process)

    def watch_process(self, row: int, process: NodeProcess) -> None:
        """Hear of the death of a process."""
        self._watch(process.lifeline, self._on_death, row, process)

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
            self.came_up(row)
            self.state.facts[row] = done.result()
            if self.state.table.state_of(row) is NodeState.PENDING:
                self.state.causes.pop(row, None)
                self.state.set_state(row, NodeState.STARTING)

    def _on_start(self, row: int, process: NodeProcess, done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            cause = cause_of_death(error)
            if not cause.unsure:
                self._fail(row, cause)
            return
        report = done.result()
        if "error" in report:
            self._fail(row, Cause(f"{report['where']} raised {report['error']}", report["traceback"]))
            return
        state = self.state
        state.causes.pop(row, None)
        state.set_state(row, NodeState.READY)
        bundle, host = state.table.value("bundle", row), self.pool.host_name(state.table.value("bundle", row))
        where = f"bundle {bundle}" + (f" on {host}" if host else "")
        text = f"ready in {where}, built in {report['seconds']:.2f} s"
        self.tell(np.asarray([row]), "good", text, NodeState.READY, bundle=bundle)
        self.wake()

    def _on_death(self, row: int, process: NodeProcess, done: Future[Any]) -> None:
        if self.closing:
            return
        error = done.exception()
        cause = cause_of_exit(done.result()) if error is None else cause_of_death(error)
        if cause.unsure:
            self.spawn(self._ask_again(process, lambda: self.watch_process(row, process)))
        else:
            self._fail(row, cause)

    def node_failed(self, row: int, cause: Cause) -> None:
        """A node cannot go on: its process died, or is to be ended."""
        if row in self.state.processes and not cause.unsure:
            self._fail(row, cause)

    def _fail(self, row: int, cause: Cause) -> None:
        state = self.state
        if self.closing:
            return
        process = state.processes.pop(row, None)
        self.gave_up(row)
        state.causes[row] = cause
        state.note_error(row, cause)
        self._unseat(row)
        state.set_state(row, NodeState.FAILED)
        bundle = state.table.value("bundle", row)
        told = {"bundle": bundle, "traceback": without_middle(cause.traceback, TRACEBACK_LIMIT), "died": cause.died}
        self.tell(np.asarray([row]), "error", cause.text, NodeState.FAILED, **told)
        self.wake()
        if process is not None and cause.died:
            # The cluster may hear of the death later than we do: this frees the name for the next process.
            process.kill()
        elif process is not None:
            self._retire(row, process)
        if cause.died:
            self.rebuild_if_wanted(np.asarray([row]))
        if is_host_lost(cause):
            self.host_lost()

    def _unseat(self, row: int) -> None:
        seat = self.state.seats.pop(row, None)
        if seat is not None:
            self.pool.unseat(row, *seat)

    # -- ending -------------------------------------------------------------------------------------

    def _retire(self, row: int, process: NodeProcess, *, keep: bool = False) -> asyncio.Task[None]:
        """End a process that is no longer the node's, after it handed its state over if asked."""

        async def retire() -> None:
            try:
                if keep:
                    reference = process.handle.red_state.remote()
                    await answer_of(reference, RETIRE_TIMEOUT)
                    self.state.kept[row] = Kept(reference)
            except Exception as error:
                name = self.state.table.ids[row]
                why = f"get_state {cause_of_death(error).text}" if str(error) else f"no answer in {RETIRE_TIMEOUT:g} s"
                self.state.record("node", "warn", name, f"its state could not be kept: {first_sentence(why)}")
            finally:
                process.kill()
                await self.gone(process.lifeline)
                self._retiring.pop(row, None)

        task = self.spawn(retire())
        self._retiring[row] = task
        return task
