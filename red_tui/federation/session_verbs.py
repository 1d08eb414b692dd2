"""The verbs of sessions and messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from red_tui.errors import CommandRefused, MessageError, SessionError
from red_tui.federation.session_args import Arguments
from red_tui.federation.sessions import STOP_TIMEOUT, SessionResult, Sessions
from red_tui.federation.state import SessionStatus
from red_tui.federation.taking_up import TakingUp
from red_tui.federation.verb_arguments import checked, flag, keywords, seconds, words
from red_tui.nodes.failures import first_sentence

if TYPE_CHECKING:
    from red_tui.federation.selections import Selectable


class SessionVerbs(TakingUp):
    """What a federation does with nodes that talk."""

    _sessions: Sessions | None = None

    def _talking(self) -> Sessions:
        lifecycle, _ = self._ready()
        if self._sessions is None:
            self._sessions = self._shutdown.sessions = Sessions(lifecycle)
        return self._sessions

    @property
    def running(self) -> bool:
        """Whether rounds or a session run."""
        return super().running or (self._sessions is not None and self._sessions.running)

    @property
    def session(self) -> SessionStatus:
        """Whether a session runs, since when and with how many nodes."""
        return self._state.session

    @property
    def topology_version(self) -> list[int]:
        """Changes when another topology is set, and when nodes join or leave."""
        return self._state.topology_version()

    @checked(server_args=keywords, blocking=flag)
    def train(
        self, server_args: Mapping[str, Any] | None = None, client_args: Arguments | None = None, blocking: bool = True
    ) -> SessionResult | None:
        """A session: builds the train nodes that are not built, links them and lets each run its `train`.

        Args:
            server_args: Reach the server's `train`, where its template has one.
            client_args: For all alike (a dict), one a node (a list), or by id (a dict of dicts).
            blocking: False returns at once; `running` says for how long, `stop` ends it.

        Returns:
            What came of it; None if not `blocking`.

        Raises:
            CommandRefused: If rounds or a session run already, or nobody can take part.
            SessionError: If nodes could not be built or linked, or it was stopped before they were.
        """
        _, runner = self._ready()
        sessions = self._talking()

        async def begin() -> Any:
            if runner.running:
                raise CommandRefused("rounds run: stop them, or wait until they are done")
            rows = runner.eligible_for_all("train")
            task = sessions.start(rows, server_args or {}, client_args or {})
            self._state.set_session(running=True, nodes=len(rows), started=time.time(), stopping=False)
            task.add_done_callback(self._session_ended)
            return task

        task = self._engine.wait(begin())
        if not blocking:
            return None

        async def result() -> SessionResult:
            await asyncio.wait([task])
            if task.cancelled():
                raise SessionError("the session was ended before its nodes were at work", failed={})
            made: SessionResult = task.result()
            return made

        return self._engine.wait(result())

    def _refuse_in_session(self) -> None:
        """Raise CommandRefused while a session runs: its nodes cannot take part in rounds."""
        if self._sessions is not None and self._sessions.running:
            raise CommandRefused("a session runs: stop it first, or wait until it is done")

    def _session_ended(self, task: asyncio.Task[SessionResult]) -> None:
        """Say that no session runs, and why one could not go on: nobody may be waiting for it."""
        self._state.set_session(running=False, stopping=False)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._state.record("federation", "error", "session", f"could not go on: {first_sentence(str(error), 400)}")

    @checked(timeout=seconds)
    def stop_session(self, timeout: float = STOP_TIMEOUT) -> str:
        """End a session: STOP reaches each node; one that does not come back within `timeout` seconds is ended."""
        sessions = self._talking()

        async def stop() -> str:
            if sessions.running:
                self._state.set_session(stopping=True)
            return await sessions.stop(timeout)

        return self._engine.wait(stop())

    def send(self, header: str, body: Any = None, to: Selectable = None) -> int:
        """Send a message from outside (sender `supervisor`) to nodes; None: to all that are built.

        Returns:
            To how many it went.

        Raises:
            MessageError: If a receiver that was named is not built, nobody is of that name, or the body cannot be sent.
        """
        sessions = self._talking()
        rows = np.asarray(self.select(to).rows, dtype=np.int64)
        if isinstance(to, str) and len(rows) == 0:
            raise MessageError(
                f"{to!r} is no node of federation {self._state.fed_id!r}, and no query that finds one (fed.node_ids)",
                node=to,
            )
        return self._engine.wait(sessions.send(header, body, rows, to is not None))

    @checked(timeout=seconds)
    def traffic(self, timeout: float = 5.0) -> dict[str, dict[str, Any]]:
        """What the nodes of the last session sent and received, by id; empty if there was none.

        `FED/topology` is asked, which asks the nodes: none of it goes through this federation's engine.
        """
        import ray

        directory = self._lifecycle.directory.handle if self._lifecycle is not None else None
        if directory is None:
            return {}
        try:
            told: dict[str, dict[str, Any]] = ray.get(directory.statistics.remote(False), timeout=timeout)["nodes"]
        except ray.exceptions.RayError:
            # It has just ended and is made anew, or is slow: who looks again sees it.
            return {}
        return told

    @checked(timeout=seconds)
    def pull_version(self, ids: str | Sequence[str], timeout: float = 5.0) -> Any:
        """What nodes published last with `update_version`: of one node itself, of several by id.

        Raises:
            SessionError: If one is not built or publishes nothing within `timeout` seconds.
        """
        sessions = self._talking()
        names = [ids] if isinstance(ids, str) else list(ids)
        rows = np.asarray(self.select(names).rows, dtype=np.int64)
        found = self._engine.wait(sessions.pull(rows, timeout))
        return found[ids] if isinstance(ids, str) else found

    @checked(phase=words, aggregate=flag)
    def test(self, phase: str = "test", aggregate: bool = True, **kwargs: Any) -> Any:
        """Let the nodes with the role test judge: their weighted mean, or (`aggregate=False`) (value, weight) by id.

        Raises:
            CommandRefused: If no node has the role test.
            SessionError: If nodes could not be built, or failed.
        """
        _, runner = self._ready()
        sessions = self._talking()

        async def judge() -> dict[str, tuple[float, float]]:
            rows = runner.eligible_for_all("test")
            if len(rows) == 0:
                raise CommandRefused("no node with the role test is idle: give one the role train-test, say")
            return await sessions.test(rows, phase, kwargs)

        found = self._engine.wait(judge())
        if not aggregate:
            return found
        total = sum(weight for _, weight in found.values())
        if total <= 0:
            raise CommandRefused("the weights of all tests add up to 0: there is no mean")
        return sum(value * weight for value, weight in found.values()) / total
