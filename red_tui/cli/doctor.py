"""What `red-console doctor` tells of the installation: versions and places, each with where it comes from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from itertools import groupby

from red_tui import __version__
from red_tui.console.config.options import Preferences
from red_tui.console.input.actions import SCOPES, Action, ActionMap, key_name
from red_tui.errors import RedError


def keys_text(preferences: Preferences, read_only: bool = False) -> str:
    """Every action with its id, its present keys and what it does; `*` marks remapped ones."""
    ordered = sorted(_actions(preferences, read_only), key=lambda pair: SCOPES.index(pair[0].scope))
    lines = []
    for scope, group in groupby(ordered, key=lambda pair: pair[0].scope):
        lines.append(scope)
        for action, bound in group:
            keys = " ".join(key_name(key, True) for key in bound) or "-"
            mark = "*" if action.id in preferences.keys else " "
            lines.append(f" {mark}{action.id:<16} {keys:<16} {action.help}")
        lines.append("")
    return "\n".join(lines[:-1])


def keys_rows(preferences: Preferences, read_only: bool = False) -> list[dict[str, object]]:
    """The same as plain data, for `--json`."""
    return [
        {
            "action": action.id,
            "keys": [key_name(key, True) for key in bound],
            "help": action.help,
            "scope": action.scope,
            "remapped": action.id in preferences.keys,
        }
        for action, bound in _actions(preferences, read_only)
    ]


def _actions(preferences: Preferences, read_only: bool) -> list[tuple[Action, tuple[str, ...]]]:
    """All actions with their keys, those of a replay last."""
    live, replay = ActionMap(read_only, preferences.keys), ActionMap(True, preferences.keys, replay=True)
    found = [(action, live.keys[action.id]) for action in live.actions]
    return found + [(action, replay.keys[action.id]) for action in replay.actions if action.id not in live]


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
    rows.append(open_ports())
    rows += _others()
    for variable in ("RAY_ADDRESS", "RED_CONFIG", "NO_COLOR", "SSH_CONNECTION"):
        if os.environ.get(variable):
            rows.append((variable, os.environ[variable], "environment"))
    return rows


def _home() -> Fact:
    from red_tui.state_folder import home

    source = "RED_HOME" if os.environ.get("RED_HOME") else "the platform's state folder"
    try:
        return ("state folder", str(home()), source)
    except (OSError, RedError) as error:
        return ("state folder", f"cannot be used: {error}", source)


def open_ports() -> Fact:
    """On which interfaces this user's Ray listens: who reaches a port can end that Ray without its token."""
    from red_tui.placement.local_ray import Listener, own_listeners

    def told(some: list[Listener], shown: int = 12) -> str:
        ports = ", ".join(f"{one.process} {one.port}" for one in some[:shown])
        return ports + (f" and {len(some) - shown} more" if len(some) > shown else "")

    listeners = own_listeners()
    reachable = [one for one in listeners if not one.loopback]
    if reachable:
        where = ", ".join(sorted({one.interface for one in reachable}))
        text = (
            f"OPEN TO OTHER MACHINES at {where}: {told(reachable)}; who reaches them can end this Ray, and without a"
            " token run code as you: close them with a firewall (SECURITY.md says more)"
        )
    elif listeners:
        text = f"reachable from this machine only: {told(listeners)}"
    else:
        text = "no Ray of this user runs here"
    return ("ray's ports", text, "")


def _others() -> list[Fact]:
    from red_tui.supervisor.connect import stranger

    other = stranger()
    return [("another ray", other, "")] if other else []
