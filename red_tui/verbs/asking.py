"""What ends processes asks first, or is told that it may."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from red_tui.errors import CommandRefused, WrongUse
from red_tui.verbs.narration import say

NAMED = 20
"""Ids that a question names at most."""


def confirm(options: argparse.Namespace, question: str, what: str) -> None:
    """Return if the operator says yes, or has said so with `--yes`.

    Args:
        options: With `yes`.
        question: The question, with targets and number.
        what: What would be done, for the refusal.

    Raises:
        CommandRefused: If the answer is not yes.
        WrongUse: If nobody can be asked.
    """
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise WrongUse(f"{question} Nobody can be asked here, as standard input is no terminal: add --yes to {what}")
    say(f"{question} [y/N]")
    answer = sys.stdin.readline().strip().lower()
    if answer not in ("y", "yes"):
        raise CommandRefused("nothing was done")


def named(ids: Sequence[str]) -> str:
    """`3 nodes: a, b, c`, with the first of many."""
    shown = ", ".join(ids[:NAMED])
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return f"{len(ids):,} node{'' if len(ids) == 1 else 's'}: {shown}{more}"
