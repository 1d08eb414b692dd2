"""A node's side of talking: who its neighbours are, sending to them, and what was sent."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from red_tui.errors import MessageError
from red_tui.messaging.channel import Channel, Envelope, ReplacedError, SenderThread
from red_tui.messaging.mailbox import USUAL, Mailbox, MailboxRule, ReadEvidence, ReadLog, Reads, Receipt, check_header
from red_tui.messaging.payload import Outgoing, keep_mapped, sealed, unpacked
from red_tui.nodes.template import Message

OUTSIDE = "supervisor"
"""The sender of messages from outside of a session."""

TROUBLE_PERIOD = 1.0
"""Seconds between two reports of dropped messages at least."""


class Absent(NamedTuple):
    """Stands for the handle of a neighbour that has no process.

    Attributes:
        why: What it is, such as `is virtual` or `is failed (killed by a signal)`.
        coming: Whether it is being rebuilt: what is sent to it waits for that.
    """

    why: str
    coming: bool = False


class Messenger:
    """All that a node has for talking."""

    def __init__(self, node_id: str, reads: ReadLog | None = None) -> None:
        self.node_id = node_id
        self.mailbox = Mailbox(dropping=self._report_drops, owner=node_id, reads=reads)
        self.evidence = ReadEvidence()
        """What nodes of other processes are known to have read."""
        self._left: dict[str, str] = {}
        self.seal = ""
        """What the messages of this federation's nodes carry; empty before the first link."""
        self.directory: Any = None
        """Handle of the directory, which hears of dropped messages."""
        self._reported = 0.0
        self.version = 0
        self.topology = ""
        self.links: dict[str, Channel] | None = None
        self._known: dict[str, Channel] = {}
        """All ways of this session: one that comes back goes on with its numbers."""
        self.at_work = False
        """Whether a session's `train` runs: what a neighbour that died did not take is for the one in its place."""
        self.post = SenderThread(node_id, self.mailbox)
        self.sent = 0
        self.bytes = 0

    def link(
        self,
        version: int,
        topology: str,
        handles: Mapping[str, Any],
        rule: MailboxRule = USUAL,
        directory: Any = None,
        seal: str = "",
        left: Mapping[str, str] | None = None,
        read: Reads | None = None,
    ) -> dict[str, Any]:
        """Learn who the neighbours are and how to reach them; an older version than the present one is ignored.

        Args:
            version: Grows with each change.
            topology: Name of the rule.
            handles: By id; `Absent` or None for a node without a process.
            rule: What happens where mailboxes are full.
            directory: Handle of the directory.
            seal: What the messages of this federation's nodes carry.
            left: Why nodes that may have been neighbours are none any more, by id.
            read: What neighbours had read, as far as others know it, that were rebuilt while they were at work.  What
                others had not read went with their processes.

        Returns:
            The version that holds now, and `lost`: for each neighbour whose process has ended, how many messages for
            it had not arrived and are not sent again, and how many waited there at most, unread.
        """
        if version < self.version:
            return {"version": self.version, "lost": {}}
        if self.links is not None and not self.at_work:
            # Another session begins: its rows of numbers are others.
            self.mailbox.reads.forget(self.node_id)
            self.evidence.clear()
        fresh: dict[str, Channel] = {}
        lost: dict[str, tuple[int, int]] = {}
        for node_id, told in handles.items():
            known = self._known.get(node_id)
            is_there = known is not None and known.handle is not None
            if known is not None and is_there and self.at_work and isinstance(told, Absent) and told.coming:
                # What is sent to it meanwhile is for the one that takes its place.
                fresh[node_id] = known
                continue
            why, handle = (told.why, None) if isinstance(told, Absent) else ("is not built", told)
            if known is not None and known.handle == handle and handle is not None and self.at_work:
                fresh[node_id] = known
                known.try_again()
                continue
            # A neighbour that was rebuilt has heard nothing yet: numbers begin with 1 again.  So they do in each
            # session, for a node that was released and built in the same host has the handle that it had.
            made = fresh[node_id] = self._known[node_id] = Channel(
                node_id, handle, self.node_id, self.post, rule, why, seal
            )
            if known is None or known.handle is None:
                continue
            if handle is None:
                gone = known.close(f"{node_id!r} has no process any more ({why}): messages go to built nodes only")
                depth = known.depth
            else:
                again = node_id in (read or {}) and not known.rule.drops
                gone, depth = 0, 0 if again else known.depth
                if self.at_work:
                    known.replace(made, (read or {}).get(node_id))
            if self.at_work and (gone or depth):
                lost[node_id] = gone, depth
        for node_id, why in (left or {}).items():
            known = self._known.pop(node_id, None)
            if known is not None and known.handle is not None:
                gone = known.close(f"{node_id!r} {why}")
                if self.at_work and (gone or known.depth):
                    lost[node_id] = gone, known.depth
        self._left = {**self._left, **(left or {})}
        self.links, self.version, self.topology, self.directory = fresh, version, topology, directory
        self.mailbox.rule, self.seal = rule, seal
        return {"version": version, "lost": lost}

    def _report_drops(self) -> None:
        """Messages were dropped: the directory hears of it, seldom enough to cost nothing."""
        directory, now = self.directory, time.monotonic()
        if directory is None or now - self._reported < TROUBLE_PERIOD:
            return
        self._reported = now
        directory.heard.remote(self.node_id, self.dropped())

    def dropped(self, before: Mapping[str, int] | None = None) -> dict[str, int]:
        """How many messages were dropped here, by sender; with `before`: since then."""
        counts = list(self.mailbox.counts.items())
        found = {sender: count.dropped - (before or {}).get(sender, 0) for sender, count in counts}
        return {sender: count for sender, count in found.items() if count}

    def send(self, header: str, body: Any, to: str | list[str] | tuple[str, ...] | None, near: Any = None) -> int:
        """Send to one neighbour, to some, or to all that are built; gives to how many.

        Args:
            header: What it is about.
            body: Anything that Ray can serialise.
            to: An id, ids, or None for all neighbours that are built.
            near: Finds the `Messenger` of a node in this process, or None.

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
        going = Outgoing(header, body)
        for link in chosen:
            present = link
            while True:
                try:
                    self._send(present, header, going, near)
                    break
                except ReplacedError:
                    assert present.successor is not None
                    present = present.successor
        self.sent += len(chosen)
        self.bytes += going.size * len(chosen)
        return len(chosen)

    def _send(self, link: Channel, header: str, going: Outgoing, near: Any) -> None:
        with link.lock:
            number, now = link.number + 1, time.time()
            other = near(link.handle) if near is not None else None
            if other is not None:
                rule, message = other.mailbox.rule, Message(header, going.here(), self.node_id, number, now)
                if other.mailbox.put(message, link.process, wait=rule.timeout) < 0:
                    raise MessageError(
                        f"the mailbox of {link.node_id!r} is full: {len(other.mailbox)} messages wait there and it"
                        f" read too few for {rule.timeout:g} s",
                        node=link.node_id,
                    )
            else:
                packed, reference = going.sent() if link.handle is not None else (None, None)
                link.send(Envelope(header, number, now, packed, reference, going.size))
            link.number = number
            link.bytes += going.size

    def _link(self, node_id: str) -> Channel:
        assert self.links is not None
        link = self.links.get(node_id)
        if link is None and node_id in self._left:
            raise MessageError(f"{node_id!r} {self._left[node_id]}: nothing is sent to it", node=node_id)
        if link is None:
            raise MessageError(
                f"{node_id!r} is not a neighbour of {self.node_id!r} in this topology ({self.topology}): its neighbours"
                f" are {', '.join(list(self.links)[:8]) or 'nobody'}",
                node=node_id,
            )
        return link

    def deliver(self, header: str, body: Any, sender: str, number: int, sent: float, process: str) -> int:
        """Take a message of the federation itself in; gives how many wait."""
        if process or sender != OUTSIDE:
            raise self._stranger(sender)
        return self.mailbox.put(Message(header, sealed(body), sender, number, sent), process)

    def deliver_all(self, told: bytes, bodies: Sequence[Any]) -> Receipt | None:
        """Take a batch in; gives what was heard of its sender.  See `Mailbox.heard`.

        Args:
            told: The sender's row of numbers, its id, of each message header, number, second and bytes, and what the
                sender has heard from here, and what the nodes of its process have read; pickled.
            bodies: Of those that have no bytes, in order.

        Raises:
            MessageError: If the sender is not in this federation.
        """
        process, sender, heads, heard, *more = pickle.loads(told)
        if not process.startswith(self.seal):
            raise self._stranger(sender)
        for reads in more:
            # Before anybody acts on what comes with it.
            self.evidence.learn(reads)
        if heard is not None and (link := self._known.get(sender)) is not None:
            # Before who waits for this message wakes: it finds that its own has arrived.
            link.heard(*heard)
        if bodies:
            keep_mapped()
        large, messages = iter(bodies), []
        for header, number, sent, packed in heads:
            try:
                body = sealed(next(large)) if packed is None else unpacked(packed)
            except Exception as error:
                # Those after it are not to wait for it.
                messages.append(Message("", f"{type(error).__name__}: {error}"[:200], sender, number, 0.0))
            else:
                messages.append(Message(header, body, sender, number, sent))
        self.mailbox.put_all(messages, process)
        return self.mailbox.heard(sender)

    def _stranger(self, sender: str) -> MessageError:
        return MessageError(
            f"{sender!r} is not in the federation of {self.node_id!r}: its message is refused; nodes talk within a"
            " session (fed.train), and from outside fed.send does",
            node=self.node_id,
        )

    def settle(self) -> None:
        """Wait until everything that was sent has arrived."""
        for link in list((self.links or {}).values()):
            present = link
            while True:
                try:
                    present.settle()
                    break
                except ReplacedError:
                    assert present.successor is not None
                    present = present.successor

    def ends_work(self) -> None:
        """A session's `train` has come back: what it sent has arrived, and is not sent again."""
        self.at_work = False
        for link in list((self.links or {}).values()):
            link.forget()

    def statistics(self) -> dict[str, Any]:
        """What was sent and received, in all, to each neighbour and from each sender.

        `to`: messages and bytes; `from`: messages that came, that wait and that were dropped, and the mean seconds
        from sending to reading.
        """
        links, mailbox = self.links or {}, self.mailbox
        heard = list(mailbox.counts.items())
        return {
            "version": self.version,
            "sent": self.sent,
            "sent_bytes": self.bytes,
            "received": mailbox.received,
            "doubles": mailbox.doubles,
            "dropped": mailbox.dropped,
            "waiting": len(mailbox),
            "latency": mailbox.latency,
            "to": {node_id: [link.number, link.bytes] for node_id, link in links.items()},
            "from": {
                sender: [one.received, max(0, one.received - one.read - one.dropped), one.dropped, one.latency]
                for sender, one in heard
            },
        }
