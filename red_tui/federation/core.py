"""What a federation is made of, how its parts are made ready, and how it goes on where another process left it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from red_tui.aggregation.server import (
    FederatedAggregator,
    FederatedServer,
    carries_state,
    needs_each,
    strategy_of,
)
from red_tui.aggregation.strategies import configures
from red_tui.checkpoints.sources import StartingPoint
from red_tui.federation.argument_checks import first_parameters
from red_tui.federation.engine import Engine
from red_tui.federation.feed import Feed
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.recovery import (
    JoinedNodes,
    RecoveredState,
    SurvivingProcesses,
    adopt,
    remember,
    rows_of_ranges,
    take_parameters,
)
from red_tui.federation.open_federations import FEDERATIONS, Shutdown
from red_tui.federation.pools import PoolMaker, make_pool
from red_tui.federation.reports import HERE, GroupDefinition, Residence
from red_tui.federation.rounds.hook_calls import HookCalls
from red_tui.federation.rounds.runner import RoundRunner
from red_tui.federation.sessions import Sessions
from red_tui.federation.spec import FederationSpec, check_template
from red_tui.federation.state import FederationState, Hosting
from red_tui.messaging import TopologyRule
from red_tui.node_states.kept_states import KeptStates
from red_tui.node_states.state_files import StatePlace
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.ids import SERVER_ID, ListedIds, PatternIds, Segment
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray


def core_of(federation: Any) -> FederationCore:
    """The parts of a federation: they are this package's own and may change with any version."""
    core: FederationCore = federation._core
    return core


class FederationCore:
    """The parts of one federation; its verbs are `FederatedBase`'s.

    Args:
        spec: What it is made of.
        rule: Who is whose neighbour.
        aggregator_template: Template of a hierarchy's aggregators; None: the spec's.
        criterion: Whether the node of a row takes part in the next round; None: all do.  The engine's thread refers to
            it, so it must not keep the federation alive.
        residence: Where it lives, and who keeps what it does.

    Raises:
        TypeError: If a template is none, or parameters are not arrays.
        ValueError: If parts contradict each other.
    """

    def __init__(
        self,
        spec: FederationSpec,
        rule: TopologyRule,
        aggregator_template: type | None,
        criterion: Callable[[int], bool] | None,
        residence: Residence = HERE,
    ) -> None:
        placement = spec.placement
        home = StatePlace(f"federations/{spec.config.federation_id}/states", at_home=True)
        strategy = strategy_of(spec.settings.choice)
        given: Any = spec.initial_parameters
        if given is not None and not isinstance(given, StartingPoint):
            given = first_parameters(given)
        server = check_template(spec.server_template, "server_template", ("server",), "process")
        if not issubclass(server, FederatedServer):
            raise TypeError(f"server_template must derive from red_tui.FederatedServer, not {server.__name__}")
        self.spec = spec
        self.state = FederationState(
            spec.config,
            spec.settings,
            spec.failure,
            spec.log or logging.getLogger(f"red_tui.federation.{spec.config.federation_id}"),
            detached=residence.detached,
            namespace=residence.namespace,
            recorder=residence.recorder,
            keeper=residence.keeper,
            mailbox=spec.mailbox,
            kept=KeptStates(placement.state_memory, home if residence.detached else None),
            hosting=Hosting(placement.isolation, placement.nodes_per_bundle, placement.concurrency),
            evaluator=spec.evaluator,
        )
        self.needs_each = needs_each(server, strategy)
        self.carries_state = carries_state(server, strategy)
        """Whether something goes along with the parameters: the strategy's state, or what the server's class keeps."""
        self._memoryless, self._configures = strategy.memoryless, configures(strategy)
        self.table = self.state.table
        aggregator = self._check_aggregator(aggregator_template or spec.aggregator_template, rule)
        self.engine = Engine(self.state.fed_id)
        self.lifecycle: Lifecycle | None = None
        self.runner: RoundRunner | None = None
        self.sessions: Sessions | None = None
        self.given = given
        self._criterion = criterion
        self.past: RecoveredState | None = None
        """What is to be gone on with, until the first verb that needs Ray."""
        self._resuming = threading.Lock()
        self.feed = Feed(self.state, spec)
        self.state.groups.append(GroupDefinition(server, row_start=0))
        self.table.append(ListedIds((SERVER_ID,)), "server", 0)
        for group in spec.groups:
            self.append(group.ids, group.role, group.template, group.config)
        if rule.hierarchy is not None:
            self.append(ListedIds(tuple(rule.hierarchy.aggregators)), AGGREGATOR_ROLE, aggregator, {})
        self.state.topology.use(rule)
        self.shutdown = Shutdown(self.state.fed_id, residence.namespace, self.engine)

    def _check_aggregator(self, template: Any, rule: TopologyRule) -> type:
        """The template of a hierarchy's aggregators.

        Raises:
            TypeError: If it is none.
            ValueError: If the strategy or the server wants every update: aggregators pass one mean on.
        """
        made = check_template(template, "aggregator_template", (AGGREGATOR_ROLE,))
        if not issubclass(made, FederatedAggregator):
            raise TypeError(f"aggregator_template must derive from red_tui.FederatedAggregator, not {made.__name__}")
        if rule.hierarchy is not None and self.needs_each:
            name = self.spec.settings.choice["name"]
            raise ValueError(
                f"a hierarchy passes each group's mean on, and strategy {name!r} with the server"
                f" {self.spec.server_template.__name__} needs every update: use a strategy of means (fedavg, fedavgm,"
                " fedadagrad, fedadam, fedyogi) with a server that does not override aggregate, or a star"
            )
        return made

    def append(self, ids: Segment, role: str | Sequence[str], template: type, config: Mapping[str, Any]) -> range:
        """Add nodes to the table, as a group of their own; gives their rows."""
        state = self.state
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

    def server_rows(self) -> IntArray:
        """The row of the server, if it is there."""
        row = self.table.row_of(SERVER_ID)
        return np.asarray([] if row is None else [row], dtype=np.intp)

    def client_rows(self) -> IntArray:
        """Rows of the client nodes, in order."""
        return np.setdiff1d(np.flatnonzero(self.table.present()), self.server_rows(), assume_unique=True)

    # -- what needs Ray --------------------------------------------------------------------------

    def _pool_maker(self) -> PoolMaker:
        spec, state = self.spec, self.state
        tell = partial(self.engine.post, state.record, "cluster", "warn", "pool")
        layout = bool(spec.layout_path)
        return PoolMaker(spec.placement, self.state.num_clients, self.state.fed_id, state.detached, layout, tell)

    def ready(self) -> tuple[Lifecycle, RoundRunner]:
        """The parts that need Ray, made at the first verb that does.  What is to be resumed is loaded then."""
        if self.lifecycle is None or self.runner is None:
            if self.state.pool is None:
                self.state.pool = make_pool(self._pool_maker())
            admit = partial(FEDERATIONS.admit, self.shutdown, self.spec.placement.wait_for_resources)

            async def make() -> tuple[Lifecycle, RoundRunner]:
                lifecycle = Lifecycle(self.state, self.engine, admit)
                hooks = HookCalls(self.state, self.engine, self.spec.hooks) if self.spec.hooks else None
                self.shutdown.hooks = hooks
                runner = RoundRunner(
                    self.state,
                    lifecycle,
                    self._criterion,
                    self.given,
                    self.needs_each,
                    memoryless=self._memoryless,
                    carries_state=self.carries_state,
                    configures=self._configures,
                    hooks=hooks,
                )
                return lifecycle, runner

            self.lifecycle, self.runner = self.engine.wait(make())
            self.shutdown.begin(self.lifecycle, self.runner)
        lifecycle, runner = self.lifecycle, self.runner
        with self._resuming:
            past, self.past = self.past, None
            if past is not None:
                self.engine.wait(self._load_past(lifecycle, runner, past))
        return lifecycle, runner

    def talking(self) -> Sessions:
        """The sessions of this federation, made at the first verb that needs them."""
        lifecycle, _ = self.ready()
        if self.sessions is None:
            self.sessions = self.shutdown.sessions = Sessions(lifecycle)
        return self.sessions

    @property
    def rounds_run(self) -> bool:
        """Whether rounds run."""
        return self.runner is not None and self.runner.running

    @property
    def session_runs(self) -> bool:
        """Whether a session runs."""
        return self.sessions is not None and self.sessions.running

    @property
    def next_round(self) -> int:
        """Number of the round that begins next."""
        return self.runner.in_hand + 1 if self.runner is not None and self.runner.running else self.state.completed + 1

    # -- going on --------------------------------------------------------------------------------

    def take_up(self, past: RecoveredState, groups: Sequence[Any], actors: Mapping[str, Any]) -> SurvivingProcesses:
        """Go on where a federation of the same parts ended: its table, rounds and parameters, and what lives of it.

        Args:
            past: What its journal says.
            groups: Its placement groups, in order; none if they are gone.
            actors: Handles of its named actors by the name after `FED/`, the supervisor's excepted.
        """
        for joined in past.joined:
            self._join(joined, past.states)
        if groups:
            self.state.pool = self._pool_maker().existing(groups)
        lifecycle, runner = self.ready()

        async def take_up() -> SurvivingProcesses:
            state = self.state
            had = remember(state, past)
            lifecycle.states.open(sweep=not actors)
            found = await adopt(lifecycle, past, had, actors)
            completed = await _take_over_rounds(lifecycle, runner, past, found)
            state.record("federation", "warn", state.fed_id, f"taken up again after round {completed}: {found}")
            _tell_interrupted(state, past, "the supervisor")
            if past.run is not None and past.run[0] > completed:
                among = None if past.among is None else rows_of_ranges(past.among)
                first = past.run_first if past.run_first <= completed else 0
                runner.start(past.run[0] - completed, past.run[1], resumed=True, among=among, first=first)
            return found

        return self.engine.wait(take_up())

    def resume(self, past: RecoveredState) -> None:
        """Go on where a federation of the same parts ended that has no processes any more.

        Table and history are taken over at once; the parameters are loaded at the first verb that needs Ray.
        """
        for joined in past.joined:
            self._join(joined, past.states)

        async def take_over() -> None:
            remember(self.state, past)
            self.state.set_round(number=self.state.completed)

        self.engine.wait(take_over())
        self.past = past

    async def _load_past(self, lifecycle: Lifecycle, runner: RoundRunner, past: RecoveredState) -> None:
        lifecycle.states.open(sweep=True)
        found = SurvivingProcesses()
        completed = await _take_over_rounds(lifecycle, runner, past, found)
        source = f": parameters from {found.parameters_from}" if found.parameters_from else ""
        self.state.record("federation", "info", self.state.fed_id, f"resumed after round {completed}{source}")
        _tell_interrupted(self.state, past, "the script")

    def _join(self, joined: JoinedNodes, states: IntArray) -> None:
        """Append the rows of nodes that joined; nobody is in those of whom it is not known who they were."""
        table, removed = self.table, NodeState.REMOVED
        # An id may have come back after its node had left.
        table.set(np.flatnonzero(states[: len(table)] == removed.code), state=removed)
        template, lost = joined.template or self.spec.groups[-1].template, joined.lost
        try:
            rows = self.append(joined.ids, joined.role, template, {})
        except ValueError as error:
            self.state.log.error("nodes that joined are left out: %s", error)
            rows = self.append(PatternIds("lost_", "", len(table), len(joined.ids)), "train", template, {})
            lost = True
        if lost:
            states[rows.start : rows.stop] = removed.code


async def _take_over_rounds(
    lifecycle: Lifecycle, runner: RoundRunner, past: RecoveredState, found: SurvivingProcesses
) -> int:
    """Go on with the parameters of the last finished round; gives its number."""
    state = lifecycle.state
    if past.damage:
        state.trouble("journal damage", past.damage)
        state.record("federation", "error", "journal", past.damage)
    taken = await take_parameters(lifecycle, runner.completed, found, bool(past.damage), runner.carries_state)
    completed = runner.completed
    runner.take_over(completed, taken.parameters, taken.server_state, taken.holder)
    if runner.gossips and taken.parameters is not None:
        found.models, found.from_mean = await runner.gossip.take_over(completed)
    return completed


def _tell_interrupted(state: FederationState, past: RecoveredState, ended: str) -> None:
    """Note that a round had begun that does not count."""
    if past.interrupted is not None and past.interrupted > state.completed:
        text = f"interrupted by the end of {ended}: it does not count"
        state.record("round", "warn", f"round {past.interrupted}", text, data={"stopped": past.interrupted})
