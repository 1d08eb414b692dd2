"""Templates whose nodes do what a test says, in a host within the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import red_tui as red
from red_tui.nodes.states import Roles
from red_tui.runtime.batch import Order, packed, unpacked
from red_tui.runtime.bundle_actor import BundleActor

PATIENCE = 90.0
"""Seconds that a test waits for what must come: reached only where it is broken."""


class Stepper(red.FederatedNode):
    """Gives its place as parameters, with place % 4 as examples; `doing` says what else happens at a place."""

    doing: Mapping[int, Callable[[], Any]] = {}

    def build(self, **kwargs: Any) -> None:
        if "at" in kwargs and self.config.node_index == kwargs["at"]:
            raise OSError("no data for this node")

    def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> Any:
        place = self.config.node_index
        made = type(self).doing.get(place, lambda: None)()
        if made is not None:
            return made
        return red.FitResult({"w": np.full(3, place, np.float32)}, place % 4, {"place": float(place)})

    def evaluate(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.EvaluateResult:
        return red.EvaluateResult(float(self.config.node_index), 1, {"seen": float(parameters["w"][0])})


class Keeping(Stepper):
    """Keeps how often it fitted."""

    fits = 0

    def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> Any:
        self.fits += 1
        return super().fit(parameters, config)

    def get_state(self) -> tuple[str, int]:
        return self.node_id, self.fits

    def set_state(self, state: tuple[str, int]) -> None:
        assert state[0] == self.node_id, "the state of another node"
        self.fits = state[1]


def stepper(base: type = Stepper, **doing: Callable[[], Any]) -> type:
    """A template whose node `at_3` (say) does something else in `fit`."""
    return type("Doing", (base,), {"doing": {int(name[3:]): act for name, act in doing.items()}})


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


def batch(rows: Sequence[int], *templates: type, groups: Sequence[int] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "rows": np.asarray(rows, dtype=np.int64),
        "ids": [f"n{row}" for row in rows],
        "roles": [Roles("train")] * len(rows),
        "groups": np.asarray([0] * len(rows) if groups is None else groups, dtype=np.int64),
        "positions": np.asarray(rows, dtype=np.int64),
        "templates": dict(enumerate(templates)),
        "configs": {group: {"federation_id": "fed"} for group in range(len(templates))},
        "common": red.FederationConfig(federation_id="fed"),
        "kept": more.get("kept", {}),
        "epoch": more.get("epoch", 1),
    }


def host_of(count: int, template: type = Stepper, concurrency: int = 1) -> BundleActor:
    host = BundleActor(concurrency)
    told = list(host.build(batch(range(count), template), {}))
    assert sum(len(record["rows"]) for record in told) == count
    return host


class Told:
    """What a phase told, put together as the one who listens does."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.failed: list[int] = []
        self.late: list[int] = []
        self.updates: dict[int, Any] = {}
        self.states: dict[int, Any] = {}
        self.means: list[tuple[dict[str, Any], float]] = []
        self.records: list[Mapping[str, Any]] = []
        self.metrics: dict[int, float] = {}

    def read(self, stream: Iterator[Any]) -> Told:
        for record in stream:
            if record["late"]:
                self.late += record["rows"].tolist() + [failure[0] for failure in record["failed"]]
                assert next(stream, None) is None, "nothing comes after the late ones"
                return self
            payload = next(stream) if record["payload"] else None
            states = next(stream) if record["states"] else None
            self.take(record, payload, states)
            assert not record["last"] or next(stream, None) is None
        return self

    def take(self, record: Mapping[str, Any], payload: Any, states: Any) -> None:
        rows = record["rows"].tolist()
        self.records.append(record)
        self.rows += rows
        self.failed += [failure[0] for failure in record["failed"]]
        assert len(record["weights"]) == len(record["seconds"]) == len(rows)
        self.metrics.update(zip(rows, record["metrics"].get("place", np.full(len(rows), np.nan)).tolist(), strict=True))
        if states is not None:
            self.states.update(zip(rows, states, strict=True))
        if isinstance(payload, list):
            self.updates.update(zip(rows, payload, strict=True))
        elif payload is not None:
            assert payload.total == record["total"]
            self.means.append((payload.mean, payload.total))

    def check(self, asked: Sequence[int], each: bool) -> None:
        """Nothing is counted twice, nothing is lost, and the mean is that of exactly the rows that count."""
        told = [*self.rows, *self.failed, *self.late]
        assert len(told) == len(set(told)) and set(told) <= set(asked)
        assert [self.metrics[row] for row in self.rows] == self.rows
        if each:
            assert {row: update["w"].tolist() for row, update in self.updates.items()} == {
                row: [row] * 3 for row in self.rows
            }
            return
        total = sum(row % 4 for row in self.rows)
        assert len(self.means) <= 1 and sum(weight for _, weight in self.means) == total
        if total:
            mean = sum(row * (row % 4) for row in self.rows) / total
            np.testing.assert_allclose(self.means[0][0]["w"], [mean] * 3, rtol=1e-6)


def parameters() -> dict[str, Any]:
    return {"w": np.zeros(3, np.float32)}


def work(
    host: BundleActor,
    rows: Sequence[int],
    *,
    each: bool = False,
    phase: str = "fit",
    token: str = "t",
    plainly: bool = False,
    model: dict[str, Any] | None = None,
) -> Iterator[Any]:
    order = Order(token, phase, np.asarray(rows, dtype=np.int64), {"round": 1}, each)
    asked = quickly if plainly else host.work
    return asked(*((host,) if plainly else ()), order, parameters() if model is None else model)


def quickly(host: BundleActor, order: Order, model: dict[str, Any]) -> Iterator[Any]:
    """What `BundleActor.work` gives, by a plain call and a stream of what is left."""
    payload, states, told = host.quick(packed(order), model)
    record = unpacked(told)
    yield record
    if record["payload"]:
        yield payload
    if record["states"] and not record["late"]:
        yield states
    yield from host.more(order.token)
