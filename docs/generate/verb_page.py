"""The page of the verbs, from the argument parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from docs.generate.markdown import sentence, table
from red_tui.cli.main import COMMANDS, EPILOG, parser_of

INTRODUCTION = """\
# Verbs

`red-console` without a verb opens the console. `red-console VERB --help` says what this page says. Data goes to stdout,
narration to stderr. With `--json` the data is JSON. A verb that ends processes asks first; where nobody can be asked,
it needs `--yes`.

"""


def page() -> str:
    """The whole page: a table of the verbs, then each with its arguments."""
    told = [INTRODUCTION]
    rows = ((f"[`{name}`](#{name})", text) for name, (_, text, _) in COMMANDS.items())
    told.append(table(("verb", "what it does"), rows))
    told.append("\n" + "".join(f"{sentence(line)}\n\n" for line in EPILOG.splitlines() if line.strip()))
    for name, (_, text, _) in COMMANDS.items():
        told.append(f"## {name}\n\n{sentence(text)}\n\n{_arguments(name)}\n")
    return "".join(told)


def _arguments(name: str) -> str:
    parser = parser_of(name)
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    rows = _rows(actions)
    return f"```text\n{usage}\n```\n\n" + (table(("argument", "meaning"), rows) if rows else "")


def _rows(actions: Iterable[argparse.Action]) -> list[tuple[str, str]]:
    rows = []
    for action in actions:
        value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
        if action.choices is not None and not action.metavar:
            value = "|".join(map(str, action.choices))
        takes = "" if action.nargs == 0 else f" {value}"
        written = f"{', '.join(action.option_strings)}{takes}" if action.option_strings else str(value)
        rows.append((f"`{written}`", " ".join((action.help or "").split())))
    return rows
