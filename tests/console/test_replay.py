"""The console on a journal: its keys move the replay, and nothing else can be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from red_tui.cli.doctor import keys_rows, keys_text
from red_tui.console.config.options import ConsoleOptions, Preferences
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.connection.link_process import LinkPushed
from red_tui.console.dialogs.dialogs import ChooseFrom, Reader
from red_tui.console.input.actions import ACTIONS, REPLAY, ActionMap
from red_tui.console.input.command_line import complete, parse
from red_tui.errors import CommandRefused, RedError
from red_tui.protocol.commands import PROTOCOL
from tests.console.conftest import running, until
from tests.console.fake_link import FakeLink
from tests.console.fake_replay import FakeReplay

KEYS = {
    "p": "play",
    "full_stop": "step",
    "comma": "step_back",
    "greater_than_sign": "next_round",
    "less_than_sign": "previous_round",
    "plus": "faster",
    "minus": "slower",
    "0": "begin",
    "i": "idle",
    "G": "follow",
}
TYPED = [
    ("at 14:30", {"act": "at", "moment": "14:30"}),
    ("at round 12", {"act": "at", "moment": "round 12"}),
    ("at event 345", {"act": "at", "moment": "event 345"}),
    ("at +90s", {"act": "at", "moment": "+90s"}),
    ("speed 20x", {"act": "speed", "speed": "20x"}),
    ("speed max", {"act": "speed", "speed": "max"}),
    ("begin", {"act": "begin"}),
    ("follow", {"act": "follow"}),
    ("step", {"act": "step"}),
]


@asynccontextmanager
async def replaying(
    replay: FakeReplay | None = None, size: tuple[int, int] = (120, 36), **keywords: Any
) -> AsyncIterator[tuple[Any, FakeLink, Any]]:
    replay = replay or FakeReplay()
    async with running(replay, size, replay="journal.db", read_only=True, **keywords) as found:
        yield found


async def asked(pilot: Any, link: FakeLink, count: int = 1) -> dict[str, Any]:
    await until(pilot, lambda: len(link.told("replay")) == count)
    return link.told("replay")[-1]


def test_every_action_of_a_replay_is_tried_here() -> None:
    assert {*KEYS.values(), *(told["act"] for _, told in TYPED)} == REPLAY


@pytest.mark.parametrize(("key", "act"), KEYS.items())
async def test_a_key_moves_the_replay(key: str, act: str) -> None:
    async with replaying() as (_, link, pilot):
        await pilot.press(key)
        assert await asked(pilot, link) == {"act": act}


@pytest.mark.parametrize(("text", "told"), TYPED)
async def test_what_is_typed_moves_the_replay(text: str, told: dict[str, Any]) -> None:
    async with replaying() as (_, link, pilot):
        await pilot.press("colon", *text, "enter")
        assert await asked(pilot, link) == told


async def test_t_asks_where_to_in_the_command_line() -> None:
    async with replaying() as (app, link, pilot):
        await pilot.press("t")
        await until(pilot, lambda: "at 14:30" in app.footer.message)
        await pilot.press(*"round 12", "enter")
        assert await asked(pilot, link) == {"act": "at", "moment": "round 12"}


async def test_a_moment_that_is_not_there_is_said() -> None:
    async with replaying() as (app, link, pilot):
        link.answers["replay"] = RedError("round 99: the journal has no end of it: it has rounds 1 to 50")
        await pilot.press("colon", *"at round 99", "enter")
        await until(pilot, lambda: "rounds 1 to 50" in app.footer.message)


@pytest.mark.parametrize("key", ["b", "B", "w", "W", "r", "R", "s", "x", "u", "D"])
async def test_keys_that_act_say_that_this_is_a_replay(key: str) -> None:
    async with replaying() as (app, link, pilot):
        await pilot.press(key)
        assert app.footer.message.startswith("this is a replay: no ")
        assert not {verb for verb, _ in link.commands} - {"detail"}


@pytest.mark.parametrize("verb", ["build role:train", "run 5", "release", "stop now", "add 5 train", "train", "send x"])
async def test_verbs_that_act_are_refused_in_the_command_line(verb: str) -> None:
    async with replaying() as (app, link, pilot):
        await pilot.press("colon", *verb, "enter")
        await until(pilot, lambda: "this is a replay" in app.footer.message)
        assert not {name for name, _ in link.commands} - {"detail"}


async def test_help_and_palette_tell_what_moves_a_replay_and_nothing_that_acts() -> None:
    async with replaying() as (app, _, pilot):
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Reader) and app.screen.body.lines)
        text = app.screen.body.text
        assert all(action.help.split(",")[0][:30] in text for action in ACTIONS if action.id in REPLAY)
        assert "replay: " in text and "build the next wave" not in text
        await pilot.press("escape", "ctrl+p", *"next round")
        await until(
            pilot,
            lambda: isinstance(app.screen, ChooseFrom) and "go to the end of the next round" in app.screen.body.text,
        )


async def test_other_keys_may_be_chosen_by_action_id() -> None:
    async with replaying(preferences=Preferences(keys={"step": ("n",), "play": ("space",)})) as (app, link, pilot):
        await pilot.press("n")
        assert await asked(pilot, link) == {"act": "step"}
        await pilot.press("full_stop")
        assert "does nothing here" in app.footer.message


async def test_a_live_console_has_no_key_of_a_replay() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("full_stop")
        assert app.footer.message.startswith(". does nothing here")
        await pilot.press("colon", *"at 14:30", "enter")
        await until(pilot, lambda: "only in a replay" in app.footer.message)
        assert not link.told("replay") and not app.query("#timeline")


def test_the_command_line_completes_what_moves_a_replay() -> None:
    actions = ActionMap(replay=True)
    assert complete("sp", actions, [], lambda text: []) == ["speed"]
    assert complete("speed ", actions, [], lambda text: [])[-1] == "speed max"
    assert complete("at r", actions, [], lambda text: []) == ["at round"]
    with pytest.raises(CommandRefused, match="speed 20x"):
        parse("speed", actions)


def test_keys_lists_what_is_bound_in_a_replay() -> None:
    text, rows = keys_text(Preferences()), keys_rows(Preferences())
    assert "replay\n" in text and {row["action"] for row in rows} >= REPLAY
    assert next(row for row in rows if row["action"] == "step")["keys"] == ["."]


# -- the time line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({}, "▶ playing 20x  22:17:30 +4 m  round 14/50  event 345/1,204"),
        ({"state": "paused", "speed": 0.5}, "○ paused 0.5x  22:17:30"),
        ({"speed": None}, "▶ playing max  22:17:30"),
        ({"state": "end", "position": 1204, "event": 1204}, "○ at the end  22:17:30"),
        ({"state": "following", "position": 1204, "event": 1204}, "● following  22:17:30"),
        ({"skipped": 10_800}, "▶ playing 20x  22:17:30 +4 m  » 3 h skipped  round 14/50"),
    ],
)
async def test_the_time_line_tells_state_moment_round_and_event(line: dict[str, Any], words: str) -> None:
    async with replaying(FakeReplay(**line), (140, 36)) as (app, _, pilot):
        await until(pilot, lambda: app.time_line.text.strip())
        assert app.time_line.text.startswith(f" {words}")
        assert "client_033: out of" in app.time_line.text


async def test_in_ascii_the_time_line_is_ascii() -> None:
    async with replaying(ascii=True, size=(80, 24)) as (app, _, pilot):
        await until(pilot, lambda: app.time_line.text.strip())
        assert app.time_line.text.isascii() and "> playing 20x" in app.time_line.text and "#" in app.time_line.text


async def test_of_a_journal_of_days_the_day_is_told() -> None:
    async with replaying(FakeReplay(end=1_700_500_000.0)) as (app, _, pilot):
        await until(pilot, lambda: "2023-11-14 22:17:30" in app.time_line.text)


async def test_a_narrow_time_line_leaves_out_the_least_important(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replaying(size=(40, 24)) as (app, _, pilot):
        await until(pilot, lambda: app.time_line.text.strip())
        assert "playing 20x" in app.time_line.text and "22:17:30" in app.time_line.text
        assert "event" not in app.time_line.text and len(app.time_line.text) <= 40


async def test_a_moment_that_looks_the_same_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with replaying() as (app, link, pilot):
        drawn = 0

        def refresh(*args: Any, **keywords: Any) -> None:
            nonlocal drawn
            drawn += 1

        monkeypatch.setattr(app.time_line, "refresh", refresh)
        link.federation.event("x", "told")
        link.changed()
        await until(pilot, lambda: any(event.text == "told" for event in app.mirror.events))
        assert drawn == 0
        link.federation.stand(moment=link.federation.timeline["moment"] + 1)  # type: ignore[attr-defined]
        link.changed()
        await until(pilot, lambda: drawn == 1)


async def test_a_long_way_tells_how_far_it_is_and_that_it_is_there() -> None:
    async with replaying() as (app, link, pilot):
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        real = link.call

        async def call(verb: str, args: dict[str, Any], timeout: float | None) -> Any:
            return await answer if args.get("verb") == "replay" else await real(verb, args, timeout)

        link.call = call  # type: ignore[method-assign]
        await pilot.press("G")
        link.sink(LinkPushed({"push": "progress", "done": 40_000, "of": 100_000, "left": 2.2}))
        await until(pilot, lambda: app.footer.message)
        assert app.footer.message == "going there: 40,000 of 100,000 events, 2 s left"
        answer.set_result({"text": ""})
        await until(pilot, lambda: not app.footer.message)


def test_a_replay_skips_idle_times_as_the_config_file_says_unless_the_command_line_does() -> None:
    for preferred, given, told in ((5.0, None, 5.0), (5.0, 0.0, 0.0), (2.0, 1.5, 1.5)):
        options = ConsoleOptions(replay="j", idle=given).preferring(Preferences(replay_idle=preferred))
        assert options.open_args()["idle"] == told


# -- going back ---------------------------------------------------------------------------------


async def test_what_has_not_happened_yet_is_gone_from_events_and_rounds() -> None:
    replay = FakeReplay()
    async with replaying(replay) as (app, link, pilot):
        await pilot.press("2")
        await until(pilot, lambda: app.controller.views["rounds"].count() == 13)
        await pilot.press("5")
        await until(pilot, lambda: app.controller.views["events"].count() == 5)
        replay.go_back(2, 9, position=100)
        link.changed()
        await until(pilot, lambda: app.controller.views["events"].count() == 2)
        await pilot.press("2")
        await until(pilot, lambda: app.controller.views["rounds"].count() == 9)
        assert app.controller.views["rounds"].current.number == 9 and app.mirror.round_count == 9
        await pilot.press("1")
        await until(pilot, lambda: "wave 4" in app.events.text and "client_033" not in app.events.text)


async def test_the_cursor_stays_on_its_node_when_it_goes_back() -> None:
    replay = FakeReplay()
    async with replaying(replay) as (app, link, pilot):
        await pilot.press("home", "down", "right", "right", "space")
        node = app.grid.cursor_id
        replay.go_back(2, 9, position=100)
        link.changed()
        await until(pilot, lambda: app.mirror.timeline.position == 100)
        assert app.grid.cursor_id == node and app.grid.marks.count == 1


# -- the link -----------------------------------------------------------------------------------


async def test_the_link_is_asked_for_the_journal_and_another_one_goes_on_where_it_stood() -> None:
    replay = FakeReplay(state="paused", speed=5.0)
    async with replaying(replay, at="round 2", speed="5") as (app, link, pilot):
        asked = {"journal": "journal.db", "at": "round 2", "speed": "5", "idle": 2.0, "read_only": True}
        assert link.opens == [{**asked, "protocol": PROTOCOL}]
        link.die()
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.LOST)
        link.rise()
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.LIVE)
        told = {name: link.opens[-1][name] for name in ("journal", "at", "speed", "playing")}
        assert told == {"journal": "journal.db", "at": "event 345", "speed": "5", "playing": False}
        assert app.footer.message == "the journal is read again"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"state": "following"}, {"at": "end", "speed": "20", "playing": True, "idle": 0.0}),
        ({"idle": 5.0}, {"at": "event 345", "speed": "20", "playing": True, "idle": 5.0}),
        ({"event": 0, "speed": None}, {"at": "begin", "speed": "max", "playing": True}),
    ],
)
async def test_a_link_that_comes_anew_goes_on_as_the_one_before(line: dict[str, Any], told: dict[str, Any]) -> None:
    async with replaying(FakeReplay(**line)) as (_, link, pilot):
        link.die()
        link.rise()
        await until(pilot, lambda: len(link.opens) == 2)
        assert {name: link.opens[-1][name] for name in told} == told


async def test_the_header_says_that_it_is_a_replay() -> None:
    async with replaying() as (app, _, _):
        header = app.header.render().plain
        assert "replay" in header and "read-only" not in header and "host" not in header


async def test_leaving_asks_nothing_and_says_nothing_of_a_federation_that_goes_on() -> None:
    async with replaying() as (app, _, pilot):
        await pilot.press("q")
        await until(pilot, lambda: app.return_code is not None)
        assert app.return_code == 0 and app.last_word == ""
