"""A build as a decision before it is an act: who goes where, who does not fit, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np

from red_tui import checks
from red_tui.nodes.ids import IdSpace, ListedIds
from red_tui.nodes.table import NO_ROWS, BoolArray, IntArray
from red_tui.placement.pool import COORDINATOR, Pool, Slot
from red_tui.placement.shares import amounts_text
from red_tui.plain_text import one_line

SHOWN = 200
"""Nodes that the text of a plan names at most."""

Item = TypeVar("Item", covariant=True)


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


class _Lazy(Sequence[Item]):
    """Items made from columns when they are looked at: a plan of a million nodes is not a million objects."""

    def __init__(self, rows: IntArray, make: Callable[[int], Item]) -> None:
        self.rows = rows
        self._make = make

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._make(position) for position in range(*index.indices(len(self.rows)))]
        if not -len(self.rows) <= index < len(self.rows):
            raise IndexError(index)
        return self._make(index % len(self.rows))

    def __iter__(self) -> Iterator[Item]:
        return (self._make(position) for position in range(len(self.rows)))


class PlacedNodes(_Lazy[Placed]):
    """The nodes that a plan places.

    Attributes:
        rows: Their rows.
        bundles: Their bundles.
    """

    def __init__(
        self, ids: IdSpace, rows: IntArray, bundles: IntArray, host: Callable[[int], str], resources: Any
    ) -> None:
        self.bundles = bundles

        def make(position: int) -> Placed:
            row, bundle = int(rows[position]), int(bundles[position])
            asked = resources(bundle) if callable(resources) else resources[position]
            return Placed(row, ids[row], bundle, host(bundle), asked)

        super().__init__(rows, make)


class LeftOutNodes(_Lazy[LeftOut]):
    """The nodes that a plan leaves out, each with the number of its reason."""

    def __init__(self, ids: IdSpace, parts: Sequence[tuple[IntArray, str | Callable[[int], str]]] = ()) -> None:
        reasons = [why for rows, why in parts if len(rows)]
        lengths = [len(rows) for rows, _ in parts if len(rows)]
        rows = np.concatenate([rows for rows, _ in parts if len(rows)]) if reasons else NO_ROWS
        which = np.repeat(np.arange(len(reasons), dtype=np.int32), lengths)

        def make(position: int) -> LeftOut:
            row, why = int(rows[position]), reasons[int(which[position])]
            return LeftOut(row, ids[row], why(row) if callable(why) else why)

        super().__init__(rows, make)

    def where(self, mask: BoolArray) -> Sequence[LeftOut]:
        """Some of them."""
        positions = np.flatnonzero(mask)
        return _Lazy(self.rows[positions], lambda position: self._make(int(positions[position])))


@dataclass(frozen=True)
class BuildPlan:
    """Which node goes to which bundle, what does not fit and why.  Nothing has happened yet.

    Attributes:
        placed: Nodes that get a bundle.
        left_out: Nodes that do not.
        reserves: Whether the pool's placement group is still to be reserved.
        processes: How many processes it starts: one a node, or one a bundle that has no host yet.
        process_seconds: What one process took last time, or None before the first.
        shared: Whether the nodes of a bundle share one process.
        sizing: How often the pool had been resized when the plan was made.
        no_room: Why the pool's bundles do not fit into what is free on the cluster now, and what would help.
    """

    placed: PlacedNodes
    left_out: LeftOutNodes
    reserves: bool = False
    processes: int = 0
    process_seconds: float | None = None
    shared: bool = False
    sizing: int = 0
    no_room: str = ""
    ids_space: IdSpace = field(default_factory=IdSpace, repr=False, compare=False)

    @property
    def ids(self) -> list[str]:
        """Ids of the nodes that get a bundle."""
        return self.ids_space.take(self.placed.rows)

    @property
    def seconds(self) -> float | None:
        """How long its processes would take at last time's pace."""
        return None if self.process_seconds is None else self.processes * self.process_seconds

    def to_wire(self, most: int | None = None) -> dict[str, Any]:
        """Plain data; at most so many nodes are listed, None: all, with the resources of each too."""
        wire: dict[str, Any] = {
            "placed": [[placed.node_id, placed.bundle_idx, placed.host] for placed in self.placed[:most]],
            "placed_count": len(self.placed),
            "left_out": [[left.node_id, left.why] for left in self.left_out[:most]],
            "left_out_count": len(self.left_out),
            "reserves": self.reserves,
            "processes": self.processes,
            "seconds": self.seconds,
            "no_room": self.no_room,
        }
        if most is None:
            amounts: dict[tuple[tuple[str, float], ...], int] = {}
            asked = [
                amounts.setdefault(tuple(sorted(placed.resources.items())), len(amounts)) for placed in self.placed
            ]
            wire |= {"amounts": [dict(one) for one in amounts], "asked": asked, "shared": self.shared}
            wire["process_seconds"] = self.process_seconds
        return wire

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> BuildPlan:
        """The plan that another process made and told whole; its rows count its own nodes."""
        placed, left = data["placed"], data["left_out"]
        ids = IdSpace([ListedIds(tuple(one[0] for one in (*placed, *left)))])
        hosts = {bundle: host for _, bundle, host in placed}
        resources = [data["amounts"][index] for index in data["asked"]]
        rows, bundles = np.arange(len(placed)), np.asarray([one[1] for one in placed], dtype=np.int64)
        whys: dict[str, list[int]] = {}
        for row, (_, why) in enumerate(left, len(placed)):
            whys.setdefault(why, []).append(row)
        return cls(
            PlacedNodes(ids, rows, bundles, lambda bundle: str(hosts[bundle]), resources),
            LeftOutNodes(ids, [(np.asarray(found), why) for why, found in whys.items()]),
            reserves=bool(data["reserves"]),
            processes=int(data["processes"]),
            process_seconds=data["process_seconds"],
            shared=bool(data["shared"]),
            no_room=str(data["no_room"]),
            ids_space=ids,
        )

    def __len__(self) -> int:
        return len(self.placed)

    def __str__(self) -> str:
        count = len(self.placed)
        started = f"{self.processes} process{'' if self.processes == 1 else 'es'} start{'s' * (self.processes == 1)}"
        head = f"{count} node{'' if count == 1 else 's'} in {len(np.unique(self.placed.bundles))} bundles: {started}"
        if self.processes and self.seconds is not None:
            head += f", about {self.seconds:.1f} s at last time's {self.process_seconds:.2f} s each"
        lines = [head + (", after the pool's bundles are reserved" if self.reserves else "")]
        if self.no_room:
            lines.append(f"the pool does not fit now: {self.no_room}")
        lines += self._by_host() if self.shared else self._by_node()
        if self.left_out:
            left = len(self.left_out)
            lines.append(f"{left} {'is' if left == 1 else 'are'} left out")
            lines += [f"  {out.node_id:<20} {one_line(out.why)}" for out in self.left_out[:SHOWN]]
            lines += _more(left)
        return "\n".join(lines)

    def _by_node(self) -> list[str]:
        lines = []
        for placed in self.placed[:SHOWN]:
            where = f" on {one_line(placed.host, 100)}" if placed.host else ""
            lines.append(f"  {placed.node_id:<20} bundle {placed.bundle_idx}{where}  {amounts_text(placed.resources)}")
        return lines + _more(len(self.placed))

    def _by_host(self) -> list[str]:
        bundles, firsts, counts = np.unique(self.placed.bundles, return_index=True, return_counts=True)
        lines = []
        for bundle, first, count in list(zip(bundles.tolist(), firsts.tolist(), counts.tolist(), strict=True))[:SHOWN]:
            placed = self.placed[first]
            where = f" on {one_line(placed.host, 100)}" if placed.host else ""
            more = f" and {count - 1} more" if count > 1 else ""
            lines.append(f"  bundle {bundle:<6}{where}  {amounts_text(placed.resources)}  {placed.node_id}{more}")
        return lines + _more(len(bundles))


def _more(count: int) -> list[str]:
    return [f"  … and {count - SHOWN} more"] if count > SHOWN else []


@dataclass(frozen=True)
class Wanted:
    """Nodes that ask to be built, in the order in which they choose.

    Attributes:
        ids: Ids by row.
        rows: The nodes.
        refused: Those of `rows` whose state forbids it, with the reason by row.
        why: Reason of a refused row.
        server: Row of the server node, or -1.
        preferred: Bundle that each of `rows` sat in before, or -1.
    """

    ids: IdSpace
    rows: IntArray
    refused: IntArray
    why: Callable[[int], str]
    server: int
    preferred: IntArray


@dataclass(frozen=True)
class Limits:
    """What a plan must keep to.

    Attributes:
        only_bundle: Put every node into this bundle or leave it out.
        available: Stop when the placed nodes together would ask more than this.
        skip_large: Go on with smaller nodes after one did not fit into `available`.
    """

    only_bundle: int | None = None
    available: Mapping[str, float] | None = None
    skip_large: bool = False


def make_plan(
    wanted: Wanted, pool: Pool, ask: Callable[[int, Slot], Mapping[str, float]], limits: Limits, pace: float | None
) -> BuildPlan:
    """Give each node a process in the first bundle with room, in order.  Nobody is seated by planning.

    Args:
        wanted: The nodes.
        pool: The bundles.
        ask: (row, slot) → what the node would take of that slot.
        limits: What to keep to.
        pace: Seconds that a process took last time.
    """
    planned = [Slot(slot.spec, dict(slot.taken), set(slot.rows), slot.host_id) for slot in pool.slots]
    rows, bundles, resources = [], [], []
    parts: list[tuple[IntArray, str | Callable[[int], str]]] = [(wanted.refused, wanted.why)]
    budget = dict(limits.available) if limits.available is not None else None
    able = ~np.isin(wanted.rows, wanted.refused)
    todo, preferred = wanted.rows[able], wanted.preferred[able]
    first_free = COORDINATOR + 1
    for position, row in enumerate(todo.tolist()):
        if first_free >= len(planned) and row != wanted.server and limits.only_bundle is None:
            rest = todo[position:]
            parts.append((rest[rest != wanted.server], _no_bundle(planned, pool)))
            break
        seat = _position(row, int(preferred[position]), wanted, pool, planned, ask, limits.only_bundle, first_free)
        if isinstance(seat, str):
            parts.append((todo[position : position + 1], seat))
            continue
        asked = dict(ask(row, planned[seat]))
        short = _short(budget, asked)
        if budget is not None and short:
            left = amounts_text({name: budget[name] for name in short})
            why = f"asks {amounts_text(asked)}, and of what was given {left} is left"
            parts.append((todo[position : position + 1], why))
            if limits.skip_large:
                continue
            parts.append((todo[position + 1 :], f"stopped at {wanted.ids[row]}, which did not fit"))
            break
        for name in budget or ():
            assert budget is not None
            budget[name] -= asked.get(name, 0.0)
        slot = planned[seat]
        slot.rows.add(row)
        for name, amount in asked.items():
            slot.taken[name] = slot.taken.get(name, 0.0) + amount
        rows.append(row)
        bundles.append(pool.index_of(seat))
        resources.append(asked)
        while first_free < len(planned) and not _any_room(planned[first_free]):
            first_free += 1
    placed = PlacedNodes(wanted.ids, _ints(rows), _ints(bundles), pool.host_name, resources)
    return BuildPlan(placed, LeftOutNodes(wanted.ids, parts), not pool.ready, len(rows), pace, ids_space=wanted.ids)


def _ints(values: Sequence[int]) -> IntArray:
    return np.asarray(values, dtype=np.int64)


def _short(budget: Mapping[str, float] | None, asked: Mapping[str, float]) -> list[str]:
    """Names of what is asked beyond a budget."""
    if budget is None:
        return []
    return [name for name, amount in asked.items() if name in budget and budget[name] + 1e-9 < amount]


def _any_room(slot: Slot) -> bool:
    return any(slot.spec.get(name, 0.0) - slot.taken.get(name, 0.0) > 1e-6 for name in slot.spec)


def _no_bundle(planned: Sequence[Slot], pool: Pool) -> str:
    used = sum(bool(slot.rows) for slot in planned[1:])
    lost = len(pool.lost_bundles())
    if lost:
        return f"no free bundle: {used} of {len(planned) - 1} are in use and {lost} are lost with their host"
    return f"no free bundle: {used} of {len(planned) - 1} are in use; release nodes, or build in waves"


def _position(
    row: int,
    preferred: int,
    wanted: Wanted,
    pool: Pool,
    planned: list[Slot],
    ask: Callable[[int, Slot], Mapping[str, float]],
    only_bundle: int | None,
    first_free: int,
) -> int | str:
    """Where a node sits, or why it cannot."""

    def room(position: int) -> bool:
        slot = planned[position]
        if pool.is_lost(position):
            return False
        # A node that asks nothing still takes a bundle of its own.
        asked = ask(row, slot)
        return slot.has_room(asked) if asked else not slot.rows

    if only_bundle is not None:
        position = only_bundle - pool.offset
        if not 0 <= position < len(planned):
            last = pool.index_of(len(planned) - 1)
            return f"bundle {only_bundle} does not exist: the pool has bundles {pool.offset} to {last}"
        if room(position):
            return position
        if pool.is_lost(position):
            return f"the host of bundle {only_bundle} is lost: wait until it is back, or name another bundle"
        return f"bundle {only_bundle} has no room: {len(planned[position].rows)} nodes sit there"
    if row == wanted.server:
        if pool.is_lost(COORDINATOR):
            return "the host of the coordinator's bundle is lost: it is built when Ray has reserved the bundle anew"
        # Clients that were sent to this bundle by name do not keep the server out.
        return COORDINATOR if planned[COORDINATOR].rows or room(COORDINATOR) else "the coordinator's bundle has no room"
    position = preferred - pool.offset
    if preferred >= 0 and COORDINATOR < position < len(planned) and room(position):
        return position
    for position in range(first_free, len(planned)):
        if room(position):
            return position
    return _no_bundle(planned, pool)


def split_waves(rows: IntArray, *, count: int | None = None, size: int | None = None) -> list[IntArray]:
    """Split rows in order into `count` waves whose sizes differ by one at most, or into waves of `size`.

    Every row is in exactly one wave; empty waves are left away.

    Raises:
        ValueError: Unless exactly one of `count` and `size` is given and it is at least 1.
    """
    if (count is None) == (size is None):
        raise ValueError("say either how many waves (count=3) or how large they are (size=4)")
    number: int = checks.whole(count, "count", least=1) if count is not None else checks.whole(size, "size", least=1)
    if count is not None:
        parts = np.array_split(rows, count)
    else:
        parts = np.array_split(rows, np.arange(number, len(rows), number))
    return [part for part in parts if len(part)]


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
                left = amounts_text({name: budget[name] for name in short})
                closed = (
                    closed or f"the host of its bundle asks {amounts_text(spec)}, and of what was given {left} is left"
                )
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
