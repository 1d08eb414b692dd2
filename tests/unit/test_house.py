"""The shape of the package: rooms of a size that one can carry on, no circles, and one name for one thing."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx

import red_tui

ROOT = Path(red_tui.__file__).parent
TESTS = Path(__file__).parents[1]
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
    # Figures in one place, long histories, judging on the server and hooks are seven more.
    # Models of scikit-learn, with the keys and the arrays that all models learn from, are four;
    # models of JAX, and nodes of a bundle that fit together, four more.
    # Files, streams of Ray Data and permutations by place are four of what deals data out.
    # Devices of a process are one; a new folder, three templates of other libraries, and what templates are looked at
    # for are five more.
    # Runs side by side are six.
    assert len(MODULES) <= 240  # 180, and capabilities that came later


def test_no_file_and_no_class_has_the_name_of_another() -> None:
    files = Counter(path.name for path in MODULES.values() if path.name != "__main__.py")
    classes = Counter(
        node.name
        for path in MODULES.values()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in [*files.items(), *classes.items()] if count > 1] == []


UNDERSCORED = {
    "_repr_html_": "the method by which notebooks ask for a table",
    "_exit": "os._exit, by which a process ends at once; Textual's word for an app that was told to end",
    "_replace": "the method of named tuples, which is public",
    "_nodes": "documented for scripts of earlier frameworks (red_tui/federation/origin_names.py)",
    "_pg": "documented for scripts of earlier frameworks (red_tui/federation/origin_names.py)",
    "_bundle_offset": "documented for scripts of earlier frameworks (red_tui/federation/origin_names.py)",
    "_private": "Ray's list of the actors that it knows of, without its dashboard",
    "_actor_method_call": "Ray's calls of methods are counted: they have no other door",
    "_remote": "Ray's creation of an actor is held up: it has no other door",
    "_run": "asyncio's callbacks are timed: they have no other door",
    "_driver": "what Textual writes to the terminal is counted there",
    "_display": "what Textual draws is counted there",
    "_compositor": "the screen as Textual has composed it, as lines",
    "_actions": "the options that an argparse parser knows",
}
"""Names with an underscore that tests may use, and whose they are: none belongs to an object of this package."""

REACHES = {"setattr", "getattr", "delattr", "hasattr"}


def underscored(path: Path) -> Iterator[str]:
    """Names that begin with one underscore and that a file uses of others: it neither defines nor assigns them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, ast.Attribute):
            mine = isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"
            (own if mine else used).add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            used.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in REACHES:
            words = [word.value for word in node.args if isinstance(word, ast.Constant)]
            used.update(word.rpartition(".")[2] for word in words if isinstance(word, str))
    yield from sorted(name for name in used - own if name.startswith("_") and not name.startswith("__"))


def test_tests_use_what_the_parts_of_the_package_show_and_no_name_with_an_underscore() -> None:
    used = {path.relative_to(TESTS).as_posix(): [*underscored(path)] for path in sorted(TESTS.rglob("*.py"))}
    reaching = {path: [name for name in names if name not in UNDERSCORED] for path, names in used.items()}
    assert {path: names for path, names in reaching.items() if names} == {}
    assert UNDERSCORED.keys() <= {name for names in used.values() for name in names}, "an entry that nobody needs"


def test_tests_and_benchmarks_say_which_cluster_they_start_or_join() -> None:
    """`ray.init` without an address joins any cluster that runs on the machine."""
    silent = [
        f"{path.name}:{node.lineno}"
        for folder in (TESTS, ROOT.parent / "benchmarks")
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "ray.init"
        and not (node.args or any(word.arg == "address" for word in node.keywords))
    ]
    assert silent == []
