"""`FederatedBase`: the public verbs of a federation.  Each one is a message to its engine.

It is one long file on purpose: whoever looks for a verb finds it here, with all that is said of it.  What the verbs do
stands in the parts that `FederationCore` holds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from red_tui.aggregation.server import FederatedServer
from red_tui.aggregation.strategies import StrategyChoice
from red_tui.errors import CommandRefused, MessageError, RoundError, SessionError
from red_tui.federation.argument_checks import (
    amounts,
    bundle,
    changes,
    check_spec,
    checked,
    condition,
    count,
    evaluator_of,
    flag,
    hooks_of,
    kept_rounds,
    keywords,
    limits_of,
    listed,
    logger_of,
    number_to_add,
    placement_of,
    seconds,
    settings_of,
    starting_point,
    words,
)
from red_tui.federation.core import FederationCore
from red_tui.federation.engine import Engine
from red_tui.federation.explain import Description, Explainer, Explanation, describe, describe_node
from red_tui.federation.federation_topology import FederationTopology, rule_of
from red_tui.federation.feed import Feed
from red_tui.federation.lifecycle.lifecycle import Lifecycle, bundles_of, require_built
from red_tui.federation.lifecycle.node_set import handle_of
from red_tui.federation.lifecycle.recovery import (
    RecoveredState,
    SurvivingProcesses,
)
from red_tui.federation.open_federations import FEDERATIONS
from red_tui.federation.origin_names import Alias, Waves, placement_group
from red_tui.federation.pools import config_of_trial
from red_tui.federation.reports import HERE, BuildReport, NodeReport, Residence
from red_tui.federation.rounds.round_plan import RoundPlan
from red_tui.federation.rounds.runner import RoundRunner
from red_tui.federation.run_folder.script_folder import ScriptFolder, open_run_folder
from red_tui.federation.selections import Selectable, Selection, select_of
from red_tui.federation.sessions import STOP_TIMEOUT, Arguments, SessionResult
from red_tui.federation.spec import FederationSpec, check_role, check_template, groups_of_roles
from red_tui.federation.state import FailurePolicy, FederationState
from red_tui.layout.round_settings import Change, one_of_each
from red_tui.messaging import Topology, TopologyRule
from red_tui.messaging.mailbox import MailboxRule
from red_tui.node_states.kept_states import STATE_MEMORY
from red_tui.node_states.state_files import StatePlace
from red_tui.nodes.config import ConfigSource, FederationConfig
from red_tui.nodes.failures import Cause, first_sentence
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.ids import SERVER_ID, ListedIds, PatternIds, Segment
from red_tui.nodes.states import BUILDABLE
from red_tui.nodes.table import IntArray, NodeTable
from red_tui.nodes.template import Parameters
from red_tui.placement.availability import WAIT_FOR_RESOURCES
from red_tui.placement.build_plan import BuildPlan, split_waves
from red_tui.protocol.snapshot import SessionStatus
from red_tui.rounds.history import History, RoundResult
from red_tui.rounds.sampling import RoundSettings
from red_tui.runtime.virtual_node import VirtualNode, check_ready

if TYPE_CHECKING:
    from typing_extensions import Self

    from red_tui.federation.selections import Selectable


class FederatedBase:
    """A federation of virtual nodes.  It exists at once and costs what its built nodes cost.

    Derive from a schema (or from this) and override `should_participate` to choose who takes part.

    Args:
        client_template: Template of the client nodes.
        roles: One entry a client node, such as `["train"] * 50`.
        config: What the nodes are told; its `federation_id` names the actors.  A dict will do, and so does any object
            with an attribute `FEDERATION_ID`.
        log: Where the federation logs.
        server_template: Template of the server node; None: a `FederatedServer` that aggregates.
        ids: Ids of the client nodes; None: `client_0` to `client_{n-1}`.
        isolation: `process`: each built node is an actor with a process of its own.  `bundle`: one host actor
            a bundle holds many nodes, which cost a few hundred bytes each.
        nodes_per_bundle: With `bundle`: nodes that a host holds at most; None: no limit.
        concurrency: With `bundle`: nodes of a host that work at a time, in threads.
        resources: `uniform` (also None) or `random` (what is free on the cluster, split at the first build), or a
            placement group whose bundle `bundle_offset` is the coordinator's and the next ones the nodes'.
        bundle_offset: See `resources`.
        is_tune: Run in the placement group of the Tune trial that this process belongs to: the nodes in bundles 1 and
            up, the server beside the trainable in bundle 0.  The federation's id gets the trial's id at its end.
        wait_for_resources: Seconds that a build waits for resources that others hold or are giving back.
        state_memory: What nodes keep between turns (`get_state`) stays in memory up to this size, such as `"1GB"` or a
            number of bytes, and lies in files from then on; 0: it always does; None: never.
        strategy: Name of an aggregation strategy, `{"name": ..., ...}`, or one of `red.strategies`; None: what
            `settings` names, else `fedavg`.
        initial_parameters: Arrays by name, or where they are read from as in `load_parameters`: a file,
            `"FEDERATION@best"`, `"FEDERATION@12"`; None: the first eligible node's `initial_parameters()`.
        settings: How rounds are run, as `RoundSettings` or as a dict of some of its fields; None: all eligible nodes,
            60 s, half must answer.
        failure: What happens to nodes whose process dies: `"rebuild"`, a `FailurePolicy`, or a dict of its fields;
            None: they are left failed.
        mailbox: Where more messages come than a node reads: `{"capacity": 1024, "policy": "wait", "timeout": 60}`;
            the policies are `wait` (senders do, for `timeout` seconds), `drop-oldest` and `drop-newest`.
        keep: Folder in which the journal, the history and the parameters of the last rounds are kept, as those of a
            launched federation are; `red-console replay FOLDER` and `history FOLDER` read it.  None: nothing is.
        keep_rounds: Which rounds' parameters stay in that folder: a number of the last ones (0: none), or as in layouts
            `{"last": 3, "best": "accuracy"}`; None: the last three.
        resume: Go on with what `keep` holds: its rounds, the parameters of the last one, nodes that joined or left.
            Where it holds nothing, the federation begins there.
        evaluator: What judges the parameters on the server's node after each round that is evaluated: a function of
            (parameters, config), or a class with a method `evaluate(parameters, config)`; it returns an
            `EvaluateResult` or a dict of numbers.  They are metrics named `central_…`, and stand for `loss` and metrics
            where no node judges.  None: nothing does.
        hooks: What hears of rounds and runs: objects or classes that derive from `RoundHook`.

    Raises:
        ValueError: If an argument cannot be used, or two of them contradict each other.
        TypeError: If a template is none, or parameters are not arrays.
    """

    schema = "star"
    _rule: TopologyRule | None = None
    _aggregator: type | None = None
    _core: FederationCore
    table: NodeTable
    feed: Feed

    _nodes = Alias(lambda federation: federation.nodes, "Another name of `nodes`.")
    _pg = Alias(
        lambda federation: placement_group(federation._core),
        "The placement group, reserved now if it is not yet; see `placement_groups`.",
    )
    _bundle_offset = Alias(lambda federation: federation._spec.placement.offset, "The argument `bundle_offset`.")

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
        state_memory: str | int | None = STATE_MEMORY,
        strategy: StrategyChoice | None = None,
        initial_parameters: Parameters | str | os.PathLike[str] | None = None,
        settings: RoundSettings | Mapping[str, Any] | None = None,
        failure: FailurePolicy | Mapping[str, Any] | str | None = None,
        mailbox: MailboxRule | Mapping[str, Any] | None = None,
        keep: str | os.PathLike[str] | None = None,
        keep_rounds: int | Mapping[str, Any] | None = None,
        resume: bool = False,
        evaluator: Any = None,
        hooks: Sequence[Any] = (),
    ) -> None:
        rounds = settings_of(settings, strategy)
        spec = FederationSpec(
            config=config_of_trial(FederationConfig.of(config)) if is_tune else FederationConfig.of(config),
            groups=groups_of_roles(client_template, roles, ids, isolation),
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
                state_memory,
            ),
            settings=rounds,
            failure=FailurePolicy.of(failure),
            initial_parameters=starting_point(initial_parameters, resume),
            log=logger_of(log),
            mailbox=MailboxRule.of(mailbox),
            evaluator=evaluator_of(evaluator),
            hooks=hooks_of(hooks),
            kept_rounds=kept_rounds(keep_rounds, keep),
        )
        check_spec(spec)
        rule = self._assemble(spec)
        self._keep(open_run_folder(keep, resume, spec, type(self), rule))

    @classmethod
    def from_spec(
        cls,
        spec: FederationSpec,
        residence: Residence = HERE,
        *,
        keep: str | os.PathLike[str] | None = None,
        resume: bool = False,
        layout: tuple[Any, Path] | None = None,
    ) -> Self:
        """A federation from its parts (a layout's, say).

        Args:
            spec: The parts.
            residence: Where it lives, and who keeps what it does.
            keep: The folder of its journal and checkpoints, where `residence` names no keeper.
            resume: Go on with what that folder keeps.
            layout: The layout of the parts and the layout's file.
        """
        federation = cls.__new__(cls)
        rule = federation._assemble(spec, residence)
        federation._keep(open_run_folder(keep, resume, spec, cls, rule, layout))
        return federation

    def _assemble(self, spec: FederationSpec, residence: Residence = HERE) -> TopologyRule:
        """Make the parts, without touching the cluster; gives the topology's rule."""
        rule = spec.topology or self._rule or TopologyRule()
        self._core = FederationCore(spec, rule, self._aggregator, self._criterion(), residence)
        self.table, self.feed = self._core.table, self._core.feed
        FEDERATIONS.add(self, self._core.shutdown)
        return rule

    def _criterion(self) -> Callable[[int], bool] | None:
        """`should_participate` by row, where it is overridden.

        What the engine's thread refers to does not keep a federation alive that nobody else refers to.
        """
        if type(self).should_participate is FederatedBase.should_participate:
            return None
        this = weakref.ref(self)

        def takes_part(row: int) -> bool:
            federation = this()
            if federation is None:
                raise CommandRefused("the federation has been garbage-collected, and ends: keep a reference to it")
            return federation.should_participate(VirtualNode.view(federation, row))

        return takes_part

    def _keep(self, folder: ScriptFolder | None) -> None:
        """Keep what happens from now on in a folder, and go on with what it holds."""
        if folder is None:
            return
        state = self._core.state
        state.keep_in(folder.recorder)
        state.keeper, self._core.shutdown.folder = folder.keeper, folder
        state.kept.place = StatePlace(str(folder.states), at_home=False)
        try:
            folder.begin(self, state.record)
        except BaseException:
            self._core.shutdown.run()
            raise

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

    # -- parts, for this package ------------------------------------------------------------------

    @property
    def _state(self) -> FederationState:
        return self._core.state

    @property
    def _engine(self) -> Engine:
        return self._core.engine

    @property
    def _spec(self) -> FederationSpec:
        return self._core.spec

    @property
    def _lifecycle(self) -> Lifecycle | None:
        return self._core.lifecycle

    @property
    def _runner(self) -> RoundRunner | None:
        return self._core.runner

    def _ready(self) -> tuple[Lifecycle, RoundRunner]:
        return self._core.ready()

    # -- looking ---------------------------------------------------------------------------------

    @property
    def fed_id(self) -> str:
        """Id of the federation."""
        return self._state.fed_id

    @property
    def nodes(self) -> Selection:
        """The client nodes, in order.  The server is `fed["server"]`."""
        return Selection(self, self._core.client_rows())

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
        return [texts[code] for code in self.table.column("role")[self._core.client_rows()].tolist()]

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
        """Whether rounds or a session run."""
        return self._core.rounds_run or self._core.session_runs

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
        return select_of(self, what)

    # -- building --------------------------------------------------------------------------------

    def plan(self, selection: Selectable = None, **limits: Any) -> BuildPlan:
        """Plan a build: which node would go to which bundle, what does not fit and why.  Builds nothing.

        Where the pool's bundles are still to be reserved and do not fit now, the plan says why.

        Args:
            selection: Anything that `select` takes; None: the nodes that have no process.
            **limits: As for `build_within`: `available` (amounts by resource, such as `{"CPU": 2}`) and `skip_large`.

        Returns:
            The plan: print it, or give it to `build`.

        Raises:
            SelectionError: If a query cannot be read.
            CommandRefused: If an id is not in the federation, or it is closed.
        """
        plan = self._planned(selection, **limits)
        if not plan.reserves:
            return plan
        lifecycle, _ = self._ready()
        return replace(plan, no_room=Explainer(lifecycle).no_room())

    def _planned(self, selection: Selectable = None, **limits: Any) -> BuildPlan:
        lifecycle, _ = self._ready()
        limits = limits_of(limits)
        rows = self.select(selection).rows if selection is not None else self._buildable()

        async def make() -> BuildPlan:
            return lifecycle.plan(rows.tolist(), **limits)

        return self._engine.wait(make())

    def _buildable(self) -> IntArray:
        rows = self._core.client_rows()
        return rows[self.table.in_states(BUILDABLE)[rows]]

    @checked(timeout=seconds, wait=flag)
    def build(
        self, what: BuildPlan | Selectable = None, *, timeout: float | None = 120.0, wait: bool = True, **kwargs: Any
    ) -> BuildReport:
        """Build nodes: those of a plan, or of a selection.  All start together.

        Args:
            what: A `BuildPlan`, or anything that `select` takes; None: all that have no process.
            timeout: Seconds to wait; what is not ready then is in the report's `waiting` and goes on.  None: no limit.
            wait: False returns as soon as all are submitted.
            **kwargs: Reach each node's `build`.

        Returns:
            Ids of the nodes that were `built`, that `failed` with causes, that are `waiting`, that were `left_out`
            with the reasons, and that had a process `already`.

        Raises:
            PlacementError: If the pool's bundles do not fit the cluster.
            BuildError: If every node failed.
            CommandRefused: If every node was left out; nodes that are built already are named in `already` instead.
        """
        lifecycle, _ = self._ready()
        plan = what if isinstance(what, BuildPlan) else self._planned(what)
        if plan.ids_space is not self.table.ids:
            raise CommandRefused(f"the plan is another federation's: make one with {self.fed_id!r}.plan(...)")
        report = self._engine.wait(lifecycle.build(plan, kwargs, timeout=timeout, wait=wait))
        require_built(report, plan)
        return report

    def waves(
        self, count: int | None = None, size: int | None = None, selection: Selectable = None
    ) -> Iterator[Selection]:
        """Split nodes into waves for `build`; nobody is left out.

        Args:
            count: How many waves; their sizes differ by one at most, the first ones are the larger.
            size: Nodes of a wave instead; the last one may be smaller.
            selection: Anything that `select` takes; None: the nodes that have no process when this is called, without
                aggregators, which a round builds as it needs them.

        Returns:
            The waves, in order.

        Raises:
            ValueError: Unless exactly one of `count` and `size` is given and at least 1.
        """
        if selection is None:
            rows = self._buildable()
            rows = rows[~self.table.with_role(AGGREGATOR_ROLE)[rows]]
        else:
            rows = self.select(selection).rows
        split = split_waves(rows, count=count, size=size)
        self._waves.remember(split)
        return iter([Selection(self, wave) for wave in split])

    def train_wave(self, number: int, count: int | None = None) -> RoundResult:
        """Run one round among the nodes of a wave, which are built if they are not: `run_round(nodes=wave)`.

        Args:
            number: Of the wave, from 0.
            count: Waves into which all nodes are split, as `waves(count)` does; None: the waves that `waves` made last,
                else the nodes that have been built since the wave before.

        Returns:
            The round.

        Raises:
            CommandRefused: If there is no such wave.
            RoundError: If too few answered.
        """
        return self.run_round(nodes=Selection(self, self._waves.take(number, count)))

    @cached_property
    def _waves(self) -> Waves:
        return Waves(self._core)

    @checked(available=amounts, skip_large=flag, timeout=seconds, wait=flag)
    def build_within(
        self,
        selection: Selectable,
        available: Mapping[str, float],
        *,
        skip_large: bool = False,
        timeout: float | None = 120.0,
        wait: bool = True,
    ) -> BuildReport:
        """Build nodes in order while `available` lasts.

        Args:
            selection: Anything that `select` takes.
            available: Amounts by resource that the nodes may use together, such as `{"CPU": 2, "GPU": 0.5}`.
            skip_large: Pass over a node that does not fit and go on; False: stop at the first.
            timeout: Seconds to wait, as for `build`.
            wait: False returns as soon as all are submitted.

        Returns:
            As `build` gives; its `left_out` says who did not fit and why.

        Raises:
            BuildError: If every node failed.
        """
        lifecycle, _ = self._ready()
        plan = self._planned(selection, available=dict(available), skip_large=skip_large)
        return self._engine.wait(lifecycle.build(plan, timeout=timeout, wait=wait))

    def release(self, selection: Selectable) -> NodeReport:
        """Give processes and their resources back; each node's `get_state()` is kept for its next build.

        Args:
            selection: Anything that `select` takes.

        Returns:
            Ids of the nodes that were released (`done`), and why others were not (`refused`, by id).
        """
        lifecycle, _ = self._ready()
        return self._engine.wait(lifecycle.release(self.select(selection).rows.tolist()))

    @checked(timeout=seconds, wait=flag)
    def rebuild(
        self, selection: Selectable = "state:failed", *, timeout: float | None = 120.0, wait: bool = True
    ) -> BuildReport:
        """Replace failed nodes, or bring released ones back, in their bundle or another, with their last state.

        Args:
            selection: Anything that `select` takes; by default all that failed.
            timeout: Seconds to wait, as for `build`.
            wait: False returns as soon as all are submitted.

        Returns:
            As `build` gives.

        Raises:
            CommandRefused: If no node of the selection failed or was released.
        """
        lifecycle, _ = self._ready()
        rows = self.select(selection).rows
        return self._engine.wait(lifecycle.rebuild(rows.tolist(), timeout=timeout, wait=wait))

    @checked(role=words, ids=listed)
    def add_nodes(
        self,
        count: int | None = None,
        role: str = "train",
        *,
        template: type | None = None,
        ids: Sequence[str] | None = None,
    ) -> Selection:
        """Add virtual nodes; they take part from the next round on.

        Args:
            count: How many; the numbering of `client_{i}` goes on.
            role: Roles joined by dashes, such as `train-eval`.
            template: Template of these nodes; None: that of the last group.
            ids: Their ids instead of `count`.

        Returns:
            The new nodes.

        Raises:
            ValueError: If the role or an id cannot be one, or an id is taken.
        """
        lifecycle, _ = self._ready()
        count = number_to_add(count, ids)
        parts = check_role(role).parts
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
            checked = check_template(chosen, "template", parts, self._spec.placement.isolation)
            rows = self._core.append(segment, role, checked, {})
            for row in rows if self._state.kept.has_left else ():
                self._state.kept.join(row, self.table.ids[row])
            told: dict[str, Any] = {"rows": [[rows.start, rows.stop]], "segment": segment.to_wire(), "role": role}
            if template is not None:
                told["template"] = f"{template.__module__}:{template.__qualname__}"
            text = f"{len(rows)} added with role {role}"
            self._state.record("node", "info", segment[0], text, "virtual", {**told, "state": "virtual"})
            lifecycle.directory.follow()
            await lifecycle.directory.told()
            return rows

        return Selection(self, np.asarray(self._engine.wait(add()), dtype=np.intp))

    @checked(keep_state=flag, timeout=seconds)
    def remove_nodes(
        self, selection: Selectable, *, keep_state: bool = False, timeout: float | None = 60.0
    ) -> NodeReport:
        """Forget nodes; their processes end and their bundles are free for others.

        Args:
            selection: Anything that `select` takes.
            keep_state: Keep what `get_state` gives: a node that is added later under the same id gets it back.
            timeout: Seconds to let nodes finish the round in which they are at work; 0 refuses those.

        Returns:
            Ids of the nodes that were removed (`done`), and why others were not (`refused`, by id).
        """
        lifecycle, _ = self._ready()
        rows = self.select(selection).rows
        return self._engine.wait(lifecycle.remove(rows, keep_state=keep_state, timeout=timeout))

    @checked(count=count, resources=amounts)
    def add_bundles(self, count: int, resources: Mapping[str, float]) -> list[int]:
        """Grow the pool.

        Args:
            count: How many bundles.
            resources: What each of them has, such as `{"CPU": 1, "GPU": 0.5}`.

        Returns:
            The indices of the new bundles.

        Raises:
            CommandRefused: If the pool is a placement group that was given.
            PlacementError: If they do not fit; nothing stays reserved.
        """
        lifecycle, _ = self._ready()
        return self._engine.wait(lifecycle.add_bundles(bundles_of(count, resources)))

    def remove_bundles(self) -> list[int]:
        """Shrink the pool by the bundles that were added last; idle nodes in them are released, states are kept.

        Returns:
            The indices of the bundles that were given back.

        Raises:
            CommandRefused: If no bundles were added, or nodes in them are at work.
        """
        lifecycle, _ = self._ready()
        return self._engine.wait(lifecycle.remove_bundles())

    def release_bundles(self) -> NodeReport:
        """Release all nodes, the server included, and give the federation's bundles back to the cluster.

        Others can use the resources; states and parameters are kept, and the next build reserves the bundles again.

        Returns:
            Ids of the nodes that were released.

        Raises:
            CommandRefused: If rounds or a session run, or the bundles belong to a placement group that was given.
        """
        lifecycle, _ = self._ready()
        if self.running:
            raise CommandRefused("rounds or a session run: stop them first, then give the bundles back")
        return self._engine.wait(lifecycle.release_bundles())

    @checked(bundle_idx=bundle, timeout=seconds)
    def move(self, selection: Selectable, bundle_idx: int, *, timeout: float | None = 120.0) -> BuildReport:
        """Move idle nodes to another bundle, with their state.

        Args:
            selection: Anything that `select` takes.
            bundle_idx: Index of the bundle, from 1.
            timeout: Seconds to wait, as for `build`.

        Returns:
            As `build` gives.

        Raises:
            CommandRefused: If there is no such bundle, or it has no room.
        """
        lifecycle, _ = self._ready()
        rows = np.asarray(self.select(selection).rows, dtype=np.int64)
        return self._engine.wait(lifecycle.move(rows, bundle_idx, timeout=timeout))

    @property
    def round_settings(self) -> dict[str, Any]:
        """What `set_round` can change, with its value in the next rounds, by name.

        `fraction`, `deadline` (seconds), `min_results`, `evaluate_every` and `exact`, then the keys of the nodes'
        config; of a key that groups of nodes have with different values, all of them.
        """
        return self._state.terms.values()

    @checked(changes=changes)
    def set_round(self, changes: Mapping[str, Any] | None = None, /, **values: Any) -> list[Change]:
        """Change how the next rounds are run and what nodes are told in them; a round in hand stays as it is.

        Nodes find the keys in `fit`'s and `evaluate`'s `config`, and in `self.config`; a key reaches every node, over
        what its group of nodes has.  What a template took from its config in `build` it keeps until it is rebuilt.

        Args:
            changes: New values by name; `+momentum` makes a key that nodes do not have yet, and `config.fraction` is
                the key `fraction` of the config where there is one.
            **values: The same, as keywords: `set_round(learning_rate=0.1, deadline=30)`.

        Returns:
            What changed, with what it was before.

        Raises:
            CommandRefused: If a name or a value cannot be; then nothing changes.
        """
        return self.change_rounds(one_of_each(changes or {}, values))

    def change_rounds(
        self, changes: Mapping[str, Any], who: str = "", data: Mapping[str, Any] | None = None
    ) -> list[Change]:
        """`set_round`, with who asked for it and what else the journal is to hold of that."""

        async def change() -> list[Change]:
            state = self._state
            found = state.terms.change(changes)
            if not self._core.rounds_run:
                state.terms.begin()
            told = ", ".join(map(str, found)) or f"{', '.join(changes) or 'nothing'}: as before"
            text = f"{told}; from round {self._core.next_round} on" if found else told
            kept = {"changed": {change.name: change.new for change in found}} if found else {}
            if found or data:
                kind, subject = ("operator", who) if who else ("round", "next rounds")
                state.record(kind, "info", subject, f"sets {text}" if who else text, data={**kept, **(data or {})})
            return found

        return self._engine.wait(change())

    def restore_rounds(self, changes: Mapping[str, Any]) -> list[str]:
        """Go by what a journal says was changed; gives the names of what cannot be taken over any more."""
        return self._state.terms.restore(changes)

    # -- rounds ----------------------------------------------------------------------------------

    def run_round(self, *, nodes: Selectable = None) -> RoundResult:
        """Run one round: builds what it needs, then fit, aggregate and evaluate.

        Args:
            nodes: Those that may take part, such as a wave: nobody else is built; None: all that are eligible.

        Returns:
            The round: loss and metrics, who took part, who failed and why.

        Raises:
            RoundError: If nobody could take part or too few answered; parameters stay as they were.
            CommandRefused: If rounds run already.
        """
        rounds = self.run(1, nodes=nodes).rounds
        if not rounds:
            raise RoundError("the round was stopped before its end: it does not count", round_number=None, failed={})
        return rounds[-1]

    @checked(rounds=count, until=condition)
    def run(self, rounds: int = 1, until: str | None = None, *, nodes: Selectable = None) -> History:
        """Run rounds until there were so many, or until a condition holds.

        Args:
            rounds: How many.
            until: What ends the run before: a measure (`accuracy>0.95`), a time (`14:30`), a span (`+20m`), or several
                joined by `or`.
            nodes: Those that may take part; see `run_round`.

        Returns:
            The history of this run.

        Raises:
            RoundError: If a round failed, and no round of this run counts.
            SelectionError: If `until` cannot be read.
            CommandRefused: If rounds or a session run already.
        """
        among = self._among(nodes)
        _, runner = self._ready()

        async def run() -> int:
            self._refuse_in_session()
            return await runner.start(rounds, until, among=among)

        done = self._engine.wait(run())
        return self._history(done)

    def _history(self, last: int | None = None) -> History:
        """The last finished rounds, or all."""
        kept = self._state.node_figures.read if self._state.settings.node_history else None
        return self._state.history.history(kept, last)

    def _run_ended(self, task: asyncio.Task[int]) -> None:
        """A run in the background is over; `history` has the result."""

    def _among(self, nodes: Selectable) -> IntArray | None:
        """Rows of the nodes that may take part in rounds."""
        if nodes is None:
            return None
        rows = np.asarray(self.select(nodes).rows, dtype=np.int64)
        if not len(rows):
            raise CommandRefused("nodes names nobody who could take part in a round: see fed.select(...)")
        return rows

    def plan_round(self, *, nodes: Selectable = None) -> RoundPlan:
        """Plan the next round: who takes part, in how many turns, how many processes it starts.  Does nothing.

        Args:
            nodes: Those that may take part; see `run_round`.

        Returns:
            The plan; its `seconds` are known once a process has been started.
        """
        among = self._among(nodes)
        _, runner = self._ready()

        async def plan() -> RoundPlan:
            return await runner.plan(among)

        return self._engine.wait(plan())

    @checked(rounds=count, until=condition)
    def start_run(self, rounds: int, until: str | None = None, *, nodes: Selectable = None) -> None:
        """Run rounds in the background; `running` says whether they still run, `history` has what came of them.

        Args:
            rounds: How many.
            until: What ends the run before; see `run`.
            nodes: Those that may take part; see `run_round`.

        Raises:
            SelectionError: If `until` cannot be read.
            CommandRefused: If rounds or a session run already.
        """
        among = self._among(nodes)
        _, runner = self._ready()

        async def start() -> None:
            self._refuse_in_session()
            # A run in the background keeps its federation, whoever drops it.
            runner.start(rounds, until, among=among).add_done_callback(self._run_ended)

        self._engine.wait(start())

    @checked(now=flag)
    def stop(self, now: bool = False) -> str:
        """End a session; or a run of rounds after its present round.

        Args:
            now: End the round in hand too; it then does not count.

        Returns:
            What is ended, in words, such as which round is the last.

        Raises:
            CommandRefused: If nothing runs.
        """
        _, runner = self._ready()
        if self._core.session_runs:
            return self.stop_session()

        async def stop() -> str:
            return runner.stop(now)

        return self._engine.wait(stop())

    @property
    def history(self) -> History:
        """All finished rounds."""
        return self._history()

    @property
    def parameters_reference(self) -> Any:
        """Reference to the current global parameters, or None before the first round."""
        return self._state.parameters

    @property
    def topology(self) -> FederationTopology:
        """Who is whose neighbour: `fed.topology.neighbors("client_1")`."""
        return self._state.topology

    def set_topology(self, topology: Any, **options: Any) -> Topology:
        """Change who is whose neighbour; rounds go by it from the next mixing on, sessions at once.

        In a star a server aggregates; in every other topology a round is local `fit`, then gossip with
        Metropolis-Hastings weights between neighbours.

        Args:
            topology: Name of a rule (`ring`, `mesh`, ...), a `TopologyRule`, or a `networkx.Graph` over ids.
            **options: Of the rule: `k`, `seed`, `branching`, `rewire`, `adjacency`.

        Returns:
            The new topology.

        Raises:
            TopologyError: If the rule, its options and the nodes do not go together; all stays as it was.
        """
        rule = rule_of(topology, options)
        lifecycle, _ = self._ready()

        async def change() -> Topology:
            self._state.topology.use(rule)
            made = self._state.topology.current()
            level = "warn" if len(made.components()) > 1 else "info"
            self._state.record("federation", level, "topology", str(made), data={"topology": rule.to_wire()})
            if self._core.sessions is not None:
                await self._core.sessions.relink()
            lifecycle.directory.follow()
            await lifecycle.directory.told()
            return made

        return self._engine.wait(change())

    def announce(self, kind: str, level: str, subject: str, text: str, data: Mapping[str, Any] | None = None) -> None:
        """Put an event into the journal.

        Args:
            kind: What it is about, such as `federation` or `operator`.
            level: `info`, `warn` or `error`.
            subject: Whom or what it concerns.
            text: What happened, in a line.
            data: Plain data that goes with it.
        """

        async def record() -> None:
            self._state.record(kind, level, subject, text, data=data)

        self._engine.wait(record())

    def warn(self, what: str, text: str) -> None:
        """Show a standing warning about something, or take it back.

        Args:
            what: What it is about; there is one warning of each.
            text: The warning; empty takes it back.
        """

        async def show() -> None:
            self._state.trouble(what, text)

        self._engine.wait(show())

    def explain(self, node: str | VirtualNode) -> Explanation:
        """Say why a node is as it is: what it asks, what each host has, and what would make it fit.

        Args:
            node: A node, or its id.

        Returns:
            The explanation: print it.

        Raises:
            CommandRefused: If there is no such node.
        """
        lifecycle, _ = self._ready()
        rows = self.select([node]).rows
        return Explainer(lifecycle).node(int(rows[0]))

    def describe(self) -> Description:
        """The layout in effect, with all defaults, and where it differs from its file: `print(fed.describe())`.

        What is changed while the federation runs counts: settings of the next rounds, config keys, who joined and who
        left, the topology.

        Raises:
            LayoutError: If a script made the federation in a way that no layout can say.
        """
        origin = self._spec.topology or self._rule or TopologyRule()
        return describe(self._state, self._spec, type(self), origin)

    def describe_node(self, node_id: str) -> dict[str, Any]:
        """Give all that this federation knows of one node.

        Args:
            node_id: Its id.

        Returns:
            Plain data: state, bundle, counters, last metrics, last log lines, last error.

        Raises:
            KeyError: If there is no such node.
        """
        return describe_node(self._state, self[node_id])

    @checked(timeout=seconds)
    def parameters(self, timeout: float = 60.0) -> Parameters:
        """Fetch the current global parameters into this process.

        Args:
            timeout: Seconds to wait for them.

        Returns:
            Arrays by name; read-only where they lie in the object store.

        Raises:
            CommandRefused: If there are none before the first round.
        """
        import ray

        if self._core.past is not None:
            self._ready()
        reference = self._state.parameters
        if reference is None:
            if self._core.given is not None:
                return dict(self._core.given)
            raise CommandRefused("there are no parameters yet: run a round first, or pass initial_parameters")
        return cast("Parameters", ray.get(reference, timeout=timeout))

    # -- sessions and messages -------------------------------------------------------------------

    @property
    def session(self) -> SessionStatus:
        """Whether a session runs, since when and with how many nodes."""
        return self._state.session

    @property
    def topology_version(self) -> list[int]:
        """Changes when another topology is set, and when nodes join or leave."""
        return self._state.topology_version()

    @checked(server_args=keywords, blocking=flag)
    def train(
        self, server_args: Mapping[str, Any] | None = None, client_args: Arguments | None = None, blocking: bool = True
    ) -> SessionResult | None:
        """A session: builds the train nodes that are not built, links them and lets each run its `train`.

        Args:
            server_args: Reach the server's `train`, where its template has one.
            client_args: For all alike (a dict), one a node (a list), or by id (a dict of dicts).
            blocking: False returns at once; `running` says for how long, `stop` ends it.

        Returns:
            The result; None if not `blocking`.

        Raises:
            CommandRefused: If rounds or a session run already, or nobody can take part.
            SessionError: If nodes could not be built or linked, or it was stopped before they were.
        """
        _, runner = self._ready()
        sessions = self._core.talking()

        def refuse_in_rounds() -> None:
            if runner.running:
                raise CommandRefused("rounds run: stop them, or wait until they are done")

        async def begin() -> Any:
            refuse_in_rounds()
            rows = await runner.eligible_for_all("train")
            # A run may have begun while `should_participate` was asked.
            refuse_in_rounds()
            task = sessions.start(rows, server_args or {}, client_args or {})
            self._state.set_session(running=True, nodes=len(rows), started=time.time(), stopping=False)
            task.add_done_callback(self._session_ended)
            return task

        task = self._engine.wait(begin())
        if not blocking:
            return None

        async def result() -> SessionResult:
            await asyncio.wait([task])
            if task.cancelled():
                raise SessionError("the session was ended before its nodes were at work", failed={})
            made: SessionResult = task.result()
            return made

        return self._engine.wait(result())

    def _refuse_in_session(self) -> None:
        """Raise CommandRefused while a session runs: its nodes cannot take part in rounds."""
        if self._core.session_runs:
            raise CommandRefused("a session runs: stop it first, or wait until it is done")

    def _session_ended(self, task: asyncio.Task[SessionResult]) -> None:
        """Say that no session runs, and why one could not go on: nobody may be waiting for it."""
        self._state.set_session(running=False, stopping=False)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._state.record("federation", "error", "session", f"could not go on: {first_sentence(str(error), 400)}")

    @checked(timeout=seconds)
    def stop_session(self, timeout: float = STOP_TIMEOUT) -> str:
        """End a session: STOP reaches each node.

        Args:
            timeout: Seconds that a node has to come back; the process of one that does not is ended.

        Returns:
            What is ended, in words.

        Raises:
            CommandRefused: If no session runs.
        """
        sessions = self._core.talking()

        async def stop() -> str:
            if sessions.running:
                self._state.set_session(stopping=True)
            return await sessions.stop(timeout)

        return self._engine.wait(stop())

    def send(self, header: str, body: Any = None, to: Selectable = None) -> int:
        """Send a message from outside to nodes; they read `supervisor` as its sender.

        Args:
            header: What the message is about.
            body: What it brings: anything that can be pickled.
            to: A query, ids or nodes; None: all that are built.

        Returns:
            To how many it went.

        Raises:
            MessageError: If a receiver that was named is not built, or the body cannot be sent.
        """
        sessions = self._core.talking()
        rows = np.asarray(self.select(to).rows, dtype=np.int64)
        if isinstance(to, str) and len(rows) == 0:
            raise MessageError(
                f"{to!r} is no node of federation {self._state.fed_id!r}, and no query that finds one (fed.node_ids)",
                node=to,
            )
        return self._engine.wait(sessions.send(header, body, rows, to is not None))

    @checked(timeout=seconds)
    def traffic(self, timeout: float = 5.0) -> dict[str, dict[str, Any]]:
        """What the nodes of the last session sent and received, by id; empty if there was none.

        `FED/topology` is asked, which asks the nodes: none of it goes through this federation's engine.
        """
        import ray

        lifecycle = self._core.lifecycle
        directory = lifecycle.directory.handle if lifecycle is not None else None
        if directory is None:
            return {}
        try:
            told: dict[str, dict[str, Any]] = ray.get(directory.statistics.remote(False), timeout=timeout)["nodes"]
        except ray.exceptions.RayError:
            # It has just ended and is made anew, or is slow: who looks again sees it.
            return {}
        return told

    @checked(timeout=seconds)
    def pull_version(self, ids: str | Sequence[str], timeout: float = 5.0) -> Any:
        """Give what nodes published last with `update_version`.

        Args:
            ids: Id of one node, or ids of several.
            timeout: Seconds to wait for a node that has published nothing yet.

        Returns:
            The version of the one node, or versions by id.

        Raises:
            SessionError: If one is not built or publishes nothing within `timeout` seconds.
        """
        sessions = self._core.talking()
        names = [ids] if isinstance(ids, str) else list(ids)
        rows = np.asarray(self.select(names).rows, dtype=np.int64)
        found = self._engine.wait(sessions.pull(rows, timeout))
        return found[ids] if isinstance(ids, str) else found

    @checked(phase=words, aggregate=flag)
    def test(self, phase: str = "test", aggregate: bool = True, **kwargs: Any) -> Any:
        """Let the nodes with the role test judge; those that are not built are built.

        Args:
            phase: Reaches each node's `test`, such as `test` or `validation`.
            aggregate: Give the mean weighted by the nodes' weights; False: value and weight of each node.
            **kwargs: Reach each node's `test`.

        Returns:
            The weighted mean, or (value, weight) by id.

        Raises:
            CommandRefused: If no node has the role test.
            SessionError: If nodes could not be built, or failed.
        """
        _, runner = self._ready()
        sessions = self._core.talking()

        async def judge() -> dict[str, tuple[float, float]]:
            rows = await runner.eligible_for_all("test")
            if len(rows) == 0:
                raise CommandRefused("no node with the role test is idle: give one the role train-test, say")
            return await sessions.test(rows, phase, kwargs)

        found = self._engine.wait(judge())
        if not aggregate:
            return found
        total = sum(weight for _, weight in found.values())
        if total <= 0:
            raise CommandRefused("the weights of all tests add up to 0: there is no mean")
        return sum(value * weight for value, weight in found.values()) / total

    # -- what a `VirtualNode` asks of its owner ------------------------------------------------------

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

    # -- going on where another process left it ----------------------------------------------------

    def take_up(self, past: RecoveredState, groups: Sequence[Any], actors: Mapping[str, Any]) -> SurvivingProcesses:
        """Go on where a federation of the same parts ended: its table, rounds and parameters, and what lives of it.

        Args:
            past: What its journal says.
            groups: Its placement groups, in order; none if they are gone.
            actors: Handles of its named actors by the name after `FED/`, the supervisor's excepted.
        """
        return self._core.take_up(past, groups, actors)

    def resume(self, past: RecoveredState) -> None:
        """Go on where a federation of the same parts ended that has no processes any more.

        Table and history are taken over at once; the parameters are loaded at the first verb that needs Ray.
        """
        self._core.resume(past)

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End all processes of the federation, give its bundles back and end its engine.  Idempotent.

        Returns when Ray counts its resources as free, after 10 s at the latest; the log tells if they are not then.
        """
        self._core.lifecycle = None
        try:
            self._core.shutdown.run()
        finally:
            FEDERATIONS.remove(self._core.shutdown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _raise_refusal(refused: Mapping[str, str]) -> None:
    for node_id, why in refused.items():
        raise CommandRefused(why if why.startswith("node ") else f"node {node_id!r} {why}")


def open_federations() -> list[FederatedBase]:
    """The federations of this process that hold bundles: those of a notebook's earlier cells, say."""
    return FEDERATIONS.open()
