"""What is used and free on the cluster, looked at every few seconds while somebody watches."""

from __future__ import annotations

import threading
import time
from typing import Any

from red_tui.federation.feed import Feed
from red_tui.placement.feasibility import cluster_hosts

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
                    self._feed.set_cluster(sample(self._facts))
                except Exception as error:
                    self._feed.set_cluster({**self._facts, "cpu": [0, 0], "gpu": [0, 0], "error": str(error)})


def sample(facts: dict[str, Any]) -> dict[str, Any]:
    """Hosts, and CPUs and GPUs as [used, total]."""
    import ray

    total, free = ray.cluster_resources(), ray.available_resources()

    def used(name: str) -> list[float]:
        whole = float(total.get(name, 0.0))
        return [round(whole - float(free.get(name, 0.0)), 1), round(whole, 1)]

    hosts = [
        {
            "id": host.host_id,
            "name": host.name,
            "alive": host.alive,
            "cpu": host.resources.get("CPU", 0.0),
            "gpu": host.resources.get("GPU", 0.0),
            "resources": {
                name: amount
                for name, amount in host.resources.items()
                if name not in ("CPU", "GPU") and "_group_" not in name and not name.startswith("bundle_group")
            },
            "head": host.head,
        }
        for host in cluster_hosts()
    ]
    return {**facts, "cpu": used("CPU"), "gpu": used("GPU"), "hosts": hosts}
