"""Calls the hooks of a federation: each on a thread of its own, which rounds never wait for."""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from red_tui.federation.engine import Engine
from red_tui.federation.state import FederationState
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.user_code import check_fork, failure_report, is_framework
from red_tui.rounds.hooks import RoundHook, RunStart

HUNG_AFTER = 30.0
"""Seconds after which a call that has not returned is told of."""

CLOSE_TIMEOUT = 5.0
"""Seconds that the end of a federation waits for hooks to hear of what they have not heard yet."""

Call = tuple[str, Callable[[], Any]]
"""Name of a method, and what makes its argument: results are read when the hook comes to them."""

_STANDARD = sysconfig.get_path("stdlib")


class HookCalls:
    """The hooks of one federation.  Its methods run on the engine's thread, and none of them waits.

    Args:
        state: The federation, for warnings.
        engine: Where warnings are told.
        hooks: The hooks.
        hung_after: Seconds after which a call that has not returned is told of.
    """

    def __init__(
        self, state: FederationState, engine: Engine, hooks: Sequence[RoundHook], hung_after: float = HUNG_AFTER
    ) -> None:
        self._state = state
        self._hung_after = hung_after
        self._threads = [_HookThread(hook, state, engine) for hook in hooks]
        self._looking: asyncio.TimerHandle | None = None

    def run_begins(self, run: RunStart) -> None:
        """Tell of a run that begins."""
        self._tell("on_run_begin", lambda: run)

    def round_ended(self, number: int) -> None:
        """Tell of a round that counts.  Only its number waits for a slow hook."""
        self._tell("on_round_end", lambda: self._state.history.of_number(number))

    def run_ended(self, first: int) -> None:
        """Tell of a run that is over, by the number of its first round."""
        last = self._state.completed
        self._tell("on_run_end", lambda: self._state.history.between(first, last + 1))

    def _tell(self, method: str, argument: Callable[[], Any]) -> None:
        for thread in self._threads:
            thread.add((method, argument))
        if self._threads and self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(self._hung_after, self._look)

    def _look(self) -> None:
        """Warn of hooks that do not return; again later while any has something to hear of."""
        self._looking = None
        for thread in self._threads:
            thread.warn_if_hung(self._hung_after)
        if any(thread.open for thread in self._threads):
            self._looking = asyncio.get_running_loop().call_later(self._hung_after, self._look)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Take nothing more, and give hooks a moment to hear of what is left; from any thread but the engine's."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.end()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class _HookThread:
    """One hook and the thread that calls it; the thread begins with the first call."""

    def __init__(self, hook: RoundHook, state: FederationState, engine: Engine) -> None:
        self._hook, self._state, self._engine = hook, state, engine
        self._name = f"{type(hook).__module__}:{type(hook).__qualname__}"
        self._calls: deque[Call] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._method = ""
        self._ended = False
        self._hung = False

    @property
    def open(self) -> int:
        """How many calls have not returned."""
        with self._wake:
            return len(self._calls) + (self._since is not None)

    def add(self, call: Call) -> None:
        """Let the hook hear of something, when it comes to it."""
        if getattr(type(self._hook), call[0]) is getattr(RoundHook, call[0]):
            return  # it does not want to hear of that
        with self._wake:
            if self._ended:
                return
            self._calls.append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"red-hook-{self._name}", daemon=True)
                self._thread.start()
            self._wake.notify()

    def end(self) -> None:
        """Take no further calls."""
        with self._wake:
            self._ended = True
            self._wake.notify()

    def join(self, timeout: float) -> None:
        """Wait until the hook has heard of all, at most so long."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(timeout)
        if thread.is_alive():
            logging.getLogger("red_tui.federation").warning(
                "the hook %s has %d calls open at the end of the federation: they are given up", self._name, self.open
            )

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._calls:
                    if self._ended:
                        return
                    self._wake.wait()
                method, argument = self._calls.popleft()
                self._since, self._method = time.monotonic(), method
            trouble, trace = self._call(method, argument)
            with self._wake:
                self._since = None
            self._engine.post(self._returned, method, trouble, trace)

    def _call(self, method: str, argument: Callable[[], Any]) -> tuple[str, str]:
        """Call the hook; gives why it failed and where, or nothing."""
        try:
            getattr(self._hook, method)(argument())
            check_fork()
        except BaseException as error:
            # Also an exit: it would end the thread, and the hook would hear of nothing more.
            report = failure_report(error, method)
            return str(report["error"]), str(report["traceback"])
        return "", ""

    def _returned(self, method: str, trouble: str, trace: str) -> None:
        """A call has returned; on the engine's thread."""
        self._hung = False
        if not trouble:
            self._state.trouble(self._topic, "")
            return
        why = first_sentence(trouble, 300)
        text = f"the hook {self._name} is called again next time: {method} raised {why}"
        self._state.trouble(self._topic, text)
        data = {"traceback": trace}
        self._state.record("federation", "warn", f"hook {self._name}", f"{method} raised {why}", data=data)

    def warn_if_hung(self, after: float) -> None:
        """Warn of a call that has not returned for so many seconds; on the engine's thread."""
        with self._wake:
            since, method, waiting = self._since, self._method, len(self._calls)
        if since is None or time.monotonic() - since < after:
            return
        behind = f", and {waiting} further calls wait for it" if waiting else ""
        text = f"the hook {self._name} has not returned from {method} for {after:g} s{self._place}{behind}"
        self._state.trouble(self._topic, f"{text}; rounds go on")
        if not self._hung:
            self._hung = True
            self._state.record("federation", "warn", f"hook {self._name}", text)

    @property
    def _topic(self) -> str:
        return f"hook {self._name} {id(self._hook)}"

    @property
    def _place(self) -> str:
        """The line of the user's code at which the thread stands, as ` (at tracker.py:14)`."""
        frame = sys._current_frames().get(self._thread.ident or 0) if self._thread is not None else None
        for one in reversed(traceback.extract_stack(frame) if frame is not None else []):
            if not is_framework(one.filename) and not one.filename.startswith(_STANDARD):
                return f" (at {Path(one.filename).name}:{one.lineno})"
        return ""
