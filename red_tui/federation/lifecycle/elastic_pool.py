"""The bundles of a federation's pool: reserved once, grown, shrunk and given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from red_tui.errors import CommandRefused, PlacementError
from red_tui.federation.state import FederationState
from red_tui.placement.availability import RETURN_TIMEOUT, look, remove_groups, script_group_name
from red_tui.placement.feasibility import bundle_hosts, check_feasible, packs
from red_tui.placement.groups import create_groups
from red_tui.placement.pool import Pool
from red_tui.placement.shares import Bundle, amounts_text, total_of


class ElasticPool:
    """Reserves the pool, and changes it by whole placement groups (Ray cannot grow a group).

    It knows nothing of nodes: whoever shrinks the pool or gives it back has released those in it.  All on the engine's
    thread; what waits for Ray runs on a worker thread.

    Args:
        state: The federation's.
        admit: Called, off the engine's thread, before bundles are reserved; raises if they may not be.
    """

    def __init__(self, state: FederationState, admit: Callable[[], None]) -> None:
        self._state, self._admit = state, admit
        self._lock = asyncio.Lock()
        self._next_group = 0

    @property
    def pool(self) -> Pool:
        """The pool; it exists once the first plan was asked for."""
        assert self._state.pool is not None
        return self._state.pool

    @property
    def changing(self) -> bool:
        """Whether bundles are being reserved, or given back."""
        return self._lock.locked()

    @property
    def lock(self) -> asyncio.Lock:
        """Held while bundles are reserved: what must not happen meanwhile holds it too."""
        return self._lock

    def to_wire(self) -> dict[str, Any]:
        """The pool, for the journal."""
        return {"pool": self.pool.to_wire()}

    async def reserve(self) -> None:
        """Reserve the pool's bundles, once.

        Raises:
            PlacementError: If they do not fit; nothing stays reserved and the next call tries again.
        """
        async with self._lock:
            if self.pool.ready:
                if not self.pool.hosts:
                    await self.refresh_hosts()
                return
            started = time.perf_counter()
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(None, self._admit)
                if self.pool.provisional:
                    self.pool.resize(await loop.run_in_executor(None, self.pool.measure))
                await loop.run_in_executor(None, self.pool.reserve)
            except PlacementError as error:
                self._state.record("cluster", "error", "pool", error.message)
                raise
            await self.refresh_hosts()
            text = f"{len(self.pool)} bundles reserved in {time.perf_counter() - started:.1f} s"
            self._state.record("cluster", "info", "pool", text, data=self.to_wire())

    async def refresh_hosts(self) -> None:
        """Look up which bundle lies on which host."""
        loop = asyncio.get_running_loop()
        where, hosts = await loop.run_in_executor(None, bundle_hosts, tuple(self.pool.groups))
        self.pool.set_hosts(where, hosts)
        self._state.notify()

    def require_own(self, what: str) -> None:
        """Raise CommandRefused if the bundles belong to a placement group that was given."""
        if not self.pool.owned:
            raise CommandRefused(
                f"the bundles belong to a placement group that was given: it cannot {what} here; leave `resources` to"
                " the federation (uniform) and it makes a pool of its own"
            )

    async def grow(self, specs: Sequence[Bundle]) -> range:
        """Reserve further bundles; gives their indices.

        Raises:
            CommandRefused: If the pool is somebody else's placement group.
            PlacementError: If they do not fit; nothing stays reserved then.
        """
        self.require_own("grow")
        await self.reserve()
        state, pool = self._state, self.pool
        name = f"{state.fed_id}/pool" if state.detached else script_group_name(state.fed_id)
        # A name that has been used stays used: a federation that is taken up again orders its groups by it.
        first = max(len(pool.groups), self._next_group)
        loop = asyncio.get_running_loop()
        now = await loop.run_in_executor(None, look)
        check_feasible(specs, pool.strategy, now.hosts)
        if not packs(specs, now.free_soon()):
            asked = total_of(specs)
            raise PlacementError(
                f"{len(specs)} bundles ({amounts_text(asked)}) do not fit into what is free on the hosts:"
                f" {now.why_no_room(specs)}; release what others hold, or add a host",
                asked=asked,
                available=now.total_free,
            )
        groups = await loop.run_in_executor(
            None,
            lambda: create_groups(specs, pool.strategy, name=name, detached=state.detached, first_number=first),
        )
        self._next_group = first + len(groups)
        added = pool.grow(specs, groups)
        await self.refresh_hosts()
        total = amounts_text(specs[0]) if len(specs) == 1 else f"{len(specs)} bundles"
        text = f"grew by {total}: bundles {added.start} to {added.stop - 1}"
        state.record("cluster", "info", "pool", text, data=self.to_wire())
        return added

    def last_group(self) -> range:
        """The bundles that were added last.

        Raises:
            CommandRefused: If none were added, or the pool is somebody else's placement group.
        """
        self.require_own("shrink")
        last = self.pool.last_group()
        if last is None:
            raise CommandRefused("the pool has only the bundles that it began with: only those added later can go")
        return last

    async def shrink(self, last: range) -> None:
        """Give the bundles back that were added last; nobody is in them any more."""
        group = self.pool.shrink()
        await asyncio.get_running_loop().run_in_executor(None, remove_groups, [group])
        await self.refresh_hosts()
        text = f"gave bundles {last.start} to {last.stop - 1} back"
        self._state.record("cluster", "info", "pool", text, data=self.to_wire())

    async def give_back(self) -> None:
        """Give all bundles back; nobody is in them any more, and the next build reserves them again."""
        pool = self.pool
        free = await asyncio.get_running_loop().run_in_executor(None, pool.give_back)
        text = f"gave all {len(pool)} bundles back" + ("" if free else "; Ray does not count them as free yet")
        self._state.record("cluster", "info" if free else "warn", "pool", text, data=self.to_wire())

    async def end(self) -> None:
        """Give the pool back with the end of the federation."""
        state = self._state
        if state.pool is None:
            return
        free = await asyncio.get_running_loop().run_in_executor(None, state.pool.end)
        if not free:
            state.log.warning(
                "federation %s has ended, and Ray does not count its resources as free after %g s",
                state.fed_id,
                RETURN_TIMEOUT,
            )
