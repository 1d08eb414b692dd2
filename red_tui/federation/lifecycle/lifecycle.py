"""Release, rebuild, removal and turns of nodes, on the engine's thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from red_tui.errors import BuildError, CommandRefused, PlacementError
from red_tui.federation.engine import Engine
from red_tui.federation.lifecycle.node_set import RETIRE_TIMEOUT, as_rows
from red_tui.federation.lifecycle.process_nodes import Processes
from red_tui.federation.lifecycle.topology_publisher import TopologyPublisher
from red_tui.federation.reports import BuildReport, NodeReport
from red_tui.federation.state import FailureDecision, FederationState
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.states import BUILDABLE, HOLDING, NodeState
from red_tui.nodes.table import NO_ROWS, IntArray
from red_tui.placement.availability import RETURN_TIMEOUT, look, remove_groups, script_group_name
from red_tui.placement.build_plan import BuildPlan
from red_tui.placement.feasibility import check_feasible, packs
from red_tui.placement.groups import create_groups
from red_tui.placement.shares import Bundle, describe, total_of
from red_tui.rounds.loop import Turn
from red_tui.runtime.virtual_node import refusal


class Lifecycle(Processes):
    """How nodes give their processes back, get new ones and leave."""

    def __init__(self, state: FederationState, engine: Engine) -> None:
        super().__init__(state, engine)
        self.directory = TopologyPublisher(self)

    # -- release, rebuild, remove ----------------------------------------------------------------

    async def release(self, rows: Iterable[int] | IntArray, *, keep_hosts: bool = False) -> NodeReport:
        """Give processes back; states are kept.

        Args:
            rows: The nodes.
            keep_hosts: Leave hosts running that hold nobody afterwards: others are about to take the places.
        """
        table, chosen = self.state.table, as_rows(rows)
        refused: dict[str, str] = {}
        busy = table.in_states((NodeState.BUSY,))[chosen]
        self._refuse(
            chosen[busy], f"is at work in round {self.state.round.number}: release it after the round", refused
        )
        for state in (NodeState.VIRTUAL, NodeState.RELEASED):
            idle = chosen[table.in_states((state,))[chosen]]
            self._refuse(idle, f"is {state}: it has no process to release", refused)
        able = chosen[table.in_states((*(HOLDING - {NodeState.BUSY}), NodeState.FAILED))[chosen]]
        hosted = self.state.hosted(able)
        waits = [self._let_go(row) for row in able[~hosted].tolist()]
        for row in able[hosted].tolist() if self.state.causes else ():
            self.state.causes.pop(row, None)
        if len(able):
            self.tell(able, "info", f"{len(able)} released" if len(able) > 1 else "released", NodeState.RELEASED)
        if hosted.any():
            await self.release_hosted(able[hosted], NodeState.RELEASED, keep=True, keep_hosts=keep_hosts)
        tasks = [task for task in waits if task is not None]
        if tasks:
            await asyncio.wait(tasks)
        self._outlive(able)
        return NodeReport(tuple(table.ids.take(able)), refused)

    def _outlive(self, rows: IntArray) -> None:
        """Give the states of nodes without a process to the server: what a supervisor keeps dies with it."""
        server = self.state.processes.get(self.state.server_row)
        kept = {row: self.state.kept[row] for row in rows.tolist() if row in self.state.kept}
        if not (self.state.detached and kept and server is not None):
            return
        blocks = list(dict.fromkeys(one.reference for one in kept.values()))
        number = {reference: place for place, reference in enumerate(blocks)}
        places = [(number[one.reference], one.place) for one in kept.values()]
        server.handle.red_keep.remote(list(kept), places, *blocks)

    def _refuse(self, rows: IntArray, why: str, refused: dict[str, str]) -> None:
        refused.update(dict.fromkeys(self.state.table.ids.take(rows), why))

    def _let_go(self, row: int) -> asyncio.Task[None] | None:
        """Release one node that has a process of its own."""
        state = self.state.table.state_of(row)
        process = self.state.processes.pop(row, None)
        self._unseat(row)
        self.state.causes.pop(row, None)
        self.state.set_state(row, NodeState.RELEASED, bundle=-1)
        self.gave_up(row)
        self.wake()
        return None if process is None else self._retire(row, process, keep=state is NodeState.READY)

    async def rebuild_by_policy(self, rows: IntArray) -> None:
        """Replace nodes whose process died; those that find no bundle wait for one."""
        # The pool's own event says why it cannot be had; they are tried again with it.
        with contextlib.suppress(PlacementError):
            await self.rebuild(rows)
        left = rows[self.state.table.in_states((NodeState.FAILED,))[rows]]
        if len(left) and not self.closing:
            self.find_homes(self.decide(left).rows)

    def decide_needed(self, rows: IntArray, tries: int = 0) -> FailureDecision:
        """What the policy says of failed nodes that a round cannot do without."""
        return self.state.failure.decide(rows, self.state.table.column("rebuilds")[rows], needed=True, tries=tries)

    async def replace_needed(self, rows: IntArray, timeout: float | None) -> None:
        """Rebuild those of `rows` that have failed, for a round cannot do without them: the server, aggregators.

        Args:
            rows: The nodes.
            timeout: Seconds to wait until they are ready; None: do not wait.
        """
        failed = self.decide_needed(rows[self.state.table.in_states((NodeState.FAILED,))[rows]]).rows
        if len(failed):
            await self.rebuild(failed, timeout=timeout, wait=timeout is not None)

    async def rebuild(
        self, rows: Iterable[int] | IntArray, *, timeout: float | None = None, wait: bool = False
    ) -> BuildReport:
        """Replace failed nodes, or bring released ones back, with their last state."""
        await self.ensure_pool()
        table, chosen = self.state.table, as_rows(rows)
        refused: dict[str, str] = {}
        self._refuse(chosen[table.in_states((NodeState.VIRTUAL,))[chosen]], "was never built: build it", refused)
        for row in chosen[table.in_states(HOLDING)[chosen]].tolist():
            refused[table.ids[row]] = refusal(table, row)
        plan = self.plan(chosen[table.in_states((NodeState.FAILED, NodeState.RELEASED))[chosen]], rebuild=True)
        placed = plan.placed.rows
        failed = placed[table.in_states((NodeState.FAILED,))[placed]]
        if len(failed):
            table.set(failed, rebuilds=table.column("rebuilds")[failed] + 1)
        report = await self.build(plan, timeout=timeout, wait=wait)
        left_out: Mapping[str, str] = {**refused, **report.left_out} if refused else report.left_out
        return replace(report, left_out=left_out)

    async def remove(
        self, rows: Iterable[int] | IntArray, *, keep_state: bool = False, timeout: float | None = 0.0
    ) -> NodeReport:
        """Forget nodes: their process ends, their row stays as a tombstone.

        Args:
            rows: The nodes.
            keep_state: Keep what `get_state` gives: a node that joins later under the same id gets it.
            timeout: Seconds to wait for nodes that are at work in a round; they take part in no further one meanwhile.
        """
        table, chosen = self.state.table, as_rows(rows)
        self.state.leaving.update(chosen.tolist())
        try:
            await self.idle(chosen, timeout)
            if keep_state:
                await self.release(chosen)
                for row in chosen.tolist():
                    if row in self.state.kept:
                        self.state.kept_by_id[table.ids[row]] = self.state.kept[row]
            return await self._remove(chosen)
        finally:
            self.state.leaving.difference_update(chosen.tolist())

    async def _remove(self, chosen: IntArray) -> NodeReport:
        table = self.state.table
        refused: dict[str, str] = {}
        server = chosen == self.state.server_row
        self._refuse(chosen[server], "the federation cannot be without its server", refused)
        inner = table.with_role(AGGREGATOR_ROLE)[chosen]
        self._refuse(chosen[inner], "aggregates a group: the federation cannot be without it", refused)
        server |= inner
        busy = table.in_states((NodeState.BUSY,))[chosen] & ~server
        self._refuse(chosen[busy], f"is at work in round {self.state.round.number}: remove it after the round", refused)
        able = chosen[~server & ~busy]
        hosted = self.state.hosted(able) & table.in_states((*HOLDING, NodeState.FAILED))[able]
        waits = []
        for row in able[~hosted].tolist():
            process = self.state.processes.pop(row, None)
            self._unseat(row)
            if process is not None:
                waits.append(self._retire(row, process))
        for row in able.tolist():
            for store in (
                self.state.causes,
                self.state.last_errors,
                self.state.kept,
                self.state.facts,
                self.state.build_args,
            ):
                store.pop(row, None)
        names = tuple(table.ids.take(able))
        if len(able):
            self.tell(able, "info", "removed", NodeState.REMOVED)
            self.state.set_state(able[~hosted], NodeState.REMOVED, bundle=-1)
            self.wake()
        if hosted.any():
            await self.release_hosted(able[hosted], NodeState.REMOVED)
        # Last, for who looks at the topology meanwhile keeps what it finds for this number.
        self.state.num_clients -= len(able)
        if waits:
            await asyncio.wait(waits)
        self.directory.follow()
        await self.directory.told()
        return NodeReport(names, refused)

    # -- for rounds ------------------------------------------------------------------------------

    async def next_turn(self, todo: IntArray, timeout: float) -> Turn:
        """Make as many of `todo` ready as there are places for.

        Nodes that have a process go first.  When none of `todo` has one and no place is free, idle
        nodes outside of `todo` are released (their state is kept) and make room.
        """
        table = self.state.table
        missing = todo[table.in_states(BUILDABLE)[todo]]
        later, why_later = NO_ROWS, None
        if len(missing):
            await self.ensure_pool()
            plan = self.plan(missing)
            if len(missing) == len(todo) and not len(plan.placed) and len(idle := self._idle(todo)):
                await self.release(idle[: len(missing)], keep_hosts=True)
                plan = self.plan(missing)
            if len(plan.placed):
                await self.build(plan, wait=False)
            later, why_later = plan.left_out.rows, plan.left_out
        now = todo[~np.isin(todo, later)] if len(later) else todo
        await self.settled(now, timeout)
        ready = now[table.in_states((NodeState.READY,))[now]]
        if not len(ready) and why_later is not None and len(later) == len(todo):
            return Turn(NO_ROWS, {left.row: left.why for left in why_later})
        why = {}
        for row in now[~table.in_states((NodeState.READY,))[now]].tolist():
            cause = self.state.cause_of(row)
            why[row] = cause.text if cause else f"is {table.state_of(row)}"
        return Turn(ready, why)

    def _idle(self, todo: IntArray) -> IntArray:
        """Rows of ready client nodes that are not among `todo`."""
        ready = np.flatnonzero(self.state.table.in_states((NodeState.READY,)))
        idle: IntArray = ready[~np.isin(ready, todo) & (ready != self.state.server_row)]
        return idle

    async def shut_down(self) -> None:
        """End every process and give the pool back."""
        self.closing = True
        processes = list(self.state.processes.items())
        hosts = list(self.state.hosts.values())
        self.state.processes.clear()
        self.state.hosts.clear()
        rows = np.flatnonzero(self.state.table.in_states(HOLDING))
        if len(rows):
            self.state.table.set(rows, state=NodeState.RELEASED, bundle=-1)
            self.tell(rows, "info", "released: the federation ends", NodeState.RELEASED)
        for row, process in processes:
            process.kill()
            self._unseat(row)
        for host in hosts:
            host.kill()
        self.directory.end()
        lifelines = [process.lifeline for _, process in processes] + [host.lifeline for host in hosts]
        waits = [self.spawn(self.gone(lifeline)) for lifeline in lifelines]
        waits += list(self._retiring.values())
        if waits:
            await asyncio.wait(waits, timeout=2 * RETIRE_TIMEOUT)
        if self.state.pool is not None:
            free = await asyncio.get_running_loop().run_in_executor(None, self.state.pool.end)
            if not free:
                self.state.log.warning(
                    "federation %s has ended, and Ray does not count its resources as free after %g s",
                    self.state.fed_id,
                    RETURN_TIMEOUT,
                )


def require_built(report: BuildReport, plan: BuildPlan) -> None:
    """Raise if a build that was asked for placed nobody or left nobody alive."""
    if report.built or report.waiting or report.already:
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


class Elastic(Lifecycle):
    """Grows and shrinks the pool by placement groups (Ray cannot grow a group), and moves nodes."""

    _next_group = 0

    async def add_bundles(self, specs: Sequence[Bundle]) -> list[int]:
        """Reserve further bundles; gives their indices.

        Raises:
            CommandRefused: If the pool is somebody else's placement group.
            PlacementError: If they do not fit; nothing stays reserved then.
        """
        self._own_pool("grow")
        await self.ensure_pool()
        state, pool = self.state, self.pool
        name = f"{state.fed_id}/pool" if state.detached else script_group_name(state.fed_id)
        # A name that has been used stays used: a federation that is taken up again orders its groups by it.
        first = max(len(pool.groups), self._next_group)
        loop = asyncio.get_running_loop()
        now = await loop.run_in_executor(None, look)
        check_feasible(specs, pool.strategy, now.hosts)
        if not packs(specs, now.free_soon()):
            asked = total_of(specs)
            raise PlacementError(
                f"{len(specs)} bundles ({describe(asked)}) do not fit into what is free on the hosts:"
                f" {now.why_no_room(specs)}; release what others hold, or add a host",
                asked=asked,
                available=now.total_free,
            )
        groups = await loop.run_in_executor(
            None,
            lambda: create_groups(specs, pool.strategy, name=name, detached=state.detached, first_number=first),
        )
        self._next_group = first + len(groups)
        made = pool.grow(specs, groups)
        await self.refresh_hosts()
        total = describe(specs[0]) if len(specs) == 1 else f"{len(specs)} bundles"
        state.record(
            "cluster",
            "info",
            "pool",
            f"grew by {total}: bundles {made.start} to {made.stop - 1}",
            data=self._told_pool(),
        )
        return list(made)

    async def remove_bundles(self) -> list[int]:
        """Give the bundles back that were added last; idle nodes in them are released with their state kept.

        Raises:
            CommandRefused: If none were added, or a node in them is at work.
        """
        self._own_pool("shrink")
        pool, state = self.pool, self.state
        last = pool.last_group()
        if last is None:
            raise CommandRefused("the pool has only the bundles that it began with: only those added later can go")
        rows = self._rows_in(last)
        busy = rows[state.table.in_states((NodeState.BUSY,))[rows]]
        if len(busy):
            name = state.table.ids[int(busy[0])]
            raise CommandRefused(f"{len(busy)} nodes in these bundles are at work ({name}): stop the run first")
        if len(rows):
            await self.release(rows)
        group = pool.shrink()
        await asyncio.get_running_loop().run_in_executor(None, remove_groups, [group])
        await self.refresh_hosts()
        state.record(
            "cluster", "info", "pool", f"gave bundles {last.start} to {last.stop - 1} back", data=self._told_pool()
        )
        return list(last)

    async def release_bundles(self) -> NodeReport:
        """Release all nodes and give all bundles back; the next build reserves them again.

        Raises:
            CommandRefused: If the bundles belong to a placement group that was given, or a node is at work.
        """
        self._own_pool("give its bundles back")
        pool, state = self.pool, self.state
        async with self._pool_lock:
            if not pool.ready:
                return NodeReport((), {})
            rows = np.flatnonzero(state.table.in_states(HOLDING))
            busy = rows[state.table.in_states((NodeState.BUSY,))[rows]]
            if len(busy):
                raise CommandRefused(
                    f"{len(busy)} nodes are at work ({state.table.ids[int(busy[0])]}): stop them first"
                )
            self._homeless.clear()
            report = await self.release(rows)
            self.directory.end()
            free = await asyncio.get_running_loop().run_in_executor(None, pool.give_back)
            text = f"gave all {len(pool)} bundles back" + ("" if free else "; Ray does not count them as free yet")
            state.record("cluster", "info" if free else "warn", "pool", text, data=self._told_pool())
            return report

    async def move(self, rows: IntArray, bundle_idx: int, *, timeout: float | None = None) -> BuildReport:
        """Release nodes and build them in another bundle, with their state.

        Raises:
            CommandRefused: If the bundle has no room for all of them, or one is at work.
        """
        table = self.state.table
        busy = rows[table.in_states((NodeState.BUSY,))[rows]]
        if len(busy):
            raise CommandRefused(f"node {table.ids[int(busy[0])]!r} is at work: move it after the round")
        mine = rows[(table.column("bundle")[rows] != bundle_idx) | ~table.in_states(HOLDING)[rows]]
        room = self._room_for(mine, bundle_idx)
        if room:
            raise CommandRefused(room)
        holding = mine[table.in_states(HOLDING)[mine]]
        if len(holding):
            await self.release(holding)
        return await self.build(self.plan(mine, only_bundle=bundle_idx), timeout=timeout)

    def _room_for(self, rows: IntArray, bundle_idx: int) -> str:
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

    def _rows_in(self, bundles: range) -> IntArray:
        column = self.state.table.column("bundle")
        inside = (column >= bundles.start) & (column < bundles.stop) & self.state.table.in_states(HOLDING)
        return np.flatnonzero(inside)

    def _own_pool(self, what: str) -> None:
        if not self.pool.owned:
            raise CommandRefused(
                f"the bundles belong to a placement group that was given: it cannot {what} here; leave `resources` to"
                " the federation (uniform) and it makes a pool of its own"
            )


def bundles_of(count: int, resources: Mapping[str, float]) -> list[Bundle]:
    """`count` bundles alike.

    Raises:
        CommandRefused: If that makes no sense.
    """
    amounts = {name: float(amount) for name, amount in resources.items() if amount > 0}
    if count < 1 or not amounts:
        raise CommandRefused("name at least 1 bundle and what each of them has: add_bundles(2, {'CPU': 1})")
    return [dict(amounts) for _ in range(count)]
