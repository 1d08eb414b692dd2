"""The directory of a federation: the named actor `FED/topology`, which any process of the cluster can ask.

It knows who is whose neighbour, in which version, and how to reach those that are built.  What goes from node to node
goes past it: a federation goes on when it ends, and makes another one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.messaging.messenger import Absent
from red_tui.messaging.topology import Topology, TopologyRule

ANSWER_TIMEOUT = 2.0
"""Seconds that nodes may take to say what they sent and received; of those that take longer the last word is told."""

PUBLISH_TIMEOUT = 10.0
"""Seconds that who asks waits at most until the first version is known."""

NEWS_KEPT = 1000


class TopologyDirectory:
    """Who is whose neighbour.

    Args:
        fed_id: Id of the federation.
    """

    def __init__(self, fed_id: str) -> None:
        self._fed_id = fed_id
        self._version = 0
        self._topology = Topology(TopologyRule(), [])
        self._ways: Mapping[str, Any] = {}
        self._readings: dict[str, dict[str, Any]] = {}
        self._news: list[tuple[str, dict[str, int]]] = []
        self._told = 0
        self._changed = threading.Condition()

    def lifeline(self) -> None:
        """Never answered: the call fails when the process dies."""
        threading.Event().wait()

    def publish(self, version: int, rule: Mapping[str, Any], ids: Sequence[str], ways: Mapping[str, Any]) -> int:
        """Take a version over, unless a later one is known; gives the one that holds.

        Args:
            version: Grows with each change.
            rule: The rule as plain data.
            ids: Ids of the nodes in the topology.
            ways: Handles by id; `Absent` for those without a process.
        """
        topology = Topology(TopologyRule(**rule), ids)
        with self._changed:
            if version >= self._version:
                self._version, self._topology, self._ways = version, topology, ways
                self._readings = {name: told for name, told in self._readings.items() if name in ways}
                self._changed.notify_all()
            return self._version

    # -- asking ----------------------------------------------------------------------------------

    def _known(self) -> tuple[int, Topology, Mapping[str, Any]]:
        """Version, topology and ways: who asks before the first was published waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > 0, PUBLISH_TIMEOUT)
            return self._version, self._topology, self._ways

    def version(self) -> int:
        """The version that holds now; it grows when the topology or a node's process changes."""
        return self._known()[0]

    def describe(self) -> str:
        """The topology in one line."""
        return str(self._known()[1])

    def neighbors(self, node_id: str) -> tuple[str, ...]:
        """Ids of a node's neighbours.

        Raises:
            TopologyError: If it is not in the topology.
        """
        return self._known()[1].neighbors(node_id)

    def ways(self, node_id: str) -> tuple[int, dict[str, Any]]:
        """The version, and the handles of a node's neighbours by id; `Absent` says why there is none.

        Raises:
            TopologyError: If it is not in the topology.
        """
        version, topology, ways = self._known()
        return version, {
            other: ways.get(other, Absent("has no part in a session")) for other in topology.neighbors(node_id)
        }

    def edges(self, most: int | None = None) -> list[tuple[str, str]]:
        """Pairs of neighbours, `most` of them."""
        found: list[tuple[str, str]] = []
        for one, other in self._known()[1].graph.edges:
            if most is not None and len(found) >= most:
                break
            found.append((str(one), str(other)))
        return found

    def statistics(self, edges: bool = True) -> dict[str, Any]:
        """What the nodes of the last session sent and received, in all and along each edge.

        Nodes count for themselves; they are asked when somebody wants to know, with one call a process or host.

        Returns:
            `version`, `nodes` (counts by id, see `Talk.statistics`), `totals`, and `edges`: sender, receiver, messages
            and bytes sent, messages that wait and that were dropped, mean seconds from sending to reading.
        """
        version, _, ways = self._known()
        readings = self._read(ways)
        counted = ("sent", "sent_bytes", "received", "doubles", "dropped", "waiting")
        told: dict[str, Any] = {
            "version": version,
            "nodes": readings,
            "totals": {name: sum(int(one.get(name, 0)) for one in readings.values()) for name in counted},
        }
        if edges:
            told["edges"] = [
                (sender, receiver, messages, size, *_at_receiver(readings.get(receiver), sender))
                for sender, one in readings.items()
                for receiver, (messages, size) in one.get("to", {}).items()
                if messages
            ]
        return told

    def _read(self, ways: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        import ray

        hosts: dict[Any, dict[int, str]] = {}
        calls: dict[Any, dict[int, str] | str] = {}
        for node_id, way in ways.items():
            place = getattr(way, "red_place", None)
            if isinstance(way, Absent) or way is None:
                continue
            if place is not None:
                hosts.setdefault(way.red_host, {})[place[1]] = node_id
            else:
                calls[way.red_statistics.remote()] = node_id
        for host, rows in hosts.items():
            calls[host.statistics.remote(list(rows))] = rows
        done = ray.wait(list(calls), num_returns=len(calls), timeout=ANSWER_TIMEOUT)[0] if calls else []
        for call in done:
            try:
                told = ray.get(call)
            except ray.exceptions.RayError:
                continue  # its process has just ended; its last word stands
            who = calls[call]
            found = {who: told} if isinstance(who, str) else {who[row]: one for row, one in told.items()}
            self._readings.update(found)
        return dict(self._readings)

    # -- news of nodes ---------------------------------------------------------------------------

    def heard(self, node_id: str, dropped: Mapping[str, int]) -> None:
        """A node has dropped messages: how many by sender, since it was built."""
        with self._changed:
            self._news.append((node_id, dict(dropped)))
            self._told += 1
            del self._news[:-NEWS_KEPT]
            self._changed.notify_all()

    def news(self, since: int, timeout: float) -> tuple[int, list[tuple[str, dict[str, int]]]]:
        """What nodes have told after the first `since` words, as soon as there is any; else nothing after `timeout`."""
        with self._changed:
            self._changed.wait_for(lambda: self._told > since, timeout)
            fresh = min(self._told - since, len(self._news))
            return self._told, self._news[-fresh:] if fresh > 0 else []


TopologyManager = TopologyDirectory
"""Another name of it, which earlier frameworks have."""


def _at_receiver(told: Mapping[str, Any] | None, sender: str) -> tuple[int, int, float]:
    """Messages of a sender that wait, that were dropped, and their mean latency, as the receiver counts."""
    _, waiting, dropped, latency = (told or {}).get("from", {}).get(sender, (0, 0, 0, 0.0))
    return waiting, dropped, latency
