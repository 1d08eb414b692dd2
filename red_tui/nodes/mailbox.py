"""Messages between nodes: what one is, and the bounded mailbox in which a node finds them."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from red_tui.errors import MessageError

STOP = "STOP"
"""Header of the message that ends a session; it stands at the head of the queue."""

CAPACITY = 1024
"""Messages that wait in a mailbox before those who send wait too."""


class Message(NamedTuple):
    """One message as the receiver reads it.

    Attributes:
        header: What it is about.
        body: What it brings; large arrays are read where they lie and must not be written to.
        sender: Id of the node that sent it; `supervisor` from outside.
        number: 1 for the first message from this sender to this receiver, and so on without gaps.
        sent: Wall-clock second.
    """

    header: str
    body: Any
    sender: str
    number: int
    sent: float


@dataclass
class _Heard:
    """What has come from one sender."""

    process: str
    upto: int = 0
    early: dict[int, Message] = field(default_factory=dict)
    """Messages that came before one with a smaller number."""


class Mailbox:
    """The messages of one node: in order for each sender, each once.

    Args:
        capacity: Messages that wait at most before `room` is false.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._messages: deque[Message] = deque()
        self._changed = threading.Condition()
        self._heard: dict[str, _Heard] = {}
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
            wait: Seconds to wait for room; without room it is taken all the same, and the number says so.
        """
        with self._changed:
            if wait and len(self._messages) >= self.capacity:
                self._changed.wait_for(lambda: len(self._messages) < self.capacity, wait)
            if not process:
                self.received += 1
                self._messages.append(message)
                self._changed.notify_all()
                return len(self._messages)
            heard = self._heard.get(message.sender)
            if heard is None or heard.process != process:
                heard = self._heard[message.sender] = _Heard(process)
            if message.number <= heard.upto or message.number in heard.early:
                self.doubles += 1
                return len(self._messages)
            heard.early[message.number] = message
            while (following := heard.early.pop(heard.upto + 1, None)) is not None:
                heard.upto += 1
                if following.header:
                    self.received += 1
                    self._messages.append(following)
            self._changed.notify_all()
            return len(self._messages)

    def skip(self, sender: str, number: int, process: str) -> None:
        """A message that cannot be read here is not waited for."""
        self.put(Message("", None, sender, number, 0.0), process)

    def put_first(self, message: Message) -> None:
        """Put a message at the head of the queue."""
        with self._changed:
            self._messages.appendleft(message)
            self._changed.notify_all()

    def get(self, block: bool = True, timeout: float | None = None) -> Message | None:
        """The next message; None if none is there (`block=False`) or none came within `timeout` seconds."""
        with self._changed:
            if block:
                self._changed.wait_for(lambda: bool(self._messages), timeout)
            if not self._messages:
                return None
            message = self._messages.popleft()
            self._read += 1
            self.latency += (max(0.0, time.time() - message.sent) - self.latency) / self._read
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
