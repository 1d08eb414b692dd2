"""Machines that leave the cluster: bundles that are lost, nodes that wait for a place, and the machines' return."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from red_tui.federation.lifecycle.elastic_pool import ElasticPool
from red_tui.federation.lifecycle.lifelines import BackgroundTasks
from red_tui.federation.lifecycle.node_set import NodeSet
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray

FIRST_LOOK = 0.3
LONGEST_WAIT = 5.0
"""Seconds between looks at the pool while bundles of it are lost: from the first to the longest."""


class LostMachines:
    """Looks at the pool while something of it is lost; nothing is looked at while all is well.

    Args:
        nodes: The nodes.
        bundles: The pool's bundles.
        tasks: Where it looks.
        replace: Rebuilds nodes that found no place before; those that find none again come back here.
    """

    def __init__(
        self,
        nodes: NodeSet,
        bundles: ElasticPool,
        tasks: BackgroundTasks,
        replace: Callable[[IntArray], Awaitable[None]],
    ) -> None:
        self._nodes, self._bundles, self._tasks, self._replace = nodes, bundles, tasks, replace
        self._unplaced: set[int] = set()
        self._looking: asyncio.Task[None] | None = None

    @property
    def waited_for(self) -> bool:
        """Whether nodes wait for a place."""
        return bool(self._unplaced)

    def look(self) -> None:
        """A process ended with its machine: see which bundles are lost, and when they come back."""
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.spawn(self._look())

    async def looked(self, timeout: float) -> None:
        """Wait until nothing is lost any more and nobody waits for a place, at most `timeout` seconds."""
        if self._looking is not None and not self._looking.done():
            await asyncio.wait([self._looking], timeout=timeout)

    def wait_for_place(self, rows: IntArray) -> None:
        """Replace nodes that found no bundle as soon as one comes back or falls free."""
        if len(rows):
            self._unplaced.update(rows.tolist())
            self.look()

    def forget_unplaced(self) -> None:
        """Nobody waits for a place any more."""
        self._unplaced.clear()

    async def _look(self) -> None:
        known: set[int] = set()
        wait = FIRST_LOOK
        while not self._nodes.closing:
            try:
                await self._bundles.refresh_hosts()
            except Exception as error:
                self._nodes.state.log.warning("the pool cannot be looked at: %s", first_sentence(str(error)))
            lost = self._bundles.pool.lost_bundles()
            self._tell(lost - known, known - lost)
            returned, known = known - lost, lost
            if returned or self._unplaced:
                await self._replace_unplaced()
            if not lost and not self._unplaced:
                return
            wait = FIRST_LOOK if returned else min(LONGEST_WAIT, wait * 1.5)
            await asyncio.sleep(wait)

    def _tell(self, gone: set[int], returned: set[int]) -> None:
        for bundles, level, what in ((gone, "error", "host lost"), (returned, "good", "there again")):
            if bundles:
                named = ", ".join(str(bundle) for bundle in sorted(bundles)[:8])
                subject = f"bundle {named}" if len(bundles) == 1 else f"{len(bundles)} bundles"
                where = self._bundles.pool.host_name(min(bundles)) if level == "good" else ""
                text = (f"{what} on {where}" if where else what) + (f": {named}" if len(bundles) > 1 else "")
                self._nodes.state.record("cluster", level, subject, text, data=self._bundles.to_wire())

    async def _replace_unplaced(self) -> None:
        """Rebuild as many of those that wait as there is room for."""
        rows = np.asarray(sorted(self._unplaced), dtype=np.int64)
        self._unplaced.clear()
        waiting = self._nodes.among(rows, (NodeState.FAILED,))
        if len(waiting):
            await self._replace(waiting)
