"""A node whose process dies in a session: the next process gets each message once, read or on its way."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from red_tui.errors import MessageError
from red_tui.messaging import channel as links
from red_tui.messaging.mailbox import MailboxRule, ReadLog
from red_tui.messaging.messenger import Absent, Messenger

KEEP = MailboxRule()
DROPS = MailboxRule(policy="drop-oldest")


class Process:
    """Stands for the handle of a node's process: it takes messages in at once, and its answers may be lost."""

    def __init__(self, node_id: str, reads: ReadLog | None = None) -> None:
        self.talk = Messenger(node_id, reads)
        self.answers = True
        self.dead = False

    @property
    def red_deliver_all(self) -> Process:
        return self

    def remote(self, told: bytes, *bodies: Any) -> Call:
        if self.dead:
            return Call(error=MessageError("the actor died"))
        receipt = self.talk.deliver_all(told, bodies)
        return Call(receipt) if self.answers else Call(error=MessageError("the actor died"))

    def read(self) -> list[Any]:
        """All that waits, in order."""
        found = []
        while (message := self.talk.mailbox.get(block=False)) is not None:
            found.append(message.body)
        return found


class Call:
    """Stands for the reference to an answer."""

    def __init__(self, receipt: Any = None, error: Exception | None = None) -> None:
        self.done: Future[Any] = Future()
        if error is None:
            self.done.set_result(receipt)
        else:
            self.done.set_exception(error)

    def future(self) -> Future[Any]:
        return self.done


def linked(
    talk: Messenger, version: int, handles: dict[str, Any], rule: MailboxRule = KEEP, **more: Any
) -> dict[str, Any]:
    answer = talk.link(version, "ring", handles, rule, **more)
    talk.at_work = True
    hear(talk)
    return answer


def send(talk: Messenger, bodies: Sequence[Any], to: str) -> None:
    """Send, and let the sender's other thread hear of each answer."""
    for body in bodies:
        talk.send("x", body, to)
        hear(talk)


def hear(talk: Messenger) -> None:
    """What another thread does: hear the answers that have come."""
    for link in (talk.links or {}).values():
        while link.hear():
            pass


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on another thread, and Ray knows of no answer: the tests say when an answer comes."""
    monkeypatch.setattr(links.Channel, "watch", lambda self: None)
    monkeypatch.setattr(links.Channel, "look", lambda self: None)
    monkeypatch.setattr(links.Channel, "remind", lambda self, due: None)


def test_what_had_arrived_unread_when_the_process_died_comes_to_the_next_one() -> None:
    sender, old, new = Messenger("a"), Process("b"), Process("b")
    linked(sender, 1, {"b": old})
    send(sender, [1, 2, 3], "b")
    assert [old.talk.mailbox.get().body for _ in range(1)] == [1]  # type: ignore[union-attr]
    send(sender, [4], "b")  # its answer says that the first one was read
    assert linked(sender, 2, {"b": Absent("is failed", coming=True)})["lost"] == {}
    assert linked(sender, 3, {"b": new}, read={"b": {}})["lost"] == {}
    assert new.read() == [2, 3, 4]
    send(sender, [5], "b")
    assert new.read() == [5]


def test_a_message_that_was_read_before_the_death_does_not_come_twice_when_its_effects_were_seen() -> None:
    # a → b → c, as on a ring: b reads, sends on, and its process dies before its answer has reached a.
    sender, old, new, witness = Messenger("a"), Process("b"), Process("b"), Process("c")
    linked(sender, 1, {"b": old})
    linked(old.talk, 1, {"c": witness})
    old.answers = False
    send(sender, ["token"], "b")
    assert old.read() == ["token"]
    send(old.talk, ["token, one further"], "c")
    known = witness.talk.evidence.of(["b"])
    linked(sender, 2, {"b": new}, read=known)
    assert new.read() == []
    send(sender, ["next"], "b")
    assert new.read() == ["next"]


def test_a_node_that_had_come_back_and_is_built_again_gets_nothing_of_before() -> None:
    sender, old, new = Messenger("a"), Process("b"), Process("b")
    linked(sender, 1, {"b": old})
    send(sender, [1, 2], "b")
    assert linked(sender, 2, {"b": new})["lost"] == {"b": (0, 2)}
    assert new.read() == []


def test_a_message_that_nobody_saw_an_effect_of_comes_again() -> None:
    sender, old, new = Messenger("a"), Process("b"), Process("b")
    linked(sender, 1, {"b": old})
    old.answers = False
    send(sender, ["token"], "b")
    assert old.read() == ["token"]
    linked(sender, 2, {"b": new}, read={"b": {}})
    assert new.read() == ["token"]


def test_a_node_of_the_same_host_tells_what_the_others_had_read() -> None:
    # a → b → d within b's host → c: only d's message leaves the host before it dies.
    reads = ReadLog()
    sender, old, inner, witness = Messenger("a"), Process("b", reads), Process("d", reads), Process("c")
    linked(sender, 1, {"b": old})
    linked(old.talk, 1, {"d": inner})
    linked(inner.talk, 1, {"c": witness})
    old.answers = False
    send(sender, ["token"], "b")
    assert old.read() == ["token"]
    old.talk.send("x", "further", "d", lambda handle: handle.talk)
    assert inner.read() == ["further"]
    send(inner.talk, ["further still"], "c")
    new = Process("b")
    linked(sender, 2, {"b": new}, read=witness.talk.evidence.of(["b"]))
    assert new.read() == []


def test_who_sends_while_the_receiver_is_replaced_sends_to_the_new_process() -> None:
    sender, old, new = Messenger("a"), Process("b"), Process("b")
    linked(sender, 1, {"b": old})
    present = (sender.links or {})["b"]
    linked(sender, 2, {"b": new}, read={"b": {}})
    sender.links = {"b": present}  # it had looked up the way before the change
    sender.send("x", "late", "b")
    hear(sender)
    assert new.read() == ["late"] and old.read() == []


def test_what_was_read_is_not_kept_and_nothing_is_after_the_end() -> None:
    sender, receiver = Messenger("a"), Process("b")
    linked(sender, 1, {"b": receiver})
    for number in range(100):
        send(sender, [number], "b")
        assert receiver.read() == [number]
    link = (sender.links or {})["b"]
    assert link.num_kept <= 1
    sender.ends_work()
    assert link.num_kept == 0


def test_a_mailbox_that_drops_keeps_nothing_for_later_and_says_what_went_with_its_process() -> None:
    sender, old, new = Messenger("a"), Process("b"), Process("b")
    linked(sender, 1, {"b": old}, DROPS)
    send(sender, [1, 2], "b")
    assert linked(sender, 2, {"b": new}, DROPS, read={"b": {}})["lost"] == {"b": (0, 2)}
    assert new.read() == []


def test_a_late_message_of_the_old_process_does_not_stop_those_of_the_new_one() -> None:
    receiver = Messenger("b")

    def comes(row: str, number: int, body: str) -> None:
        receiver.deliver_all(pickle.dumps((row, "a", [("x", number, 0.0, pickle.dumps(body))], None, [])), [])

    comes("old", 1, "first")
    comes("new", 1, "anew")
    comes("old", 2, "late")
    comes("new", 2, "further")
    bodies = []
    while (message := receiver.mailbox.get(block=False)) is not None:
        bodies.append(message.body)
    assert bodies == ["first", "anew", "late", "further"]
    assert receiver.mailbox.heard("a") == ("new", 2, 0, 0, "", 2)


def test_each_read_is_told_once_to_each_process() -> None:
    log = ReadLog()
    log.note("b", "row", 1)
    log.note("b", "row", 2)
    log.note("c", "row", 7)
    assert sorted(log.news_for("one")) == [("b", "row", 2), ("c", "row", 7)]
    assert log.news_for("one") == []
    log.note("b", "row", 3)
    assert log.news_for("one") == [("b", "row", 3)]
    assert len(log.news_for("two")) == 2
    log.not_arrived("one")
    assert len(log.news_for("one")) == 2
    log.forget("b")
    assert log.news_for("three") == [("c", "row", 7)]
