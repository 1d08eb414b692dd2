"""Hears of the end of processes through the call that each of them answers last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol

from red_tui.errors import RedError
from red_tui.federation.engine import Engine
from red_tui.nodes.failures import Cause, cause_of_death, cause_of_exit


class BackgroundTasks:
    """Holds tasks until they end, and logs the errors that nobody waits for."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in the background; its errors are logged."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # A RedError is a refusal or a failed round: whoever asked hears of it, and the journal holds it.
        if error is not None and not isinstance(error, RedError):
            self._log.error("background work failed", exc_info=error)


RETIRE_TIMEOUT = 5.0
"""Seconds that a process may take to hand over its state before it is ended all the same."""

UNSURE_PERIOD = 0.2
"""Seconds until a process is asked again that Ray lost the connection to."""


class WatchedProcess(Protocol):
    """A process with a lifeline."""

    lifeline: Any

    def renew_lifeline(self) -> None:
        """Make another call that fails when the process ends."""


class Lifelines:
    """Tells of the end of each watched process once, with its cause; all on the engine's thread."""

    def __init__(self, engine: Engine, tasks: BackgroundTasks) -> None:
        self._engine, self._tasks = engine, tasks

    def watch(self, process: WatchedProcess, wanted: Callable[[], bool], ended: Callable[[Cause], None]) -> None:
        """Hear of the end of a process.

        Args:
            process: The process.
            wanted: Whether anybody still asks for it; a process that was replaced or given back is not told of.
            ended: Called with the cause.
        """

        def arrived(done: Future[Any]) -> None:
            self._engine.post(self._heard, process, wanted, ended, done)

        process.lifeline.future().add_done_callback(arrived)

    def _heard(
        self,
        process: WatchedProcess,
        wanted: Callable[[], bool],
        ended: Callable[[Cause], None],
        done: Future[Any],
    ) -> None:
        if not wanted():
            return
        error = done.exception()
        cause = cause_of_exit(done.result()) if error is None else cause_of_death(error)
        if cause.unsure:
            self._tasks.spawn(self._ask_again(process, wanted, ended))
        else:
            ended(cause)

    async def _ask_again(
        self, process: WatchedProcess, wanted: Callable[[], bool], ended: Callable[[Cause], None]
    ) -> None:
        """Ray lost the connection to a process and does not know yet whether it has ended: ask until it does."""
        await asyncio.sleep(UNSURE_PERIOD)
        process.renew_lifeline()
        self.watch(process, wanted, ended)


async def gone(lifeline: Any) -> None:
    """Wait until Ray says that a killed process has ended: then its resources are free."""
    done, _ = await asyncio.wait([asyncio.wrap_future(lifeline.future())], timeout=RETIRE_TIMEOUT)
    for ended in done:
        ended.exception()
