"""A build as a decision before it is an act: who goes where, who does not fit, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from red_tui.placement.pool import COORDINATOR, Pool, Slot
from red_tui.placement.shares import describe


@dataclass(frozen=True)
class Placed:
    """One node and the bundle it gets."""

    row: int
    node_id: str
    bundle_idx: int
    host: str
    resources: Mapping[str, float]


@dataclass(frozen=True)
class LeftOut:
    """One node that is not built by a plan, and why."""

    row: int
    node_id: str
    why: str


@dataclass(frozen=True)
class BuildPlan:
    """Which node goes to which bundle, what does not fit and why.  Nothing has happened yet.

    Attributes:
        placed: Nodes that get a bundle.
        left_out: Nodes that do not.
        reserves: Whether the pool's placement group is still to be reserved.
    """

    placed: tuple[Placed, ...]
    left_out: tuple[LeftOut, ...] = field(default=())
    reserves: bool = False

    @property
    def ids(self) -> list[str]:
        """Ids of the nodes that get a bundle."""
        return [placed.node_id for placed in self.placed]

    def __len__(self) -> int:
        return len(self.placed)

    def __str__(self) -> str:
        head = f"{len(self.placed)} nodes start a process each"
        lines = [head + (", after the pool's bundles are reserved" if self.reserves else "")]
        for placed in self.placed:
            where = f" on {placed.host}" if placed.host else ""
            lines.append(f"  {placed.node_id:<20} bundle {placed.bundle_idx}{where}  {describe(placed.resources)}")
        if self.left_out:
            lines.append(f"{len(self.left_out)} are left out")
            lines += [f"  {left.node_id:<20} {left.why}" for left in self.left_out]
        return "\n".join(lines)


@dataclass(frozen=True)
class Candidate:
    """A node that asks to be built."""

    row: int
    node_id: str
    server: bool = False
    refused: str = ""
    preferred: int | None = None
    """A bundle to take if it has room: the one that the node sat in before."""


def make_plan(
    candidates: Iterable[Candidate],
    pool: Pool,
    ask: Callable[[int, Slot], Mapping[str, float]],
    *,
    only_bundle: int | None = None,
    available: Mapping[str, float] | None = None,
    skip_large: bool = False,
) -> BuildPlan:
    """Give each candidate the first bundle with room, in order.

    Args:
        candidates: Nodes, in the order in which they choose.
        pool: The bundles; nobody is seated by planning.
        ask: (row, slot) → what the node would take of that slot.
        only_bundle: Put every candidate into this bundle or leave it out.
        available: Stop when the placed nodes together would ask more than this.
        skip_large: Go on with smaller nodes after one did not fit into `available`.
    """
    planned = [Slot(slot.spec, dict(slot.taken), set(slot.rows), slot.host_id) for slot in pool.slots]
    placed: list[Placed] = []
    left_out: list[LeftOut] = []
    budget = dict(available) if available is not None else None
    stopped = ""
    first_free = COORDINATOR + 1
    for candidate in candidates:
        row, node_id = candidate.row, candidate.node_id
        if candidate.refused or stopped:
            left_out.append(LeftOut(row, node_id, candidate.refused or stopped))
            continue
        position = _position(candidate, pool, planned, ask, only_bundle, first_free)
        if isinstance(position, str):
            left_out.append(LeftOut(row, node_id, position))
            continue
        asked = dict(ask(row, planned[position]))
        if budget is not None:
            short = {name: amount for name, amount in asked.items() if name in budget and budget[name] + 1e-9 < amount}
            if short:
                left = describe({name: budget[name] for name in short})
                why = f"asks {describe(asked)}, and of what was given {left} is left"
                left_out.append(LeftOut(row, node_id, why))
                stopped = "" if skip_large else f"stopped at {node_id}, which did not fit"
                continue
            for name in budget:
                budget[name] -= asked.get(name, 0.0)
        slot = planned[position]
        slot.rows.add(row)
        for name, amount in asked.items():
            slot.taken[name] = slot.taken.get(name, 0.0) + amount
        index = pool.index_of(position)
        placed.append(Placed(row, node_id, index, pool.host_name(index), asked))
        while first_free < len(planned) and not _any_room(planned[first_free]):
            first_free += 1
    return BuildPlan(tuple(placed), tuple(left_out), reserves=not pool.ready)


def _any_room(slot: Slot) -> bool:
    return any(slot.spec.get(name, 0.0) - slot.taken.get(name, 0.0) > 1e-6 for name in slot.spec)


def _position(
    candidate: Candidate,
    pool: Pool,
    planned: list[Slot],
    ask: Callable[[int, Slot], Mapping[str, float]],
    only_bundle: int | None,
    first_free: int,
) -> int | str:
    """Where a candidate sits, or why it cannot."""

    def room(position: int) -> bool:
        slot = planned[position]
        # A node that asks nothing still takes a bundle of its own.
        asked = ask(candidate.row, slot)
        return slot.has_room(asked) if asked else not slot.rows

    if only_bundle is not None:
        position = only_bundle - pool.offset
        if not 0 <= position < len(planned):
            last = pool.index_of(len(planned) - 1)
            return f"bundle {only_bundle} does not exist: the pool has bundles {pool.offset} to {last}"
        if room(position):
            return position
        return f"bundle {only_bundle} has no room: {len(planned[position].rows)} nodes sit there"
    if candidate.server:
        return COORDINATOR if room(COORDINATOR) else "the coordinator's bundle has no room"
    if candidate.preferred is not None:
        position = candidate.preferred - pool.offset
        if COORDINATOR < position < len(planned) and room(position):
            return position
    for position in range(first_free, len(planned)):
        if room(position):
            return position
    used = sum(bool(slot.rows) for slot in planned[1:])
    return f"no free bundle: {used} of {len(planned) - 1} are in use; release nodes, or build in waves"
