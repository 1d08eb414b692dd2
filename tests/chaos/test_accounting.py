"""The accounts notice what they are there for: each kind of wrong is done to a right journal here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from red_tui.journal.journal import Fold
from red_tui.protocol.events import Event
from tests.chaos.accounting import Account, Replay, count_nodes, count_results, count_rounds
from tests.chaos.scene import Federation

FEDERATION = Federation("books", "process", 5, 5, 6, 10.0)


class Books:
    """A federation that never ran: its journal, the fits of its nodes and its parameters, all in order."""

    def __init__(self) -> None:
        replay = Replay(FEDERATION)
        self.rounds: list[dict[str, Any]] = []
        self.fits: set[tuple[int, str]] = set()
        self.seen: dict[int, float] = {}
        for number in range(1, 7):
            ids = [node for index, node in enumerate(FEDERATION.ids) if (index + number) % 4]
            examples = replay.step(number, ids)
            self.fits |= {(number, node) for node in ids}
            self.seen[number] = 100.0 + number
            self.rounds.append(
                {
                    "number": number,
                    "state": "done",
                    "ids": ids,
                    "participants": len(ids),
                    "num_examples": examples,
                    "metrics": {"accuracy": replay.judged()},
                    "evaluated": 2,
                    "ended": 100.0 + number,
                }
            )
        self.parameters = replay.parameters
        self.running = False

    def fold(self) -> Fold:
        folded = Fold()
        for seq, one in enumerate(self.rounds, start=1):
            folded.take(Event(seq, 0.0, "round", "good", "", "", "", {"result": one}))
        if self.running:
            folded.take(Event(99, 0.0, "round", "info", "", "", "", {"begin": 7}))
        return folded

    def account(self) -> Account:
        account, folded = Account(), self.fold()
        count_rounds(account, folded, self.seen, 6)
        count_results(account, FEDERATION, folded, self.fits, self.parameters)
        return account


def lose_a_round(books: Books) -> None:
    del books.rounds[2]


def lose_the_last_round(books: Books) -> None:
    del books.rounds[-1]


def do_a_round_twice(books: Books) -> None:
    books.rounds.insert(3, books.rounds[2])


def replace_a_round_that_was_seen(books: Books) -> None:
    books.rounds[2]["ended"] += 5


def count_a_result_twice(books: Books) -> None:
    books.rounds[2]["ids"].append(books.rounds[2]["ids"][0])
    books.rounds[2]["participants"] += 1


def count_examples_twice(books: Books) -> None:
    books.rounds[2]["num_examples"] += 300


def count_who_never_answered(books: Books) -> None:
    books.fits.remove((3, books.rounds[2]["ids"][0]))


def forget_a_participant(books: Books) -> None:
    books.rounds[2]["ids"].pop()


def stay_at_the_parameters_of_the_round_before(books: Books) -> None:
    replay = Replay(FEDERATION)
    for one in books.rounds[:-1]:
        replay.step(one["number"], one["ids"])
    books.parameters = replay.parameters


def aggregate_a_round_twice(books: Books) -> None:
    replay = Replay(FEDERATION)
    for one in [*books.rounds, books.rounds[-1]]:
        replay.step(one["number"], one["ids"])
    books.parameters = replay.parameters


def leave_a_round_open(books: Books) -> None:
    books.running = True


def test_right_books_are_right() -> None:
    account = Books().account()
    assert account.problems == []
    assert (account.rounds, account.accuracy > 0.9) == (6, True)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (lose_a_round, "lost"),
        (lose_the_last_round, "lost"),
        (do_a_round_twice, "twice"),
        (replace_a_round_that_was_seen, "lost"),
        (count_a_result_twice, "twice"),
        (count_examples_twice, "twice"),
        (count_who_never_answered, "wrong"),
        (forget_a_participant, "wrong"),
        (stay_at_the_parameters_of_the_round_before, "wrong"),
        (aggregate_a_round_twice, "wrong"),
        (leave_a_round_open, "wrong"),
    ],
)
def test_each_wrong_is_noticed(wrong: Callable[[Books], None], where: str) -> None:
    books = Books()
    wrong(books)
    assert getattr(books.account(), where)


def test_a_node_whose_state_the_journal_does_not_know_is_noticed() -> None:
    account, folded = Account(), Fold()
    ready = {"ids": ["client_0"], "state": "ready"}
    folded.take(Event(1, 0.0, "node", "good", "", "", "ready", ready))
    count_nodes(account, folded, {"client_0": "ready", "client_1": "ready"})
    assert len(account.wrong) == 1 and "client_1" in account.wrong[0]
