"""The folder of an embedded cluster: made in a short private place, and removed only if it is one of those.

The path of the folder to remove stands in a file.  Whatever that file says, nothing is removed that was not made
here: the folder has to carry a mark that names it, be this user's, and have a name that `make_folder` gives.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from red_tui.placement.local_ray import make_short_folder

PREFIX = "red-ray-"
INNER = "r"
"""Ray opens its folder to everybody (0777), with logs and sockets in it: it gets one inside of the private one."""

_MARK = ".red-tui-cluster"


def make_folder() -> Path:
    """Make the folder of a cluster, with its mark.

    Raises:
        RedError: If there is no place in which the paths of Ray's sockets would be short enough.
    """
    folder = make_short_folder(PREFIX, INNER)
    (folder / _MARK).write_text(str(folder), encoding="utf-8")
    return folder


def why_not_ours(folder: str | Path) -> str:
    """Why a folder is not one that `make_folder` made; empty if it is one."""
    path = Path(folder)
    try:
        entry, mark = path.lstat(), path / _MARK
        if not stat.S_ISDIR(entry.st_mode):
            return "it is no folder"
        if entry.st_uid != os.geteuid():
            return "it belongs to another user"
        if not path.is_absolute() or not path.name.startswith(PREFIX):
            return "it has not the name of a cluster's folder"
        if not stat.S_ISREG(mark.lstat().st_mode) or mark.lstat().st_uid != os.geteuid():
            return f"its {_MARK} is not ours"
        if mark.read_text(encoding="utf-8", errors="replace") != str(path):
            return f"its {_MARK} names another folder"
    except FileNotFoundError:
        return f"it has no {_MARK}" if path.exists() else ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def remove_folder(folder: str | Path) -> str:
    """Remove a cluster's folder, if it is one; gives why it was left, or nothing.

    A folder that is not there is as one that was removed.
    """
    why = why_not_ours(folder)
    if not why:
        shutil.rmtree(folder, ignore_errors=True)
    return why and f"{folder} is left as it is: {why}"
