"""The page of the console's keys, from its one list of actions."""

from __future__ import annotations

from docs.generate.markdown import table
from red_tui.console.input.actions import ACTIONS, SCOPES, key_name

INTRODUCTION = """\
# Keys and commands of the console

Each action has an id. `console.yaml` gives it other keys under `keys:`. `red-console keys` prints the keys as they are
mapped now. `:` opens the line in which a command is typed. Actions that change a federation are marked ✎; they are not
bound in a read-only console. Actions that end processes are marked ✗; they ask first.
"""


def page() -> str:
    """The whole page, a table for each group of actions."""
    told = [INTRODUCTION]
    for scope in SCOPES:
        rows = [
            (
                " ".join(f"`{key_name(key, True)}`" for key in action.keys) or "–",
                f"`{action.id}`",
                action.help + (" ✎" if action.writes else "") + (" ✗" if action.destructive else ""),
                f"`:{action.usage}`" if action.usage else "",
            )
            for action in ACTIONS
            if action.scope == scope
        ]
        where = "In a replay" if scope == "replay" else scope.capitalize()
        told.append(f"\n## {where}\n\n" + table(("keys", "id", "what it does", "as a command"), rows))
    return "".join(told)
