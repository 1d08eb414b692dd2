"""Ray's completions as messages to one asyncio loop: nothing is polled, nothing waits per call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from typing import Any


class Completions:
    """The calls of one phase.  `next` gives them as they finish, in any order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[tuple[Any, Any, BaseException | None]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.waiting: set[Any] = set()

    def add(self, key: Hashable, reference: Any) -> None:
        """Watch an `ObjectRef`; its value must be small, for it is fetched."""
        self.waiting.add(key)
        reference.future().add_done_callback(lambda done: self._heard(key, done))

    def _heard(self, key: Hashable, done: Future[Any]) -> None:
        """On Ray's thread: pass a completion to the loop."""
        error = done.exception()
        message = (key, None if error else done.result(), error)
        # The loop is closed when the federation was closed in the middle of a round: nobody listens any more.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, message)

    def _take(self, message: tuple[Any, Any, BaseException | None]) -> None:
        self._arrived.append(message)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, until: float | None = None) -> tuple[Any, Any, BaseException | None] | None:
        """The next (key, value, error), or None when none is left or `until` (loop time) has passed."""
        if not self.waiting:
            return None
        if not self._arrived:
            # A bare future and a timer: before Python 3.12 `asyncio.wait_for` can swallow a cancellation that
            # meets a result, and a run that was told to stop now would go on.
            self._waiter = self._loop.create_future()
            timer = None if until is None else self._loop.call_at(until, self._wake)
            try:
                await self._waiter
            finally:
                if timer is not None:
                    timer.cancel()
        if not self._arrived:
            return None
        message = self._arrived.popleft()
        self.waiting.discard(message[0])
        return message


def unasked(reference: Any, *others: Any) -> None:
    """Nobody asks for what a call gives: should it fail, Ray is not to tell the operator of an error that was missed.

    Args:
        reference: To its report.
        *others: To what else it gives; fetched only if it failed, and then there is nothing to fetch.
    """
    reference.future().add_done_callback(lambda done: _known(done, others))


def _known(done: Future[Any], others: Sequence[Any]) -> None:
    """A call whose failure is known: so it is for all that it was to give."""
    if done.exception() is not None:
        for other in others:
            other.future()


async def answer_of(reference: Any, timeout: float | None, others: Sequence[Any] = ()) -> Any:
    """The value of one call.

    Args:
        reference: To the value.
        timeout: Seconds; None: no limit.
        others: References to what else the call gives: if it fails, nobody asks for these.

    Raises:
        TimeoutError: If it did not come within `timeout` seconds.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(done: Future[Any]) -> None:
        if not answer.done():
            error = done.exception()
            answer.set_exception(error) if error is not None else answer.set_result(done.result())

    def heard(done: Future[Any]) -> None:
        # On Ray's thread.  The loop is closed when the federation was closed meanwhile: nobody listens any more.
        _known(done, others)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, done)

    reference.future().add_done_callback(heard)
    # A bare future and a timer, as above.
    timer = None
    if timeout is not None:
        timer = loop.call_later(timeout, lambda: None if answer.done() else answer.set_exception(TimeoutError()))
    try:
        return await answer
    finally:
        if timer is not None:
            timer.cancel()
