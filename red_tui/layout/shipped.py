"""The layouts that come with red-tui, and finding a layout by name."""

from __future__ import annotations

import difflib
import importlib.resources
import itertools
from pathlib import Path

from red_tui.checks import shown
from red_tui.errors import LayoutError
from red_tui.layout.tree import first_comment

PACKAGE = "red_tui.layouts"
SUFFIXES = (".yaml", ".yml")


def find_layouts() -> list[tuple[Path, str]]:
    """Path and title of each shipped layout, by name."""
    found = []
    for path in sorted(_shipped(), key=lambda path: path.name):
        with path.open(encoding="utf-8") as lines:
            found.append((path, first_comment("".join(itertools.islice(lines, 20)))))
    return found


def resolve(name: str | Path) -> Path:
    """The file that a path, or the name of a shipped layout such as `digits`, means.

    Raises:
        LayoutError: If there is none.
    """
    if not isinstance(name, (str, Path)):
        raise LayoutError(
            f"a layout is named by the path of its file, or by the name of a shipped one, not by {shown(name)}",
            file="",
            line=None,
            column=None,
            field="",
            allowed=None,
        )
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = {found.stem: found for found, _ in find_layouts()}
    if path.parent == Path() and path.suffix in ("", *SUFFIXES) and path.stem in shipped:
        return shipped[path.stem]
    names = sorted(shipped)
    close = difflib.get_close_matches(path.stem, names, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    what = "is a folder, not a layout" if path.is_dir() else "there is no such layout file"
    raise LayoutError(
        f"{name}: {what}; {hint}give a path, or one of the shipped: {', '.join(names) or 'none'}",
        file=str(name),
        line=None,
        column=None,
        field="",
        allowed=names,
    )


def _shipped() -> list[Path]:
    """Files of the installed package, else of the folder `layouts` beside the package in a checkout."""
    try:
        packaged = [item for item in importlib.resources.files(PACKAGE).iterdir() if isinstance(item, Path)]
    except (ModuleNotFoundError, FileNotFoundError, NotADirectoryError):
        packaged = []
    found = [item for item in packaged if item.suffix in SUFFIXES]
    if found:
        return found
    folder = Path(__file__).resolve().parents[2] / "layouts"
    return [item for item in folder.glob("*") if item.suffix in SUFFIXES] if folder.is_dir() else []
