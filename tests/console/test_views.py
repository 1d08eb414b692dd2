"""The lists: rounds, placement, events and nodes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.console.config.options import Preferences
from red_tui.console.screens.node_detail import last_error
from red_tui.console.screens.placement_screen import why_waiting
from red_tui.console.screens.rounds_screen import spread_lines
from red_tui.console.widgets.plots import bars, course
from red_tui.errors import RedError
from red_tui.nodes.states import NodeState
from red_tui.protocol.snapshot import BundleStatus, HostStatus, Spread
from tests.console.conftest import running, title_of, until
from tests.console.fake_link import EPOCH, FakeFederation, FakeLink, busy_federation, spread_like
from tests.console.test_grid import a_million

MEASURES = st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), max_size=300)


def shown(app: Any) -> Any:
    return app.controller.views.current


@given(MEASURES, st.integers(10, 90), st.integers(1, 8), st.booleans())
def test_a_plot_fills_its_lines_whatever_was_measured(
    values: list[float | None], width: int, height: int, ascii_only: bool
) -> None:
    rows = course(values, width, height, ascii_only)
    assert len(rows) == height and all(len(row) <= max(width, 10) for row in rows)
    assert not ascii_only or all(row.isascii() for row in rows)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=20), st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_bars_show_every_count_that_is_not_zero(counts: list[int], wide: int, height: int, ascii_only: bool) -> None:
    rows = bars(np.array(counts), wide, height, ascii_only)
    assert len(rows) == height and {len(row) for row in rows} == {wide * len(counts)}
    for place, count in enumerate(counts):
        assert bool(rows[-1][place * wide].strip()) == (count > 0)
    assert not ascii_only or all(row.isascii() for row in rows)


def read_on_a_narrow_screen(spread: dict[str, Any], ascii_only: bool) -> str:
    lines = spread_lines(Spread.from_wire(spread), 32, ascii_only)
    rows = ["".join(text for text, _ in line) for line in lines]
    assert all(len(row) <= 32 for row in rows), rows
    return " ".join(" ".join(rows).split())


def test_how_nodes_did_is_readable_without_colour_and_narrow() -> None:
    text = read_on_a_narrow_screen(spread_like(), ascii_only=True)
    assert text.isascii() and "median" in text and "worst client_" in text and "lowest" in text
    many = read_on_a_narrow_screen(spread_like(10_000), ascii_only=False)
    assert "10,000 nodes" in many
    one = read_on_a_narrow_screen({"measures": {"seconds": {"count": 1, "quantiles": [2.0] * 7, "bins": [1],
                                   "low": [["a\x1b[31m", 2.0]], "high": [["a\x1b[31m", 2.0]]}}}, False)  # fmt: skip
    assert "all 2" in one


def test_who_was_left_out_of_a_round_is_told_beside_it() -> None:
    told = {"measures": {}, "failed": [], "left_out": [["has failed: killed by a signal", 5, ["a", "b", "c"]]]}
    text = read_on_a_narrow_screen(told, False)
    assert text == "5 nodes left out a, b, c and 2 more: has failed: killed by a signal"


def test_the_last_error_of_a_node_that_goes_on_is_told_with_its_time_and_round() -> None:
    told = {"text": "fit raised ValueError: no\x1b[31m data", "round": 2, "time": EPOCH}
    text = " ".join("".join(part for part, _ in line).strip() for line in last_error(told, "ready", 60))
    assert text.startswith("error") and "round 2: fit raised ValueError: no" in text and "\x1b" not in text
    assert last_error(told, "failed", 60) == last_error(None, "ready", 60) == [], (
        "there `why` tells it, or nothing is to tell"
    )


async def test_the_list_of_rounds_has_a_column_for_nodes_that_were_left_out_once_there_are_some() -> None:
    link = FakeLink(busy_federation())
    async with running(link=link, size=(120, 30)) as (app, _, pilot):
        await pilot.press("2")
        view = shown(app)
        await until(pilot, lambda: view.count() > 0)
        assert "out" not in view.titles().split()
        view.mirror.rounds[-1] = replace(view.mirror.rounds[-1], left_out=3)
        assert "out" in view.titles().split()
        assert "".join(text for text, _ in view.make_line(0)).split()[-4] == "3"


async def test_a_round_whose_nodes_nobody_knows_of_says_so() -> None:
    link = FakeLink(busy_federation())
    link.answers["spread"] = RedError("there is no command 'spread'")
    async with running(link=link) as (app, _, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "not known any more" in " ".join(app.detail.text.split()))


async def test_of_an_old_round_it_is_said_where_it_is_still_known_how_its_nodes_did() -> None:
    link = FakeLink(busy_federation())
    link.answers["spread"] = {"text": "it is held ready of the last 500 rounds only", "number": 13, "spread": {}}
    async with running(link=link) as (app, _, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "of the last 500 rounds only" in " ".join(app.detail.text.split()))


def test_a_falling_course_falls() -> None:
    rows = course([4.0, 3.0, 2.0, 1.0], 13, 4, ascii_only=True)
    assert [row[9:] for row in rows] == ["*   ", " *  ", "  * ", "   *"]
    assert rows[0].split("|")[0].strip() == "4" and rows[-1].split("|")[0].strip() == "1"


async def test_the_rounds_are_plotted_and_the_selected_one_is_told_whole() -> None:
    federation = busy_federation()
    federation.rounds[-1].update(evaluated=16, num_examples=4828.0)
    async with running(federation, size=(120, 60)) as (app, link, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "accuracy" in shown(app).text)
        for title in ("loss", "accuracy", "seconds", "nodes"):
            assert title in shown(app).text
        await until(pilot, lambda: "round 13" in title_of(app.detail))
        assert "by 16" in app.detail.text and "4,828" in app.detail.text
        await until(pilot, lambda: "median" in app.detail.text)
        text = " ".join(app.detail.text.split())
        assert "3 nodes failed" in text and "client_007, client_008: gradient exploded" in text
        assert "slowest client_017 0.871" in text and link.told("spread") == [{"number": 13}]
        await pilot.press("j")
        await until(pilot, lambda: "round 12" in title_of(app.detail))
        await pilot.press("enter")
        assert len(app.screen_stack) == 2


async def test_the_selected_round_stays_selected_when_another_one_ends() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("2", "j", "j")
        view = shown(app)
        await until(pilot, lambda: view.current is not None and view.current.number == 11)
        link.federation.rounds.append({**link.federation.rounds[-1], "number": 14, "ended": EPOCH + 14})
        link.changed()
        await until(pilot, lambda: view.count() == 14)
        assert view.current.number == 11
        await pilot.press("home")
        assert view.current.number == 14


async def test_twenty_thousand_rounds_cost_the_lines_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = busy_federation()
    first = federation.rounds[0]
    federation.rounds += [{**first, "number": number, "loss": math.exp(-number)} for number in range(14, 20_000)]
    async with running(federation) as (app, _, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app).count() == 19_999)
        made: list[int] = []
        real = shown(app).make_line
        monkeypatch.setattr(shown(app), "make_line", lambda place: made.append(place) or real(place))
        await pilot.press("end")
        assert shown(app).current.number == 1
        assert len(made) <= shown(app).size.height


async def test_other_measures_can_be_plotted() -> None:
    async with running(size=(80, 24)) as (app, _, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "accuracy" in shown(app).text)
        assert "train loss 0" not in shown(app).text
        await pilot.press("o", "o")
        await until(pilot, lambda: "train loss 0" in shown(app).text)


def placed() -> FakeFederation:
    federation = busy_federation()
    federation.bundles[7].update(host="", gpu=1, resources={"lidar": 2.0}, state="pending")
    federation.hosts[0]["resources"] = {"lidar": 1.0}
    return federation


async def test_the_placement_says_what_is_asked_used_and_free_and_why_a_bundle_waits() -> None:
    async with running(placed(), size=(120, 36)) as (app, link, pilot):
        link.answers["explain"] = {"text": "client_052 waits for its actor", "why": "", "state": "pending"}
        await pilot.press("3")
        await until(pilot, lambda: "worker-2" in shown(app).text)
        text = shown(app).text
        assert "3.25/4" in text and "0.75 free" in text and "● 12 ▶ 5" in text
        assert "asks gpu 1: no host has any" in text
        await until(pilot, lambda: shown(app).reasons)
        while getattr(shown(app).current, "idx", None) != 6:
            await pilot.press("down")
        await until(pilot, lambda: "waits for its actor" in app.detail.text)
        assert link.told("explain") == [{"id": "client_052"}]


async def test_every_resource_of_a_host_is_told_asked_used_and_free_narrow_and_beside() -> None:
    federation = placed()
    for bundle in federation.bundles[1:4]:
        bundle.update(gpu=0.5, resources={"lidar": 1.0})
    for host in federation.hosts:
        host.update(gpu=2.0, resources={"lidar": 4.0})
    async with running(federation, size=(120, 36)) as (app, link, pilot):
        link.answers["explain"] = {"text": "client_052 waits for its actor", "why": "", "state": "pending"}
        await pilot.press("3")
        await until(pilot, lambda: "lidar" in app.detail.text)
        rows = [line.split() for line in app.detail.text.splitlines()]
        assert ["has", "asked", "used", "free"] in rows
        # On the head stand the coordinator and bundles 1 to 3; nobody sits in bundle 1.
        assert ["cpu", "4", "3.25", "2.30", "0.75"] in rows
        assert ["gpu", "2", "1.50", "1", "0.50"] in rows
        assert ["lidar", "4", "3", "2", "1"] in rows
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: shown(app).size.width < 80)
        text = shown(app).text
        assert "3.25/4" in text and "1.50/2" in text and "cpu 0.75 free, 2.30 used" in text
        assert "waits for its actor" in text  # of the bundle, where no panel tells it
        await pilot.resize_terminal(200, 36)
        await until(pilot, lambda: shown(app).size.width > 110)
        assert "gpu 0.50 free, 1 used; lidar 1 free, 2 used" in shown(app).text


@pytest.mark.parametrize(("key", "word"), [("2", "took"), ("3", "bundle"), ("1", "state")])
async def test_the_panel_says_what_is_selected_when_a_narrow_terminal_grows(key: str, word: str) -> None:
    async with running(size=(80, 24)) as (app, _, pilot):
        await pilot.press(key)
        await until(pilot, lambda: shown(app).size.height > 0)
        await pilot.resize_terminal(120, 36)
        await until(pilot, lambda: word in app.detail.text)


async def test_enter_on_a_bundle_lists_its_nodes() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("3")
        await until(pilot, lambda: shown(app).count())
        await pilot.press("down", "down", "down", "enter")
        await until(pilot, lambda: app.controller is not None and app.controller.view == "nodes")
        assert app.controller is not None and app.controller.query == "bundle:2"
        await until(pilot, lambda: shown(app).count() == 17)


async def test_a_pool_that_is_planned_says_so_and_what_can_never_fit() -> None:
    federation = FakeFederation(bundles=4)
    for bundle in federation.bundles:
        bundle.update(host="", state="planned")
    federation.bundles[3]["gpu"] = 1
    async with running(federation) as (app, _, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "4 bundles planned, to be reserved by the first build" in shown(app).text)
        assert shown(app).text.count("asks gpu 1: no host has any") == 1
        assert "1 bundle waiting" in title_of(shown(app))


@pytest.mark.parametrize(
    ("bundle", "why"),
    [
        (BundleStatus(1, "", 1.0, 1.0, {}, "pending", ""), "asks gpu 1: no host has any"),
        (BundleStatus(1, "", 8.0, 0.0, {}, "pending", ""), "asks cpu 8: the largest has 4"),
        (BundleStatus(1, "", 2.0, 0.0, {}, "pending", ""), "waits for cpu 2: the most that is free on a host is 1"),
        (BundleStatus(1, "", 0.5, 0.0, {"lidar": 1.0}, "pending", ""), "waits for Ray to place it"),
    ],
)
def test_a_bundle_waits_for_a_reason_that_the_hosts_tell(bundle: BundleStatus, why: str) -> None:
    hosts = (HostStatus("a", "a", True, 4.0, 0.0, True), HostStatus("b", "b", False, 64.0, 8.0, False))
    assert why_waiting(bundle, hosts, {"a": {"cpu": 3.0}}) == why


async def test_events_are_filtered_by_words_and_held_while_paused() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("5")
        await until(pilot, lambda: shown(app).count() == 5)
        await pilot.press("slash", *"wave pending")
        await until(pilot, lambda: shown(app).count() == 1)
        await pilot.press("enter", "p")
        link.federation.event("wave 5", "3 nodes wait", "warn", "wave", "pending")
        link.changed()
        await until(pilot, lambda: len(app.mirror.events) == 6)
        assert shown(app).count() == 1 and "1 new" in title_of(shown(app))
        await pilot.press("p")
        await until(pilot, lambda: shown(app).count() == 2)
        await pilot.press("escape")
        await until(pilot, lambda: shown(app).count() == 6)


async def test_the_selected_event_stays_selected_when_others_come() -> None:
    async with running() as (app, link, pilot):
        await pilot.press("5", "j")
        await until(pilot, lambda: shown(app).current is not None and shown(app).current.seq == 3)
        link.federation.event("client_001", "something")
        link.changed()
        await until(pilot, lambda: shown(app).count() == 6)
        assert shown(app).current.seq == 3


async def test_the_list_of_nodes_is_sorted_by_any_column_and_shows_the_columns_that_are_chosen() -> None:
    async with running(size=(120, 36)) as (app, _, pilot):
        await pilot.press("6")
        await until(pilot, lambda: shown(app).count() == 104)
        app.do("sort", {"value": "bundle"})
        assert "server" in shown(app).text.splitlines()[-1] or shown(app).make_line(0)
        app.do("columns", {"names": ("id", "host", "rebuilds")})
        await until(pilot, lambda: "rebuilds" in shown(app).text.splitlines()[0])
        assert "role" not in shown(app).text.splitlines()[0]
        app.do("columns", {"names": ("colour",)})
        await until(pilot, lambda: "no column 'colour'" in app.footer.message)
        await pilot.press("colon", *"sort loss up", "enter")
        await until(pilot, lambda: shown(app).sort == "loss" and shown(app).reverse)


async def test_a_million_nodes_are_sorted_beside_the_event_loop_and_the_cursor_stays() -> None:
    federation = a_million()
    federation.table.set(np.arange(1, 401), loss=np.linspace(1.0, 2.0, 400))
    async with running(federation) as (app, link, pilot):
        await pilot.press("6")
        await until(pilot, lambda: shown(app).count() == 1_000_001)
        chosen = shown(app).cursor_id
        app.do("sort", {"value": "loss"})
        await until(pilot, lambda: not shown(app).latest.busy)
        assert shown(app).cursor_id == chosen
        await pilot.press("home")
        assert shown(app).cursor_id == "c_399"
        await pilot.press("down")
        assert shown(app).cursor_id == "c_398"
        federation.table.set(10, state=NodeState.FAILED, loss=9.0)
        link.changed()
        await until(pilot, lambda: shown(app).order[0] == 10)
        assert shown(app).cursor_id == "c_398"
        await pilot.press("end")
        assert shown(app).place == 1_000_000


async def test_the_rounds_name_their_keys_as_they_are_bound() -> None:
    remapped = Preferences(keys={"set": ("E",)})
    for read_only, told in (
        (False, "enter tells how its nodes did · E changes the next rounds"),
        (True, "enter tells"),
    ):
        async with running(preferences=remapped, read_only=read_only, size=(180, 40)) as (app, _, pilot):
            await pilot.press("2")
            await until(pilot, lambda told=told: told in title_of(shown(app)))
            assert ("changes" in title_of(shown(app))) is not read_only
