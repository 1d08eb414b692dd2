"""The keys that a round tells reach the config of every node, and only as long as rounds tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui.runtime.batch import Order
from red_tui.runtime.bundle_actor import BundleActor
from red_tui.runtime.node_runtime import NodeRuntime
from tests.unit.steppers import batch

SEEN: dict[str, tuple[Any, Any]] = {}


class Reader(red.FederatedNode):
    """Notes what its config says when it fits."""

    def fit(self, parameters: red.Parameters, config: Mapping[str, Any]) -> red.FitResult:
        SEEN[self.node_id] = self.config.get("rate"), self.config.get("extra")
        return red.FitResult(parameters, 1)


class Hosts:
    """Nodes that share an actor; each is built when it is first asked."""

    def __init__(self) -> None:
        self._host, self._built = BundleActor(), 0

    def round(self, rows: Sequence[int], number: int, **keys: Any) -> None:
        new = [row for row in rows if row >= self._built]
        if new:
            asked = {**batch(new, Reader), "epoch": number + 1, "configs": {0: {"federation_id": "fed", "rate": 0.1}}}
            list(self._host.build(asked, {}))
            self._built = max(new) + 1
        order = Order("t", "fit", np.asarray(rows), {"round": number, **keys}, True)
        record, _ = self._host.work(order, {"w": np.ones(2)})
        assert record["rows"].tolist() == list(rows), record


class Processes:
    """Nodes with a process of their own, here without the process."""

    def __init__(self) -> None:
        self._nodes: dict[int, Any] = {}
        self._made = type("Node", (NodeRuntime, Reader), {})

    def round(self, rows: Sequence[int], number: int, **keys: Any) -> None:
        for row in rows:
            config = red.FederationConfig(federation_id="fed", rate=0.1)
            node = self._nodes.setdefault(row, self._made(f"n{row}", "train", config, None))
            node.red_take_keys({"round": number, **keys})
            node.fit({"w": np.ones(2)}, {})


@pytest.fixture(params=[Hosts, Processes])
def nodes(request: pytest.FixtureRequest) -> Any:
    SEEN.clear()
    return request.param()


def test_a_node_that_is_built_later_knows_what_rounds_tell(nodes: Any) -> None:
    nodes.round([0], 1, rate=0.5, extra="x")
    nodes.round([0, 1], 2, rate=0.5, extra="x")
    assert SEEN == {"n0": (0.5, "x"), "n1": (0.5, "x")}


def test_a_key_that_rounds_tell_no_more_is_again_as_the_layout_says(nodes: Any) -> None:
    nodes.round([0], 1, rate=0.5, extra="x")
    nodes.round([0, 1], 2, rate=0.5)
    assert SEEN == {"n0": (0.5, None), "n1": (0.5, None)}
    nodes.round([0, 1, 2], 3)
    assert {f"n{row}": (0.1, None) for row in range(3)} == SEEN
    nodes.round([0, 1, 2, 3], 4, extra="y")
    assert {f"n{row}": (0.1, "y") for row in range(4)} == SEEN
