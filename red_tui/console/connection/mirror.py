"""The console's replica of a federation: what the link last said, and nothing of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.states import STATES, NodeState
from red_tui.nodes.table import NodeTable
from red_tui.protocol.events import EventSummary
from red_tui.protocol.figures import LatestMeasure, latest, pace, seconds_left
from red_tui.protocol.snapshot import (
    BundleStatus,
    ClusterStatus,
    HostStatus,
    RoundProgress,
    RoundSummary,
    SessionStatus,
    ShownSettings,
    TimeLine,
    TopologyVersion,
)
from red_tui.protocol.update import PARTS, Update

STALL = 5.0


@dataclass(frozen=True)
class Building:
    """Nodes on their way to a process.

    Attributes:
        total: Nodes that were on their way since it began.
        left: Nodes that still are.
        began: When it began, on the console's clock.
        moved: When the last of them arrived.
    """

    total: int
    left: int
    began: float
    moved: float

    @property
    def done(self) -> int:
        """Nodes that arrived, or failed."""
        return self.total - self.left

    def rate(self, now: float) -> float | None:
        """Nodes a second; None as long as none has arrived and where nothing moves any more."""
        if not self.done or self.moved <= self.began:
            return None
        pace = (self.moved - self.began) / self.done
        return None if now - self.moved > max(STALL, 4 * pace) else 1 / pace

    def seconds_left(self, now: float) -> float | None:
        """How long it still takes at this rate."""
        rate = self.rate(now)
        return None if rate is None else max(0.0, self.left / rate - (now - self.moved))


def follow(before: Building | None, left: int, now: float) -> Building | None:
    """A build after an update that tells how many nodes are pending or starting; None if none is."""
    if left == 0:
        return None
    if before is None:
        return Building(left, left, now, now)
    if left > before.left:
        return replace(before, total=before.total + left - before.left, left=left)
    return replace(before, left=left, moved=now) if left < before.left else before


MAX_EVENTS = 10_000
MAX_ROUNDS = 20_000

Rows = npt.NDArray[np.integer[Any]]
_NO_ROWS: Rows = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Changes:
    """What one update changed.

    Attributes:
        full: Whether everything was replaced.
        rows: Rows of the table that changed.
        placement: Whether nodes came, went, or changed bundle or role: lines have to be arranged again.
        parts: Names of the other parts that changed, of `PARTS`.
        events: New events, oldest first.
        history: Whether events and rounds were replaced: a replay went back, or far ahead.
    """

    full: bool = False
    rows: Rows = field(default_factory=lambda: _NO_ROWS)
    placement: bool = False
    parts: frozenset[str] = frozenset()
    events: tuple[EventSummary, ...] = ()
    history: bool = False

    def __bool__(self) -> bool:
        told = self.placement or bool(self.parts) or bool(self.events) or self.history
        return self.full or bool(len(self.rows)) or told


class OutOfStep(Exception):
    """An update builds on something that the mirror does not have: ask for everything."""


class FederationMirror:
    """A federation as the link last described it."""

    def __init__(self) -> None:
        self._reset()
        self.time = 0.0
        self.received: float | None = None

    def _reset(self) -> None:
        self.federation: Mapping[str, Any] = {}
        self.table = NodeTable()
        self.counts: dict[NodeState, int] = dict.fromkeys(STATES, 0)
        self.servers: dict[NodeState, int] = dict.fromkeys(STATES, 0)
        """Those of them that are servers, which no operator counts among the nodes."""
        self.by_bundle: npt.NDArray[np.int64] = np.zeros((0, len(STATES)), dtype=np.int64)
        """How many nodes sit in each bundle, by its index and their state."""
        self.bundles: tuple[BundleStatus, ...] = ()
        self._host_by_bundle: dict[int, str] | None = None
        self._described: npt.NDArray[np.bool_] | None = None
        self.hosts: tuple[HostStatus, ...] = ()
        self.cluster = ClusterStatus()
        self.round = RoundProgress()
        self.rounds: deque[RoundSummary] = deque(maxlen=MAX_ROUNDS)
        self.round_count = 0
        """Rounds that ever came, those that are forgotten included."""
        self.events: deque[EventSummary] = deque(maxlen=MAX_EVENTS)
        self.cursor: Any = None
        self.read_only = False
        self.note = ""
        self.session = SessionStatus()
        self.topology = TopologyVersion()
        self.timeline = TimeLine()
        self.next_rounds = ShownSettings()
        self.building: Building | None = None

    @property
    def total(self) -> int:
        """How many nodes there are, servers left out."""
        return sum(count for state, count in self.node_counts.items() if state is not NodeState.REMOVED)

    @property
    def seated(self) -> npt.NDArray[np.int64]:
        """How many nodes sit in each bundle, by its index."""
        return np.asarray(self.by_bundle.sum(axis=1))

    @property
    def undescribed(self) -> bytes:
        """Which bundles hold nodes though nobody described them, to be compared with what they were."""
        if self._described is None:
            self._described = np.zeros(max((bundle.idx for bundle in self.bundles), default=-1) + 1, dtype=bool)
            self._described[[bundle.idx for bundle in self.bundles]] = True
        held: npt.NDArray[np.bool_] = np.asarray(self.by_bundle.any(axis=1))
        known = min(len(held), len(self._described))
        held[:known] &= ~self._described[:known]
        return np.flatnonzero(held).tobytes()

    def counts_of(self, state: str) -> int:
        """How many nodes are in a state, servers included."""
        return self.counts[NodeState(state)]

    def host_of(self, index: int) -> str:
        """Name of the host on which a bundle lies, or nothing."""
        if self._host_by_bundle is None:
            self._host_by_bundle = {bundle.idx: bundle.host for bundle in self.bundles}
        return self._host_by_bundle.get(index, "")

    @property
    def server_total(self) -> int:
        """How many servers there are."""
        return sum(self.servers.values()) - self.servers[NodeState.REMOVED]

    @property
    def node_counts(self) -> dict[NodeState, int]:
        """How many nodes are in each state, servers left out."""
        return {state: count - self.servers[state] for state, count in self.counts.items()}

    @property
    def known(self) -> bool:
        """Whether there is anything to show."""
        return self.received is not None

    def age(self, now: float) -> float:
        """Seconds since the link last confirmed the data (both on the console's own clock)."""
        return 0.0 if self.received is None else max(0.0, now - self.received)

    def apply(self, wire: Mapping[str, Any], now: float) -> Changes:
        """Take an update over.

        Raises:
            OutOfStep: If it builds on something that this mirror does not have.
        """
        update = Update.from_wire(wire)
        full = update.full
        if full:
            self._reset()
            self.federation = update.federation.to_wire() if update.federation is not None else {}
            self.read_only = bool(update.read_only)
        elif not self.known:
            raise OutOfStep("the first update has to be a full one")
        history = self._go_back(update)
        rows, placement = self._apply_table(update.table) if update.table else (_NO_ROWS, False)
        parts = self._apply_parts(update)
        events = self._apply_events(update.happened)
        self._follow(full, bool(len(rows)), now)
        self.cursor = update.cursor
        self.time = update.time or self.time
        self.received = now
        return Changes(full, rows, placement or full, parts, events, history)

    def add_older(self, wire: Sequence[Sequence[Any]]) -> int:
        """Take over events from before those that are held; how many of them there were."""
        first = self.events[0].seq if self.events else 0
        older = [event for event in map(EventSummary.from_wire, wire) if event.seq < first]
        room = MAX_EVENTS - len(self.events)
        found = older[-room:] if room > 0 else []
        self.events.extendleft(reversed(found))
        return len(found)

    def latest(self, name: str) -> LatestMeasure | None:
        """The last value of `loss` or of a metric and the round that has it, or None; looked for in rounds of late."""
        return latest(reversed(self.rounds), name)

    def seconds_left(self) -> float | None:
        """How long the asked-for rounds still take if they go on like the last ones."""
        return seconds_left(self.round, reversed(self.rounds))

    def pace(self) -> float | None:
        """Seconds from the end of one round to that of the next, of late: what lies between rounds counts too."""
        return pace(reversed(self.rounds))

    def host_names(self) -> tuple[str, ...]:
        """Names of the hosts that live."""
        return tuple(host.name for host in self.hosts if host.alive)

    # -- inside ----------------------------------------------------------------------------------

    def _follow(self, full: bool, moved: bool, now: float) -> None:
        """Keep track of how far a build is."""
        if self.round.running:
            self.building = None  # nodes that take turns within a round are no build
            return
        if full or moved:
            counts = self.counts
            left = counts[NodeState.PENDING] + counts[NodeState.STARTING]
            self.building = follow(None if full else self.building, left, now)

    def _apply_table(self, wire: Mapping[str, Any]) -> tuple[Rows, bool]:
        """Take rows over, and count again what they change: a delta costs its own length."""
        table = self.table
        before_length, before_roles = len(table), list(table.roles)
        servers = _servers(table)
        told = np.frombuffer(wire["rows"], dtype="<i4") if "rows" in wire else slice(None)
        if isinstance(told, slice) or not before_length:
            old = table.column("bundle").copy(), table.column("role").copy(), table.column("state").copy()
        else:
            known = told[told < before_length]
            old = tuple(table.column(name)[known].copy() for name in ("bundle", "role", "state"))
        try:
            rows = np.asarray(table.apply_wire(dict(wire)))
        except ValueError as error:
            raise OutOfStep(str(error)) from error
        new = tuple(table.column(name)[rows] for name in ("bundle", "role", "state"))
        self._count(old[2], old[0], old[1] == servers, -1)
        servers = _servers(table)
        if "rows" in wire and len(table) > before_length:
            told_new = np.zeros(len(table) - before_length, dtype=bool)
            told_new[rows[rows >= before_length] - before_length] = True
            silent = np.flatnonzero(~told_new) + before_length  # new rows that are as new rows are
            fresh = tuple(table.column(name)[silent] for name in ("bundle", "role", "state"))
            self._count(fresh[2], fresh[0], fresh[1] == servers, 1)
        self._count(new[2], new[0], new[1] == servers, 1)
        if len(table) != before_length or before_roles != list(table.roles):
            return rows, True
        removed = NodeState.REMOVED.code
        same = (
            np.array_equal(old[0], new[0])
            and np.array_equal(old[1], new[1])
            and np.array_equal(old[2] == removed, new[2] == removed)
        )
        return rows, not same

    def _count(self, states: Rows, bundles: Rows, servers: npt.NDArray[np.bool_], step: int) -> None:
        """Add rows to the counts by state and by bundle, or take them away."""
        found = np.bincount(states, minlength=len(STATES)).tolist()
        for state in STATES:
            self.counts[state] += step * found[state.code]
        for code in states[servers].tolist():
            self.servers[STATES[code]] += step
        seats = (bundles >= 0) & (states != NodeState.REMOVED.code)
        if seats.any():
            width = len(STATES)
            sitting = np.bincount(bundles[seats] * width + states[seats], minlength=self.by_bundle.size)
            if len(sitting) > self.by_bundle.size:
                grown = np.zeros((-(-len(sitting) // width), width), dtype=np.int64)
                grown[: len(self.by_bundle)] = self.by_bundle
                self.by_bundle = grown
                sitting = np.pad(sitting, (0, grown.size - len(sitting)))
            self.by_bundle += step * sitting.reshape(-1, width)

    def _apply_parts(self, update: Update) -> frozenset[str]:
        parts = set()
        for name in PARTS - {"rounds"}:
            fresh = getattr(update, name)
            if fresh is None:
                continue
            if name == "bundles":
                fresh = tuple(sorted(fresh, key=lambda bundle: bundle.idx))
            if fresh != getattr(self, name):
                setattr(self, name, fresh)
                self._host_by_bundle = self._described = None
                parts.add(name)
        if update.rounds:
            self.rounds.extend(update.summaries)
            self.round_count += len(update.rounds)
            parts.add("rounds")
        return frozenset(parts)

    def _go_back(self, update: Update) -> bool:
        """Forget what has not happened yet where a replay goes back; whether there was such a thing."""
        if update.anew:
            self.events.clear()
        kept = update.rounds_kept
        while kept is not None and self.round_count > kept and self.rounds:
            self.rounds.pop()
            self.round_count -= 1
        return bool(update.anew) or kept is not None

    def _apply_events(self, told: Sequence[EventSummary]) -> tuple[EventSummary, ...]:
        last = self.events[-1].seq if self.events else -1
        events = tuple(event for event in told if event.seq > last)
        self.events.extend(events)
        return events


def _servers(table: NodeTable) -> int:
    """The code of the servers' role; one that no node has if there is none."""
    return next((code for code, roles in enumerate(table.roles) if str(roles) == "server"), -1)
