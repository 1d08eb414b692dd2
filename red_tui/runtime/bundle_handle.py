"""The host of a bundle as a process: the named actor `FED/bundle-K`, and the handles of the nodes in it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from red_tui.nodes.failures import Cause
from red_tui.nodes.user_code import guard_process
from red_tui.runtime.bundle_actor import BundleActor
from red_tui.runtime.devices import hide_devices_of_others
from red_tui.runtime.node_actor import EAGER_THREADS, NAMESPACE, named_actor
from red_tui.runtime.node_runtime import NodeRuntime

CONTROL_THREADS = 4
SPARE_WORK_THREADS = 8
"""Calls that may be open besides the one that works: builds, and those whose node was given up."""

MESSAGES = frozenset({"red_deliver", "red_deliver_all", "red_link", "red_evidence"})
"""In order, in a thread of their own: a host that trains hears messages."""

CONTROL = frozenset({"red_detail", "red_state", "red_waiting", "red_stop", "red_statistics", "red_version"})


@dataclass(frozen=True)
class BundleActorSpec:
    """All that it takes to start a host.

    Attributes:
        bundle: Its bundle in the federation's pool, which names it.
        placement_group: The group that holds the bundle.
        local_idx: Index of the bundle in that group.
        resources: What it takes of the bundle.
        concurrency: Nodes that work at a time.
        runtime_env: Of its process, or None.
    """

    fed_id: str
    bundle: int
    placement_group: Any
    local_idx: int
    resources: Mapping[str, float]
    concurrency: int = 1
    detached: bool = False
    namespace: str = NAMESPACE
    runtime_env: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The actor's name."""
        return bundle_actor_name(self.fed_id, self.bundle)


def bundle_actor_name(fed_id: str, bundle: int) -> str:
    """Name of the actor that holds the nodes of a bundle."""
    return f"{fed_id}/bundle-{bundle}"


@dataclass
class BundleProcess:
    """A started host and the references that tell of it.

    Attributes:
        pace: Seconds a node took the last time, by phase.
        ended: Why it ended, once that was heard.
    """

    handle: Any
    name: str
    bundle: int
    hello: Any
    lifeline: Any
    pace: dict[str, float] = field(default_factory=dict)
    ended: Cause | None = None

    def renew_lifeline(self) -> None:
        """Make another call that fails when the process ends."""
        self.lifeline = self.handle.lifeline.remote()

    def kill(self) -> None:
        """End the process; its name is free right afterwards."""
        import ray

        ray.kill(self.handle, no_restart=True)


def start_bundle_actor(spec: BundleActorSpec) -> BundleProcess:
    """Submit the named actor of a host.  Returns at once.

    Raises:
        NameTaken: If an actor of this name lives on the cluster.
    """
    options: dict[str, Any] = {"runtime_env": dict(spec.runtime_env)} if spec.runtime_env else {}
    handle = named_actor(
        bundle_actor_class(spec.concurrency),
        spec.name,
        spec.fed_id,
        spec.placement_group,
        spec.local_idx,
        spec.resources,
        {"concurrency": spec.concurrency},
        detached=spec.detached,
        namespace=spec.namespace,
        options=options,
    )
    return BundleProcess(handle, spec.name, spec.bundle, handle.hello.remote(), handle.lifeline.remote())


@lru_cache(maxsize=16)
def bundle_actor_class(concurrency: int) -> Any:
    """The Ray actor class of a host with that number of work slots."""
    import ray

    groups: dict[str, tuple[str, dict[str, Any]]] = {
        "hello": ("control", {}),
        "adopted": ("control", {}),
        "snapshot": ("control", {"num_returns": 2}),
        "read_ahead": ("control", {}),
        "control": ("control", {}),
        "discard": ("control", {}),
        "statistics": ("control", {}),
        "cut": ("control", {"num_returns": 3}),
        "lifeline": ("lifeline", {}),
        "release": ("work", {"num_returns": 2}),
        "build": ("work", {"num_returns": "streaming"}),
        "work": ("work", {"num_returns": "streaming"}),
        "quick": ("work", {"num_returns": 3}),
        "more": ("work", {"num_returns": "streaming"}),
        "mix": ("work", {"num_returns": 2}),
        "train": ("work", {"num_returns": "streaming"}),
        "deliver": ("messages", {}),
    }

    class BundleHost(BundleActor):
        """`BundleActor` with its calls in Ray's concurrency groups."""

        def __init__(self, concurrency: int = 1) -> None:
            super().__init__(concurrency)
            guard_process(shared=True)
            hide_devices_of_others()

    for name, (group, options) in groups.items():
        setattr(BundleHost, name, ray.method(concurrency_group=group, **options)(_own(getattr(BundleActor, name))))
    threads = {"control": CONTROL_THREADS, "lifeline": 1, "messages": 1, "work": concurrency + SPARE_WORK_THREADS}
    return ray.remote(max_concurrency=EAGER_THREADS, concurrency_groups=threads)(BundleHost)


def _own(method: Any) -> Any:
    """A copy of a function, so that Ray's marks are put on it and not on the plain class's."""
    copy = types.FunctionType(method.__code__, method.__globals__, method.__name__, method.__defaults__)
    copy.__doc__, copy.__annotations__, copy.__qualname__ = method.__doc__, {}, method.__qualname__
    return copy


class HostedHandle:
    """Stands for a node inside a host: `handle.method.remote(*args)` gives an `ObjectRef`, as an actor's handle does.

    It can be sent to other processes.
    """

    __slots__ = ("_host", "_name", "_node_id", "_row", "_template")

    def __init__(self, host: Any, row: int, node_id: str, template: type, name: str = "") -> None:
        self._host, self._row, self._node_id, self._template, self._name = host, row, node_id, template, name

    @property
    def red_host(self) -> Any:
        """The host's handle."""
        return self._host

    @property
    def red_place(self) -> tuple[str, int]:
        """Name of the host, and the node's row."""
        return self._name, self._row

    def __getattr__(self, name: str) -> HostedMethod:
        own = getattr(self._template, name, None) or getattr(NodeRuntime, name, None)
        if name.startswith("__") or not callable(own):
            known = name if name.startswith("__") else f"{self._template.__name__}.{name}"
            raise AttributeError(f"node {self._node_id!r} has no method {known}")
        return HostedMethod(self._host, self._row, self._node_id, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return HostedHandle, (self._host, self._row, self._node_id, self._template, self._name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostedHandle) and (self._host, self._row) == (other._host, other._row)

    def __hash__(self) -> int:
        return hash(self._row)

    def __repr__(self) -> str:
        return f"<HostedHandle {self._node_id} in {self._host!r}>"


class HostedMethod:
    """A method of a node inside a host."""

    __slots__ = ("_deliver", "_host", "_name", "_node_id", "_options", "_row")

    def __init__(self, host: Any, row: int, node_id: str, name: str, options: Mapping[str, Any] | None = None) -> None:
        self._host, self._row, self._node_id, self._name, self._options = host, row, node_id, name, dict(options or {})
        # Looked up once: that is a third of what a call costs.
        self._deliver = host.deliver if name in MESSAGES else None

    def options(self, **options: Any) -> HostedMethod:
        """The same method with Ray's options for a call, such as `num_returns=2`."""
        return HostedMethod(self._host, self._row, self._node_id, self._name, {**self._options, **options})

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call it; references among the arguments are resolved as in any call of an actor."""
        if self._deliver is not None:
            return self._deliver.remote(self._row, self._node_id, self._name, *args)
        if self._name in CONTROL:
            return self._host.control.remote(self._row, self._node_id, self._name)
        method = self._host.call.options(**self._options) if self._options else self._host.call
        return method.remote(self._row, self._node_id, self._name, *args, **kwargs)
