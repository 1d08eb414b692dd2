"""Asks a federation's `should_participate`, which is the user's code and may never return.

It is asked on a thread beside the engine's: a question that hangs delays one round, and no command.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.aggregation.answers import Answers
from red_tui.errors import RedError
from red_tui.federation.engine import Engine
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.node_set import NAMED_IDS
from red_tui.nodes.states import BUILT
from red_tui.nodes.table import IntArray, row_ranges
from red_tui.nodes.user_code import check_fork, failure_report, is_framework
from red_tui.placement.build_plan import NO_LIMIT
from red_tui.placement.pool import COORDINATOR, Slot
from red_tui.protocol.figures import causes_text, measured
from red_tui.rounds.history import NodeNames, RoundResult, node_statistics

MAX_HUNG = 3
"""Max questions of one choice that are waited for until the deadline; the rows after them are not asked."""

_STANDARD = sysconfig.get_path("stdlib")


class Participation:
    """Asks for one federation; its methods run on the engine's thread.

    Args:
        engine: Whose thread does not wait for an answer.
        criterion: Whether the node of a row takes part in the next round.
    """

    def __init__(self, engine: Engine, criterion: Callable[[int], bool]) -> None:
        self._engine, self._criterion = engine, criterion
        self._one_choice = asyncio.Lock()
        self._hung: dict[int, _Questions] = {}

    async def ask(self, rows: Sequence[int], deadline: float | None) -> tuple[list[int], dict[int, str]]:
        """Ask about one row after another.

        A row whose earlier question has no answer yet is not asked again: every hung question holds a thread.

        Args:
            rows: Whose nodes may take part.
            deadline: Seconds that one answer may take; None: no limit.

        Returns:
            Rows that take part, and for others why nothing is known: the method raised, or did not return.
        """
        async with self._one_choice:
            return await self._ask(rows, deadline)

    async def _ask(self, rows: Sequence[int], deadline: float | None) -> tuple[list[int], dict[int, str]]:
        self._hung = {row: questions for row, questions in self._hung.items() if questions.running}
        why = {
            row: f"should_participate: the call has still not returned{questions.place}"
            for row, questions in self._hung.items()
            if row in rows
        }
        accepted: list[int] = []
        todo = [row for row in rows if row not in self._hung]
        for _ in range(MAX_HUNG):
            if not todo:
                break
            questions = _Questions(self._criterion, todo)
            await self._answered(questions, deadline)
            accepted += [row for row, answer in questions.answers.items() if answer is True]
            why.update((row, answer) for row, answer in questions.answers.items() if isinstance(answer, str))
            todo = todo[len(questions.answers) :]
            if todo:
                why[todo[0]] = f"should_participate: no answer within the deadline of {deadline:g} s{questions.place}"
                todo = todo[1:]
        why.update((row, f"should_participate was not asked: it hung for {MAX_HUNG} nodes before this") for row in todo)
        return accepted, why

    async def _answered(self, questions: _Questions, deadline: float | None) -> None:
        """Wait until all rows are answered, or the present one is late."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        timer: asyncio.TimerHandle | None = None

        def heard() -> None:
            # The loop is closed when the federation was closed meanwhile: nobody listens any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(over.set)

        def look() -> None:
            nonlocal timer
            assert deadline is not None
            left = questions.seconds_left(deadline)
            if left > 0:
                timer = loop.call_later(left, look)
            else:
                over.set()

        questions.thread = self._engine.callback(lambda: questions.ask(heard), "should_participate")
        if deadline is not None:
            look()
        try:
            await over.wait()
        finally:
            if timer is not None:
                timer.cancel()
            row = questions.leave()
            if row is not None:
                self._hung[row] = questions


class _Questions:
    """Rows that one thread asks about, until nobody waits for it any more.

    Attributes:
        answers: By row, in the order of the rows: yes, no, or why there is none.
        thread: Where they are asked.
    """

    def __init__(self, criterion: Callable[[int], bool], rows: Sequence[int]) -> None:
        self._criterion, self._rows = criterion, rows
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._left = False
        self.answers: dict[int, bool | str] = {}
        self.thread: threading.Thread | None = None

    def ask(self, heard: Callable[[], None]) -> None:
        """Ask about all rows, and say so; on the thread."""
        for row in self._rows:
            answer = self._answer(row)
            with self._lock:
                if self._left:
                    return
                self.answers[row] = answer
                self._since = time.monotonic()
        heard()

    def _answer(self, row: int) -> bool | str:
        try:
            answer = bool(self._criterion(row))
            check_fork()
        except BaseException as error:
            # Also an exit: it would end the thread, and nobody would hear of the rows after this one.
            return f"should_participate raised {failure_report(error, 'should_participate')['error']}"
        return answer

    def seconds_left(self, deadline: float) -> float:
        """Seconds that the present question still has; once there are none, no answer is taken any more."""
        with self._lock:
            left = self._since + deadline - time.monotonic()
            self._left = self._left or left <= 0
            return left

    def leave(self) -> int | None:
        """Take no answer any more; gives the row whose question is open."""
        with self._lock:
            self._left = True
        return self._rows[len(self.answers)] if len(self.answers) < len(self._rows) else None

    @property
    def running(self) -> bool:
        """Whether the last question is still open."""
        return self.thread is not None and self.thread.is_alive()

    @property
    def place(self) -> str:
        """The line of the user's code at which the thread stands, as ` (at clients.py:14)`."""
        frame = sys._current_frames().get(self.thread.ident or 0) if self.thread is not None else None
        for one in reversed(traceback.extract_stack(frame) if frame is not None else []):
            if not is_framework(one.filename) and not one.filename.startswith(_STANDARD):
                return f" (at {Path(one.filename).name}:{one.lineno})"
        return ""


@dataclass(frozen=True)
class RoundPlan:
    """What the next round would do.

    Attributes:
        number: The round.
        participants: Nodes that would fit.
        judges: Nodes that would evaluate.
        places: Nodes that can be built at a time.
        turns: Groups in which the participants would work.
        processes: Processes that would start, about: with judges that need turns too it may be a few more.
        seconds: How long starting them would take at last time's pace; None before the first.
    """

    number: int
    participants: int
    judges: int
    places: int
    turns: int
    processes: int
    seconds: float | None

    def __str__(self) -> str:
        text = f"round {self.number}: {self.participants} nodes fit"
        if self.turns > 1:
            text += f" in {self.turns} turns of {self.places} places"
        if self.judges:
            text += f", {self.judges} evaluate"
        if self.processes:
            text += f"; {self.processes} process{'' if self.processes == 1 else 'es'} to start"
            text += "" if self.seconds is None else f", about {self.seconds:.0f} s at last time's pace"
        return text


def plan_round(
    lifecycle: Lifecycle, number: int, chosen: IntArray, judges: IntArray, inner: IntArray | None = None
) -> RoundPlan:
    """What a round over `chosen`, judged by `judges` and added up by `inner`, would do.  Nothing happens."""
    state = lifecycle.state
    places = _places(lifecycle, chosen if len(chosen) else judges)
    together = np.union1d(chosen, judges)
    built = state.table.in_states(BUILT)
    server = 0 if state.server_row in state.processes else 1
    if state.hosting.isolation == "bundle":
        processes = min(int((~built[together]).sum()), len(lifecycle.pool) - 1 - len(state.bundle_actors))
    elif len(together) <= places:
        processes = int((~built[together]).sum())
    else:
        processes = int((~built[chosen]).sum()) + max(0, len(judges) - places)
    if inner is not None and state.hosting.isolation != "bundle":
        processes += int((~built[inner]).sum())
    processes += server
    pace = state.pace
    return RoundPlan(
        number,
        len(chosen),
        len(judges),
        min(places, NO_LIMIT),
        math.ceil(len(chosen) / max(1, places)),
        processes,
        None if pace is None else processes * pace,
    )


def _places(lifecycle: Lifecycle, rows: IntArray) -> int:
    """How many of `rows` can be built at a time, were all places free."""
    state, pool = lifecycle.state, lifecycle.pool
    if state.hosting.isolation == "bundle":
        return NO_LIMIT if state.hosting.capacity is None else state.hosting.capacity * (len(pool) - 1)
    if not len(rows):
        return len(pool) - 1
    row = int(rows[0])
    return sum(_fitting(lifecycle, row, slot) for slot in pool.slots[COORDINATOR + 1 :])


def _fitting(lifecycle: Lifecycle, row: int, slot: Slot) -> int:
    """How many nodes like this one fit into a bundle."""
    asked = lifecycle.asked(row, slot)
    if not asked:
        return 1
    return min(int((slot.spec.get(name, 0.0) + 1e-6) // amount) for name, amount in asked.items())


NAMED_FAILURES = 64
"""Nodes whose failure a round's row tells by name."""

MOST_WORDS = 1000
"""Letters of a cause that it keeps."""


def rows_of(result: RoundResult) -> IntArray | None:
    """Rows of a round's participants; None where only names are known."""
    return result.participants.rows if isinstance(result.participants, NodeNames) else None


def finished_wire(result: RoundResult) -> dict[str, Any]:
    """A finished round as the journal keeps it: with how its nodes did, and which they were."""
    wire = {**result.to_wire(), "failures": named_failures(result.failures), "spread": dict(result.spread)}
    if result.left_out:
        wire["left_out"] = named_failures(result.left_out)
    if result.digests:
        wire["digests"] = dict(result.digests)
    wire["rows"] = row_ranges(rows) if (rows := rows_of(result)) is not None else []
    if len(result.participants) <= NAMED_IDS:
        wire["ids"] = list(result.participants)
    return wire


def named_failures(failures: Mapping[str, str]) -> dict[str, str]:
    """Why the first failed nodes failed, by id: with all of ten thousand a row of the journal would be megabytes.

    How many failed for which cause is in the round's `spread`, and how many in all in `failed`.
    """
    return {node_id: why[:MOST_WORDS] for node_id, why in islice(failures.items(), NAMED_FAILURES)}


def failed_wire(number: int, seconds: float, error: Exception) -> dict[str, Any]:
    """A failed round as a row of the history."""
    failures = error.fields.get("failed", {}) if isinstance(error, RedError) else {}
    ended = time.time()
    left_out = error.fields.get("left_out", {}) if isinstance(error, RedError) else {}
    result = RoundResult(number, math.nan, {}, {}, (), failures, seconds, ended, left_out=left_out)
    spread = node_statistics(Answers(), Answers(), failures, lambda rows: (), left_out)
    named = {name: named_failures(told) for name, told in (("failures", failures), ("left_out", left_out)) if told}
    return {**result.to_wire(), **named, "state": "failed", "spread": spread}


def summary(result: RoundResult) -> str:
    """A round in a line."""
    told = measured(result.loss, result.metrics, result.train_metrics.get("loss"))
    parts = [f"{name} {value:.4g}" for name, value in told]
    parts.append(f"{len(result.participants)} results in {result.seconds:.2f} s")
    for count, what, causes in (
        (result.failed, "failed", result.failures),
        (result.num_left_out, "left out", result.left_out),
    ):
        if causes:
            parts.append(f"{count} {what} ({causes_text(causes)})")
    return "  ".join(parts)
