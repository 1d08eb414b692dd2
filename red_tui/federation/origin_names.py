"""Names under which scripts of earlier frameworks reach into a federation; documented here, and nowhere needed.

`federation._nodes`, `._pg`, `._bundle_offset` and `.train_wave(k)` are what `nodes`, `placement_groups`, the
constructor's `bundle_offset` and `run_round(nodes=...)` are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from red_tui import checks
from red_tui.errors import CommandRefused
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.states import HOLDING
from red_tui.nodes.table import IntArray
from red_tui.placement.build_plan import split_waves

if TYPE_CHECKING:
    from red_tui.federation.core import FederationCore


class Alias:
    """Another name of something that a federation has; a class of one's own may use the name for its own things."""

    def __init__(self, read: Callable[[Any], Any], doc: str) -> None:
        self._read = read
        self.__doc__ = doc

    def __get__(self, federation: Any, owner: type) -> Any:
        return self if federation is None else self._read(federation)


def placement_group(core: FederationCore) -> Any:
    """The placement group of a federation, reserved now if it is not yet."""
    lifecycle, _ = core.ready()
    core.engine.wait(lifecycle.ensure_pool())
    return lifecycle.pool.groups[0]


class Waves:
    """Which nodes make a wave, for those who count waves.

    Args:
        core: The federation's parts.
    """

    def __init__(self, core: FederationCore) -> None:
        self._core = core
        self._split: Sequence[IntArray] | None = None
        self._trained: IntArray = np.empty(0, dtype=np.int64)

    def remember(self, split: Sequence[IntArray]) -> None:
        """The waves that were made last."""
        self._split = split

    def take(self, number: Any, count: int | None) -> IntArray:
        """Rows of the nodes of a wave.

        Args:
            number: Of the wave, from 0.
            count: Waves in all; None: those that were made last.  Where none were made, a wave is the nodes that have
                been built since the wave before.

        Raises:
            CommandRefused: If there is no such wave, or nobody is built.
        """
        number = checks.whole(number, "the number of a wave", least=0, refusal=CommandRefused)
        if count is not None:
            split = split_waves(self._learners(), count=count)
        elif self._split is not None:
            split = list(self._split)
        else:
            return self._built_since(number)
        if number >= len(split):
            raise CommandRefused(f"there is no wave {number}: there are {len(split)}, from 0 to {len(split) - 1}")
        rows: IntArray = split[number]
        return rows

    def _learners(self) -> IntArray:
        rows = self._core.client_rows()
        return rows[~self._core.table.with_role(AGGREGATOR_ROLE)[rows]]

    def _built_since(self, number: int) -> IntArray:
        rows = self._learners()
        built = rows[self._core.table.in_states(HOLDING)[rows]]
        fresh = built[~np.isin(built, self._trained)] if number else built
        if not len(fresh):
            raise CommandRefused(
                f"wave {number} has no nodes: none has been built since the wave before; build some first"
                " (node.build, fed.build), or say how many waves there are: train_wave(0, 3)"
            )
        self._trained = np.union1d(self._trained, fresh) if number else fresh
        return fresh
