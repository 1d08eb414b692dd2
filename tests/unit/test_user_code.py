"""Every method that a user writes, and every way in which it may end: in a host, and in a process of its own."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui.nodes.failures import cause_of_death
from red_tui.nodes.user_code import (
    KNOWN_TRACEBACKS,
    TRACEBACK_LIMIT,
    ContainedError,
    ExitWatch,
    ProcessExit,
    bounded,
    containing,
    error_text,
    failure_report,
    forks,
    own_methods,
)
from red_tui.runtime.batch import Order
from red_tui.runtime.bundle_actor import BundleActor
from red_tui.runtime.node_runtime import NodeRuntime, keeps_state
from tests.misbehaving import ENDINGS, FINE, Misbehaving, SharedMisbehaving
from tests.unit.steppers import Told, batch

NAMES = [FINE, *ENDINGS]
TOLD = {place: text for place, (_, text) in enumerate(ENDINGS.values(), start=1)}
MODEL = {"w": np.zeros(4, np.float32)}


def built(
    host: BundleActor, plan: Mapping[str, str], template: type = Misbehaving, **more: Any
) -> list[Mapping[str, Any]]:
    asked = batch(range(len(NAMES)), template, **more)
    asked["configs"] = {0: {"federation_id": "fed", "endings": NAMES, "plan": plan}}
    return list(host.build(asked, {}, *more.get("states", ())))


def failures_of(records: list[Mapping[str, Any]]) -> dict[int, tuple[str, str]]:
    return {row: (where, error) for record in records for row, error, where, _ in record["failed"]}


def as_told(found: dict[int, tuple[str, str]], method: str) -> None:
    """Each node failed alone, in the words of its own ending; the innocent one did not."""
    assert found == {place: (method, text) for place, text in TOLD.items()}


# -- many nodes in a host ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["build", "set_state"])
def test_whatever_ends_a_method_of_a_build_in_a_host_fails_its_node_alone(method: str) -> None:
    states = {"kept": {place: (0, place) for place in range(len(NAMES))}, "states": ([1] * len(NAMES),)}
    records = built(BundleActor(), {"0": method}, **states)
    as_told(failures_of(records), method)
    assert [row for record in records for row in record["rows"].tolist()] == [0]


def test_whatever_ends_build_shared_in_a_host_fails_its_nodes() -> None:
    found = failures_of(built(BundleActor(), {}, SharedMisbehaving))
    assert found == {row: ("build_shared", "SystemExit: 3") for row in range(len(NAMES))}


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("method", ["fit", "evaluate", "get_state"])
def test_whatever_ends_a_method_of_a_round_in_a_host_fails_its_node_alone(
    method: str, each: bool, concurrency: int
) -> None:
    host = BundleActor(concurrency)
    built(host, {"1": method})
    phase = "evaluate" if method == "evaluate" else "fit"
    for number, innocent in ((1, [0]), (2, list(range(len(NAMES))))):
        order = Order(str(number), phase, np.arange(len(NAMES)), {"round": number}, each)
        told = Told().read(host.work(order, MODEL))
        assert sorted(told.rows) == innocent, "who failed in one round works in the next"
        as_told(failures_of(told.records), method) if number == 1 else None


def test_whatever_ends_get_state_at_a_release_leaves_the_other_states() -> None:
    host = BundleActor()
    built(host, {"0": "get_state"})
    report, states = host.release(np.arange(len(NAMES)), True, 1)
    assert report["rows"].tolist() == [0] and states == [0]
    as_told(failures_of([report]), "get_state")


def test_whatever_ends_get_state_when_states_are_taken_over_leaves_the_other_states() -> None:
    host = BundleActor()
    built(host, {"0": "get_state"})
    told, states = host.snapshot()
    assert told["rows"].tolist() == [0] and states == [0]


@pytest.mark.parametrize("method", ["train", "test"])
def test_whatever_ends_a_method_of_a_session_in_a_host_is_reported(method: str) -> None:
    host = BundleActor()
    built(host, {"0": method})
    rows = np.arange(len(NAMES))
    if method == "train":
        reports = dict(host.train(rows, {row: {} for row in range(len(NAMES))}))
    else:
        reports = {row: host.call(row, f"n{row}", "red_test", "final", {}) for row in range(len(NAMES))}
    as_told({row: (one["where"], one["error"]) for row, one in reports.items() if "error" in one}, method)
    assert "error" not in reports[0]


def test_whatever_ends_a_method_that_is_called_through_a_handle_reaches_the_caller_as_an_exception() -> None:
    host = BundleActor()
    built(host, {"1": "fit"})
    for place, name in enumerate(NAMES[1:], start=1):
        with pytest.raises(Exception) as caught:
            host.call(place, f"n{place}", "fit", MODEL, {"round": 1})
        assert error_text(caught.value) == TOLD[place], name
    assert host.call(0, "n0", "fit", MODEL, {"round": 1}).num_examples == 1


# -- a node in a process of its own ----------------------------------------------------------------------


def own(place: int, plan: Mapping[str, str], template: type = Misbehaving) -> Any:
    cls = type("Node", (NodeRuntime, template), {"red_keeps_state": keeps_state(template)})
    config = red.FederationConfig(federation_id="fed", node_index=place, endings=NAMES, plan=dict(plan))
    return cls(f"n{place}", "train", config)


@pytest.mark.parametrize("place", list(TOLD))
@pytest.mark.parametrize(
    "method", ["build", "set_state", "fit", "evaluate", "get_state", "initial_parameters", "train", "test"]
)
def test_whatever_ends_a_method_in_a_process_of_its_own_is_a_report(method: str, place: int) -> None:
    node = own(place, {"0": method, "1": method})
    config = red.FederationConfig(federation_id="fed")
    if method in ("build", "set_state"):
        report = node.red_start({}, 5, config)
    else:
        node.round = 0
        report = {
            "fit": lambda: node.red_fit(MODEL, {"round": 1})[1],
            "get_state": lambda: node.red_fit(MODEL, {"round": 1})[1],
            "evaluate": lambda: node.red_evaluate(MODEL, {"round": 1}),
            "initial_parameters": lambda: node.red_initial_parameters()[1],
            "train": lambda: node.red_train({}),
            "test": lambda: node.red_test("final", {}),
        }[method]()
    assert (report["where"], report["error"]) == (method, TOLD[place])
    assert len(report["traceback"]) <= TRACEBACK_LIMIT + 200
    if NAMES[place] != "too long":
        assert "misbehaving.py" in report["traceback"].splitlines()[1], "the user's own frames come first"


def test_what_nodes_share_may_exit_in_a_process_of_its_own() -> None:
    report = own(0, {}, SharedMisbehaving).red_start({}, None, red.FederationConfig(federation_id="fed"))
    assert (report["where"], report["error"]) == ("build_shared", "SystemExit: 3")


# -- what is told ------------------------------------------------------------------------------------------


def test_the_cause_of_an_error_is_told_with_it_and_no_frame_of_the_framework() -> None:
    def user() -> None:
        try:
            {}["label"]
        except KeyError as error:
            raise ValueError("no label") from error

    try:
        user()
    except ValueError as error:
        report = failure_report(error, "fit")
    assert report["error"] == "ValueError: no label"
    assert report["traceback"].index("KeyError: 'label'") < report["traceback"].index("ValueError: no label")
    assert "direct cause" in report["traceback"]


def test_a_chain_of_errors_that_is_its_own_cause_has_an_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert failure_report(first, "fit")["traceback"].count("ValueError") == 2


def test_an_error_that_lies_about_everything_is_told_all_the_same() -> None:
    class Lying(type):
        __name__ = property(lambda cls: 1 / 0)  # type: ignore[assignment]

    class Evil(Exception, metaclass=Lying):
        __cause__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
        __notes__ = property(lambda self: 1 / 0)

    report = failure_report(Evil("no"), "fit")
    assert report["error"] == "Evil: no" and isinstance(report["traceback"], str)


def test_a_long_text_says_where_it_was_cut() -> None:
    class Text(str):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, key: Any) -> str:
            return "fooled"

    assert bounded("abcdef", 3) == "abc… (cut: 6 characters in all)"
    assert bounded(Text("abcdef"), 10) == "abcdef" and type(bounded(Text("a"), 3)) is str


def test_a_long_text_of_ray_is_cut_in_its_middle() -> None:
    cause = cause_of_death(ValueError("begin" + "x" * 10_000_000 + "end"))
    assert len(cause.traceback) < 20_000 and cause.traceback.startswith("begin") and cause.traceback.endswith("end")
    assert "(cut: 10,000,008 characters in all)" in cause.traceback


def test_an_error_of_many_nodes_is_told_with_one_traceback_and_of_many_errors_the_first_ones() -> None:
    class Failing(Misbehaving):
        def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.FitResult:
            raise ValueError("all alike" if config["round"] == 1 else f"mine is {self.node_id}")

    host, count = BundleActor(), 2 * KNOWN_TRACEBACKS
    asked = batch(range(count), Failing)
    asked["configs"] = {0: {"federation_id": "fed", "endings": [FINE]}}
    list(host.build(asked, {}))
    for number, told in ((1, count), (2, KNOWN_TRACEBACKS)):
        records = list(host.work(Order(str(number), "fit", np.arange(count), {"round": number}, False), MODEL))
        traces = [trace for record in records for *_, trace in record["failed"] if trace]
        assert len(traces) == told and len({id(trace) for trace in traces}) == (1 if number == 1 else told)


# -- forks and os._exit --------------------------------------------------------------------------------------


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(("ending", "code"), [("returns", 0), ("exit", 3), ("error", 1), ("words", 1)])
def test_a_fork_that_comes_back_out_of_a_method_ends_with_its_own_code(ending: str, code: int) -> None:
    children: list[int] = []

    def act() -> str:
        child = os.fork()
        children.append(child)
        if child == 0 and ending != "returns":
            raise {"exit": SystemExit(3), "error": ValueError("no"), "words": SystemExit("no")}[ending]
        return "parent"

    forks.watch()
    assert containing(act)() == "parent"
    assert status_of(children[0]) == code


def test_a_fork_that_comes_back_out_of_fit_answers_for_nobody() -> None:
    class Forking(Misbehaving):
        def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.FitResult:
            child = os.fork()
            code = status_of(child) if child else -1
            return red.FitResult(parameters, 1, {"code": float(code)})

    host = BundleActor()
    built(host, {}, Forking)
    items = list(host.work(Order("t", "fit", np.arange(3), {"round": 1}, False), MODEL))
    records = [item for item in items if isinstance(item, dict) and len(item["rows"])]
    codes = [code for record in records for code in record["metrics"]["code"].tolist()]
    assert codes == [0, 0, 0], "in one record or, on a busy machine, in several"


def test_a_method_that_a_fork_calls_on_purpose_returns_to_it() -> None:
    forks.watch()
    helper = containing(lambda: 5)
    child = os.fork()
    if child == 0:
        os._exit(helper())
    assert status_of(child) == 5


def test_os_exit_in_a_host_fails_the_node_that_called_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", os._exit)  # put back afterwards
    watch = ExitWatch()
    watch.install(shared=True)

    class Leaving(Misbehaving):
        def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.FitResult:
            if self.config.node_index == 1:
                os._exit(3)
            return super().fit(parameters, config)

    host = BundleActor()
    built(host, {}, Leaving)
    told = Told().read(host.work(Order("t", "fit", np.arange(3), {"round": 1}, False), MODEL))
    assert sorted(told.rows) == [0, 2]
    assert failures_of(told.records) == {1: ("fit", "SystemExit: 3 (by os._exit)")}


def test_os_exit_in_a_process_of_its_own_is_told_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr("red_tui.nodes.user_code.EXIT_PATIENCE", 0.0)
    watch = ExitWatch()
    watch.install(shared=False)

    class Leaving(Misbehaving):
        def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.FitResult:
            os._exit(7)

    node = own(0, {}, Leaving)
    threading.Thread(target=node.red_fit, args=(MODEL, {"round": 1}), daemon=True).start()
    report = watch.wait()
    assert (report["code"], report["where"]) == (7, "fit") and "os._exit(7)" in report["traceback"]


# -- values that cannot be sent ------------------------------------------------------------------------------


def test_a_state_that_cannot_be_sent_fails_its_node_and_not_its_host() -> None:
    class Locked(Misbehaving):
        def get_state(self) -> Any:
            return {"lock": threading.Lock()} if self.config.node_index == 1 else {"w": np.ones(2)}

    host = BundleActor()
    built(host, {}, Locked)
    told = Told().read(host.work(Order("t", "fit", np.arange(3), {"round": 1}, False), MODEL))
    assert sorted(told.rows) == [0, 2]
    where, error = failures_of(told.records)[1]
    assert (
        where == "get_state"
        and "cannot be sent to another process: state['lock'] is" in error
        and "cannot pickle '_thread.lock'" in error
    )


def test_the_methods_that_are_contained_are_those_that_the_template_wrote() -> None:
    class Mine(Misbehaving):
        def helper(self) -> int:
            return 1

        @staticmethod
        def fixed() -> int:
            return 1

        def stream(self) -> Any:
            yield 1

        def send(self, *args: Any) -> int:  # type: ignore[override]
            return 1

        def _private(self) -> None: ...

    found = own_methods(Mine, NodeRuntime, red.FederatedNode)
    assert {"helper", "fit", "train", "get_state"} <= set(found)
    assert not set(found) & {"fixed", "stream", "send", "receive", "_private", "update_version", "neighbors"}


def test_what_is_raised_to_ray_keeps_its_text() -> None:
    assert error_text(ContainedError("SystemExit: 3")) == "SystemExit: 3"
    assert error_text(ProcessExit(3)) == "SystemExit: 3 (by os._exit)"
    assert sys.exc_info() == (None, None, None)
