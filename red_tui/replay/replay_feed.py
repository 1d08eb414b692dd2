"""What watchers of a replay get: the same updates as a federation gives, and where the time line stands."""

from __future__ import annotations

import math
import threading
import time
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from red_tui.errors import RedError
from red_tui.federation.federation_topology import FederationTopology
from red_tui.messaging import TopologyRule
from red_tui.nodes.states import NodeState
from red_tui.protocol.events import TRACE, Event
from red_tui.protocol.snapshot import (
    ClusterStatus,
    FederationInfo,
    RoundProgress,
    SessionStatus,
    TimeLine,
    TopologyVersion,
    round_of_journal,
)
from red_tui.protocol.update import ReplayCursor, Update
from red_tui.replay.player import Player
from red_tui.replay.replay_nodes import ReplayNodes, pool_at

EVENTS_AT_FIRST = 200
EVENTS_AT_ONCE = 2_000
"""Events that an update tells of; where more came at once only the last of them are told, as at first."""

SHORTEST_WAIT = 0.02
UNWATCHED = 2.0
"""Seconds without a watch after which a replay waits for who watches it: before the first one, on a slow terminal."""


class ReplayFeed:
    """Answers `watch` for a replay, as `federation.feed.Feed` does for a federation.  Any thread may ask.

    Args:
        player: Moves the replay.
        nodes: Its nodes.
    """

    def __init__(self, player: Player, nodes: ReplayNodes) -> None:
        self._player, self._nodes = player, nodes
        self._replay = player.replay
        self._changed = threading.Condition(threading.RLock())
        self._epoch = uuid.uuid4().hex
        self._parts: dict[str, tuple[int, Any]] = {}
        self._position, self._length = -1, -1
        self._rewinds = 0
        self._watched = -math.inf
        self._rules: list[TopologyRule] = []
        self.topology = FederationTopology(nodes.clients, lambda rows: nodes.table.ids.take(rows), self._members, _mute)
        if nodes.layout is not None:
            self.topology.aggregators = frozenset(nodes.layout.topology.aggregators)
        self._look()

    # -- watching --------------------------------------------------------------------------------

    def watch(self, wire: Mapping[str, Any] | None = None, timeout: float = 2.0) -> dict[str, Any]:
        """What is other than a cursor says, as soon as anything is, at the latest after `timeout` seconds."""
        cursor = ReplayCursor.from_wire(wire)
        began = time.monotonic()
        deadline = began + timeout
        with self._changed:
            if began - self._watched > UNWATCHED:
                self._player.rest()
            if cursor is not None and cursor.epoch == self._epoch:
                self._player.tick()
                self._player.next_picture()
            while True:
                self._player.tick()
                self._look()
                left = deadline - time.monotonic()
                if cursor != self._cursor() or left <= 0:
                    update = self._update(cursor)
                    self._watched = time.monotonic()
                    return update
                self._changed.wait(min(left, max(SHORTEST_WAIT, self._player.due())))

    def act(self, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Do what an operator asks of the player."""
        with self._changed:
            text = self._player.act(name, args)
            self._changed.notify_all()
        return {"text": text}

    def _cursor(self) -> ReplayCursor:
        return ReplayCursor(
            epoch=self._epoch,
            table=self._nodes.table.version,
            segments=len(self._nodes.table.ids.segments),
            position=self._position,
            rewinds=self._rewinds,
            results=self._replay.result_count,
            parts={name: version for name, (version, _) in self._parts.items()},
        )

    def _look(self) -> None:
        """Take over where the player stands."""
        replay = self._replay
        if len(replay.events) != self._length:
            self._length = len(replay.events)
            if self._nodes.grown():
                self._epoch, self._position = uuid.uuid4().hex, -1
        if replay.position != self._position:
            if replay.position < self._position or replay.jumped(self._position):
                self._rewinds += 1
            self._position = replay.position
            self._nodes.show()
            self._put("round", self._round())
            self._put("session", self._session())
            self._put("topology", TopologyVersion(self._topology_version(), str(self.topology.rule)))
            bundles, hosts = pool_at(replay, self._nodes)
            self._put("bundles", bundles)
            self._put("hosts", hosts)
        unread = replay.fold().unread
        damaged = f"events that cannot be read are passed over: {', '.join(map(str, unread[:5]))}" if unread else ""
        notes = (
            self._player.trouble,
            self._nodes.note,
            str(replay.damage),
            damaged,
            _SPARSE if replay.sparse else "",
        )
        self._put("note", "; ".join(filter(None, notes)))
        self._put("timeline", self._timeline())

    def _put(self, name: str, value: Any) -> None:
        version, before = self._parts.get(name, (0, None))
        if value != before or not version:
            self._parts[name] = (version + 1, value)

    def _update(self, cursor: ReplayCursor | None) -> dict[str, Any]:
        """What is other than a cursor says; everything without one, or with one of another epoch."""
        full = cursor is None or cursor.epoch != self._epoch
        old = ReplayCursor("") if full or cursor is None else cursor
        parts: dict[str, Any] = {}
        if full:
            parts |= {"federation": self.describe(), "cluster": ClusterStatus(), "read_only": True}
        table = self._nodes.table
        if full or old.table != table.version:
            parts["table"] = table.to_wire(old.table, known_segments=old.segments)
        parts |= {name: value for name, (version, value) in self._parts.items() if old.parts.get(name) != version}
        if full or old.rewinds != self._rewinds or self._position - old.position > EVENTS_AT_ONCE:
            parts |= {"anew": not full, "events": self.events(None, EVENTS_AT_FIRST)}
        else:
            newer = self._replay.events[old.position : self._position]
            parts["events"] = [event.to_wire() for event in newer if event.level != TRACE]
        known, count = old.results, self._replay.result_count
        if known > count:
            parts["rounds_kept"] = known = count
        parts["rounds"] = list(map(round_of_journal, self._replay.results[known:count]))
        return Update(self._cursor().to_wire(), self._player.moment, full, **parts).to_wire()

    # -- what is told ----------------------------------------------------------------------------

    def describe(self) -> FederationInfo:
        """What the federation is."""
        layout, known = self._nodes.layout, FederationInfo(self._nodes.fed_id, created=self._replay.start)
        if layout is None:
            return known
        return replace(
            known,
            schema=layout.schema_name,
            template=layout.template,
            title=layout.title,
            isolation=layout.placement.isolation,
        )

    def _timeline(self) -> TimeLine:
        replay, player = self._replay, self._player
        event = replay.event
        return TimeLine(
            state=player.state,
            position=replay.position,
            total=len(replay.events),
            event=event.seq if event is not None else 0,
            last_event=replay.events[-1].seq,
            moment=math.floor(player.moment),
            start=replay.start,
            end=replay.end,
            round=self._parts["round"][1].number,
            rounds=replay.last_round,
            speed=None if player.speed == math.inf else player.speed,
            text=f"{event.subject}: {event.text}"[:200] if event is not None else "",
            idle=None if player.idle == math.inf else player.idle,
            skipped=round(player.skipped),
        )

    def _round(self) -> RoundProgress:
        fold = self._replay.fold()
        number, run = fold.interrupted, fold.run
        ended = max((int(one.get("number") or 0) for one in [*fold.rounds[-1:], *fold.failed_rounds[-1:]]), default=0)
        running = number is not None or run is not None
        return RoundProgress(
            number=ended if number is None else number,
            phase="under way" if running else "idle",
            started=self._replay.told_at("begin") if running else 0.0,
            target=run[0] if run is not None else None,
            until=run[1] if run is not None else None,
            first=fold.run_first,
            best=self._replay.best,
        )

    def _session(self) -> SessionStatus:
        told = self._replay.latest("session")
        nodes = told if isinstance(told, int) else 0
        started = self._replay.told_at("session") if nodes else 0.0
        return SessionStatus(running=bool(nodes), nodes=nodes, started=started)

    def _members(self) -> tuple[int, int, int]:
        present = self._nodes.table.present()
        # Who is there, not only how many: a replay goes backwards.
        return len(present), int(present.sum()), zlib.crc32(np.packbits(present).tobytes())

    def _topology_version(self) -> tuple[int, ...]:
        """Take over the rule of the moment; its number, and that of the nodes that it is applied to."""
        wire = self._replay.fold().topology
        try:
            rule = self._first_rule() if wire is None else TopologyRule(**wire)
        except (RedError, TypeError, ValueError):
            rule = TopologyRule()
        if rule not in self._rules:
            self._rules.append(rule)
        if rule != self.topology.rule:
            self.topology.restore(rule.to_wire())
        return self._rules.index(rule), *self._members()

    def _first_rule(self) -> TopologyRule:
        layout = self._nodes.layout
        if layout is None or layout.schema_name == "star":
            return TopologyRule()
        told, name = layout.topology, layout.schema_name
        if ":" in name:  # a class of one's own, which is not imported to be looked at
            name = "hierarchical" if told.aggregators else "star"
        if name == "star":
            return TopologyRule()
        seed = layout.rounds.seed
        return TopologyRule(name, k=told.k, seed=seed, adjacency=told.adjacency, levels=told.levels, groups=told.groups)

    @property
    def topology_version(self) -> list[int]:
        """Changes with the rule, and when nodes join or leave."""
        with self._changed:
            return list(self._parts["topology"][1].version)

    def events(self, before: int | None, limit: int) -> list[list[Any]]:
        """At most `limit` events before one, by its number, and before the moment; oldest first."""
        found: list[Event] = []
        with self._changed:
            for place in range(self._replay.before(before) - 1, -1, -1):
                if len(found) >= limit:
                    break
                event = self._replay.events[place]
                if event.level != TRACE:
                    found.append(event)
        return [event.to_wire() for event in reversed(found)]

    def state(self) -> dict[str, Any]:
        """The moment in short, for scripts."""
        replay, nodes = self._replay, self._nodes
        with self._changed:
            self._look()
            fold, table = replay.fold(), nodes.table
            counts = table.counts()
            server = table.row_of("server")
            if server is not None:
                counts[table.state_of(server)] -= 1
            failed = table.ids.take(np.flatnonzero(table.in_states((NodeState.FAILED,)))[:EVENTS_AT_FIRST])
            last = [
                {key: value for key, value in one.items() if key not in ("rows", "spread")} for one in fold.rounds[-1:]
            ]
            return {
                "federation": nodes.fed_id,
                "journal": str(replay.path),
                "at": self._player.moment,
                "event": replay.event.seq if replay.event is not None else 0,
                "last_event": replay.events[-1].seq,
                "start": replay.start,
                "end": replay.end,
                "nodes": sum(counts.values()),
                "states": {str(state): count for state, count in counts.items() if count},
                "failed": failed,
                "round": self._parts["round"][1].to_wire(),
                "last_round": last[0] if last else None,
                "rounds": len(fold.rounds),
                "failed_rounds": len(fold.failed_rounds),
                "session": self._parts["session"][1].running,
                "topology": str(self.topology.rule),
                "note": self._parts["note"][1],
            }

    def looking(self) -> threading.Condition:
        """Held, it keeps the replay where it stands."""
        return self._changed


_SPARSE = "events of nodes were compacted here: only rounds and what operators did are known"


def _mute(what: str, text: str) -> None:
    """A replay warns of nothing that somebody could change."""
