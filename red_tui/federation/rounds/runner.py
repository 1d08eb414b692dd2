"""Runs rounds one after another: the federation's side of the round loop."""

from __future__ import annotations

import asyncio
import platform
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from red_tui import __version__, checks
from red_tui.aggregation.answers import Answers, Contribution
from red_tui.aggregation.server import NOT_PLAIN
from red_tui.checkpoints.sources import StartingPoint
from red_tui.errors import CheckpointError, CommandRefused, NothingToDo, RedError, RoundError
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.node_set import handle_of
from red_tui.federation.reports import DISK_TIMEOUT
from red_tui.federation.rounds.bundle_phase import cause_of, forgive
from red_tui.federation.rounds.gossip import Gossip
from red_tui.federation.rounds.hierarchical import HierarchicalAggregation, aggregators_above
from red_tui.federation.rounds.hook_calls import HookCalls
from red_tui.federation.rounds.phase import PhaseRunner
from red_tui.federation.rounds.prefetch import RoundPrefetch, discard_call
from red_tui.federation.rounds.round_plan import (
    Participation,
    RoundPlan,
    failed_wire,
    finished_wire,
    plan_round,
    summary,
)
from red_tui.federation.rounds.round_writer import FinishedRound, RoundWriter
from red_tui.federation.state import ROUND_TRIES, FailureAction, FederationState
from red_tui.nodes.failures import Cause, cause_of_death, first_sentence
from red_tui.nodes.ids import SERVER_ID
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray, row_ranges
from red_tui.nodes.user_code import error_text, forks
from red_tui.plain_text import brief
from red_tui.protocol.events import TRACE
from red_tui.protocol.figures import run_words
from red_tui.rounds.history import NodeNames, RoundResult
from red_tui.rounds.hooks import RunStart
from red_tui.rounds.loop import Turn, call_server, checked, run_round
from red_tui.rounds.ray_calls import answer_of, discard
from red_tui.rounds.sampling import RoundSettings, choose
from red_tui.runtime.node_actor import NodeProcess
from red_tui.selection import Until
from red_tui.selection.stop_condition import RunWatch

STOP_TIMEOUT = 10.0
INITIAL_TRIES = 3
"""Max nodes that are asked for initial parameters, one after another, before the round fails."""

DIGEST_TIMEOUT = 60.0
"""Seconds that a round waits for the digests of a large model that no checkpoint tells."""

PROGRESS_STEPS = 50
"""A round tells of its progress this many times at most."""


class RoundRunner:
    """Implements `RoundCluster` over a federation's state, and runs rounds in a row."""

    def __init__(
        self,
        state: FederationState,
        lifecycle: Lifecycle,
        should_participate: Callable[[int], bool] | None,
        initial_parameters: Any,
        each: bool,
        *,
        memoryless: bool = False,
        carries_state: bool = False,
        configures: bool = False,
        hooks: HookCalls | None = None,
    ) -> None:
        self.state = state
        self._hooks = hooks
        self.lifecycle = lifecycle
        self._participation = Participation(lifecycle.engine, should_participate) if should_participate else None
        self._initial_parameters = initial_parameters
        self._stopped = False
        self._among: IntArray | None = None
        self._each = each
        self.carries_state = carries_state
        self._returns = 3 if carries_state else 2
        self._made_state: Any = None
        """Reference to what goes with the parameters that the server was asked for last."""
        self._unkept_told = False
        self._told_digests: Mapping[str, str] = {}
        """What the server told of the bytes of the round in hand."""
        self.gossip = Gossip(lifecycle)
        self.tree = HierarchicalAggregation(lifecycle, self.turns)
        self.writer = RoundWriter(state, lifecycle.spawn, self._count, lambda: self._stopped)
        self._counted = 0
        """Rounds of the present run that count."""
        self._holder: NodeProcess | None = None
        self._task: asyncio.Task[int] | None = None
        self.prefetch = RoundPrefetch(
            state,
            self._idle_choice,
            self._held_work,
            memoryless=memoryless,
            asks_nodes=should_participate is not None or configures,
            returns=self._returns,
        )
        self._configures = configures
        self._configured: Mapping[str, Any] = {}
        """What the strategy tells the nodes of the round in hand."""
        self._token = uuid.uuid4().hex
        self._evaluator: list[Any] | None = None
        """A reference to the evaluator, once it is in the object store."""
        self._figures: dict[int, tuple[Answers, Answers]] = {}
        """What nodes took and reported in rounds that do not count yet, by number."""
        self._unanswered: dict[int, str] = {}
        """Why `should_participate` had no answer when it was asked the last time, by row."""
        forks.watch()

    # -- running ---------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether rounds run."""
        return self._task is not None and not self._task.done()

    def start(
        self, rounds: int, until: str | None, resumed: bool = False, among: IntArray | None = None, first: int = 0
    ) -> asyncio.Task[int]:
        """Begin a run of rounds in the background; one that is resumed may find that its time has passed.

        Args:
            rounds: How many.
            until: What ends it before.
            resumed: Whether it was begun by a supervisor that ended.
            among: Rows of the nodes that may take part; None: all that are eligible.
            first: Number of the first round of a run that is resumed; 0: the next one.

        Raises:
            CommandRefused: If rounds run already, `rounds` is below 1, or the time has passed.
            SelectionError: If `until` cannot be read.
        """
        checks.whole(rounds, "rounds", least=1, refusal=CommandRefused)
        if self.running:
            raise CommandRefused(f"rounds run already ({self._where()}): stop them, or wait until they are done")
        condition = Until.parse(until) if until else None
        if condition is not None and condition.passed(time.time()) and not resumed:
            raise CommandRefused(f"{condition.clock} has passed: give a time that is to come")
        self._stopped = False
        target = self.completed + rounds
        first = first or self.completed + 1
        self.state.set_round(target=target, until=str(condition) if condition else None, stopping=False, first=first)
        self._tell_run(target, first, resumed)
        begun = [target, self.state.round.until, None if among is None else row_ranges(among), first]
        self.state.record("round", TRACE, "run", "begins", data={"run": begun, "versions": versions()})
        self._among = among
        self._task = self.lifecycle.spawn(self._run(target, condition))
        return self._task

    def _tell_run(self, target: int, first: int, resumed: bool) -> None:
        """Tell the hooks of a run that begins."""
        if self._hooks is None:
            return
        state, settings = self.state, self.state.terms.next.settings
        told = {one.name: getattr(settings, one.name) for one in fields(settings)}
        run = RunStart(
            state.fed_id,
            first,
            target,
            state.round.until,
            resumed,
            state.common_config().as_dict(),
            {**told, "strategy": settings.choice},
            state.history.history(),
        )
        self._hooks.run_begins(run)

    @property
    def in_hand(self) -> int:
        """Number of the last round that has begun."""
        return self.prefetch.begun.number if self.prefetch.begun is not None else self.state.round.number

    def _where(self) -> str:
        status = self.state.round
        return f"round {run_words(status)}, {status.phase}"

    @property
    def completed(self) -> int:
        """Number of the last round that counts."""
        return self.state.completed

    @property
    def finished(self) -> int:
        """Number of the last finished round; it may be on its way to the disk still."""
        return self.completed + (self.writer.pending is not None)

    async def _run(self, target: int, until: Until | None) -> int:
        """Run rounds; gives how many of them count."""
        self._counted, watch = 0, self._watch(until)
        single, failed = target - self.completed == 1, 0
        try:
            while self.finished < target and self._goes_on() and not self._over(until):
                try:
                    result = await self._one(self.finished + 1)
                except RoundError as error:
                    await self.writer.settle()
                    await asyncio.shield(self.lifecycle.spawn(self.prefetch.drop()))
                    failed += 1
                    decision = self.state.failure.decide_round(failed, single=single, rebuilding=self.lifecycle.healing)
                    if decision.action is not FailureAction.RETRY_ROUND:
                        self._tell_end(target, error)
                        raise
                    await self._wait_for_rebuilt(failed)
                    continue
                failed = 0
                reached = watch.take(result.values) if watch is not None else None
                if reached is not None:
                    self.state.record("round", "good", f"round {result.number}", f"{reached.text}: the run ends")
                    break
                self._tell_unmeasured(until, result)
            await self.writer.settle()
        except asyncio.CancelledError:
            # Told to stop now: the run ends with the rounds that it finished.  Else the engine is closing.
            if not self._stopped:
                raise
            await self.writer.settle()
        finally:
            if not self.lifecycle.closing:
                self.lifecycle.spawn(self.prefetch.drop())
                self.state.record("round", TRACE, "run", "ends", data={"run": None})
            self._among = None
            self.state.trouble("disk", "")
            if self._hooks is not None:
                self._hooks.run_ended(self.state.round.first)
            self.state.terms.begin()
            self.state.set_round(phase="idle", done=0, of=0, target=None, until=None, stopping=False)
        return self._counted

    def _watch(self, until: Until | None) -> RunWatch | None:
        """What looks at the rounds of the run; it has seen those that a supervisor ran which ended."""
        if until is None:
            return None
        watch = RunWatch(until)
        for result in self.state.history.since(self.state.round.first):
            watch.take(result.values)
        return watch

    def _tell_unmeasured(self, until: Until | None, result: RoundResult) -> None:
        """Warn, in the first round of a run that is judged, of measures that no round is going to have."""
        settings, first = self.state.settings, self.state.round.first
        every = settings.evaluate_every or 1
        if until is None or result.number != first + -first % every:
            return
        values = result.values
        for name in until.metrics:
            if name not in values:
                known = ", ".join(sorted(values))
                text = f"the run may never end by {name}: this round has no such measure (it has {brief(known, 300)})"
                self.state.record("round", "warn", f"round {result.number}", text)

    def _goes_on(self) -> bool:
        """Whether a further round is wanted, or has been begun already."""
        return not self._stopped and (self.prefetch.begun is not None or not self.state.round.stopping)

    def _over(self, until: Until | None) -> bool:
        """Whether the time has passed that ends the run; says so."""
        if until is None or not until.passed(time.time()):
            return False
        text = f"{until.clock} has passed: the run ends after round {self.completed}"
        self.state.record("round", "good", "run", text)
        return True

    async def _wait_for_rebuilt(self, failed: int) -> None:
        """Return when the nodes that are being rebuilt are there again, or did not come within the build's time."""
        number = self.completed + 1
        text = f"waits for the nodes that are being rebuilt, and is tried again (try {failed + 1} of {ROUND_TRIES})"
        self.state.record("round", "info", f"round {number}", text)
        await self.lifecycle.healed(self.state.settings.build_timeout)

    def _tell_end(self, target: int, error: RoundError) -> None:
        if target - self.completed > 1:
            text = (
                f"ends {target - self.completed} rounds before its last, {target}: {first_sentence(error.message, 300)}"
            )
            self.state.record("round", "error", "run", text)

    async def plan(self, among: IntArray | None = None) -> RoundPlan:
        """What the next round would do, among some rows or all; `should_participate` is asked for it."""
        settings, number = self.state.terms.next.settings, self.finished + 1
        among = self._among if among is None else among
        accepted, _ = await self._accepted("train", among)
        chosen = choose(accepted, settings.fraction, settings.seed, number)
        judges = (await self._accepted("eval", among))[0] if settings.evaluates(number) else chosen[:0]
        inner = aggregators_above(self.state, chosen) if self.is_hierarchical else None
        return plan_round(self.lifecycle, number, chosen, judges, inner)

    async def _one(self, number: int) -> RoundResult:
        state, began, started = self.state, time.monotonic(), time.time()
        if self.prefetch.begun is None:
            state.terms.begin()
        subject = f"round {number}"
        if state.hosting.isolation == "process" and state.num_clients >= len(self.lifecycle.pool):
            plan = await self.plan()
            if plan.turns > 1:
                state.record("round", "info", subject, str(plan).partition(": ")[2])
        state.record("round", TRACE, subject, "begins", data={"begin": number})
        state.set_round(number=number, started=started, phase="choose", done=0, of=0)
        before = state.parameters, state.parameters_round, state.server_state
        models = self.gossip.models
        try:
            result = await run_round(number, self, state.settings)
        except asyncio.CancelledError:
            self._undo(before)
            self.gossip.models = models
            text = "stopped before its end: it does not count"
            state.record("round", "warn", subject, text, data={"stopped": number})
            raise
        except Exception as error:
            self._undo(before)
            self.gossip.models = models
            text = error.message if isinstance(error, RedError) else error_text(error)
            text = text.removeprefix(f"{subject}: ")
            failed = {**failed_wire(number, time.monotonic() - began, error), "error": text}
            state.failed_rounds.append(failed)
            state.record("round", "error", subject, text, "failed", {"result": failed})
            raise
        if not self.gossips:
            self.gossip.models = {}
        groups = {} if state.server_state is None else {"server": state.server_state}
        extra = {"seed": state.settings.seed}
        told, digests = self._told_digests, self._digests_of(number)
        states = self.lifecycle.states.all_of_clients if state.keeps_node_states else None
        finished = FinishedRound(result, state.parameters, groups, extra, states, digests, told)
        await self.writer.put(finished, beside=self._may_write_beside(number))
        return result

    def _digests_of(self, number: int) -> Callable[[], Coroutine[Any, Any, Mapping[str, str]]]:
        """Gives what the record of a round says of its bytes: as the server told with it, else it is asked."""
        told, server = self._told_digests, self._holder
        self._told_digests = {}

        async def digests() -> Mapping[str, str]:
            if told or server is None:
                return told
            try:
                found: Mapping[str, str] = await answer_of(server.handle.red_digests.remote(number), DIGEST_TIMEOUT)
            except Exception:
                return {}  # the round counts all the same; a server that died is seen to elsewhere
            return found

        return digests

    def _may_write_beside(self, number: int) -> bool:
        """Whether the next round may begin before a round is on disk.

        A run that ends by what its rounds bring looks at those that count.  Models that neighbours mix lie in the
        nodes, which hold no more than two rounds of them; what nodes keep is that of the round while it is written.
        """
        status = self.state.round
        last = status.target is None or number >= status.target
        waits = self.gossips or self.state.keeps_node_states
        return not (last or status.stopping or status.until is not None or waits or self._stopped)

    def _count(self, result: RoundResult) -> None:
        """A round is on disk: it counts."""
        self._counted += 1
        self.state.add_result(result)
        self._keep_figures(result.number)
        if self._hooks is not None:
            self._hooks.round_ended(result.number)
        level, data = "warn" if result.failures else "good", {"result": finished_wire(result)}
        self.state.record("round", level, f"round {result.number}", summary(result), "ready", data)

    def _keep_figures(self, number: int) -> None:
        """Keep what every node took and reported, where that is wanted."""
        figures = self._figures.get(number)
        self._figures = {later: held for later, held in self._figures.items() if later > number}
        if figures is None or not self.state.settings.node_history:
            return
        try:
            self.state.node_figures.keep(number, self.state.table.ids.take, *figures)
        except Exception as error:
            why = first_sentence(str(error))
            self.state.trouble("node history", f"the figures of single nodes are not kept on disk: {why}")
        else:
            self.state.trouble("node history", "")

    async def end(self) -> None:
        """End a run, if one is under way, and wait for its end: it is not taken up again."""
        if self.running and self._task is not None:
            self.stop(now=True)
            await asyncio.wait([self._task], timeout=STOP_TIMEOUT)
            if not self._task.done() and self.writer.pending is not None:
                await asyncio.wait([self._task], timeout=DISK_TIMEOUT)

    def take_over(self, completed: int, reference: Any, server_state: Any, holder: NodeProcess | None) -> None:
        """Go on with parameters that were found, and with the server process that holds them (None: it is told)."""
        self.state.server_state = server_state
        self.state.parameters, self.state.parameters_round = reference, completed if reference is not None else 0
        self.state.set_round(number=completed)
        self._holder = holder

    def _undo(self, before: tuple[Any, int, Any]) -> None:
        """A round does not count: the parameters, and what goes with them, are again those of the round before."""
        if self.state.parameters_round != before[1]:
            self.state.parameters, self.state.parameters_round, self.state.server_state = before
            self._holder = None

    def stop(self, now: bool) -> str:
        """End the run after the present round, or at once.

        Raises:
            CommandRefused: If no rounds run.
        """
        if not self.running:
            raise NothingToDo("no rounds run: there is nothing to stop")
        assert self._task is not None
        if now:
            self._stopped = True
            self._task.cancel()
            return f"round {self.state.round.number} is stopped; the parameters stay those of round {self.finished}"
        self.state.set_round(stopping=True)
        return f"the run ends after round {self.in_hand}"

    # -- RoundCluster ----------------------------------------------------------------------------

    async def eligible(self, role: str) -> IntArray:
        """Rows with a role that are not failed or at work and that `should_participate` accepts.

        A node for which it raises or does not return is left out, and the round names it.
        """
        rows, self._unanswered = await self._accepted(role, self._among)
        return rows

    async def eligible_for_all(self, role: str) -> IntArray:
        """As `eligible`, for what all nodes of a role are to take part in.

        Raises:
            RedError: If `should_participate` raised or did not return for a node.
        """
        rows, unanswered = await self._accepted(role, None)
        for row, why in unanswered.items():
            raise RedError(f"node {self.state.table.ids[row]!r}: {why}")
        return rows

    async def _accepted(self, role: str, among: IntArray | None) -> tuple[IntArray, dict[int, str]]:
        """Rows that may take part, and why `should_participate` has no answer for others."""
        rows = self._idle(role, among)
        if self._participation is None:
            return rows, {}
        accepted, unanswered = await self._participation.ask(rows.tolist(), self.state.settings.deadline)
        # Nodes may have failed, been removed or joined a session while it was asked.
        rows = self._idle(role, among)
        return rows[np.isin(rows, np.asarray(accepted, dtype=np.int64))], unanswered

    def _idle(self, role: str, among: IntArray | None) -> IntArray:
        """Rows with a role that are not failed, at work or on their way out."""
        table = self.state.table
        barred = table.in_states((NodeState.FAILED, NodeState.BUSY, NodeState.REMOVED))
        rows: IntArray = np.flatnonzero(table.with_role(role) & ~barred)
        if among is not None:
            rows = rows[np.isin(rows, among)]
        if self.state.leaving:
            rows = rows[~np.isin(rows, np.fromiter(self.state.leaving, dtype=np.int64))]
        return rows

    def left_out(self, *chosen: IntArray) -> Mapping[str, str]:
        """Why nodes with a role in rounds cannot be chosen: they failed, or are still at work."""
        table = self.state.table
        barred = table.in_states((NodeState.FAILED, NodeState.BUSY))
        for rows in chosen:
            barred[rows] = False
        unanswered = {table.ids[row]: why for row, why in self._unanswered.items()}
        if not barred.any():
            return unanswered
        rows = np.flatnonzero(barred & (table.with_role("train") | table.with_role("eval")))
        if self._among is not None:
            rows = rows[np.isin(rows, self._among)]
        left = {table.ids[row]: self._why_left_out(row) for row in rows.tolist() if row not in self.state.leaving}
        return {**unanswered, **left}

    def _why_left_out(self, row: int) -> str:
        if self.state.table.state_of(row) is NodeState.BUSY:
            return "is still at work in an earlier round or in a session"
        cause = self.state.causes.get(row)
        return f"has failed: {cause.text}" if cause else "has failed"

    async def turns(self, rows: IntArray, timeout: float) -> AsyncIterator[Turn]:
        """All of `rows` in turns: those that have a bundle first; then they make room for the next."""
        todo = rows
        if self.prefetch.has(rows):
            yield Turn(rows, {})
            return
        if self.is_hierarchical and self.state.round.phase == "build":
            await self.tree.prepare(rows)
        while len(todo):
            turn = await self.lifecycle.next_turn(todo, timeout)
            yield turn
            if len(turn.rows) == len(todo):
                return
            missing = np.fromiter(turn.missing, dtype=np.int64, count=len(turn.missing))
            todo = todo[~np.isin(todo, turn.rows) & ~np.isin(todo, missing)]

    async def ensure_server(self, timeout: float) -> Any:
        """Handle of the server; built or rebuilt if it is not there."""
        row = self.state.table.row_of(SERVER_ID)
        assert row is not None
        number = self.state.round.number
        await self.lifecycle.replace_needed(np.asarray([row]), timeout)
        missing = (await self.lifecycle.next_turn(np.asarray([row]), timeout)).missing
        if missing:
            raise RoundError(
                f"round {number}: the server is not ready: {missing[row]}",
                round_number=number,
                failed={SERVER_ID: missing[row]},
            )
        process = self.state.processes[row]
        if self.state.parameters is not None and process is not self._holder:
            given = self.state.parameters, self.state.parameters_round, self.state.server_state
            call = process.handle.red_set_parameters.options(num_returns=self._returns).remote(*given)
            discard_call(tuple(call))
            what = (
                "parameters and the state that goes with them" if self.state.server_state is not None else "parameters"
            )
            await checked(call[1], number, f"the server could not take the {what} over", timeout)
        self._holder = process
        if self._configures and not self.gossips:
            asked = process.handle.red_configure.remote(number)
            report = await checked(asked, number, "the strategy did not configure the round", timeout)
            self._configured = report["config"]
        return process.handle

    def _handle(self, row: int) -> Any:
        """Handle of a ready node."""
        return handle_of(self.state, row)

    async def choose(self, number: int, settings: RoundSettings) -> IntArray:
        """Rows of the nodes that take part: those that have begun the round already, else a choice of the eligible."""
        begun = await self.prefetch.rows_of(number)
        if begun is not None:
            return begun
        return choose(await self.eligible("train"), settings.fraction, settings.seed, number)

    async def judges(self) -> IntArray:
        """Rows of the nodes with role eval that should take part now."""
        return await self.eligible("eval")

    def work(
        self, phase: str, rows: IntArray, parameters: Any, config: Mapping[str, Any], server: Any = None
    ) -> PhaseRunner:
        """Let ready nodes fit or evaluate, until the round's deadline."""
        # In turns it depends on the past which nodes are in a host together: exact sums do not depend on that.
        exact = self.state.settings.exact or (server is None and bool(self.state.hosted(rows).any()))
        work = self.prefetch.started(rows) or self._work(phase, rows, parameters, config, exact=exact)
        if server is not None:
            self.prefetch.call_server(int(config["round"]), server, work)
        return work

    def aggregate(
        self, number: int, server: Any, contributions: Sequence[Contribution], fitted: Answers, *, complete: bool
    ) -> tuple[Any, Any]:
        """References to the next global parameters and to the server's report."""
        called = self.prefetch.answer_of_server(number, server, contributions, complete)
        call = called or call_server(number, server, contributions, fitted, self._returns)
        made, reported, *states = call
        if states:
            (self._made_state,) = states
            discard(reported, *states)
        return made, reported

    def reported(self, report: Mapping[str, Any]) -> None:
        """Keep what it tells of the round's bytes; tell once of what a class of one's own changes and does not keep."""
        self._told_digests = dict(report.get("digests") or {})
        if self._unkept_told or not report.get("unkept"):
            return
        self._unkept_told = True
        for whose, names in report["unkept"].items():
            text = unkept_text(whose, names)
            self.state.record("round", "warn", f"round {self.state.round.number}", text)

    def _work(
        self,
        phase: str,
        rows: IntArray,
        parameters: Any,
        config: Mapping[str, Any],
        *,
        exact: bool,
        held: bool = False,
    ) -> PhaseRunner:
        return PhaseRunner(
            self.lifecycle,
            phase,
            rows,
            parameters,
            config,
            each=self._each or self.gossips,
            deadline=self.state.settings.deadline,
            models=self.gossip.models if self.gossips and phase == "fit" else None,
            groups=self.tree.groups_of(rows) if self.is_hierarchical and phase == "fit" else None,
            exact=exact,
            held=held,
        )

    def _idle_choice(self, number: int) -> IntArray:
        """Rows that would take part in a round if it began now and nobody had to be asked."""
        settings = self.state.settings
        return choose(self._idle("train", self._among), settings.fraction, settings.seed, number)

    def _held_work(self, rows: IntArray, parameters: Any, number: int) -> PhaseRunner:
        """The work of a round that is not in hand yet."""
        return self._work(
            "fit", rows, parameters, {"round": number, **self.keys}, exact=self.state.settings.exact, held=True
        )

    @property
    def gossips(self) -> bool:
        """Whether neighbours mix their models, instead of a server that aggregates."""
        return not self.state.topology.rule.served

    @property
    def is_hierarchical(self) -> bool:
        """Whether aggregators stand between the nodes and the server."""
        return self.state.topology.rule.hierarchy is not None

    async def aggregate_groups(
        self, number: int, contributions: Sequence[Contribution]
    ) -> tuple[Sequence[Contribution], Mapping[int, str]]:
        """Aggregators add their groups up."""
        return await self.tree.aggregate_groups(number, contributions, self.state.settings.build_timeout)

    async def mix(
        self, number: int, server: Any, contributions: Sequence[Contribution], rows: IntArray
    ) -> tuple[Any, Mapping[str, float], Mapping[int, str]]:
        """Gossip between neighbours."""
        return await self.gossip.mix(number, server, contributions, rows)

    def names(self, rows: IntArray) -> NodeNames:
        """Ids of rows."""
        return NodeNames(self.state.table.ids, rows)

    def counted(self, answers: Answers) -> None:
        """Record the results that the new parameters stand on in the rows of their nodes."""
        table, rows = self.state.table, answers.rows
        losses = answers.metrics.get("loss", np.full(len(rows), np.nan))
        table.set(rows, rounds=table.column("rounds")[rows] + 1, loss=losses, seconds=answers.seconds)
        self.state.scores.record(rows, answers.metrics, losses)
        self.state.notify()

    def ask_evaluator(self, number: int, server: Any, parameters: Any, config: Mapping[str, Any]) -> Any:
        """Let the server's node judge parameters; None where there is no evaluator."""
        evaluator = self.state.evaluator
        if evaluator is None:
            return None
        if not isinstance(evaluator, str) and self._evaluator is None:
            import ray

            self._evaluator = [ray.put(evaluator)]
        return server.red_judge.remote(number, self._token, self._evaluator or evaluator, parameters, config)

    async def evaluator_answer(self, number: int, asked: Any) -> Mapping[str, float]:
        """What it found; where it failed the round counts all the same, and a standing warning says so."""
        if asked is None:
            return {}
        deadline = self.state.settings.deadline
        try:
            report = await answer_of(asked, deadline)
        except TimeoutError:
            report = {"error": f"no answer within {deadline:g} s", "where": "", "traceback": ""}
        except Exception as error:
            report = {"error": cause_of_death(error).text, "where": "", "traceback": ""}
        if "error" not in report:
            self.state.trouble("evaluator", "")
            return dict(report["figures"])
        text = f"the central evaluation failed: {first_sentence(report['error'], 300)}"
        self.state.trouble("evaluator", f"{text} (round {number}); rounds go on without it")
        self.state.record("round", "warn", f"round {number}", text, data={"traceback": report["traceback"]})
        return {}

    def measured(self, fitted: Answers, judged: Answers) -> None:
        """What nodes took and reported in this round."""
        self._figures[self.state.round.number] = fitted, judged

    @property
    def keys(self) -> Mapping[str, Any]:
        """What nodes are told in this round: what was changed of their config, and what the strategy says."""
        return {**self.state.terms.now.keys, **self._configured}

    def progress(self, number: int, phase: str, done: int, total: int) -> None:
        """Show how far the round is, in at most `PROGRESS_STEPS` steps a phase."""
        status = self.state.round
        step = max(1, total // PROGRESS_STEPS)
        if phase != status.phase or done == total or done - status.done >= step:
            self.state.set_round(phase=phase, done=done, of=total)

    def parameters(self) -> Any:
        """Reference to the global parameters."""
        return self.state.parameters

    async def first_parameters(self, server: Any, rows: IntArray) -> Any:
        """What the federation was given, else what the first eligible node makes."""
        number = self.state.round.number
        deadline = self.state.settings.deadline
        given = self._initial_parameters
        if given is None:
            given = await self._made_by_a_node(number, rows)
        elif isinstance(given, StartingPoint):
            given = await self._read(number, given)
        made, reported, *states = server.red_set_parameters.options(num_returns=self._returns).remote(given)
        discard_call((made, reported, *states))
        await checked(reported, number, "the server refused the initial parameters", deadline)
        self._made_state = states[0] if states else None
        self.take_parameters(0, made)
        return made

    async def _read(self, number: int, start: StartingPoint) -> Any:
        """The parameters of a checkpoint.

        Raises:
            RoundError: If it is gone or damaged.
        """
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, start.load)
        except CheckpointError as error:
            raise RoundError(
                f"round {number}: there is nothing to start from: {error.message}", round_number=number, failed={}
            ) from error
        self.state.record("federation", "info", self.state.fed_id, f"starts from the parameters of {start}")
        return found

    async def _made_by_a_node(self, number: int, rows: IntArray) -> Any:
        """The initial parameters that a node makes: the first one that is asked, unless it fails, then the next ones.

        Raises:
            RoundError: If `INITIAL_TRIES` nodes failed, or one did not answer before the deadline.
        """
        failed: dict[str, str] = {}
        for row in rows[:INITIAL_TRIES].tolist():
            handle, name = self._handle(row), self.state.table.ids[row]
            if handle is None:
                failed[name] = f"is {self.state.table.state_of(row)} now"
                continue
            given, reported = handle.red_initial_parameters.options(num_returns=2).remote()
            try:
                report = await answer_of(reported, self.state.settings.deadline, (given,))
            except TimeoutError:
                failed[name] = f"initial_parameters: no answer within {self.state.settings.deadline:g} s"
                break
            except Exception as error:
                failed[name] = f"initial_parameters: {cause_of(self.state, row, error).text}"
                continue
            if "error" not in report:
                return given
            cause = Cause(f"{report['where']} raised {report['error']}", report["traceback"])
            failed[name] = forgive(self.lifecycle, "initial_parameters", {row: cause})[row]
        shown = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise RoundError(
            f"round {number}: no node made initial parameters ({shown}): mend it, or give the federation some",
            round_number=number,
            failed=failed,
        )

    def take_parameters(self, number: int, reference: Any) -> None:
        """Keep the reference, and that to what goes with them; neighbours that mix their models change no state."""
        state = self.state
        state.parameters, state.parameters_round = reference, number
        if number == 0 or not self.gossips:
            state.server_state, self._made_state = self._made_state, None


def versions() -> str:
    """Of what numbers depend on: red-tui, Python, numpy and Ray."""
    import ray

    return f"red-tui {__version__}, Python {platform.python_version()}, numpy {np.__version__}, Ray {ray.__version__}"


def unkept_text(whose: str, names: Sequence[str]) -> str:
    """What it means that a class of one's own changes attributes which no state keeps, and what to do."""
    if whose == NOT_PLAIN:
        return (
            f"what get_state of the server gives is in no checkpoint, as it holds {names[0]}: give plain data and"
            " arrays, or it is lost when the federation is resumed"
        )
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    methods = "state_dict and load_state_dict" if whose == "strategy" else "get_state and set_state"
    return (
        f"the {whose} changes {listed} in a round and does not say so: it is lost when the server is rebuilt or the"
        f" federation resumed, and no round that does not count takes it back; write {methods}"
    )
