"""A round as a decision before it is an act: who takes part, in how many turns, and what it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from red_tui.aggregation.answers import Answers
from red_tui.errors import RedError
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.node_set import NAMED_IDS
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.states import BUILT
from red_tui.nodes.table import IntArray, row_ranges
from red_tui.placement.build_plan import NO_LIMIT
from red_tui.placement.pool import COORDINATOR, Slot
from red_tui.rounds.history import NodeNames, RoundResult, node_statistics


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
        processes = min(int((~built[together]).sum()), len(lifecycle.pool) - 1 - len(state.bundle_actors))
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


NAMED_FAILURES = 64
"""Nodes whose failure a round's row tells by name."""

MOST_WORDS = 1000
"""Letters of a cause that it keeps."""


def rows_of(result: RoundResult) -> IntArray | None:
    """Rows of a round's participants; None where only names are known."""
    return result.participants.rows if isinstance(result.participants, NodeNames) else None


def finished_wire(result: RoundResult) -> dict[str, Any]:
    """A finished round as the journal keeps it: with how its nodes did, and which they were."""
    wire = {**result.to_wire(), "failures": named_failures(result.failures), "spread": dict(result.spread)}
    if result.left_out:
        wire["left_out"] = named_failures(result.left_out)
    wire["rows"] = row_ranges(rows) if (rows := rows_of(result)) is not None else []
    if len(result.participants) <= NAMED_IDS:
        wire["ids"] = list(result.participants)
    return wire


def named_failures(failures: Mapping[str, str]) -> dict[str, str]:
    """Why the first failed nodes failed, by id: with all of ten thousand a row of the journal would be megabytes.

    How many failed for which cause is in the round's `spread`, and how many in all in `failed`.
    """
    return {node_id: why[:MOST_WORDS] for node_id, why in islice(failures.items(), NAMED_FAILURES)}


def failed_wire(number: int, seconds: float, error: Exception) -> dict[str, Any]:
    """A failed round as a row of the history."""
    failures = error.fields.get("failed", {}) if isinstance(error, RedError) else {}
    ended = time.time()
    left_out = error.fields.get("left_out", {}) if isinstance(error, RedError) else {}
    result = RoundResult(number, math.nan, {}, {}, (), failures, seconds, ended, left_out=left_out)
    spread = node_statistics(Answers(), Answers(), failures, lambda rows: (), left_out)
    named = {"left_out": named_failures(left_out)} if left_out else {}
    return {**result.to_wire(), **named, "state": "failed", "spread": spread}


def summary(result: RoundResult) -> str:
    """A round in a line."""
    parts = []
    if result.evaluated:
        parts.append(f"loss {result.loss:.4g}")
    parts += [f"{name} {value:.4g}" for name, value in result.metrics.items()]
    if not result.evaluated and "loss" in result.train_metrics:
        parts.append(f"train loss {result.train_metrics['loss']:.4g}")
    parts.append(f"{len(result.participants)} results in {result.seconds:.2f} s")
    if result.failures:
        node_id, why = next(iter(result.failures.items()))
        parts.append(f"{result.failed} failed ({node_id}: {first_sentence(why, 80)})")
    if result.left_out:
        node_id, why = next(iter(result.left_out.items()))
        parts.append(f"{result.num_left_out} left out ({node_id}: {first_sentence(why, 80)})")
    return "  ".join(parts)
