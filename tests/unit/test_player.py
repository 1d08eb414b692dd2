"""A replay that plays: by a clock that goes by when a test says so."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from red_tui.errors import CommandRefused
from red_tui.journal.journal import Journal
from red_tui.protocol.events import Event
from red_tui.replay.player import ACTS, FOLLOW_EVERY, SPEEDS, Player
from red_tui.replay.time_points import ReplayError
from red_tui.replay.timeline import Replay


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def event(seq: int, when: float) -> Event:
    data = {"result": {"number": seq // 5, "state": "done"}} if seq % 5 == 0 else {}
    return Event(seq, when, "round", "info", f"e{seq}", "text", "", data)


class Played:
    """A journal whose events come ten seconds apart, and its player."""

    def __init__(self, path: Path, count: int = 20, **keywords: object) -> None:
        self.clock = Clock()
        self.journal = Journal(path / "journal.db")
        for seq in range(1, count + 1):
            self.journal.append(event(seq, 1000.0 + 10 * seq))
        self.replay = Replay(path / "journal.db")
        self.player = Player(self.replay, self.clock, **keywords)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> int:
        self.clock.now += seconds
        self.player.tick()
        return self.replay.position


def test_events_come_as_far_apart_as_they_did(tmp_path: Path) -> None:
    played = Played(tmp_path)
    assert [played.wait(seconds) for seconds in (0, 9.9, 0.2, 5, 5, 30)] == [1, 1, 2, 2, 3, 6]
    assert played.player.state == "playing" and played.player.moment == pytest.approx(1060.1)


@pytest.mark.parametrize(("speed", "position"), [(2.0, 3), (20.0, 20), (0.5, 1)])
def test_a_speed_is_seconds_of_the_journal_to_a_second(tmp_path: Path, speed: float, position: int) -> None:
    assert Played(tmp_path, speed=speed).wait(10.5) == position


def test_a_time_in_which_nothing_happens_is_skipped_after_a_while_and_that_is_told(tmp_path: Path) -> None:
    played = Played(tmp_path, 3, idle=2.0)
    played.journal.append(event(4, 1030.0 + 3 * 3600))
    played.wait(FOLLOW_EVERY)
    assert played.wait(1.0) == 1 and played.player.skipped == 0
    assert played.player.due() <= 0.5
    assert played.wait(0.5) == 2 and played.player.skipped == pytest.approx(8.0)  # of ten seconds
    assert played.player.moment == 1020.0 and played.player.state == "playing"
    assert played.wait(2.0) == 3
    played.player.act("speed", {"speed": "20x"})
    assert played.wait(1.9) == 3 and played.player.skipped == pytest.approx(8.0)
    assert played.wait(0.2) == 4 and played.player.skipped == pytest.approx(3 * 3600 - 42, abs=1)
    played.player.act("step_back", {})
    assert played.player.skipped == 0


def test_nothing_is_skipped_when_it_is_not_wanted_nor_where_somebody_asked_to_look(tmp_path: Path) -> None:
    played = Played(tmp_path, idle=2.0)
    assert "played as they were" in played.player.act("idle", {})
    assert played.wait(9.0) == 1 and played.player.skipped == 0
    assert "skipped after 2 s" in played.player.act("idle", {})
    assert played.wait(0.5) == 1  # what stood there before does not count
    played.player.act("at", {"moment": "+35s"})
    assert played.wait(1.5) == 4 and played.player.moment == pytest.approx(1046.5)
    assert played.wait(0.6) == 5


def test_paused_nothing_moves_and_it_goes_on_from_there(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.wait(12)
    played.player.act("play", {})
    assert played.wait(500) == 2 and played.player.state == "paused"
    played.player.act("play", {})
    assert played.wait(7.9) == 2 and played.wait(0.2) == 3


@pytest.mark.parametrize(
    ("name", "position"), [("step", 8), ("step_back", 6), ("next_round", 10), ("previous_round", 5), ("begin", 0)]
)
def test_steps_go_there_and_stay(tmp_path: Path, name: str, position: int) -> None:
    played = Played(tmp_path)
    played.wait(61)
    assert played.replay.position == 7
    played.player.act(name, {})
    assert played.replay.position == position
    assert played.player.state == ("playing" if name == "begin" else "paused")
    assert played.player.moment == (1010.0 if name == "begin" else 1000.0 + 10 * position)


def test_infinite_speed_takes_a_part_of_the_journal_with_each_picture(tmp_path: Path) -> None:
    played = Played(tmp_path, 250, speed=math.inf)
    assert played.wait(1000) == 0
    pictures = 0
    while played.player.state == "playing":
        assert played.player.due() == 0
        played.player.next_picture()
        pictures += 1
    assert pictures == 125 and played.replay.at_end


def test_faster_and_slower_go_through_the_speeds_and_say_where_they_end(tmp_path: Path) -> None:
    player = Played(tmp_path).player
    seen = [player.speed]
    for _ in SPEEDS[1:]:
        player.act("faster", {})
        seen.append(player.speed)
    assert tuple(seen) == SPEEDS
    with pytest.raises(CommandRefused, match="as fast as it is drawn"):
        player.act("faster", {})
    player.act("speed", {"speed": "30x"})
    player.act("slower", {})
    assert player.speed == 20
    player.act("speed", {"speed": "0.25"})
    with pytest.raises(CommandRefused, match="slowly"):
        player.act("slower", {})


@pytest.mark.parametrize("text", ["fast", "0", "-1", "", "1e9", "20 x"])
def test_what_is_no_speed_is_refused_and_changes_nothing(tmp_path: Path, text: str) -> None:
    player = Played(tmp_path).player
    with pytest.raises(ReplayError, match="no speed"):
        player.act("speed", {"speed": text})
    assert player.speed == 1


def test_at_goes_to_a_moment_and_plays_on_if_it_played(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.player.act("at", {"moment": "round 2"})
    assert played.replay.position == 10 and played.player.state == "playing"
    assert played.wait(10.1) == 11
    with pytest.raises(ReplayError):
        played.player.act("at", {"moment": "round 77"})
    assert played.replay.position == 11


def test_a_moment_between_two_events_is_shown_as_it_was_asked_for(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.player.act("at", {"moment": "+15s"})
    assert played.replay.position == 2 and played.player.moment == 1025


def test_at_the_end_what_comes_is_shown_as_it_comes(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.player.act("follow", {})
    assert played.player.state == "end" and played.replay.position == 20
    played.journal.append(event(21, 5000.0))
    assert played.wait(FOLLOW_EVERY) == 21
    assert played.player.state == "following" and played.player.moment == 5000


def test_a_pause_at_the_end_shows_nothing_new_but_that_there_is_more(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.player.act("follow", {})
    played.player.act("play", {})
    played.journal.append(event(21, 5000.0))
    assert played.wait(FOLLOW_EVERY) == 20 and len(played.replay.events) == 21
    assert played.player.state == "paused"


def test_a_replay_that_comes_to_the_end_while_the_journal_grows_follows_it(tmp_path: Path) -> None:
    played = Played(tmp_path, 3)
    assert played.wait(25) == 3
    played.journal.append(event(4, 9000.0))
    # It stood at the end: there is no waiting for the hours that nothing happened.
    assert played.wait(1) == 4 and played.player.state == "following"


def test_events_of_one_moment_stay_as_they_are_stepped_through(tmp_path: Path) -> None:
    clock, journal = Clock(), Journal(tmp_path / "journal.db")
    for seq in range(1, 6):
        journal.append(event(seq, 1000.0))
    replay = Replay(tmp_path / "journal.db")
    player = Player(replay, clock, playing=False)
    player.act("step", {})
    player.act("step", {})
    clock.now += 100
    player.tick()
    assert replay.position == 2
    player.act("play", {})
    clock.now += 0.1
    player.tick()
    assert replay.position == 5


def test_a_journal_that_cannot_be_read_now_is_told_and_tried_again(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.replay.close()
    played.wait(FOLLOW_EVERY)
    assert "closed" in played.player.trouble and played.replay.position == 1


def test_a_journal_that_was_set_aside_is_told(tmp_path: Path) -> None:
    played = Played(tmp_path)
    (tmp_path / "journal.db").rename(tmp_path / "journal-20260101T000000.db")
    played.wait(FOLLOW_EVERY)
    assert not played.player.trouble
    Journal(tmp_path / "journal.db").append(event(1, 1.0))
    played.wait(FOLLOW_EVERY)
    assert "launched anew" in played.player.trouble


def test_it_waits_no_longer_than_until_something_changes(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.wait(0)
    assert played.player.due() == FOLLOW_EVERY
    played.wait(9.75)
    assert played.player.due() == pytest.approx(0.25)
    played.player.act("speed", {"speed": "100"})
    assert played.player.due() == pytest.approx(0.0025)
    played.player.act("play", {})
    assert played.player.due() == FOLLOW_EVERY


def test_an_unknown_act_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandRefused, match="knows no 'rewrite'"):
        Played(tmp_path).player.act("rewrite", {})
    assert "rewrite" not in ACTS
