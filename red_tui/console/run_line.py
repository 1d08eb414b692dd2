"""How many rounds to run and until when, as it is typed: `20`, `until 14:30`, `20 until accuracy>0.95 or +20m`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from red_tui.console.text import duration, plural
from red_tui.errors import RedError, SelectionError

if TYPE_CHECKING:
    from red_tui.console.mirror import FederationMirror

USAGE = "write: run ROUNDS, or: run [ROUNDS] until accuracy>0.95, 14:30 or +20m"
MOST = 1000
"""Rounds of a run that says only until which measure."""

MOST_IN_TIME = 1_000_000
"""Rounds of a run that ends at a time."""

_ROUNDS = re.compile(r"\s*(\d+)(?=\s|\Z)")
_UNTIL = re.compile(r"\s*until(?=\s|\Z)")


def read_run(text: str, now: float | None = None) -> dict[str, Any]:
    """`rounds` and `until` of a text, the latter as another host understands it.

    Raises:
        SelectionError: If it cannot be read; `position` says where.
    """
    from red_tui.selection.stop_condition import Until, portable

    at, rounds = 0, None
    found = _ROUNDS.match(text)
    if found is not None:
        at, rounds = found.end(), int(found.group(1))
        if not rounds:
            raise _error(text, found.start(1), f"at least 1 round: {USAGE}")
    word = _UNTIL.match(text, at)
    at = word.end() if word is not None else at
    rest = text[at:]
    if not rest.strip():
        if rounds is None or word is not None:
            raise _error(text, len(text), USAGE)
        return {"rounds": rounds, "until": None}
    try:
        until = portable(rest, now)
    except SelectionError as error:
        position = at + int(getattr(error, "position", 0))
        raise _error(text, position, error.message.partition(": ")[2]) from None
    if rounds is None:
        rounds = MOST if Until.parse(until, now).time is None else MOST_IN_TIME
    return {"rounds": rounds, "until": until}


def running_words(rounds: int, until: str | None, now: float) -> str:
    """What runs, as an operator asked for it."""
    from red_tui.selection.stop_condition import Until

    if until is None:
        return "a round" if rounds == 1 else plural(rounds, "round")
    shown = Until.parse(until, now).shown(now)
    return f"until {shown}" if rounds in (MOST, MOST_IN_TIME) else f"{plural(rounds, 'round')}, or until {shown}"


def told_run(text: str, mirror: FederationMirror, now: float) -> list[str]:
    """What a text means: which rounds they are, until when, and how long they take if they go on like the last.

    Raises:
        SelectionError: If it cannot be read.
    """
    from red_tui.selection.stop_condition import Until

    asked = read_run(text, now)
    rounds, first = asked["rounds"], mirror.round.number + 1
    until = Until.parse(asked["until"], now) if asked["until"] else None
    if rounds in (MOST, MOST_IN_TIME) and until is not None:
        told = [f"rounds from {first} on, until {until.shown(now)}"]
    else:
        which = f"round {first}" if rounds == 1 else f"{plural(rounds, 'round')}: {first} to {first + rounds - 1}"
        told = [which + (f", or until {until.shown(now)}" if until is not None else "")]
    if until is not None and until.time is not None:
        told.append(f"in {duration(round(until.time - now))}: the federation ends the run after the round in hand then")
    pace = mirror.pace()
    if pace is not None and until is None:
        told.append(f"about {duration(round(rounds * pace))} if they go on like the last ones")
    return told


def command_run(text: str) -> dict[str, Any]:
    """`read_run` for the command line, where an error is a word in the last line.

    Raises:
        RedError: If it cannot be read.
    """
    try:
        return read_run(text)
    except SelectionError as error:
        position = int(getattr(error, "position", 0)) + len("run ")
        raise SelectionError(f"query, position {position}: {_message(error)}", query=text, position=position) from None


def _message(error: RedError) -> str:
    return error.message.partition(": ")[2]


def _error(text: str, position: int, message: str) -> SelectionError:
    return SelectionError(f"run, position {position + 1}: {message}", query=text, position=position)
