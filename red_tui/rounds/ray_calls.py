"""What a host streams back: records that are fetched, and payloads that stay references."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from red_tui.runtime.batch import unpacked


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


def discard(reference: Any, *others: Any) -> None:
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


FETCH_TIMEOUT = 10.0
"""Seconds that a record may take to be fetched once it is there."""


class BundleStream:
    """The answers of one streaming call to a host, in order.

    Records are small and come here; payloads (updates, sums, states) are only referred to, for the one
    who runs the rounds never sees parameters.
    """

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    async def record(self) -> Mapping[str, Any] | None:
        """The next record, or None at the end.

        Raises:
            Exception: Ray's reason when the host has died.
        """
        import ray

        try:
            reference = await self._generator.__anext__()
        except StopAsyncIteration:
            return None
        record: Mapping[str, Any] = ray.get(reference, timeout=FETCH_TIMEOUT)
        return record

    async def payload(self, *, small: bool = False) -> Any:
        """Reference to the payload that follows a record.

        Args:
            small: Ray has sent the value along: waiting for it costs no transfer.

        Raises:
            Exception: Ray's reason when the host died before it handed the payload over.
        """
        # The asynchronous iterator would fetch a large value here.  The plain one does not, but may block
        # for the moment that the host takes to store it: then a thread waits.
        if small:
            reference = await anext(self._generator, None)
        elif self._generator.next_ready():
            reference = _next(self._generator)
        else:
            reference = await _in_daemon(self._generator)
        if reference is None or reference == self._generator.completed():
            await self._generator.completed()
            raise ConnectionError("the host ended its answer before the payload that it announced")
        return reference

    async def states(self) -> Any:
        """Reference to the states that follow a record and its payload."""
        return await self.payload()


class QuickAnswer:
    """The answers of a host that is likely to be done soon: a plain call, and a stream for what is left, if anything.

    Args:
        references: To the payload of the first record, its states, and the record.
        more: Begins the stream of what comes after them.
    """

    def __init__(self, references: Sequence[Any], more: Callable[[], Any]) -> None:
        self._payload, self._states, self._record = references
        self._more = more
        self._stream: BundleStream | None = None
        self._asked = False

    @property
    def promised(self) -> Any:
        """Reference to the payload of the first record, which may be passed on before it is there."""
        return self._payload

    async def record(self) -> Mapping[str, Any] | None:
        """The next record, or None at the end.

        Raises:
            Exception: Ray's reason when the host has died.
        """
        if not self._asked:
            self._asked = True
            record: Mapping[str, Any] = unpacked(await answer_of(self._record, None, (self._payload, self._states)))
            return record
        if self._stream is None:
            self._stream = BundleStream(self._more())
        return await self._stream.record()

    async def payload(self, *, small: bool = False) -> Any:
        """Reference to the payload of the record; see `BundleStream.payload`."""
        if self._stream is not None:
            return await self._stream.payload(small=small)
        # Handed over: what refers to an object keeps it in the store.
        payload, self._payload = self._payload, None
        return payload

    async def states(self) -> Any:
        """Reference to the states of the record."""
        if self._stream is not None:
            return await self._stream.states()
        states, self._states = self._states, None
        return states


def _in_daemon(generator: Any) -> asyncio.Future[Any]:
    """`_next` in a thread that keeps nobody alive: the host that it waits for may be stopped for good."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(value)

    def wait() -> None:
        try:
            value, error = _next(generator), None
        except Exception as raised:
            value, error = None, raised
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=wait, name="red-payload", daemon=True).start()
    return future


def _next(generator: Any) -> Any:
    """The next reference, or None at the end (StopIteration cannot cross a thread)."""
    return next(generator, None)
