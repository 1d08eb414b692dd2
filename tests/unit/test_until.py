"""Until when rounds run."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given, strategies as st

from red_tui.errors import SelectionError
from red_tui.rounds.history import RoundResult
from red_tui.selection.stop_condition import Until, portable

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
