"""The engine thread: the one writer of a federation's state.

It runs an asyncio loop whose queue is the inbox: commands and Ray's completions arrive as callbacks,
and nothing else touches the state.  Long Ray calls (reserving a group) run on a worker thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from red_tui.errors import CommandRefused

Value = TypeVar("Value")
log = logging.getLogger("red_tui.engine")


class Engine:
    """A thread with an asyncio loop.  It starts at the first command."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._callbacks: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, started if it was not.

        Raises:
            CommandRefused: If the engine has been closed.
        """
        with self._starting:
            if self._closed:
                raise CommandRefused(f"federation {self._name!r} is closed: make a new one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, name=f"red-engine-{self._name}", daemon=True)
                self._thread.start()
            return self._loop

    @property
    def here(self) -> bool:
        """Whether the caller is the engine thread, or a callback that it waits for."""
        thread = threading.current_thread()
        return thread is self._thread or thread in self._callbacks

    def callback(self, function: Callable[[], None], name: str) -> threading.Thread:
        """Run a function of the user's on a thread of its own: it may never return, and the engine goes on."""
        thread = threading.Thread(target=function, name=f"red-{name}-{self._name}", daemon=True)
        self._callbacks.add(thread)
        thread.start()
        return thread

    def _run(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, coroutine: Coroutine[Any, Any, Value]) -> concurrent.futures.Future[Value]:
        """Run a coroutine on the engine's thread; the future may be waited for from any other thread."""
        try:
            loop = self.loop
        except CommandRefused:
            coroutine.close()
            raise
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def wait(self, coroutine: Coroutine[Any, Any, Value], timeout: float | None = None) -> Value:
        """Run a coroutine on the engine's thread and wait for what it gives.

        Raises:
            CommandRefused: If it is called from the engine's own thread or a callback of it: they would wait for
                themselves.
        """
        if self.here:
            coroutine.close()
            raise CommandRefused("a federation's verbs cannot be called from its own callbacks (should_participate)")
        return self.submit(coroutine).result(timeout)

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function on the engine's thread, soon.  After the end of the engine nothing happens."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            # The loop can close between the question and the call; what is posted then has no reader.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(function, *args)

    def close(self) -> None:
        """End the thread."""
        with self._starting:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        loop.call_soon_threadsafe(self._cancel_all)
        thread.join(timeout=10)
        if thread.is_alive():
            log.error("the engine of %s did not end within 10 s", self._name)
        else:
            loop.close()

    def _cancel_all(self) -> None:
        loop = asyncio.get_running_loop()

        async def finish() -> None:
            # What is cancelled may start a last task of its own: again until none is left.
            while tasks := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            loop.stop()

        self._finish = loop.create_task(finish())
