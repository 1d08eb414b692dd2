"""`VirtualNode`: a thin view of one row of a table, standalone or in a federation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from red_tui.checks import number, shown, text, whole
from red_tui.errors import BuildError, CommandRefused
from red_tui.nodes.config import ConfigSource, FederationConfig
from red_tui.nodes.failures import Cause, cause_of_death, cause_of_exit
from red_tui.nodes.ids import ListedIds, check_id
from red_tui.nodes.states import BUILDABLE, HOLDING, NodeState, Roles
from red_tui.nodes.table import NodeTable
from red_tui.nodes.template import FederatedNode
from red_tui.runtime.node_actor import NodeProcess, ProcessSpec, asked_resources, check_travels, start_process


class NodeOwner(Protocol):
    """The owner of the table that a `VirtualNode` looks at: it carries out the node's verbs."""

    table: NodeTable

    @property
    def fed_id(self) -> str:
        """Id of the federation."""

    def node_config(self, row: int) -> FederationConfig:
        """What the node is told."""

    def node_template(self, row: int) -> type:
        """The node's template."""

    def node_log(self, row: int) -> logging.Logger | None:
        """The logger that goes to the node, or None."""

    def node_handle(self, row: int) -> Any:
        """The Ray handle, or None."""

    def node_cause(self, row: int) -> Cause | None:
        """Why the node failed, or what it waits for."""

    def node_error(self, row: int) -> Cause | None:
        """The last error of the node, whatever its state is now."""

    def build_node(self, row: int, bundle_idx: int | None, placement_group: Any, kwargs: Mapping[str, Any]) -> None:
        """Give the node a process; returns when it is submitted."""

    def wait_node(self, row: int, timeout: float) -> None:
        """Wait until the node is ready."""

    def release_node(self, row: int) -> None:
        """Give the process back and keep the node's state."""

    def rebuild_node(self, row: int) -> None:
        """Replace the process under the same name, with the last state."""


class VirtualNode:
    """A node that exists on paper until `build` gives it a process.

    Args:
        template: A class that derives from `FederatedNode`.
        node_id: Its id; with the federation's id it names the actor `FED/NODE`.
        role: Roles joined by dashes, such as `train-eval`.
        config: What it is told; its `federation_id` is the federation's.  A dict will do, and so does any object with
            an attribute `FEDERATION_ID`.
        log: A logger that goes to the node, or None.
        id: Another name of `node_id`.

    Raises:
        ValueError: If the id or the role cannot be one, or a value of the config cannot travel.
        TypeError: If the template does not derive from `FederatedNode`.
    """

    __slots__ = ("_owner", "_row")

    def __init__(
        self,
        template: type,
        node_id: str | None = None,
        role: str | None = None,
        config: ConfigSource | None = None,
        log: logging.Logger | None = None,
        *,
        id: str | None = None,
    ) -> None:
        if node_id is not None and id is not None and node_id != id:
            raise ValueError(f"node_id is {shown(node_id)} and id is {shown(id)}: both name the node, give one")
        name = id if node_id is None else node_id
        if name is None or role is None:
            raise TypeError(
                "a node has an id and a role: VirtualNode(template, 'client_1', 'train-eval'), or with id= and role="
            )
        if log is not None and not isinstance(log, (logging.Logger, logging.LoggerAdapter)):
            raise TypeError(f"log must be a logging.Logger or None, not {shown(log)}")
        told = FederationConfig.of(config)
        check_travels(told)
        self._owner: NodeOwner = SingleNode(template, name, text(role, "role"), told, log)
        self._row = 0

    @classmethod
    def view(cls, owner: NodeOwner, row: int) -> VirtualNode:
        """The node at a row of an owner's table."""
        node = object.__new__(cls)
        node._owner = owner
        node._row = row
        return node

    @property
    def row(self) -> int:
        """Row in the table."""
        return self._row

    @property
    def id(self) -> str:
        """Id within the federation."""
        return self._owner.table.ids[self._row]

    @property
    def fed_id(self) -> str:
        """Id of the federation."""
        return self._owner.fed_id

    @property
    def role(self) -> Roles:
        """Roles; `in` looks at whole roles."""
        return self._owner.table.role_of(self._row)

    @property
    def state(self) -> NodeState:
        """Present state; compares equal to its name."""
        return self._owner.table.state_of(self._row)

    @property
    def built(self) -> bool:
        """Whether it has a process, be it still starting; false again when the process has died."""
        return self.state in HOLDING and self.handle is not None

    @property
    def bundle_idx(self) -> int | None:
        """Index of its bundle, or None."""
        bundle = self._owner.table.value("bundle", self._row)
        return None if bundle < 0 else int(bundle)

    @property
    def template(self) -> type:
        """The class that says what it does."""
        return self._owner.node_template(self._row)

    @property
    def config(self) -> FederationConfig:
        """What it is told."""
        return self._owner.node_config(self._row)

    @property
    def log(self) -> logging.Logger | None:
        """The logger that was given for it, or None."""
        return self._owner.node_log(self._row)

    @property
    def handle(self) -> Any:
        """The Ray handle (`node.handle.method.remote(...)` gives an `ObjectRef`), or None without a process."""
        return self._owner.node_handle(self._row)

    @property
    def why(self) -> str:
        """Why it failed or what it waits for; empty when all is well."""
        cause = self._owner.node_cause(self._row)
        return cause.text if cause else ""

    @property
    def last_error(self) -> str:
        """Its last error; it stays when the node takes part again, and when it was rebuilt.  Empty for none."""
        cause = self._owner.node_error(self._row)
        return cause.text if cause else ""

    def build(self, bundle_idx: int | None = None, placement_group: Any = None, **kwargs: Any) -> VirtualNode:
        """Give it a process: the named actor `FED/NODE` in that bundle, with that bundle's resources.

        Returns as soon as the actor is submitted; `wait_ready` waits for the template's `build(**kwargs)`.

        Args:
            bundle_idx: Index of the bundle, from 1; None: any that is free, which only a federation knows.
            placement_group: The placement group, as `red.get_resources_split` gives it; None: the federation's.
            **kwargs: Reach the template's `build`.

        Returns:
            The node itself.

        Raises:
            CommandRefused: If it has a process, or has failed (rebuild it then).
            NameTaken: If an actor of this name lives on the cluster.
        """
        whole(bundle_idx, "bundle_idx", least=0, none="any", refusal=CommandRefused)
        if placement_group is not None and not hasattr(placement_group, "bundle_specs"):
            raise CommandRefused(
                f"placement_group must be a placement group (red.get_resources_split), not {shown(placement_group)}"
            )
        self._owner.build_node(self._row, bundle_idx, placement_group, kwargs)
        return self

    def wait_ready(self, timeout: float = 60.0) -> VirtualNode:
        """Wait until it is ready.

        Args:
            timeout: Seconds to wait.

        Returns:
            The node itself.

        Raises:
            BuildError: With the cause, if it failed, or if `timeout` seconds did not suffice.
        """
        number(timeout, "timeout", least=0, unit="seconds", refusal=CommandRefused)
        self._owner.wait_node(self._row, timeout)
        return self

    def release(self) -> None:
        """Give the process and its resources back; `get_state()` is kept for the next build.

        Raises:
            CommandRefused: If it has no process, or is at work.
        """
        self._owner.release_node(self._row)

    def rebuild(self) -> VirtualNode:
        """Give it a new process under its name, with its last state.

        Returns:
            The node itself.

        Raises:
            CommandRefused: If it has neither failed nor been released.
        """
        self._owner.rebuild_node(self._row)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VirtualNode) and self._owner is other._owner and self._row == other._row

    def __hash__(self) -> int:
        return hash((id(self._owner), self._row))

    def __repr__(self) -> str:
        where = "" if self.bundle_idx is None else f" in bundle {self.bundle_idx}"
        return f"<VirtualNode {self.fed_id}/{self.id} {self.role} {self.state}{where}>"


class SingleNode:
    """Owner of one standalone node.

    Ray's completions arrive on Ray's own thread: a lock guards the row.  No Ray call is made under it,
    for Ray's thread may be waiting for the lock while the call waits for Ray's thread.
    """

    def __init__(
        self, template: type, node_id: str, role: str, config: FederationConfig, log: logging.Logger | None
    ) -> None:
        if not (isinstance(template, type) and issubclass(template, FederatedNode)):
            raise TypeError(
                f"the template of {node_id!r} must be a class that derives from FederatedNode: {template!r}"
            )
        self.table = NodeTable()
        self.table.append(ListedIds((check_id(node_id),)), Roles(role))
        self._template, self._config, self._log = template, config, log
        self._process: NodeProcess | None = None
        self._cause: Cause | None = None
        self._last: Cause | None = None
        self._kept: Any = None
        self._where: tuple[int, Any, dict[str, Any]] | None = None
        self._settled = threading.Condition()

    @property
    def fed_id(self) -> str:
        """Id of the federation that the config names."""
        return self._config.federation_id

    def node_config(self, row: int) -> FederationConfig:
        """The config given to the constructor."""
        return self._config

    def node_template(self, row: int) -> type:
        """The template given to the constructor."""
        return self._template

    def node_log(self, row: int) -> logging.Logger | None:
        """The logger given to the constructor."""
        return self._log

    def node_handle(self, row: int) -> Any:
        """The Ray handle, or None."""
        return self._process.handle if self._process else None

    def node_cause(self, row: int) -> Cause | None:
        """Why it failed."""
        return self._cause

    def node_error(self, row: int) -> Cause | None:
        """Why it failed the last time."""
        return self._last

    def build_node(self, row: int, bundle_idx: int | None, placement_group: Any, kwargs: Mapping[str, Any]) -> None:
        """Submit the actor."""
        if placement_group is None:
            raise CommandRefused(
                f"node {self.table.ids[0]!r} belongs to no federation: name its bundle and placement group,"
                " node.build(bundle_idx, placement_group)"
            )
        self._start(BUILDABLE, 1 if bundle_idx is None else bundle_idx, placement_group, dict(kwargs))

    def _start(
        self, allowed: frozenset[NodeState], bundle_idx: int, placement_group: Any, kwargs: dict[str, Any]
    ) -> None:
        bundles = placement_group.bundle_specs
        if not 0 <= bundle_idx < len(bundles):
            raise CommandRefused(
                f"bundle {bundle_idx} does not exist: the placement group has bundles 0 to {len(bundles) - 1}"
            )
        with self._settled:
            before = self.table.state_of(0)
            if before not in allowed:
                raise CommandRefused(refusal(self.table, 0))
            self.table.set(0, state=NodeState.PENDING, bundle=bundle_idx)
            self._cause = None
        spec = ProcessSpec(
            self._template,
            self.fed_id,
            self.table.ids[0],
            self.table.role_of(0),
            self._config,
            self._log,
            placement_group,
            bundle_idx,
            asked_resources(self._template, bundles[bundle_idx]),
        )
        try:
            process = start_process(spec, kwargs, self._kept)
        except BaseException:
            with self._settled:
                self.table.set(0, state=before, bundle=-1)
            raise
        self._process, self._where = process, (bundle_idx, placement_group, kwargs)
        process.hello.future().add_done_callback(lambda done: self._on(process, self._on_hello, done))
        process.start.future().add_done_callback(lambda done: self._on(process, self._on_start, done))
        process.lifeline.future().add_done_callback(lambda done: self._on(process, self._on_death, done))

    def _on(self, process: NodeProcess, what: Any, done: Any) -> None:
        """Hear of a completion, unless it is that of a process that has been replaced."""
        with self._settled:
            if self._process is process:
                what(done)
                self._settled.notify_all()

    def _on_hello(self, done: Any) -> None:
        if done.exception() is None and self.table.state_of(0) is NodeState.PENDING:
            self.table.set(0, state=NodeState.STARTING)

    def _on_start(self, done: Any) -> None:
        if done.exception() is not None:
            self._fail(cause_of_death(done.exception()))
            return
        report = done.result()
        if "error" in report:
            process = self._process
            self._fail(Cause(f"{report['where']} raised {report['error']}", report["traceback"]))
            if process:
                # Never a Ray call on Ray's own thread, nor under the lock that this thread waits for.
                threading.Thread(target=process.kill, daemon=True).start()
        else:
            self.table.set(0, state=NodeState.READY)

    def _on_death(self, done: Any) -> None:
        error = done.exception()
        self._fail(cause_of_exit(done.result()) if error is None else cause_of_death(error))

    def _fail(self, cause: Cause) -> None:
        self._process = None
        self._cause = self._last = cause
        self.table.set(0, state=NodeState.FAILED)

    def wait_node(self, row: int, timeout: float) -> None:
        """Wait for ready or failed."""
        waiting = {NodeState.PENDING, NodeState.STARTING}
        with self._settled:
            self._settled.wait_for(lambda: self.table.state_of(0) not in waiting, timeout)
            state = self.table.state_of(0)
        check_ready(self.fed_id, self.table, 0, state, self._cause, timeout)

    def release_node(self, row: int) -> None:
        """Keep the state, end the process."""
        import ray

        with self._settled:
            process = self._process
            if process is None:
                raise CommandRefused(f"node {self.table.ids[0]!r} is {self.table.state_of(0)}: it has no process")
        kept = process.handle.red_state.remote()
        ray.wait([kept], timeout=30)
        with self._settled:
            self._kept, self._process = kept, None
            self.table.set(0, state=NodeState.RELEASED, bundle=-1)
        process.kill()

    def rebuild_node(self, row: int) -> None:
        """Start again where it stood last."""
        if self._where is None:
            raise CommandRefused(f"node {self.table.ids[0]!r} was never built: build it instead")
        if self._process is not None:
            raise CommandRefused(f"node {self.table.ids[0]!r} is {self.table.state_of(0)}: release it first")
        self._start(BUILDABLE | {NodeState.FAILED}, *self._where)
        self.table.set(0, rebuilds=self.table.value("rebuilds", 0) + 1)


def refusal(table: NodeTable, row: int) -> str:
    """Why a node that is not virtual or released cannot be built, and where it stands."""
    state, bundle = table.state_of(row), table.value("bundle", row)
    where = f" in bundle {bundle}" if bundle >= 0 else ""
    if state is NodeState.FAILED:
        return f"node {table.ids[row]!r} has failed: rebuild it"
    return f"node {table.ids[row]!r} is already built ({state}{where}): release it first"


def check_ready(fed_id: str, table: NodeTable, row: int, state: NodeState, cause: Cause | None, timeout: float) -> None:
    """Raise BuildError unless `state` is one of a node that answers."""
    if state in (NodeState.READY, NodeState.BUSY):
        return
    name, bundle = table.ids[row], table.value("bundle", row)
    if state in (NodeState.PENDING, NodeState.STARTING):
        reason = f"it is still {state} after {timeout:g} s" + (f": {cause.text}" if cause else "")
        advice = "wait longer (timeout=) or look at its host"
    elif cause is not None:
        reason, advice = cause.text, "mend the cause and rebuild it"
    else:
        reason, advice = f"it is {state}", "build it"
    raise BuildError(
        f"node {name!r} of {fed_id!r} is not ready: {reason}; {advice}",
        node=name,
        bundle=bundle,
        cause=(cause.traceback or cause.text) if cause else reason,
    )
