"""Pools that grow and shrink, and nodes that move, while a federation runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from red_tui.errors import CommandRefused, PlacementError
from red_tui.federation.lifecycle import Lifecycle
from red_tui.federation.records import BuildReport, Report
from red_tui.nodes.states import HOLDING, NodeState
from red_tui.nodes.table import IntArray
from red_tui.placement.availability import look, remove_groups, script_group_name
from red_tui.placement.feasibility import check_feasible, packs
from red_tui.placement.groups import create_groups
from red_tui.placement.shares import Bundle, describe, total_of


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

    async def release_bundles(self) -> Report:
        """Release all nodes and give all bundles back; the next build reserves them again.

        Raises:
            CommandRefused: If the bundles belong to a placement group that was given, or a node is at work.
        """
        self._own_pool("give its bundles back")
        pool, state = self.pool, self.state
        async with self._pool_lock:
            if not pool.ready:
                return Report((), {})
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
