"""Private parts of Textual: which ones the console stands on, and that it stands on no other."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
import textual

import red_tui.console
from red_tui.console.textual_private import PRIVATE_PARTS

CONSOLE = Path(red_tui.console.__file__).parent
TEXTUAL = Path(textual.__file__).parent


@pytest.mark.parametrize(("place", "name"), PRIVATE_PARTS)
def test_a_private_part_is_still_there(place: str, name: str) -> None:
    module_name, _, class_name = place.partition(":")
    owner = getattr(importlib.import_module(module_name), class_name)
    there = hasattr(owner, name) or re.search(rf"self\.{name}\b", inspect.getsource(owner)) is not None
    assert there, f"Textual {textual.__version__} has no {class_name}.{name}: mend red_tui/console/textual_private.py"


def private_names_of_textual() -> set[str]:
    """Names with an underscore in front that Textual gives to methods and attributes of its objects."""
    names: set[str] = set()
    for path in TEXTUAL.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        names.update(re.findall(r"(?:self|cls)\.(_[a-z]\w*)", text), re.findall(r"def (_[a-z]\w*)\(", text))
    return names


def test_no_other_file_uses_what_is_private_in_textual() -> None:
    private = private_names_of_textual()
    found = []
    for path in CONSOLE.rglob("*.py"):
        if path.name == "textual_private.py":
            continue
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        own |= {
            target.attr
            for node in ast.walk(tree)
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign))
            for top in (node.targets if isinstance(node, ast.Assign) else [node.target])
            for target in ast.walk(top)
            if isinstance(target, ast.Attribute)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in private and node.attr not in own:
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("textual._", "rich._")):
                found.append(f"{path.name}:{node.lineno}: from {node.module}")
    # `_strips` is the grid's own, on both halves of it; `os._exit` is Python's.
    assert [one for one in found if not one.endswith(("self._strips", "os._exit"))] == []
