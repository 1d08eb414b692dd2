"""The one parser of times, and that who waits, watches and replays reads the same words."""

from __future__ import annotations

import pytest

from red_tui.cli.status import moment
from red_tui.errors import RedError
from red_tui.replay.time_points import parse_moment
from red_tui.selection import Until
from red_tui.selection.stop_condition import NoTime, clock_time, date_seconds, span_seconds
from red_tui.state_folder import operator_name

NOW = 1_700_000_000.0


@pytest.mark.parametrize(("text", "seconds"), [("20m", 1200), ("1h30m", 5400), ("1 h 30 m", 5400), ("0.5d", 43_200)])
def test_a_span_means_the_same_to_a_run_a_watch_and_a_replay(text: str, seconds: float) -> None:
    assert span_seconds(text) == seconds
    assert Until.parse(f"+{text}", NOW).time == NOW + seconds
    assert moment(text, NOW) == NOW - seconds
    assert parse_moment(f"+{text}").value == parse_moment(f"-{text}").value == seconds


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00"])
def test_a_date_means_the_same_to_a_run_a_watch_and_a_replay(text: str) -> None:
    second = date_seconds(text)
    assert second == 1_769_860_800.0
    assert Until.parse(text, NOW).time == moment(text, NOW) == parse_moment(text).value == second


@pytest.mark.parametrize(("text", "position"), [("", 0), ("20", 2), ("20m5", 4), ("20x", 2), ("m", 0), ("1h 2x", 4)])
def test_a_span_that_is_none_tells_where_it_stops_being_one(text: str, position: int) -> None:
    with pytest.raises(NoTime) as error:
        span_seconds(text)
    assert error.value.position == position


@pytest.mark.parametrize("text", ["24:00", "12:60", "12:00:60", "99:99"])
def test_no_clock_shows_it(text: str) -> None:
    with pytest.raises(NoTime):
        clock_time(text)
    for read in (parse_moment, lambda text: moment(text, NOW), lambda text: Until.parse(text, NOW)):
        with pytest.raises(RedError):
            read(text)


def test_an_operator_has_a_name_without_an_entry_for_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operator_name().count("@") == 1

    def missing() -> str:
        raise KeyError("uid")

    monkeypatch.setattr("getpass.getuser", missing)
    assert operator_name().split("@")[0].isdigit()
