"""`FederatedBase`: the public verbs of a federation.  Each one is a message to its engine."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, cast

import numpy as np

from red_tui.errors import CommandRefused
from red_tui.federation.details import describe_node
from red_tui.federation.engine import Engine
from red_tui.federation.feed import Feed
from red_tui.federation.lifecycle import Lifecycle, require_built
from red_tui.federation.pools import make_pool
from red_tui.federation.records import BuildReport, NodeGroup, Recorder, Report
from red_tui.federation.runner import RoundRunner
from red_tui.federation.selections import Selectable, Selection, select_rows
from red_tui.federation.spec import FederationSpec, PlacementSpec, check_template, groups_of_roles
from red_tui.federation.state import SERVER_ID, FailurePolicy, FederationState
from red_tui.federation.verbs import OwnerVerbs
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.ids import ListedIds, PatternIds, Segment
from red_tui.nodes.process import NAMESPACE
from red_tui.nodes.states import BUILDABLE
from red_tui.nodes.table import IntArray
from red_tui.nodes.template import Parameters, check_parameters
from red_tui.nodes.virtual import VirtualNode
from red_tui.placement.plan import BuildPlan
from red_tui.placement.waves import split_waves
from red_tui.rounds.history import History, RoundResult
from red_tui.rounds.sampling import RoundSettings
from red_tui.rounds.server import FederatedServer
from red_tui.rounds.strategies import make_strategy

RESOURCE_SPLITS = ("uniform", "random", "weighted")


class FederatedBase(OwnerVerbs):
    """A federation of virtual nodes.  It exists at once and costs what its built nodes cost.

    Derive from a schema (or from this) and override `should_participate` to choose who takes part.

    Args:
        client_template: Template of the client nodes.
        roles: One entry a client node, such as `["train"] * 50`.
        config: What the nodes are told; its `federation_id` names the actors.
        log: Where the federation logs.
        server_template: Template of the server node; None: a `FederatedServer` that aggregates.
        ids: Ids of the client nodes; None: `client_0` to `client_{n-1}`.
        isolation: `process`: each built node is an actor with a process of its own.
        resources: `uniform` or `random` (what is free on the cluster, split at the first build), or a
            placement group whose bundle `bundle_offset` is the coordinator's and the next ones the nodes'.
        bundle_offset: See `resources`.
        is_tune: Run in the placement group of the Tune trial that this process belongs to.
        strategy: Name of an aggregation strategy, or `{"name": ..., ...}`.
        initial_parameters: Arrays by name; None: the first eligible node's `initial_parameters()`.
        settings: How rounds are run; None: all eligible nodes, 60 s, half must answer.
        failure: What happens to nodes whose process dies; None: they are left failed.

    Raises:
        ValueError: If roles or ids cannot be used.
        TypeError: If a template is none, or parameters are not arrays.
    """

    schema = "star"

    def __init__(
        self,
        client_template: type,
        roles: Sequence[str],
        config: FederationConfig | None = None,
        log: logging.Logger | None = None,
        *,
        server_template: type | None = None,
        ids: Sequence[str] | None = None,
        isolation: str = "process",
        resources: Any = "uniform",
        bundle_offset: int = 0,
        is_tune: bool = False,
        strategy: str | Mapping[str, Any] = "fedavg",
        initial_parameters: Parameters | None = None,
        settings: RoundSettings | None = None,
        failure: FailurePolicy | None = None,
    ) -> None:
        named = {"name": strategy} if isinstance(strategy, str) else dict(strategy)
        base = settings or RoundSettings()
        split = resources if isinstance(resources, str) else "uniform"
        if split not in RESOURCE_SPLITS:
            raise ValueError(f"resources {resources!r}: use {', '.join(RESOURCE_SPLITS)}, or a placement group")
        spec = FederationSpec(
            config=config or FederationConfig(),
            groups=groups_of_roles(check_template(client_template, "client_template"), roles, ids),
            schema=self.schema,
            server_template=server_template or FederatedServer,
            placement=PlacementSpec(
                isolation=isolation,
                split=split,
                seed=base.seed,
                group=None if isinstance(resources, str) else resources,
                offset=bundle_offset,
                is_tune=is_tune,
            ),
            settings=RoundSettings(**{**base.__dict__, "strategy": named}),
            failure=failure or FailurePolicy(),
            initial_parameters=initial_parameters,
            log=log,
        )
        self._assemble(spec)

    @classmethod
    def from_spec(
        cls,
        spec: FederationSpec,
        *,
        detached: bool = False,
        namespace: str = NAMESPACE,
        recorder: Recorder | None = None,
    ) -> FederatedBase:
        """A federation from its parts (a layout's, say); `detached`: its actors outlive this process."""
        federation = cls.__new__(cls)
        federation._assemble(spec, detached=detached, namespace=namespace, recorder=recorder)
        return federation

    def _assemble(
        self,
        spec: FederationSpec,
        *,
        detached: bool = False,
        namespace: str = NAMESPACE,
        recorder: Recorder | None = None,
    ) -> None:
        if spec.placement.isolation != "process":
            raise ValueError(f"isolation {spec.placement.isolation!r}: this version has process")
        options = {key: value for key, value in spec.settings.strategy.items() if key != "name"}
        make_strategy(spec.settings.strategy["name"], options)
        given = None
        if spec.initial_parameters is not None:
            given = check_parameters(
                {name: np.asarray(value) for name, value in spec.initial_parameters.items()}, "initial_parameters"
            )
        server = check_template(spec.server_template, "server_template")
        if not issubclass(server, FederatedServer):
            raise TypeError(f"server_template must derive from red_tui.FederatedServer, not {server.__name__}")
        self._spec = spec
        self._state = FederationState(
            spec.config,
            spec.settings,
            spec.failure,
            spec.log or logging.getLogger(f"red_tui.federation.{spec.config.federation_id}"),
            detached=detached,
            namespace=namespace,
            recorder=recorder,
        )
        self.table = self._state.table
        self._engine = Engine(self.fed_id)
        self._lifecycle: Lifecycle | None = None
        self._runner: RoundRunner | None = None
        self._given = given
        self.feed = Feed(self._state, spec)
        self._state.groups.append(NodeGroup(server, row_start=0))
        self.table.append(ListedIds((SERVER_ID,)), "server", 0)
        for group in spec.groups:
            self._append(group.ids, group.role, group.template, group.config)
        weakref.finalize(self, self._engine.close)

    def _append(self, ids: Segment, role: str | Sequence[str], template: type, config: Mapping[str, Any]) -> range:
        state = self._state
        if len(ids) == 0:
            return range(0)
        group = NodeGroup(template, dict(config), state.num_clients, len(self.table))
        rows = self.table.append(ids, role, len(state.groups))
        state.groups.append(group)
        state.num_clients += len(ids)
        return rows

    def should_participate(self, node: VirtualNode) -> bool:
        """Override: whether a node takes part in the next round.  Asked anew each round, for each eligible node."""
        return True

    # -- looking ---------------------------------------------------------------------------------

    @property
    def fed_id(self) -> str:
        """Id of the federation."""
        return self._state.fed_id

    @property
    def nodes(self) -> Selection:
        """The client nodes, in order.  The server is `fed["server"]`."""
        return Selection(self, self._client_rows())

    @property
    def node_ids(self) -> list[str]:
        """Ids of the client nodes."""
        return self.nodes.ids

    @property
    def num_nodes(self) -> int:
        """Number of client nodes."""
        return self._state.num_clients

    @property
    def roles(self) -> list[str]:
        """Role strings of the client nodes, in order."""
        return [str(node.role) for node in self.nodes]

    @property
    def server(self) -> VirtualNode:
        """The server node."""
        return self[SERVER_ID]

    @property
    def resources(self) -> list[dict[str, float]]:
        """The pool's bundles, the coordinator's first; they are reserved at the first build."""
        self._ready()
        assert self._state.pool is not None
        return [dict(spec) for spec in self._state.pool.specs]

    @property
    def placement_groups(self) -> list[Any]:
        """The pool's placement groups; empty before the first build."""
        return list(self._state.pool.groups) if self._state.pool else []

    @property
    def running(self) -> bool:
        """Whether rounds run."""
        return self._runner is not None and self._runner.running

    def __getitem__(self, node_id: str) -> VirtualNode:
        row = self.table.row_of(node_id)
        if row is None:
            raise KeyError(f"{node_id!r} is no node of federation {self.fed_id!r}")
        return VirtualNode.view(self, row)

    def __contains__(self, node_id: object) -> bool:
        return isinstance(node_id, str) and self.table.row_of(node_id) is not None

    def __len__(self) -> int:
        return self.num_nodes

    def __repr__(self) -> str:
        counts = {str(state): count for state, count in self.table.counts().items() if count}
        return f"<{type(self).__name__} {self.fed_id!r}: {self.num_nodes} nodes, {counts}>"

    def select(self, what: Selectable = None) -> Selection:
        """Nodes by query, ids, nodes or criterion; the server only where it is named.

        Raises:
            SelectionError: If a query cannot be read.
            CommandRefused: If an id is not in the federation.
        """
        if what is None:
            return self.nodes
        if callable(what) and not isinstance(what, Selection):
            clients = self._client_rows()
            verdicts = [bool(what(VirtualNode.view(self, row))) for row in clients.tolist()]
            return Selection(self, clients[np.asarray(verdicts, dtype=bool)])
        rows = select_rows(self, what)
        if isinstance(what, str) and SERVER_ID not in what:
            rows = np.setdiff1d(rows, self._server_rows(), assume_unique=True)
        return Selection(self, rows)

    def _server_rows(self) -> IntArray:
        row = self.table.row_of(SERVER_ID)
        return np.asarray([] if row is None else [row], dtype=np.intp)

    def _client_rows(self) -> IntArray:
        return np.setdiff1d(np.flatnonzero(self.table.present()), self._server_rows(), assume_unique=True)

    # -- building --------------------------------------------------------------------------------

    def _ready(self) -> tuple[Lifecycle, RoundRunner]:
        """The parts that need Ray, made at the first verb that does."""
        if self._lifecycle is None or self._runner is None:
            if self._state.pool is None:
                self._state.pool = make_pool(
                    self._spec.placement, self.num_nodes, self.fed_id, detached=self._state.detached
                )

            async def make() -> tuple[Lifecycle, RoundRunner]:
                lifecycle = Lifecycle(self._state, self._engine)
                overridden = type(self).should_participate is not FederatedBase.should_participate
                criterion = self.should_participate if overridden else None
                runner = RoundRunner(
                    self._state, lifecycle, criterion, lambda row: VirtualNode.view(self, row), self._given
                )
                return lifecycle, runner

            self._lifecycle, self._runner = self._engine.wait(make())
        return self._lifecycle, self._runner

    def plan(self, selection: Selectable = None, **limits: Any) -> BuildPlan:
        """Which node would go to which bundle, what does not fit and why.  Builds nothing.

        A selection of all (None) plans the nodes that have no process.
        """
        lifecycle, _ = self._ready()
        rows = self.select(selection).rows if selection is not None else self._buildable()

        async def make() -> BuildPlan:
            return lifecycle.plan(rows.tolist(), **limits)

        return self._engine.wait(make())

    def _buildable(self) -> IntArray:
        rows = self._client_rows()
        return rows[self.table.in_states(BUILDABLE)[rows]]

    def build(
        self, what: BuildPlan | Selectable = None, *, timeout: float | None = 120.0, wait: bool = True, **kwargs: Any
    ) -> BuildReport:
        """Build nodes: those of a plan, or of a selection.  All start together.

        Args:
            what: A `BuildPlan`, or anything that `select` takes; None: all that have no process.
            timeout: Seconds to wait; what is not ready then is in the report's `waiting` and goes on.
            wait: False returns as soon as all are submitted.
            **kwargs: Reach each node's `build`.

        Raises:
            PlacementError: If the pool's bundles do not fit the cluster.
            BuildError: If every node failed.
            CommandRefused: If every node was left out.
        """
        lifecycle, _ = self._ready()
        plan = what if isinstance(what, BuildPlan) else self.plan(what)
        report = self._engine.wait(lifecycle.build(plan, kwargs, timeout=timeout, wait=wait))
        require_built(report, plan)
        return report

    def waves(
        self, count: int | None = None, size: int | None = None, selection: Selectable = None
    ) -> Iterator[Selection]:
        """Split nodes into `count` waves (sizes differ by one at most), or waves of `size`; nobody is left out.

        Without a selection: the nodes that have no process when this is called.

        Raises:
            ValueError: Unless exactly one of `count` and `size` is given and at least 1.
        """
        rows = self._buildable() if selection is None else self.select(selection).rows
        return iter([Selection(self, wave) for wave in split_waves(rows, count=count, size=size)])

    def build_within(
        self,
        selection: Selectable,
        available: Mapping[str, float],
        *,
        skip_large: bool = False,
        timeout: float | None = 120.0,
        wait: bool = True,
    ) -> BuildReport:
        """Build nodes in order while `available` lasts; the report's `left_out` says who did not fit and why.

        Stops at the first that does not fit, or goes on with smaller ones if `skip_large`.
        """
        lifecycle, _ = self._ready()
        plan = self.plan(selection, available=dict(available), skip_large=skip_large)
        return self._engine.wait(lifecycle.build(plan, timeout=timeout, wait=wait))

    def release(self, selection: Selectable) -> Report:
        """Give processes and their resources back; each node's `get_state()` is kept."""
        lifecycle, _ = self._ready()
        return self._engine.wait(lifecycle.release(self.select(selection).rows.tolist()))

    def rebuild(
        self, selection: Selectable = "state:failed", *, timeout: float | None = 120.0, wait: bool = True
    ) -> BuildReport:
        """Replace failed nodes (or bring released ones back), in their bundle or another, with their last state."""
        lifecycle, _ = self._ready()
        rows = self.select(selection).rows
        return self._engine.wait(lifecycle.rebuild(rows.tolist(), timeout=timeout, wait=wait))

    def add_nodes(
        self, count: int = 1, role: str = "train", *, template: type | None = None, ids: Sequence[str] | None = None
    ) -> Selection:
        """Add virtual nodes; without `ids` the numbering of `client_{i}` goes on."""
        self._ready()
        if count < 1:
            raise CommandRefused(f"at least 1 node is added, not {count}")
        chosen = template or self._spec.groups[-1].template

        async def add() -> range:
            first = 1 + max(
                (
                    segment.first + segment.count - 1
                    for segment in self.table.ids.segments
                    if isinstance(segment, PatternIds) and (segment.prefix, segment.suffix) == ("client_", "")
                ),
                default=-1,
            )
            segment: Segment = PatternIds("client_", "", first, count) if ids is None else ListedIds(tuple(ids))
            rows = self._append(segment, role, check_template(chosen, "template"), {})
            text = f"{len(rows)} added with role {role}"
            self._state.record("node", "info", segment[0], text, "virtual", {"ids": list(segment), "state": "virtual"})
            return rows

        return Selection(self, np.asarray(self._engine.wait(add()), dtype=np.intp))

    def remove_nodes(self, selection: Selectable) -> Report:
        """Forget nodes; their processes end and their bundles are free for others."""
        lifecycle, _ = self._ready()
        return self._engine.wait(lifecycle.remove(self.select(selection).rows.tolist()))

    # -- rounds ----------------------------------------------------------------------------------

    def run_round(self) -> RoundResult:
        """One round: builds what it needs, then fit, aggregate and evaluate.

        Raises:
            RoundError: If nobody could take part or too few answered; parameters stay as they were.
            CommandRefused: If rounds run already.
        """
        return self.run(1).rounds[-1]

    def run(self, rounds: int = 1, until: str | None = None) -> History:
        """Run rounds until there were so many, or until a condition such as `accuracy>0.95`.

        Returns:
            The history of this run.
        """
        _, runner = self._ready()

        async def run() -> list[RoundResult]:
            return await runner.start(rounds, until)

        return History(tuple(self._engine.wait(run())))

    def start_run(self, rounds: int, until: str | None = None) -> None:
        """Run rounds in the background; `running` says for how long, `history` what came of it."""
        _, runner = self._ready()

        async def start() -> None:
            runner.start(rounds, until)

        self._engine.wait(start())

    def stop(self, now: bool = False) -> str:
        """End a run after its present round, or now (the present round then does not count)."""
        _, runner = self._ready()

        async def stop() -> str:
            return runner.stop(now)

        return self._engine.wait(stop())

    @property
    def history(self) -> History:
        """All finished rounds."""
        return History(tuple(self._state.history))

    @property
    def parameters_reference(self) -> Any:
        """Reference to the current global parameters, or None before the first round."""
        return self._state.parameters

    def announce(self, kind: str, level: str, subject: str, text: str) -> None:
        """Put an event into the journal."""

        async def record() -> None:
            self._state.record(kind, level, subject, text)

        self._engine.wait(record())

    def describe_node(self, node_id: str) -> dict[str, Any]:
        """All that this federation knows of one node, as plain data."""
        return describe_node(self._state, self[node_id])

    def parameters(self, timeout: float = 60.0) -> Parameters:
        """The current global parameters, fetched into this process.

        Raises:
            CommandRefused: If there are none before the first round.
        """
        import ray

        reference = self._state.parameters
        if reference is None:
            if self._given is not None:
                return dict(self._given)
            raise CommandRefused("there are no parameters yet: run a round first, or pass initial_parameters")
        return cast("Parameters", ray.get(reference, timeout=timeout))

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End all processes of the federation, give its bundles back and end its engine.  Idempotent."""
        if self._lifecycle is not None:
            lifecycle, runner = self._lifecycle, self._runner
            self._lifecycle = None

            async def end() -> None:
                if runner is not None and runner.running:
                    runner.stop(now=True)
                await lifecycle.shut_down()

            self._engine.wait(end(), timeout=60)
        self._engine.close()

    def __enter__(self) -> FederatedBase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["NAMESPACE", "FederatedBase"]
