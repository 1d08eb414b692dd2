"""What travels with a layout is looked through before anything is started for it."""

from __future__ import annotations

import os
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ray._private.runtime_env.packaging import create_package, get_uri_for_directory

from red_tui.cli import main as cli
from red_tui.errors import LayoutError
from red_tui.supervisor import launch
from red_tui.supervisor.working_folder import WorkingFolder

LAYOUT = "federation: a\ntemplate: my_nodes:Client\nnodes: [{count: 2, role: train}]\n"
NODES = "import red_tui as red\nfrom my_tools import numbers\n\nclass Client(red.FederatedNode):\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "mine"
    inside.mkdir()
    (inside / "layout.yaml").write_text(LAYOUT)
    (inside / "my_nodes.py").write_text(NODES)
    (inside / "my_tools").mkdir()
    (inside / "my_tools" / "__init__.py").write_text("from . import numbers\n")
    (inside / "my_tools" / "numbers.py").write_text("START = 1\n")
    return inside


def packed(folder: Path, excludes: list[str], target: Path) -> set[str]:
    get_uri_for_directory(str(folder), include_gitignore=True, excludes=excludes)
    create_package(str(folder), target, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(target) as package:
        return {name.rstrip("/") for name in package.namelist()}


@pytest.mark.parametrize(
    "name",
    ["random.py", "json.py", "types.py", "logging.py", "asyncio/__init__.py", "numpy.py", "ray/__init__.py", "yaml.py",
     "red_tui/__init__.py", "pydantic.py", "grpc.so"],
)  # fmt: skip
def test_a_module_that_hides_one_that_others_need_is_found_before_anything_starts(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("")
    if name == "grpc.so":
        name = "msgpack.so"
        (folder / name).write_text("")

    def connect(*args: Any, **options: Any) -> Any:
        raise AssertionError("something was started")

    monkeypatch.setattr(launch, "connect", connect)
    hidden = name.partition(".")[0].partition("/")[0]
    with pytest.raises(LayoutError, match=f"{hidden}.* hides .*{hidden.replace('_', '.')}.*rename it"):
        launch.launch(folder / "layout.yaml")


def test_modules_that_hide_nothing_needed_are_let_through(folder: Path) -> None:
    for name in ("utils.py", "test.py", "models.py", "data-2.py", "random.txt", "notes.json.py.txt"):
        (folder / name).write_text("")
    (folder / "json").mkdir()  # no package: Python's own goes first
    assert WorkingFolder(folder).excludes == [".git", ".venv", "__pycache__"]


def test_pipes_sockets_and_links_that_lead_around_stay_behind(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "a pipe [1]")
    (folder / "up").symlink_to("..")
    (folder / "itself").symlink_to("itself")
    (folder / "nowhere").symlink_to("no-such-file")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "deep").mkdir()
    (folder / "deep" / "top").symlink_to(folder)
    (folder / "deep" / "here").symlink_to(".")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "common.py").write_text("")
    (folder / "shared").symlink_to(tmp_path / "shared")
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket is short
        one.bind("socket")
        os.chdir(here)
        looked = WorkingFolder(folder)
        found = packed(folder, looked.excludes, tmp_path / "package.zip")
    odd = {"a pipe [1]", "up", "itself", "nowhere", "device", "deep/top", "deep/here", "socket"}
    assert set(looked.odd) == odd
    assert {"layout.yaml", "my_nodes.py", "my_tools/numbers.py", "shared/common.py"} <= found
    assert not {name for name in found if name in odd or name.startswith(("up/", "deep/top/", "deep/here/"))}


def test_links_that_fan_out_are_counted_and_not_followed_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("red_tui.supervisor.working_folder.MAX_ENTRIES", 5000)
    for level in range(40):
        (folder / f"l{level}").mkdir()
        for way in "abcdefghijkl":
            (folder / f"l{level}" / way).symlink_to(folder / f"l{level + 1}")
    (folder / "l40").mkdir()
    with pytest.raises(LayoutError, match=r"more than 5,000 files and folders.*--working-dir"):
        WorkingFolder(folder)


TOO_LARGE = (
    r"holds 548 MiB, more than 500 MiB \(data alone holds 548 MiB of it, data/images\.npz 530 MiB\).*--working-dir"
    r".*\.redignore.*named by a path that each host has"
)


@pytest.mark.parametrize("ignore_file", [".rayignore", ".redignore"])
def test_a_folder_that_is_too_large_is_refused_with_what_can_be_done(folder: Path, ignore_file: str) -> None:
    (folder / "data").mkdir()
    for name, size in (("images.npz", 530), ("labels.npz", 18)):
        with (folder / "data" / name).open("wb") as file:
            file.truncate(size * 2**20)
    with pytest.raises(LayoutError, match=TOO_LARGE):
        WorkingFolder(folder)
    (folder / ignore_file).write_text("# large\ndata/\n")
    kept = WorkingFolder(folder)
    assert kept.ignored == set()
    assert ("data/" in kept.excludes) == (ignore_file == ".redignore"), "Ray reads its own file by itself"


def test_a_module_that_redignore_keeps_back_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".redignore").write_text("my_nodes.py\n")
    assert cli.main(["check", str(folder / "layout.yaml")]) == 2
    assert "is kept back by .gitignore, .rayignore or .redignore" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pattern", "said"), [("my_nodes.py", "my_nodes: "), ("*ools/", "my_nodes needs my_tools, and ")]
)
def test_a_module_that_gitignore_keeps_back_is_named_with_the_reason(
    folder: Path, pattern: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".gitignore").write_text(f"# generated\n{pattern}\n")
    path = folder / "layout.yaml"
    assert cli.main(["check", str(path)]) == 2
    err = capsys.readouterr().err
    assert f"{path}:2:11: template: {said}" in err and "is kept back by .gitignore" in err
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    assert cli.main(["check", str(path)]) == 0


def test_what_is_ignored_and_needed_by_nobody_is_no_matter(folder: Path) -> None:
    (folder / ".gitignore").write_text("scratch.py\n")
    (folder / "scratch.py").write_text("")
    assert cli.main(["check", str(folder / "layout.yaml")]) == 0


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="is no folder"):
        WorkingFolder(tmp_path / "none")
