"""Messages between nodes: what one is, and the bounded mailbox in which a node finds them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from red_tui import checks
from red_tui.errors import MessageError
from red_tui.nodes.template import Message

Read = tuple[str, str, int]
"""Who read, in which row of a sender's numbers, up to which number."""

Reads = Mapping[str, Mapping[str, int]]
"""The same by reader and row."""


class ReadLog:
    """The last read of each row of numbers, in the order of their changes; any thread may use it."""

    def __init__(self) -> None:
        self._version = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()
        """Number and version by reader and row; the newest is last."""
        self._rows: dict[str, set[str]] = {}
        """Rows by reader."""
        self._told: dict[Hashable, int] = {}
        """The version that other processes know."""

    def note(self, reader: str, row: str, number: int) -> None:
        """Note that a message was read."""
        with self._lock:
            self._version += 1
            self._entries[reader, row] = number, self._version
            self._entries.move_to_end((reader, row))
            self._rows.setdefault(reader, set()).add(row)

    def news_for(self, process: Hashable) -> list[Read]:
        """What was read since this was asked last for another process."""
        if self._told.get(process, 0) == self._version:
            return []
        found: list[Read] = []
        with self._lock:
            told, self._told[process] = self._told.get(process, 0), self._version
            for (reader, row), (number, changed) in reversed(self._entries.items()):
                if changed <= told:
                    break
                found.append((reader, row, number))
        return found

    def not_arrived(self, process: Hashable) -> None:
        """A process may not have got its news: it gets all of them again, or it is not there any more."""
        with self._lock:
            self._told.pop(process, None)

    def forget(self, reader: str) -> None:
        """Forget the rows of a reader: a session begins."""
        with self._lock:
            for row in self._rows.pop(reader, ()):
                del self._entries[reader, row]


class ReadEvidence:
    """What other processes are known to have read, from the batches that came from them."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, int]] = {}

    def learn(self, reads: Iterable[Read]) -> None:
        """Take in what came with a batch."""
        for reader, row, number in reads:
            rows = self._known.setdefault(reader, {})
            rows[row] = max(number, rows.get(row, 0))

    def of(self, readers: Iterable[str]) -> dict[str, dict[str, int]]:
        """What some nodes are known to have read."""
        return {reader: dict(self._known[reader]) for reader in readers if reader in self._known}

    def clear(self) -> None:
        """Forget all: a session begins."""
        self._known.clear()

    def add(self, other: Reads) -> None:
        """Take in what somebody else knows."""
        for reader, rows in other.items():
            self.learn((reader, row, number) for row, number in rows.items())


STOP = "STOP"
"""Header of the message that ends a session; it stands at the head of the queue."""

CAPACITY = 1024
"""Default max messages in a mailbox."""

PATIENCE = 60.0
"""Seconds that a sender waits for a receiver that is slow, full or being rebuilt; a federation may say otherwise."""

POLICIES = ("wait", "drop-oldest", "drop-newest")


@dataclass(frozen=True)
class MailboxRule:
    """What happens where more messages come than a node reads.

    Attributes:
        capacity: Max messages that wait in a mailbox.
        policy: `wait`: who sends waits for room.  `drop-oldest`: the message that has waited longest is dropped.
            `drop-newest`: the one that comes is.  What is dropped is counted and told.
        timeout: Seconds that a sender waits for room, or for a receiver that is being rebuilt, before it gets an error.

    Raises:
        ValueError: If one of them cannot be.
    """

    capacity: int = CAPACITY
    policy: str = "wait"
    timeout: float = PATIENCE

    def __post_init__(self) -> None:
        if isinstance(self.capacity, bool) or not isinstance(self.capacity, int) or self.capacity < 1:
            raise ValueError(f"mailbox: capacity is a whole number of at least 1, not {self.capacity!r}")
        if self.policy not in POLICIES:
            raise ValueError(f"mailbox: there is no policy {self.policy!r}: use {', '.join(POLICIES)}")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, (int, float)) or not 0 < self.timeout < 1e9:
            raise ValueError(f"mailbox: timeout is a number of seconds above 0, not {self.timeout!r}")

    @classmethod
    def of(cls, given: MailboxRule | Mapping[str, Any] | None) -> MailboxRule:
        """A rule from one, or from its keys; None: the usual one.

        Raises:
            ValueError: If a key is unknown, or a value cannot be.
        """
        if isinstance(given, MailboxRule):
            return given
        known = [one.name for one in fields(cls)]
        given = {} if given is None else checks.mapping(given, "mailbox", '{"capacity": 1024} or a MailboxRule')
        for key in given:
            if key not in known:
                raise ValueError(f"mailbox: {key!r} is no key: use {', '.join(known)}")
        return cls(**given)

    @property
    def drops(self) -> bool:
        """Whether messages are dropped where there is no room."""
        return self.policy != "wait"


USUAL = MailboxRule()


Receipt = tuple[str, int, int, int, str, int]
"""What a node has heard from a sender: in which row of numbers, up to which one nothing is missing, how many messages
of anybody wait there, how many of the row could not be read, why the last of those could not, and the number of the
last one that the node's `train` has received."""

PAST_ROWS = 3
"""Earlier rows of numbers of a sender that stay known: a message of one may be late."""


@dataclass
class _Heard:
    """What has come from one sender."""

    process: str
    upto: int = 0
    early: dict[int, Message] = field(default_factory=dict)
    """Messages that came before one with a smaller number."""
    unread: int = 0
    """Those that could not be read here."""
    why: str = ""
    """Why the last of them could not."""
    read: int = 0
    """Number of the last one that was given to the reader."""
    remote: bool = False
    """Whether the sender lives in another process."""


@dataclass
class Count:
    """What a mailbox has had from one sender."""

    received: int = 0
    read: int = 0
    dropped: int = 0
    latency: float = 0.0
    """Mean seconds from sending to reading."""


class Mailbox:
    """The messages of one node: in order for each sender, each once.

    Args:
        rule: How many wait at most, and what happens then.
        dropping: Called, outside of any lock, after messages were dropped.
        owner: The node whose mailbox it is.
        reads: Where reads are logged; shared by the nodes of a process.
    """

    def __init__(
        self,
        rule: MailboxRule = USUAL,
        dropping: Callable[[], None] | None = None,
        owner: str = "",
        reads: ReadLog | None = None,
    ) -> None:
        self.rule, self.owner = rule, owner
        self.reads = reads if reads is not None else ReadLog()
        self.counts: dict[str, Count] = {}
        """By sender."""
        self.dropped = 0
        self._dropping = dropping
        self._messages: deque[tuple[Message, _Heard | None]] = deque()
        self._changed = threading.Condition()
        self._heard: dict[str, _Heard] = {}
        self._past: dict[str, deque[_Heard]] = {}
        """Earlier rows of numbers, by sender."""
        self.received = 0
        self.doubles = 0
        self.latency = 0.0
        """Mean seconds from sending to reading, over all that was read."""
        self._read = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message, process: str, *, wait: float = 0.0) -> int:
        """Take a message in, unless it has come before; gives how many wait now.

        Args:
            message: The message.
            process: Names the sender's row of numbers: a rebuilt one begins with 1 again.  Empty: there is none, as the
                sender waits for each message to arrive.
            wait: Seconds to wait for room, where nothing is dropped; if there is none by then it is not taken, and
                -1 is given.
        """
        before = self.dropped
        try:
            with self._changed:
                if wait and not self.rule.drops and not self._room():
                    self._changed.wait_for(self._room, wait)
                    if not self._room():
                        return -1
                return self._put(message, process)
        finally:
            if self.dropped != before and self._dropping is not None:
                self._dropping()

    def heard(self, sender: str) -> Receipt | None:
        """What has come from a sender; None for nothing."""
        heard = self._heard.get(sender)
        if heard is None:
            return None
        return heard.process, heard.upto, len(self._messages), heard.unread, heard.why, heard.read

    def put_all(self, messages: Sequence[Message], process: str) -> int:
        """Take in what came together from another process; gives how many wait now.  See `put`."""
        before = self.dropped
        with self._changed:
            for message in messages:
                self._put(message, process, remote=True)
        if self.dropped != before and self._dropping is not None:
            self._dropping()
        return len(self._messages)

    def _room(self) -> bool:
        return len(self._messages) < self.rule.capacity

    def _put(self, message: Message, process: str, *, remote: bool = False) -> int:
        if not process:
            self._take(message, None)
        else:
            heard = self._heard.get(message.sender)
            if heard is None or heard.process != process:
                heard = self._other_row(message.sender, heard, process)
                heard.remote = remote
            if message.number <= heard.upto or message.number in heard.early:
                self.doubles += 1
                return len(self._messages)
            heard.early[message.number] = message
            while (following := heard.early.pop(heard.upto + 1, None)) is not None:
                heard.upto += 1
                if following.header:
                    self._take(following, heard)
                else:
                    heard.unread, heard.why = heard.unread + 1, str(following.body)
        self._changed.notify_all()
        return len(self._messages)

    def _other_row(self, sender: str, present: _Heard | None, process: str) -> _Heard:
        """The row of a message that is not of its sender's present row: an earlier one, or the one that begins."""
        past = self._past.get(sender)
        if past is not None:
            for row in past:
                if row.process == process:
                    return row
        if present is not None:
            if past is None:
                past = self._past[sender] = deque(maxlen=PAST_ROWS)
            past.append(present)
        began = self._heard[sender] = _Heard(process)
        return began

    def _take(self, message: Message, heard: _Heard | None) -> None:
        """Under the lock: let a message wait for its reader, or drop one."""
        self.received += 1
        count = self.counts.get(message.sender)
        if count is None:
            count = self.counts[message.sender] = Count()
        count.received += 1
        if self.rule.drops and not self._room():
            self.dropped += 1
            oldest = 1 if self._messages and self._messages[0][0].header == STOP else 0
            if self.rule.policy == "drop-newest" or oldest >= len(self._messages):
                count.dropped += 1
                return
            self.counts[self._messages[oldest][0].sender].dropped += 1
            del self._messages[oldest]
        self._messages.append((message, heard))

    def put_first(self, message: Message) -> None:
        """Put a message at the head of the queue."""
        with self._changed:
            self._messages.appendleft((message, None))
            self._changed.notify_all()

    def get(self, block: bool = True, timeout: float | None = None) -> Message | None:
        """The next message; None if none is there (`block=False`) or none came within `timeout` seconds."""
        with self._changed:
            if block:
                self._changed.wait_for(lambda: bool(self._messages), timeout)
            if not self._messages:
                return None
            message, heard = self._messages.popleft()
            self._read += 1
            if heard is not None:
                heard.read = message.number
                if heard.remote:
                    self.reads.note(self.owner, heard.process, message.number)
            late = max(0.0, time.time() - message.sent)
            self.latency += (late - self.latency) / self._read
            count = self.counts.get(message.sender)
            if count is not None and message.header != STOP:
                count.read += 1
                count.latency += (late - count.latency) / count.read
            self._changed.notify_all()
            return message

    def clear(self) -> None:
        """Forget what waits, at the beginning of a session; who has sent what stays known."""
        with self._changed:
            self._messages.clear()
            self._changed.notify_all()


def check_header(header: Any) -> str:
    """Return a header.

    Raises:
        MessageError: If it is no text, is empty, or is the one that ends sessions.
    """
    if not isinstance(header, str) or not header.strip() or len(header) > 200:
        raise MessageError(f"a message's header is a text of 1 to 200 characters, not {header!r:.80}")
    if header == STOP:
        raise MessageError(f"the header {STOP!r} ends a session: only the federation sends it (fed.stop())")
    return header
