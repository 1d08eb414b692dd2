"""The folder whose modules travel to the cluster: looked through before anything is started for it.

Ray packs all of it.  It would wait for a pipe, follow a link to the folder around it for ever, and let a `random.py`
take the place of Python's own in every process.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from red_tui.errors import LayoutError
from red_tui.layout import Layout
from red_tui.layout.templates import MAX_SOURCE, find_module
from red_tui.plain_text import one_line
from red_tui.safe_yaml import Unreadable, read_file

MAX_BYTES = 500 * 2**20
"""Ray takes a little more, and says so only when it has packed all."""
MAX_ENTRIES = 100_000
MAX_LINKS = 5
"""Links to folders that one path may go through."""
EXCLUDED = (".git", ".venv", "__pycache__")
KEEP_IGNORED = "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"
"""Environment variable of Ray: 1 lets travel what .gitignore names."""

_HARMLESS = frozenset({"antigravity", "idlelib", "test", "this", "turtle", "turtledemo"})
"""Modules of Python that nothing in a cluster imports."""
_SPECIAL = re.compile(r"([\\*?\[\]!# ])")
IGNORE_FILE = ".redignore"
_ADVICE = (
    "move the modules into a folder of their own and name it with --working-dir, or list what stays behind in a"
    f" {IGNORE_FILE} file there (it reads as .gitignore does, and so does .rayignore)"
)
_DATA_ADVICE = "data that are large are named by a path that each host has, such as data: {source: /data/images.npz}"

Ignore = Callable[[Path], bool]


class WorkingFolder:
    """What travels of a folder.

    Args:
        folder: The folder.

    Raises:
        LayoutError: If it is too large, cannot be read, or hides a module that others need.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.excludes = list(EXCLUDED)
        """Patterns of what stays behind, for Ray."""
        self.odd: list[str] = []
        """What is no file or folder, or a link that leads around: it stays behind."""
        self.ignored: set[Path] = set()
        """Python files that .gitignore, .rayignore or .redignore keep back."""
        self._sizes: dict[str, int] = {}
        self._largest: tuple[int, Path] = (0, self.folder)
        self._entries = 0
        if not self.folder.is_dir():
            raise self._error("is no folder: --working-dir names the folder of the modules")
        self._refuse_hiding()
        try:
            self._look(self.folder, os.path.realpath(self.folder), (), self._own_ignores())
        except (OSError, UnicodeError, RecursionError) as error:
            raise self._error(f"cannot be looked through: {error}") from error
        self._refuse_large()

    def refuse_ignored(self, layout: Layout, file: str) -> None:
        """Raise LayoutError if a module that a layout's classes need is kept back by an ignore file."""
        if not self.ignored:
            return
        ignored = {os.path.realpath(path) for path in self.ignored}
        for field, spec in layout.class_specs():
            module = spec.partition(":")[0]
            for name, path in self._needed_by(module):
                if os.path.realpath(path) in ignored:
                    line, column = layout.position(field) or (None, None)
                    place = ":".join(str(part) for part in (file, line, column) if part)
                    needs = "" if name == module else f" needs {name}, and"
                    raise LayoutError(
                        f"{place}: {field}: {module}{needs or ':'} {path} is kept back by .gitignore, .rayignore or"
                        " .redignore, and Ray leaves behind what they name: take it out of there (or set the"
                        f" environment variable {KEEP_IGNORED}=1 for .gitignore)",
                        file=file, line=line, column=column, field=field, allowed=None,
                    )  # fmt: skip

    # -- what is in it -----------------------------------------------------------------------------

    def _look(self, folder: Path, real: str, around: tuple[str, ...], ignores: list[Ignore]) -> None:
        """Look through a folder.

        Args:
            folder: Its path as it is written.
            real: Its path without links.
            around: Paths without links of the folders that hold the links which led here.
            ignores: What the ignore files of the folders above keep back.
        """
        ignores = [*ignores, *_ignores_of(folder)]
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise self._error(f"holds more than {MAX_ENTRIES:,} files and folders, and all would travel: {_ADVICE}")
            path = Path(entry.path)
            if entry.name in EXCLUDED:
                continue
            if any(ignore(path) for ignore in ignores):
                self.ignored.update([path] if path.suffix == ".py" else path.rglob("*.py") if entry.is_dir() else [])
                continue
            try:
                mode, size = entry.stat().st_mode, entry.stat().st_size
            except OSError:  # a link to nowhere, or to itself
                mode, size = 0, 0
            inner = os.path.join(real, entry.name)
            if stat.S_ISDIR(mode) and not entry.is_symlink():
                self._look(path, inner, around, ignores)
            elif stat.S_ISDIR(mode) and not _leads_around(target := os.path.realpath(inner), (*around, real)):
                self._look(path, target, (*around, real), ignores)
            elif stat.S_ISREG(mode):
                self._add(path, size)
            else:
                self._leave(path)

    def _add(self, path: Path, size: int) -> None:
        top = path.relative_to(self.folder).parts[0]
        self._sizes[top] = self._sizes.get(top, 0) + size
        self._largest = max(self._largest, (size, path))

    def _refuse_large(self) -> None:
        total = sum(self._sizes.values())
        if total <= MAX_BYTES:
            return
        top = max(self._sizes, key=lambda name: self._sizes[name])
        size, path = self._largest
        share = f"{one_line(top, 100)} alone holds {_told_size(self._sizes[top])} of it"
        if path != self.folder / top:
            share += f", {one_line(path.relative_to(self.folder).as_posix(), 200)} {_told_size(size)}"
        raise self._error(
            f"holds {_told_size(total)}, more than {_told_size(MAX_BYTES)} ({share}), and all would travel to every"
            f" host with the modules: {_ADVICE}; {_DATA_ADVICE}"
        )

    def _own_ignores(self) -> list[Ignore]:
        """What the folder's own ignore file keeps back, which Ray is told as patterns."""
        file = self.folder / IGNORE_FILE
        if not file.is_file():
            return []
        from ray._private.runtime_env.packaging import _get_ignore_file

        self.excludes += [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        found = _get_ignore_file(self.folder, IGNORE_FILE)
        return [found] if found is not None else []

    def _leave(self, path: Path) -> None:
        inner = path.relative_to(self.folder).as_posix()
        self.odd.append(inner)
        self.excludes.append("/" + _SPECIAL.sub(r"\\\1", inner))

    # -- what it hides -----------------------------------------------------------------------------

    def _refuse_hiding(self) -> None:
        needed: frozenset[str] | None = None
        for path in sorted(self.folder.iterdir()):
            name = _module_of(path)
            if not name or name in _HARMLESS:
                continue
            if name in sys.stdlib_module_names:
                raise self._hides(path, name, f"a standard module: Python's own {name}")
            if name == "red_tui" and Path(__file__).resolve().parents[1] != path.resolve():
                raise self._hides(path, name, "red-tui itself")
            if _is_installed(name, self.folder):
                needed = _needed_packages() if needed is None else needed
                if name in needed and name != "red_tui":
                    raise self._hides(path, name, f"the package {name}")

    def _hides(self, path: Path, name: str, what: str) -> LayoutError:
        text = (
            f"hides {what}, which Ray and red-tui import, from all that runs with this layout: rename it (my_{name},"
            " say), or name another folder with --working-dir"
        )
        return LayoutError(f"{path} {text}", file=str(path), line=None, column=None, field="", allowed=None)

    def _error(self, text: str) -> LayoutError:
        return LayoutError(
            f"the folder {self.folder} {text}", file=str(self.folder), line=None, column=None, field="", allowed=None
        )

    # -- what needs what -----------------------------------------------------------------------------

    def _needed_by(self, module: str) -> Iterator[tuple[str, Path]]:
        """A module and those that it imports, as far as they stand in the folder."""
        waiting, seen = [module], set()
        while waiting:
            name = waiting.pop(0)
            path = find_module(name, self.folder)
            if name in seen or path is None or self.folder not in path.absolute().parents:
                continue
            seen.add(name)
            yield name, path
            waiting += _imports_of(path, name)


def _told_size(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size < 10 * 2**30 else f"{size / 2**30:,.1f} GiB"


def _module_of(path: Path) -> str:
    """The name under which a file or folder is imported, or nothing."""
    if path.suffix in (".py", ".so", ".pyd") and path.is_file():
        name = path.name.partition(".")[0]
    else:
        name = path.name if (path / "__init__.py").is_file() else ""
    return name if name.isidentifier() else ""


def _leads_around(target: str, around: tuple[str, ...]) -> bool:
    """Whether a link leads to a folder that it stands in, or stands behind more links than anybody means."""
    return len(around) > MAX_LINKS or any(f"{one}{os.sep}".startswith(target.rstrip(os.sep) + os.sep) for one in around)


def _ignores_of(folder: Path) -> list[Ignore]:
    """What the ignore files of a folder keep back, as Ray reads them."""
    if not any((folder / name).is_file() for name in (".gitignore", ".rayignore")):
        return []
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    kept = os.environ.get(KEEP_IGNORED, "0") == "1"
    found: list[Ignore] = get_excludes_from_ignore_files(folder, include_gitignore=not kept)
    return found


def _is_installed(name: str, folder: Path) -> bool:
    elsewhere = [entry for entry in sys.path if Path(entry or ".").absolute() != folder]
    return PathFinder.find_spec(name, elsewhere) is not None


def _needed_packages() -> frozenset[str]:
    """Names under which packages are imported that red-tui stands on, and what these stand on."""
    waiting, needed = ["red-tui"], set[str]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in needed:
            continue
        needed.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0] for one in requires if "extra ==" not in one]
    found = importlib.metadata.packages_distributions()
    return frozenset(
        name
        for name, owners in found.items()
        if any(re.sub(r"[-_.]+", "-", owner).lower() in needed for owner in owners)
    )


def _imports_of(path: Path, name: str) -> list[str]:
    """Modules that a file imports."""
    try:
        tree = ast.parse(read_file(path, MAX_SOURCE))
    except (Unreadable, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            base = ".".join([*parts[: len(parts) - max(0, node.level - 1)], *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [one for one in found if one]
