"""A node's side of talking: who its neighbours are, sending to them, and what was sent."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any

from red_tui.errors import MessageError
from red_tui.nodes.mailbox import CAPACITY, Mailbox, Message, check_header

LARGE = 64_000
"""Bytes from which a body travels once through the object store, and not with each message."""

WINDOW = 64
"""Messages on their way to one receiver at most."""

PATIENCE = 60.0
"""Seconds that a sender waits for a receiver that is slow or full."""

ROOM_PERIOD = 0.02
"""Seconds until a full receiver is asked again."""


class Link:
    """The way to one neighbour.

    Args:
        node_id: The neighbour.
        handle: Its handle; None for a node that is not built.
    """

    def __init__(self, node_id: str, handle: Any) -> None:
        self.node_id, self.handle = node_id, handle
        self.number = 0
        self.bytes = 0
        self.depth = 0
        self.lock = threading.Lock()
        self._way: deque[Any] = deque()

    def send(self, message: Message, process: str, body: Any) -> None:
        """Send one message; waits while the receiver is full or too many are on their way.

        Raises:
            MessageError: If the receiver is not built, has died, or stays full.
        """
        import ray

        if self.handle is None:
            raise MessageError(f"{self.node_id!r} is not built: messages go to built nodes only", node=self.node_id)
        if len(self._way) >= WINDOW or self.depth >= CAPACITY:
            self._settle(0 if self.depth >= CAPACITY else WINDOW // 2)
        until = time.monotonic() + PATIENCE
        while self.depth >= CAPACITY:
            if time.monotonic() > until:
                raise MessageError(
                    f"the mailbox of {self.node_id!r} is full: {self.depth} messages wait there and it read none for"
                    f" {PATIENCE:g} s",
                    node=self.node_id,
                )
            time.sleep(ROOM_PERIOD)
            self.depth = self._answer(self.handle.red_waiting.remote())
        try:
            call = self.handle.red_deliver.remote(
                message.header, body, message.sender, message.number, message.sent, process
            )
        except (TypeError, ValueError, ray.exceptions.RayError) as error:
            raise MessageError(f"the body of {message.header!r} cannot be sent: {error}") from error
        self._way.append(call)

    def _settle(self, leave: int) -> None:
        """Hear of what is on its way until only `leave` messages are."""
        while len(self._way) > leave:
            self.depth = self._answer(self._way.popleft())

    def settle(self) -> None:
        """Wait until everything has arrived."""
        with self.lock:
            self._settle(0)

    def _answer(self, call: Any) -> int:
        import ray

        try:
            return int(ray.get(call, timeout=PATIENCE))
        except Exception as error:
            self._way.clear()
            text = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise MessageError(f"{self.node_id!r} cannot be reached: {text}", node=self.node_id) from error


class Talk:
    """All that a node has for talking."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.process = uuid.uuid4().hex
        self.mailbox = Mailbox()
        self.version = 0
        self.topology = ""
        self.links: dict[str, Link] | None = None
        self._known: dict[str, Link] = {}
        """All ways that there ever were: one that comes back goes on with its numbers."""
        self.sent = 0
        self.bytes = 0

    def link(self, version: int, topology: str, handles: Mapping[str, Any]) -> int:
        """Learn who the neighbours are and how to reach them; an older version than the present one is ignored."""
        if version < self.version:
            return self.version
        fresh: dict[str, Link] = {}
        for node_id, handle in handles.items():
            known = self._known.get(node_id)
            if known is not None and known.handle == handle:
                fresh[node_id] = known
            else:
                # A neighbour that was rebuilt has heard nothing yet: numbers begin with 1 again.
                fresh[node_id] = self._known[node_id] = Link(node_id, handle)
        self.links, self.version, self.topology = fresh, version, topology
        return version

    def send(self, header: str, body: Any, to: str | list[str] | tuple[str, ...] | None, near: Any = None) -> int:
        """Send to one neighbour, to some, or to all that are built; gives to how many.

        Args:
            header: What it is about.
            body: Anything that Ray can serialise.
            to: An id, ids, or None for all neighbours that are built.
            near: Finds the `Talk` of a node in this process, or None.

        Raises:
            MessageError: If the message cannot be sent; it names sender and receiver.
        """
        check_header(header)
        if self.links is None:
            raise MessageError(
                f"{self.node_id!r} is not linked yet: messages are sent within a session (fed.train)", node=self.node_id
            )
        if to is None:
            chosen = [link for link in self.links.values() if link.handle is not None]
        else:
            chosen = [self._link(node_id) for node_id in ([to] if isinstance(to, str) else to)]
        size = size_of(body)
        carried: Any = None
        for link in chosen:
            with link.lock:
                number, now = link.number + 1, time.time()
                message = Message(header, body, self.node_id, number, now)
                other = near(link.handle) if near is not None else None
                if other is not None:
                    if other.mailbox.put(message, self.process, wait=PATIENCE) > 2 * CAPACITY:
                        raise MessageError(f"the mailbox of {link.node_id!r} is full", node=link.node_id)
                else:
                    if carried is None and link.handle is not None:
                        carried = put_once(header, body, size)
                    link.send(message, self.process, carried)
                link.number = number
                link.bytes += size
        self.sent += len(chosen)
        self.bytes += size * len(chosen)
        return len(chosen)

    def _link(self, node_id: str) -> Link:
        assert self.links is not None
        link = self.links.get(node_id)
        if link is None:
            raise MessageError(
                f"{node_id!r} is not a neighbour of {self.node_id!r} in this topology ({self.topology}): its neighbours"
                f" are {', '.join(list(self.links)[:8]) or 'nobody'}",
                node=node_id,
            )
        return link

    def deliver(self, header: str, body: Any, sender: str, number: int, sent: float, process: str) -> int:
        """Take a message in; gives how many wait."""
        return self.mailbox.put(Message(header, body, sender, number, sent), process)

    def settle(self) -> None:
        """Wait until everything that was sent has arrived."""
        for link in list((self.links or {}).values()):
            link.settle()

    def statistics(self) -> dict[str, Any]:
        """Messages and bytes sent and received, the queue's depth, and what went to each neighbour."""
        links = self.links or {}
        return {
            "sent": self.sent,
            "sent_bytes": self.bytes,
            "received": self.mailbox.received,
            "doubles": self.mailbox.doubles,
            "waiting": len(self.mailbox),
            "latency": self.mailbox.latency,
            "to": {node_id: [link.number, link.bytes] for node_id, link in links.items()},
        }


def size_of(body: Any) -> int:
    """About how many bytes a body has: those of its arrays and texts."""
    if hasattr(body, "nbytes"):
        return int(body.nbytes)
    if isinstance(body, (bytes, bytearray, str)):
        return len(body)
    if isinstance(body, Mapping):
        return sum(size_of(value) for value in body.values())
    if isinstance(body, (list, tuple)):
        return sum(size_of(value) for value in body[:1000])
    return 8


def put_once(header: str, body: Any, size: int) -> Any:
    """A reference to a large body, or the body itself where it is small.

    Raises:
        MessageError: If it cannot be serialised.
    """
    if size < LARGE:
        return body
    import ray

    try:
        return ray.put(body)
    except Exception as error:
        raise MessageError(f"the body of {header!r} cannot be serialised: {error}") from error
