"""From a link process to live data: open, choose, watch, and come back after every loss."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from red_tui.console.connection.link_process import FIRST_BACKOFF, LAST_BACKOFF, Link, LinkLost, LinkStatus, LinkTimeout
from red_tui.errors import RedError
from red_tui.protocol.commands import PROTOCOL
from red_tui.state_folder import operator_name

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes, FederationMirror

TICK = 0.25
WATCH_SECONDS = 10.0
WATCH_GRACE = 10.0
OPEN_SECONDS = 300.0
COMMAND_SECONDS = 30.0
FRESH_AFTER = 2
"""Failures in a row after which another link process tries: one that knew a cluster keeps to that one."""


class ConnectionPhase(Enum):
    """Where a session stands."""

    CONNECTING = "connecting"
    CHOOSING = "choosing"
    FAILED = "failed"
    LIVE = "live"
    LOST = "lost"


class _Fresh(Exception):
    """Another link process has to try."""


class ConnectionListener(Protocol):
    """Who hears of a session; all of it is called in the event loop."""

    def connection_phase(self, phase: ConnectionPhase, error: RedError | None) -> None:
        """The session stands somewhere else, or at the same place for another reason."""

    def connection_choose(self, choices: Mapping[str, Any]) -> None:
        """The operator has to choose; answer with `ConsoleConnection.choose`."""

    def connection_changed(self, changes: Changes) -> None:
        """The mirror took over an update that changed something."""

    async def connection_drained(self) -> None:
        """Return when what was drawn has left for the terminal: a slow terminal slows the watch."""


class ConsoleConnection:
    """One console's connection, over as many link processes as it takes.

    Args:
        link: The link.
        open_args: Arguments of the link's `open`.
        listener: Who hears of it.
        make_mirror: Makes the mirror when the first data is about to come (it imports numpy).
        clock: Monotonic seconds.
        pause: Waits that many seconds.
        read_only_for: Whether a cluster, by its address, may be looked at only.
    """

    def __init__(
        self,
        link: Link,
        open_args: Mapping[str, Any],
        listener: ConnectionListener,
        make_mirror: Callable[[], FederationMirror],
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        read_only_for: Callable[[str], bool] = lambda address: False,
    ) -> None:
        self._read_only_for = read_only_for
        self._link = link
        self._open_args = dict(open_args)
        self._listener = listener
        self._make_mirror = make_mirror
        self._clock = clock
        self.pause = pause
        self._up = asyncio.Event()
        self._generation = 0
        self._answered = asyncio.Event()
        self._retry_now = asyncio.Event()
        self._picked: dict[str, Any] = {}
        self._refresh = False
        self._backoff = FIRST_BACKOFF
        self._replacing = False
        self.leaving = False
        """Whether the link is ending the cluster: that watching fails meanwhile is no reason for another link."""
        self.mirror: FederationMirror | None = None
        self.opened: Mapping[str, Any] = {}
        self.phase = ConnectionPhase.CONNECTING
        self.error: RedError | None = None

    @property
    def read_only(self) -> bool:
        """Whether the link opens what it opens to be looked at only."""
        return bool(self._open_args.get("read_only"))

    # -- what the app tells it -------------------------------------------------------------------

    def link_status(self, status: LinkStatus) -> None:
        """A link process came up or went away."""
        self._generation = status.generation
        if status.up:
            self._replacing = False
            self._up.set()
            return
        self._up.clear()
        if self._replacing:
            return  # asked for; what was wrong before still is
        lost = LinkLost(status.text or "the link ended", retry_in=status.retry_in)
        if self.phase is not ConnectionPhase.FAILED:
            self._stand(ConnectionPhase.LOST if self._was_live else ConnectionPhase.CONNECTING, lost)

    def lost(self, text: str) -> None:
        """The link says that the cluster does not answer."""
        if self.phase is ConnectionPhase.LIVE:
            self._stand(ConnectionPhase.LOST, RedError(text))

    def choose(self, **picked: Any) -> None:
        """The operator chose a `federation` or a `layout`."""
        self._picked = picked
        self._answered.set()

    def retry(self) -> None:
        """Try again at once."""
        self._retry_now.set()

    def reopen_with(self, **args: Any) -> None:
        """Open with these arguments, should another link have to."""
        self._open_args.update(args)

    def refresh(self) -> None:
        """Ask for everything with the next watch."""
        self._refresh = True

    # -- what it does ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect and watch until cancelled."""
        while True:
            await self._up.wait()
            generation = self._generation
            try:
                if await self._open():
                    await self._watch(generation)
            except _Fresh:
                self._replacing = True
                self._link.succeeded()  # its delay is not needed: there was one already
                self._link.restart()
                await self._link_gone(generation)
            except (LinkLost, LinkTimeout) as error:
                if self._up.is_set():  # else `link_status` has told why
                    self._stand(ConnectionPhase.LOST if self._was_live else ConnectionPhase.CONNECTING, error)
                if isinstance(error, LinkTimeout) and not self.leaving:
                    self._link.restart()
                await self._link_gone(generation)

    async def command(self, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Give a command and await what it answers.

        Raises:
            RedError: If it is refused or its fate is unknown.
        """
        request = {
            "command_id": str(uuid.uuid4()),
            "verb": verb,
            "args": dict(args),
            "who": operator_name(),
        }
        return dict(await self._link.call("command", request, COMMAND_SECONDS) or {})

    async def ask(self, verb: str, timeout: float = COMMAND_SECONDS, **args: Any) -> Any:
        """Ask the link itself (`federations`, `leave`, `down`)."""
        return await self._link.call(verb, args, timeout)

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _was_live(self) -> bool:
        return self.mirror is not None and self.mirror.known

    def _stand(self, phase: ConnectionPhase, error: RedError | None = None) -> None:
        self.phase, self.error = phase, error
        self._listener.connection_phase(phase, error)

    async def _link_gone(self, generation: int) -> None:
        """Wait until the link of `generation` is out of the way."""
        while self._up.is_set() and self._generation == generation:
            await asyncio.sleep(0.05)

    async def _open(self) -> bool:
        """Attach or launch; False if the caller has to begin again."""
        if not self._was_live:
            self._stand(ConnectionPhase.CONNECTING)
        failures = 0
        while True:
            try:
                answer = await self._link.call(
                    "open", {**self._open_args, **self._picked, "protocol": PROTOCOL}, OPEN_SECONDS
                )
                if (
                    self._was_live
                    and "federation" in answer
                    and bool(answer.get("embedded")) != bool(self.opened.get("embedded"))
                ):
                    raise RedError(
                        f"another cluster answers, at {answer.get('address')}: leave, and open that one if you want it"
                    )
            except (LinkLost, LinkTimeout):
                raise
            except RedError as error:
                if self._was_live:
                    failures = await self._failed(error, failures)
                    continue
                self._stand(ConnectionPhase.FAILED, error)
                self._picked = {}
                self._retry_now.clear()
                await self._retry_now.wait()
                return False
            if not self._open_args.get("read_only") and self._read_only_for(str(answer.get("address") or "")):
                self._open_args["read_only"] = True
                self._picked = (
                    {"federation": answer.get("federation"), "layout": None} if "federation" in answer else {}
                )
                continue
            if "choose" in answer:
                self._answered.clear()
                self._stand(ConnectionPhase.CHOOSING)
                self._listener.connection_choose(answer["choose"])
                await self._answered.wait()
                self._stand(ConnectionPhase.CONNECTING)
                continue
            self.opened = dict(answer)
            # From now on this federation and no other: a new link attaches, it does not launch again.
            self._picked = {"federation": answer.get("federation"), "layout": None}
            return True

    async def _watch(self, generation: int) -> None:
        if self.mirror is None:
            self.mirror = self._make_mirror()
        mirror = self.mirror
        cursor, failures = None, 0
        while True:
            if not self._up.is_set() or self._generation != generation:
                raise LinkLost("the link ended; another one has to open the federation first")
            if self._refresh:
                self._refresh, cursor = False, None
            try:
                update = await self._link.call(
                    "watch", {"cursor": cursor, "timeout": WATCH_SECONDS}, WATCH_SECONDS + WATCH_GRACE
                )
            except (LinkLost, LinkTimeout):
                raise
            except RedError as error:
                failures = await self._failed(error, failures)
                continue
            changes = self.apply_update(mirror, update)
            if changes is None:
                cursor = None
                await self._wait_longer()
                continue
            cursor, failures, self._backoff = mirror.cursor, 0, FIRST_BACKOFF
            self._link.succeeded()
            # Views first: what they drew is of the old table until they have seen the changes.
            if changes:
                self._listener.connection_changed(changes)
            if self.phase is not ConnectionPhase.LIVE:
                self._stand(ConnectionPhase.LIVE)
            await self.pause(TICK)
            if changes:
                await self._listener.connection_drained()

    def apply_update(self, mirror: FederationMirror, update: Mapping[str, Any]) -> Changes | None:
        """Let the mirror take an update over; None: it makes no sense here, and everything is to be asked for."""
        from red_tui.console.connection.mirror import OutOfStep

        try:
            return mirror.apply(update, self._clock())
        except (OutOfStep, KeyError, ValueError, TypeError, IndexError, AttributeError):
            return None  # what the link sent makes no sense here

    async def _failed(self, error: RedError, failures: int) -> int:
        """Wait after the cluster did not answer; the number of failures in a row.

        Raises:
            _Fresh: If another link has to try.
        """
        self._stand(ConnectionPhase.LOST, error)
        await self._wait_longer()
        if failures + 1 >= FRESH_AFTER and not self.leaving:
            raise _Fresh
        return failures + 1

    async def _wait_longer(self) -> None:
        """Wait, each time twice as long as before up to a limit."""
        seconds, self._backoff = self._backoff, min(self._backoff * 2, LAST_BACKOFF)
        await self._wait_to_retry(seconds)

    async def _wait_to_retry(self, seconds: float) -> None:
        """Wait out a delay; `retry` ends it."""
        self._retry_now.clear()
        waiting = [asyncio.ensure_future(self._retry_now.wait()), asyncio.ensure_future(self.pause(seconds))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
