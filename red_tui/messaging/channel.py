"""The way of messages to one neighbour: in batches, one under way at a time, kept until they have arrived."""

from __future__ import annotations

import contextlib
import pickle
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from red_tui.errors import MessageError
from red_tui.messaging.mailbox import USUAL, Mailbox, MailboxRule
from red_tui.messaging.payload import LARGE

IDLE = 5.0
"""Seconds after which the thread that posts ends when there is nothing to post."""


class SenderThread:
    """Sends on what waits when what is under way has arrived: one thread, while there is something to do.

    Args:
        name: The node's id.
        mailbox: What the node has heard goes with what it sends.
    """

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self._name = name
        self.mailbox = mailbox
        self._news: queue.SimpleQueue[tuple[Channel | None, float, Callable[[], None] | None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.gathering: set[Channel] = set()
        """Where large bodies wait for more to travel with them."""

    def flush(self) -> None:
        """Send what waits for more to travel with it: who sends has nothing more to send for now."""
        for link in list(self.gathering):
            link.flush()

    def run(self, act: Callable[[], None]) -> None:
        """Do something soon that its caller must not do."""
        self._add(None, 0.0, act)

    def remind(self, link: Channel, due: float) -> None:
        """Ask a link to go on at a time of the monotonic clock."""
        self._add(link, due, None)

    def _add(self, link: Channel | None, due: float, act: Callable[[], None] | None) -> None:
        with self._lock:
            self._news.put((link, due, act))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"red-post-{self._name}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        later: dict[Channel, float] = {}
        while True:
            try:
                wait = max(0.0, min(later.values()) - time.monotonic()) if later else IDLE
                link, due, act = self._news.get(timeout=wait)
            except queue.Empty:
                with self._lock:
                    if not later and self._news.empty():
                        self._thread = None
                        return
            else:
                if link is not None:
                    later[link] = min(due, later.get(link, due))
                if act is not None:
                    act()
            now = time.monotonic()
            for link in [link for link, due in later.items() if due <= now]:
                del later[link]
                link.go_on()


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

UNHEARD = 0.01
"""Seconds after which somebody hears whether a call was answered, if nothing told before: not each is worth a thread's
turn, as what a neighbour sends tells what it has heard."""


class Envelope(NamedTuple):
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


class ReplacedError(Exception):
    """The receiver has another process now: its message goes to the link's successor."""


class Channel:
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
        post: SenderThread | None = None,
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
        self._receiver = getattr(handle, "red_host", handle)
        """The process in which the neighbour lives."""
        self._method: Any = None
        self._changed = threading.Condition()
        self._queue: deque[Envelope] = deque()
        self._bytes = 0
        self._away: list[Envelope] | None = None
        """What is under way."""
        self._kept: deque[Envelope] = deque()
        """What has arrived but is not known to be read: it is sent again if the receiver's process dies."""
        self.successor: Channel | None = None
        """The way to the process that took the receiver's place."""
        self._call: Any = None
        """The call that brings it."""
        self._turn = 0
        """Counts calls."""
        self._watched = False
        """Whether somebody hears when it is answered.  Nobody needs to where the neighbour answers with a message."""
        self._went = self._came = 0.0
        """When the last call began, and when the last large body was sent."""
        self._hurries = False
        """Whether what waits is not to wait for more to travel with it."""
        self._reminded = False
        """Whether the post will ask this link to go on."""
        self._lost = ""
        """Why the receiver does not answer; what it has not taken is kept for the one that takes its place."""
        self._unread = 0
        """Messages of this row that could not be read there."""
        self._refused = ""
        self._closed = ""

    def send(self, letter: Envelope) -> None:
        """Send one message, or let it wait for its turn; waits itself while too many do.

        Raises:
            MessageError: If the receiver is not built, has died, stays full, or refused a message before.
            ReplacedError: If the receiver was rebuilt.
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
            if self._away is not None:
                self.watch()
            self._changed.wait_for(self._empty, self.rule.timeout)
            self._raise(full=not self._empty())

    def replace(self, successor: Channel, read: Mapping[str, int] | None) -> None:
        """The receiver was rebuilt: what its old process is not known to have read goes to the new one, in order.

        Args:
            successor: The way to the new process.
            read: What others know that the old one has read, by row of numbers.  None: it was not at work, and what
                has arrived does not go to the new one.
        """
        with successor.lock:
            with self._changed:
                self._closed = f"{self.node_id!r} was rebuilt"
                self.look()
                kept = self._kept if read is not None else ()
                known = (read or {}).get(self.process, 0)
                left = [one for one in (*kept, *(self._away or ()), *self._queue) if one.number > known]
                self._queue.clear()
                self._kept.clear()
                self.successor = successor
                self._changed.notify_all()
            successor._take_over(left)

    def forget(self) -> None:
        """The session ends here: nothing is sent again."""
        with self._changed:
            self._kept.clear()

    def close(self, why: str) -> int:
        """Nothing goes to this neighbour any more: who waits for it is told; gives how many messages are lost."""
        with self._changed:
            self._closed = why
            self.look()
            left = len(self._away or ()) + len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
            return left

    def try_again(self) -> None:
        """The receiver did not answer and is there all the same: it knows by their numbers what it has taken."""
        with self._changed:
            self._lost = ""
            self._forward(now=True)

    def _take_over(self, letters: list[Envelope]) -> None:
        """Under `lock`: send what the process before did not read, renumbered."""
        with self._changed:
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
        """It is time to send what was gathered, to ask a full receiver for room, or to hear whether a call arrived."""
        with self._changed:
            self._reminded = False
            if self._away is not None and not self._watched:
                if time.monotonic() < self._went + UNHEARD:
                    self.remind(self._went + UNHEARD)
                else:
                    self.watch()
            self._forward(ask=True)

    def heard(self, process: str, upto: int, waiting: int, unread: int, why: str, read: int = 0) -> None:
        """The neighbour says what it has taken in, in an answer or with a message of its own; see `Mailbox.heard`."""
        with self._changed:
            if process != self.process:
                return
            self.depth = waiting
            if unread > self._unread:
                self._refused = f"{self.node_id!r} could not read {unread - self._unread} messages: {why}"
                self._unread = unread
            if self._away is not None and (not self._away or self._away[-1].number <= upto):
                self._keep(self._away)
                self._away = self._call = None
            while self._kept and self._kept[0].number <= read:
                self._kept.popleft()
            self._forward()
            self._changed.notify_all()

    def _keep(self, letters: list[Envelope]) -> None:
        """Under the lock: these have arrived.  Where messages may be dropped none is sent a second time."""
        if not self.rule.drops:
            self._kept.extend(letters)

    def watch(self) -> None:
        """Under the lock: hear when the call under way is answered."""
        if not self._watched:
            self._watched, turn = True, self._turn
            self._call.future().add_done_callback(lambda done: self._answered(turn, done))

    def _answered(self, turn: int, done: Any) -> None:
        """In a thread of Ray's, which must not call Ray: if there is something to send, it is the post's.

        The thread that holds the lock may be calling Ray right now, so this one does not wait for it either.
        """
        if self._changed.acquire(blocking=False):
            try:
                if not self._queue and done.exception() is None:
                    self._arrived(turn, done)
                    return
            finally:
                self._changed.release()
        assert self._post is not None
        self._post.run(lambda: self._arrived(turn, done))

    def hear(self) -> bool:
        """Wait for the answer of the call under way, in this thread; False: there is none, or it was lost."""
        with self._changed:
            call, turn = self._call, self._turn
            if call is None or self._lost:
                return False
        self._arrived(turn, call.future())
        return True

    @property
    def num_kept(self) -> int:
        """Number of messages that have arrived and are not known to be read."""
        return len(self._kept)

    def _arrived(self, turn: int, done: Any) -> None:
        """A call was answered, or failed."""
        error = done.exception()
        with self._changed:
            if turn != self._turn or self._away is None:
                return
            letters, self._away, self._call = self._away, None, None
            if error is not None:
                text = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                self._lost = text
                if self._post is not None:
                    self._post.mailbox.reads.not_arrived(self._receiver)
                self._queue.extendleft(reversed(letters))
                self._bytes += sum(letter.size for letter in letters)
                self._changed.notify_all()
            else:
                self._keep(letters)
                self.heard(*done.result())

    def look(self) -> None:
        """Under the lock: a call that nobody waits for may have been answered."""
        import ray

        if self._away is not None and ray.wait([self._call], timeout=0)[0]:
            with contextlib.suppress(ray.exceptions.RayError, MessageError):
                self.heard(*ray.get(self._call))

    def _forward(self, *, now: bool = False, ask: bool = False) -> None:
        """Under the lock: send what waits, or see to it that somebody goes on with it later.

        Args:
            now: Nothing is waited for that could travel with it.
            ask: A full receiver is asked for room now.
        """
        if not self._queue:
            return
        self._hurries |= now
        if self._away is not None:
            self.watch()
        if self._away is not None or self._lost or self._closed:
            return
        if not self._takes():
            if ask:
                self._dispatch(empty=True)
            else:
                self.remind(time.monotonic() + ROOM_PERIOD)
            return
        due = min(self._went + GATHER, self._came + PAUSE)
        gathers = LARGE <= self._bytes < WAITING_BYTES and len(self._queue) < BATCH and not self._hurries
        if gathers and time.monotonic() < due:
            self.remind(due)
        else:
            self._dispatch()

    def remind(self, due: float) -> None:
        """Under the lock: the post asks this link to go on at a time."""
        if not self._reminded and self._post is not None:
            self._reminded = True
            self._post.remind(self, due)

    def _dispatch(self, *, empty: bool = False) -> None:
        """Under the lock: send what waits, or an empty batch that only asks how full the receiver is."""
        import ray

        batch: list[Envelope] = []
        most, size = (0 if empty else BATCH if self.rule.drops else min(BATCH, self.rule.capacity - self.depth)), 0
        while self._queue and len(batch) < most and (not batch or size < WAITING_BYTES):
            batch.append(self._queue.popleft())
            size += batch[-1].size
        self._bytes -= size
        heads = [(letter.header, letter.number, letter.sent, letter.packed) for letter in batch]
        bodies = [letter.body for letter in batch if letter.packed is None]
        # One argument of bytes, and a method that is not looked up again: half of what a small message costs here.
        assert self._post is not None
        mailbox = self._post.mailbox
        reads = mailbox.reads.news_for(self._receiver)
        told = pickle.dumps((self.process, self._sender, heads, mailbox.heard(self.node_id), reads), protocol=5)
        try:
            if self._method is None:
                self._method = self.handle.red_deliver_all
            call = self._method.remote(told, *bodies)
        except (TypeError, ValueError, ray.exceptions.RayError) as error:
            mailbox.reads.not_arrived(self._receiver)
            self._lost = str(error).strip().splitlines()[0][:200]
            self._queue.extendleft(reversed(batch))
            self._bytes += size
            return
        self._away, self._call, self._went, self._watched = batch, call, time.monotonic(), False
        self._turn += 1
        hurries = self._hurries
        if not self._queue:
            self._hurries = False
            self._post.gathering.discard(self)
        if self._queue or empty or hurries or size >= LARGE:
            self.watch()
        else:
            self.remind(self._went + UNHEARD)

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
        if self.successor is not None:
            raise ReplacedError(self._closed)
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
