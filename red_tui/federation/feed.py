"""What watchers of a federation get: only what is newer than their cursor, as plain data."""

from __future__ import annotations

import time
import uuid
from typing import Any

from red_tui.federation.spec import FederationSpec
from red_tui.federation.state import FederationState

EVENTS_AT_FIRST = 200


class Feed:
    """Answers `watch`: any number of readers, each with a cursor of its own, none of which costs the engine anything.

    A cursor is a list of what its holder has seen: incarnation, table version, rows' segments, events,
    rounds, failed rounds, round status, pool, cluster, note, topology, session.
    """

    def __init__(self, state: FederationState, spec: FederationSpec) -> None:
        self._state = state
        self._spec = spec
        self.epoch = uuid.uuid4().hex
        self.created = time.time()
        self.cluster: dict[str, Any] = {}
        self.cluster_version = 0

    def set_cluster(self, cluster: dict[str, Any]) -> None:
        """Take over what is used and free on the cluster; watchers hear of it if it differs."""
        if cluster != self.cluster:
            self.cluster = cluster
            self.cluster_version += 1
            self._state.notify()

    def _now(self) -> list[Any]:
        state = self._state
        pool_version = -1 if state.pool is None else state.pool.version + (1 if state.pool.ready else 0)
        return [
            self.epoch,
            state.table.version,
            len(state.table.ids.segments),
            state.last_seq,
            len(state.history),
            len(state.failed_rounds),
            state.round_version,
            pool_version,
            self.cluster_version,
            state.note,
            state.topology_version(),
            state.session_version,
            state.terms.version,
        ]

    def watch(self, cursor: list[Any] | None = None, timeout: float = 2.0) -> dict[str, Any]:
        """What is newer than `cursor`, as soon as anything is, at the latest after `timeout` seconds.

        Without a cursor, or with one of another incarnation: everything.
        """
        state = self._state
        if cursor is not None and cursor[:1] == [self.epoch]:
            with state.changed:
                state.changed.wait_for(lambda: self._now() != cursor, timeout)
        return self.update(cursor)

    def snapshot(self) -> dict[str, Any]:
        """Everything, now."""
        return self.update(None)

    def update(self, cursor: list[Any] | None) -> dict[str, Any]:
        """What is newer than `cursor`, without waiting."""
        state = self._state
        now = self._now()
        full = cursor is None or cursor[:1] != [self.epoch]
        old: list[Any] = [None, -1, 0, 0, 0, 0, -1, None, -1, "", None, -1, -1] if full or cursor is None else cursor
        update: dict[str, Any] = {"cursor": now, "time": time.time(), "full": full}
        if full:
            update["federation"] = self.describe()
        if now[1] != old[1]:
            update["table"] = state.table.to_wire(old[1], known_segments=old[2])
            now[1], now[2] = update["table"]["version"], update["table"]["segments_total"]
        if now[7] != old[7] and state.pool is not None:
            infos = state.pool.infos()
            update["bundles"] = [
                {
                    "idx": info.idx,
                    "host": info.host,
                    "cpu": info.resources.get("CPU", 0.0),
                    "gpu": info.resources.get("GPU", 0.0),
                    "resources": {k: v for k, v in info.resources.items() if k not in ("CPU", "GPU")},
                    "state": info.state,
                    "what": info.what,
                }
                for info in infos
            ]
        if now[8] != old[8]:
            update["cluster"] = {key: value for key, value in self.cluster.items() if key != "hosts"}
            update["hosts"] = self.cluster.get("hosts", [])
        if now[6] != old[6]:
            update["round"] = dict(state.round.__dict__)
        if now[4] != old[4] or now[5] != old[5]:
            finished = [result.to_wire() for result in state.history[old[4] : now[4]]]
            update["rounds"] = sorted(finished + state.failed_rounds[old[5] : now[5]], key=lambda one: one["ended"])
        if now[3] != old[3]:
            newer = [event.to_wire() for event in list(state.events) if old[3] < event.seq <= now[3]]
            update["events"] = newer[-EVENTS_AT_FIRST:] if full else newer
        if now[9] != old[9]:
            update["note"] = now[9]
        if now[10] != old[10]:
            # Which graph it is, not the graph: who wants to see it asks for it.
            update["topology"] = {"version": now[10], "rule": str(state.topology.rule)}
        if now[11] != old[11]:
            update["session"] = dict(state.session.__dict__)
        if now[12] != old[12]:
            update["next_rounds"] = state.terms.to_wire()
        return update

    def describe(self) -> dict[str, Any]:
        """What the federation is."""
        spec = self._spec
        template = spec.groups[0].template if spec.groups else spec.server_template
        return {
            "id": self._state.fed_id,
            "schema": spec.schema,
            "template": f"{template.__module__}:{template.__qualname__}",
            "title": spec.title,
            "created": self.created,
            "isolation": spec.placement.isolation,
            "layout_path": spec.layout_path,
        }
