"""A host's part of a phase, driven in this process: no Ray, real threads."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import red_tui as red
from red_tui.runtime.batch import GONE, RECORD_ROWS, BatchRunner, Order, WorkSlots, packed, unpacked
from red_tui.runtime.bundle_actor import BundleActor
from red_tui.runtime.node_runtime import NodeRuntime
from tests.unit.steppers import (
    PATIENCE,
    Keeping,
    Stepper,
    Told,
    batch,
    host_of,
    parameters,
    raising,
    stepper,
    work,
)

# -- a phase that is left alone ------------------------------------------------------------------------


@given(st.integers(0, 40), st.sampled_from([1, 3]), st.booleans())
@settings(max_examples=30)
def test_every_node_answers_once_and_the_mean_is_theirs(count: int, concurrency: int, each: bool) -> None:
    told = Told().read(work(host_of(count, concurrency=concurrency), range(count), each=each))
    assert sorted(told.rows) == list(range(count))
    told.check(range(count), each)
    assert [record["last"] for record in told.records] == [False] * (len(told.records) - 1) + [True]


@pytest.mark.parametrize("each", [False, True])
def test_many_nodes_are_told_in_records_of_a_limited_size(each: bool) -> None:
    count = 2 * RECORD_ROWS + 7
    told = Told().read(work(host_of(count), range(count), each=each))
    assert len(told.records) >= 3 and max(len(record["rows"]) for record in told.records) <= RECORD_ROWS
    told.check(range(count), each)


def test_an_evaluation_gives_losses_and_no_payload() -> None:
    (record,) = list(work(host_of(3), range(3), phase="evaluate"))
    assert record["losses"].tolist() == [0, 1, 2] and record["metrics"]["seen"].tolist() == [0, 0, 0]
    assert record["last"] and not record["payload"] and not record["states"]


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("each", [False, True])
def test_nodes_that_do_wrong_fail_alone(concurrency: int, each: bool) -> None:
    wrong = {
        "at_1": raising(ValueError("gradient exploded")),
        "at_3": lambda: red.FitResult({"w": np.full(3, np.nan, np.float32)}, 1),
        "at_4": lambda: red.FitResult({"w": np.zeros(5, np.float32)}, 1),
        "at_6": lambda: red.FitResult({"w": np.zeros(3, np.float32)}, -1),
        "at_8": lambda: red.FitResult({}, 1),
        "at_9": lambda: "nothing",
        "at_11": lambda: red.FitResult({"w": np.zeros(3, np.float32)}, 1, {"m": "high"}),
    }
    host = host_of(12, stepper(**wrong), concurrency)
    told = Told().read(work(host, range(12), each=each))
    assert sorted(told.failed) == [1, 3, 4, 6, 8, 9, 11]
    told.check(range(12), each)
    reasons = {failure[0]: failure for record in told.records for failure in record["failed"]}
    assert reasons[1][1] == "ValueError: gradient exploded" and "Traceback" in reasons[1][3]
    assert reasons[1][2] == "fit", "the method that raised"
    again = Told().read(work(host, range(12), token="u"))
    assert sorted(again.rows) == [0, 2, 5, 7, 10] and sorted(again.failed) == sorted(told.failed)
    texts = [failure[1] for record in again.records for failure in record["failed"]]
    assert "ValueError: gradient exploded" in texts, "who failed is asked again in the next round"


def test_a_row_that_the_host_does_not_have_is_a_failure_with_a_reason() -> None:
    told = Told().read(work(host_of(2), [0, 7, 1]))
    assert told.rows == [0, 1] and told.failed == [7]
    assert told.records[0]["failed"] == [(7, "it has no place in this host any more", GONE, "")]


def test_a_phase_of_nobody_is_one_empty_record() -> None:
    (record,) = list(work(host_of(0), []))
    assert record["last"] and len(record["rows"]) == 0 and not record["payload"]


def test_a_host_where_all_fail_has_no_sum_to_send() -> None:
    host = host_of(1, stepper(at_0=raising(KeyError("label"))))
    (record,) = list(work(host, [0]))
    assert record["last"] and not record["payload"] and len(record["failed"]) == 1


@pytest.mark.parametrize("each", [False, True])
def test_states_are_those_of_the_rows_of_their_record(each: bool) -> None:
    host = host_of(5, stepper(Keeping, at_2=raising(ValueError("no"))))
    for token in "ab":
        told = Told().read(work(host, [4, 0, 1, 3] if token == "b" else [4, 0, 2, 1, 3], each=each, token=token))
    assert told.states == {row: (f"n{row}", 2) for row in (0, 1, 3, 4)}


@pytest.mark.parametrize("concurrency", [1, 2, 4])
def test_as_many_nodes_work_at_a_time_as_the_host_has_places(concurrency: int) -> None:
    inside, most, lock = [0], [0], threading.Lock()
    meeting = threading.Barrier(concurrency)

    def meet() -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        meeting.wait(PATIENCE)  # comes to pass only if so many are inside
        with lock:
            inside[0] -= 1

    host = host_of(8, stepper(**{f"at_{place}": meet for place in range(8)}), concurrency)
    told = Told().read(work(host, range(8)))
    assert sorted(told.rows) == list(range(8)) and most[0] == concurrency


# -- a phase that is cut -------------------------------------------------------------------------------


class Cut:
    """A phase that runs in a thread and is cut when its node at `place` has come so far."""

    def __init__(
        self, count: int, place: int, concurrency: int, each: bool, *, hold: bool, plainly: bool = False
    ) -> None:
        self.reached, self.gate = threading.Event(), threading.Event()

        def stop() -> None:
            self.reached.set()
            if hold:
                assert self.gate.wait(PATIENCE)

        self.told, self.host = Told(), host_of(count, stepper(Keeping, **{f"at_{place}": stop}), concurrency)
        told = work(self.host, range(count), each=each, plainly=plainly)
        self.thread = threading.Thread(target=lambda: self.told.read(told))
        self.thread.start()
        assert self.reached.wait(PATIENCE)
        self.record, self.payload, self.states = self.host.cut("t")

    def end(self) -> None:
        self.gate.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@given(st.integers(1, 30), st.data(), st.sampled_from([1, 3]), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_a_phase_cut_while_a_node_works_loses_nothing_and_counts_nothing_twice(
    count: int, data: st.DataObject, concurrency: int, each: bool, plainly: bool
) -> None:
    place = data.draw(st.integers(0, count - 1))
    cut = Cut(count, place, concurrency, each, hold=True, plainly=plainly)
    assert place in cut.record["working"] and cut.record["last"]
    again, nothing, none = cut.host.cut("t")
    assert again == {"gone": True} and nothing is None and none is None
    cut.end()
    assert len(cut.told.records) == cut.record["told"]
    cut.told.take(
        cut.record, cut.payload if cut.record["payload"] else None, cut.states if cut.record["states"] else None
    )
    cut.told.check(range(count), each)
    assert sorted(cut.told.late) == cut.record["working"], "who was at work says later that it is free"
    if concurrency == 1:
        assert sorted(cut.told.rows) == list(range(place)) and cut.told.late == [place]
    assert cut.told.states.keys() == set(cut.told.rows)
    after = Told().read(work(cut.host, range(count), token="next"))
    assert sorted(after.rows) == list(range(count)), "the next phase has everybody again"


@given(st.integers(1, 60), st.data(), st.sampled_from([1, 3]), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_a_phase_cut_at_any_moment_loses_nothing_and_counts_nothing_twice(
    count: int, data: st.DataObject, concurrency: int, each: bool, plainly: bool
) -> None:
    cut = Cut(count, data.draw(st.integers(0, count - 1)), concurrency, each, hold=False, plainly=plainly)
    cut.end()
    if cut.record.get("gone"):
        assert sorted(cut.told.rows) == list(range(count))
    else:
        assert len(cut.told.records) == cut.record["told"]
        cut.told.take(
            cut.record, cut.payload if cut.record["payload"] else None, cut.states if cut.record["states"] else None
        )
        assert sorted(cut.told.late) == cut.record["working"]
    cut.told.check(range(count), each)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_node_that_does_not_return_holds_up_no_later_phase(concurrency: int) -> None:
    cut = Cut(5, 0, concurrency, False, hold=True)
    for token in ("second", "third"):
        told = Told().read(work(cut.host, range(1, 5), token=token))
        assert sorted(told.rows) == [1, 2, 3, 4]
    assert 0 in cut.record["working"]
    cut.end()
    assert 0 in cut.told.late and Told().read(work(cut.host, [0], token="fourth")).rows == [0]


def test_a_late_node_that_raises_fails_late() -> None:
    started, gate = threading.Event(), threading.Event()

    def fail() -> None:
        started.set()
        assert gate.wait(PATIENCE)
        raise ValueError("too late")

    host, records = host_of(1, stepper(at_0=fail)), []  # type: ignore[var-annotated]
    thread = threading.Thread(target=lambda: records.extend(work(host, [0])))
    thread.start()
    assert started.wait(PATIENCE)
    assert host.cut("t")[0]["working"] == [0]
    gate.set()
    thread.join(PATIENCE)
    (late,) = records
    assert late["late"] and [failure[:2] for failure in late["failed"]] == [(0, "ValueError: too late")]


def test_a_cut_of_a_phase_that_nobody_knows_says_so() -> None:
    host = host_of(2)
    assert host.cut("never") == ({"gone": True, "ended": False}, None, None)
    Told().read(work(host, [0, 1]))
    assert host.cut("t")[0] == {"gone": True, "ended": True}


def test_the_lane_is_free_after_everything_that_can_happen() -> None:
    lane = WorkSlots(2)
    nodes: list[tuple[int, NodeRuntime | None]] = [(row, None) for row in range(5)]
    assert len(list(BatchRunner("fit", nodes, parameters(), {}, False, lane).run())) == 1
    for _ in range(2):
        assert lane.enter() is True


def test_a_phase_that_is_cut_before_it_comes_lets_nobody_begin() -> None:
    host = host_of(3, stepper(at_0=raising(AssertionError("nobody begins"))))
    assert host.cut("t")[0] == {"gone": True, "ended": False}
    told = Told().read(work(host, range(3)))
    assert told.rows == told.failed == told.late == [] and told.means == []
    assert sorted(Told().read(work(host, [1, 2], token="next")).rows) == [1, 2]


# -- what one node cannot do to the others -------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("each", [False, True])
def test_text_objects_and_an_exit_fail_their_node_alone(concurrency: int, each: bool) -> None:
    wrong = {
        "at_1": lambda: red.FitResult({"w": np.asarray(["a", "b", "c"])}, 1),
        "at_2": lambda: red.FitResult({"w": np.asarray([None, 1, 2])}, 1),
        "at_3": lambda: red.FitResult({"w": np.ones(3, complex)}, 1),
        "at_4": raising(SystemExit(3)),
        "at_5": raising(SystemExit("bad arguments")),
    }
    host = host_of(8, stepper(**wrong), concurrency)
    told = Told().read(work(host, range(8), each=each))
    assert sorted(told.failed) == [1, 2, 3, 4, 5]
    told.check(range(8), each)
    assert sorted(Told().read(work(host, [0, 6, 7], token="next")).rows) == [0, 6, 7]


class Rebinding(Stepper):
    """Changes the dicts that it is given, as many do."""

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        assert config.pop("round") == 1
        parameters["w"] = parameters["w"] + 1
        parameters.pop("b", None)
        return red.FitResult({"w": parameters["w"]}, 1)

    def evaluate(self, parameters: dict[str, Any], config: Any) -> red.EvaluateResult:
        return red.EvaluateResult(float(parameters.pop("w").sum()), 1)


def test_what_a_node_does_to_its_arguments_reaches_no_other() -> None:
    told = Told().read(work(host_of(4, Rebinding), range(4)))
    assert told.means[0][0]["w"].tolist() == [1.0] * 3
    told = Told().read(work(host_of(4, Rebinding), range(4), phase="evaluate"))
    assert sorted(told.rows) == list(range(4))


def test_a_node_cannot_hide_a_parameter_by_taking_it_out_of_its_arguments() -> None:
    rows = np.arange(2)
    given_parameters = {**parameters(), "b": np.zeros(2)}
    (record,) = list(host_of(2, Rebinding).work(Order("t", "fit", rows, {"round": 1}, False), given_parameters))
    assert [failure[0] for failure in record["failed"]] == [0, 1]
    assert all("missing ['b']" in failure[1] for failure in record["failed"])


class SharedModel(Stepper):
    """Trains the one model of its host and returns views of it."""

    @classmethod
    def build_shared(cls, config: red.FederationConfig) -> Any:
        return {"w": np.zeros(3, np.float32)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        self.shared["w"][:] = self.config.node_index
        return red.FitResult({"w": self.shared["w"][:]}, self.config.node_index % 4, {"place": self.config.node_index})


@pytest.mark.parametrize("each", [False, True])
def test_nodes_that_return_views_of_a_shared_model_keep_their_own_numbers(each: bool) -> None:
    Told().read(work(host_of(9, SharedModel), range(9), each=each)).check(range(9), each)


@pytest.mark.parametrize("size", [3, 100_000])
def test_an_update_that_was_added_up_is_let_go_of_before_the_next_node_works(size: int) -> None:
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def fit() -> red.FitResult:
        alive.append(sum(reference() is not None for reference in made))
        update = np.ones(size, np.float32)
        made.append(weakref.ref(update))
        return red.FitResult({"w": update}, 1)

    host = host_of(5, stepper(**{f"at_{place}": fit for place in range(5)}))
    like = {"w": np.zeros(size, np.float32)}
    order = Order("t", "fit", np.arange(5), {"round": 1}, False)
    told = Told().read(host.work(order, like))
    assert len(told.rows) == 5 and alive == [0] * 5


def test_states_reach_their_own_nodes_where_only_some_templates_keep_one() -> None:
    host, groups = BundleActor(), [0, 1, 0, 1, 1]
    list(host.build(batch(range(5), Stepper, Keeping, groups=groups), {}))
    told = Told().read(work(host, [3, 0, 1, 2, 4]))
    assert {row: state for row, state in told.states.items() if state is not None} == {
        row: (f"n{row}", 1) for row in (1, 3, 4)
    }
    told.check(range(5), False)


def test_a_node_that_is_rebuilt_while_others_work_stays() -> None:
    started, gate = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        assert gate.wait(PATIENCE)

    host = host_of(2, stepper(at_0=raising(ValueError("no")), at_1=wait))
    thread = threading.Thread(target=lambda: Told().read(work(host, [0, 1])))
    thread.start()
    assert started.wait(PATIENCE)
    assert host.cut("t")[0]["working"] == [1]
    assert sum(len(record["rows"]) for record in host.build(batch([0], Stepper, epoch=2), {})) == 1
    gate.set()
    thread.join(PATIENCE)
    assert host.adopted()["rows"].tolist() == [0, 1]
    assert sorted(Told().read(work(host, [0, 1], token="next")).rows) == [0, 1]


@pytest.mark.parametrize("plainly", [False, True])
def test_nobody_begins_with_parameters_that_could_not_be_made(plainly: bool) -> None:
    began: list[int] = []
    host = host_of(4, stepper(at_0=lambda: began.append(0)))
    asked = Order("t", "fit", np.arange(4), {"round": 2}, False)
    if plainly:
        payload, states, record = host.quick(packed(asked), None)
        records = [unpacked(record)]
        assert payload is None and states is None
    else:
        records = list(host.work(asked, None))
    (record,) = records
    assert record["late"] and record["last"] and not len(record["rows"]) and not record["failed"]
    assert began == [] and host.cut("t")[0] == {"gone": True, "ended": True}
    told = Told().read(work(host, range(1, 4)))
    assert sorted(told.rows) == [1, 2, 3], "the next round finds them"


def test_nodes_that_report_different_things_are_told_apart() -> None:
    reports = {
        "at_0": {"a": 1.0},
        "at_1": {},
        "at_2": {"b": 2},
        "at_3": {"a": np.float32(3), "b": True},
        "at_4": {"a": 4.0, "c": 5.0},
    }
    made = {
        name: (lambda given=given: red.FitResult({"w": np.zeros(3, np.float32)}, 1, given))
        for name, given in reports.items()
    }
    (record, *_) = work(host_of(5, stepper(**made)), range(5))
    nan = float("nan")
    columns = {name: column.tolist() for name, column in record["metrics"].items()}
    np.testing.assert_equal(
        columns, {"a": [1, nan, nan, 3, 4], "b": [nan, nan, 2, 1, nan], "c": [nan, nan, nan, nan, 5]}
    )


def test_metrics_that_are_no_dict_fail_their_node_with_a_word_on_what_they_should_be() -> None:
    wrong = {"at_1": lambda: red.FitResult({"w": np.zeros(3, np.float32)}, 1, [0.5])}
    (record, *_) = work(host_of(3, stepper(**wrong)), range(3))
    ((row, why, *_),) = record["failed"]
    assert row == 1 and "metrics must be a dict of numbers by name, not list" in why
    assert all(len(column) == 2 for column in record["metrics"].values())


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("examples", [1, None, "three", 2**1100])
def test_a_result_without_parameters_or_without_examples_fails_its_node_alone(each: bool, examples: Any) -> None:
    made = {"w": np.zeros(3, np.float32)} if examples != 1 else None
    wrong = {"at_1": lambda: red.FitResult(made, examples)}
    told = Told().read(work(host_of(4, stepper(**wrong)), range(4), each=each))
    assert told.failed == [1] and sorted(told.rows) == [0, 2, 3]
    told.check(range(4), each)
