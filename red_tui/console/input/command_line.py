"""The command line: what is typed after `:` becomes an action with arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from red_tui import safe_yaml
from red_tui.console.dialogs.round_settings_form import set_arguments, set_words
from red_tui.console.input.actions import ActionMap
from red_tui.console.text import duration, plural
from red_tui.errors import CommandRefused, RedError, SelectionError
from red_tui.plain_text import brief
from red_tui.protocol.commands import COMMANDS

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import FederationMirror


USAGE = "write: run ROUNDS, or: run [ROUNDS] until accuracy>0.95, 14:30, +20m, no better loss for 10 rounds"
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


RULES = ("star", "ring", "line", "mesh", "grid", "k-connected", "tree", "small-world", "custom", "hierarchical")
RULE_WORDS = (RULES, ("k=", "seed=", "branching=", "rewire=", "adjacency=", "levels=", "groups="))
"""What may stand first after `topology`, and what after that."""

_TRAIN = "write: train, or: train client_args: {lr: 0.1}, server_args: {…}"
_SEND = "write: send HEADER [BODY] [to QUERY], such as: send lr 0.1 to role:train"
_TOPOLOGY = "write: topology RULE [k=4 seed=7], such as: topology k-connected k=4"


def read_train(text: str) -> dict[str, Any]:
    """`server_args` and `client_args` of a text; a mapping without these names is for the clients.

    Raises:
        CommandRefused: If it is no YAML mapping.
    """
    if not text:
        return {}
    braced = text if text.startswith("{") else "{" + text + "}"
    found = _yaml(braced, _TRAIN)
    if not isinstance(found, dict) or (None in found.values() and ":" not in text):
        raise CommandRefused(f"{brief(text)!r} is no mapping of arguments: {_TRAIN}")
    named = {name: found[name] for name in ("server_args", "client_args") if name in found}
    if not named:
        return {"client_args": found}
    other = [name for name in found if name not in named]
    if other:
        raise CommandRefused(f"{other[0]!r} stands beside {next(iter(named))}: put it into client_args: {{…}}")
    wrong = [name for name, value in named.items() if not isinstance(value, (dict, list))]
    if wrong:
        raise CommandRefused(f"{wrong[0]} is a mapping, such as {{lr: 0.1}}, not {brief(repr(named[wrong[0]]))}")
    return named


def read_send(text: str) -> dict[str, Any]:
    """`header`, `body` and `to` of a text.

    Raises:
        CommandRefused: If there is no header, or the body is no YAML.
    """
    header, _, rest = text.partition(" ")
    if not header:
        raise CommandRefused(_SEND)
    rest = rest.strip()
    before, found, query = (f" {rest}").rpartition(" to ")
    if found and query.strip():
        try:
            return {"header": header, "body": _yaml(before.strip(), _SEND), "to": query.strip()}
        except CommandRefused:
            pass  # the word stands within the body
    return {"header": header, "body": _yaml(rest, _SEND), "to": None}


def read_topology(text: str) -> dict[str, Any]:
    """`name` and `options` of a text.

    Raises:
        CommandRefused: If an option is none.
    """
    name, _, rest = text.partition(" ")
    options: dict[str, Any] = {}
    words = rest.split() if "adjacency=" not in rest and "groups=" not in rest else [rest.strip()]
    for word in words:
        option, equals, value = word.partition("=")
        if not equals or not value:
            raise CommandRefused(f"{brief(word)!r} is no option: {_TOPOLOGY}")
        options[option] = _yaml(value, _TOPOLOGY)
    return {"name": name, "options": options} if name else {}


def _yaml(text: str, usage: str) -> Any:
    try:
        return safe_yaml.load(text) if text else None
    except safe_yaml.Unreadable as error:
        where = f" at {error.column}" if error.column is not None else ""
        raise CommandRefused(f"{brief(text)!r} is no YAML{where}: {error.text}; {usage}") from None


TALKING: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "train": read_train,
    "send": read_send,
    "topology": read_topology,
}


_NODES = ("ids", "query")
_QUERY_VERBS = frozenset(
    name for name, spec in COMMANDS.items() if spec.arguments[:2] == _NODES and name not in ("move", "round", "run")
)
"""What is typed with a query of nodes; rounds are run with all, and a move needs a bundle."""

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
    from red_tui.console.screens.nodes_screen import COLUMNS

    columns = {"columns": tuple(COLUMNS), "sort": tuple(COLUMNS)}
    choices = {**_CHOICES, **columns, "theme": tuple(themes), "run": ("until",) if last else (), "add": tuple(roles)}
    return [word for word in choices.get(verb, ()) if word.startswith(last)]
