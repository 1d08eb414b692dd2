"""Mailboxes: each sender's messages in order and once, STOP first, and room."""

from __future__ import annotations

import pickle
import random
import threading
from typing import Any

import pytest

from red_tui.errors import MessageError
from red_tui.messaging.mailbox import Mailbox, MailboxRule, check_header
from red_tui.messaging.messenger import Absent, Messenger
from red_tui.nodes.template import Message


def message(number: int, sender: str = "a", header: str = "n") -> Message:
    return Message(header, number, sender, number, 0.0)


def bodies(mailbox: Mailbox) -> list[Any]:
    found = []
    while (got := mailbox.get(block=False)) is not None:
        found.append(got.body)
    return found


def test_messages_that_overtake_each_other_or_come_twice_are_read_in_order_and_once() -> None:
    numbers = [number for number in range(1, 101) for _ in range(2)]
    random.Random(7).shuffle(numbers)
    mailbox = Mailbox()
    for number in numbers:
        mailbox.put(message(number), "p")
    assert bodies(mailbox) == list(range(1, 101))
    assert mailbox.received == 100 and mailbox.doubles == 100


def test_senders_are_apart_and_a_rebuilt_one_begins_anew() -> None:
    mailbox = Mailbox()
    for sender, process in (("a", "p"), ("b", "q"), ("a", "rebuilt")):
        mailbox.put(message(1, sender), process)
    assert len(mailbox) == 3 and mailbox.doubles == 0


def test_who_waits_for_each_message_to_arrive_needs_no_numbers() -> None:
    mailbox = Mailbox()
    for number in (3, 1, 1):
        mailbox.put(message(number, "supervisor"), "")
    assert bodies(mailbox) == [3, 1, 1]


def test_numbers_begin_anew_in_each_session() -> None:
    talk, handle, receivers = Messenger("a"), object(), [Messenger("b"), Messenger("b")]
    for session, other in enumerate(receivers):
        talk.link(session, "ring", {"b": handle})
        for body in range(3):
            talk.send("x", body, "b", lambda _, other=other: other)
        assert bodies(other.mailbox) == [0, 1, 2]


def test_stop_stands_at_the_head() -> None:
    mailbox = Mailbox()
    mailbox.put(message(1), "p")
    mailbox.put_first(Message("STOP", None, "supervisor", 0, 0.0))
    first, second = mailbox.get(), mailbox.get()
    assert first is not None and first.header == "STOP" and second is not None and second.body == 1
    assert mailbox.get(block=False) is None and mailbox.get(timeout=0.01) is None


def test_who_sends_to_a_full_mailbox_waits_until_somebody_reads() -> None:
    mailbox = Mailbox(MailboxRule(capacity=1))
    mailbox.put(message(1), "p")
    sent = threading.Event()

    def send() -> None:
        mailbox.put(message(2), "p", wait=60)
        sent.set()

    threading.Thread(target=send, daemon=True).start()
    assert not sent.wait(0.05)
    assert mailbox.get() == message(1)
    assert sent.wait(30) and mailbox.get() == message(2)


@pytest.mark.parametrize("header", ["", "  ", None, 7, "x" * 201, "STOP"])
def test_headers_that_are_none(header: Any) -> None:
    with pytest.raises(MessageError, match="header"):
        check_header(header)


def test_neighbours_by_version_and_numbers_that_go_on() -> None:
    talk, other = Messenger("a"), Messenger("b")
    with pytest.raises(MessageError, match="'a' is not linked yet"):
        talk.send("x", 1, None)
    handle = object()
    talk.link(2, "ring", {"b": handle, "c": None})
    assert talk.link(1, "mesh", {})["version"] == 2 and set(talk.links or ()) == {"b", "c"}
    assert talk.send("x", 1, None, lambda _: other) == 1
    with pytest.raises(MessageError, match="'d' is not a neighbour of 'a' in this topology"):
        talk.send("x", 1, "d")
    with pytest.raises(MessageError, match="'c' is not built"):
        talk.send("x", 1, "c")
    # Who is no neighbour for a while in a session goes on where it was: nothing is taken for a double.
    talk.at_work = True
    talk.link(3, "ring", {})
    talk.link(4, "ring", {"b": handle})
    talk.send("x", 2, "b", lambda _: other)
    assert bodies(other.mailbox) == [1, 2] and other.mailbox.doubles == 0
    assert talk.statistics()["to"] == {"b": [2, 16]}


def test_a_full_mailbox_that_is_not_read_refuses_the_message_after_its_time() -> None:
    rule = MailboxRule(capacity=2, timeout=0.05)
    talk, other = Messenger("a"), Messenger("b")
    other.mailbox.rule = rule
    talk.link(1, "ring", {"b": object()}, rule)
    for body in range(2):
        talk.send("x", body, "b", lambda _: other)
    with pytest.raises(MessageError, match=r"the mailbox of 'b' is full: 2 messages wait there and .* for 0\.05 s"):
        talk.send("x", 2, "b", lambda _: other)
    assert bodies(other.mailbox) == [0, 1]
    talk.send("x", 3, "b", lambda _: other)
    assert bodies(other.mailbox) == [3] and other.mailbox.dropped == 0


@pytest.mark.parametrize(("policy", "left"), [("drop-oldest", [7, 8, 9]), ("drop-newest", [0, 1, 2])])
def test_a_full_mailbox_drops_by_its_policy_and_counts_whose(policy: str, left: list[int]) -> None:
    told: list[int] = []
    mailbox = Mailbox(MailboxRule(capacity=3, policy=policy), lambda: told.append(mailbox.dropped))
    for number in range(10):
        assert mailbox.put(message(number + 1, "a")._replace(body=number), "p") <= 3
    assert mailbox.dropped == 7 and told == list(range(1, 8))
    mailbox.put_first(Message("STOP", None, "supervisor", 0, 0.0))
    mailbox.put(message(1, "b"), "q")
    first = mailbox.get()
    assert first is not None and first.header == "STOP"
    assert len(bodies(mailbox)) == 3
    counts = {sender: (one.received, one.read, one.dropped) for sender, one in mailbox.counts.items()}
    lost = (8, 0) if policy == "drop-oldest" else (7, 1)
    assert counts == {"a": (10, 10 - lost[0], lost[0]), "b": (1, 1 - lost[1], lost[1])}


@pytest.mark.parametrize(("policy", "left"), [("drop-oldest", [7, 8, 9]), ("drop-newest", [0, 1, 2])])
def test_what_is_dropped_leaves_no_gap_in_a_senders_numbers(policy: str, left: list[int]) -> None:
    mailbox = Mailbox(MailboxRule(capacity=3, policy=policy))
    for number in range(10):
        mailbox.put(message(number + 1, "a")._replace(body=number), "p")
    assert bodies(mailbox) == left
    mailbox.put(message(11, "a"), "p")
    assert bodies(mailbox) == [11]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"capacity": 0}, "at least 1, not 0"),
        ({"capacity": True}, "at least 1, not True"),
        ({"policy": "drop"}, "no policy 'drop': use wait, drop-oldest, drop-newest"),
        ({"timeout": 0}, "above 0, not 0"),
        ({"size": 3}, "'size' is no key: use capacity, policy, timeout"),
    ],
)
def test_a_mailbox_rule_that_is_none_says_so(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MailboxRule.of(given)
    assert MailboxRule.of(None) == MailboxRule() and MailboxRule.of({"capacity": 3}).capacity == 3


def test_who_sends_learns_why_a_neighbour_cannot_be_reached_and_what_was_lost() -> None:
    talk, other = Messenger("a"), Messenger("b")
    talk.link(1, "ring", {"b": object(), "c": Absent("is virtual")})
    with pytest.raises(MessageError, match="'c' is virtual: messages go to built nodes only"):
        talk.send("x", 1, "c")
    talk.at_work = True
    talk.send("x", 1, "b", lambda _: other)
    link = (talk.links or {})["b"]
    link.depth = 4
    # While it is being rebuilt what is sent to it waits; when it is given up that is said.
    assert talk.link(2, "ring", {"b": Absent("is failed: killed", coming=True)})["lost"] == {}
    assert (talk.links or {})["b"] is link
    assert talk.link(3, "ring", {"b": Absent("is failed: killed")})["lost"] == {"b": (0, 4)}
    with pytest.raises(MessageError, match="'b' is failed: killed: messages go to built nodes only"):
        talk.send("x", 1, "b")


def test_a_message_of_a_stranger_is_refused() -> None:
    talk = Messenger("a")
    talk.link(1, "ring", {}, seal="ours")
    receipt = talk.deliver_all(pickle.dumps(("ours-1", "b", [("x", 1, 0.0, b"N.")], None)), [])
    assert receipt == ("ours-1", 1, 1, 0, "", 0)
    with pytest.raises(MessageError, match="'stranger' is not in the federation of 'a'"):
        talk.deliver_all(pickle.dumps(("theirs", "stranger", [("x", 1, 0.0, b"N.")], None)), [])
    with pytest.raises(MessageError, match="'stranger' is not in the federation of 'a'"):
        talk.deliver("x", 1, "stranger", 1, 0.0, "")
    assert talk.deliver("x", 1, "supervisor", 1, 0.0, "") == 2
