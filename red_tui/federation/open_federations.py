"""The federations of this process: which are open, and what ends one that nobody refers to any more."""

from __future__ import annotations

import atexit
import gc
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from red_tui.errors import NameTaken
from red_tui.federation.engine import Engine
from red_tui.federation.reports import DISK_TIMEOUT
from red_tui.placement.availability import HOW_TO_CLOSE
from red_tui.placement.groups import connection_id

if TYPE_CHECKING:
    from red_tui.federation.lifecycle.lifecycle import Lifecycle
    from red_tui.federation.rounds.hook_calls import HookCalls
    from red_tui.federation.rounds.runner import RoundRunner
    from red_tui.federation.run_folder.script_folder import ScriptFolder
    from red_tui.federation.sessions import Sessions


CLOSE_TIMEOUT = 60.0
"""Seconds that the end of a federation may take."""

log = logging.getLogger("red_tui.federation")


class Shutdown:
    """What a federation has started and how it ends.  It does not refer to the federation, so it can outlive it."""

    def __init__(self, fed_id: str, namespace: str, engine: Engine) -> None:
        self.fed_id = fed_id
        self.namespace = namespace
        self.engine = engine
        self.lifecycle: Lifecycle | None = None
        self.runner: RoundRunner | None = None
        self.sessions: Sessions | None = None
        self.folder: ScriptFolder | None = None
        self.hooks: HookCalls | None = None
        self.connection = ""
        self.done = threading.Event()

    def begin(self, lifecycle: Lifecycle, runner: RoundRunner) -> None:
        """Know what is to be ended."""
        self.lifecycle, self.runner, self.connection = lifecycle, runner, connection_id()

    @property
    def holds_bundles(self) -> bool:
        """Whether bundles are reserved for the federation."""
        lifecycle = self.lifecycle
        return lifecycle is not None and lifecycle.pool.ready

    def run(self) -> None:
        """End all processes, give the bundles back and end the engine.  Idempotent.

        Where Ray has been shut down meanwhile it has ended all of this process's, and is not started for it.
        """
        lifecycle, self.lifecycle = self.lifecycle, None
        try:
            if lifecycle is not None and self.connection == connection_id() != "":

                async def end() -> None:
                    if self.runner is not None:
                        await self.runner.end()
                    if self.sessions is not None:
                        await self.sessions.end()
                    await lifecycle.shut_down()

                # A round that is finished is brought to the disk first.
                writing = self.runner is not None and self.runner.writer.pending is not None
                self.engine.wait(end(), timeout=CLOSE_TIMEOUT + (DISK_TIMEOUT if writing else 0.0))
        finally:
            try:
                if self.hooks is not None:
                    self.hooks.close()
                self._end_folder()
                self.engine.close()
            finally:
                self.done.set()

    def _end_folder(self) -> None:
        """The last event of a federation that keeps a journal."""
        folder, self.folder = self.folder, None
        if folder is None:
            return

        async def end() -> None:
            folder.end()

        self.engine.wait(end(), timeout=CLOSE_TIMEOUT)


class ProcessFederations:
    """All federations of this process that are not closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Shutdown, weakref.ref[Any]] = {}
        self._ending: set[Shutdown] = set()
        atexit.register(self._close_engines)

    def add(self, federation: Any, shutdown: Shutdown) -> None:
        """Know of a federation; it is ended when it is garbage-collected before it was closed."""
        with self._lock:
            self._open[shutdown] = weakref.ref(federation)
        weakref.finalize(federation, self._abandon, shutdown).atexit = False

    def remove(self, shutdown: Shutdown) -> None:
        """Forget a federation that has been closed."""
        with self._lock:
            self._open.pop(shutdown, None)
            self._ending.discard(shutdown)

    def open(self) -> list[Any]:
        """The federations that hold bundles."""
        with self._lock:
            found = [(shutdown, reference()) for shutdown, reference in self._open.items()]
        return [federation for shutdown, federation in found if federation is not None and shutdown.holds_bundles]

    def admit(self, shutdown: Shutdown, timeout: float) -> None:
        """Let a federation reserve its bundles, after those that nobody refers to any more have given theirs back.

        Blocks for at most `timeout` seconds.

        Raises:
            NameTaken: If this process has another open federation of the same id.
        """
        if self._others(shutdown):
            # One that was left in a cycle of references is collected now, and its end begins.
            gc.collect()
        deadline = time.monotonic() + timeout
        for ending in list(self._ending):
            ending.done.wait(max(0.0, deadline - time.monotonic()))
        same = [one for one in self._others(shutdown) if one.fed_id == shutdown.fed_id]
        if any(one.namespace == shutdown.namespace for one in same):
            raise NameTaken(
                f"federation {shutdown.fed_id!r} is open in this very process already: {HOW_TO_CLOSE}; or give this one"
                " another federation_id",
                name=shutdown.fed_id,
                holder="this process",
            )

    def _others(self, shutdown: Shutdown) -> list[Shutdown]:
        with self._lock:
            return [one for one in self._open if one is not shutdown and one.holds_bundles]

    def _abandon(self, shutdown: Shutdown) -> None:
        """Nobody refers to a federation any more.  Garbage is collected in any thread: its end has one of its own."""
        with self._lock:
            if self._open.pop(shutdown, None) is None:
                return
            self._ending.add(shutdown)

        def end() -> None:
            try:
                shutdown.run()
            except Exception:
                log.exception("federation %s, which nobody refers to any more, could not be ended", shutdown.fed_id)
            finally:
                self.remove(shutdown)

        threading.Thread(target=end, name=f"red-end-{shutdown.fed_id}", daemon=True).start()

    def _close_engines(self) -> None:
        """The process ends: Ray ends what its job has started."""
        with self._lock:
            left = [*self._open, *self._ending]
        for shutdown in left:
            shutdown.engine.close()


FEDERATIONS = ProcessFederations()
