"""Commands whose answer is shown as it is: what they are stands in `protocol.commands` alone."""

from __future__ import annotations

import argparse

from red_tui.cli.attach import attached
from red_tui.cli.output import tell_json, tell_table
from red_tui.protocol.commands import COMMANDS


def show(options: argparse.Namespace) -> int:
    """Ask a federation, and print the text of its answer, or with `--json` its data."""
    spec = COMMANDS[options.command]
    given = {name: getattr(options, name) for name in spec.arguments if getattr(options, name) is not None}
    with attached(options, read_only=True) as client:
        answer = client.command(spec.name, given)
    if options.json:
        tell_json({name: value for name, value in answer.items() if name not in ("text", "table")})
    else:
        tell_table(answer["table"])
    return 0
