"""Asks a federation's `should_participate`, which is the user's code and may never return.

It is asked on a thread beside the engine's: a question that hangs delays one round, and no command.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from red_tui.federation.engine import Engine
from red_tui.nodes.user_code import check_fork, failure_report, is_framework

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
