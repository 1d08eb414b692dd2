"""What the README and the pages of `docs/` tell a reader to do can be done."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import red_tui
from red_tui.cli.main import COMMANDS, parser_of, whole_parser
from tests.docs.blocks import NOT_RUN, ROOT, RUN, Reader, blocks_of, commands_in_text, pages
from tests.system.support import Home, eventually

VERBS = frozenset(COMMANDS)
PAGES = [page for page in pages() if any(block.language in RUN for block in blocks_of(page))]
TARGETS = frozenset(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_runs_after_the_other(
    page: Path, cluster: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    reader = Reader(cluster, tmp_path, VERBS)
    for block in blocks_of(page):
        if block.language in RUN:
            reader.run(block)
    if page.name == "README.md":
        assert "3 built" in reader.output and "2 built" in reader.output, "its script builds in waves"
    eventually(lambda: red_tui.federations() == [], "the page ends the federations that it has launched")
    assert red_tui.open_federations() == []
    eventually(lambda: not groups_left(), "the page gives back the placement groups that it has reserved")


def groups_left() -> list[str]:
    """Placement groups on the cluster; pages that come later would find its CPUs taken."""
    from ray.util import placement_group_table

    return [str(entry["name"]) for entry in placement_group_table().values() if entry["state"] != "REMOVED"]


@pytest.fixture(autouse=True)
def a_page_that_failed_leaves_nothing_to_the_next(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    yield
    for module in tmp_path.glob("*.py"):
        sys.modules.pop(module.stem, None)
    for federation in red_tui.open_federations():
        federation.close()
    if "cluster" in request.fixturenames:
        for left in red_tui.federations():
            request.getfixturevalue("cluster").red("down", left["id"], "--yes")
        remove_groups_left()


def remove_groups_left() -> None:
    import ray
    from ray.util import placement_group_table, remove_placement_group
    from ray.util.placement_group import PlacementGroup

    for group_id, entry in placement_group_table().items():
        if entry["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group_id)))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_block_is_run_or_says_that_it_is_text(page: Path) -> None:
    assert not [str(block) for block in blocks_of(page) if block.language not in (*RUN, *NOT_RUN)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_file_that_a_page_writes_is_used_on_it(page: Path) -> None:
    blocks = blocks_of(page)
    for block in blocks:
        if block.file is not None and block.file != "console.yaml":
            others = "".join(other.code for other in blocks if other is not block)
            assert block.file in others or f"{Path(block.file).stem} import" in others, f"{block}: nothing uses it"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_readme_names_every_layout() -> None:
    """And says how many there are; those beside it are the shipped ones."""
    text = (ROOT / "README.md").read_text()
    shipped = sorted(path.stem for path in (ROOT / "layouts").glob("*.yaml"))
    told = text.partition("[`layouts/`](layouts)")[2].partition(".")[0]
    assert sorted(re.findall(r"`([\w-]+)`", told)) == shipped
    assert told.split()[0] == ["six", "seven", "eight", "nine", "ten"][len(shipped) - 6]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_in_the_prose_exist(page: Path) -> None:
    """Verbs and their options; words in capitals, and none, stand for what a reader puts there."""
    for line, command in commands_in_text(page):
        words = command.split(" ")
        if words[0] == "make":
            wanted = [word for word in words[1:] if "=" not in word and word.islower()]
            assert set(wanted) <= TARGETS, f"{name_of(page)}:{line}: {command}"
            continue
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        verb = words[1] if len(words) > 1 else ""
        parser = parser_of(verb) if verb in VERBS else whole_parser(open_only=True)
        assert verb in VERBS or not verb.islower() or verb.startswith("--") or "." in verb, (
            f"{name_of(page)}:{line}: {command}"
        )
        known = {"--help", "--version", *(name for action in parser._actions for name in action.option_strings)}
        assert set(options) <= known, f"{name_of(page)}:{line}: {command}"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_and_pictures_of_a_page_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), f"{name_of(page)}: {target}"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_files_of_the_code_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`((?:red_tui|tests|layouts)/[\w./]+)`", page.read_text())
    assert not [path for path in named if not (ROOT / path).exists()]


def test_a_config_file_of_a_page_is_one(tmp_path: Path) -> None:
    from red_tui.console.config.preferences import load

    files = [block for page in pages() for block in blocks_of(page) if block.file == "console.yaml"]
    assert files
    for block in files:
        path = tmp_path / "console.yaml"
        path.write_text(block.code)
        load(path)


def test_install_puts_a_link_to_the_console_where_it_is_told_to(tmp_path: Path) -> None:
    told = ["make", "-C", str(ROOT), "link", f"PREFIX={tmp_path}"]
    subprocess.run(told, check=True, capture_output=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)})
    assert (tmp_path / "bin" / "red-console").resolve() == (ROOT / ".venv" / "bin" / "red-console").resolve()
