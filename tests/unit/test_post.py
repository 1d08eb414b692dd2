"""How messages leave: at once where they come singly, together where large ones come close upon each other."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from red_tui.nodes import post, talk
from red_tui.nodes.mailbox import MailboxRule
from red_tui.nodes.post import Letter, Link, Post
from red_tui.nodes.talking import Talking

FOREVER = 600.0


class Neighbor:
    """Stands for a node's handle: answers at once, and keeps which bodies came in which call."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.came = threading.Event()
        self.waiting = 0

    @property
    def red_deliver_all(self) -> Neighbor:
        return self

    def remote(self, process: str, sender: str, heads: Any, *bodies: Any) -> Neighbor:
        large = iter(bodies)
        self.calls.append([next(large) if packed is None else packed for _, _, _, packed in heads])
        self.came.set()
        return self

    def future(self) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result((self.waiting, []))
        return done


def large(number: int, size: int = 1_000_000) -> Letter:
    return Letter("x", number, 0.0, None, number, size)


def small(number: int) -> Letter:
    return Letter("x", number, 0.0, b"%d" % number, None, 1)


@pytest.fixture
def neighbor() -> Neighbor:
    return Neighbor()


@pytest.fixture
def link(neighbor: Neighbor, monkeypatch: pytest.MonkeyPatch) -> Link:
    """The way to one neighbour, whose bodies wait for others until somebody asks for them."""
    monkeypatch.setattr(post, "PAUSE", FOREVER)
    monkeypatch.setattr(post, "GATHER", FOREVER)
    return Link("b", neighbor, "a", Post("a"))


def test_large_bodies_that_come_close_upon_each_other_travel_in_one_call(link: Link, neighbor: Neighbor) -> None:
    link.send(large(1))
    assert neighbor.calls == [[1]], "the first one does not wait"
    for number in (2, 3, 4):
        link.send(large(number))
    link.send(small(5))
    link.settle()
    assert neighbor.calls == [[1], [2, 3, 4, b"5"]]


def test_small_ones_never_wait_for_more(link: Link, neighbor: Neighbor) -> None:
    for number in range(1, 5):
        link.send(small(number))
        link.settle()
    assert neighbor.calls == [[b"1"], [b"2"], [b"3"], [b"4"]]


def test_no_more_is_gathered_than_may_wait(link: Link, neighbor: Neighbor) -> None:
    link.send(large(1))
    link.settle()
    for number in (2, 3):
        link.send(large(number, post.WAITING_BYTES // 2))
    assert neighbor.calls == [[1], [2, 3]]


def test_what_was_gathered_goes_when_nothing_follows(
    link: Link, neighbor: Neighbor, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.send(large(1))
    link.settle()
    monkeypatch.setattr(post, "PAUSE", 0.01)
    neighbor.came.clear()
    for number in (2, 3):
        link.send(large(number))
    assert neighbor.came.wait(30)
    link.settle()
    assert [body for call in neighbor.calls for body in call] == [1, 2, 3]


def test_a_batch_brings_no_more_than_the_receiver_has_room_for(neighbor: Neighbor) -> None:
    link = Link("b", neighbor, "a", Post("a"), MailboxRule(capacity=10))
    neighbor.waiting = 7
    link.send(small(1))
    link.settle()
    with link.lock:
        for number in range(2, 7):
            link.send(small(number))
    link.settle()
    assert max(len(call) for call in neighbor.calls) <= 3


def test_who_waits_for_a_message_has_sent_all_of_its_own(neighbor: Neighbor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "PAUSE", FOREVER)
    monkeypatch.setattr(post, "GATHER", FOREVER)
    monkeypatch.setattr(talk, "stored", lambda header, body: body.shape)

    class Node(Talking):
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
