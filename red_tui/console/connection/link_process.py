"""The console's end of the link: a child process that is started again whenever it ends.

Threads do what could block (spawning, reading, writing, waiting); the event loop only awaits futures.
What the link says unasked and how it fares reach the app as messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from textual.message import Message

from red_tui.errors import RedError, from_wire

FIRST_BACKOFF = 0.5
LAST_BACKOFF = 20.0


class LinkLost(RedError):
    """The link process ended or cannot be started; another one is on its way."""


class LinkTimeout(RedError):
    """The link did not answer in time."""


class LinkPushed(Message):
    """Something that the link said unasked."""

    def __init__(self, push: dict[str, Any]) -> None:
        super().__init__()
        self.push = push


class LinkStatus(Message):
    """The link process came up or went away.

    Attributes:
        up: Whether a link process runs.
        generation: Counts the processes.
        text: Why it went away.
        retry_in: Seconds until the next one is started.
    """

    def __init__(self, up: bool, generation: int, text: str = "", retry_in: float = 0.0) -> None:
        super().__init__()
        self.up = up
        self.generation = generation
        self.text = text
        self.retry_in = retry_in

    def can_replace(self, message: Message) -> bool:
        """Only the newest status matters to a slow screen."""
        return isinstance(message, LinkStatus)


Sink = Callable[[Message], object]


class Link(Protocol):
    """What the console needs of a link; tests have one without a process."""

    def start(self, sink: Sink) -> None:
        """Begin to start link processes; statuses and pushes go to `sink`, from any thread."""

    async def call(self, verb: str, args: dict[str, Any], timeout: float | None) -> Any:
        """Ask the link and await its answer."""

    def succeeded(self) -> None:
        """The link does its work: the next restart need not be delayed."""

    def restart(self) -> None:
        """The link hangs: end its process, another one follows."""

    def close(self, grace: float = 2.0) -> None:
        """End the link process for good."""


class LinkClient:
    """Starts the link process, speaks frames with it, and starts another when it ends, for ever.

    Args:
        command: The link's command line.
        stderr_path: File that takes what the link prints; never the terminal.
        wait: Waits that many seconds for `closing` and says whether it was set; a test's clock.
    """

    def __init__(
        self,
        command: Sequence[str],
        stderr_path: Path | None = None,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._command = list(command)
        self._stderr_path = stderr_path
        self._wait = wait
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._outbox: queue.SimpleQueue[dict[str, Any] | None] | None = None
        self._backoff = FIRST_BACKOFF
        self._thread: threading.Thread | None = None
        self._sink: Sink = _nowhere
        self.generation = 0

    @property
    def pid(self) -> int | None:
        """Process id of the present link, or None."""
        process = self._process
        return None if process is None else process.pid

    def start(self, sink: Sink) -> None:
        """Begin to start link processes; statuses and pushes go to `sink` from a thread."""
        self._sink = sink
        self._thread = threading.Thread(target=self._keep_running, name="link", daemon=True)
        self._thread.start()

    async def call(self, verb: str, args: dict[str, Any], timeout: float | None) -> Any:
        """Ask the link and await its answer.

        Raises:
            RedError: What the link answered, as its own type.
            LinkLost: If there is no link, or it ends before it answers.
            LinkTimeout: If no answer came in `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            if self._outbox is None:
                raise LinkLost("the link to the cluster is not up; another one is being started")
            number = next(self._numbers)
            self._pending[number] = (loop, answer)
            self._outbox.put({"id": number, "verb": verb, "args": args})
        try:
            return await asyncio.wait_for(answer, timeout)
        except (asyncio.TimeoutError, TimeoutError):
            raise LinkTimeout(f"the link did not answer {verb!r} within {timeout:.0f} s") from None
        finally:
            with self._lock:
                self._pending.pop(number, None)

    def succeeded(self) -> None:
        """The link does its work: the next restart begins with the short delay again."""
        self._backoff = FIRST_BACKOFF

    def restart(self) -> None:
        """End a link that hangs; another one follows."""
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()

    def close(self, grace: float = 2.0) -> None:
        """End the link: its stdin is closed, then it is terminated, then killed."""
        self._closing.set()
        with self._lock:
            process, outbox = self._process, self._outbox
            self._outbox = None
        if outbox is not None:
            outbox.put(None)
        if process is not None:
            _end(process, grace)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(grace)

    # -- the link's thread -----------------------------------------------------------------------

    def _keep_running(self) -> None:
        while not self._closing.is_set():
            why = self._run_one()
            if self._closing.is_set():
                return
            delay, self._backoff = self._backoff, min(self._backoff * 2, LAST_BACKOFF)
            self._sink(LinkStatus(False, self.generation, why, delay))
            if self._wait(self._closing, delay):
                return

    def _run_one(self) -> str:
        """Start a link, serve it until it ends, and say why it ended."""
        started = time.monotonic()
        try:
            process = self._spawn()
        except OSError as error:
            return f"the link cannot be started: {error}"
        outbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        writer = threading.Thread(target=_write_all, args=(process, outbox), name="link-writer", daemon=True)
        writer.start()
        with self._lock:
            if self._closing.is_set():
                outbox.put(None)
            else:
                self._outbox = outbox
            self._process = process
            self.generation += 1
        self._sink(LinkStatus(True, self.generation))
        why = self._read_all(process)
        with self._lock:
            self._outbox, self._process = None, None
            lost, self._pending = self._pending, {}
        outbox.put(None)
        _end(process, 0.5)
        for loop, answer in lost.values():
            _resolve(loop, answer, None, LinkLost("the link to the cluster ended before it answered"))
        if time.monotonic() - started > 2 * LAST_BACKOFF:
            self._backoff = FIRST_BACKOFF
        return why or f"the link ended with code {process.returncode}{self._last_words()}"

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._stderr_path is None:
            return self._popen(subprocess.DEVNULL)
        self._stderr_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._stderr_path.open("wb") as words:
            self._stderr_path.chmod(0o600)
            return self._popen(words.fileno())

    def _popen(self, stderr: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)

    def _read_all(self, process: subprocess.Popen[bytes]) -> str:
        from red_tui.protocol.frames import WireError, read_frame

        assert process.stdout is not None
        try:
            while True:
                message = read_frame(process.stdout)  # type: ignore[arg-type]  # Popen says IO[bytes]; it is binary
                if message is None:
                    return ""
                self._take(message)
        except WireError as error:
            return error.message
        except (OSError, ValueError) as error:
            return f"the link's pipe broke: {error}"

    def _take(self, message: dict[str, Any]) -> None:
        if "push" in message:
            self._sink(LinkPushed(message))
            return
        with self._lock:
            waiting = self._pending.pop(message.get("id", -1), None)
        if waiting is None:
            return
        error = message.get("error")
        _resolve(*waiting, message.get("ok"), None if error is None else from_wire(error))

    def _last_words(self) -> str:
        if self._stderr_path is None:
            return ""
        try:
            lines = self._stderr_path.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {lines[-1][:200]}" if lines else ""


def _nowhere(message: Message) -> None:
    """Takes messages before `start`."""


def _resolve(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], result: Any, error: RedError | None) -> None:
    def settle() -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)


def _write_all(process: subprocess.Popen[bytes], outbox: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    from red_tui.protocol.frames import FrameWriter

    assert process.stdin is not None
    writer = FrameWriter(process.stdin)  # type: ignore[arg-type]  # Popen says IO[bytes]; it is binary
    with contextlib.suppress(OSError, ValueError):
        while (message := outbox.get()) is not None:
            writer.write(message)
    with contextlib.suppress(OSError):
        process.stdin.close()


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    for stop in (None, process.terminate, process.kill):
        if stop is not None:
            with contextlib.suppress(OSError):
                stop()
        try:
            process.wait(grace)
            return
        except subprocess.TimeoutExpired:
            continue
