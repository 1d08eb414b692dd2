"""Plans of nodes that share hosts: where a thousand nodes go is a few sums over columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from red_tui.nodes.table import IntArray
from red_tui.placement.build_plan import BuildPlan, LeftOutNodes, Limits, PlacedNodes, Wanted
from red_tui.placement.pool import COORDINATOR, Pool, Slot
from red_tui.placement.shares import describe

NO_LIMIT = 1 << 40


def make_hosted_plan(
    wanted: Wanted,
    pool: Pool,
    ask: Callable[[int, Slot], Mapping[str, float]],
    held: IntArray,
    up: Collection[int],
    capacity: int | None,
    limits: Limits,
    pace: float | None,
) -> BuildPlan:
    """Spread nodes evenly over the bundles' hosts; a node that sat in a bundle before goes back there.

    Args:
        wanted: The nodes; the server gets a process of its own in the coordinator's bundle.
        pool: The bundles.
        ask: (row, slot) → what the server would take of its slot.
        held: Nodes that each of the pool's slots holds already, by position.
        up: Bundles whose host runs.
        capacity: Nodes that a host holds at most; None: no limit.
        limits: `available` is asked for hosts that are not up: a node in a host asks nothing more.
        pace: Seconds that a process took last time.
    """
    ids = wanted.ids
    parts: list[tuple[IntArray, str | Callable[[int], str]]] = [(wanted.refused, wanted.why)]
    able = ~np.isin(wanted.rows, wanted.refused) if len(wanted.refused) else np.ones(len(wanted.rows), dtype=bool)
    todo = wanted.rows[able]
    seats = wanted.preferred[able].astype(np.int64) - pool.offset
    room = (NO_LIMIT if capacity is None else capacity) - np.asarray(held, dtype=np.int64)
    room[COORDINATOR] = 0
    room[[position for position in range(len(room)) if pool.is_lost(position)]] = 0
    nowhere = _close(room, pool, up, limits)
    np.maximum(room, 0, out=room)

    server = todo == wanted.server
    if server.any() and pool.is_lost(COORDINATOR):
        parts.append((todo[server], "the host of the coordinator's bundle is lost"))
        todo, seats, server = todo[~server], seats[~server], server[~server]
    elif server.any() and (
        pool.slots[COORDINATOR].rows or limits.only_bundle not in (None, pool.index_of(COORDINATOR))
    ):
        parts.append((todo[server], "the coordinator's bundle has no room"))
        todo, seats, server = todo[~server], seats[~server], server[~server]

    # Back to where they were, as far as there is room.
    seats[(seats <= COORDINATOR) | (seats >= len(room))] = -1
    for position in np.unique(seats[seats >= 0]).tolist():
        back = np.flatnonzero(seats == position)
        seats[back[int(room[position]) :]] = -1
        room[position] -= min(len(back), int(room[position]))

    # The others fill the emptiest hosts first.
    homeless = np.flatnonzero((seats < 0) & ~server)
    shares = fill(
        np.asarray(held, dtype=np.int64) + np.bincount(seats[seats >= 0], minlength=len(room)), room, len(homeless)
    )
    chosen = np.repeat(np.arange(len(room)), shares)
    seats[homeless[: len(chosen)]] = chosen
    seats[server] = COORDINATOR
    placed, rest = todo[seats >= 0], todo[seats < 0]
    bundles = seats[seats >= 0] + pool.offset
    if len(rest):
        parts.append((rest, nowhere or _full(pool, capacity)))
    started = set(np.unique(bundles).tolist()) - set(up)

    def resources(bundle: int) -> Mapping[str, float]:
        slot = pool.slot_of(bundle)
        if slot is None:
            return {}
        return ask(wanted.server, slot) if bundle == pool.index_of(COORDINATOR) else slot.spec

    return BuildPlan(
        PlacedNodes(ids, placed, bundles, pool.host_name, resources),
        LeftOutNodes(ids, parts),
        not pool.ready,
        len(started),
        pace,
        shared=True,
        ids_space=ids,
    )


def _close(room: IntArray, pool: Pool, up: Collection[int], limits: Limits) -> str:
    """Take the room of the bundles that a plan may not use; says why a node then finds none."""
    if limits.only_bundle is not None:
        position = limits.only_bundle - pool.offset
        inside = COORDINATOR < position < len(room)
        others = np.arange(len(room)) != position
        room[others] = 0
        if not inside:
            last = pool.index_of(len(room) - 1)
            return f"bundle {limits.only_bundle} holds no nodes: the pool's are {pool.index_of(1)} to {last}"
        return f"bundle {limits.only_bundle} is full"
    if limits.available is None:
        return ""
    budget = dict(limits.available)
    closed = ""
    for position in range(1, len(room)):
        spec = pool.slots[position].spec
        if pool.index_of(position) in up:
            continue
        short = [name for name, amount in spec.items() if name in budget and budget[name] + 1e-9 < amount]
        if short or (closed and not limits.skip_large):
            room[position] = 0
            if short:
                left = describe({name: budget[name] for name in short})
                closed = closed or f"the host of its bundle asks {describe(spec)}, and of what was given {left} is left"
            continue
        for name in budget:
            budget[name] -= spec.get(name, 0.0)
    return closed


def _full(pool: Pool, capacity: int | None) -> str:
    count, lost = len(pool) - 1, len(pool.lost_bundles())
    if lost:
        return f"no free place: {lost} of {count} bundles are lost with their host"
    if capacity is None:
        return "no bundle can hold nodes: the pool has none but the coordinator's"
    return f"no free place: {count} bundles hold {capacity} nodes each; release nodes, or let them take turns"


def fill(held: IntArray, room: Sequence[int] | IntArray, count: int) -> IntArray:
    """How many of `count` further nodes each host gets so that all are as evenly full as their room allows.

    The level is found by bisection; what is left below one node a host goes to the first ones.
    """
    held, free = np.asarray(held, dtype=np.int64), np.asarray(room, dtype=np.int64)
    count = min(count, int(free.sum()))
    low, high = 0, int(held.max(initial=0)) + count + 1
    while low < high - 1:
        middle = (low + high) // 2
        if int(np.clip(middle - held, 0, free).sum()) <= count:
            low = middle
        else:
            high = middle
    shares: IntArray = np.clip(low - held, 0, free)
    left = count - int(shares.sum())
    open_ones = np.flatnonzero((shares < free) & (held + shares <= low))[:left]
    shares[open_ones] += 1
    return shares
