"""The keys of a console as text: what `red-console keys` prints."""

from __future__ import annotations

from itertools import groupby

from red_tui.console.actions import SCOPES, ActionMap, key_name
from red_tui.console.preferences import Preferences


def keys_text(preferences: Preferences, read_only: bool = False) -> str:
    """Every action with its id, its present keys and what it does; `*` marks remapped ones."""
    actions = ActionMap(read_only, preferences.keys)
    ordered = sorted(actions.actions, key=lambda action: SCOPES.index(action.scope))
    lines = []
    for scope, group in groupby(ordered, key=lambda action: action.scope):
        lines.append(scope)
        for action in group:
            keys = " ".join(key_name(key, True) for key in actions.keys[action.id]) or "-"
            mark = "*" if action.id in preferences.keys else " "
            lines.append(f" {mark}{action.id:<16} {keys:<16} {action.help}")
        lines.append("")
    return "\n".join(lines[:-1])


def keys_rows(preferences: Preferences, read_only: bool = False) -> list[dict[str, object]]:
    """The same as plain data, for `--json`."""
    actions = ActionMap(read_only, preferences.keys)
    return [
        {
            "action": action.id,
            "keys": [key_name(key, True) for key in actions.keys[action.id]],
            "help": action.help,
            "scope": action.scope,
            "remapped": action.id in preferences.keys,
        }
        for action in actions.actions
    ]
