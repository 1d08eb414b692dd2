"""The config file, remapped keys, saved filters, and what is remembered of a session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from red_tui.cli.doctor import keys_rows, keys_text
from red_tui.console.config import preferences, session_state as remembered
from red_tui.console.config.options import Preferences, PreferencesError
from red_tui.console.config.settings import Settings, schema
from red_tui.console.input.actions import ACTIONS, ActionMap, key_name, key_of
from red_tui.console.widgets.footer import footer_keys
from red_tui.nodes.states import NodeState
from tests.console.conftest import running, until
from tests.console.fake_link import FakeFederation
from tests.console.test_grid import a_million


def written(folder: Path, text: str) -> Path:
    path = folder / "console.yaml"
    path.write_text(text)
    return path


def test_without_a_config_file_all_is_default(tmp_path: Path) -> None:
    found = preferences.load(tmp_path / "none.yaml")
    assert found == Preferences()
    assert {source for _, _, source in preferences.rows(found)} == {"default"}


def test_the_defaults_of_the_model_are_those_of_a_console_without_a_file() -> None:
    defaults = Settings()
    for name in Settings.model_fields:
        assert getattr(defaults, name) == getattr(Preferences(), name), name
    assert all(field.description for field in Settings.model_fields.values())


def test_each_value_is_told_with_its_source(tmp_path: Path) -> None:
    path = written(tmp_path, "theme: red-safe\nmouse: true\nkeys: {wave: N}\nfilters: {slow: 'seconds:>1'}\n")
    rows = {name: (value, source) for name, value, source in preferences.rows(preferences.load(path), {"ascii": True})}
    assert rows["theme"] == ("red-safe", str(path))
    assert rows["mouse"] == ("yes", str(path))
    assert rows["ascii"] == ("yes", "command line")
    assert rows["keys"] == ("wave: N", str(path))
    assert rows["group"] == ("bundle", "default")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thme: red", "there is no key 'thme'; there are theme"),
        ("zoom: huge", "zoom: 'huge' is none of glyphs, tiles, counts"),
        ("keys: {fly: x}", "there is no action 'fly'"),
        ("filters: {bad: 'state:reddy'}", "filter bad:"),
        ("mouse: perhaps", "mouse:"),
        ("- a list", "must hold keys and values"),
        ("theme: [", "cannot be read"),
    ],
)
def test_an_error_in_the_config_file_names_the_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PreferencesError) as caught:
        preferences.load(written(tmp_path, text))
    assert words in caught.value.message and str(tmp_path) in caught.value.message


def test_the_schema_describes_every_key() -> None:
    properties = schema()["properties"]
    assert set(properties) == set(Settings.model_fields)
    assert all("description" in told for told in properties.values())
    json.dumps(schema())


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_every_key_can_be_written_as_it_is_told(action: Any) -> None:
    for key in action.keys:
        assert key_of(key_name(key)) == key and key_of(key_name(key, True)) == key


def test_the_keys_are_listed_by_action_with_what_is_remapped() -> None:
    text = keys_text(Preferences(keys={"wave": ("N",), "detail": ()}))
    assert any(line.split()[:2] == ["*wave", "N"] for line in text.splitlines())
    assert any(line.split()[:2] == ["*detail", "-"] for line in text.splitlines())
    assert {row["action"] for row in keys_rows(Preferences())} == {action.id for action in ACTIONS}
    assert "release" not in {row["action"] for row in keys_rows(Preferences(), read_only=True)}


async def test_a_remapped_key_acts_and_the_old_one_says_that_it_does_not() -> None:
    chosen = Preferences(keys={"wave": ("N",), "help": ("f",)})
    async with running(preferences=chosen) as (app, link, pilot):
        await pilot.press("w")
        assert "w does nothing here; f tells the keys" in app.footer.message
        await pilot.press("N")
        await until(pilot, lambda: link.told("wave"))
        assert ("N", "wave") in [(key, label) for key, label, _ in footer_keys(app.actions, app.situation())]


async def test_a_cluster_that_the_config_protects_is_opened_read_only() -> None:
    chosen = Preferences(read_only_clusters=("10.0.0.1:6379",))
    async with running(preferences=chosen, address="10.0.0.1:6379") as (app, link, pilot):
        assert link.opens[0]["read_only"] is True
        await pilot.press("x")
        assert "read-only" in app.footer.message


async def test_a_protected_cluster_that_was_found_rather_than_named_is_opened_again_read_only() -> None:
    federation = FakeFederation()
    chosen = Preferences(read_only_clusters=("x",))
    async with running(federation, preferences=chosen) as (app, link, _pilot):
        assert [one["read_only"] for one in link.opens] == [False, True]
        assert link.opens[1]["federation"] == "digits"
        federation.read_only = True
        app.connection.refresh()
        link.changed()
        await until(_pilot, lambda: app.actions.read_only)


async def test_filters_are_kept_by_name_and_brought_back(tmp_path: Path) -> None:
    async with running(home=str(tmp_path), remember=True) as (app, _, pilot):
        await pilot.press("slash", *"state:failed", "enter")
        await pilot.press("colon", *"keep broken", "enter")
        await pilot.press("escape", "escape")
        assert app.controller is not None and app.controller.query == ""
        await pilot.press("slash", "at", "b", "tab", "enter")
        await until(pilot, lambda: app.grid is not None and app.grid.arrangement and app.grid.arrangement.total == 2)
        assert app.controller.query == "state:failed"
        await pilot.press("escape", "slash", *"@none")
        await until(pilot, lambda: "there is no saved filter '@none'" in app.footer.message)
        await pilot.press("escape", "F")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("enter")
        await until(pilot, lambda: app.controller is not None and app.controller.query == "state:failed")
        await pilot.press("colon", *"forget broken", "enter")
        assert not app.controller.memory.filters


async def test_a_session_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    async with running(home=str(tmp_path), remember=True) as (app, _, pilot):
        await pilot.press("g", "slash", *"role:train-eval", "enter", "6")
        app.do("sort", {"value": "loss"})
        app.do("columns", {"names": ("id", "loss")})
        await pilot.pause()
    assert (tmp_path / remembered.FILE).stat().st_mode & 0o777 == 0o600
    async with running(home=str(tmp_path), remember=True) as (app, _, pilot):
        assert app.controller is not None and app.grid is not None
        await until(pilot, lambda: app.controller is not None and app.controller.view == "nodes")
        nodes = app.controller.views.current
        assert app.grid.grouping == "host" and app.controller.query == "role:train-eval"
        await until(pilot, lambda: nodes.count() == 29)
        assert nodes.sort == "loss" and nodes.columns == ("id", "loss")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"view": 3, "columns": [1, "id"], "queries": {"a": 2}, "new": 1}'])
def test_a_memory_of_another_version_is_no_reason_to_fail(tmp_path: Path, text: str) -> None:
    (tmp_path / remembered.FILE).write_text(text)
    found = remembered.load_session_state(tmp_path)
    assert found.view == "grid" and all(isinstance(one, str) for one in found.columns) and not found.queries


async def test_completion_of_a_filter_is_offered_while_it_is_typed() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"role:train state:re")
        await until(pilot, lambda: "state:ready" in app.footer.message and "state:released" in app.footer.message)
        await pilot.press("tab")
        await until(pilot, lambda: app.controller is not None and app.controller.query == "role:train state:ready")


async def test_completing_an_id_among_a_million_looks_at_no_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(a_million()) as (app, _, pilot):
        from red_tui.nodes.ids import PatternIds

        looked: list[int] = []
        real = PatternIds.__getitem__
        monkeypatch.setattr(PatternIds, "__getitem__", lambda self, index: looked.append(index) or real(self, index))
        await pilot.press("slash", *"id:c_99")
        await until(pilot, lambda: "id:c_99" in app.footer.message and "shown" in app.footer.message)
        assert len(looked) < 2000


def test_actions_have_one_id_each() -> None:
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    assert ActionMap().read_only is False and NodeState.READY.code == 3
