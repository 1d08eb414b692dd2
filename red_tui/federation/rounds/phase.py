"""Nodes at work in one phase of a round, in processes of their own and in hosts, until the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.aggregation.answers import Answers, Contribution
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.rounds.bundle_phase import BundlePhase, PhaseCall, cause_of, forgive, note_late, set_idle
from red_tui.node_states.kept_states import Kept
from red_tui.nodes.failures import Cause
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray
from red_tui.rounds.ray_calls import Completions
from red_tui.runtime.node_actor import NodeProcess


class PhaseRunner:
    """One phase: a call a node to processes, a streaming call a host to hosts.

    Args:
        lifecycle: Hears of nodes that fail.
        phase: `fit` or `evaluate`.
        rows: Nodes that are ready.
        parameters: Reference to the parameters.
        config: The round's keys.
        each: Whether the server wants every update.
        deadline: Seconds that the phase may take; None: no limit.
        models: Where the models of nodes lie that start from one of their own.
        groups: In a hierarchy: which aggregator adds each of `rows` up; what hosts add up stays within a group.
        exact: Whether updates are added up without an error.
        held: The parameters are still to be made: `start` follows when they are there, or `drop` if they do not count.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        phase: str,
        rows: IntArray,
        parameters: Any,
        config: Mapping[str, Any],
        *,
        each: bool,
        deadline: float | None,
        models: Mapping[int, Kept] | None = None,
        groups: IntArray | None = None,
        exact: bool = False,
        held: bool = False,
    ) -> None:
        self._lifecycle = lifecycle
        self._answers: asyncio.Queue[Answers | None] = asyncio.Queue()
        state = lifecycle.state
        ready = state.table.in_states((NodeState.READY,))[rows]
        if not ready.all():
            # While the first parameters were made somebody released or lost them.
            gone = {row: f"is {state.table.state_of(row)} now" for row in rows[~ready].tolist()}
            self._answers.put_nowait(Answers(failures=gone))
            rows, groups = rows[ready], None if groups is None else groups[ready]
        state.set_state(rows, NodeState.BUSY)
        hosted = state.hosted(rows)
        call = self._call = PhaseCall(phase, parameters, config, each, deadline, models, exact)
        self._parts: list[ProcessPhase | BundlePhase] = []
        if not hosted.all():
            self._parts.append(ProcessPhase(lifecycle, rows[~hosted], call, self._answers))
        bundles = state.table.column("bundle")[rows]
        for bundle in np.unique(bundles[hosted]).tolist():
            inside = hosted & (bundles == bundle)
            for group in (None,) if groups is None else np.unique(groups[inside]).tolist():
                mine = inside if groups is None else inside & (groups == group)
                self._parts.append(BundlePhase(lifecycle, bundle, rows[mine], call, self._answers))
        self._open = len(self._parts)
        if not held:
            self.start()

    def start(self) -> None:
        """Listen to the nodes; the deadline counts from here."""
        self._call.begin()
        for part in self._parts:
            part.task = self._lifecycle.spawn(part.run())

    async def drop(self) -> None:
        """What was `held` does not count: nobody begins any more, and who has begun is waited for, a moment long."""
        self._call.begin()
        await asyncio.gather(*(part.drop() for part in self._parts if isinstance(part, BundlePhase)))

    @property
    def promised(self) -> Sequence[Any]:
        """References to the sums that hosts will give, in the order of `place`; none where that is not known yet."""
        parts = sorted(self._parts, key=lambda part: part.first)
        promises = [part.promised if isinstance(part, BundlePhase) else None for part in parts]
        return [] if any(promise is None for promise in promises) else promises

    async def next(self) -> Answers | None:
        """The next answers; None when all have answered or the deadline has passed."""
        while self._open or not self._answers.empty():
            answers = await self._answers.get()
            if answers is not None:
                return answers
            self._open -= 1
        return None

    def close(self) -> None:
        """No more answers are wanted."""
        for part in self._parts:
            part.close()


class ProcessPhase:
    """Nodes with a process of their own: one call each."""

    def __init__(
        self, lifecycle: Lifecycle, rows: IntArray, call: PhaseCall, answers: asyncio.Queue[Answers | None]
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._lifecycle, self._rows, self._call, self._answers = lifecycle, rows, call, answers
        self._updates: dict[int, Any] = {}
        self._states: dict[int, Any] = {}
        self._processes: dict[int, NodeProcess] = {}
        self._closed = False

    @property
    def first(self) -> int:
        """The first row that is asked."""
        return int(self._rows[0])

    async def run(self) -> None:
        """Submit, and pass answers on as they come."""
        completions = Completions()
        try:
            for row in self._rows.tolist():
                self._submit(row, completions)
            while (message := await completions.next(self._call.until)) is not None:
                self._answers.put_nowait(self._settle(*message))
            if completions.waiting:
                self._answers.put_nowait(
                    Answers(failures=note_late(self._lifecycle.state, completions.waiting, self._call))
                )
        finally:
            self._answers.put_nowait(None)
        # Who is still at work is heard of when it answers, or is taken for hung.
        while (message := await completions.next(self._call.hung_at)) is not None:
            self._settle(*message)
        for row in completions.waiting:
            self._lifecycle.process_failed(row, self._processes[row], Cause(self._call.hung, died=True))

    def _submit(self, row: int, completions: Completions) -> None:
        process = self._lifecycle.state.processes.get(row)
        if process is None:
            self._answers.put_nowait(Answers(failures={row: "its process ended before the phase began"}))
            return
        self._processes[row] = process
        if self._call.phase == "fit":
            update, report, *state = process.handle.red_fit.remote(self._call.model_of(row), self._call.config)
            self._updates[row] = update
            if state:
                self._states[row] = state[0]
        else:
            report = process.handle.red_evaluate.remote(self._call.parameters, self._call.config)
        completions.add(row, report)

    def _settle(self, row: int, report: Mapping[str, Any] | None, error: BaseException | None) -> Answers:
        """Note one answer in the node's row."""
        update, state = self._updates.pop(row, None), self._states.pop(row, None)
        if error is not None:
            cause = cause_of(self._lifecycle.state, row, error)
            if not cause.died and not cause.unsure:
                # The call failed and the process lives: what it gave could not be sent, say.
                whole = Cause(f"{self._call.phase} {cause.text}", cause.traceback)
                return Answers(failures=forgive(self._lifecycle, self._call.phase, {row: whole}))
            self._lifecycle.process_failed(row, self._processes[row], cause)
            if cause.unsure:
                set_idle(self._lifecycle, np.asarray([row]))
            return Answers(failures={row: cause.text})
        assert report is not None
        if "error" in report:
            raised = Cause(f"{report['where']} raised {report['error']}", report["traceback"])
            return Answers(failures=forgive(self._lifecycle, self._call.phase, {row: raised}))
        rows, weight = np.asarray([row]), report["num_examples"]
        kind = "term" if self._call.exact else "update"
        if state is not None:
            self._lifecycle.state.kept.hold(row, Kept(state), int(report.get("state_bytes", 0)))
            self._lifecycle.states.look()
        set_idle(self._lifecycle, rows)
        return Answers(
            rows,
            np.asarray([weight], dtype=np.float64),
            np.asarray([report["seconds"]], dtype=np.float64),
            {name: np.asarray([value]) for name, value in report["metrics"].items()},
            np.asarray([report["loss"]] if "loss" in report else [], dtype=np.float64),
            contribution=Contribution(kind, update, rows, [weight]) if update is not None else None,
        )

    def close(self) -> None:
        """Nothing to do: calls that are under way go on."""
