"""The verbs of single nodes of a federation: what `VirtualNode` asks its owner."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from red_tui.errors import CommandRefused
from red_tui.federation.lifecycle.node_set import handle_of
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.failures import Cause
from red_tui.nodes.table import NodeTable
from red_tui.runtime.virtual_node import check_ready

if TYPE_CHECKING:
    from red_tui.federation.engine import Engine
    from red_tui.federation.lifecycle.lifecycle import Lifecycle
    from red_tui.federation.rounds.runner import RoundRunner
    from red_tui.federation.spec import FederationSpec
    from red_tui.federation.state import FederationState


class OwnerVerbs:
    """Implements `NodeOwner` over a federation's engine."""

    table: NodeTable
    _state: FederationState
    _spec: FederationSpec
    _engine: Engine

    def _ready(self) -> tuple[Lifecycle, RoundRunner]:
        raise NotImplementedError

    @property
    def fed_id(self) -> str:
        """Id of the federation."""
        return self._state.fed_id

    def node_config(self, row: int) -> FederationConfig:
        """What the node is told."""
        return self._state.config_of(row)

    def node_template(self, row: int) -> type:
        """The node's template."""
        group: int = self.table.value("group", row)
        return self._state.groups[group].template

    def node_log(self, row: int) -> logging.Logger | None:
        """The federation's logger."""
        return self._spec.log

    def node_handle(self, row: int) -> Any:
        """The Ray handle, or None."""
        return handle_of(self._state, row)

    def node_cause(self, row: int) -> Cause | None:
        """Why the node failed, or what it waits for."""
        return self._state.cause_of(row)

    def node_error(self, row: int) -> Cause | None:
        """The last error of the node."""
        last = self._state.last_errors.get(row)
        return last.cause if last is not None else None

    def build_node(self, row: int, bundle_idx: int | None, placement_group: Any, kwargs: Mapping[str, Any]) -> None:
        """Build one node in a bundle of the federation's pool."""
        lifecycle, _ = self._ready()
        pool = lifecycle.pool
        if placement_group is not None and pool.groups and placement_group not in pool.groups:
            raise CommandRefused(
                f"node {self.table.ids[row]!r} is built in its federation's own bundles: pass resources=placement_group"
                " to the federation to use that group"
            )

        async def build() -> None:
            plan = lifecycle.plan([row], only_bundle=bundle_idx)
            if not plan.placed:
                raise CommandRefused(plan.left_out[0].why)
            await lifecycle.build(plan, kwargs, wait=False)

        self._engine.wait(build())

    def wait_node(self, row: int, timeout: float) -> None:
        """Wait until a node is ready."""
        lifecycle, _ = self._ready()
        self._engine.wait(lifecycle.settled([row], timeout))
        check_ready(self.fed_id, self.table, row, self.table.state_of(row), self._state.cause_of(row), timeout)

    def release_node(self, row: int) -> None:
        """Release one node."""
        lifecycle, _ = self._ready()
        _raise_refusal(self._engine.wait(lifecycle.release([row])).refused)

    def rebuild_node(self, row: int) -> None:
        """Rebuild one node."""
        lifecycle, _ = self._ready()
        _raise_refusal(self._engine.wait(lifecycle.rebuild([row])).left_out)


def _raise_refusal(refused: Mapping[str, str]) -> None:
    for node_id, why in refused.items():
        raise CommandRefused(why if why.startswith("node ") else f"node {node_id!r} {why}")
