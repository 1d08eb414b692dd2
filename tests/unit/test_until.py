"""Until when rounds run."""

from __future__ import annotations

import math
import time
from datetime import datetime

import pytest
from hypothesis import given, strategies as st

from red_tui.errors import SelectionError
from red_tui.rounds.history import RoundResult
from red_tui.selection.stop_condition import RunWatch, Until, lower_is_better, portable

NOON = datetime(2026, 11, 24, 12, 0).timestamp()


def values(**metrics: float) -> dict[str, float]:
    return RoundResult(
        1, metrics.pop("loss", float("nan")), metrics, {"loss": 9.0, "speed": 2.0}, ("a",), {}, 0.1, 0.0
    ).values


def test_a_condition_looks_at_judged_values_first() -> None:
    assert Until.parse("accuracy > 0.9").reached(values(accuracy=0.95))
    assert not Until.parse("accuracy>0.9").reached(values(accuracy=0.9))
    assert Until.parse("loss<=0.5").reached(values(loss=0.5))
    assert not Until.parse("f1>0").reached(values(accuracy=1.0))
    assert not Until.parse("loss>8").reached(values()), "the loss of training is not that of judging"
    assert str(Until.parse("f1>1 or speed>1").reached(values())) == "speed>1"


def test_a_clock_time_is_the_next_one() -> None:
    assert Until.parse("14:30", NOON).time == NOON + 2.5 * 3600
    assert Until.parse("11:59", NOON).time == NOON + 24 * 3600 - 60
    assert Until.parse("12:00", NOON).time == NOON + 24 * 3600
    assert Until.parse("11:59", NOON).shown(NOON) == "11:59 tomorrow"
    assert Until.parse("14:30:05", NOON).shown(NOON) == "14:30:05"


@pytest.mark.parametrize(
    ("text", "seconds"), [("+20m", 1200), ("+1h30m", 5400), ("+ 90 s", 90), ("+0.5h", 1800), ("+1d2h", 93600)]
)
def test_a_span_counts_from_now(text: str, seconds: float) -> None:
    until = Until.parse(text, NOON)
    assert until.time == NOON + seconds
    assert not until.passed(NOON + seconds - 1) and until.passed(NOON + seconds)


def test_a_measure_and_a_time_end_it_whichever_comes_first() -> None:
    until = Until.parse("accuracy>0.95 or +20m or 12:10", NOON)
    assert until.time == NOON + 600 and until.shown(NOON) == "accuracy>0.95 or 12:10"
    assert until.reached(values(accuracy=0.96)) and not until.reached(values(accuracy=0.9))


@pytest.mark.parametrize(
    ("text", "position", "word"),
    [
        ("", 0, "missing"),
        ("accuracy", 8, "missing after 'accuracy'"),
        ("accuracy=1", 8, "> >= < <="),
        (">0.5", 0, "no condition"),
        ("accuracy>high", 9, "'high' is no number"),
        ("accuracy>1.2.3", 9, "no number"),
        ("accuracy>nan", 9, "no number"),
        ("25:00", 0, "no time of day"),
        ("14:3", 0, "no time"),
        ("+20", 3, "a span is"),
        ("+20x", 3, "a span is"),
        ("+0m", 0, "above 0"),
        ("loss<1 or 26:00", 10, "no time of day"),
        ("loss<1 or ", 10, "missing"),
        ("2026-13-01T10:00", 0, "no date"),
        ("no better loss", 0, "write no better loss for 10 rounds"),
        ("no better loss for ten rounds", 0, "cannot be read"),
        ("no good loss for 10 rounds", 0, "cannot be read"),
        ("no better loss for 0 rounds", 19, "write 1 to"),
        ("f1>0 or no better loss for 9999999 rounds", 27, "write 1 to 1,000,000"),
        ("accuracy>0.9 and ", 16, "missing"),
        ("loss<1 or f1>1 and 26:00", 19, "no time of day"),
    ],
)
def test_what_cannot_be_read_is_told_at_its_place(text: str, position: int, word: str) -> None:
    with pytest.raises(SelectionError, match=word) as caught:
        Until.parse(text, NOON)
    assert caught.value.fields["position"] == min(position, max(0, len(text))), caught.value.message


@given(st.integers(1, 10**6), st.sampled_from(["<", ">=", ">"]), st.floats(-1e3, 1e3).map(lambda x: float(f"{x:g}")))
def test_what_the_journal_holds_reads_back(seconds: int, sign: str, bound: float) -> None:
    until = Until.parse(f"loss{sign}{bound:g} or +{seconds}s", NOON)
    again = Until.parse(str(until), NOON + 10**7)
    assert again == until, "a restarted supervisor means the same moment"


def test_another_host_gets_a_clock_time_as_a_moment_and_counts_a_span_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        told = portable("14:30 or +20m", NOON)
        here = Until.parse("14:30", NOON).time
    finally:
        monkeypatch.undo()
        time.tzset()
    assert told.endswith("+09:00 or +20m")
    assert Until.parse(told.partition(" or ")[0], NOON).time == here


@pytest.mark.parametrize(
    "text", [" " * 1_000_000, "loss<" + "9" * 1_000_000, "+" + "1m" * 500_000, "a" * 1_000_000], ids=range(4)
)
def test_a_condition_that_is_too_long_is_refused_at_its_limit(text: str) -> None:
    with pytest.raises(SelectionError, match="at most 1,000 characters") as caught:
        Until.parse(text)
    assert caught.value.fields["position"] == 1000


# -- patience ----------------------------------------------------------------------------------------


def ends(text: str, rounds: list[dict[str, float]], now: float = NOON) -> int | None:
    """After which round a run ends."""
    watch = RunWatch(Until.parse(text, NOON))
    return next((number for number, told in enumerate(rounds, start=1) if watch.take(told, now) is not None), None)


def losses(*given: float) -> list[dict[str, float]]:
    return [{"loss": loss, "accuracy": 1 - loss} for loss in given]


@pytest.mark.parametrize(
    ("text", "given", "end"),
    [
        ("no better loss for 2 rounds", [0.5, 0.4, 0.41, 0.39, 0.4, 0.39, 0.1], 6),
        ("no better loss for 2 rounds", [0.5, 0.4, 0.3, 0.2], None),
        ("no better loss for 1 round", [0.5, 0.5], 2),
        ("no better loss for 3 rounds", [math.inf, math.nan, math.inf], 3),
        ("no better accuracy for 2 rounds", [0.5, 0.4, 0.6, 0.6], 4),
        ("no higher loss for 2 rounds", [0.5, 0.4, 0.4], 3),
        ("no lower accuracy for 2 rounds", [0.5, 0.6, 0.7, 0.7, 0.7], 5),
        ("accuracy>0.95 or no better loss for 10 rounds", [0.5] * 11, 11),
        ("accuracy>0.95 or no better loss for 10 rounds", [0.5, 0.04], 2),
        ("accuracy>0.55 and no better loss for 2 rounds", [0.5, 0.5, 0.5, 0.44, 0.44, 0.44], 6),
        ("accuracy>0.9 and accuracy<0.8", [0.5, 0.05], None),
        ("accuracy>0.9 and loss<0.1 or no better loss for 3 rounds", [0.5, 0.05], 2),
    ],
)
def test_a_run_ends_where_nothing_gets_better(text: str, given: list[float], end: int | None) -> None:
    assert ends(text, losses(*given)) == end


def test_rounds_that_are_not_judged_count_as_time_and_end_nothing() -> None:
    rounds: list[dict[str, float]] = [{"loss": 0.5}, {}, {}, {}, {"loss": 0.5}]
    assert ends("no better loss for 3 rounds", rounds) == 5, "the first round after that in which the loss is known"
    assert ends("no better f1 for 2 rounds", losses(*[0.5] * 9)) is None


def test_a_time_beside_a_measure_has_to_have_passed() -> None:
    text = "accuracy>0.5 and +10m"
    assert ends(text, losses(0.1, 0.1)) is None and ends(text, losses(0.1), NOON + 601) == 1
    assert Until.parse(text, NOON).time is None and Until.parse(text, NOON).shown(NOON) == "accuracy>0.5 and 12:10"
    told = portable("accuracy>0.5 and +10m or 14:30", NOON)
    assert told.startswith("accuracy>0.5 and +10m or 2026-11-24T14:30:00")


@pytest.mark.parametrize(
    "text",
    [
        "no better loss for 10 rounds",
        "accuracy>0.95 or no better loss for 1 round",
        "f1>0.5 and no lower cost for 3 rounds",
    ],
)
def test_patience_reads_back_as_the_journal_holds_it(text: str) -> None:
    until = Until.parse(text, NOON)
    assert str(until) == text and Until.parse(str(until), NOON) == until and portable(text, NOON) == text


def test_any_figure_of_a_round_ends_a_run() -> None:
    spread = {"measures": {"accuracy": {"count": 2, "quantiles": [0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5], "worst": 0.1}}}
    told = RoundResult(
        3, 0.4, {"accuracy": 0.3}, {"loss": 0.9, "speed": 2.0}, ("a", "b"), {"c": "late"}, 1.5, 0.0, spread=spread
    ).values
    for text in (
        "accuracy_worst<0.2", "accuracy_p90>=0.5", "accuracy_median>=0.3", "train_loss>0.8", "train_speed>1", "speed>1",
        "seconds>1", "failed>=1", "participants>=2", "loss<0.5",
    ):  # fmt: skip
        assert Until.parse(text).reached(told) is not None, text
    unjudged = RoundResult(3, math.nan, {}, {"loss": 0.9}, (), {}, 1.5, 0.0).values
    assert "loss" not in unjudged, "the loss of training is not that of judging"


@pytest.mark.parametrize(
    ("name", "low"),
    [
        *((name, True) for name in ("loss", "val_loss", "train loss", "rmse", "word_error", "seconds", "my_distance")),
        *((name, False) for name in ("accuracy", "f1", "lossless", "auc")),
    ],
)
def test_which_values_are_good_is_told_by_the_name(name: str, low: bool) -> None:
    assert lower_is_better(name) is low
