"""The half of a node's runtime that talks: messages, sessions, versions."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.messaging.mailbox import STOP, ReadLog, Reads, Receipt
from red_tui.messaging.messenger import Messenger
from red_tui.messaging.payload import check_sendable
from red_tui.nodes.template import Message
from red_tui.nodes.user_code import check_fork, failure_report

_making = threading.Lock()


class NodeMessaging:
    """Gives templates `send`, `receive`, `neighbors` and `update_version`."""

    node_id: str

    @property
    def red_talk(self) -> Messenger:
        """What this node has for talking; made when it is first asked for."""
        made = self.__dict__.get("_red_talk")
        if made is None:
            with _making:
                made = self.__dict__.setdefault("_red_talk", Messenger(self.node_id, self.red_read_log()))
        return made  # type: ignore[no-any-return]

    @property
    def neighbors(self) -> tuple[str, ...]:
        """Ids of the neighbours, as the topology has them now."""
        return tuple(self.red_talk.links or ())

    def send(self, header: str, body: Any = None, to: str | Sequence[str] | None = None) -> int:
        """Send to neighbours; see `FederatedNode.send`."""
        return self.red_talk.send(header, body, to if to is None or isinstance(to, str) else list(to), self.red_near)

    def receive(self, block: bool = True, timeout: float | None = None) -> Message | None:
        """The next message; see `FederatedNode.receive`."""
        talk = self.red_talk
        if talk.post.gathering and block and not talk.mailbox:
            talk.post.flush()
        return talk.mailbox.get(block, timeout)

    def update_version(self, version: Any) -> None:
        """Publish a version; see `FederatedNode.update_version`."""
        self.__dict__["_red_version"] = (time.time(), version)

    def red_near(self, handle: Any) -> Messenger | None:
        """The `Messenger` of a node in this process, or None."""
        return None

    def red_read_log(self) -> ReadLog:
        """Where the reads of this process's nodes are logged."""
        return ReadLog()

    def red_evidence(self, readers: Sequence[str]) -> Reads:
        """What some nodes that died are known to have read."""
        return self.red_talk.evidence.of(readers)

    def red_link(self, version: int, topology: str, handles: Mapping[str, Any], *more: Any) -> dict[str, Any]:
        """Learn who the neighbours are; see `Messenger.link`."""
        return self.red_talk.link(version, topology, handles, *more)

    def red_deliver(self, header: str, body: Any, sender: str, number: int, sent: float, process: str) -> int:
        """Take a message in; gives how many wait."""
        return self.red_talk.deliver(header, body, sender, number, sent, process)

    def red_deliver_all(self, told: bytes, *bodies: Any) -> Receipt | None:
        """Take a batch of messages in; see `Messenger.deliver_all`."""
        return self.red_talk.deliver_all(told, bodies)

    def red_waiting(self) -> int:
        """How many messages wait."""
        return len(self.red_talk.mailbox)

    def red_stop(self) -> None:
        """End a session: STOP stands at the head of the queue."""
        self.red_talk.mailbox.put_first(Message(STOP, None, "supervisor", 0, time.time()))

    def red_statistics(self) -> dict[str, Any]:
        """What was sent and received."""
        return self.red_talk.statistics()

    def red_version(self) -> tuple[float, Any] | None:
        """When the last version was published, and what; None for none."""
        found: tuple[float, Any] | None = self.__dict__.get("_red_version")
        return found

    def red_train(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A session's work; what it returns, or a failure report."""
        started, before = time.perf_counter(), self.red_talk.dropped()
        self.red_talk.at_work = True
        try:
            result = self.train(**arguments)  # type: ignore[attr-defined]
            check_fork()
            check_sendable(result, "train")
            self.red_talk.settle()
        except BaseException as error:
            return {**failure_report(error, "train"), "dropped": self.red_talk.dropped(before)}
        finally:
            self.red_talk.ends_work()
        seconds = time.perf_counter() - started
        return {"result": result, "seconds": seconds, "dropped": self.red_talk.dropped(before)}

    def red_test(self, phase: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A value and its weight, or a failure report."""
        try:
            value, weight = self.test(phase, **arguments)  # type: ignore[attr-defined]
            check_fork()
            return {"value": float(value), "weight": float(weight)}
        except BaseException as error:
            return failure_report(error, "test")
