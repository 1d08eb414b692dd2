"""How a federation is put together, and what can be seen of it without a message to its engine."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from red_tui.aggregation.server import FederatedAggregator, FederatedServer, needs_each
from red_tui.aggregation.strategies import StrategyChoice, make_strategy
from red_tui.errors import CommandRefused
from red_tui.federation.argument_checks import check_spec, first_parameters, logger_of, placement_of, settings_of
from red_tui.federation.engine import Engine
from red_tui.federation.feed import Feed
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.open_federations import FEDERATIONS, RunFolder, Shutdown, open_run_folder
from red_tui.federation.owner_verbs import OwnerVerbs
from red_tui.federation.pools import PoolMaker, config_of_trial, make_pool
from red_tui.federation.reports import CheckpointStore, GroupDefinition, Recorder
from red_tui.federation.rounds.runner import RoundRunner
from red_tui.federation.selections import Selectable, Selection, select_rows
from red_tui.federation.spec import FederationSpec, check_template, groups_of_roles
from red_tui.federation.state import SERVER_ID, FailurePolicy, FederationState, Hosting
from red_tui.messaging import TopologyRule
from red_tui.messaging.mailbox import MailboxRule
from red_tui.nodes.config import ConfigSource, FederationConfig
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.ids import ListedIds, Segment
from red_tui.nodes.table import IntArray
from red_tui.nodes.template import Parameters
from red_tui.placement.availability import WAIT_FOR_RESOURCES
from red_tui.rounds.sampling import RoundSettings
from red_tui.runtime.node_actor import NAMESPACE
from red_tui.runtime.virtual_node import VirtualNode

if TYPE_CHECKING:
    from red_tui.federation.base import FederatedBase
    from red_tui.federation.lifecycle.recovery import RecoveredState

Parts = TypeVar("Parts", bound="FederationCore")


class FederationCore(OwnerVerbs):
    """The parts of a federation, and looking at them."""

    schema = "star"
    _rule: TopologyRule | None = None
    _aggregator: type | None = None

    def __init__(
        self,
        client_template: type,
        roles: Sequence[str],
        config: ConfigSource | None = None,
        log: logging.Logger | None = None,
        *,
        server_template: type | None = None,
        ids: Sequence[str] | None = None,
        isolation: str = "process",
        nodes_per_bundle: int | None = None,
        concurrency: int = 1,
        resources: Any = None,
        bundle_offset: int | None = None,
        is_tune: bool = False,
        wait_for_resources: float = WAIT_FOR_RESOURCES,
        strategy: StrategyChoice | None = None,
        initial_parameters: Parameters | None = None,
        settings: RoundSettings | Mapping[str, Any] | None = None,
        failure: FailurePolicy | Mapping[str, Any] | str | None = None,
        mailbox: MailboxRule | Mapping[str, Any] | None = None,
        keep: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> None:
        rounds = settings_of(settings, strategy)
        spec = FederationSpec(
            config=config_of_trial(FederationConfig.of(config)) if is_tune else FederationConfig.of(config),
            groups=groups_of_roles(check_template(client_template, "client_template"), roles, ids),
            schema=self.schema,
            server_template=server_template or FederatedServer,
            placement=placement_of(
                isolation,
                nodes_per_bundle,
                concurrency,
                resources,
                bundle_offset,
                is_tune,
                rounds.seed,
                wait_for_resources,
            ),
            settings=rounds,
            failure=FailurePolicy.of(failure),
            initial_parameters=initial_parameters,
            log=logger_of(log),
            mailbox=MailboxRule.of(mailbox),
        )
        check_spec(spec)
        self._assemble(spec, keep=keep, resume=resume)

    @classmethod
    def from_spec(
        cls: type[Parts],
        spec: FederationSpec,
        *,
        detached: bool = False,
        namespace: str = NAMESPACE,
        recorder: Recorder | None = None,
        keeper: CheckpointStore | None = None,
        keep: str | os.PathLike[str] | None = None,
        resume: bool = False,
        layout: tuple[Any, Path] | None = None,
    ) -> Parts:
        """A federation from its parts (a layout's, say).

        Args:
            spec: The parts.
            detached: Its actors outlive this process.
            namespace: Of its actors.
            recorder: Where its events are kept.
            keeper: Where its parameters are kept.
            keep: The folder of its journal and checkpoints, instead of `recorder` and `keeper`.
            resume: Go on with what that folder keeps.
            layout: The layout of the parts and the layout's file.
        """
        federation = cls.__new__(cls)
        federation._assemble(
            spec,
            detached=detached,
            namespace=namespace,
            recorder=recorder,
            keeper=keeper,
            keep=keep,
            resume=resume,
            layout=layout,
        )
        return federation

    def _assemble(
        self,
        spec: FederationSpec,
        *,
        detached: bool = False,
        namespace: str = NAMESPACE,
        recorder: Recorder | None = None,
        keeper: CheckpointStore | None = None,
        keep: str | os.PathLike[str] | None = None,
        resume: bool = False,
        layout: tuple[Any, Path] | None = None,
    ) -> None:
        placement = spec.placement
        options = spec.settings.choice
        strategy = make_strategy(options.pop("name"), options)
        given = None if spec.initial_parameters is None else first_parameters(spec.initial_parameters)
        server = check_template(spec.server_template, "server_template")
        if not issubclass(server, FederatedServer):
            raise TypeError(f"server_template must derive from red_tui.FederatedServer, not {server.__name__}")
        rule = spec.topology or self._rule or TopologyRule()
        self._spec = spec
        self._state = FederationState(
            spec.config,
            spec.settings,
            spec.failure,
            spec.log or logging.getLogger(f"red_tui.federation.{spec.config.federation_id}"),
            detached=detached,
            namespace=namespace,
            recorder=recorder,
            keeper=keeper,
            mailbox=spec.mailbox,
            hosting=Hosting(placement.isolation, placement.nodes_per_bundle, placement.concurrency),
        )
        self._each = needs_each(server, strategy)
        self._memoryless = strategy.memoryless
        self.table = self._state.table
        aggregator = self._check_aggregator(self._aggregator or spec.aggregator_template, rule)
        self._engine = Engine(self.fed_id)
        self._lifecycle: Lifecycle | None = None
        self._runner: RoundRunner | None = None
        self._given = given
        self._past: RecoveredState | None = None
        self._resuming = threading.Lock()
        self.feed = Feed(self._state, spec)
        self._state.groups.append(GroupDefinition(server, row_start=0))
        self.table.append(ListedIds((SERVER_ID,)), "server", 0)
        for group in spec.groups:
            self._append(group.ids, group.role, group.template, group.config)
        if rule.hierarchy is not None:
            self._append(ListedIds(tuple(rule.hierarchy.aggregators)), AGGREGATOR_ROLE, aggregator, {})
        self._state.topology.use(rule)
        self._shutdown = Shutdown(self.fed_id, namespace, self._engine)
        FEDERATIONS.add(cast("FederatedBase", self), self._shutdown)
        self._keep(open_run_folder(keep, resume, spec, cast("type[FederatedBase]", type(self)), rule, layout))

    def _keep(self, folder: RunFolder | None) -> None:
        """Keep what happens from now on in a folder, and go on with what it holds."""
        if folder is None:
            return
        self._state.recorder, self._state.keeper, self._shutdown.folder = folder.recorder, folder.keeper, folder
        try:
            folder.begin(cast("FederatedBase", self), self._state.record)
        except BaseException:
            self._shutdown.run()
            raise

    def _check_aggregator(self, template: Any, rule: TopologyRule) -> type:
        """The template of a hierarchy's aggregators.

        Raises:
            TypeError: If it is none.
            ValueError: If the strategy or the server wants every update: aggregators pass one mean on.
        """
        made = check_template(template, "aggregator_template")
        if not issubclass(made, FederatedAggregator):
            raise TypeError(f"aggregator_template must derive from red_tui.FederatedAggregator, not {made.__name__}")
        if rule.hierarchy is not None and self._each:
            name = self._spec.settings.choice["name"]
            raise ValueError(
                f"a hierarchy passes each group's mean on, and strategy {name!r} with the server"
                f" {self._spec.server_template.__name__} needs every update: use a strategy of means (fedavg, fedavgm,"
                " fedadagrad, fedadam, fedyogi) with a server that does not override aggregate, or a star"
            )
        return made

    def _append(self, ids: Segment, role: str | Sequence[str], template: type, config: Mapping[str, Any]) -> range:
        state = self._state
        if len(ids) == 0:
            return range(0)
        group = GroupDefinition(template, dict(config), state.num_learners, len(self.table))
        rows = self.table.append(ids, role, len(state.groups))
        state.groups.append(group)
        state.num_clients += len(ids)
        if role == AGGREGATOR_ROLE:
            state.num_aggregators += len(ids)
            state.topology.aggregators |= frozenset(ids)
        return rows

    def should_participate(self, node: VirtualNode) -> bool:
        """Override: whether a node takes part in the next round.  Asked each round, for each eligible node.

        It runs on a thread of its own, and has the deadline of a round for each node; a node for which it raises or
        does not return is left out of that round.

        Args:
            node: The node; look at its `id`, `role`, `state`, `config`, `last_error`.

        Returns:
            Whether it takes part.
        """
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
        texts = [str(role) for role in self.table.roles]
        return [texts[code] for code in self.table.column("role")[self._client_rows()].tolist()]

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
        """Choose nodes by query, ids, nodes or criterion; the server only where it is named.

        Args:
            what: A query (`role:train state:virtual`), ids, nodes, a function of a node; None: all client nodes.

        Returns:
            The nodes, in the order of the table: iterable, with a length and `ids`.

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

    def _pool_maker(self) -> PoolMaker:
        spec, state = self._spec, self._state
        tell = partial(self._engine.post, state.record, "cluster", "warn", "pool")
        layout = bool(spec.layout_path)
        return PoolMaker(spec.placement, self.num_nodes, self.fed_id, state.detached, layout, tell)

    def _ready(self) -> tuple[Lifecycle, RoundRunner]:
        """The parts that need Ray, made at the first verb that does."""
        if self._lifecycle is None or self._runner is None:
            if self._state.pool is None:
                self._state.pool = make_pool(self._pool_maker())
            admit = partial(FEDERATIONS.admit, self._shutdown, self._spec.placement.wait_for_resources)
            # What the engine's thread refers to does not keep a federation alive that nobody else refers to.
            this = weakref.ref(self)

            def criterion(row: int) -> bool:
                federation = _alive(this)
                return federation.should_participate(VirtualNode.view(federation, row))

            async def make() -> tuple[Lifecycle, RoundRunner]:
                lifecycle = Lifecycle(self._state, self._engine, admit)
                overridden = type(self).should_participate is not FederationCore.should_participate
                runner = RoundRunner(
                    self._state,
                    lifecycle,
                    criterion if overridden else None,
                    self._given,
                    self._each,
                    self._memoryless,
                )
                return lifecycle, runner

            self._lifecycle, self._runner = self._engine.wait(make())
            self._shutdown.begin(self._lifecycle, self._runner)
        return self._lifecycle, self._runner


def _alive(federation: weakref.ref[Parts]) -> Parts:
    """The federation that an engine works for.

    Raises:
        CommandRefused: If nobody refers to it any more; its end has begun.
    """
    found = federation()
    if found is None:
        raise CommandRefused("the federation has been garbage-collected, and ends: keep a reference to it")
    return found
