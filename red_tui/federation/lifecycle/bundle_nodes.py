"""Nodes that share an actor with the other nodes of their bundle: built, heard of and released."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from red_tui.errors import CommandRefused
from red_tui.federation.lifecycle.lifelines import RETIRE_TIMEOUT, gone
from red_tui.federation.lifecycle.node_set import as_rows
from red_tui.federation.lifecycle.state_store import NodeServices
from red_tui.node_states.kept_states import Kept
from red_tui.nodes.failures import Cause, cause_of_death, first_sentence, is_host_lost
from red_tui.nodes.states import BUILDABLE, BUILT, HOLDING, NodeState
from red_tui.nodes.table import IntArray, bundle_spans
from red_tui.nodes.template import actor_options
from red_tui.placement.build_plan import BuildPlan
from red_tui.rounds.ray_calls import BundleStream, answer_of
from red_tui.runtime.batch import Failure
from red_tui.runtime.bundle_handle import BundleActorSpec, BundleProcess, start_bundle_actor
from red_tui.runtime.virtual_node import refusal

PATIENCE_A_NODE = 0.02
"""Further seconds that a bundle's actor may take for the state of each of its nodes."""


class FailureListener(Protocol):
    """Decides what happens to nodes that fail."""

    def node_failed(self, rows: IntArray, cause: Cause, *, machine_lost: bool = False) -> None:
        """Nodes failed, all for one reason; `machine_lost`: their machine has left the cluster."""


class BundleNodes:
    """Starts the actors of bundles, builds nodes in them, hears of their end and ends them.

    Args:
        services: What starting and ending nodes stands on.
        listener: Told of nodes that fail; it decides what happens to them.
    """

    def __init__(self, services: NodeServices, listener: FailureListener) -> None:
        self._nodes, self._state, self._states = services.nodes, services.nodes.state, services.states
        self._engine, self._tasks = services.engine, services.tasks
        self._lifelines, self._pace, self._listener = services.lifelines, services.pace, listener
        self._epoch = 0
        self._epochs: IntArray = np.zeros(0, dtype=np.int64)
        self._releasing: list[tuple[IntArray, asyncio.Task[None]]] = []

    def rows_in(self, bundle: int, states: Iterable[NodeState] = HOLDING) -> IntArray:
        """Rows of the nodes of a bundle's actor that are in one of `states`."""
        table = self._state.table
        rows = np.flatnonzero((table.column("bundle") == bundle) & table.in_states(states))
        return rows[self._state.hosted(rows)]

    def epoch_of(self, row: int) -> int:
        """The build that a row belongs to; 0 if it was never built in a bundle's actor."""
        return int(self._epochs[row]) if row < len(self._epochs) else 0

    # -- building --------------------------------------------------------------------------------

    def build(self, plan: BuildPlan, kwargs: Mapping[str, Any], stale: dict[str, str]) -> IntArray:
        """Submit those of a plan that live in bundles' actors; gives their rows, and why others are `stale`."""
        state, table = self._state, self._state.table
        mine = state.hosted(plan.placed.rows)
        rows, bundles = plan.placed.rows[mine], plan.placed.bundles[mine]
        able = table.in_states((*BUILDABLE, NodeState.FAILED))[rows]
        for row in rows[~able].tolist():
            stale[table.ids[row]] = refusal(table, row)
        rows, bundles = rows[able], bundles[able]
        if state.hosting.capacity is not None and len(rows):
            room = state.hosting.capacity - self._nodes.held()[bundles - self._nodes.pool.offset]
            order = np.zeros(len(rows), dtype=np.int64)
            for bundle in np.unique(bundles).tolist():
                order[bundles == bundle] = np.arange((bundles == bundle).sum())
            for row in rows[order >= room].tolist():
                stale[table.ids[row]] = "its host has filled up since the plan was made: plan again"
            rows, bundles = rows[order < room], bundles[order < room]
        if len(rows):
            self._submit(rows, bundles, kwargs)
        return rows

    def _submit(self, rows: IntArray, bundles: IntArray, kwargs: Mapping[str, Any]) -> None:
        """Submit nodes to the actors of their bundles, which are started if they are not up."""
        state = self._state
        self._epoch += 1
        self._note_epoch(rows)
        for row in rows.tolist() if state.causes or kwargs else ():
            state.causes.pop(row, None)
            if kwargs:
                state.build_args[row] = kwargs
        up = np.isin(bundles, list(state.bundle_facts))
        for chosen, into in ((up, NodeState.STARTING), (~up, NodeState.PENDING)):
            if chosen.any():
                state.table.set(rows[chosen], state=into, bundle=bundles[chosen])
        state.notify()
        calls: list[asyncio.Task[None]] = []
        for bundle in np.unique(bundles).tolist():
            inside = rows[bundles == bundle]
            actor = state.bundle_actors.get(bundle)
            if actor is None:
                try:
                    actor = self._start_actor(bundle)
                except Exception as error:
                    self._listener.node_failed(
                        inside, Cause(first_sentence(str(error), 400), f"{type(error).__name__}: {error}")
                    )
                    continue
            calls.append(self._tasks.spawn(self._build_in(actor, inside, self._epoch)))
        self._tasks.spawn(self._tell_ready(rows, self._epoch, calls))

    async def _tell_ready(self, rows: IntArray, epoch: int, calls: Sequence[asyncio.Task[None]]) -> None:
        """One event about all nodes of a build, when the last actor is done."""
        started = time.perf_counter()
        if calls:
            await asyncio.wait(calls)
        built = rows[self._state.table.in_states(BUILT)[rows] & (self._epochs[rows] == epoch)]
        if not len(built):
            return
        bundles = self._state.table.column("bundle")[built]
        used = np.unique(bundles).tolist()
        where = f"bundle {used[0]}" if len(used) == 1 else f"{len(used)} bundles"
        if len(used) == 1 and self._nodes.pool.host_name(used[0]):
            where += f" on {self._nodes.pool.host_name(used[0])}"
        text = f"ready in {where}, built in {time.perf_counter() - started:.2f} s"
        self._nodes.tell(built, "good", text, NodeState.READY, bundles=bundle_spans(built, bundles))

    def _note_epoch(self, rows: IntArray) -> None:
        """Which build each row belongs to: what an older one still tells of it is not heard."""
        if len(self._epochs) < len(self._state.table):
            grown = np.zeros(len(self._state.table), dtype=np.int64)
            grown[: len(self._epochs)] = self._epochs
            self._epochs = grown
        self._epochs[rows] = self._epoch

    def _start_actor(self, bundle: int) -> BundleProcess:
        state = self._state
        slot = self._nodes.pool.slot_of(bundle)
        assert slot is not None
        group, local_idx = self._nodes.pool.locate(bundle)
        actor = start_bundle_actor(
            BundleActorSpec(
                state.fed_id,
                bundle,
                group,
                local_idx,
                slot.spec,
                state.hosting.concurrency,
                state.detached,
                state.namespace,
                self._runtime_env(),
            )
        )
        state.bundle_actors[bundle] = actor
        self._pace.submitted(actor.name)
        slot.taken = dict(slot.spec)

        def arrived(done: Future[Any]) -> None:
            self._engine.post(self._on_hello, actor, done)

        actor.hello.future().add_done_callback(arrived)
        self._watch(actor)
        return actor

    def _runtime_env(self) -> Mapping[str, Any] | None:
        """What the templates ask for their process; an actor has one environment."""
        templates = dict.fromkeys(group.template for group in self._state.groups[1:])
        asked = [actor_options(template).get("runtime_env") for template in templates]
        if any(env != asked[0] for env in asked):
            names = ", ".join(template.__name__ for template in templates)
            raise CommandRefused(
                f"{names} ask for different runtime environments: a host has one, so use isolation process"
            )
        return asked[0]

    def _on_hello(self, actor: BundleProcess, done: Future[Any]) -> None:
        if done.exception() is not None or self._state.bundle_actors.get(actor.bundle) is not actor:
            return
        self._pace.came_up(actor.name)
        self._state.bundle_facts[actor.bundle] = done.result()
        rows = self.rows_in(actor.bundle, (NodeState.PENDING,))
        if len(rows):
            self._state.table.set(rows, state=NodeState.STARTING)
            self._state.notify()

    async def _build_in(self, actor: BundleProcess, rows: IntArray, epoch: int) -> None:
        # What another command is taking out of the actor just now is a state that this build wants.
        releasing = [task for taken, task in self._releasing if np.isin(taken, rows).any()]
        if releasing:
            await asyncio.wait(releasing)
        # Nodes that were given different arguments are built by different calls; nearly always there is one.
        for kwargs, same in self._by_arguments(rows):
            for attempt in (1, 2):
                error, elsewhere = await self._build_call(actor, same, kwargs, epoch)
                if not (attempt == 1 and error is not None and self._forget_lost_states(same, error)):
                    break
            if error is None and elsewhere:
                error = await self._build_fetched(actor, self._still(as_rows(elsewhere), epoch), kwargs, epoch)
            if error is not None:
                self._stream_ended(actor, self._still(same, epoch), error)
            left = self._still(same, epoch)
            self._listener.node_failed(left, Cause("its host ended the build without a word about it"))

    async def _build_call(
        self,
        actor: BundleProcess,
        rows: IntArray,
        kwargs: Mapping[str, Any],
        epoch: int,
        fetched: Mapping[int, Kept] | None = None,
    ) -> tuple[Exception | None, list[int]]:
        """One build call, heard to its end; gives why it broke off, or None, and whose states lie elsewhere.

        With `fetched` the states of all rows that have one are in memory.
        """
        elsewhere: list[int] = []
        try:
            blocks, kept = self._kept_blocks(rows, fetched)
            batch = self._batch(rows, kept, epoch, () if fetched is not None else rows.tolist())
            stream = BundleStream(actor.handle.build.remote(batch, kwargs, *blocks))
            while (record := await stream.record()) is not None:
                if self._state.bundle_actors.get(actor.bundle) is not actor:
                    return None, []
                elsewhere += record["elsewhere"]
                self._states.damaged(record["lost"])
                self._built(record, epoch)
        except Exception as error:
            return error, []
        return None, elsewhere

    async def _build_fetched(
        self, actor: BundleProcess, rows: IntArray, kwargs: Mapping[str, Any], epoch: int
    ) -> Exception | None:
        """Build nodes whose states lie on other machines; gives why that broke off, or None."""
        async for some, fetched in self._states.fetch(rows.tolist()):
            error, _ = await self._build_call(actor, self._still(as_rows(some), epoch), kwargs, epoch, fetched)
            if error is not None:
                return error
        return None

    def _still(self, rows: IntArray, epoch: int) -> IntArray:
        """Those of `rows` that still wait for this build."""
        still: IntArray = rows[self._nodes.waiting(rows) & (self._epochs[rows] == epoch)]
        return still

    def _forget_lost_states(self, rows: IntArray, error: Exception) -> bool:
        """Whether a build broke off because kept states were lost with a machine; they are then forgotten."""
        import ray

        if not isinstance(error, (ray.exceptions.ObjectLostError, ray.exceptions.OwnerDiedError)):
            return False
        lost = [row for row in rows.tolist() if self._state.kept.get(row) is not None]
        for row in lost:
            self._state.kept.let_go(row)
        if lost:
            text = f"the states of {len(lost)} nodes were lost with a machine: they are built without"
            self._state.record("node", "warn", f"{len(lost)} nodes", text)
        return bool(lost)

    def _by_arguments(self, rows: IntArray) -> list[tuple[Mapping[str, Any], IntArray]]:
        given = self._state.build_args
        if not given:
            return [({}, rows)]
        by_kwargs: dict[int, tuple[Mapping[str, Any], list[int]]] = {}
        for row in rows.tolist():
            kwargs = given.get(row, {})
            by_kwargs.setdefault(id(kwargs) if kwargs else 0, (kwargs, []))[1].append(row)
        return [(kwargs, np.asarray(same, dtype=np.int64)) for kwargs, same in by_kwargs.values()]

    def _kept_blocks(
        self, rows: IntArray, fetched: Mapping[int, Kept] | None
    ) -> tuple[list[Any], dict[int, tuple[int, int]]]:
        """Blocks of kept states, each once, and where in them the state of each row is."""
        blocks: list[Any] = []
        known: dict[Any, int] = {}
        places: dict[int, tuple[int, int]] = {}
        for row in rows.tolist() if self._state.kept else ():
            kept = self._state.kept.get(row) or (fetched or {}).get(row)
            if kept is not None and kept.place is not None:
                block = known.setdefault(kept.reference, len(blocks))
                if block == len(blocks):
                    blocks.append(kept.reference)
                places[row] = (block, kept.place)
        return blocks, places

    def _batch(
        self, rows: IntArray, kept: Mapping[int, tuple[int, int]], epoch: int, stored: Iterable[int]
    ) -> dict[str, Any]:
        state, table = self._state, self._state.table
        groups = table.column("group")[rows].astype(np.int64)
        present = np.unique(groups).tolist()
        offsets = {group: state.groups[group].client_start - state.groups[group].row_start for group in present}
        roles = table.roles
        return {
            "rows": rows,
            "ids": table.ids.take(rows),
            "roles": [roles[code] for code in table.column("role")[rows].tolist()],
            "groups": groups,
            "positions": rows + np.asarray([offsets.get(group, 0) for group in range(max(present) + 1)])[groups],
            "templates": {group: state.groups[group].template for group in present},
            "configs": {group: state.group_keys(group) for group in present},
            "common": state.common_config(),
            "kept": kept,
            "stored": self._states.columns(stored if self._state.kept else ()),
            "state_place": self._states.place,
            "epoch": epoch,
        }

    def _built(self, record: Mapping[str, Any], epoch: int) -> None:
        rows = self._still(record["rows"], epoch)
        if len(rows):
            self._state.table.set(rows, state=NodeState.READY)
            self._state.notify()
        mine = self._still(np.asarray([failure[0] for failure in record["failed"]], dtype=np.int64), epoch)
        for failed, cause in causes_of([failure for failure in record["failed"] if failure[0] in set(mine.tolist())]):
            self._listener.node_failed(failed, cause)
        self._nodes.wake()

    def adopt(self, actor: BundleProcess, facts: Mapping[str, Any], rows: IntArray) -> None:
        """Go on with a bundle's actor that lives from before: these of its nodes are ready."""
        slot = self._nodes.pool.slot_of(actor.bundle)
        assert slot is not None
        self._state.bundle_actors[actor.bundle] = actor
        self._state.bundle_facts[actor.bundle] = facts
        slot.taken = dict(slot.spec)
        self._watch(actor)
        if len(rows):
            self._state.table.set(rows, state=NodeState.READY, bundle=actor.bundle)

    # -- failing ---------------------------------------------------------------------------------

    def _watch(self, actor: BundleProcess) -> None:
        self._lifelines.watch(actor, lambda: self._is_current(actor), lambda cause: self.actor_died(actor, cause))

    def _is_current(self, actor: BundleProcess) -> bool:
        """Whether an actor is still its bundle's: it has not been replaced or ended."""
        return not self._nodes.closing and self._state.bundle_actors.get(actor.bundle) is actor

    def actor_died(self, actor: BundleProcess, cause: Cause) -> None:
        """The actor of a bundle has ended, or is to be: its nodes fail with the cause."""
        if not self._is_current(actor):
            return
        self._forget(actor)
        actor.ended = cause
        # The cluster may hear of the death later than we do: this frees the name for the next process.
        actor.kill()
        rows = self.rows_in(actor.bundle)
        text = f"the host of bundle {actor.bundle} ended: {cause.text}"
        if not len(rows):
            self._state.record("cluster", "warn", f"bundle {actor.bundle}", text)
        self._listener.node_failed(rows, Cause(text, cause.traceback, died=True), machine_lost=is_host_lost(cause))

    def _stream_ended(self, actor: BundleProcess, rows: IntArray, error: BaseException) -> None:
        """A build call failed: the actor has died, or the call itself could not be carried out."""
        cause = cause_of_death(error)
        if is_death(error):
            self.actor_died(actor, cause)
        elif self._state.bundle_actors.get(actor.bundle) is actor and len(rows):
            # Where Ray lost the connection the actor may live on without them; else it lives.
            self._listener.node_failed(rows, replace(cause, died=cause.unsure))

    def _forget(self, actor: BundleProcess) -> None:
        self._state.bundle_actors.pop(actor.bundle, None)
        self._state.bundle_facts.pop(actor.bundle, None)
        self._pace.gave_up(actor.name)
        slot = self._nodes.pool.slot_of(actor.bundle)
        if slot is not None and not slot.rows:
            slot.taken.clear()

    # -- ending ----------------------------------------------------------------------------------

    async def release(self, rows: IntArray, into: NodeState, *, keep: bool = False, keep_actors: bool = False) -> None:
        """Let the bundles' actors forget nodes; an actor that is left empty ends.

        Args:
            rows: The nodes.
            into: Their state from now on.
            keep: Keep the states of those that are ready.
            keep_actors: Leave empty actors running: others are about to take the places.
        """
        calls = []
        bundles = self._state.table.column("bundle")[rows].copy()
        ready = self._state.table.in_states((NodeState.READY,))[rows]
        self._state.set_state(rows, into, bundle=-1)
        self._nodes.wake()
        for bundle in np.unique(bundles).tolist():
            actor = self._state.bundle_actors.get(bundle)
            if actor is None:
                continue
            chosen = bundles == bundle
            for keeps, inside in ((keep, rows[chosen & ready]), (False, rows[chosen & ~ready])):
                if len(inside):
                    calls.append(self._release_in(actor, inside, keeps))
        await asyncio.gather(*calls)
        if not keep_actors:
            await self.end_empty(set(np.unique(bundles).tolist()))

    async def _release_in(self, actor: BundleProcess, rows: IntArray, keep: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._take_states(actor, rows, keep))
        self._releasing.append((rows, task))
        try:
            await task
        finally:
            self._releasing = [entry for entry in self._releasing if entry[1] is not task]

    async def _take_states(self, actor: BundleProcess, rows: IntArray, keep: bool) -> None:
        if actor.bundle not in self._state.bundle_facts:
            # It has not answered yet: the build that waits there hears of the release when it comes to it.
            actor.handle.release.remote(rows, False, self._epoch)
            return
        place = self._states.place if keep else None
        known = self._states.columns(rows.tolist()) if place is not None else None
        report, states = actor.handle.release.remote(rows, keep, self._epoch, place, known)
        timeout = RETIRE_TIMEOUT + PATIENCE_A_NODE * len(rows)
        try:
            answer = await answer_of(report, timeout)
        except Exception as error:
            why = first_sentence(str(error)) or f"no answer within {timeout:g} s"
            if keep:
                self._state.record("node", "warn", self._nodes.name(rows), f"its state could not be kept: {why}")
            return
        self._states.written(actor.bundle, answer)
        self._states.hold(answer["rows"].tolist(), states, answer["state_bytes"])
        self._states.look()
        for row, error_text, _, trace in answer["failed"]:
            name = self._state.table.ids[row]
            text = f"its state could not be kept: {error_text}"
            self._state.record("node", "warn", name, text, data={"traceback": trace})

    async def end_empty(self, bundles: Iterable[int]) -> None:
        """End the actors of some bundles that hold nobody: their resources are free."""
        held = self._nodes.held()
        ended = []
        for bundle in bundles:
            actor = self._state.bundle_actors.get(bundle)
            if actor is not None and held[bundle - self._nodes.pool.offset] == 0:
                self._forget(actor)
                actor.kill()
                ended.append(actor)
        if ended:
            await asyncio.gather(*(gone(actor.lifeline) for actor in ended))

    def kill_all(self) -> list[Any]:
        """End all actors at once; gives their lifelines."""
        actors = list(self._state.bundle_actors.values())
        self._state.bundle_actors.clear()
        for actor in actors:
            actor.kill()
        return [actor.lifeline for actor in actors]


def is_death(error: BaseException) -> bool:
    """Whether a call failed because its process has ended."""
    import ray

    return isinstance(error, ray.exceptions.ActorDiedError)


def causes_of(failures: Sequence[Failure]) -> list[tuple[IntArray, Cause]]:
    """Nodes that failed alone, those with the same words together: what a template raised is the node's own cause."""
    alike: dict[str, tuple[str, list[int]]] = {}
    for row, error, where, trace in failures:
        alike.setdefault(f"{where} raised {error}" if where else error, (trace, []))[1].append(row)
    return [(np.asarray(rows, dtype=np.int64), Cause(text, trace)) for text, (trace, rows) in alike.items()]
