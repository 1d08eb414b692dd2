"""Runs rounds one after another: the federation's side of the round loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import numpy as np

from red_tui.errors import CommandRefused, RedError, RoundError
from red_tui.federation.lifecycle import Lifecycle
from red_tui.federation.state import LOSSES_KEPT, SERVER_ID, FederationState
from red_tui.nodes.causes import Cause, first_sentence
from red_tui.nodes.process import NodeProcess
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray
from red_tui.nodes.virtual import VirtualNode
from red_tui.rounds.history import RoundResult, Until
from red_tui.rounds.loop import Turn, checked, run_round

PROGRESS_STEPS = 50
"""A round tells of its progress this many times at most."""


class RoundRunner:
    """Implements `RoundCluster` over a federation's state, and runs rounds in a row."""

    def __init__(
        self,
        state: FederationState,
        lifecycle: Lifecycle,
        should_participate: Callable[[VirtualNode], bool] | None,
        view: Callable[[int], VirtualNode],
        initial_parameters: Any,
    ) -> None:
        self.state = state
        self.lifecycle = lifecycle
        self._should_participate = should_participate
        self._view = view
        self._initial_parameters = initial_parameters
        self._stopped = False
        self._states: dict[int, Any] = {}
        self._holder: NodeProcess | None = None
        self._task: asyncio.Task[list[RoundResult]] | None = None

    # -- running ---------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether rounds run."""
        return self._task is not None and not self._task.done()

    def start(self, rounds: int, until: str | None) -> asyncio.Task[list[RoundResult]]:
        """Begin a run of rounds in the background.

        Raises:
            CommandRefused: If rounds run already, or `rounds` is below 1.
            RedError: If `until` cannot be read.
        """
        if self.running:
            raise CommandRefused(f"rounds run already ({self._where()}): stop them, or wait until they are done")
        if rounds < 1:
            raise CommandRefused(f"a run has at least 1 round, not {rounds}")
        condition = Until.parse(until) if until else None
        self._stopped = False
        target = self.completed + rounds
        self.state.set_round(target=target, until=str(condition) if condition else None, stopping=False)
        self._task = self.lifecycle.spawn(self._run(target, condition))
        return self._task

    def _where(self) -> str:
        status = self.state.round
        return f"round {status.number} of {status.target}, {status.phase}"

    @property
    def completed(self) -> int:
        """Number of the last finished round."""
        return self.state.history[-1].number if self.state.history else 0

    async def _run(self, target: int, until: Until | None) -> list[RoundResult]:
        results = []
        try:
            while self.completed < target and not self.state.round.stopping:
                result = await self._one(self.completed + 1)
                results.append(result)
                if until is not None and until.reached(result):
                    text = f"{until} is reached: the run ends"
                    self.state.record("round", "good", f"round {result.number}", text)
                    break
        except asyncio.CancelledError:
            # Told to stop now: the run ends with the rounds that it finished.  Else the engine is closing.
            if not self._stopped:
                raise
        finally:
            self.state.set_round(phase="idle", done=0, of=0, target=None, until=None, stopping=False)
        return results

    async def _one(self, number: int) -> RoundResult:
        state, started = self.state, time.time()
        subject = f"round {number}"
        state.set_round(number=number, started=started, phase="choose", done=0, of=0)
        try:
            result = await run_round(number, self, state.settings)
        except asyncio.CancelledError:
            state.record("round", "warn", subject, "stopped before its end: it does not count")
            raise
        except Exception as error:
            failed = _failed_wire(number, started, error)
            state.failed_rounds.append(failed)
            text = error.message if isinstance(error, RedError) else f"{type(error).__name__}: {error}"
            text = text.removeprefix(f"{subject}: ")
            state.record("round", "error", subject, text, "failed", {"result": failed})
            raise
        state.history.append(result)
        wire = {**result.to_wire(), "failures": dict(result.failures)}
        if len(result.participants) <= 1000:
            wire["ids"] = list(result.participants)
        state.record(
            "round", "warn" if result.failures else "good", subject, _summary(result), "ready", {"result": wire}
        )
        return result

    def stop(self, now: bool) -> str:
        """End the run after the present round, or at once.

        Raises:
            CommandRefused: If no rounds run.
        """
        if not self.running:
            raise CommandRefused("no rounds run: there is nothing to stop")
        assert self._task is not None
        number = self.state.round.number
        if now:
            self._stopped = True
            self._task.cancel()
            return f"round {number} is stopped; the parameters stay those of round {self.completed}"
        self.state.set_round(stopping=True)
        return f"the run ends after round {number}"

    # -- RoundCluster ----------------------------------------------------------------------------

    def eligible(self, role: str) -> IntArray:
        """Rows with a role that are not failed or at work and that `should_participate` accepts."""
        table = self.state.table
        barred = table.in_states((NodeState.FAILED, NodeState.BUSY, NodeState.REMOVED))
        rows: IntArray = np.flatnonzero(table.with_role(role) & ~barred)
        if self._should_participate is None:
            return rows
        verdicts = []
        for row in rows.tolist():
            try:
                verdicts.append(bool(self._should_participate(self._view(row))))
            except Exception as error:
                raise RedError(
                    f"should_participate raised for node {table.ids[row]!r}: {type(error).__name__}: {error}"
                ) from error
        chosen: IntArray = rows[np.asarray(verdicts, dtype=bool)]
        return chosen

    async def turns(self, rows: IntArray, timeout: float) -> AsyncIterator[Turn]:
        """All of `rows` in turns: those that have a bundle first; then they make room for the next."""
        todo = rows.tolist()
        while todo:
            turn = await self.lifecycle.next_turn(todo, timeout)
            yield turn
            served = {*turn.rows.tolist(), *turn.missing}
            todo = [row for row in todo if row not in served]

    async def ensure_server(self, timeout: float) -> Any:
        """Handle of the server; built or rebuilt if it is not there."""
        row = self.state.table.row_of(SERVER_ID)
        assert row is not None
        number = self.state.round.number
        if self.state.table.state_of(row) is NodeState.FAILED:
            await self.lifecycle.rebuild([row], timeout=timeout, wait=True)
        missing = (await self.lifecycle.next_turn([row], timeout)).missing
        if missing:
            raise RoundError(
                f"round {number}: the server is not ready: {missing[row]}",
                round_number=number,
                failed={SERVER_ID: missing[row]},
            )
        process = self.state.processes[row]
        if self.state.parameters is not None and process is not self._holder:
            _, reported = process.handle.red_set_parameters.options(num_returns=2).remote(self.state.parameters)
            await checked(reported, number, "the new server could not take the parameters over", timeout)
        self._holder = process
        return process.handle

    def handle(self, row: int) -> Any:
        """Handle of a ready node."""
        return self.state.processes[row].handle

    def fit(self, row: int, parameters: Any, config: Mapping[str, Any]) -> tuple[Any, Any]:
        """Submit a node's fit; the state that comes with it is kept when it has answered."""
        update, report, *state = self.handle(row).red_fit.remote(parameters, config)
        if state:
            self._states[row] = state[0]
        return update, report

    def node_id(self, row: int) -> str:
        """Id of a row."""
        return self.state.table.ids[row]

    def set_busy(self, rows: IntArray) -> None:
        """Mark nodes at work."""
        if len(rows):
            self.state.table.set(rows, state=NodeState.BUSY)
            self.state.notify()

    def set_idle(self, rows: IntArray) -> None:
        """Mark nodes ready again, unless they have failed meanwhile; they have answered."""
        for row in rows.tolist():
            if row in self._states:
                self.state.kept[row] = self._states.pop(row)
        table = self.state.table
        still = rows[table.column("state")[rows] == NodeState.BUSY.code]
        if len(still):
            table.set(still, state=NodeState.READY)
            self.state.notify()

    def counted(self, row: int, report: Mapping[str, Any]) -> None:
        """Record a result in the row of its node."""
        table, metrics = self.state.table, report["metrics"]
        loss = metrics.get("loss", float("nan"))
        table.set(row, rounds=table.value("rounds", row) + 1, loss=loss, seconds=report["seconds"])
        self.state.losses.setdefault(row, deque(maxlen=LOSSES_KEPT)).append(loss)
        self.state.metrics[row] = metrics

    def node_failed(self, row: int, cause: Cause) -> None:
        """A node raised, or died."""
        self.lifecycle.node_failed(row, cause)

    def progress(self, number: int, phase: str, done: int, total: int) -> None:
        """Show how far the round is, in at most `PROGRESS_STEPS` steps a phase."""
        status = self.state.round
        step = max(1, total // PROGRESS_STEPS)
        if phase != status.phase or done == total or done - status.done >= step:
            self.state.set_round(phase=phase, done=done, of=total)

    def spawn(self, work: Coroutine[Any, Any, None]) -> Any:
        """Go on with something in the background."""
        return self.lifecycle.spawn(work)

    def parameters(self) -> Any:
        """Reference to the global parameters."""
        return self.state.parameters

    async def first_parameters(self, server: Any, rows: IntArray) -> Any:
        """What the federation was given, else what the first eligible node makes."""
        number = self.state.round.number
        deadline = self.state.settings.deadline
        given = self._initial_parameters
        if given is None:
            given, reported = self.handle(int(rows[0])).red_initial_parameters.remote()
            await checked(reported, number, f"{self.node_id(int(rows[0]))} made no initial parameters", deadline)
        made, reported = server.red_set_parameters.options(num_returns=2).remote(given)
        await checked(reported, number, "the server refused the initial parameters", deadline)
        self.take_parameters(0, made)
        return made

    def take_parameters(self, number: int, reference: Any) -> None:
        """Keep the reference."""
        self.state.parameters, self.state.parameters_round = reference, number


def _failed_wire(number: int, started: float, error: Exception) -> dict[str, Any]:
    """A failed round as a row of the history."""
    failures = error.fields.get("failed", {}) if isinstance(error, RedError) else {}
    ended = time.time()
    row = RoundResult(number, math.nan, {}, {}, (), failures, ended - started, ended).to_wire()
    return {**row, "state": "failed"}


def _summary(result: RoundResult) -> str:
    parts = []
    if result.evaluated:
        parts.append(f"loss {result.loss:.4g}")
    parts += [f"{name} {value:.4g}" for name, value in result.metrics.items()]
    if not result.evaluated and "loss" in result.train_metrics:
        parts.append(f"train loss {result.train_metrics['loss']:.4g}")
    parts.append(f"{len(result.participants)} results in {result.seconds:.2f} s")
    if result.failures:
        node_id, why = next(iter(result.failures.items()))
        parts.append(f"{len(result.failures)} failed ({node_id}: {first_sentence(why, 80)})")
    return "  ".join(parts)
