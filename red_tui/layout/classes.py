"""From `module:Class` to the class."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from red_tui.errors import LayoutError
from red_tui.layout.rules import Refused, check_spec
from red_tui.nodes.template import FederatedNode
from red_tui.nodes.user_code import error_text


def load_template(
    spec: str,
    working_dir: Path | None = None,
    file: str = "",
    *,
    field: str = "template",
    base: type = FederatedNode,
    position: tuple[int, int] | None = None,
) -> type:
    """Import `module:Class` and check what it derives from.

    Args:
        spec: `module:Class`.
        working_dir: Folder in which its module may lie.
        file: The layout that names it, for messages.
        field: The layout's field that names it.
        base: What the class must derive from.
        position: Line and column of the field (`Layout.position`).

    Raises:
        LayoutError: If the module is not found or raises while it is imported, or holds no such class, or the class
            does not derive from `base`.
    """
    load = _Load(spec, file, field, position)
    try:
        check_spec(spec)
    except Refused as error:
        load.refuse(error.text)
    module_name, _, class_name = spec.partition(":")
    with _on_path(working_dir):
        module = load.module(module_name, working_dir)
        try:
            found = getattr(module, class_name, None)
        except Exception as error:  # a module's __getattr__ is a user's code too
            load.refuse(f"{module_name} raised {type(error).__name__} for {class_name}: {error}")
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
    return found


class _Load:
    """One import, and how it is refused."""

    def __init__(self, spec: str, file: str, field: str, position: tuple[int, int] | None) -> None:
        self._spec, self._file, self._field, self._position = spec, file, field, position

    def module(self, name: str, working_dir: Path | None) -> ModuleType:
        """The imported module."""
        self._refuse_shadowed(name, working_dir)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing != name and not name.startswith(f"{missing}."):
                self.refuse(f"importing {name} failed: it needs the module {missing!r}, which is not installed")
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
