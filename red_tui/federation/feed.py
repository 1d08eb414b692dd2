"""What watchers of a federation get: only what is newer than their cursor, as plain data."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from red_tui.federation.spec import FederationSpec
from red_tui.federation.state import FederationState
from red_tui.node_states.kept_states import KeptStates
from red_tui.protocol.events import Event
from red_tui.protocol.snapshot import (
    BundleStatus,
    ClusterStatus,
    FederationInfo,
    HostStatus,
    RoundProgress,
    TopologyVersion,
)
from red_tui.protocol.update import Cursor, Update

EVENTS_AT_FIRST = 200


class Feed:
    """Answers `watch`: any number of readers, each with a cursor of its own, none of which costs the engine anything.

    Args:
        state: The federation.
        spec: What it was made from.
    """

    def __init__(self, state: FederationState, spec: FederationSpec) -> None:
        self._state = state
        self._spec = spec
        self.epoch = uuid.uuid4().hex
        self.created = time.time()
        self.cluster: ClusterStatus | None = None
        self._hosts: Sequence[HostStatus] = ()
        self._cluster_version = 0

    @property
    def completed(self) -> int:
        """Number of the last finished round; 0 before the first."""
        return self._state.completed

    @property
    def progress(self) -> RoundProgress:
        """The round in hand and its run."""
        return self._state.round

    def set_cluster(self, cluster: ClusterStatus, hosts: Sequence[HostStatus]) -> None:
        """Take over what is used and free on the cluster; watchers hear of it if it differs."""
        if (cluster, hosts) != (self.cluster, self._hosts):
            self.cluster, self._hosts = cluster, hosts
            self._cluster_version += 1
            self._state.notify()

    @property
    def kept(self) -> KeptStates:
        """What nodes keep between turns, and where it lies: to be looked at only."""
        return self._state.kept

    @property
    def events(self) -> list[Event]:
        """What happened, the oldest first, as far as it is still held in memory."""
        return list(self._state.events)

    def _now(self) -> Cursor:
        state = self._state
        return Cursor(
            epoch=self.epoch,
            table=state.table.version,
            segments=len(state.table.ids.segments),
            event=state.last_seq,
            rounds=len(state.history),
            failed_rounds=len(state.failed_rounds),
            round=state.round_version,
            pool=-1 if state.pool is None else state.pool.version + (1 if state.pool.ready else 0),
            cluster=self._cluster_version,
            note=state.note,
            topology=tuple(state.topology_version()),
            session=state.session_version,
            settings=state.terms.version,
        )

    def watch(self, cursor: list[Any] | None = None, timeout: float = 2.0) -> dict[str, Any]:
        """What is newer than `cursor`, as soon as anything is, at the latest after `timeout` seconds.

        Without a cursor, or with one of another incarnation: everything.
        """
        state, seen = self._state, Cursor.from_wire(cursor)
        if seen is not None and seen.epoch == self.epoch:
            with state.changed:
                state.changed.wait_for(lambda: self._now() != seen, timeout)
        return self.update(cursor)

    def snapshot(self) -> dict[str, Any]:
        """Everything, now."""
        return self.update(None)

    def update(self, cursor: list[Any] | None) -> dict[str, Any]:
        """What is newer than `cursor`, without waiting."""
        state, now, old = self._state, self._now(), Cursor.from_wire(cursor)
        full = old is None or old.epoch != self.epoch
        if old is None or full:
            old = Cursor("")
        parts: dict[str, Any] = {}
        if full:
            parts["federation"] = self.describe()
        if now.table != old.table:
            parts["table"] = table = state.table.to_wire(old.table, known_segments=old.segments)
            now = replace(now, table=table["version"], segments=table["segments_total"])
        if now.pool != old.pool and state.pool is not None:
            parts["bundles"] = [
                BundleStatus.of(info.idx, info.host, info.resources, info.state, info.what)
                for info in state.pool.infos()
            ]
        if now.cluster != old.cluster:
            parts["cluster"], parts["hosts"] = self.cluster or ClusterStatus(), self._hosts
        if now.round != old.round:
            parts["round"] = state.round
        if (now.rounds, now.failed_rounds) != (old.rounds, old.failed_rounds):
            finished = [result.to_wire() for result in state.history[old.rounds : now.rounds]]
            failed = state.failed_rounds[old.failed_rounds : now.failed_rounds]
            parts["rounds"] = sorted(finished + failed, key=lambda one: one["ended"])
        if now.event != old.event:
            newer = [event.to_wire() for event in list(state.events) if old.event < event.seq <= now.event]
            parts["events"] = newer[-EVENTS_AT_FIRST:] if full else newer
        if now.note != old.note:
            parts["note"] = now.note
        if now.topology != old.topology:
            # Which graph it is, not the graph: who wants to see it asks for it.
            parts["topology"] = TopologyVersion(now.topology, str(state.topology.rule))
        if now.session != old.session:
            parts["session"] = state.session
        if now.settings != old.settings:
            parts["next_rounds"] = state.terms.shown()
        return Update(now.to_wire(), time.time(), full, **parts).to_wire()

    def describe(self) -> FederationInfo:
        """What the federation is."""
        spec = self._spec
        template = spec.groups[0].template if spec.groups else spec.server_template
        return FederationInfo(
            id=self._state.fed_id,
            schema=spec.schema,
            template=f"{template.__module__}:{template.__qualname__}",
            title=spec.title,
            created=self.created,
            isolation=spec.placement.isolation,
            layout_path=spec.layout_path,
        )
