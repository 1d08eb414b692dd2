"""What `red-console doctor` tells of the installation: versions and places, each with where it comes from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

from red_tui import __version__
from red_tui.errors import RedError

PACKAGES = ("ray", "textual", "numpy", "pydantic", "safetensors")

Fact = tuple[str, str, str]
"""(name, value, source)"""


def facts() -> list[Fact]:
    """Versions, the folder of all state, and the local cluster if one runs.  Starts nothing."""
    rows: list[Fact] = [
        ("red-tui", __version__, sys.prefix),
        ("python", platform.python_version(), sys.executable),
    ]
    for name in PACKAGES:
        try:
            rows.append((name, importlib.metadata.version(name), ""))
        except importlib.metadata.PackageNotFoundError:
            rows.append((name, "not installed", "pip install -e . installs it"))
    rows.append(_home())
    for variable in ("RAY_ADDRESS", "RED_CONFIG", "NO_COLOR", "SSH_CONNECTION"):
        if os.environ.get(variable):
            rows.append((variable, os.environ[variable], "environment"))
    return rows


def _home() -> Fact:
    from red_tui.supervisor.home import home

    source = "RED_HOME" if os.environ.get("RED_HOME") else "the platform's state folder"
    try:
        return ("state folder", str(home()), source)
    except (OSError, RedError) as error:
        return ("state folder", f"cannot be used: {error}", source)
