"""Folders for Ray's sockets: their paths must be short, and nobody else may enter them."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from red_tui.errors import RedError

MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes that the path of a Unix socket may have."""

_RAY_ADDS = len("/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store") + 3
_NAME = 8
"""Random characters of a folder's name that `tempfile` makes."""


def sockets_fit(folder: Path | str) -> bool:
    """Whether Ray's sockets have short enough paths in a temporary folder of Ray's."""
    return len(os.fsencode(folder)) + _RAY_ADDS <= MAX_SOCKET_PATH


def make_short_folder(prefix: str, inner: str) -> Path:
    """Make a folder of mode 0700 in whose folder `inner` Ray's sockets fit: in TMPDIR, else in a shorter place.

    Raises:
        RedError: If there is no such place; it says what to set.
    """
    for place in _places():
        if sockets_fit(Path(place) / (prefix + "x" * _NAME) / inner):
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    longest = MAX_SOCKET_PATH - _RAY_ADDS - len(prefix) - _NAME - len(inner) - 2
    raise RedError(
        f"no folder for Ray's sockets: {tempfile.gettempdir()} is too long for them or cannot be written, and so are"
        f" /tmp and /var/tmp; set TMPDIR to a folder of at most {longest} characters"
    )


def _places() -> list[str]:
    """Where to look, the usual place first; shared folders only if others cannot rename what is in them."""
    shorter = [place for place in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp") if place]
    return [tempfile.gettempdir(), *filter(_is_safe, shorter)]


def _is_safe(place: str) -> bool:
    try:
        found = os.stat(place)
    except OSError:
        return False
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and (not shared or bool(found.st_mode & stat.S_ISVTX))
