"""The nodes of a federation that lives in the cluster, as its client sees them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from red_tui.errors import CommandRefused
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.failures import Cause
from red_tui.nodes.states import HOLDING, NodeState
from red_tui.nodes.table import NodeTable
from red_tui.nodes.template import FederatedNode
from red_tui.runtime.bundle_handle import HostedHandle
from red_tui.runtime.virtual_node import check_ready

LOOK_AGAIN = 10.0
"""Seconds that one look at the federation may wait for a change."""


class NodeCommands(Protocol):
    """What a client says about nodes and does to them."""

    @property
    def fed_id(self) -> str:
        """Id of the federation."""

    @property
    def namespace(self) -> str:
        """Ray's namespace of its actors."""

    def table(self) -> NodeTable:
        """The nodes' table, as it is now."""

    def snapshot(self) -> dict[str, Any]:
        """Everything at once, with the cursor for `watch`."""

    def watch(self, since: Mapping[str, Any] | list[Any] | None = None, timeout: float = 10.0) -> dict[str, Any]:
        """What has changed since a snapshot; returns when something has."""

    def node(self, node_id: str) -> dict[str, Any]:
        """All that is known of a node."""

    def command(self, verb: str, args: Mapping[str, Any] | None = None, *, wait: bool = True) -> dict[str, Any]:
        """Send a command and give its outcome."""


class ClientNodes:
    """Owner of the nodes that a client has selected.

    The table is the federation's at the time of the selection; a verb of a node goes to the supervisor and brings the
    table up to date.

    Args:
        client: Speaks with the supervisor.
    """

    def __init__(self, client: NodeCommands) -> None:
        self._client = client
        self.table = client.table()

    @property
    def fed_id(self) -> str:
        """Id of the federation."""
        return self._client.fed_id

    def node_config(self, row: int) -> FederationConfig:
        """What the node is told, as plain data; of what is no plain data, its text."""
        return FederationConfig.of({"federation_id": self.fed_id, **self._detail(row)["config"]})

    def node_template(self, row: int) -> type:
        """Refused: the class is imported where the federation runs."""
        raise CommandRefused(
            f"the template of a node is imported where {self.fed_id!r} runs: describe() of its client names the class"
        )

    def node_log(self, row: int) -> logging.Logger | None:
        """None: a logger does not leave its process."""
        return None

    def node_handle(self, row: int) -> Any:
        """The Ray handle, or None; of a node that shares an actor, with the methods that every template has."""
        import ray

        node_id, detail = self.table.ids[row], self._detail(row)
        if NodeState(detail["state"]) not in HOLDING:
            return None
        try:
            actor = ray.get_actor(detail["actor"], namespace=self._client.namespace)
        except ValueError:
            return None  # its process has ended meanwhile
        if detail["actor"] == f"{self.fed_id}/{node_id}":
            return actor
        return HostedHandle(actor, row, node_id, FederatedNode, detail["actor"])

    def node_cause(self, row: int) -> Cause | None:
        """Why the node failed, or what it waits for."""
        detail = self._detail(row)
        return Cause(detail["why"], detail["traceback"]) if detail["why"] else None

    def node_error(self, row: int) -> Cause | None:
        """The last error of the node, whatever its state is now."""
        detail = self._detail(row)
        last = detail["last_error"]
        return Cause(last["text"], last["traceback"]) if last else None

    def _detail(self, row: int) -> dict[str, Any]:
        return self._client.node(self.table.ids[row])

    def build_node(self, row: int, bundle_idx: int | None, placement_group: Any, kwargs: Mapping[str, Any]) -> None:
        """Have the supervisor build the node where there is room."""
        if bundle_idx is not None or placement_group is not None:
            raise CommandRefused(
                f"federation {self.fed_id!r} chooses the bundle of a node that its client builds: leave bundle_idx and"
                " placement_group out, and use move(node, bundle) of the client afterwards"
            )
        self._tell("build", row, timeout=None, kwargs=dict(kwargs))

    def wait_node(self, row: int, timeout: float) -> None:
        """Wait until the node is ready or has failed."""
        give_up, cursor = time.monotonic() + timeout, self._client.snapshot()
        while True:
            self.table = self._client.table()
            state, left = self.table.state_of(row), give_up - time.monotonic()
            if state not in (NodeState.PENDING, NodeState.STARTING) or left <= 0:
                break
            cursor = self._client.watch(cursor, timeout=min(left, LOOK_AGAIN))
        waits = state in (NodeState.PENDING, NodeState.STARTING, NodeState.FAILED)
        check_ready(self.fed_id, self.table, row, state, self.node_cause(row) if waits else None, timeout)

    def release_node(self, row: int) -> None:
        """Have the supervisor release the node."""
        self._refused("release", row, self._tell("release", row))

    def rebuild_node(self, row: int) -> None:
        """Have the supervisor rebuild the node."""
        self._tell("rebuild", row, timeout=None)

    def _tell(self, verb: str, row: int, **arguments: Any) -> dict[str, Any]:
        outcome = self._client.command(verb, {"ids": [self.table.ids[row]], **arguments}, wait=verb == "release")
        self.table = self._client.table()
        return outcome

    def _refused(self, verb: str, row: int, outcome: Mapping[str, Any]) -> None:
        node_id = self.table.ids[row]
        why = outcome["refused"].get(node_id)
        if why:
            raise CommandRefused(f"node {node_id!r} cannot be {verb}d: {why}")
