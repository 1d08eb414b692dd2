"""A node as a process: a named Ray actor in a placement-group bundle."""

from __future__ import annotations

import contextlib
import inspect
import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np

from red_tui.errors import NameTaken
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.template import FederatedNode, actor_options
from red_tui.nodes.user_code import containing, guard_process, own_methods
from red_tui.runtime.devices import hide_devices_of_others
from red_tui.runtime.node_runtime import NodeRuntime, keeps_state

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})


def check_travels(config: FederationConfig | Mapping[str, Any], what: str = "config") -> None:
    """Raise ValueError for the first key of a config whose value cannot be pickled."""
    keys = config.as_dict() if isinstance(config, FederationConfig) else config
    for key, value in keys.items():
        if trouble := _trouble(value):
            raise ValueError(
                f"{what}: {key!r} cannot travel to the nodes ({trouble}): pass plain data, or what it is made from and"
                " make it in build"
            )


def _trouble(value: Any) -> str:
    """Why a value cannot travel; empty if it can."""
    if _is_plain(value):
        return ""
    with contextlib.suppress(Exception):
        pickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda buffer: None).dump(value)
        return ""
    # Functions and classes of a script are beyond pickle, and within the reach of Ray's own.
    from ray import cloudpickle

    try:
        cloudpickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda buffer: None).dump(value)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return ""


def _is_plain(value: Any, depth: int = 20) -> bool:
    """Whether a value needs no trial; one that is nested deeply is tried."""
    kind = type(value)
    if depth and kind in (list, tuple, set, frozenset):
        return all(_is_plain(item, depth - 1) for item in value)
    if depth and kind is dict:
        return all(_is_plain(key) and _is_plain(item, depth - 1) for key, item in value.items())
    # Objects of Ray (references, actors, groups) are Ray's own business.
    return kind in PLAIN or (kind is np.ndarray and value.dtype.kind != "O") or kind.__module__.startswith("ray.")


class _Nowhere:
    """A file that forgets what is written to it: data sets are not copied."""

    def write(self, data: Any) -> int:
        return len(data)


Method = TypeVar("Method", bound=Callable[..., Any])

NAMESPACE = "red"
CONTROL_THREADS = 2
EAGER_THREADS = 16
"""Ray starts all threads of an actor at once (100 cost 8 MB each process): an actor whose template
does not say `max_concurrency` gets this many for its own methods; control has threads of its own."""


@dataclass(frozen=True)
class ProcessSpec:
    """All that it takes to start one node."""

    template: type
    fed_id: str
    node_id: str
    role: str
    config: FederationConfig
    log: logging.Logger | None
    placement_group: Any
    bundle_idx: int
    resources: Mapping[str, float]
    detached: bool = False
    namespace: str = NAMESPACE
    common: FederationConfig | None = None
    """What `build_shared` is told; None: the node's own config."""

    @property
    def name(self) -> str:
        """The actor's name in namespace `red`."""
        return f"{self.fed_id}/{self.node_id}"


@dataclass
class NodeProcess:
    """A started process and the references that tell of it.  None of them is ever waited for here."""

    handle: Any
    name: str
    hello: Any
    lifeline: Any
    start: Any = None

    def renew_lifeline(self) -> None:
        """Make another call that fails when the process ends."""
        self.lifeline = self.handle.red_lifeline.remote()

    def kill(self) -> None:
        """End the process; its name is free right afterwards."""
        import ray

        ray.kill(self.handle, no_restart=True)


def start_process(
    spec: ProcessSpec, build_args: Mapping[str, Any], state: Any = None, index: int | None = None
) -> NodeProcess:
    """Submit the named actor of a node and the calls that build it.  Returns at once.

    With `index`, `state` refers to a block of states, of which the node gets the one at that place.

    Raises:
        NameTaken: If an actor of this name lives on the cluster.
    """
    handle = named_actor(
        actor_class(spec.template),
        spec.name,
        spec.fed_id,
        spec.placement_group,
        spec.bundle_idx,
        spec.resources,
        {"node_id": spec.node_id, "role": spec.role, "config": spec.config, "log": spec.log},
        detached=spec.detached,
        namespace=spec.namespace,
    )
    return NodeProcess(
        handle=handle,
        name=spec.name,
        hello=handle.red_hello.remote(),
        lifeline=handle.red_lifeline.remote(),
        start=handle.red_start.remote(dict(build_args), state, spec.common or spec.config, index),
    )


def named_actor(
    actor: Any,
    name: str,
    fed_id: str,
    placement_group: Any,
    bundle_idx: int,
    resources: Mapping[str, float],
    arguments: Mapping[str, Any],
    *,
    detached: bool,
    namespace: str,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Submit an actor with a name in a bundle.  Returns its handle at once.

    Raises:
        NameTaken: If an actor of this name lives on the cluster.
    """
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    amounts = dict(resources)
    chosen: dict[str, Any] = {
        "num_cpus": amounts.pop("CPU", 0),
        "num_gpus": amounts.pop("GPU", 0),
        "resources": amounts or None,
        "name": name,
        "namespace": namespace,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(
            placement_group=placement_group, placement_group_bundle_index=bundle_idx
        ),
        **(options or {}),
    }
    if detached:
        chosen["lifetime"] = "detached"
    try:
        return actor.options(**chosen).remote(**arguments)
    except ray.exceptions.ActorAlreadyExistsError as error:
        holder = f"another actor of namespace {namespace!r}"
        raise NameTaken(
            f"the name {name!r} is already taken on this cluster by {holder}: end its federation with"
            f" `red-console down {fed_id}`, or give this one another federation_id",
            name=name,
            holder=holder,
        ) from error


@lru_cache(maxsize=256)
def actor_class(template: type) -> Any:
    """The Ray actor class around a template.

    Raises:
        TypeError: If the template has coroutine methods: the framework's threads would block its loop.
    """
    import ray

    for name, member in inspect.getmembers(template, inspect.isfunction):
        if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member):
            raise TypeError(f"{template.__name__}.{name} is async: templates are written with plain methods")

    class Node(NodeRuntime, template):  # type: ignore[misc]
        red_keeps_state = keeps_state(template)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            guard_process(shared=False)
            hide_devices_of_others()
            containing(super().__init__)(*args, **kwargs)

        @_method(concurrency_group="control")
        def red_hello(self) -> dict[str, Any]:
            return NodeRuntime.red_hello(self)

        @_method(concurrency_group="lifeline")
        def red_lifeline(self) -> Any:
            return NodeRuntime.red_lifeline(self)

        @_method(concurrency_group="control")
        def red_status(self) -> dict[str, Any]:
            return NodeRuntime.red_status(self)

        @_method(concurrency_group="control")
        def red_detail(self) -> dict[str, Any]:
            return NodeRuntime.red_detail(self)

        @_method(concurrency_group="messages")
        def red_deliver(self, header: Any, body: Any, sender: Any, number: Any, sent: Any, process: Any) -> int:
            return NodeRuntime.red_deliver(self, header, body, sender, number, sent, process)

        @_method(concurrency_group="messages")
        def red_deliver_all(self, told: Any, *bodies: Any) -> Any:
            return NodeRuntime.red_deliver_all(self, told, *bodies)

        @_method(concurrency_group="messages")
        def red_link(self, version: Any, topology: Any, handles: Any, *more: Any) -> Any:
            return NodeRuntime.red_link(self, version, topology, handles, *more)

        @_method(concurrency_group="messages")
        def red_evidence(self, readers: Any) -> Any:
            return NodeRuntime.red_evidence(self, readers)

        @_method(concurrency_group="control")
        def red_waiting(self) -> int:
            return NodeRuntime.red_waiting(self)

        @_method(concurrency_group="control")
        def red_stop(self) -> None:
            NodeRuntime.red_stop(self)

        @_method(concurrency_group="control")
        def red_statistics(self) -> dict[str, Any]:
            return NodeRuntime.red_statistics(self)

        @_method(concurrency_group="control")
        def red_version(self) -> Any:
            return NodeRuntime.red_version(self)

        @_method(concurrency_group="control")
        def red_state(self) -> Any:
            return NodeRuntime.red_state(self)

        @_method(num_returns=2)
        def red_initial_parameters(self) -> Any:
            return NodeRuntime.red_initial_parameters(self)

        @_method(num_returns=3 if red_keeps_state else 2)
        def red_fit(self, parameters: Any, config: Any) -> Any:
            return NodeRuntime.red_fit(self, parameters, config)

    for name, member in own_methods(template, NodeRuntime, FederatedNode).items():
        setattr(Node, name, containing(member))
    Node.__name__ = template.__name__
    Node.__qualname__ = template.__qualname__
    options = {"max_concurrency": EAGER_THREADS, **actor_options(template)}
    options["max_concurrency"] = min(options["max_concurrency"], 1000)
    return ray.remote(**options, concurrency_groups={"control": CONTROL_THREADS, "lifeline": 1, "messages": 1})(Node)


def _method(**options: Any) -> Callable[[Method], Method]:
    """`ray.method`, typed."""
    import ray

    return cast("Callable[[Method], Method]", ray.method(**options))


def asked_resources(template: type, bundle: Mapping[str, float]) -> dict[str, float]:
    """What one node of a template asks of a bundle: what `@red.remote` says, else all of the bundle."""
    options = actor_options(template)
    asked = dict(bundle)
    if "num_cpus" in options:
        asked["CPU"] = float(options["num_cpus"])
    if "num_gpus" in options:
        asked["GPU"] = float(options["num_gpus"])
    if options.get("resources"):
        asked.update({name: float(amount) for name, amount in options["resources"].items()})
    return {name: amount for name, amount in asked.items() if amount > 0}


__all__ = [
    "EAGER_THREADS",
    "NAMESPACE",
    "NodeProcess",
    "ProcessSpec",
    "actor_class",
    "asked_resources",
    "named_actor",
    "start_process",
]
