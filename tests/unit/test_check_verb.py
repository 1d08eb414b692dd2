"""`check` reads the modules that a layout names and runs none of them, unless it is asked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from red_tui.cli import main as cli
from red_tui.errors import LayoutError
from red_tui.layout.templates import find_class, find_module

LAYOUT = "federation: a\ntemplate: {spec}\nnodes: [{{count: 2, role: train}}]\n"
MODULE = """
import pathlib
import red_tui as red
pathlib.Path(__file__).with_name("ran").write_text("")
print("hello")

class Client(red.FederatedNode):
    pass
"""


def layout(folder: Path, spec: str, module: str, name: str = "fresh_nodes.py") -> Path:
    path = folder / "layout.yaml"
    path.write_text(LAYOUT.format(spec=spec))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(module)
    return path


def check(*words: str | Path) -> int:
    return cli.main(["check", *map(str, words)])


def test_check_runs_nothing_of_what_is_beside_a_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = layout(tmp_path, "fresh_nodes:Client", MODULE)
    assert check(path) == 0
    told = capsys.readouterr()
    assert told.out == f"{path}: good: federation a, 2 nodes of fresh_nodes:Client\n"
    assert "--import" in told.err and not (tmp_path / "ran").exists()
    assert check(path, "--import", "--json") == 0
    assert json.loads(capsys.readouterr().out)["imported"] is True
    assert (tmp_path / "ran").exists()


def test_a_package_is_not_run_to_find_what_is_in_it(tmp_path: Path) -> None:
    path = layout(tmp_path, "mine.inner.nodes:Client", "raise SystemExit(3)", "mine/__init__.py")
    (tmp_path / "mine" / "inner").mkdir()
    (tmp_path / "mine" / "inner" / "nodes.py").write_text("class Client: pass")
    assert check(path) == 0
    assert check(path, "--import") == 2


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("class Clint: pass", r"has no class Client; did you mean Clint\? \(Clint\)"),
        ("", "has no class Client"),
        ("def Client(", "is no Python"),
        ("(" * 5000, "is no Python"),
        ("x = '\0'", "is no Python"),
        ("#" * 5_000_000, "larger than 4 MB"),
    ],
    ids=range(6),
)
def test_a_module_that_cannot_hold_the_class_is_refused_with_the_place_of_its_name(
    tmp_path: Path, module: str, said: str
) -> None:
    path = layout(tmp_path, "fresh_nodes:Client", module)
    with pytest.raises(LayoutError, match=said) as refused:
        find_class("fresh_nodes:Client", tmp_path, str(path), position=(2, 11))
    assert refused.value.message.startswith(f"{path}:2:11: template: ")


@pytest.mark.parametrize(
    "module",
    [
        "from other import Client",
        "from other import *",
        "Client = make()",
        "try:\n  import a\nexcept E:\n  class Client: 1",
        "if x:\n  A, Client = 1, 2",
        "def __getattr__(name): ...",
        "with a: Client: type = b",
    ],
)
def test_a_class_that_only_an_import_can_judge_is_let_through(tmp_path: Path, module: str) -> None:
    layout(tmp_path, "fresh_nodes:Client", module)
    assert find_class("fresh_nodes:Client", tmp_path) == tmp_path / "fresh_nodes.py"


def test_modules_are_found_as_python_finds_them(tmp_path: Path) -> None:
    assert find_module("red_tui.examples.digits", None) == Path(cli.__file__).parents[1] / "examples" / "digits.py"
    assert find_module("no_such.module", tmp_path) is None
    assert find_module("sys", tmp_path) is not None and find_class("sys:version", tmp_path) is None


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import os; os._exit(7)", "ended its process with code 7"),
        ("raise SystemExit(5)", "raised SystemExit: 5"),
        ("class Client: pass", "does not derive from FederatedNode"),
        ("import no_such_module_at_all", "needs the module 'no_such_module_at_all'"),
        ("print('{\"imported\": true}'); import os; os._exit(0)", "ended its process with code 0"),
        ("while True: pass", "did not end within 2 s"),
    ],
)
def test_an_import_that_goes_wrong_is_told_and_costs_only_its_own_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, said: str
) -> None:
    if "while" in module:
        monkeypatch.setattr("red_tui.cli.layout_check.IMPORT_SECONDS", 2)
    path = layout(tmp_path, "fresh_nodes:Client", f"if 0: Client = 1\n{module}")
    assert check(path, "--import") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("placement", "lines", "seen"),
    [
        ("{bundles: [{count: 2, gpu: 0.5}, {gpu: 0.25}, {cpu: 1}]}",
         ["2 bundles with 0.5 GPU: a node there sees one device, cuda:0, which up to 2 bundles share",
          "1 bundle with 0.25 GPU: a node there sees one device, cuda:0, which up to 4 bundles share",
          "1 bundle with 0 GPU: a node there sees no device"],
         [1, 1, 0]),
        ("{gpus: 5, bundles: 2}", ["2 bundles with 2 GPU: a node there sees cuda:0, cuda:1"], [2]),
        ("{gpus: 1}",
         ["2 bundles with 0.5 GPU: a node there sees one device, cuda:0, which up to 2 bundles share"], [1]),
        ("{cpus: 2}", [], []),
    ],
)  # fmt: skip
def test_check_says_which_devices_a_node_will_see(
    placement: str, lines: list[str], seen: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = layout(tmp_path, "red_tui.examples.digits:DigitsClient", "")
    path.write_text(path.read_text() + f"placement: {placement}\n")
    assert check(path) == 0
    assert capsys.readouterr().out.splitlines()[1:] == lines
    assert check(path, "--json") == 0
    assert [one["seen"] for one in json.loads(capsys.readouterr().out).get("devices", [])] == seen


def test_all_problems_of_a_layout_are_told_in_the_order_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "layout.yaml"
    path.write_text("federation: a b\nschema: stern\ntemplate: x:Y\nnodes: [{count: 0, role: train}]\nfoo: 1\n")
    assert check(path) == 2
    lines = capsys.readouterr().err.splitlines()
    starts = ["1:13: federation: ", "2:9: schema: ", "4:17: nodes[0].count: ", "5:1: foo: "]
    assert len(lines) == len(starts)
    assert all(f"{path}:{start}" in line for start, line in zip(starts, lines, strict=True))
    assert "did you mean star?" in lines[1]
    assert check(path, "--json") == 2
    problems = json.loads(capsys.readouterr().out)["error"]["fields"]["problems"]
    assert [problem.strip() in line for problem, line in zip(problems, lines, strict=True)] == [True] * 4
