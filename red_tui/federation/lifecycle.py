"""Release, rebuild, removal and turns of nodes, on the engine's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import numpy as np

from red_tui.errors import BuildError, CommandRefused
from red_tui.federation.processes import RETIRE_TIMEOUT, Processes
from red_tui.federation.records import BuildReport, Report
from red_tui.federation.state import SERVER_ID
from red_tui.nodes.states import BUILDABLE, HOLDING, NodeState
from red_tui.nodes.virtual import refusal
from red_tui.placement.plan import BuildPlan
from red_tui.rounds.loop import Turn


class Lifecycle(Processes):
    """How nodes give their processes back, get new ones and leave."""

    # -- release, rebuild, remove ----------------------------------------------------------------

    async def release(self, rows: Iterable[int]) -> Report:
        """Give processes back; states are kept."""
        done, refused, waits = [], {}, []
        for row in rows:
            name, state = self.state.table.ids[row], self.state.table.state_of(row)
            if state is NodeState.BUSY:
                refused[name] = f"is at work in round {self.state.round.number}: release it after the round"
                continue
            if state in (NodeState.VIRTUAL, NodeState.RELEASED):
                refused[name] = f"is {state}: it has no process to release"
                continue
            process = self.state.processes.pop(row, None)
            self._unseat(row)
            self.state.causes.pop(row, None)
            self.state.set_state(row, NodeState.RELEASED, bundle=-1)
            self._wake(row)
            if process is not None:
                keep = state is NodeState.READY
                waits.append(self._retire(row, process, keep=keep))
            done.append(name)
        if done:
            text = f"{len(done)} released" if len(done) > 1 else "released"
            self.state.record(
                "node", "info", done[0] if len(done) == 1 else f"{len(done)} nodes", text, "released",
                {"ids": done, "state": "released"},
            )  # fmt: skip
        if waits:
            await asyncio.wait(waits)
        return Report(tuple(done), refused)

    async def rebuild_by_policy(self, row: int) -> None:
        """Replace a node whose process died."""
        await self.rebuild([row])

    async def rebuild(self, rows: Iterable[int], *, timeout: float | None = None, wait: bool = False) -> BuildReport:
        """Replace failed nodes, or bring released ones back, with their last state."""
        await self.ensure_pool()
        rows = list(rows)
        table = self.state.table
        refused = {}
        able = []
        for row in rows:
            state = table.state_of(row)
            if state is NodeState.VIRTUAL:
                refused[table.ids[row]] = "was never built: build it"
            elif state in (NodeState.FAILED, NodeState.RELEASED):
                able.append(row)
            else:
                refused[table.ids[row]] = refusal(table, row)
        plan = self.plan(able, rebuild=True)
        for placed in plan.placed:
            if table.state_of(placed.row) is NodeState.FAILED:
                table.set(placed.row, rebuilds=table.value("rebuilds", placed.row) + 1)
        report = await self.build(plan, timeout=timeout, wait=wait)
        return BuildReport(report.built, report.failed, report.waiting, {**refused, **report.left_out}, report.seconds)

    async def remove(self, rows: Iterable[int]) -> Report:
        """Forget nodes: their process ends, their row stays as a tombstone."""
        table = self.state.table
        done, refused, waits = [], {}, []
        for row in rows:
            name, state = table.ids[row], table.state_of(row)
            if name == SERVER_ID:
                refused[name] = "the federation cannot be without its server"
                continue
            if state is NodeState.BUSY:
                refused[name] = f"is at work in round {self.state.round.number}: remove it after the round"
                continue
            process = self.state.processes.pop(row, None)
            self._unseat(row)
            for store in (self.state.causes, self.state.kept, self.state.losses, self.state.metrics, self.state.facts):
                store.pop(row, None)
            self.state.set_state(row, NodeState.REMOVED, bundle=-1)
            self._wake(row)
            if process is not None:
                waits.append(self._retire(row, process))
            done.append(name)
        self.state.num_clients -= len(done)
        if done:
            self.state.record(
                "node", "info", done[0] if len(done) == 1 else f"{len(done)} nodes", "removed", "",
                {"ids": done, "state": "removed"},
            )  # fmt: skip
        if waits:
            await asyncio.wait(waits)
        return Report(tuple(done), refused)

    # -- for rounds ------------------------------------------------------------------------------

    async def next_turn(self, todo: Sequence[int], timeout: float) -> Turn:
        """Make as many of `todo` ready as there are bundles for.

        Nodes that have a process go first.  When none of `todo` has one and no bundle is free, idle
        nodes outside of `todo` are released (their state is kept) and make room.
        """
        table = self.state.table
        missing = [row for row in todo if table.state_of(row) in BUILDABLE]
        later: set[int] = set()
        if missing:
            await self.ensure_pool()
            plan = self.plan(missing)
            if len(missing) == len(todo) and not plan.placed and (idle := self._idle(todo)):
                await self.release(idle[: len(missing)])
                plan = self.plan(missing)
            if plan.placed:
                await self.build(plan, wait=False)
            later = {left.row for left in plan.left_out}
            causes = {left.row: left.why for left in plan.left_out}
        await self.settled([row for row in todo if row not in later], timeout)
        ready = [row for row in todo if table.state_of(row) is NodeState.READY]
        if not ready and len(later) == len(todo):
            return Turn(np.empty(0, dtype=np.intp), causes)
        why = {}
        for row in todo:
            if row not in later and table.state_of(row) is not NodeState.READY:
                cause = self.state.causes.get(row)
                why[row] = cause.text if cause else f"is {table.state_of(row)}"
        return Turn(np.asarray(ready, dtype=np.intp), why)

    def _idle(self, todo: Sequence[int]) -> list[int]:
        """Rows of ready client nodes that are not among `todo`."""
        ready = np.flatnonzero(self.state.table.in_states((NodeState.READY,)))
        server = self.state.table.row_of(SERVER_ID)
        wanted = {*todo, server}
        return [row for row in ready.tolist() if row not in wanted]

    async def shut_down(self) -> None:
        """End every process and give the pool back."""
        self.closing = True
        processes = list(self.state.processes.items())
        self.state.processes.clear()
        rows = np.flatnonzero(self.state.table.in_states(HOLDING))
        if len(rows):
            self.state.table.set(rows, state=NodeState.RELEASED, bundle=-1)
        for row, process in processes:
            process.kill()
            self._unseat(row)
        waits = [self.spawn(self._gone(process)) for _, process in processes]
        waits += list(self._retiring.values())
        if waits:
            await asyncio.wait(waits, timeout=2 * RETIRE_TIMEOUT)
        if self.state.pool is not None and self.state.pool.owned:
            await asyncio.get_running_loop().run_in_executor(None, self.state.pool.give_back)


def require_built(report: BuildReport, plan: BuildPlan) -> None:
    """Raise if a build that was asked for placed nobody or left nobody alive."""
    if report.built or report.waiting:
        return
    if report.failed:
        first = next(iter(report.failed.values()))
        raise BuildError(
            f"none of {len(report.failed)} nodes could be built; {first.node_id}: {first.why}",
            node=first.node_id,
            bundle=plan.placed[0].bundle_idx if plan.placed else None,
            cause=first.traceback or first.why,
        )
    if report.left_out:
        node_id, why = next(iter(report.left_out.items()))
        if len(report.left_out) == 1:
            raise CommandRefused(why if why.startswith("node ") else f"node {node_id!r}: {why}")
        raise CommandRefused(f"none of {len(report.left_out)} nodes can be built; {node_id}: {why}")
