"""A federation that is taken up again: from what its journal says, and from what still lives of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from red_tui.aggregation.server import strategy_of
from red_tui.aggregation.strategies import keeps_state as strategy_keeps_state
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.lifelines import gone
from red_tui.federation.lifecycle.topology_publisher import NAME as DIRECTORY
from red_tui.federation.reports import CheckpointStore, LoadedCheckpoint
from red_tui.federation.state import FederationState
from red_tui.node_states.kept_states import Kept
from red_tui.nodes.failures import Cause, first_sentence
from red_tui.nodes.ids import SERVER_ID, Segment
from red_tui.nodes.states import HOLDING, NodeState
from red_tui.nodes.table import BoolArray, IntArray, bundle_spans, row_ranges
from red_tui.protocol.events import TRACE
from red_tui.rounds.history import NodeNames, RoundResult
from red_tui.rounds.ray_calls import answer_of, discard
from red_tui.runtime.bundle_handle import BundleProcess, bundle_actor_name
from red_tui.runtime.node_actor import NodeProcess
from red_tui.runtime.node_runtime import keeps_state

ANSWER_TIMEOUT = 20.0
"""Seconds that an actor which is found by its name may take to say what it is: one that does not is ended."""

BUILT_CODES = tuple(state.code for state in HOLDING)


@dataclass(frozen=True)
class JoinedNodes:
    """Nodes that joined a federation after it was launched.

    Attributes:
        ids: Their ids.
        role: Their role, or one for each.
        template: Their template; None for the layout's.
        lost: Whether it is not known who they were: their rows are kept, and they are gone.
    """

    ids: Segment
    role: str | Sequence[str]
    template: type | None = None
    lost: bool = False


@dataclass(frozen=True)
class RecoveredState:
    """What is known of a federation from before.

    Attributes:
        joined: Nodes that joined it, in order.
        states: State code of each row.
        bundles: Bundle of each row, -1 for none.
        rounds: Finished rounds, as their events hold them.
        failed_rounds: Rounds that did not count.
        interrupted: A round that had begun and not ended.
        run: The run of rounds that had not ended: last round, and the condition that ends it before.
        last_seq: The last event.
        events: The last events, for those who watch.
    """

    joined: Sequence[JoinedNodes]
    states: IntArray
    bundles: IntArray
    rounds: Sequence[Mapping[str, Any]] = ()
    failed_rounds: Sequence[Mapping[str, Any]] = ()
    interrupted: int | None = None
    run: tuple[int, str | None] | None = None
    last_seq: int = 0
    events: Sequence[Any] = ()
    died: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Rows that failed because their process ended: those that the policy rebuilds."""
    rounds_before: int = 0
    """The round after which rounds go on, where a damaged journal has lost those up to it."""
    damage: str = ""
    """What of the journal could not be read, in a line; or nothing."""
    among: Sequence[Sequence[int]] | None = None
    """Ranges of the rows that may take part in `run`; None: all."""
    run_first: int = 0
    """Number of the first round of `run`; 0 where it is not known."""


@dataclass
class SurvivingProcesses:
    """What came of taking a federation up again.

    Attributes:
        adopted: Nodes that live on.
        lost: Nodes that had a process and have none any more.
        ended: Processes that were found and could not be used.
        parameters_from: Where the parameters come from: `server`, a checkpoint, or nothing.
        models: Nodes that go on from their own models, where neighbours mix them.
        from_mean: Nodes whose own models are lost: they go on from the mean of all, which is those parameters.
    """

    adopted: int = 0
    lost: int = 0
    ended: list[str] = field(default_factory=list)
    parameters_from: str = ""
    models: int = 0
    from_mean: int = 0

    def __str__(self) -> str:
        parts = [f"{self.adopted} nodes live on"]
        if self.lost:
            parts.append(f"{self.lost} are lost")
        if self.ended:
            parts.append(f"{len(self.ended)} unfinished processes were ended")
        if self.parameters_from:
            parts.append(f"parameters from {self.parameters_from}")
        if self.models:
            parts.append(f"{self.models} go on from their own models")
        if self.from_mean:
            parts.append(f"{self.from_mean} go on from the mean of all models, as their own are lost")
        return ", ".join(parts)


def remember(state: FederationState, past: RecoveredState) -> BoolArray:
    """Write the past into the table and the history; gives which rows had a process."""
    table = state.table
    codes, bundles = past.states[: len(table)], past.bundles[: len(table)]
    had: BoolArray = np.isin(codes, BUILT_CODES)
    settled = np.where(had, NodeState.RELEASED.code, codes)
    table.set(slice(0, len(table)), state=settled, bundle=np.where(had, -1, bundles))
    removed = settled == NodeState.REMOVED.code
    state.num_clients -= int(removed.sum())
    failed = np.flatnonzero(settled == NodeState.FAILED.code)
    died = set(past.died.tolist())
    for row in failed.tolist():
        state.causes[row] = Cause("it had failed before the supervisor was restarted: rebuild it", died=row in died)
    for wire in past.rounds:
        rows = rows_of_ranges(wire.get("rows") or ())
        result = RoundResult.from_wire(wire)
        if len(rows) == len(result.participants):
            inside = rows[rows < len(table)]
            table.set(inside, rounds=table.column("rounds")[inside] + 1)
            result = replace(result, participants=NodeNames(table.ids, rows))
        state.add_result(result)
    state.rounds_before = past.rounds_before
    state.failed_rounds += [{**wire, "state": "failed"} for wire in past.failed_rounds]
    state.last_seq = past.last_seq
    state.events.extend(past.events)
    return had


def rows_of_ranges(ranges: Sequence[Sequence[int]]) -> IntArray:
    """The rows that half-open ranges name."""
    if not len(ranges):
        return np.empty(0, dtype=np.int64)
    return np.concatenate([np.arange(int(first), int(stop)) for first, stop in ranges])


async def adopt(
    lifecycle: Lifecycle, past: RecoveredState, had: BoolArray, actors: Mapping[str, Any]
) -> SurvivingProcesses:
    """Take over what lives: `actors` are the handles of the federation's named actors, by name after `FED/`."""
    found = SurvivingProcesses()
    if actors:
        await lifecycle.bundles.refresh_hosts()
    hosts = {name: handle for name, handle in actors.items() if name.startswith("bundle-")}
    if DIRECTORY in actors:
        await lifecycle.directory.adopt(actors[DIRECTORY])
    nodes = {name: handle for name, handle in actors.items() if name not in hosts and name != DIRECTORY}
    await asyncio.gather(
        *(_adopt_host(lifecycle, int(name.partition("-")[2]), handle, found) for name, handle in hosts.items()),
        *(_adopt_node(lifecycle, past, name, handle, found) for name, handle in nodes.items()),
    )
    _tell_adopted(lifecycle)
    await _take_states(lifecycle)
    _fail_lost(lifecycle, past, had, found)
    return found


def _tell_adopted(lifecycle: Lifecycle) -> None:
    """The journal may not have heard of the last builds: it is told who lives, and where."""
    state, table = lifecycle.state, lifecycle.state.table
    rows = np.flatnonzero(table.in_states((NodeState.READY,)))
    if not len(rows):
        return
    for row in rows.tolist():
        state.causes.pop(row, None)
    spans = bundle_spans(rows, table.column("bundle")[rows])
    told = {"rows": row_ranges(rows), "state": str(NodeState.READY), "bundles": spans}
    state.record("node", TRACE, f"{len(rows)} nodes", "live on", str(NodeState.READY), told)


async def _take_states(lifecycle: Lifecycle) -> None:
    """States are kept by reference, and the references died with the supervisor: take them again."""
    state = lifecycle.state
    server = state.processes.get(state.server_row)
    # Of what lies in files the index says what counts; what a live node has beside that has not been told of.
    in_files = {row for row in state.kept if state.kept.stored(row) is not None}
    stored = np.fromiter(in_files, dtype=np.int64, count=len(in_files))
    asked: list[Any] = []
    if server is not None:
        asked.append(server.handle.red_kept.options(num_returns=2).remote())
    asked += [host.handle.snapshot.remote(stored) for host in state.bundle_actors.values()]
    for reported, states in asked:
        try:
            told = await answer_of(reported, ANSWER_TIMEOUT)
        except Exception as error:
            state.record(
                "federation", "warn", state.fed_id, f"states could not be taken over: {first_sentence(str(error))}"
            )
            continue
        rows, sizes = (told["rows"].tolist(), told["state_bytes"]) if isinstance(told, dict) else (told, ())
        lifecycle.states.hold(rows, states, sizes, but=in_files)
    for row, process in state.processes.items():
        if row != state.server_row and row not in in_files and keeps_state(lifecycle.template(row)):
            state.kept.hold(row, Kept(process.handle.red_state.remote()))
    lifecycle.states.look()


async def _adopt_host(lifecycle: Lifecycle, bundle: int, handle: Any, found: SurvivingProcesses) -> None:
    state, table = lifecycle.state, lifecycle.state.table
    name = bundle_actor_name(state.fed_id, bundle)
    host = BundleProcess(handle, name, bundle, handle.adopted.remote(), handle.lifeline.remote())
    told = await _told(host.hello, name, host, found)
    slot = lifecycle.pool.slot_of(bundle)
    if told is None or slot is None:
        if told is not None:
            host.kill()
        return
    rows = told["rows"]
    known = rows[(rows < len(table)) & (rows >= 0)]
    known = known[table.in_states((NodeState.RELEASED, NodeState.VIRTUAL))[known]]
    strangers = np.setdiff1d(rows, known)
    if len(strangers):
        handle.discard.remote(strangers.tolist())
    lifecycle.bundle_nodes.adopt(host, {key: told[key] for key in ("pid", "host")}, known)
    found.adopted += len(known)
    if not len(known):
        await lifecycle.bundle_nodes.end_empty([bundle])


async def _adopt_node(
    lifecycle: Lifecycle, past: RecoveredState, name: str, handle: Any, found: SurvivingProcesses
) -> None:
    state, table = lifecycle.state, lifecycle.state.table
    row = table.row_of(name)
    process = NodeProcess(handle, f"{state.fed_id}/{name}", handle.red_status.remote(), handle.red_lifeline.remote())
    told = await _told(process.hello, process.name, process, found)
    if told is None:
        return
    bundle = int(past.bundles[row]) if row is not None and row < len(past.bundles) else -1
    slot = lifecycle.pool.slot_of(bundle) if bundle >= 0 else None
    if row is None or slot is None or not told["built"]:
        # It was being built, or given back, when the supervisor ended: it is rebuilt when it is needed.
        process.kill()
        found.ended.append(name)
        await gone(process.lifeline)
        return
    lifecycle.process_nodes.adopt(row, process, bundle, {key: told[key] for key in ("pid", "host")})
    found.adopted += name != SERVER_ID


async def _told(reference: Any, name: str, process: NodeProcess | BundleProcess, found: SurvivingProcesses) -> Any:
    """What an actor says of itself; one that says nothing is ended."""
    try:
        return await answer_of(reference, ANSWER_TIMEOUT)
    except Exception:
        process.kill()
        found.ended.append(name)
        return None


def _fail_lost(lifecycle: Lifecycle, past: RecoveredState, had: BoolArray, found: SurvivingProcesses) -> None:
    """Nodes that were ready and are not there any more failed while nobody looked; the policy rebuilds them."""
    state, table = lifecycle.state, lifecycle.state.table
    ready = np.isin(past.states[: len(table)], (NodeState.READY.code, NodeState.BUSY.code))
    lost = np.flatnonzero(had & ready & ~table.in_states(HOLDING))
    lost = lost[lost != state.server_row]
    if len(lost):
        found.lost = len(lost)
        table.set(lost, state=NodeState.READY, bundle=past.bundles[lost])
        lifecycle.node_failed(lost, Cause("its process ended while the federation had no supervisor", died=True))
    waiting = past.died[table.in_states((NodeState.FAILED,))[past.died]]
    waiting = np.setdiff1d(waiting, lost)
    if len(waiting):
        # They were about to be rebuilt when the supervisor ended.
        lifecycle.act_on_deaths(waiting)


@dataclass(frozen=True)
class TakenParameters:
    """Where the parameters after the last finished round lie.

    Attributes:
        parameters: Reference to them, or None.
        server_state: Reference to what goes with them, or None.
        holder: The server's process, if it holds them.
    """

    parameters: Any = None
    server_state: Any = None
    holder: NodeProcess | None = None


async def _load(keeper: CheckpointStore, completed: int, damaged: bool) -> LoadedCheckpoint | None:
    """The last good checkpoint up to a round; any, where the journal has lost rounds and there is none."""
    loaded = await keeper.load(completed) if completed else None
    if loaded is None and damaged:
        refused = dict(keeper.refused)
        loaded = await keeper.load(None)
        keeper.refused = {**refused, **keeper.refused}
    return loaded


async def take_parameters(
    lifecycle: Lifecycle, completed: int, found: SurvivingProcesses, damaged: bool, carries_state: bool
) -> TakenParameters:
    """The parameters after the last finished round, and what goes with them.

    Args:
        lifecycle: The federation's.
        completed: The last finished round that the journal has.
        found: Is told where they come from.
        damaged: Whether the journal may have lost later rounds: rounds then go on after the checkpoint's.
        carries_state: Whether something goes with the parameters.
    """
    state = lifecycle.state
    process = state.processes.get(state.server_row)
    if process is not None:
        returns = 3 if carries_state else 2
        reference, reported, *states = process.handle.red_holding.options(num_returns=returns).remote(completed)
        for one in states:
            discard(reported, one)
        try:
            report = await answer_of(reported, ANSWER_TIMEOUT)
        except Exception as error:
            report = {"error": first_sentence(str(error))}
        if "error" not in report:
            found.parameters_from = "the server"
            return TakenParameters(reference, states[0] if states else None, process)
    loaded = await _load(state.keeper, completed, damaged) if state.keeper is not None else None
    for name, why in (state.keeper.refused if state.keeper is not None else {}).items():
        state.record("federation", "warn", name, f"this checkpoint cannot be used: {why}")
    if loaded is None:
        if completed:
            text = f"the parameters of round {completed} are lost: no checkpoint can be used; rounds start anew from it"
            state.record("federation", "error", state.fed_id, text)
        return TakenParameters()
    number = loaded.round
    found.parameters_from = f"the checkpoint of round {number}"
    if number > completed:
        state.rounds_before = number
        text = f"the journal has lost the rounds up to {number}: rounds go on after it, from its checkpoint"
        state.record("federation", "error", state.fed_id, text, data={"rounds_before": number})
    elif number != completed:
        text = f"the parameters are those of round {number}: what rounds {number + 1} to {completed} learned is lost"
        state.record("federation", "error", state.fed_id, text)
    if loaded.node_ids:
        count = lifecycle.states.take_up(loaded)
        text = f"{count:,} nodes go on with what the checkpoint of round {number} holds of them"
        state.record("federation", "info", state.fed_id, text)
    server_state = loaded.server_state if carries_state else None
    strategy = str(state.settings.choice["name"])
    if carries_state and loaded.strategy not in ("", strategy):
        server_state = None
        text = f"the checkpoint of round {number} has the state of strategy {loaded.strategy}: {strategy} begins anew"
        state.record("federation", "warn", state.fed_id, text)
    elif carries_state and server_state is None:
        whose = f"strategy {strategy}" if strategy_keeps_state(strategy_of(state.settings.choice)) else "the server"
        text = (
            f"{whose} begins without what it remembered of earlier rounds: the checkpoint of round {number}"
            " holds parameters only, as red-tui once wrote them; what follows is not what a run without a break gives"
        )
        state.record("federation", "warn", state.fed_id, text)
    return TakenParameters(loaded.parameters, server_state)
