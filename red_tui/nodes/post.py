"""The way of messages to one neighbour: in batches, one under way at a time, kept until they have arrived."""

from __future__ import annotations

import io
import queue
import threading
import time
import uuid
from collections import deque
from functools import lru_cache
from typing import Any, NamedTuple

from red_tui.errors import MessageError
from red_tui.nodes.mailbox import USUAL, MailboxRule

BATCH = 128
"""Messages that travel together at most."""

WAITING = 256
"""Messages that wait for their turn to one neighbour at most; then who sends waits."""

WAITING_BYTES = 64_000_000
"""Bytes of them at most; as much travels together."""

ROOM_PERIOD = 0.02
"""Seconds until a full receiver is asked again."""

GATHER = 0.1
"""Seconds that large bodies wait at most for more to travel with them, where one comes close upon another: a call costs
its receiver about as much as such a body costs the sender, a further reference in it next to nothing."""

PAUSE = 0.02
"""Seconds without a further one after which they do not wait any more."""

GATHERED_FROM = 64_000
"""Bytes from which they wait."""

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
        self._news: queue.SimpleQueue[tuple[Link, Any, float]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.gathering: set[Link] = set()
        """Where large bodies wait for more to travel with them."""

    def flush(self) -> None:
        """Send what waits for more to travel with it: who sends has nothing more to send for now."""
        for link in list(self.gathering):
            link.flush()

    def tell(self, link: Link, done: Any) -> None:
        """A call has been answered; `done` is its future."""
        self._add(link, done, 0.0)

    def remind(self, link: Link, due: float) -> None:
        """Ask a link to go on at a time of the monotonic clock."""
        self._add(link, None, due)

    def _add(self, link: Link, done: Any, due: float) -> None:
        with self._lock:
            self._news.put((link, done, due))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"red-post-{self._name}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        later: dict[Link, float] = {}
        while True:
            try:
                wait = max(0.0, min(later.values()) - time.monotonic()) if later else IDLE
                link, done, due = self._news.get(timeout=wait)
            except queue.Empty:
                with self._lock:
                    if not later and self._news.empty():
                        self._thread = None
                        return
            else:
                if done is None:
                    later[link] = min(due, later.get(link, due))
                else:
                    link.arrived(done)
            now = time.monotonic()
            for link in [link for link, due in later.items() if due <= now]:
                del later[link]
                link.go_on()


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
        self._went = self._came = 0.0
        """When the last call began, and when the last large body was sent."""
        self._hurries = False
        """Whether what waits is not to wait for more to travel with it."""
        self._reminded = False
        """Whether the post will ask this link to go on."""
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
            if not self._has_room():
                self._changed.wait_for(self._has_room, self.rule.timeout)
            self._raise(full=not self._has_room())
            self._queue.append(letter)
            self._bytes += letter.size
            self._forward()
            if letter.packed is None:
                self._came = time.monotonic()
                if self._queue and self._post is not None:
                    self._post.gathering.add(self)

    def settle(self) -> None:
        """Wait until everything has arrived.

        Raises:
            MessageError: If it does not.
        """
        with self._changed:
            self._forward(now=True)
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
            self._forward(now=True)

    def take_over(self, letters: list[Letter]) -> None:
        """Send what the process before did not take, numbered anew."""
        with self.lock, self._changed:
            for letter in letters:
                self.number += 1
                self._queue.append(letter._replace(number=self.number))
                self._bytes += letter.size
            if self._queue:
                self._dispatch()

    def flush(self) -> None:
        """Send what waits for more to travel with it."""
        with self._changed:
            if self._post is not None:
                self._post.gathering.discard(self)
            if self._queue:
                self._forward(now=True)

    def go_on(self) -> None:
        """It is time to send what was gathered, or to ask a full receiver for room."""
        with self._changed:
            self._reminded = False
            self._forward(ask=True)

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
                self._forward()
            self._changed.notify_all()

    def _forward(self, *, now: bool = False, ask: bool = False) -> None:
        """Under the lock: send what waits, or see to it that somebody goes on with it later.

        Args:
            now: Nothing is waited for that could travel with it.
            ask: A full receiver is asked for room now.
        """
        if not self._queue:
            return
        self._hurries |= now
        if self._away is not None or self._lost or self._closed:
            return
        if not self._takes():
            if ask:
                self._dispatch(empty=True)
            else:
                self._remind(time.monotonic() + ROOM_PERIOD)
            return
        due = min(self._went + GATHER, self._came + PAUSE)
        gathers = GATHERED_FROM <= self._bytes < WAITING_BYTES and len(self._queue) < BATCH and not self._hurries
        if gathers and time.monotonic() < due:
            self._remind(due)
        else:
            self._dispatch()

    def _remind(self, due: float) -> None:
        if not self._reminded and self._post is not None:
            self._reminded = True
            self._post.remind(self, due)

    def _dispatch(self, *, empty: bool = False) -> None:
        """Under the lock: send what waits, or an empty batch that only asks how full the receiver is."""
        import ray

        batch: list[Letter] = []
        most, size = (0 if empty else BATCH if self.rule.drops else min(BATCH, self.rule.capacity - self.depth)), 0
        while self._queue and len(batch) < most and (not batch or size < WAITING_BYTES):
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
        self._away, self._went = batch, time.monotonic()
        post = self._post
        assert post is not None
        if not self._queue:
            self._hurries = False
            post.gathering.discard(self)
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

    keep_mapped()
    try:
        return ray.put(body)
    except Exception as error:
        raise MessageError(f"the body of {header!r} cannot be serialised: {error}") from error


@lru_cache(maxsize=1)
def keep_mapped() -> Any:
    """Holds the smallest of objects in the object store, once a process.

    Ray unmaps the store's memory from a process that holds no object of it.  The next body would find none of its
    pages mapped: at four microseconds each these take as long as all else that a body of 4 MB costs.
    """
    import ray

    return ray.put(b"")
