"""Hosts that leave the cluster: bundles that are lost, nodes that wait for them, and their return."""

from __future__ import annotations

import asyncio

import numpy as np

from red_tui.federation.engine import Engine
from red_tui.federation.lifecycle.bundle_nodes import Hosts
from red_tui.federation.state import FederationState
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray

FIRST_LOOK = 0.3
LONGEST_WAIT = 5.0
"""Seconds between looks at the pool while bundles of it are lost: from the first to the longest."""


class Losses(Hosts):
    """Looks at the pool while something of it is lost; nothing is looked at while all is well."""

    def __init__(self, state: FederationState, engine: Engine) -> None:
        super().__init__(state, engine)
        self._homeless: set[int] = set()
        self._looking: asyncio.Task[None] | None = None

    @property
    def healing(self) -> bool:
        """Whether nodes that died are about to be rebuilt, are being built, or wait for a bundle."""
        return super().healing or bool(self._homeless)

    async def healed(self, timeout: float) -> None:
        """Wait until nodes that died have been rebuilt, or their bundles are there again, at most `timeout` seconds."""
        if self._looking is not None and not self._looking.done():
            await asyncio.wait([self._looking], timeout=timeout)
        await super().healed(timeout)

    def host_lost(self) -> None:
        """A process died with its host: see which bundles are lost, and when they come back."""
        if self._looking is None or self._looking.done():
            self._looking = self.spawn(self._look())

    def find_homes(self, rows: IntArray) -> None:
        """Nodes that were to be rebuilt and found no bundle are rebuilt when one comes back or falls free."""
        if len(rows):
            self._homeless.update(rows.tolist())
            self.host_lost()

    async def _look(self) -> None:
        known: set[int] = set()
        wait = FIRST_LOOK
        while not self.closing:
            try:
                await self.refresh_hosts()
            except Exception as error:
                self.state.log.warning("the pool cannot be looked at: %s", first_sentence(str(error)))
            lost = self.pool.lost_bundles()
            self._tell(lost - known, known - lost)
            returned, known = known - lost, lost
            if returned or self._homeless:
                await self._rehouse()
            if not lost and not self._homeless:
                return
            wait = FIRST_LOOK if returned else min(LONGEST_WAIT, wait * 1.5)
            await asyncio.sleep(wait)

    def _tell(self, gone: set[int], returned: set[int]) -> None:
        for bundles, level, what in ((gone, "error", "host lost"), (returned, "good", "there again")):
            if bundles:
                named = ", ".join(str(bundle) for bundle in sorted(bundles)[:8])
                subject = f"bundle {named}" if len(bundles) == 1 else f"{len(bundles)} bundles"
                where = self.pool.host_name(min(bundles)) if level == "good" else ""
                text = (f"{what} on {where}" if where else what) + (f": {named}" if len(bundles) > 1 else "")
                self.state.record("cluster", level, subject, text, data=self._told_pool())

    async def _rehouse(self) -> None:
        """Rebuild as many of the homeless as there is room for."""
        rows = np.asarray(sorted(self._homeless), dtype=np.int64)
        waiting = rows[self.state.table.in_states((NodeState.FAILED,))[rows]]
        self._homeless.clear()
        if len(waiting):
            await self.rebuild_by_policy(waiting)
