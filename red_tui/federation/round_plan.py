"""A round as a decision before it is an act: who takes part, in how many turns, and what it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from red_tui.federation.lifecycle import Lifecycle
from red_tui.nodes.states import BUILT
from red_tui.nodes.table import IntArray
from red_tui.placement.bundle_plan import NO_LIMIT
from red_tui.placement.pool import COORDINATOR, Slot


@dataclass(frozen=True)
class RoundPlan:
    """What the next round would do.

    Attributes:
        number: The round.
        participants: Nodes that would fit.
        judges: Nodes that would evaluate.
        places: Nodes that can be built at a time.
        turns: Groups in which the participants would work.
        processes: Processes that would start, about: with judges that need turns too it may be a few more.
        seconds: How long starting them would take at last time's pace; None before the first.
    """

    number: int
    participants: int
    judges: int
    places: int
    turns: int
    processes: int
    seconds: float | None

    def __str__(self) -> str:
        text = f"round {self.number}: {self.participants} nodes fit"
        if self.turns > 1:
            text += f" in {self.turns} turns of {self.places} places"
        if self.judges:
            text += f", {self.judges} evaluate"
        if self.processes:
            text += f"; {self.processes} process{'' if self.processes == 1 else 'es'} to start"
            text += "" if self.seconds is None else f", about {self.seconds:.0f} s at last time's pace"
        return text


def plan_round(
    lifecycle: Lifecycle, number: int, chosen: IntArray, judges: IntArray, inner: IntArray | None = None
) -> RoundPlan:
    """What a round over `chosen`, judged by `judges` and added up by `inner`, would do.  Nothing happens."""
    state = lifecycle.state
    places = _places(lifecycle, chosen if len(chosen) else judges)
    together = np.union1d(chosen, judges)
    built = state.table.in_states(BUILT)
    server = 0 if state.server_row in state.processes else 1
    if state.hosting.isolation == "bundle":
        processes = min(int((~built[together]).sum()), len(lifecycle.pool) - 1 - len(state.hosts))
    elif len(together) <= places:
        processes = int((~built[together]).sum())
    else:
        processes = int((~built[chosen]).sum()) + max(0, len(judges) - places)
    if inner is not None and state.hosting.isolation != "bundle":
        processes += int((~built[inner]).sum())
    processes += server
    pace = state.pace
    return RoundPlan(
        number,
        len(chosen),
        len(judges),
        min(places, NO_LIMIT),
        math.ceil(len(chosen) / max(1, places)),
        processes,
        None if pace is None else processes * pace,
    )


def _places(lifecycle: Lifecycle, rows: IntArray) -> int:
    """How many of `rows` can be built at a time, were all places free."""
    state, pool = lifecycle.state, lifecycle.pool
    if state.hosting.isolation == "bundle":
        return NO_LIMIT if state.hosting.capacity is None else state.hosting.capacity * (len(pool) - 1)
    if not len(rows):
        return len(pool) - 1
    row = int(rows[0])
    return sum(_fitting(lifecycle, row, slot) for slot in pool.slots[COORDINATOR + 1 :])


def _fitting(lifecycle: Lifecycle, row: int, slot: Slot) -> int:
    """How many nodes like this one fit into a bundle."""
    asked = lifecycle.asked(row, slot)
    if not asked:
        return 1
    return min(int((slot.spec.get(name, 0.0) + 1e-6) // amount) for name, amount in asked.items())
