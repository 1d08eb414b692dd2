"""The command line: what is typed after `:` becomes an action with arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from red_tui.console.actions import ActionMap
from red_tui.console.next_rounds import set_arguments, set_words
from red_tui.console.run_line import command_run
from red_tui.console.talk_line import RULE_WORDS, TALKING
from red_tui.errors import CommandRefused, SelectionError

_QUERY_VERBS = frozenset({"build", "plan", "release", "remove", "rebuild"})
_ALIASES = {"quit": "leave", "q": "leave", "exit": "leave", "explain": "why"}
_CHOICES = {
    "group": ("bundle", "host", "state"),
    "zoom": ("glyphs", "tiles", "counts", "drawing", "list"),
    "stop": ("now",),
    "view": ("grid", "rounds", "placement", "topology", "events", "nodes"),
    "speed": ("1x", "2x", "5x", "20x", "100x", "max"),
    "at": ("begin", "end", "event", "round"),
}


@dataclass(frozen=True)
class Command:
    """An action's id and its arguments."""

    action: str
    args: dict[str, Any]


def parse(
    text: str,
    actions: ActionMap,
    known: Mapping[str, Any] | None = None,
    resolve: Callable[[str], str] = str,
) -> Command:
    """Read a command line.

    Args:
        text: What is typed.
        actions: The actions there are.
        known: What `set` can change, with its present values.
        resolve: The query that a text means: saved ones have names.

    Raises:
        CommandRefused: If there is no such command, or its arguments make no sense.
        SelectionError: If one of them cannot be read at a place.
    """
    words = text.split()
    if not words:
        raise CommandRefused("type a command, such as: build role:train")
    verb, rest = _ALIASES.get(words[0].lower(), words[0].lower()), words[1:]
    if verb == "view" and rest:
        verb, rest = f"view_{rest[0]}", rest[1:]
    elif f"view_{verb}" in actions and not (verb == "topology" and rest):
        verb = f"view_{verb}"
    if verb not in actions:
        refused = actions.refused(verb)
        if refused is not None:
            raise CommandRefused(refused)
        there = sorted(action.id for action in actions.actions if action.usage)
        if near := get_close_matches(verb, [*there, *_ALIASES], 2):
            raise CommandRefused(f"there is no command {verb!r}; did you mean {' or '.join(near)}?")
        raise CommandRefused(f"there is no command {verb!r}; there are {', '.join(there)}")
    if verb == "set":
        return Command(verb, set_arguments(text.strip()[len(words[0]) :].strip(), known or {}))
    if verb in TALKING:
        return Command(verb, TALKING[verb](text.strip()[len(words[0]) :].strip()))
    args = _arguments(verb, rest)
    if args.get("query"):
        args["query"] = _query(text, str(args["query"]), resolve)
    return Command(verb, args)


def _query(line: str, query: str, resolve: Callable[[str], str]) -> str:
    """The query in a line, read so that an error is told at its place in the line."""
    from red_tui.selection import parse as parse_query

    try:
        found = resolve(query)
        parse_query(found)
    except SelectionError as error:
        words = query.split()
        start = re.search(r"\s+".join(map(re.escape, words)) + r"\s*\Z", line)
        position = (start.start() if start else 0) + int(getattr(error, "position", 0) or 0)
        message = re.sub(r"^query, position \d+: ", "", error.message)
        raise SelectionError(f"query, position {position}: {message}", query=line, position=position) from None
    return found


def _arguments(verb: str, words: Sequence[str]) -> dict[str, Any]:
    if verb in _QUERY_VERBS or verb == "filter":
        return {"query": " ".join(words)} if words else {}
    if verb == "wave":
        size = [word for word in words[:1] if word.isdigit()]
        query = " ".join(words[len(size) :])
        return {"size": int(size[0]) if size else None, "query": query or None}
    if verb == "run":
        return command_run(" ".join(words))
    if verb == "add":
        if len(words) != 2 or not words[0].isdigit() or not int(words[0]):
            raise CommandRefused("write: add COUNT ROLE, such as: add 5 train")
        return {"count": int(words[0]), "role": words[1]}
    if verb in ("keep", "forget"):
        if len(words) != 1:
            raise CommandRefused(f"write: {verb} NAME, such as: {verb} slow")
        return {"name": words[0].lstrip("@")}
    if verb == "why":
        if len(words) > 1:
            raise CommandRefused("write: why ID, or: why")
        return {"node": words[0]} if words else {}
    if verb == "columns":
        return {"names": tuple(words)}
    if verb == "sort":
        return _sort_arguments(words)
    if verb == "at":
        return {"moment": " ".join(words)} if words else {}
    if verb == "speed":
        if len(words) != 1:
            raise CommandRefused("write: speed 20x, or: speed max")
        return {"speed": words[0]}
    if verb in _CHOICES:
        if words and words[0] not in _CHOICES[verb]:
            raise CommandRefused(f"{verb} takes {', '.join(_CHOICES[verb])}; not {words[0]!r}")
        return {"value": words[0]} if words else {}
    if verb == "theme":
        return {"value": words[0]} if words else {}
    if words:
        raise CommandRefused(f"{verb} takes no arguments")
    return {}


def _sort_arguments(words: Sequence[str]) -> dict[str, Any]:
    if not words:
        return {}
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("up", "down")):
        raise CommandRefused("write: sort COLUMN, or: sort COLUMN up")
    return {"value": words[0], "reverse": words[1:] == ["up"]}


def complete(
    text: str,
    actions: ActionMap,
    roles: Sequence[str],
    queries: Callable[[str], Sequence[str]],
    themes: Sequence[str] = (),
    known: Mapping[str, Any] | None = None,
) -> list[str]:
    """Whole command lines that `text` could become, best first.

    Args:
        text: What is typed.
        actions: The actions there are.
        roles: Role strings of the federation.
        queries: Whole queries that a query could become.
        themes: Names of themes.
        known: What `set` can change, with its present values.
    """
    if " " not in text:
        names = [action.id for action in actions.actions if action.usage]
        names += [action.id.removeprefix("view_") for action in actions.actions if action.id.startswith("view_")]
        return [name for name in sorted(names) if name.startswith(text) and name != text]
    verb, _, rest = text.partition(" ")
    if verb in _QUERY_VERBS or verb in ("wave", "filter"):
        return [f"{verb} {query}" for query in queries(rest)]
    head, _, last = text.rpartition(" ")
    if verb == "send" and head.endswith(" to"):
        return [f"{head} {query}" for query in queries(last)]
    if verb == "set":
        return [f"{head} {word}" for word in set_words(rest, known or {})]
    if verb == "topology":
        words = RULE_WORDS[head.count(" ") > 0]
        return [f"{head} {word}" for word in words if word.startswith(last) and word != last]
    return [f"{head} {word}" for word in _words_for(verb, last, roles, themes) if word != last]


def _words_for(verb: str, last: str, roles: Sequence[str], themes: Sequence[str]) -> list[str]:
    from red_tui.console.node_columns import COLUMNS

    columns = {"columns": tuple(COLUMNS), "sort": tuple(COLUMNS)}
    choices = {**_CHOICES, **columns, "theme": tuple(themes), "run": ("until",) if last else (), "add": tuple(roles)}
    return [word for word in choices.get(verb, ()) if word.startswith(last)]
