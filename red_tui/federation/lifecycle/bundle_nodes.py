"""How nodes in hosts fail, and how hosts end: by themselves, with their machine, or because nobody is left in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from red_tui.errors import CommandRefused
from red_tui.federation.engine import Engine
from red_tui.federation.lifecycle.node_set import NAMED_IDS, RETIRE_TIMEOUT, WAITING, Ground
from red_tui.federation.state import FailureAction, FailureDecision, FederationState, Kept
from red_tui.nodes.failures import Cause, cause_of_death, cause_of_exit, first_sentence, is_host_lost
from red_tui.nodes.states import BUILT, HOLDING, NodeState
from red_tui.nodes.table import IntArray, bundle_spans, row_ranges
from red_tui.nodes.template import actor_options
from red_tui.nodes.user_code import TRACEBACK_LIMIT, without_middle
from red_tui.rounds.ray_calls import BundleStream, answer_of
from red_tui.runtime.batch import Failure
from red_tui.runtime.bundle_handle import BundleActorSpec, BundleProcess, start_bundle_actor

PATIENCE_A_NODE = 0.02
"""Further seconds that a host may take for the state of each of its nodes."""

UNSURE_PERIOD = 0.2
"""Seconds until a process is asked again that Ray lost the connection to."""


class HostEnds(Ground):
    """Nodes that fail in their hosts, hosts that die, and states that are taken out of them."""

    def __init__(self, state: FederationState, engine: Engine) -> None:
        super().__init__(state, engine)
        self._epoch = 0
        self._epochs: IntArray = np.zeros(0, dtype=np.int64)
        self._rebuilding: set[asyncio.Task[Any]] = set()
        self._letting_go: list[tuple[IntArray, asyncio.Task[None]]] = []

    def watch_host(self, host: BundleProcess) -> None:
        """Hear of the death of a host."""

        def died(done: Future[Any]) -> None:
            self.engine.post(self._on_host_death, host, done)

        host.lifeline.future().add_done_callback(died)

    def rows_in(self, bundle: int, states: Iterable[NodeState] = HOLDING) -> IntArray:
        """Rows of the nodes of a bundle's host that are in one of `states`."""
        table = self.state.table
        rows = np.flatnonzero((table.column("bundle") == bundle) & table.in_states(states))
        return rows[self.state.hosted(rows)]

    # -- failing ---------------------------------------------------------------------------------

    def fail_each(self, failures: Sequence[Failure]) -> None:
        """Nodes that failed alone: what a template raised is the node's own cause."""
        alike: dict[str, tuple[str, list[int]]] = {}
        for row, error, where, trace in failures:
            alike.setdefault(f"{where} raised {error}" if where else error, (trace, []))[1].append(row)
        for text, (trace, rows) in alike.items():
            self.fail_rows(np.asarray(rows, dtype=np.int64), Cause(text, trace))

    def fail_rows(self, rows: IntArray, cause: Cause) -> None:
        """Nodes failed, all for one reason."""
        codes = self.state.table.column("state")[rows]
        rows = rows[np.isin(codes, [state.code for state in HOLDING])]
        if self.closing or len(rows) == 0:
            return
        for row in rows.tolist():
            self.state.causes[row] = cause
            self.state.note_error(row, cause)
        self.state.set_state(rows, NodeState.FAILED)
        trace = without_middle(cause.traceback, TRACEBACK_LIMIT)
        # Without it they would stand in the pool in a replay, and after a recovery.
        spans = bundle_spans(rows, self.state.table.column("bundle")[rows])
        self.tell(rows, "error", cause.text, NodeState.FAILED, traceback=trace, died=cause.died, bundles=spans)
        self.wake()

    def tell(self, rows: IntArray, level: str, text: str, node_state: NodeState, **data: Any) -> None:
        """One event about some nodes."""
        ids = self.state.table.ids.take(rows[:NAMED_IDS])
        subject = ids[0] if len(rows) == 1 else f"{len(rows)} nodes"
        told: dict[str, Any] = {"rows": row_ranges(rows), "state": str(node_state), **data}
        if len(rows) <= NAMED_IDS:
            told["ids"] = ids
        self.state.record("node", level, subject, text, str(node_state), told)

    def _on_host_death(self, host: BundleProcess, done: Future[Any]) -> None:
        if self.closing or self.state.hosts.get(host.bundle) is not host:
            return
        error = done.exception()
        cause = cause_of_exit(done.result()) if error is None else cause_of_death(error)
        if cause.unsure:
            self.spawn(self._ask_again(host, lambda: self.watch_host(host)))
        else:
            self.host_died(host, cause)

    async def _ask_again(self, process: Any, watch: Callable[[], None]) -> None:
        """Ray lost the connection to a process and does not know yet what became of it: ask until it does."""
        await asyncio.sleep(UNSURE_PERIOD)
        handle = process.handle
        process.lifeline = (
            handle.lifeline.remote() if isinstance(process, BundleProcess) else handle.red_lifeline.remote()
        )
        watch()

    def host_died(self, host: BundleProcess, cause: Cause) -> None:
        """The process of a host has ended: its nodes fail with the cause, and are rebuilt if the policy says so."""
        if self.closing or self.state.hosts.get(host.bundle) is not host:
            return
        self._forget_host(host)
        host.ended = cause
        # The cluster may hear of the death later than we do: this frees the name for the next process.
        host.kill()
        rows = self.rows_in(host.bundle)
        told = f"the host of bundle {host.bundle} ended: {cause.text}"
        self.fail_rows(rows, Cause(told, cause.traceback, died=True))
        if len(rows):
            self.rebuild_if_wanted(rows)
        else:
            self.state.record("cluster", "warn", f"bundle {host.bundle}", told)
        if is_host_lost(cause):
            self.host_lost()

    def host_lost(self) -> None:
        """A process died with its host."""
        raise NotImplementedError

    def lost(self, rows: IntArray, cause: Cause) -> None:
        """Nodes whose process is gone fail, and are rebuilt if the policy says so."""
        self.fail_rows(rows, cause)
        self.rebuild_if_wanted(rows)

    def rebuild_if_wanted(self, rows: IntArray) -> None:
        """Rebuild nodes that died, after the policy's delay, if it says so."""
        decision = self.decide(rows)
        if decision.action is FailureAction.REBUILD:
            task = self.spawn(self._rebuild_rows_later(decision))
            self._rebuilding.add(task)
            task.add_done_callback(self._rebuilt)

    def decide(self, rows: IntArray) -> FailureDecision:
        """What the policy says of nodes whose processes are gone."""
        return self.state.failure.decide(rows, self.state.table.column("rebuilds")[rows])

    def _rebuilt(self, task: asyncio.Task[Any]) -> None:
        """What is not there now stays away: who waits for it goes on."""
        self._rebuilding.discard(task)
        if not self.closing:
            self.wake()

    def epoch_of(self, row: int) -> int:
        """The build that a row in a host belongs to."""
        return int(self._epochs[row]) if row < len(self._epochs) else 0

    @property
    def healing(self) -> bool:
        """Whether nodes that died are about to be rebuilt, or are being built."""
        return bool(self._rebuilding) or bool(self.state.table.in_states(WAITING).any())

    async def healed(self, timeout: float) -> None:
        """Wait until nodes that died have been rebuilt, at most `timeout` seconds."""
        until = asyncio.get_running_loop().time() + timeout
        while self._rebuilding and asyncio.get_running_loop().time() < until:
            await asyncio.wait(set(self._rebuilding), timeout=until - asyncio.get_running_loop().time())
        left = max(0.0, until - asyncio.get_running_loop().time())
        await self.settled(np.flatnonzero(self.state.table.in_states(WAITING)), left)

    async def _rebuild_rows_later(self, decision: FailureDecision) -> None:
        delay, rows = decision.delay, decision.rows
        await asyncio.sleep(delay)
        # Somebody may have rebuilt or removed some of them meanwhile.
        rows = self.decide(rows[self.state.table.in_states((NodeState.FAILED,))[rows]]).rows
        if len(rows) and not self.closing:
            one = len(rows) == 1
            name, verb = (self.state.table.ids[int(rows[0])], "is") if one else (f"{len(rows)} nodes", "are")
            self.state.record("node", "info", name, f"{verb} rebuilt by policy after {delay:g} s")
            await self.rebuild_by_policy(rows)

    async def rebuild_by_policy(self, rows: IntArray) -> None:
        """Replace nodes whose process died."""
        raise NotImplementedError

    def _stream_ended(self, host: BundleProcess, rows: IntArray, error: BaseException) -> None:
        """A call to a host failed: the host has died, or the call itself could not be carried out."""
        cause = cause_of_death(error)
        if is_death(error):
            self.host_died(host, cause)
        elif self.state.hosts.get(host.bundle) is host and len(rows):
            # Ray lost the connection, or could not carry the call out: the host may live on without them.
            self.lost(rows, cause) if cause.unsure else self.fail_rows(rows, cause)

    def _forget_host(self, host: BundleProcess) -> None:
        self.state.hosts.pop(host.bundle, None)
        self.state.host_facts.pop(host.bundle, None)
        self.gave_up(host.name)
        slot = self.pool.slot_of(host.bundle)
        if slot is not None and not slot.rows:
            slot.taken.clear()

    # -- ending ----------------------------------------------------------------------------------

    async def release_hosted(
        self, rows: IntArray, into: NodeState, *, keep: bool = False, keep_hosts: bool = False
    ) -> None:
        """Let hosts forget nodes (`keep`: not the state of those that are ready); a host that is left empty ends."""
        calls = []
        bundles = self.state.table.column("bundle")[rows].copy()
        ready = self.state.table.in_states((NodeState.READY,))[rows]
        self.state.set_state(rows, into, bundle=-1)
        self.wake()
        for bundle in np.unique(bundles).tolist():
            host = self.state.hosts.get(bundle)
            if host is None:
                continue
            chosen = bundles == bundle
            for keeps, inside in ((keep, rows[chosen & ready]), (False, rows[chosen & ~ready])):
                if len(inside):
                    calls.append(self._release_in(host, inside, keeps))
        await asyncio.gather(*calls)
        if not keep_hosts:
            await self.end_empty_hosts(set(np.unique(bundles).tolist()))

    async def _release_in(self, host: BundleProcess, rows: IntArray, keep: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._take_states(host, rows, keep))
        self._letting_go.append((rows, task))
        try:
            await task
        finally:
            self._letting_go = [entry for entry in self._letting_go if entry[1] is not task]

    async def _take_states(self, host: BundleProcess, rows: IntArray, keep: bool) -> None:
        if host.bundle not in self.state.host_facts:
            # It has not answered yet: the build that waits there hears of the release when it comes to it.
            host.handle.release.remote(rows, False, self._epoch)
            return
        report, states = host.handle.release.remote(rows, keep, self._epoch)
        patience = RETIRE_TIMEOUT + PATIENCE_A_NODE * len(rows)
        try:
            told = await answer_of(report, patience)
        except Exception as error:
            name = self.state.table.ids[int(rows[0])] if len(rows) == 1 else f"{len(rows)} nodes"
            why = first_sentence(str(error)) or f"no answer within {patience:g} s"
            if keep:
                self.state.record("node", "warn", name, f"its state could not be kept: {why}")
            return
        for index, row in enumerate(told["rows"].tolist()):
            self.state.kept[row] = Kept(states, index)
        for row, error_text, _, trace in told["failed"]:
            name = self.state.table.ids[row]
            text = f"its state could not be kept: {error_text}"
            self.state.record("node", "warn", name, text, data={"traceback": trace})

    async def end_empty_hosts(self, bundles: Iterable[int]) -> None:
        """End the hosts of some bundles that hold nobody: their resources are free."""
        held = self.held()
        ended = []
        for bundle in bundles:
            host = self.state.hosts.get(bundle)
            if host is not None and held[bundle - self.pool.offset] == 0:
                self._forget_host(host)
                host.kill()
                ended.append(host)
        if ended:
            await asyncio.gather(*(self.gone(host.lifeline) for host in ended))

    async def gone(self, lifeline: Any) -> None:
        """Wait until Ray says that a killed process has ended: then its resources are free."""
        done, _ = await asyncio.wait([asyncio.wrap_future(lifeline.future())], timeout=RETIRE_TIMEOUT)
        for one in done:
            one.exception()


def is_death(error: BaseException) -> bool:
    """Whether a call failed because its process has ended."""
    import ray

    return isinstance(error, ray.exceptions.ActorDiedError)


class Hosts(HostEnds):
    """Starts hosts and builds nodes in them."""

    # -- building --------------------------------------------------------------------------------

    def start_hosted(self, rows: IntArray, bundles: IntArray, kwargs: Mapping[str, Any]) -> None:
        """Submit nodes to the hosts of their bundles, which are started if they are not up."""
        state = self.state
        self._epoch += 1
        self._note_epoch(rows)
        for row in rows.tolist() if state.causes or kwargs else ():
            state.causes.pop(row, None)
            if kwargs:
                state.build_args[row] = kwargs
        up = np.isin(bundles, list(state.host_facts))
        for chosen, into in ((up, NodeState.STARTING), (~up, NodeState.PENDING)):
            if chosen.any():
                state.table.set(rows[chosen], state=into, bundle=bundles[chosen])
        state.notify()
        calls: list[asyncio.Task[None]] = []
        for bundle in np.unique(bundles).tolist():
            inside = rows[bundles == bundle]
            host = state.hosts.get(bundle)
            if host is None:
                try:
                    host = self._start_host(bundle)
                except Exception as error:
                    self.fail_rows(inside, Cause(first_sentence(str(error), 400), f"{type(error).__name__}: {error}"))
                    continue
            calls.append(self.spawn(self._build_in(host, inside, self._epoch)))
        self.spawn(self._tell_ready(rows, self._epoch, calls))

    async def _tell_ready(self, rows: IntArray, epoch: int, calls: Sequence[asyncio.Task[None]]) -> None:
        """One event about all nodes of a build, when the last host is done."""
        started = time.perf_counter()
        if calls:
            await asyncio.wait(calls)
        built = rows[self._in(rows, BUILT) & (self._epochs[rows] == epoch)]
        if not len(built):
            return
        bundles = self.state.table.column("bundle")[built]
        used = np.unique(bundles).tolist()
        where = f"bundle {used[0]}" if len(used) == 1 else f"{len(used)} bundles"
        if len(used) == 1 and self.pool.host_name(used[0]):
            where += f" on {self.pool.host_name(used[0])}"
        text = f"ready in {where}, built in {time.perf_counter() - started:.2f} s"
        self.tell(built, "good", text, NodeState.READY, bundles=bundle_spans(built, bundles))

    def _note_epoch(self, rows: IntArray) -> None:
        """Which build each row belongs to: what an older one still tells of it is not heard."""
        if len(self._epochs) < len(self.state.table):
            grown = np.zeros(len(self.state.table), dtype=np.int64)
            grown[: len(self._epochs)] = self._epochs
            self._epochs = grown
        self._epochs[rows] = self._epoch

    def _start_host(self, bundle: int) -> BundleProcess:
        state = self.state
        slot = self.pool.slot_of(bundle)
        assert slot is not None
        group, local_idx = self.pool.locate(bundle)
        host = start_bundle_actor(
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
        state.hosts[bundle] = host
        self.submitted(host.name)
        slot.taken = dict(slot.spec)

        def greeted(done: Future[Any]) -> None:
            self.engine.post(self._on_host_hello, host, done)

        host.hello.future().add_done_callback(greeted)
        self.watch_host(host)
        return host

    def _runtime_env(self) -> Mapping[str, Any] | None:
        """What the templates ask for their process; a host has one environment."""
        templates = dict.fromkeys(group.template for group in self.state.groups[1:])
        asked = [actor_options(template).get("runtime_env") for template in templates]
        if any(env != asked[0] for env in asked):
            names = ", ".join(template.__name__ for template in templates)
            raise CommandRefused(
                f"{names} ask for different runtime environments: a host has one, so use isolation process"
            )
        return asked[0]

    def _on_host_hello(self, host: BundleProcess, done: Future[Any]) -> None:
        if done.exception() is not None or self.state.hosts.get(host.bundle) is not host:
            return
        self.came_up(host.name)
        self.state.host_facts[host.bundle] = done.result()
        rows = self.rows_in(host.bundle, (NodeState.PENDING,))
        if len(rows):
            self.state.table.set(rows, state=NodeState.STARTING)
            self.state.notify()

    async def _build_in(self, host: BundleProcess, rows: IntArray, epoch: int) -> None:
        # What another command is taking out of a host just now is a state that this build wants.
        releasing = [task for taken, task in self._letting_go if np.isin(taken, rows).any()]
        if releasing:
            await asyncio.wait(releasing)
        # Nodes that were given different arguments are built by different calls; nearly always there is one.
        for kwargs, same in self._by_arguments(rows):
            for attempt in (1, 2):
                error = await self._build_call(host, same, kwargs, epoch)
                if not (attempt == 1 and error is not None and self._forget_lost_states(same, error)):
                    break
            if error is not None:
                self._stream_ended(host, self._still(same, epoch), error)
            left = self._still(same, epoch)
            self.fail_rows(left, Cause("its host ended the build without a word about it"))

    async def _build_call(
        self, host: BundleProcess, rows: IntArray, kwargs: Mapping[str, Any], epoch: int
    ) -> Exception | None:
        """One build call, heard to its end; gives why it broke off, or None."""
        try:
            blocks, kept = self._kept_blocks(rows)
            stream = BundleStream(host.handle.build.remote(self._batch(rows, kept, epoch), kwargs, *blocks))
            while (record := await stream.record()) is not None:
                if self.state.hosts.get(host.bundle) is not host:
                    return None
                self._built(record, epoch)
        except Exception as error:
            return error
        return None

    def _still(self, rows: IntArray, epoch: int) -> IntArray:
        """Those of `rows` that still wait for this build."""
        still: IntArray = rows[self._waiting(rows) & (self._epochs[rows] == epoch)]
        return still

    def _forget_lost_states(self, rows: IntArray, error: Exception) -> bool:
        """Whether a build broke off because kept states were lost with a machine; they are then forgotten."""
        import ray

        if not isinstance(error, (ray.exceptions.ObjectLostError, ray.exceptions.OwnerDiedError)):
            return False
        had = [row for row in rows.tolist() if self.state.kept.pop(row, None) is not None]
        if had:
            text = f"the states of {len(had)} nodes were lost with a machine: they are built without"
            self.state.record("node", "warn", f"{len(had)} nodes", text)
        return bool(had)

    def _by_arguments(self, rows: IntArray) -> list[tuple[Mapping[str, Any], IntArray]]:
        given = self.state.build_args
        if not given:
            return [({}, rows)]
        parts: dict[int, tuple[Mapping[str, Any], list[int]]] = {}
        for row in rows.tolist():
            kwargs = given.get(row, {})
            parts.setdefault(id(kwargs) if kwargs else 0, (kwargs, []))[1].append(row)
        return [(kwargs, np.asarray(same, dtype=np.int64)) for kwargs, same in parts.values()]

    def _kept_blocks(self, rows: IntArray) -> tuple[list[Any], dict[int, tuple[int, int]]]:
        """Blocks of kept states, each once, and where in them the state of each row is."""
        blocks: list[Any] = []
        known: dict[Any, int] = {}
        places: dict[int, tuple[int, int]] = {}
        for row in rows.tolist() if self.state.kept else ():
            kept = self.state.kept.get(row)
            if kept is not None and kept.place is not None:
                block = known.setdefault(kept.reference, len(blocks))
                if block == len(blocks):
                    blocks.append(kept.reference)
                places[row] = (block, kept.place)
        return blocks, places

    def _batch(self, rows: IntArray, kept: Mapping[int, tuple[int, int]], epoch: int) -> dict[str, Any]:
        state, table = self.state, self.state.table
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
            "epoch": epoch,
        }

    def _built(self, record: Mapping[str, Any], epoch: int) -> None:
        rows = self._still(record["rows"], epoch)
        if len(rows):
            self.state.table.set(rows, state=NodeState.READY)
            self.state.notify()
        mine = self._still(np.asarray([failure[0] for failure in record["failed"]], dtype=np.int64), epoch)
        self.fail_each([failure for failure in record["failed"] if failure[0] in set(mine.tolist())])
        self.wake()
