"""The shape of the package: rooms of a size that one can carry on, no circles, and one name for one thing."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx

import red_tui

ROOT = Path(red_tui.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
}


def imported(path: Path) -> Iterator[str]:
    """Modules of this package that a module imports: at its top, within functions and for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "red_tui":
            base = ".".join((node.module or "").split(".")[1:])
            for alias in node.names:
                whole = f"{base}.{alias.name}".strip(".")
                yield whole if whole in MODULES else base
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("red_tui.") for alias in node.names if alias.name.startswith("red_tui.")
            )


def test_no_modules_stand_in_a_circle_not_even_by_deferred_imports_or_those_for_types() -> None:
    graph = networkx.DiGraph(
        (name, other)
        for name, path in MODULES.items()
        for other in imported(path)
        if other in MODULES and other != name
    )
    assert [sorted(circle) for circle in networkx.strongly_connected_components(graph) if len(circle) > 1] == []


def test_no_folder_holds_more_modules_than_one_looks_through() -> None:
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in MODULES.values())
    assert {folder: count for folder, count in folders.items() if count > 20} == {}
    # Checkpoints as files, the types that they keep, and what a server keeps between rounds came after the 180.
    assert len(MODULES) <= 200  # 180, and capabilities that came later


def test_no_file_and_no_class_has_the_name_of_another() -> None:
    files = Counter(path.name for path in MODULES.values() if path.name != "__main__.py")
    classes = Counter(
        node.name
        for path in MODULES.values()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in [*files.items(), *classes.items()] if count > 1] == []
