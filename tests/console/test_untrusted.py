"""What nodes, clusters and files say reaches the terminal as text and nothing else, on every screen."""

from __future__ import annotations

import base64
import copy
import json
import re
import unicodedata
from typing import Any

import pytest

from red_tui.cli import (
    output as narration,
    round_verbs as history,
    round_verbs as rounds,
    status as listing,
    status as watching,
)
from red_tui.cli.main import main
from red_tui.console.connection.connection import ConnectionPhase
from red_tui.console.connection.link_process import LinkPushed
from red_tui.console.export import screen_text
from red_tui.errors import CommandRefused, LayoutError, NotConnected
from red_tui.nodes.ids import ListedIds
from red_tui.nodes.states import NodeState
from red_tui.protocol.events import Event
from red_tui.protocol.snapshot import RoundProgress
from tests.console.conftest import console, running, until
from tests.console.fake_link import DETAIL, FakeFederation, FakeLink, busy_federation, spread_like
from tests.console.fake_replay import FakeReplay
from tests.console.tour import drawn, told_all, tour

ACTS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of signs that a terminal, or the bidi algorithm, acts upon."""

EVIL = (
    "[bold red]x[/] \x1b[31m\x1b]52;c;aGk=\x07\x9b2J \u202eorder\u2066 z\u200bw\ufeff\ud800 \r\n\t\x00\x7f\u2028"
    " 中文 e\u0301"
    " Z" + "\u0335\u0301" * 150 + " \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f \u3164 \u1112\u1161\u11ab"
    " [@click=app.quit]q[/] [link=http://x]l[/link]"
)
LONG = EVIL + "y" * 5000


def spoiled(value: Any) -> Any:
    """A value with every text in it spoiled, names of entries as well."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, dict):
        return {key: spoiled(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(spoiled(one) for one in value)
    return value


def evil_federation() -> FakeFederation:
    """A busy federation in which every text that the link may tell is hostile, and some are endless."""
    federation = busy_federation()
    table = federation.table
    evil_ids = ListedIds((*(f"evil{number}{EVIL}" for number in range(30)), LONG))
    table.append(evil_ids, "train-eval")
    first = len(table) - len(evil_ids)
    table.set(slice(first, first + 20), state=NodeState.READY, bundle=3, rounds=3, loss=0.5, seconds=0.2)
    table.set(slice(first + 4, first + 8), state=NodeState.FAILED)
    for bundle in federation.bundles:
        bundle.update(host=str(bundle["host"]) + EVIL, what=EVIL, resources={"lidar" + EVIL: 1.0})
    for host in federation.hosts:
        host.update(id=str(host["id"]) + EVIL, name=str(host["name"]) + EVIL, resources={"lidar" + EVIL: 4.0})
    federation.cluster = {**federation.cluster, "address": "10.0.0.1" + EVIL, "embedded": False}
    federation.note = EVIL
    federation.round = {**federation.round, "phase": "fit" + EVIL, "until": "accuracy>0.9" + EVIL}
    for told in federation.rounds:
        told["metrics"] = {"accuracy": 0.9, "recall" + EVIL: 0.5}
        told["error"] = LONG
    federation.rounds[-1]["state"] = "failed"
    for kind, level in (("node" + EVIL, "info" + EVIL), ("node", "error"), ("node", "warn")):
        federation.event("evil" + EVIL, LONG, level, kind, "failed" + EVIL)
    federation.next_rounds = {
        "values": {**federation.next_rounds["values"], "rate" + EVIL: [EVIL]}, "later": ["later" + EVIL],
    }  # fmt: skip
    return federation


def evil_full(federation: FakeFederation) -> None:
    """Spoil what the federation says of itself."""
    real = federation.full

    def full() -> dict[str, Any]:
        told = real()
        told["federation"] = {
            name: value if name in ("id", "isolation") else spoiled(value) for name, value in told["federation"].items()
        }
        told["federation"]["id"] = "digits" + EVIL
        return told

    federation.full = full  # type: ignore[method-assign]


def evil_detail() -> dict[str, Any]:
    detail = copy.deepcopy(DETAIL)
    for name in ("why", "traceback", "host", "actor", "roles"):
        detail[name] = str(detail[name]) + EVIL
    detail["metrics"] = {"accuracy" + EVIL: 0.9, "named": EVIL}
    detail["log"] = [[1.0, "error" + EVIL, LONG], [2.0, "error", "one\ntwo" + EVIL]]
    detail["config"] = {"key" + EVIL: {"inner" + EVIL: [EVIL, None, True]}}
    detail["resources"] = {"CPU" + EVIL: 1.0}
    counts = [3, 4, 5]
    detail["talk"] = {"sent": 3, "received": 2, "waiting": 1, "dropped": 5, "from": {"a" + EVIL: counts},
                      "to": {"b" + EVIL: counts[:2]}, "sent_bytes": 9}  # fmt: skip
    return detail


def evil_link() -> FakeLink:
    federation = evil_federation()
    evil_full(federation)
    link = told_all(FakeLink(federation))
    link.answers["detail"] = evil_detail()
    spread = spread_like()
    spread["failed"] = [[why + EVIL, count, [one + EVIL for one in ids]] for why, count, ids in spread["failed"]]
    link.answers["spread"] = {"text": EVIL, "spread": spread}
    link.answers["explain"] = {"text": LONG, "table": "a\n  b" + EVIL}
    link.answers["graph"] = {**link.answers["graph"], "name": "k-connected" + EVIL, "text": EVIL}
    real_plan = link.answers["plan"]

    def plan(asked: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = real_plan(asked)
        told["placed"] = [[node_id, bundle, host + EVIL] for node_id, bundle, host in told["placed"]]
        told["left_out"] = [[node_id, why + EVIL] for node_id, why in told["left_out"]]
        return {**told, "text": EVIL}

    link.answers["plan"] = plan
    return link


def assert_plain(app: Any, place: str) -> str:
    """Every line of the screen is as wide as the screen, and made of signs that only show."""
    text = ""
    for strip in drawn(app):
        acting = {sign for sign in strip.text if unicodedata.category(sign) in ACTS}
        assert acting == set(), (place, strip.text)
        assert strip.cell_length == app.size.width, (place, strip.text)
        text += strip.text + "\n"
    return text


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
async def test_nothing_that_is_told_acts_on_the_terminal(size: tuple[int, int]) -> None:
    seen = ""
    async with running(link=evil_link(), size=size) as (app, link, pilot):
        async for place in tour(app, link, pilot):
            seen += assert_plain(app, place)
    assert "[bold red]" in seen and "[/]" in seen, "markup is text"


async def test_a_node_with_a_hostile_name_is_marked_asked_about_and_named_as_text() -> None:
    async with running(link=evil_link()) as (app, link, pilot):
        await pilot.press("6", "end", "space", "up", "space")
        seen = assert_plain(app, "list")
        assert "evil" in seen
        for key in ("x", "D"):
            await pilot.press(key)
            await until(pilot, lambda: len(app.screen_stack) > 1 or app.footer.message)
            seen += assert_plain(app, key)
            await pilot.press("escape")
        link.answers["rebuild"] = CommandRefused(LONG)
        app.do("rebuild", {})
        await until(pilot, lambda: "[bold red]" in app.footer.message)
        assert_plain(app, "an error")
        link.answers["rebuild"] = {"text": LONG}
        app.say("")
        app.do("rebuild", {})
        await until(pilot, lambda: "[bold red]" in app.footer.message)
        assert_plain(app, "an answer")
        app.do("why", {})
        await until(pilot, lambda: len(app.screen_stack) > 1)
        assert_plain(app, "why")
        await pilot.press("escape")
        app.connection.lost(LONG)
        await pilot.pause()
        assert_plain(app, "lost")


@pytest.mark.parametrize(
    "error",
    [NotConnected(LONG, address=EVIL),
     LayoutError(LONG, file="layouts/" + EVIL, line=7, column=1, field=EVIL, allowed=[EVIL, "nodes"])],
    ids=["not connected", "layout"],
)  # fmt: skip
async def test_what_is_told_while_connecting_is_text(error: Exception) -> None:
    link = FakeLink()
    link.open_answer = error
    app, _ = console(link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        app.on_link_pushed(LinkPushed({"push": "step", "key": "ray" + EVIL, "text": LONG, "state": "running" + EVIL}))
        await until(pilot, lambda: app.connection.phase is ConnectionPhase.FAILED)
        assert "[bold red]" in assert_plain(app, "failed")


async def test_the_time_line_of_a_replay_shows_text() -> None:
    replay = FakeReplay(text=LONG, state="playing")
    async with running(replay, size=(80, 24), replay="journal.db", read_only=True) as (app, _, _pilot):
        assert_plain(app, "replay")


async def test_the_picker_shows_names_as_text() -> None:
    link = FakeLink()
    federations = [{"id": "digits" + EVIL, "state": LONG, "age_s": 7.0, "nodes": 5, "round": 1, "orphan": False}]
    layouts = [{"path": "/x/" + EVIL, "title": LONG}]
    link.open_answer = [{"choose": {"federations": federations, "layouts": layouts}}]
    app, _ = console(link=link)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(app.screen_stack) > 1)
        assert "[bold red]" in assert_plain(app, "picker")
        await pilot.press("escape")


async def test_the_clipboard_and_saved_screens_hold_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    written: list[str] = []
    async with running(link=evil_link(), home=str(tmp_path)) as (app, _, pilot):
        await pilot.press("6", "end", "space", "up", "space")
        monkeypatch.setattr(app._driver, "write", written.append)
        app.do("copy", {})
        await pilot.press("enter")
        await until(pilot, lambda: "key" in app.screen.body.text)
        await pilot.press("y")
        await pilot.pause()
        kept = screen_text(app)
    copied = re.findall(r"\x1b\]52;c;([^\x07]*)\x07", "".join(written))
    assert len(copied) == 2
    for text in (kept, *(base64.b64decode(one).decode("utf-8", "surrogatepass") for one in copied)):
        assert {sign for sign in text if unicodedata.category(sign) in ACTS} <= {"\n"}


def test_verbs_print_text_and_json_that_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    narration.say(LONG)
    narration.tell(LONG)
    narration.narrate("ray", LONG, "failed")
    federation = evil_federation()
    wires = [{**one, "train_metrics": {"x" + EVIL: 1.0}, "num_examples": 5} for one in federation.rounds]
    rounds.print_rounds(wires, False)
    narration.tell(rounds.progress_line(wires[0], RoundProgress(target=3, until=EVIL)))
    for event in federation.events:
        watching.show(watching.line_of(Event.from_wire(event)), as_json=False)
    history.write_csv(wires)
    narration.tell(f"End federation {listing.in_words({'id': 'a' + EVIL, 'alive': ['b' + EVIL], 'nodes': 1})}?")
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert {sign for sign in text if unicodedata.category(sign) in ACTS} <= {"\n"}
        assert "[bold red]" in text
    for event in federation.events:
        watching.show(watching.line_of(Event.from_wire(event)), as_json=True)
    rounds.print_rounds(wires, True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(federation.events) + 1
    assert all(line.isascii() and line.isprintable() for line in lines) and all(json.loads(line) for line in lines)


def test_what_the_config_file_says_is_printed_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    config = tmp_path / "console.yaml"
    monkeypatch.setenv("RED_CONFIG", str(config))
    monkeypatch.setenv("RED_HOME", str(tmp_path))
    # No file in UTF-8 holds half a sign, and YAML has no escapes in two halves.
    wicked = "".join(sign for sign in EVIL if sign != "\ud800" and sign < "\U00010000")
    config.write_text(json.dumps({"theme": wicked, "keys": {"wave": [wicked]}}), encoding="utf-8")
    assert main(["doctor"]) == 0 and main(["keys"]) == 0
    config.write_text(json.dumps({"the" + wicked[:80]: 1}), encoding="utf-8")
    assert main(["keys"]) != 0
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert {sign for sign in text if unicodedata.category(sign) in ACTS} <= {"\n"}
        assert "[bold red]" in text
