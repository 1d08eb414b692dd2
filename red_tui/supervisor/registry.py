"""Federations by the names of their actors: what runs on a cluster, orphans included."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from red_tui.errors import NotConnected
from red_tui.federation.feed import Feed
from red_tui.federation.lifecycle.topology_publisher import NAME as DIRECTORY
from red_tui.placement.availability import remove_groups
from red_tui.placement.feasibility import cluster_hosts
from red_tui.protocol.snapshot import ClusterStatus, HostStatus
from red_tui.runtime.node_actor import NAMESPACE

SUPERVISOR = "supervisor"
SETTLED = 1.0
"""Seconds after which a process that was killed asks for nothing any more."""

GONE_TIMEOUT = 30.0
"""Max seconds to wait for actors that were ended: a machine with other work takes a while to end them."""


def actors_of(namespace: str = NAMESPACE) -> dict[str, list[str]]:
    """Names of the living actors of each federation, by its id."""
    import ray

    found: dict[str, list[str]] = {}
    for entry in ray.util.list_named_actors(all_namespaces=True):
        fed_id, slash, name = str(entry["name"]).partition("/")
        if entry["namespace"] == namespace and slash and name:
            found.setdefault(fed_id, []).append(name)
    return found


def groups_of_all() -> dict[str, list[Any]]:
    """Placement groups of each federation in order, by its id, in the namespace that this process is connected with."""
    from ray.util import get_placement_group, placement_group_table

    found: dict[str, list[tuple[int, Any]]] = {}
    for group_id, entry in placement_group_table().items():
        name = str(entry.get("name") or "")
        fed_id, slash, rest = name.partition("/")
        if slash and rest.startswith("pool") and entry.get("state") != "REMOVED":
            with contextlib.suppress(ValueError):
                # Names are looked up in one's own namespace: a namesake of another one is left alone.
                group = get_placement_group(name)
                if group.id.hex() == group_id:
                    number = rest.rpartition("-")[2]
                    found.setdefault(fed_id, []).append((int(number) if number.isdigit() else 0, group))
    return {fed_id: [group for _, group in sorted(some, key=lambda one: one[0])] for fed_id, some in found.items()}


def supervisor_of(fed_id: str, namespace: str = NAMESPACE) -> Any:
    """Handle of a federation's supervisor, or None."""
    import ray

    try:
        return ray.get_actor(f"{fed_id}/{SUPERVISOR}", namespace=namespace)
    except ValueError:
        return None


def listed(namespace: str = NAMESPACE, timeout: float = 10.0) -> list[dict[str, Any]]:
    """All federations: id, state, age, nodes, round; those without a supervisor are orphans.

    An orphan whose processes are all gone may still hold bundles.
    """
    import ray

    actors = actors_of(namespace)
    for fed_id in groups_of_all():
        actors.setdefault(fed_id, [])
    handles = {fed_id: supervisor_of(fed_id, namespace) for fed_id, names in actors.items() if SUPERVISOR in names}
    calls = {fed_id: handle.hello.remote() for fed_id, handle in handles.items() if handle is not None}
    if calls:
        ray.wait(list(calls.values()), num_returns=len(calls), timeout=timeout)
    rows = []
    for fed_id, names in sorted(actors.items()):
        alive = sorted(name for name in names if name != SUPERVISOR)
        row: dict[str, Any] = {"id": fed_id, "orphan": fed_id not in calls, "alive": alive}
        nodes = len(alive) - (DIRECTORY in alive)
        row.update({"state": "orphan", "age_s": None, "nodes": nodes, "round": None})
        if fed_id in calls:
            try:
                answer = ray.get(calls[fed_id], timeout=0.5)
            except Exception as error:
                answer = {"error": {"message": type(error).__name__}}
            row.update(_said(answer) or {"state": "not answering"})
        rows.append(row)
    return rows


def _said(answer: Any) -> dict[str, Any]:
    """What an actor that is named like a supervisor says of its federation; empty if that is no such answer."""
    told = answer.get("ok") if isinstance(answer, dict) else None
    if not isinstance(told, dict):
        return {}
    kinds: dict[str, type | tuple[type, ...]] = {"state": str, "age_s": (int, float), "nodes": int, "round": int}
    kinds |= {"states": dict, "digest": str}
    if not all(isinstance(told.get(key), kind) for key, kind in kinds.items()):
        return {}
    return {**{key: told[key] for key in kinds}, "title": str(told.get("title") or "")}


def end_orphan(fed_id: str, namespace: str = NAMESPACE) -> int:
    """End what is left of a federation whose supervisor is gone or silent; returns how many actors were ended.

    Raises:
        NotConnected: If nothing of it is there.
    """
    import ray

    names = actors_of(namespace).get(fed_id, [])
    groups = groups_of_all().get(fed_id, [])
    if not names and not groups:
        raise NotConnected(f"no federation {fed_id!r} is on this cluster: see `red-console ls`", address="")
    for name in names:
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(f"{fed_id}/{name}", namespace=namespace), no_restart=True)
    remove_groups(groups)
    wait_until_gone(fed_id, time.monotonic() + GONE_TIMEOUT, namespace)
    return len(names)


def end_begun(fed_id: str, namespace: str = NAMESPACE) -> None:
    """End what a supervisor that was just killed had begun: it may have asked for bundles a moment before its end.

    Returns when nothing of the federation has been there for `SETTLED` seconds.
    """
    deadline = time.monotonic() + GONE_TIMEOUT
    settled = time.monotonic() + SETTLED
    while time.monotonic() < min(settled, deadline):
        with contextlib.suppress(NotConnected):
            end_orphan(fed_id, namespace)
            settled = time.monotonic() + SETTLED
        time.sleep(0.02)


def wait_until_gone(
    fed_id: str, deadline: float, namespace: str = NAMESPACE, names: Collection[str] | None = None
) -> None:
    """Return when no named actor of a federation (of `names`) is listed any more, or the deadline has passed.

    Args:
        fed_id: Id of the federation.
        deadline: By the monotonic clock, in seconds.
        namespace: Ray namespace of its actors.
        names: Which actors; None: all.
    """
    while time.monotonic() < deadline:
        listed_names = actors_of(namespace).get(fed_id, [])
        if not (listed_names if names is None else set(listed_names).intersection(names)):
            return
        time.sleep(0.02)


PERIOD = 2.0
WATCHED_FOR = 15.0
"""Seconds after the last look of a watcher in which sampling goes on."""


class ClusterSampler:
    """A thread that asks Ray for the cluster's resources, a constant number of calls a period."""

    def __init__(self, feed: Feed, facts: dict[str, Any]) -> None:
        self._feed = feed
        self._facts = facts
        self._last_wanted = 0.0
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="red-sampler", daemon=True)
        self._thread.start()

    def wanted(self) -> None:
        """Somebody watches."""
        idle = time.monotonic() - self._last_wanted > WATCHED_FOR
        self._last_wanted = time.monotonic()
        if idle:
            self._wake.set()

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        while not self._ended:
            if time.monotonic() - self._last_wanted > WATCHED_FOR:
                self._wake.wait()
            else:
                self._wake.wait(PERIOD)
            self._wake.clear()
            if not self._ended:
                try:
                    self._feed.set_cluster(*sample(self._facts))
                except Exception as error:
                    unknown = ClusterStatus(
                        str(self._facts.get("address") or ""), bool(self._facts.get("embedded")), error=str(error)
                    )
                    self._feed.set_cluster(unknown, ())


def sample(facts: Mapping[str, Any]) -> tuple[ClusterStatus, list[HostStatus]]:
    """What of the cluster's CPUs and GPUs is in use, and its machines."""
    import ray

    total, free = ray.cluster_resources(), ray.available_resources()

    def used(name: str) -> tuple[float, float]:
        whole = float(total.get(name, 0.0))
        return round(whole - float(free.get(name, 0.0)), 1), round(whole, 1)

    hosts = [HostStatus.of(host.host_id, host.name, host.alive, host.resources, host.head) for host in cluster_hosts()]
    address, embedded = str(facts.get("address") or ""), bool(facts.get("embedded"))
    return ClusterStatus(address, embedded, *used("CPU"), *used("GPU")), hosts
