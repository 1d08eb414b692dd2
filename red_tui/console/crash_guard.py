"""No mistake in the console's own code ends it: it is written down and told, and the next look redraws everything."""

from __future__ import annotations

import asyncio
import time
import traceback
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events
from textual.screen import Screen
from textual.worker import WorkerFailed

from red_tui.console.textual_private import DispatchHook, ErrorHook, report_error

if TYPE_CHECKING:
    from textual.dom import DOMNode


MAX_LOG = 1_000_000
"""Bytes after which the file of mistakes starts over."""


class CrashGuard(DispatchHook):
    """Goes on with the next message after one that went wrong, where Textual would stop to listen."""


class GuardedScreen(CrashGuard, Screen[None]):
    """The screen on which all panels stand."""


class GuardedApp(CrashGuard, ErrorHook):
    """Whatever nobody caught arrives in one place, and the app goes on.

    Args:
        mistakes_file: Where mistakes are written down.
    """

    def __init__(self, mistakes_file: Path) -> None:
        super().__init__()
        self._mistakes_file = mistakes_file
        self.mistakes: list[Exception] = []
        """What went wrong, each kind once."""
        self.to_draw_anew = False
        self._goes_on = False

    def get_default_screen(self) -> Screen[None]:
        """The screen that the app begins with."""
        return GuardedScreen(id="_default")

    async def on_event(self, event: events.Event) -> None:
        """Let a key that opens something to type into do so before the next key is looked at: that one is text."""
        if isinstance(event, events.Key) and not event.is_forwarded and self.take_at_once(event):
            return
        await super().on_event(event)

    def take_at_once(self, event: events.Key) -> bool:
        """Act on a key before it is handed to a widget; whether it was one to act on."""
        return False

    def go_on(self) -> None:
        """From now on there is something to go on with: before, a mistake ends the app as Textual does it."""
        self._goes_on = True

    def work_anew(self, name: str, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do something beside what is shown, and give up what goes on under the same name."""
        self.run_worker(later(work, *arguments), name=name, group=name, exclusive=True)

    @abstractmethod
    def say(self, text: str, level: str = "info") -> None:
        """A word in the last line."""

    def on_uncaught(self, error: Exception) -> None:
        """Write a mistake down and say it; the next look redraws everything."""
        if not self._goes_on:
            super().on_uncaught(error)
            return
        cause = error.error if isinstance(error, WorkerFailed) and isinstance(error.error, Exception) else error
        self.to_draw_anew = True
        if any(_place(cause) == _place(known) for known in self.mistakes):
            return  # it is told and written down; drawing anew may fail in the same way each time
        self.mistakes.append(cause)
        try:
            self._write_down(cause)
            self.say(
                f"a mistake of the console: {type(cause).__name__}: {cause}; all is drawn anew, "
                f"{self._mistakes_file} tells more",
                "error",
            )
        except Exception as further:
            self.mistakes.append(further)

    def _write_down(self, error: Exception) -> None:
        path = self._mistakes_file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            begins = not path.exists() or path.stat().st_size > MAX_LOG
            with path.open("w" if begins else "a", encoding="utf-8", errors="replace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n")
                file.writelines(traceback.format_exception(type(error), error, error.__traceback__))
        except OSError:
            pass  # a full disk is no reason to end either

    async def again_and_again(
        self, work: Callable[[], Awaitable[None]], pause: Callable[[float], Awaitable[None]]
    ) -> None:
        """Do endless work; when a mistake ends it, begin it again."""
        while True:
            try:
                await work()
            except Exception as error:
                report_error(self, error)
            await pause(1.0)


def later(work: Callable[..., Awaitable[None]], *arguments: Any) -> Callable[[], Awaitable[None]]:
    """Work for a worker that makes its coroutine when its turn comes.

    One that was made before would never be awaited where something else, or the end of the app, comes first.
    """
    return partial(work, *arguments)


def _place(error: BaseException) -> tuple[object, ...]:
    """Where an error comes from: two of one place are the same mistake."""
    frames = traceback.extract_tb(error.__traceback__)
    return (type(error), *((frame.filename, frame.lineno) for frame in frames[-1:]))


LARGE = 50_000
"""Rows from which on sorting and filtering leave the event loop: below, it takes less than a frame."""


class LatestTask:
    """Computes one thing at a time in a thread; a newer request takes the place of one that waits.

    Args:
        owner: The widget or app whose worker it is.
        name: The worker's name.
    """

    def __init__(self, owner: DOMNode, name: str) -> None:
        self._owner = owner
        self._name = name
        self._waiting: tuple[Callable[[], Any], Callable[[Any], None]] | None = None
        self.busy = False

    def ask(self, compute: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """Compute in a thread, then take the result in the event loop, unless something newer was asked for."""
        self._waiting = (compute, take)
        if not self.busy:
            self.busy = True
            self._owner.run_worker(later(self._work), name=self._name, group=self._name)

    async def _work(self) -> None:
        try:
            while self._waiting is not None:
                (compute, take), self._waiting = self._waiting, None
                result = await asyncio.to_thread(compute)
                if self._waiting is None:
                    take(result)
        finally:
            self.busy = False
