"""The pool: all bundles of a federation, over one or more placement groups, and who sits in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from red_tui.placement.availability import remove_groups
from red_tui.placement.feasibility import ROUNDING, Host
from red_tui.placement.shares import Bundle, amounts_text

COORDINATOR = 0
"""Position of the coordinator's bundle in a pool; the server node runs there."""


@dataclass(frozen=True)
class BundleInfo:
    """One bundle as a table shows it."""

    idx: int
    host: str
    resources: Mapping[str, float]
    state: str
    what: str


@dataclass
class Slot:
    """One bundle: what it has, what is taken of it, and by whom."""

    spec: Bundle
    taken: Bundle = field(default_factory=dict)
    rows: set[int] = field(default_factory=set)
    host_id: str = ""

    def has_room(self, asked: Mapping[str, float]) -> bool:
        """Whether a node that asks this much fits beside those that sit here."""
        return all(
            self.spec.get(name, 0.0) - self.taken.get(name, 0.0) + ROUNDING >= amount for name, amount in asked.items()
        )


class Pool:
    """Bundles of a federation.  `bundle` means the index within its placement group plus those of the groups before.

    Args:
        specs: The bundles, the coordinator's first.
        strategy: Ray's placement strategy.
        offset: Index of the coordinator's bundle within a placement group that others use too.
        groups: Placement groups that exist already; None: `reserve` makes them.
        owned: Whether the groups go when the federation goes; None: those that `reserve` made.
        reserve: Makes the groups: (bundles, strategy) → placement groups.
        measure: Gives the bundles that the pool really has, once that can be known; None: `specs` are they.
        ended: Set when nobody waits for the bundles any more.
    """

    def __init__(
        self,
        specs: Sequence[Bundle],
        strategy: str = "PACK",
        *,
        offset: int = 0,
        groups: Sequence[Any] | None = None,
        owned: bool | None = None,
        reserve: Callable[[Sequence[Bundle], str], list[Any]] | None = None,
        measure: Callable[[], Sequence[Bundle]] | None = None,
        ended: threading.Event | None = None,
    ) -> None:
        self.slots = [Slot(dict(spec)) for spec in specs]
        self.strategy = strategy
        self.offset = offset
        self.groups: list[Any] = list(groups or [])
        self.owned = groups is None if owned is None else owned
        self._reserve = reserve
        self._measure = measure
        self._ended = ended or threading.Event()
        self.sizing = 0
        """Grows when the bundles are resized: what was planned before does not hold any more."""
        self.hosts: dict[str, Host] = {}
        self.version = 0

    # -- bundles ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def ready(self) -> bool:
        """Whether the bundles are reserved."""
        return bool(self.groups)

    @property
    def specs(self) -> list[Bundle]:
        """What the bundles have."""
        return [slot.spec for slot in self.slots]

    def index_of(self, position: int) -> int:
        """Bundle index (as people and Ray see it) of a position in this pool."""
        return position + self.offset

    def slot_of(self, bundle_idx: int) -> Slot | None:
        """The slot of a bundle index, or None if the pool has no such bundle."""
        position = bundle_idx - self.offset
        return self.slots[position] if 0 <= position < len(self.slots) else None

    @property
    def provisional(self) -> bool:
        """Whether the bundles are a guess: no CPU was free when they were planned."""
        return self._measure is not None

    def measure(self) -> Sequence[Bundle]:
        """The bundles that a provisional pool really has.  Blocks; call it off the engine's thread.

        Raises:
            PlacementError: If no CPU becomes free.
        """
        assert self._measure is not None
        return self._measure()

    def resize(self, specs: Sequence[Bundle]) -> None:
        """Take other bundles over before any is reserved."""
        assert not self.groups
        self.slots = [Slot(dict(spec)) for spec in specs]
        self._measure = None
        self.sizing += 1
        self.version += 1

    def reserve(self) -> None:
        """Make the placement groups, whole or not at all.  Blocks; call it off the engine's thread.

        Raises:
            PlacementError: If they do not fit.
        """
        if not self.groups:
            assert self._reserve is not None
            self.groups = self._reserve(self.specs, self.strategy)
            if self._ended.is_set():
                self.give_back()

    def give_back(self) -> bool:
        """Remove the placement groups of this pool; says whether Ray counts their resources as free.  Blocks."""
        groups, self.groups = self.groups, []
        self.hosts = {}
        for slot in self.slots:
            slot.host_id = ""
        self.version += 1
        return not groups or remove_groups(groups)

    def end(self) -> bool:
        """Give the pool's own groups back for good; who waits for them to be reserved waits no longer.  Blocks."""
        self._ended.set()
        return self.give_back() if self.owned else True

    def grow(self, specs: Sequence[Bundle], groups: Sequence[Any]) -> range:
        """Take further bundles, of groups that have been reserved for them, in; gives their indices."""
        first = len(self.slots)
        self.slots += [Slot(dict(spec)) for spec in specs]
        self.groups += list(groups)
        self.version += 1
        return range(self.index_of(first), self.index_of(len(self.slots)))

    def last_group(self) -> range | None:
        """Indices of the bundles of the last group that was added to the first; None if none was."""
        if not self.owned or len(self.groups) < 2:
            return None
        stop = len(self.slots)
        return range(self.index_of(stop - self.groups[-1].bundle_count), self.index_of(stop))

    def shrink(self) -> Any:
        """Leave the last group out; gives it, to be removed.  Nobody may sit in it."""
        last = self.last_group()
        assert last is not None
        del self.slots[len(self.slots) - len(last) :]
        self.version += 1
        return self.groups.pop()

    def locate(self, bundle_idx: int) -> tuple[Any, int]:
        """The placement group of a bundle and its index within that group."""
        remaining = bundle_idx
        for group in self.groups:
            count = group.bundle_count
            if remaining < count:
                return group, remaining
            remaining -= count
        raise IndexError(bundle_idx)

    def set_hosts(self, host_of_bundle: Mapping[int, str], hosts: Sequence[Host]) -> None:
        """Take over where Ray has put the bundles."""
        self.hosts = {host.host_id: host for host in hosts}
        for position, slot in enumerate(self.slots):
            slot.host_id = host_of_bundle.get(self.index_of(position), "")
        self.version += 1

    def host_name(self, bundle_idx: int) -> str:
        """Name of the host that a bundle lies on, or empty."""
        slot = self.slot_of(bundle_idx)
        host = self.hosts.get(slot.host_id) if slot else None
        return host.name if host else ""

    def is_lost(self, position: int) -> bool:
        """Whether the bundle at a position lies on no living host (it is reserved, and its host has gone)."""
        if not self.ready or not self.hosts:
            return False
        host = self.hosts.get(self.slots[position].host_id)
        return host is None or not host.alive

    def lost_bundles(self) -> set[int]:
        """Indices of the bundles whose host has gone."""
        return {self.index_of(position) for position in range(len(self.slots)) if self.is_lost(position)}

    def infos(self) -> list[BundleInfo]:
        """All bundles, for a table."""
        infos = []
        for position, slot in enumerate(self.slots):
            host = self.hosts.get(slot.host_id)
            state = "planned" if not self.ready else "lost" if self.is_lost(position) else "ready"
            what = "coordinator" if position == COORDINATOR else ""
            infos.append(BundleInfo(self.index_of(position), host.name if host else "", slot.spec, state, what))
        return infos

    def to_wire(self) -> dict[str, Any]:
        """All bundles and hosts as a journal keeps them: bundles in runs of those that are alike."""
        runs: list[list[Any]] = []
        for info in self.infos():
            told = [info.host, dict(info.resources), info.state]
            if runs and runs[-1][2:] == told:
                runs[-1][1] = info.idx + 1
            else:
                runs.append([info.idx, info.idx + 1, *told])
        # Ray counts what groups hold as resources of hosts, too: those are no business of people.
        hosts = [
            [host.name, {key: amount for key, amount in host.resources.items() if "group_" not in key}, host.alive]
            for host in self.hosts.values()
        ]
        return {"bundles": runs, "hosts": hosts}

    # -- seats -----------------------------------------------------------------------------------

    def seat(self, row: int, bundle_idx: int, asked: Mapping[str, float]) -> None:
        """Take resources of a bundle for a node."""
        slot = self.slot_of(bundle_idx)
        assert slot is not None
        slot.rows.add(row)
        for name, amount in asked.items():
            slot.taken[name] = slot.taken.get(name, 0.0) + amount

    def unseat(self, row: int, bundle_idx: int, asked: Mapping[str, float]) -> None:
        """Give them back; harmless for a node that has no seat there."""
        slot = self.slot_of(bundle_idx)
        if slot is None or row not in slot.rows:
            return
        slot.rows.discard(row)
        for name, amount in asked.items():
            slot.taken[name] = max(0.0, slot.taken.get(name, 0.0) - amount)
        if not slot.rows:
            slot.taken.clear()

    def free_positions(self) -> int:
        """How many node bundles are empty."""
        return sum(not slot.rows for slot in self.slots[1:])

    def describe(self) -> str:
        """The pool in one line."""
        return f"{len(self.slots) - 1} bundles for nodes ({amounts_text(self.slots[-1].spec)} each at the end)"
