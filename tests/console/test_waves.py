"""The wave planner: how nodes are split, what is shown of it, and what is built."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.console.dialogs.wave_planner import (
    ORDERS,
    WavePlanner,
    candidates,
    headline,
    ordered,
    plan_lines,
    spans,
    split,
)
from red_tui.nodes.states import NodeState
from red_tui.selection import parse
from tests.console.conftest import running, until
from tests.console.fake_link import EPOCH, FakeFederation, busy_federation

PLAN = {
    "text": "", "placed": [["client_060", 1, "head"], ["client_061", 7, "worker-2"]],
    "left_out": [["client_062", "no free bundle: 7 of 7 are in use"]], "reserves": False,
}  # fmt: skip


@given(st.integers(0, 500), st.sampled_from(["size", "count"]), st.integers(1, 60))
def test_every_node_is_in_one_wave(count: int, by: str, number: int) -> None:
    waves = split(np.arange(count), by, number)
    parts = [waves.wave(place) for place in range(len(waves))]
    assert [int(row) for part in parts for row in part] == list(range(count))
    assert all(len(part) for part in parts)
    if by == "size":
        assert all(len(part) == number for part in parts[:-1])
    else:
        assert len(parts) == min(number, count)
        assert not parts or max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_loses_nobody_and_is_the_same_again(order: str) -> None:
    table = busy_federation().table
    table.set(table.row_of("judge_20") or 0, since=EPOCH - 50)
    rows = candidates(table, None)
    once, again = ordered(table, rows, order, 7), ordered(table, rows, order, 7)
    assert once.tolist() == again.tolist() and sorted(once.tolist()) == sorted(rows.tolist())
    if order == "least recently used":
        assert table.ids[int(once[0])] == "judge_20"
    if order == "random":
        assert ordered(table, rows, order, 8).tolist() != once.tolist()


def test_only_what_can_be_built_is_planned_and_no_server_unasked() -> None:
    federation = busy_federation()
    table = federation.table
    states = {str(table.state_of(int(row))) for row in candidates(table, None)}
    assert states == {"virtual", "released"}
    table.set(federation.row("server"), state=NodeState.VIRTUAL)
    assert federation.row("server") not in candidates(table, None)
    assert candidates(table, parse("id:server")).tolist() == [federation.row("server")]
    marked = np.array([federation.row("client_000"), federation.row("client_070")])
    assert candidates(table, None, marked).tolist() == [federation.row("client_070")]


def test_numbers_are_told_as_spans() -> None:
    assert spans([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (PLAN, "2 nodes would go to 2 bundles; 1 does not fit"),
        ({"placed": [], "left_out": [["a", "w"], ["b", "w"]]}, "no node fits; 2 do not fit"),
        ({"placed": [["a", 1, "h"]], "processes": 1, "seconds": 1.4},
         "1 node would go to 1 bundle, starting 1 process in about 1.4 s at last time's pace"),
        ({"placed": [["a", 1, "h"]], "placed_count": 5000, "processes": 4},
         "5,000 nodes would go to more than 1 bundle, starting 4 processes"),
    ],
)  # fmt: skip
def test_a_plan_is_told_in_a_sentence(plan: dict[str, Any], words: str) -> None:
    assert headline(plan) == words


def test_what_does_not_fit_is_told_once_for_each_reason() -> None:
    left = [[f"c_{number}", "no free bundle"] for number in range(50)] + [["d", "is failed"]]
    text = "\n".join("".join(part for part, _ in line) for line in plan_lines({"placed": [], "left_out": left}, 70))
    assert text.count("no free bundle") == 1 and "and 46 more" in text and "is failed" in text


def test_a_plan_whose_bundles_have_no_room_says_who_holds_the_resources() -> None:
    plan = {"placed": [["a", 1, ""]], "reserves": True, "no_room": "busy: CPU 4 asked, 0 of 4 free: 'x' holds CPU 4"}
    text = " ".join("".join(part for part, _ in line) for line in plan_lines(plan, 70))
    assert "there is no room for the bundles now: busy: CPU 4 asked" in text and "'x' holds CPU 4" in text


async def planner(pilot: Any, app: Any) -> WavePlanner:
    await pilot.press("W")
    await until(pilot, lambda: isinstance(app.screen, WavePlanner) and len(app.screen.waves))
    screen = app.screen
    assert isinstance(screen, WavePlanner)
    return screen


async def test_a_wave_is_previewed_and_built_by_id() -> None:
    async with running() as (app, link, pilot):
        link.answers["plan"] = PLAN
        screen = await planner(pilot, app)
        await pilot.press("down", "down", "backspace", "3")
        await until(pilot, lambda: len(screen.waves) == 11)
        await until(pilot, lambda: "wave 1: 2 nodes to bundles 1, 7" in screen.body.text)
        assert "no free bundle" in screen.body.text
        assert link.told("plan")[-1]["ids"] == ["client_060", "client_061", "client_062"]
        await pilot.press("enter")
        await until(pilot, lambda: link.told("build"))
        assert link.told("build") == [{"ids": ["client_060", "client_061", "client_062"]}]


async def test_a_query_chooses_the_nodes_and_an_error_in_it_is_told() -> None:
    async with running() as (app, link, pilot):
        link.answers["plan"] = PLAN
        screen = await planner(pilot, app)
        await pilot.press(*"state:reddy")
        await until(pilot, lambda: screen.error)
        await pilot.press("enter")
        assert not link.told("build") and app.screen is screen
        await pilot.press(*["backspace"] * 11, *"id:judge_2*")
        await until(pilot, lambda: len(screen.waves.rows) == 9 and len(screen.waves) == 2)
        await pilot.press("pagedown")
        await until(pilot, lambda: screen.wave == 1)
        await pilot.press("enter")
        await until(pilot, lambda: link.told("build") == [{"ids": ["judge_28"]}])


async def test_all_waves_are_built_each_when_the_one_before_is_ready() -> None:
    federation = FakeFederation([("c_{i}", 6, "train")], bundles=4)
    async with running(federation) as (app, link, pilot):
        link.answers["plan"] = PLAN
        await planner(pilot, app)
        await pilot.press("down", "down", "backspace", "2", "down", "down", "backspace", "0")
        screen = app.screen
        assert isinstance(screen, WavePlanner)
        await until(pilot, lambda: len(screen.waves) == 3 and screen.choices.pause == 0)
        await pilot.press("tab", "enter")
        for number in range(3):
            await until(pilot, lambda number=number: len(link.told("build")) == number + 1)  # type: ignore[misc]
            ids = [f"c_{2 * number}", f"c_{2 * number + 1}"]
            assert link.told("build")[-1] == {"ids": ids}
            for node_id in ids:
                federation.set(node_id, NodeState.STARTING, bundle=1)
            link.changed()
            await until(pilot, lambda: app.mirror.counts[NodeState.STARTING])
            assert len(link.told("build")) == number + 1
            for node_id in ids:
                federation.set(node_id, NodeState.READY)
            link.changed()
        await until(pilot, lambda: app.controller is not None and app.controller.operations.waves_begun is None)


async def test_a_wave_of_marked_nodes_takes_the_marks_only() -> None:
    async with running() as (app, link, pilot):
        link.answers["plan"] = PLAN
        app.do("filter", {"query": "id:client_07*"})
        await pilot.press("asterisk", "escape")
        screen = await planner(pilot, app)
        assert len(screen.waves.rows) == 4 and "the 4 marked" in screen.body.text


async def test_between_waves_the_operator_can_stop() -> None:
    federation = FakeFederation([("c_{i}", 6, "train")], bundles=4)
    async with running(federation) as (app, link, pilot):
        link.answers["plan"] = PLAN
        screen = await planner(pilot, app)
        await pilot.press("down", "down", "backspace", "2")
        await until(pilot, lambda: len(screen.waves) == 3)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: len(link.told("build")) == 1)
        await pilot.press("W")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("tab", "enter")
        for node_id in ("c_0", "c_1"):
            federation.set(node_id, NodeState.READY, bundle=1)
        link.changed()
        await until(pilot, lambda: "stopped" in app.footer.message or app.controller.operations.waves_begun is None)
        assert len(link.told("build")) == 1
