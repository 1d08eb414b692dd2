"""Coroutines that run in the background of a federation's engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from red_tui.errors import RedError


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
