"""The same updates give the same bytes, whichever came first and whenever somebody looked."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
import tracemalloc
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import red_tui as red
from red_tui.aggregation.ordered_sum import OrderedSum
from red_tui.aggregation.weighted_sum import PartialMean, StackedSum
from red_tui.runtime.batch import Order
from tests.unit.steppers import PATIENCE, host_of

SMALL = {"w": np.zeros((3, 2), np.float32), "b": np.zeros(2)}
LARGE = {"w": np.zeros(20_000, np.float32), "n": np.zeros((), np.int64)}
DRAWS = np.random.default_rng(3).normal(size=20_000)


def update_of(model: dict[str, Any], number: int) -> dict[str, Any]:
    """Numbers of many sizes, so that each other order of additions gives another sum."""
    scale = 1.0 + 0.1 * (number % 17) + 1e-3 * number
    return {
        name: np.asarray(DRAWS[: value.size].reshape(value.shape) * scale).astype(value.dtype)
        for name, value in model.items()
    }


def bytes_of(mean: dict[str, Any]) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in mean.items()}


def shuffled(model: dict[str, Any], count: int, failed: set[int], late: set[int], seed: int) -> OrderedSum:
    places, added = list(range(count)), OrderedSum(model, count)
    random.Random(seed).shuffle(places)
    for place in places:
        if place in failed:
            added.skip(place)
        elif place not in late:
            added.add(place, update_of(model, place), float(place % 4))
    return added


@pytest.mark.parametrize("model", [SMALL, LARGE], ids=["small", "large"])
@given(
    count=st.integers(1, 150),
    failed=st.sets(st.integers(0, 149), max_size=5),
    late=st.sets(st.integers(0, 149), max_size=5),
)
@settings(max_examples=12, deadline=None)
def test_twenty_orders_of_arrival_give_the_same_bytes(
    model: dict[str, Any], count: int, failed: set[int], late: set[int]
) -> None:
    made = [shuffled(model, count, failed, late - failed, seed) for seed in range(20)]
    told = [(added.count, added.total, bytes_of(added.mean())) for added in made]
    assert told == told[:1] * 20
    counted = [place for place in range(count) if place not in failed | late]
    assert told[0][:2] == (len(counted), sum(place % 4 for place in counted))
    mean = shuffled(model, count, failed, late - failed, 0).mean()
    if told[0][1] == 0:
        assert mean == {}
        return
    for name in model:
        plain = sum((place % 4) * update_of(model, place)[name].astype(np.float64) for place in counted) / told[0][1]
        np.testing.assert_allclose(mean[name], plain, rtol=1e-6, atol=1e-6)


def test_one_who_is_slow_holds_up_no_more_than_its_neighbours() -> None:
    count = 64 * 8
    added = OrderedSum(LARGE, count)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for place in range(1, count):
        added.add(place, update_of(LARGE, place), 1.0)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    model = sum(value.nbytes for value in LARGE.values())
    assert held < 40 * model, "fewer than a run of updates, and a sum on each level, of 511 updates that came"
    added.add(0, update_of(LARGE, 0), 1.0)
    whole = OrderedSum(LARGE, count)
    for place in range(count):
        whole.add(place, update_of(LARGE, place), 1.0)
    assert bytes_of(added.mean()) == bytes_of(whole.mean())


class Waits(red.FederatedNode):
    """Comes back when it is told to."""

    turns: ClassVar[dict[str, threading.Event]] = {}

    def build(self, **kwargs: Any) -> None:
        self.turns[self.node_id] = threading.Event()

    def fit(self, parameters: Any, config: Any) -> red.FitResult:
        assert self.turns[self.node_id].wait(PATIENCE)
        return red.FitResult(update_of(parameters, int(self.node_id[1:])), 1 + int(self.node_id[1:]) % 3)


@pytest.mark.parametrize("model", [SMALL, LARGE], ids=["small", "large"])
def test_the_threads_of_a_host_may_come_back_in_any_order(model: dict[str, Any]) -> None:
    sums = set()
    for order in itertools.islice(itertools.permutations(range(4)), 0, 24, 4):
        host = host_of(4, Waits, concurrency=4)
        came: list[Any] = []
        asked = Order("t", "fit", np.arange(4), {"round": 1}, False)
        reader = threading.Thread(target=lambda host=host, asked=asked, came=came: came.extend(host.work(asked, model)))
        reader.start()
        for row in order:
            Waits.turns[f"n{row}"].set()
        reader.join(PATIENCE)
        (mean,) = [item for item in came if isinstance(item, PartialMean)]
        sums.add((mean.total, *bytes_of(mean.mean).values()))
    assert len(sums) == 1


@pytest.mark.parametrize("model", [SMALL, {"w": SMALL["w"]}], ids=["both precisions", "float32"])
@given(looks=st.lists(st.integers(0, 30), max_size=6), bad=st.sets(st.integers(0, 99), max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_look_at_the_stack_does_not_change_what_is_added_up(
    model: dict[str, Any], looks: list[int], bad: set[int]
) -> None:
    def total(looks: list[int]) -> tuple[set[int], float, int, dict[str, bytes]]:
        found: set[int] = set()
        stack, base = StackedSum(model), 0
        pending = list(looks)
        until = pending.pop() if pending else 1000
        for number in range(100):
            update = update_of(model, number)
            if number in bad:
                update["w"][0, 0] = 1e200 if number % 2 else np.nan
            full = stack.push(update, float(number % 3) or 1e-3)
            until -= 1
            if until < 0:
                found |= {base + place for place in stack.check()}
                until = pending.pop() if pending else 1000
            if full:
                found |= {base + place for place in stack.settle()}
                base = number + 1
        found |= {base + place for place in stack.settle()}
        return found, stack.total, stack.count, bytes_of(stack.mean())

    with np.errstate(over="ignore"):
        assert total(looks) == total([])
        assert total([])[0] == bad


def test_models_mix_in_the_order_of_nodes_in_every_process() -> None:
    code = (
        "import networkx as nx; from red_tui.messaging import mixing_weights;"
        "g = nx.relabel_nodes(nx.complete_graph(30), lambda n: f'node-{n}');"
        "print([list(row) for row in mixing_weights(g, [f'node-{n}' for n in range(9)])])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1
