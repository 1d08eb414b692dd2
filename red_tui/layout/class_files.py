"""Finding `module:Class` in files, without importing anything: an import runs the code of a layout's author."""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

from red_tui.errors import LayoutError
from red_tui.plain_text import MAX_WORD, brief
from red_tui.safe_yaml import Unreadable, read_file

MAX_SOURCE = 4_000_000
"""Bytes of a module."""


def find_class(
    spec: str,
    working_dir: Path | None,
    file: str = "",
    *,
    field: str = "template",
    position: tuple[int, int] | None = None,
) -> Path | None:
    """The file in which `module:Class` stands; None for a module that is built in or compiled.

    Args:
        spec: `module:Class`.
        working_dir: Folder in which its module may lie.
        file: The layout that names it, for messages.
        field: The layout's field that names it.
        position: Line and column of the field.

    Raises:
        LayoutError: If there is no such module, it cannot be read, or it says nothing of such a class.
    """
    place = ":".join(str(part) for part in (file, *(position or ())) if part)

    def refuse(text: str, allowed: list[str] | None = None) -> NoReturn:
        line, column = position or (None, None)
        where = f"{place}: {field}" if place else field
        raise LayoutError(f"{where}: {text}", file=file, line=line, column=column, field=field, allowed=allowed)

    module, _, name = spec.partition(":")
    found = find_module(module, working_dir)
    if found is None:
        where = f" in {working_dir} or" if working_dir else ""
        refuse(f"there is no module {module!r}{where} among the installed packages; --working-dir names its folder")
    if not found.name.endswith(".py"):
        return None
    try:
        tree = ast.parse(read_file(found, MAX_SOURCE), str(found))
    except Unreadable as error:
        refuse(f"the module {module} ({found}) {error}")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        refuse(f"the module {module} is no Python: {getattr(error, 'msg', None) or error} ({found}{line})")
    names = dict(_names(tree.body))
    if name not in names and "*" not in names and "__getattr__" not in names:
        classes = sorted(one for one, is_class in names.items() if is_class)
        close = difflib.get_close_matches(name[:MAX_WORD], classes, 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        told = f" ({brief(', '.join(classes), 300)})" if classes else " (it has none)"
        refuse(f"the module {module} has no class {name}{meant}{told}", allowed=classes)
    return found


def find_module(name: str, working_dir: Path | None) -> Path | None:
    """The file of a module: in a folder, else where Python looks for modules.  No package is imported for it."""
    top, *inner = name.split(".")
    spec = PathFinder.find_spec(top, [str(working_dir.resolve())]) if working_dir else None
    if spec is None or (spec.origin is None and inner == []):
        try:
            spec = importlib.util.find_spec(top) or spec
        except (ImportError, ValueError):  # a module that was made by hand says nothing of where it is from
            return None
    for part in inner:
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations or ())) if spec else None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin)


def _names(body: Sequence[ast.stmt]) -> Iterator[tuple[str, bool]]:
    """What a module's own statements name, and whether each is a class; `*` for what they import all of."""
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield statement.name, True
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name, False
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                yield alias.asname or alias.name.partition(".")[0], False
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                for node in ast.walk(target):
                    if isinstance(node, ast.Name):
                        yield node.id, False
        elif isinstance(statement, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            for inner in (statement.body, getattr(statement, "orelse", []), getattr(statement, "finalbody", [])):
                yield from _names(inner)
            for handler in getattr(statement, "handlers", []):
                yield from _names(handler.body)
