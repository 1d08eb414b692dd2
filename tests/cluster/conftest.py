"""One real Ray cluster of two hosts for all tests of this folder, and a check that each test gives everything back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table, remove_placement_group

from red_tui import FederationConfig
from tests.heads import BARE

CPUS = 16
_numbers = itertools.count()


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """Two hosts: a head with 10 CPUs, and a worker with 6, two GPUs and a custom resource."""
    hosts = Cluster(initialize_head=True, head_node_args={"num_cpus": 10, "num_gpus": 0, **BARE})
    hosts.add_node(num_cpus=6, num_gpus=2, resources={"disk": 4})
    ray.init(hosts.address, namespace="tests", log_to_driver=False, logging_level="ERROR")
    hosts.wait_for_nodes()
    yield
    ray.shutdown()
    hosts.shutdown()


@pytest.fixture
def config() -> FederationConfig:
    """A federation id of its own for each test."""
    return FederationConfig(federation_id=f"fed-{next(_numbers)}")


@pytest.fixture
def reserve(cluster: None) -> Iterator[Callable[..., Any]]:
    """`get_resources_split` whose groups are removed after the test."""
    from red_tui import get_resources_split

    made: list[Any] = []

    def split(*args: Any, **kwargs: Any) -> Any:
        made.append(get_resources_split(*args, **kwargs))
        return made[-1]

    yield split
    for group in made:
        remove_placement_group(group)


@pytest.fixture(autouse=True)
def nothing_is_left(cluster: None) -> Iterator[None]:
    yield
    eventually(lambda: named_actors() == [], "all named actors are gone")
    eventually(lambda: living_groups() == [], "all placement groups are removed")
    eventually(lambda: free_cpus() == CPUS, "all CPUs are free again")


def eventually(condition: Callable[[], bool], what: str, timeout: float = 120.0) -> None:
    """Wait until a condition of another process holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)


def named_actors() -> list[str]:
    return sorted(entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True))


def living_groups() -> list[str]:
    return [group for group, entry in placement_group_table().items() if entry["state"] != "REMOVED"]


def free_cpus() -> float:
    return round(float(ray.available_resources().get("CPU", 0.0)), 3)
