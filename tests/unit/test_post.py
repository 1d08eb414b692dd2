"""How messages leave: at once where they come singly, together where large ones come close upon each other."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from red_tui.errors import MessageError
from red_tui.messaging import channel as ways, payload as bodies
from red_tui.messaging.channel import Channel, Envelope, SenderThread
from red_tui.messaging.mailbox import Mailbox, MailboxRule
from red_tui.messaging.messenger import Messenger
from red_tui.messaging.node_messaging import NodeMessaging

FOREVER = 600.0


class Neighbor:
    """Stands for a node's handle: answers at once, and keeps which bodies came in which call."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.came = threading.Event()
        self.process, self.upto, self.waiting = "", 0, 0
        self.asked = 0
        """How many calls somebody wanted the answer of."""

    @property
    def red_deliver_all(self) -> Neighbor:
        return self

    def remote(self, told: bytes, *bodies: Any) -> Neighbor:
        (self.process, _, heads, *_), large = pickle.loads(told), iter(bodies)
        self.upto = max([self.upto, *(number for _, number, _, _ in heads)])
        self.calls.append([next(large) if packed is None else packed for _, _, _, packed in heads])
        self.came.set()
        return self

    def future(self) -> Future[Any]:
        self.asked += 1
        done: Future[Any] = Future()
        done.set_result((self.process, self.upto, self.waiting, 0, ""))
        return done


def large(number: int, size: int = 1_000_000) -> Envelope:
    return Envelope("x", number, 0.0, None, number, size)


def small(number: int) -> Envelope:
    return Envelope("x", number, 0.0, b"%d" % number, None, 1)


@pytest.fixture
def neighbor() -> Neighbor:
    return Neighbor()


@pytest.fixture
def link(neighbor: Neighbor, monkeypatch: pytest.MonkeyPatch) -> Channel:
    """The way to one neighbour, whose bodies wait for others until somebody asks for them."""
    monkeypatch.setattr(ways, "PAUSE", FOREVER)
    monkeypatch.setattr(ways, "GATHER", FOREVER)
    return Channel("b", neighbor, "a", SenderThread("a", Mailbox()))


def test_large_bodies_that_come_close_upon_each_other_travel_in_one_call(link: Channel, neighbor: Neighbor) -> None:
    link.send(large(1))
    assert neighbor.calls == [[1]], "the first one does not wait"
    for number in (2, 3, 4):
        link.send(large(number))
    link.send(small(5))
    link.settle()
    assert neighbor.calls == [[1], [2, 3, 4, b"5"]]


def test_small_ones_never_wait_for_more(link: Channel, neighbor: Neighbor) -> None:
    for number in range(1, 5):
        link.send(small(number))
        link.settle()
    assert neighbor.calls == [[b"1"], [b"2"], [b"3"], [b"4"]]


def test_no_more_is_gathered_than_may_wait(link: Channel, neighbor: Neighbor) -> None:
    link.send(large(1))
    link.settle()
    for number in (2, 3):
        link.send(large(number, ways.WAITING_BYTES // 2))
    assert neighbor.calls == [[1], [2, 3]]


def test_what_was_gathered_goes_when_nothing_follows(
    link: Channel, neighbor: Neighbor, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.send(large(1))
    link.settle()
    monkeypatch.setattr(ways, "PAUSE", 0.01)
    neighbor.came.clear()
    for number in (2, 3):
        link.send(large(number))
    assert neighbor.came.wait(30)
    link.settle()
    assert [body for call in neighbor.calls for body in call] == [1, 2, 3]


def test_a_batch_brings_no_more_than_the_receiver_has_room_for(neighbor: Neighbor) -> None:
    link = Channel("b", neighbor, "a", SenderThread("a", Mailbox()), MailboxRule(capacity=10))
    neighbor.waiting = 7
    link.send(small(1))
    link.settle()
    with link.lock:
        for number in range(2, 7):
            link.send(small(number))
    link.settle()
    assert max(len(call) for call in neighbor.calls) <= 3


def test_a_message_back_says_that_ones_own_arrived(neighbor: Neighbor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "UNHEARD", FOREVER)
    node = Messenger("a")
    node.link(1, "ring", {"b": neighbor})
    for number in (1, 2, 3):
        node.send("ping", number, "b")
        heard = neighbor.process, number, 0, 0, ""
        receipt = node.deliver_all(pickle.dumps(("row", "b", [("pong", number, 0.0, b"N.")], heard)), [])
        assert receipt == ("row", number, number, 0, "", 0)
    assert len(neighbor.calls) == 3 and neighbor.asked == 0
    # What it said of an earlier row, or of less than what is under way, says nothing.
    node.send("ping", 4, "b")
    for heard in (("another row", 4, 0, 0, ""), (neighbor.process, 3, 0, 0, "")):
        node.deliver_all(pickle.dumps(("row", "b", [], heard)), [])
    node.send("ping", 5, "b")
    assert neighbor.asked == 1
    node.settle()
    assert [pickle.loads(body) for call in neighbor.calls for body in call] == [1, 2, 3, 4, 5]


def test_who_sends_hears_that_a_body_cannot_be_read_there_and_those_after_it_are(neighbor: Neighbor) -> None:
    receiver = Messenger("b")
    heads = [("x", 1, 0.0, b"no pickle"), ("x", 2, 0.0, b"N.")]
    receipt = receiver.deliver_all(pickle.dumps(("row", "a", heads, None)), [])
    assert receipt is not None and receipt[:4] == ("row", 2, 1, 1) and "Error" in receipt[4]
    link = Channel("b", neighbor, "a", SenderThread("a", Mailbox()))
    link.send(small(1))
    link.heard(link.process, 1, 0, 1, "UnpicklingError: no pickle")
    with pytest.raises(MessageError, match="'b' could not read 1 messages: UnpicklingError"):
        link.send(small(2))
    link.heard(link.process, 1, 0, 1, "UnpicklingError: no pickle")
    link.send(small(2))


def test_who_waits_for_a_message_has_sent_all_of_its_own(neighbor: Neighbor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "PAUSE", FOREVER)
    monkeypatch.setattr(ways, "GATHER", FOREVER)
    monkeypatch.setattr(bodies, "stored", lambda header, body: body.shape)

    class Node(NodeMessaging):
        node_id = "a"

    node = Node()
    node.red_link(1, "ring", {"b": neighbor, "c": Neighbor()})
    for rows in (1, 2, 3):
        node.send("x", np.zeros((rows, 100_000)))
    node.red_talk.settle()
    for rows in (4, 5):
        node.send("x", np.zeros((rows, 100_000)))
    before = len(neighbor.calls)
    assert node.receive(block=False) is None
    assert len(neighbor.calls) == before, "who only looks goes on sending"
    assert node.receive(timeout=0.0) is None
    assert neighbor.calls[before:] == [[(4, 100_000), (5, 100_000)]]
