"""The way of messages to one neighbour: in batches, one under way at a time, kept until they have arrived."""

from __future__ import annotations

import io
import queue
import threading
import time
import uuid
from collections import deque
from typing import Any, NamedTuple

from red_tui.errors import MessageError
from red_tui.nodes.mailbox import USUAL, MailboxRule

BATCH = 128
"""Messages that travel together at most."""

WAITING = 256
"""Messages that wait for their turn to one neighbour at most; then who sends waits."""

WAITING_BYTES = 64_000_000

ROOM_PERIOD = 0.02
"""Seconds until a full receiver is asked again."""

IDLE = 5.0
"""Seconds after which the thread that posts ends when there is nothing to post."""


class Letter(NamedTuple):
    """A message on its way.

    Attributes:
        header: What it is about.
        number: Its number from this sender to this receiver.
        sent: Wall-clock second.
        packed: The body's bytes; None where it travels through the object store.
        body: The reference to such a body.
        size: About how many bytes the body has.
    """

    header: str
    number: int
    sent: float
    packed: bytes | None
    body: Any
    size: int


class Post:
    """Sends on what waits when what is under way has arrived: one thread, while there is something to do."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._news: queue.SimpleQueue[tuple[Link, Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, link: Link, done: Any) -> None:
        """A call has been answered (`done`: its future), or a link wants to be asked again later (None)."""
        with self._lock:
            self._news.put((link, done))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"red-post-{self._name}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        later: dict[Link, float] = {}
        while True:
            try:
                link, done = self._news.get(timeout=ROOM_PERIOD if later else IDLE)
            except queue.Empty:
                with self._lock:
                    if not later and self._news.empty():
                        self._thread = None
                        return
            else:
                if done is None:
                    later.setdefault(link, time.monotonic() + ROOM_PERIOD)
                else:
                    link.arrived(done)
            now = time.monotonic()
            for link in [link for link, due in later.items() if due <= now]:
                del later[link]
                link.ask()


class Link:
    """The way to one neighbour.

    Args:
        node_id: The neighbour.
        handle: Its handle; None for a node that is not built.
        sender: Who sends.
        post: Sends on what has to wait.
        rule: What happens where the receiver's mailbox is full.
        why: Why there is no handle.
        seal: What shows that the sender is in the receiver's federation.
    """

    def __init__(
        self,
        node_id: str,
        handle: Any,
        sender: str = "",
        post: Post | None = None,
        rule: MailboxRule = USUAL,
        why: str = "is not built",
        seal: str = "",
    ) -> None:
        self.node_id, self.handle, self.rule, self.why = node_id, handle, rule, why
        self.number = 0
        self.bytes = 0
        self.depth = 0
        self.lock = threading.Lock()
        """Held while a message is numbered and taken in."""
        self.process = seal + uuid.uuid4().hex
        """Names the row of numbers that begins with this link."""
        self._sender, self._post = sender, post
        self._changed = threading.Condition()
        self._queue: deque[Letter] = deque()
        self._bytes = 0
        self._away: list[Letter] | None = None
        self._asking = False
        self._lost = ""
        """Why the receiver does not answer; what it has not taken is kept for the one that takes its place."""
        self._refused = ""
        self._closed = ""

    def send(self, letter: Letter) -> None:
        """Send one message, or let it wait for its turn; waits itself while too many do.

        Raises:
            MessageError: If the receiver is not built, has died, stays full, or refused a message before.
        """
        if self.handle is None:
            raise MessageError(f"{self.node_id!r} {self.why}: messages go to built nodes only", node=self.node_id)
        with self._changed:
            self._changed.wait_for(self._has_room, self.rule.timeout)
            self._raise(full=not self._has_room())
            self._queue.append(letter)
            self._bytes += letter.size
            if not self._lost and self._away is None:
                if self._takes():
                    self._dispatch()
                else:
                    self._ask_later()

    def settle(self) -> None:
        """Wait until everything has arrived.

        Raises:
            MessageError: If it does not.
        """
        with self._changed:
            self._changed.wait_for(self._empty, self.rule.timeout)
            self._raise(full=not self._empty())

    def unsent(self) -> list[Letter]:
        """What has not arrived, in order; this link is not used any more."""
        with self._changed:
            self._closed = f"{self.node_id!r} was rebuilt"
            left = [*(self._away or ()), *self._queue]
            self._queue.clear()
            self._changed.notify_all()
            return left

    def close(self, why: str) -> int:
        """Nothing goes to this neighbour any more: who waits for it is told; gives how many messages are lost."""
        with self._changed:
            left = len(self._away or ()) + len(self._queue)
            self._closed = why
            self._queue.clear()
            self._changed.notify_all()
            return left

    def try_again(self) -> None:
        """The receiver did not answer and is there all the same: it knows by their numbers what it has taken."""
        with self._changed:
            self._lost = ""
            if self._queue and self._away is None and not self._closed:
                self._dispatch()

    def take_over(self, letters: list[Letter]) -> None:
        """Send what the process before did not take, numbered anew."""
        with self.lock, self._changed:
            for letter in letters:
                self.number += 1
                self._queue.append(letter._replace(number=self.number))
                self._bytes += letter.size
            if self._queue:
                self._dispatch()

    def ask(self) -> None:
        """Ask a full receiver for room."""
        with self._changed:
            self._asking = False
            if self._away is None and not self._lost and not self._closed and self._queue:
                self._dispatch(empty=not self._takes())

    def arrived(self, done: Any) -> None:
        """The batch under way was answered, or failed."""
        error = done.exception()
        with self._changed:
            letters, self._away = self._away or [], None
            if error is not None:
                text = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                self._lost = text
                self._queue.extendleft(reversed(letters))
                self._bytes += sum(letter.size for letter in letters)
            else:
                self.depth, refused = done.result()
                if refused:
                    self._refused = f"{self.node_id!r} could not read {len(refused)} messages: {refused[0][1]}"
                if self._queue and not self._closed:
                    if self._takes():
                        self._dispatch()
                    else:
                        self._ask_later()
            self._changed.notify_all()

    def _ask_later(self) -> None:
        if not self._asking and self._post is not None:
            self._asking = True
            self._post.tell(self, None)

    def _dispatch(self, *, empty: bool = False) -> None:
        """Under the lock: send what waits, or an empty batch that only asks how full the receiver is."""
        import ray

        batch: list[Letter] = []
        size = 0
        while self._queue and not empty and len(batch) < BATCH and (not batch or size < WAITING_BYTES):
            batch.append(self._queue.popleft())
            size += batch[-1].size
        self._bytes -= size
        heads = [(letter.header, letter.number, letter.sent, letter.packed) for letter in batch]
        bodies = [letter.body for letter in batch if letter.packed is None]
        try:
            call = self.handle.red_deliver_all.remote(self.process, self._sender, heads, *bodies)
        except (TypeError, ValueError, ray.exceptions.RayError) as error:
            self._lost = str(error).strip().splitlines()[0][:200]
            self._queue.extendleft(reversed(batch))
            self._bytes += size
            return
        self._away = batch
        post = self._post
        assert post is not None
        call.future().add_done_callback(lambda done: post.tell(self, done))

    def _takes(self) -> bool:
        """Whether the receiver takes further messages: one that drops them always does."""
        return self.rule.drops or self.depth < self.rule.capacity

    def _has_room(self) -> bool:
        if self._closed or self._refused:
            return True
        return len(self._queue) < WAITING and self._bytes < WAITING_BYTES

    def _empty(self) -> bool:
        return bool(self._closed or self._refused) or (not self._queue and self._away is None)

    def _raise(self, *, full: bool) -> None:
        """Say what is wrong, if something is."""
        if self._refused:
            why, self._refused = self._refused, ""
            raise MessageError(why, node=self.node_id)
        if self._closed:
            raise MessageError(self._closed, node=self.node_id)
        if full and self._lost:
            raise MessageError(f"{self.node_id!r} cannot be reached: {self._lost}", node=self.node_id)
        if full:
            raise MessageError(
                f"the mailbox of {self.node_id!r} is full: {self.depth} messages wait there and it read too few for"
                f" {self.rule.timeout:g} s",
                node=self.node_id,
            )


def packed_of(header: str, body: Any) -> bytes | None:
    """A small body's bytes, made once for all receivers; None if it holds references that Ray has to follow.

    Raises:
        MessageError: If it cannot be serialised.
    """
    import ray
    from ray import cloudpickle

    class HoldsReference(Exception):
        pass

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, (ray.ObjectRef, ray.actor.ActorHandle)):
                raise HoldsReference
            return super().reducer_override(value)

    into = io.BytesIO()
    try:
        Pickler(into, protocol=5).dump(body)
    except HoldsReference:
        return None
    except Exception as error:
        raise MessageError(f"the body of {header!r} cannot be sent: {error}") from error
    return into.getvalue()


def stored(header: str, body: Any) -> Any:
    """A reference to a body in the object store.

    Raises:
        MessageError: If it cannot be serialised.
    """
    import ray

    try:
        return ray.put(body)
    except Exception as error:
        raise MessageError(f"the body of {header!r} cannot be serialised: {error}") from error
