"""Nodes of a host that fit together: each is given what it would give alone, and nobody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui.runtime.batch import Order
from red_tui.runtime.bundle_actor import BundleActor
from red_tui.runtime.fit_ahead import FitAhead
from tests.unit.steppers import batch

CALLS: list[list[str]] = []


@pytest.fixture(autouse=True)
def no_call_is_left() -> None:
    CALLS.clear()


class Together(red.FederatedNode):
    """Learns the number in its id."""

    fits_together = 3

    @property
    def number(self) -> float:
        return float(self.node_id.strip("n"))

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        CALLS.append([self.node_id])
        return red.FitResult({"w": parameters["w"] + self.number}, 1)

    @classmethod
    def fit_together(cls, nodes: Sequence[Any], parameters: Any, config: Any) -> list[red.FitResult | None]:
        CALLS.append([node.node_id for node in nodes])
        given = [red.FitResult({"w": parameters["w"] + node.number}, 1) for node in nodes]
        return [None if node.number == 2 else result for node, result in zip(nodes, given, strict=True)]


class Counts(Together):
    """Has a `fit` of its own, of which `fit_together` knows nothing."""

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        self.count = getattr(self, "count", 0) + 1
        return super().fit(parameters, config)


class Fails(Together):
    @classmethod
    def fit_together(cls, nodes: Sequence[Any], parameters: Any, config: Any) -> list[red.FitResult | None]:
        CALLS.append([node.node_id for node in nodes])
        raise ArithmeticError("together it does not work")

    fit = Together.fit


def hosted(template: Any, rows: Sequence[int], *, each: bool = True, **asked: Any) -> tuple[Any, Any]:
    host = BundleActor()
    for epoch in (1, 2):
        list(host.build({**batch(list(rows), template), **asked, "epoch": epoch}, {}))
    record, payload = host.work(Order("t", "fit", np.asarray(rows), {"round": 3}, each), {"w": np.ones(2)})
    return record, payload


def test_each_node_is_given_its_own_result_and_called_alone_where_there_is_none() -> None:
    record, updates = hosted(Together, [0, 1, 2, 3, 4])
    assert [update["w"].tolist() for update in updates] == [[1.0 + row] * 2 for row in range(5)]
    assert CALLS == [["n0", "n1", "n2"], ["n2"], ["n3", "n4"]]
    assert record["rows"].tolist() == [0, 1, 2, 3, 4] and (record["seconds"] >= 0).all() and not record["failed"]


def test_a_result_that_was_not_fetched_is_not_that_of_a_later_round() -> None:
    nodes = {row: Together(f"n{row}", "train", red.FederationConfig()) for row in (0, 1)}
    first = FitAhead(list(nodes.items()), {"w": np.ones(2)}, {"round": 1})
    ready, _ = first.take(0)  # and the round is stopped before the turn of the other one
    assert ready is not None and ready.parameters["w"].tolist() == [1.0, 1.0]
    later = FitAhead([(1, nodes[1])], {"w": np.full(2, 5.0)}, {"round": 2})
    assert later.take(1) == (None, 0.0)
    assert nodes[1].fit({"w": np.full(2, 5.0)}, {"round": 2}).parameters["w"].tolist() == [6.0, 6.0]


def test_each_node_is_told_its_share_of_the_common_work(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr("red_tui.runtime.fit_ahead.time.perf_counter", lambda: 3.0 * next(ticks))
    nodes = [(row, Together(f"n{row}", "train", red.FederationConfig())) for row in (0, 1, 3)]
    ahead = FitAhead(nodes, {"w": np.ones(2)}, {"round": 1})
    assert [ahead.take(row)[1] for row, _ in nodes] == [1.0, 1.0, 1.0]


def test_sums_are_those_of_nodes_that_work_one_after_another() -> None:
    _, mean = hosted(Together, range(5), each=False)
    assert mean.mean["w"].tolist() == [3.0, 3.0]


def test_nodes_fit_alone_where_a_class_has_a_fit_of_its_own() -> None:
    hosted(Counts, [0, 1, 3])
    assert CALLS == [["n0"], ["n1"], ["n3"]]


def test_what_goes_wrong_together_fails_the_node_whose_turn_it_is() -> None:
    record, _ = hosted(Fails, [0, 1])
    assert record["failed"] and record["failed"][0][1] == "ArithmeticError: together it does not work"
