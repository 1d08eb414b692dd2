"""Nodes that live in hosts (bundle isolation): started by the batch, heard of by the record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from red_tui.errors import CommandRefused
from red_tui.federation.host_ends import HostEnds
from red_tui.nodes.failures import Cause, first_sentence
from red_tui.nodes.states import BUILT, NodeState
from red_tui.nodes.table import IntArray, bundle_spans
from red_tui.nodes.template import actor_options
from red_tui.rounds.ray_calls import HostStream
from red_tui.runtime.bundle_handle import HostProcess, HostSpec, start_host


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

    def _start_host(self, bundle: int) -> HostProcess:
        state = self.state
        slot = self.pool.slot_of(bundle)
        assert slot is not None
        group, local_idx = self.pool.locate(bundle)
        host = start_host(
            HostSpec(
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

    def _on_host_hello(self, host: HostProcess, done: Future[Any]) -> None:
        if done.exception() is not None or self.state.hosts.get(host.bundle) is not host:
            return
        self.came_up(host.name)
        self.state.host_facts[host.bundle] = done.result()
        rows = self.rows_in(host.bundle, (NodeState.PENDING,))
        if len(rows):
            self.state.table.set(rows, state=NodeState.STARTING)
            self.state.notify()

    async def _build_in(self, host: HostProcess, rows: IntArray, epoch: int) -> None:
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
        self, host: HostProcess, rows: IntArray, kwargs: Mapping[str, Any], epoch: int
    ) -> Exception | None:
        """One build call, heard to its end; gives why it broke off, or None."""
        try:
            blocks, kept = self._kept_blocks(rows)
            stream = HostStream(host.handle.build.remote(self._batch(rows, kept, epoch), kwargs, *blocks))
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
