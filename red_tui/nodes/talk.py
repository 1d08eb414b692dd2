"""A node's side of talking: who its neighbours are, sending to them, and what was sent."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.errors import MessageError
from red_tui.nodes.mailbox import CAPACITY, Mailbox, Message, check_header
from red_tui.nodes.post import PATIENCE, Letter, Link, Post, packed_of, stored

LARGE = 64_000
"""Bytes from which a body travels once through the object store, and not with each message."""


class Talk:
    """All that a node has for talking."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.mailbox = Mailbox()
        self.version = 0
        self.topology = ""
        self.links: dict[str, Link] | None = None
        self._known: dict[str, Link] = {}
        """All ways of this session: one that comes back goes on with its numbers."""
        self.at_work = False
        """Whether a session's `train` runs: what a neighbour that died did not take is for the one in its place."""
        self._post = Post(node_id)
        self.sent = 0
        self.bytes = 0

    def link(self, version: int, topology: str, handles: Mapping[str, Any]) -> int:
        """Learn who the neighbours are and how to reach them; an older version than the present one is ignored."""
        if version < self.version:
            return self.version
        fresh: dict[str, Link] = {}
        for node_id, handle in handles.items():
            known = self._known.get(node_id)
            if known is not None and known.handle == handle and self.at_work:
                fresh[node_id] = known
                known.try_again()
                continue
            # A neighbour that was rebuilt has heard nothing yet: numbers begin with 1 again.  So they do in each
            # session, for a node that was released and built in the same host has the handle that it had.
            made = fresh[node_id] = self._known[node_id] = Link(node_id, handle, self.node_id, self._post)
            if known is None:
                continue
            if handle is None:
                known.close(f"{node_id!r} has no process any more: messages go to built nodes only")
            elif self.at_work:
                made.take_over(known.unsent())
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
        packed: bytes | None = None
        body_at: Any = None
        for link in chosen:
            with link.lock:
                number, now = link.number + 1, time.time()
                message = Message(header, body, self.node_id, number, now)
                other = near(link.handle) if near is not None else None
                if other is not None:
                    if other.mailbox.put(message, link.process, wait=PATIENCE) > 2 * CAPACITY:
                        raise MessageError(f"the mailbox of {link.node_id!r} is full", node=link.node_id)
                else:
                    if packed is None and body_at is None and link.handle is not None:
                        packed = packed_of(header, body) if size < LARGE else None
                        body_at = stored(header, body) if packed is None else None
                    link.send(Letter(header, number, now, packed, body_at, size))
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

    def deliver_all(
        self, process: str, sender: str, heads: Sequence[tuple[str, int, float, bytes | None]], bodies: Sequence[Any]
    ) -> tuple[int, list[tuple[int, str]]]:
        """Take a batch in; gives how many wait, and (number, why) of those whose body cannot be read here."""
        refused, large = [], iter(bodies)
        for header, number, sent, packed in heads:
            try:
                body = next(large) if packed is None else pickle.loads(packed)
            except Exception as error:
                refused.append((number, f"{type(error).__name__}: {error}"[:200]))
                self.mailbox.skip(sender, number, process)
            else:
                self.mailbox.put(Message(header, body, sender, number, sent), process)
        return len(self.mailbox), refused

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
