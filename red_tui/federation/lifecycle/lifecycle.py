"""The life of a federation's nodes: build, failure, rebuild, release, move and removal, on the engine's thread.

`Lifecycle` owns the parts, each with a state of its own, and it alone calls across them:

    ProcessNodes ─┐                                              ┌─ NodeSet.note_failed
    BundleNodes  ─┴─ node_failed(rows, cause) ─ FailurePolicy ───┼─ rebuild after the policy's delay
                                                                 └─ LostMachines, where no bundle is free
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from red_tui.errors import BuildError, CommandRefused, PlacementError
from red_tui.federation.engine import Engine
from red_tui.federation.lifecycle.bundle_nodes import BundleNodes, causes_of
from red_tui.federation.lifecycle.elastic_pool import ElasticPool
from red_tui.federation.lifecycle.lifelines import RETIRE_TIMEOUT, BackgroundTasks, Lifelines, gone
from red_tui.federation.lifecycle.lost_machines import LostMachines
from red_tui.federation.lifecycle.node_set import NodeSet, StartPace, as_rows
from red_tui.federation.lifecycle.process_nodes import ProcessNodes
from red_tui.federation.lifecycle.state_store import NodeServices, StateStore
from red_tui.federation.lifecycle.topology_publisher import TopologyPublisher
from red_tui.federation.reports import BuildReport, LeftOutReasons, NodeReport
from red_tui.federation.state import FailureAction, FailureDecision, FederationState
from red_tui.nodes.failures import Cause, is_host_lost
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.states import BUILDABLE, HOLDING, NodeState
from red_tui.nodes.table import NO_ROWS, IntArray
from red_tui.nodes.template import FederatedNode
from red_tui.placement.build_plan import BuildPlan
from red_tui.placement.pool import Pool, Slot
from red_tui.placement.shares import Bundle
from red_tui.rounds.loop import Turn
from red_tui.runtime.batch import Failure
from red_tui.runtime.bundle_handle import BundleProcess
from red_tui.runtime.node_actor import NodeProcess
from red_tui.runtime.virtual_node import refusal


class Lifecycle:
    """How nodes get their processes, lose them, give them back and leave.

    Args:
        state: The federation's.
        engine: On whose thread all of it happens.
        admit: Called, off that thread, before the pool is reserved; raises if it may not be.
    """

    def __init__(self, state: FederationState, engine: Engine, admit: Callable[[], None] = lambda: None) -> None:
        self.state, self.engine = state, engine
        self.tasks = BackgroundTasks(state.log)
        self.nodes = NodeSet(state)
        self.states = StateStore(self.nodes, self.tasks)
        self.bundles = ElasticPool(state, admit)
        services = NodeServices(
            self.nodes, engine, self.tasks, Lifelines(engine, self.tasks), StartPace(state), self.states
        )
        self.process_nodes = ProcessNodes(services, self.node_failed)
        self.bundle_nodes = BundleNodes(services, self)
        self.lost_machines = LostMachines(self.nodes, self.bundles, self.tasks, self._replace_dead)
        self.directory = TopologyPublisher(self.nodes, self.tasks)
        self.rebuilding: set[asyncio.Task[None]] = set()

    # -- what those outside ask of the parts -----------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether the federation ends."""
        return self.nodes.closing

    @property
    def pool(self) -> Pool:
        """The pool; it exists once the first plan was asked for."""
        return self.nodes.pool

    def plan(self, rows: Iterable[int] | IntArray, *, rebuild: bool = False, **limits: Any) -> BuildPlan:
        """Where `rows` would go.  Nothing happens."""
        return self.nodes.plan(rows, rebuild=rebuild, **limits)

    def asked(self, row: int, slot: Slot) -> Mapping[str, float]:
        """What a node takes of a bundle as a process of its own."""
        return self.nodes.asked(row, slot)

    def template(self, row: int) -> type[FederatedNode]:
        """Template of a row."""
        return self.nodes.template(row)

    def wake(self) -> None:
        """Some nodes have changed their state: let those go on who waited for it."""
        self.nodes.wake()

    async def settled(self, rows: Iterable[int] | IntArray, timeout: float | None) -> None:
        """Wait until none of `rows` is pending or starting, at most `timeout` seconds."""
        await self.nodes.settled(rows, timeout)

    async def ensure_pool(self) -> None:
        """Reserve the pool's bundles, once.

        Raises:
            PlacementError: If they do not fit; nothing stays reserved and the next call tries again.
        """
        await self.bundles.reserve()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in the background; its errors are logged."""
        return self.tasks.spawn(coroutine)

    # -- building --------------------------------------------------------------------------------

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
        together = self.bundle_nodes.build(plan, kwargs or {}, stale)
        alone = await self.process_nodes.build(plan, kwargs or {}, stale)
        rows = np.concatenate([together, alone])
        if wait:
            await self.settled(rows, timeout)
        left_out = LeftOutReasons(plan.left_out.where(~held) if already else plan.left_out, stale)
        return self.nodes.report(rows, left_out, time.perf_counter() - started, already)

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
        plan = self.plan(self.nodes.among(chosen, (NodeState.FAILED, NodeState.RELEASED)), rebuild=True)
        failed = self.nodes.among(plan.placed.rows, (NodeState.FAILED,))
        if len(failed):
            table.set(failed, rebuilds=table.column("rebuilds")[failed] + 1)
        report = await self.build(plan, timeout=timeout, wait=wait)
        left_out: Mapping[str, str] = {**refused, **report.left_out} if refused else report.left_out
        return replace(report, left_out=left_out)

    async def move(self, rows: IntArray, bundle_idx: int, *, timeout: float | None = None) -> BuildReport:
        """Release nodes and build them in another bundle, with their state.

        Raises:
            CommandRefused: If the bundle has no room for all of them, or one is at work.
        """
        table = self.state.table
        busy = self.nodes.among(rows, (NodeState.BUSY,))
        if len(busy):
            raise CommandRefused(f"node {table.ids[int(busy[0])]!r} is at work: move it after the round")
        mine = rows[(table.column("bundle")[rows] != bundle_idx) | ~table.in_states(HOLDING)[rows]]
        no_room = self.nodes.room_for(mine, bundle_idx)
        if no_room:
            raise CommandRefused(no_room)
        holding = self.nodes.among(mine, HOLDING)
        if len(holding):
            await self.release(holding)
        return await self.build(self.plan(mine, only_bundle=bundle_idx), timeout=timeout)

    # -- failing ---------------------------------------------------------------------------------

    def node_failed(self, rows: IntArray, cause: Cause, *, machine_lost: bool = False) -> None:
        """Nodes have failed, all for one reason: note it, and do what the failure policy decides.

        Args:
            rows: The nodes; those among them that have no process are failed already, or were given back.
            cause: Why.
            machine_lost: Whether their machine has left the cluster, where the cause does not say so itself.
        """
        if self.closing:
            return
        rows = self.nodes.among(rows, HOLDING)
        hosted = self.state.hosted(rows)
        if cause.unsure and not hosted.all():
            # Ray only lost the connection: the lifeline of a process says whether it has ended.
            rows, hosted = rows[hosted], hosted[hosted]
        if len(rows):
            processes = self.process_nodes.detach(rows[~hosted])
            self.nodes.note_failed(rows, cause)
            for row, process in processes:
                if cause.died:
                    # The cluster may hear of the death later than we do: this frees the name for the next process.
                    process.kill()
                else:
                    self.process_nodes.end(row, process)
            self._carry_out(self._decide(rows, died=cause.died))
        if machine_lost or is_host_lost(cause):
            self.lost_machines.look()

    def fail_each(self, failures: Sequence[Failure]) -> None:
        """Nodes of a bundle's actor failed alone."""
        for rows, cause in causes_of(failures):
            self.node_failed(rows, cause)

    def process_failed(self, row: int, process: NodeProcess, cause: Cause) -> None:
        """A node's own process has ended, or is to be: the node fails, unless it has another process by now."""
        self.process_nodes.process_failed(row, process, cause)

    def bundle_actor_died(self, process: BundleProcess, cause: Cause) -> None:
        """The actor of a bundle has ended, or is to be: its nodes fail with the cause."""
        self.bundle_nodes.actor_died(process, cause)

    def act_on_deaths(self, rows: IntArray) -> None:
        """Do what the policy decides about failed nodes whose processes are gone."""
        self._carry_out(self._decide(rows))

    def decide_needed(self, rows: IntArray, tries: int = 0) -> FailureDecision:
        """What the policy says of failed nodes that a round cannot do without."""
        return self.state.failure.decide(rows, self.state.table.column("rebuilds")[rows], needed=True, tries=tries)

    async def replace_needed(self, rows: IntArray, timeout: float | None) -> None:
        """Rebuild those of `rows` that have failed, for a round cannot do without them: the server, aggregators.

        Args:
            rows: The nodes.
            timeout: Seconds to wait until they are ready; None: do not wait.
        """
        failed = self.decide_needed(self.nodes.among(rows, (NodeState.FAILED,))).rows
        if len(failed):
            await self.rebuild(failed, timeout=timeout, wait=timeout is not None)

    def _decide(self, rows: IntArray, *, died: bool = True) -> FailureDecision:
        return self.state.failure.decide(rows, self.state.table.column("rebuilds")[rows], died=died)

    def _carry_out(self, decision: FailureDecision) -> None:
        if decision.action is FailureAction.REBUILD:
            task = self.spawn(self._rebuild_later(decision))
            self.rebuilding.add(task)
            task.add_done_callback(self._rebuilt)

    def _rebuilt(self, task: asyncio.Task[None]) -> None:
        """What is not there now stays away: who waits for it goes on."""
        self.rebuilding.discard(task)
        if not self.closing:
            self.wake()

    async def _rebuild_later(self, decision: FailureDecision) -> None:
        await asyncio.sleep(decision.delay)
        # Somebody may have rebuilt or removed some of them meanwhile.
        rows = self._decide(self.nodes.among(decision.rows, (NodeState.FAILED,))).rows
        if len(rows) and not self.closing:
            text = f"{'is' if len(rows) == 1 else 'are'} rebuilt by policy after {decision.delay:g} s"
            self.state.record("node", "info", self.nodes.name(rows), text)
            await self._replace_dead(rows)

    async def _replace_dead(self, rows: IntArray) -> None:
        """Replace nodes whose process died; those that find no bundle wait for one."""
        # The pool's own event says why it cannot be had; they are tried again with it.
        with contextlib.suppress(PlacementError):
            await self.rebuild(rows)
        if not self.closing:
            self.lost_machines.wait_for_place(self._decide(self.nodes.among(rows, (NodeState.FAILED,))).rows)

    @property
    def healing(self) -> bool:
        """Whether nodes that died are about to be rebuilt, are being built, or wait for a bundle."""
        return bool(self.rebuilding or len(self.nodes.all_waiting()) or self.lost_machines.waited_for)

    async def healed(self, timeout: float) -> None:
        """Wait until nodes that died have been rebuilt, or their bundles are there again, at most `timeout` seconds."""
        await self.lost_machines.looked(timeout)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while self.rebuilding and loop.time() < until:
            await asyncio.wait(set(self.rebuilding), timeout=until - loop.time())
        await self.settled(self.nodes.all_waiting(), max(0.0, until - loop.time()))

    def epoch_of(self, row: int) -> int:
        """The build that a node in a bundle's actor belongs to."""
        return self.bundle_nodes.epoch_of(row)

    # -- release and removal ---------------------------------------------------------------------

    async def release(self, rows: Iterable[int] | IntArray, *, keep_actors: bool = False) -> NodeReport:
        """Give processes back; states are kept.

        Args:
            rows: The nodes.
            keep_actors: Leave bundles' actors running that hold nobody afterwards: others are about to take the places.
        """
        table, chosen = self.state.table, as_rows(rows)
        refused: dict[str, str] = {}
        busy = self.nodes.among(chosen, (NodeState.BUSY,))
        self._refuse(busy, f"is at work in round {self.state.round.number}: release it after the round", refused)
        for state in (NodeState.VIRTUAL, NodeState.RELEASED):
            without = self.nodes.among(chosen, (state,))
            self._refuse(without, f"is {state}: it has no process to release", refused)
        able = self.nodes.among(chosen, (*(HOLDING - {NodeState.BUSY}), NodeState.FAILED))
        hosted = self.state.hosted(able)
        ending = self.process_nodes.release(able[~hosted])
        for row in able[hosted].tolist() if self.state.causes else ():
            self.state.causes.pop(row, None)
        if len(able):
            text = f"{len(able)} released" if len(able) > 1 else "released"
            self.nodes.tell(able, "info", text, NodeState.RELEASED)
        if hosted.any():
            await self.bundle_nodes.release(able[hosted], NodeState.RELEASED, keep=True, keep_actors=keep_actors)
        if ending:
            await asyncio.wait(ending)
        self.process_nodes.keep_with_server(able)
        return NodeReport(tuple(table.ids.take(able)), refused)

    def _refuse(self, rows: IntArray, why: str, refused: dict[str, str]) -> None:
        refused.update(dict.fromkeys(self.state.table.ids.take(rows), why))

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
            await self.nodes.idle(chosen, timeout)
            if keep_state:
                await self.release(chosen)
                for row in chosen.tolist():
                    self.state.kept.leave(row, table.ids[row])
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
        ending = [self.process_nodes.end(*detached) for detached in self.process_nodes.detach(able[~hosted])]
        for row in able.tolist():
            for store in (
                self.state.causes,
                self.state.last_errors,
                self.state.facts,
                self.state.build_args,
            ):
                store.pop(row, None)
            self.state.kept.pop(row)
        names = tuple(table.ids.take(able))
        if len(able):
            self.nodes.tell(able, "info", "removed", NodeState.REMOVED)
            self.state.set_state(able[~hosted], NodeState.REMOVED, bundle=-1)
            self.wake()
        if hosted.any():
            await self.bundle_nodes.release(able[hosted], NodeState.REMOVED)
        # Last, for who looks at the topology meanwhile keeps what it finds for this number.
        self.state.num_clients -= len(able)
        if ending:
            await asyncio.wait(ending)
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
            await self.states.room()
            plan = self.plan(missing)
            if len(missing) == len(todo) and not len(plan.placed) and len(idle := self.nodes.idle_except(todo)):
                await self.release(idle[: len(missing)], keep_actors=True)
                plan = self.plan(missing)
            if len(plan.placed):
                await self.build(plan, wait=False)
            later, why_later = plan.left_out.rows, plan.left_out
        now = todo[~np.isin(todo, later)] if len(later) else todo
        if len(later):
            self.states.read_ahead(later[: len(now)], np.unique(table.column("bundle")[now]).tolist())
        await self.settled(now, timeout)
        ready = now[table.in_states((NodeState.READY,))[now]]
        if not len(ready) and why_later is not None and len(later) == len(todo):
            return Turn(NO_ROWS, {left.row: left.why for left in why_later})
        why = {}
        for row in now[~table.in_states((NodeState.READY,))[now]].tolist():
            cause = self.state.cause_of(row)
            why[row] = cause.text if cause else f"is {table.state_of(row)}"
        return Turn(ready, why)

    # -- the pool --------------------------------------------------------------------------------

    async def add_bundles(self, specs: Sequence[Bundle]) -> list[int]:
        """Reserve further bundles; gives their indices.

        Raises:
            CommandRefused: If the pool is somebody else's placement group.
            PlacementError: If they do not fit; nothing stays reserved then.
        """
        return list(await self.bundles.grow(specs))

    async def remove_bundles(self) -> list[int]:
        """Give the bundles back that were added last; idle nodes in them are released with their state kept.

        Raises:
            CommandRefused: If none were added, or a node in them is at work.
        """
        last = self.bundles.last_group()
        rows = self.nodes.in_bundles(last)
        busy = self.nodes.among(rows, (NodeState.BUSY,))
        if len(busy):
            name = self.state.table.ids[int(busy[0])]
            raise CommandRefused(f"{len(busy)} nodes in these bundles are at work ({name}): stop the run first")
        if len(rows):
            await self.release(rows)
        await self.bundles.shrink(last)
        return list(last)

    async def release_bundles(self) -> NodeReport:
        """Release all nodes and give all bundles back; the next build reserves them again.

        Raises:
            CommandRefused: If the bundles belong to a placement group that was given, or a node is at work.
        """
        self.bundles.require_own("give its bundles back")
        async with self.bundles.lock:
            if not self.pool.ready:
                return NodeReport((), {})
            rows = np.flatnonzero(self.state.table.in_states(HOLDING))
            busy = self.nodes.among(rows, (NodeState.BUSY,))
            if len(busy):
                name = self.state.table.ids[int(busy[0])]
                raise CommandRefused(f"{len(busy)} nodes are at work ({name}): stop them first")
            self.lost_machines.forget_unplaced()
            report = await self.release(rows)
            self.directory.end()
            await self.bundles.give_back()
            return report

    # -- the end ---------------------------------------------------------------------------------

    async def shut_down(self) -> None:
        """End every process and give the pool back."""
        self.nodes.closing = True
        rows = np.flatnonzero(self.state.table.in_states(HOLDING))
        if len(rows):
            self.state.table.set(rows, state=NodeState.RELEASED, bundle=-1)
            self.nodes.tell(rows, "info", "released: the federation ends", NodeState.RELEASED)
        lifelines, ending = self.process_nodes.kill_all()
        lifelines += self.bundle_nodes.kill_all()
        self.directory.end()
        waits: list[asyncio.Task[None]] = [self.spawn(gone(lifeline)) for lifeline in lifelines]
        if waits or ending:
            await asyncio.wait([*waits, *ending], timeout=2 * RETIRE_TIMEOUT)
        await self.states.end()
        await self.bundles.end()


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


def bundles_of(count: int, resources: Mapping[str, float]) -> list[Bundle]:
    """`count` bundles alike.

    Raises:
        CommandRefused: If that makes no sense.
    """
    amounts = {name: float(amount) for name, amount in resources.items() if amount > 0}
    if count < 1 or not amounts:
        raise CommandRefused("name at least 1 bundle and what each of them has: add_bundles(2, {'CPU': 1})")
    return [dict(amounts) for _ in range(count)]
