"""The keys of a console as text: what `red-console keys` prints."""

from __future__ import annotations

from itertools import groupby

from red_tui.console.config.options import Preferences
from red_tui.console.input.actions import SCOPES, Action, ActionMap, key_name


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
