"""The figures that people read, against numpy and by hand; the same for every screen, verb and client."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.aggregation.answers import Answers
from red_tui.cli.round_verbs import progress_line, round_line
from red_tui.console.connection.mirror import FederationMirror
from red_tui.errors import RoundError
from red_tui.federation.rounds.round_plan import failed_wire, summary
from red_tui.journal.fold import Fold
from red_tui.protocol import figures
from red_tui.protocol.events import Event
from red_tui.protocol.snapshot import RoundProgress, RoundSummary, Spread
from red_tui.rounds.history import RoundResult, node_statistics

finite = st.floats(allow_nan=False, allow_infinity=False)


def measured_of(values: list[float], name: str = "accuracy") -> dict[str, Any]:
    rows = np.arange(len(values))
    judged = Answers(rows, np.ones(len(rows)), np.ones(len(rows)), {name: np.asarray(values)}, np.ones(len(rows)))
    told = node_statistics(Answers(), judged, {}, lambda rows: [str(row) for row in rows.tolist()])
    found: dict[str, Any] = told["measures"][name]
    return found


@pytest.mark.parametrize(
    ("values", "quartiles"),
    [
        ([1.0, 2.0], [1.25, 1.5, 1.75]),
        ([4.0, 1.0, 3.0, 2.0], [1.75, 2.5, 3.25]),
        ([3.0, 1.0, 2.0], [1.5, 2.0, 2.5]),
        ([7.0], [7.0, 7.0, 7.0]),
    ],
)
def test_the_median_of_an_even_count_lies_between_the_middle_two(values: list[float], quartiles: list[float]) -> None:
    assert measured_of(values)["quantiles"][2:5] == quartiles
    assert figures.median(np.asarray(values)) == quartiles[1]
    shown = Spread.from_wire({"measures": {"accuracy": measured_of(values)}}).measures[0]
    assert shown.quantiles[2:5] == tuple(quartiles), "the console shows what was computed"


@given(st.lists(finite.filter(lambda value: abs(value) < 1e150), min_size=1, max_size=60))
def test_quantiles_mean_and_deviation_are_those_of_numpy(values: list[float]) -> None:
    told, known = measured_of(values), np.asarray(values)
    assert told["quantiles"] == np.quantile(known, figures.SHARES).tolist()
    assert figures.median(known) == pytest.approx(float(np.median(known)), rel=1e-12, abs=0)
    assert (told["mean"], told["deviation"]) == pytest.approx((known.mean(), known.std()), rel=1e-9, abs=1e-300)
    count = max(1, math.ceil(len(values) / 10))
    assert told["worst"] == pytest.approx(np.sort(known)[:count].mean(), rel=1e-9)


@given(st.lists(finite, min_size=1, max_size=40))
def test_no_number_is_too_large_for_a_figure(values: list[float]) -> None:
    told = measured_of(values)
    assert min(values) <= told["quantiles"][0] <= told["quantiles"][3] <= told["quantiles"][-1] <= max(values)
    json.dumps(told, allow_nan=False)


def test_the_worst_tenth_lies_at_the_bad_end_of_a_measure() -> None:
    values = [float(value) for value in range(1, 31)]
    assert measured_of(values, "accuracy")["worst"] == 2.0
    assert measured_of(values, "log_loss")["worst"] == 29.0
    assert figures.worst_decile("train loss", np.asarray(values)) == 29.0
    assert figures.worst_decile("examples", np.asarray(values)) is None, "many examples are neither good nor bad"


def test_a_late_node_is_among_the_causes_whatever_else_failed() -> None:
    failures = {f"node_{number}_{copy}": f"cause {number}" for number in range(9) for copy in range(2)}
    failures["node_late"] = "no result within the deadline of 1 s"
    told = figures.causes_of(failures)
    assert [count for _, count, _ in told] == [2] * figures.CAUSES + [7] and told[-1][0] == "4 other causes"
    assert sum(count for _, count, _ in told) == len(failures), "counts add up to the nodes that failed"
    assert figures.causes_of({"a": "x", "late": "no result within the deadline of 1 s"})[1][2] == ["late"]
    result = RoundResult(3, 0.5, {}, {}, ("a",), {"b": "raised", "c": "no result within the deadline"}, 0.1, 0.0)
    assert summary(result).endswith("2 failed (b: raised; c: no result within the deadline)")
    wire = failed_wire(4, 0.1, RoundError("too few", round_number=4, failed={"late": "no result"}))
    assert wire["failures"] == {"late": "no result"} and wire["spread"]["failed"] == [["no result", 1, ["late"]]]


# -- progress ----------------------------------------------------------------------------------------


def wire_of(number: int, **values: Any) -> dict[str, Any]:
    measures = {"loss": 0.5, "metrics": {"accuracy": 0.25}, "train_loss": 0.75, **values}
    return {
        "number": number, "state": "done", "seconds": 1.0, "participants": 2, "failed": 0, "ended": float(number),
        **measures,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("now", "words", "share"),
    [
        (RoundProgress(20, "fit", 5, 10, target=2000, first=1), "20/2000", (19 + 0.4) / 2000),
        (RoundProgress(402, "choose", target=500, first=401), "402 to 500", 1 / 100),
        (RoundProgress(7, "fit", 10, 10, target=7, first=7), "7", 0.8),
        (RoundProgress(7, "fit", 10, 10, target=1006, until="loss<1", first=7), "7", 0.8),
        (RoundProgress(20, "idle", first=1), "20", 0.0),
    ],
)
def test_how_far_a_run_is_goes_by_its_own_first_and_last_round(now: RoundProgress, words: str, share: float) -> None:
    assert figures.run_words(now) == words and figures.run_share(now) == pytest.approx(share)


def test_a_line_of_a_long_run_names_its_last_round_and_not_the_last_one_that_is_over() -> None:
    run = RoundProgress(21, "fit", target=2000, first=1)
    assert round_line(wire_of(20), run) == "round 20/2000  loss 0.5  accuracy 0.25  1.00 s"
    assert round_line(wire_of(20), RoundProgress(20, "idle", first=1)).startswith("round 20  loss")
    assert progress_line(wire_of(1000), run).startswith("█" * 12 + "░" * 12 + " round 1000/2000")
    by_measure = RoundProgress(21, "fit", target=1020, until="accuracy>0.9", first=21)
    assert progress_line(wire_of(21), by_measure).startswith("·" * 24 + " round 21  "), "nobody knows its last round"


def test_a_loss_of_training_is_never_told_as_one_of_judging() -> None:
    line = round_line(wire_of(3, loss=None, metrics={}), RoundProgress())
    assert line == "round 3  train loss 0.75  1.00 s"


def test_two_consoles_show_the_same_progress_whenever_they_came() -> None:
    begun = RoundProgress(401, "fit", 0, 4, 100.0, 500, None, first=401)
    rounds = [wire_of(number) for number in range(380, 401)]
    full = {"cursor": 1, "time": 1.0, "full": True, "federation": {"id": "a"}, "rounds": rounds,
            "round": begun.to_wire()}  # fmt: skip
    early, late = FederationMirror(), FederationMirror()
    early.apply(full, 0.0)
    later = [wire_of(number) for number in range(401, 450)]
    now = RoundProgress(450, "fit", 2, 4, 160.0, 500, None, first=401).to_wire()
    early.apply({"cursor": 2, "time": 2.0, "full": False, "rounds": later, "round": now}, 1.0)
    late.apply({**full, "rounds": rounds + later, "round": now}, 1.0)
    assert early.round == late.round
    assert figures.run_share(early.round) == figures.run_share(late.round) == pytest.approx((49 + 0.4) / 100)
    assert early.seconds_left() == late.seconds_left() == pytest.approx(51 - 0.4)


def test_a_loss_is_told_with_its_round() -> None:
    rounds = [RoundSummary.from_wire(wire_of(number, loss=1.0 / number if number % 10 == 0 else None))
              for number in range(1, 48)]  # fmt: skip
    told = figures.latest(reversed(rounds), "loss")
    assert told == figures.LatestMeasure(1 / 40, 40)
    assert figures.latest(reversed(rounds), "accuracy") == figures.LatestMeasure(0.25, 47)
    assert figures.latest(reversed(rounds), "f1") is None


def test_the_journal_keeps_where_a_run_began() -> None:
    fold = Fold()
    fold.take(Event(1, 1.0, "round", "trace", "run", "begins", data={"run": [500, None, None, 401]}))
    assert (fold.run, fold.among, fold.run_first) == ((500, None), None, 401)
    assert Fold.from_bytes(fold.to_bytes()).run_first == 401
    fold.take(Event(2, 1.0, "round", "trace", "run", "begins", data={"run": [7, "loss<1", [[1, 3]]]}))
    assert (fold.run, fold.among, fold.run_first) == ((7, "loss<1"), [[1, 3]], 0), "as an older version wrote it"
    fold.take(Event(3, 1.0, "round", "trace", "run", "begins", data={"run": [7, None, None, "x"]}))
    assert fold.unread == [3]
