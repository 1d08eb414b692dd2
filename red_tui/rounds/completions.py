"""Ray's completions as messages to one asyncio loop: nothing is polled, nothing waits per call."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from concurrent.futures import Future
from typing import Any


class Completions:
    """The calls of one phase.  `next` gives them as they finish, in any order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[Hashable, Any, BaseException | None]] = asyncio.Queue()
        self.waiting: set[Any] = set()

    def add(self, key: Hashable, reference: Any) -> None:
        """Watch an `ObjectRef`; its value must be small, for it is fetched."""
        self.waiting.add(key)
        reference.future().add_done_callback(lambda done: self._arrived(key, done))

    def _arrived(self, key: Hashable, done: Future[Any]) -> None:
        error = done.exception()
        message = (key, None if error else done.result(), error)
        # The loop is closed when the federation was closed in the middle of a round: nobody listens any more.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, message)

    async def next(self, until: float | None = None) -> tuple[Any, Any, BaseException | None] | None:
        """The next (key, value, error), or None when none is left or `until` (loop time) has passed."""
        if not self.waiting:
            return None
        if self._queue.empty():
            timeout = None if until is None else until - self._loop.time()
            try:
                message = await asyncio.wait_for(self._queue.get(), timeout)
            except asyncio.TimeoutError:
                return None
        else:
            message = self._queue.get_nowait()
        self.waiting.discard(message[0])
        return message
