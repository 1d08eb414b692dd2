"""What of the next rounds can be changed while a federation runs: how they are run, and the keys that nodes are told.

A change is written as `learning_rate 0.1 deadline 30`; a key that nodes do not have yet as `+momentum 0.9`.  Where a
key of the config has the name of a setting, `config.` before it means the key.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from red_tui import safe_yaml
from red_tui.errors import CommandRefused, SelectionError
from red_tui.layout.loader import what_is_wrong
from red_tui.layout.models import Rounds
from red_tui.plain_text import MAX_WORD, brief

SETTINGS = ("fraction", "deadline", "min_results", "evaluate_every", "exact")
"""How a round is run, as far as it can be changed: who takes part, how long, how many must answer, judged, summed."""

CONFIG = "config."
"""Stands before the name of a config key."""

RESERVED = frozenset({"round", "num_nodes", "node_index", "strategy", "federation_id", "FEDERATION_ID"})
"""Keys that the federation itself tells its nodes."""

MAX_VALUE = 2000
"""Characters of a value: it travels to each node with each round."""

MAX_LENGTH = 20_000
"""Characters of a text that says what changes."""

MAX_TOLD = 200
"""Characters of a value that screens show and edit."""

_NAME = re.compile(r"[A-Za-z_][\w.-]*\Z")
_BARE = re.compile(r"[\w./][^\s\[\]{},\"']*\Z")
_WORD = re.compile(r"\s*(?P<name>\+?[^\s=:+\[{'\"]+)(?P<between>\s*[=:]\s*|\s+|\Z)")


@dataclass(frozen=True)
class Change:
    """One value of the next rounds: what it was (None for a new key) and what it becomes."""

    name: str
    old: Any
    new: Any
    fresh: bool = False

    def __str__(self) -> str:
        if self.fresh:
            return f"{self.name} is new: {written(self.new)}"
        return f"{self.name} {written(self.old)} → {written(self.new)}"


class Several(tuple[Any, ...]):
    """The values of a key that differs between groups of nodes."""

    __slots__ = ()


def is_setting(name: str) -> bool:
    """Whether a name means how rounds are run, not a key of the nodes' config."""
    return name in SETTINGS


def key_of(name: str) -> str:
    """The key of the config that a name means."""
    return name.removeprefix(CONFIG)


def named(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """All that can be changed, by the names under which it is: settings first, then the keys of the config."""
    keys = {f"{CONFIG}{key}" if key in SETTINGS else key: value for key, value in config.items() if key not in RESERVED}
    return {**{name: settings[name] for name in SETTINGS}, **keys}


def one_of_each(changes: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Changes that were given as a dict and as keywords, together.

    Raises:
        CommandRefused: If both name one and differ.
    """
    for name in values:
        if name in changes and not _same(changes[name], values[name]):
            both = f"{written(changes[name])} in the dict and {written(values[name])} as a keyword"
            raise CommandRefused(f"{name} is {both}: give it once", name=name)
    return {**changes, **values}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def checked(changes: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Change]:
    """What changes, by name; what would stay as it is is left out.

    Args:
        changes: New values by name; `+` before it makes a key that nodes do not have yet.
        known: Present values by name, as `named` gives them.

    Raises:
        CommandRefused: For the first one that cannot be; its field `name` says which.
    """
    found: dict[str, Change] = {}
    seen: dict[str, Any] = {}
    for name, value in changes.items():
        fresh = name.startswith("+")
        plain_name = name.removeprefix("+")
        if plain_name.startswith(CONFIG) and key_of(plain_name) not in SETTINGS:
            plain_name = key_of(plain_name)
        problem = _wrong_name(plain_name, fresh, known) or _wrong_value(plain_name, value, known)
        if problem:
            raise CommandRefused(problem, name=name)
        if plain_name in seen and not _same(seen[plain_name], value):
            raise CommandRefused(
                f"{plain_name} is to be {written(seen[plain_name])} and {written(value)}: give it once", name=name
            )
        seen[plain_name] = value
        old = known.get(plain_name)
        if fresh or type(old) is not type(value) or old != value:
            found[plain_name] = Change(plain_name, old, value, fresh)
    return found


def read_changes(text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """New values by name, of a text such as `learning_rate 0.1 deadline 30`.

    Raises:
        SelectionError: If it cannot be read, or a value cannot be; `position` says where.
    """
    if len(text) > MAX_LENGTH:
        raise _error(text, MAX_LENGTH, f"a change has at most {MAX_LENGTH:,} characters, and this one {len(text):,}")
    changes: dict[str, Any] = {}
    at = 0
    while text[at:].strip():
        word = _WORD.match(text, at)
        if word is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise _error(text, at, "a name stands here, and a value after it: learning_rate 0.1")
        name, end = word["name"], _value_end(text, word.end())
        problem = _wrong_name(name.removeprefix("+"), name.startswith("+"), known)
        if problem:
            raise _error(text, word.start("name"), problem)
        if end == word.end():
            raise _error(text, len(text), f"{name} is {written(known.get(name))} now: write the new value after it")
        if name in changes:
            raise _error(text, word.start("name"), f"{name} stands here twice")
        try:
            changes[name] = value_of(text[word.end() : end])
            checked({name: changes[name]}, known)
        except CommandRefused as error:
            raise _error(text, word.end(), error.message) from None
        at = end
    return changes


def value_of(text: str) -> Any:
    """The value that a text means: a number, true or false, null, a list, a mapping, else the text itself.

    Raises:
        CommandRefused: If it is no YAML.
    """
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text, parse_constant=_no_constant)
    try:
        return safe_yaml.load(text)
    except safe_yaml.Unreadable as error:
        raise CommandRefused(f"{brief(text.strip())!r} is no value: {error.text.removeprefix('not YAML: ')}") from None


def written(value: Any) -> str:
    """A value as it is read back."""
    if isinstance(value, Several):
        return " or ".join(map(written, value))
    if value is None:
        return "null"
    if isinstance(value, str):
        return value if _BARE.match(value) and _loaded(value) == value else json.dumps(value, ensure_ascii=False)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return f"<{type(value).__name__}>"


def is_plain(value: Any) -> bool:
    """Whether a value can be told to nodes and shown on screens: text, numbers, lists and mappings of them."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _loaded(text: str) -> Any:
    try:
        return value_of(text)
    except CommandRefused:
        return None


def _wrong_name(name: str, fresh: bool, known: Mapping[str, Any]) -> str:
    """What is wrong with a name, or nothing."""
    key = key_of(name)
    if key in RESERVED:
        return f"{name} is told by the federation itself: it cannot be changed"
    if fresh:
        if is_setting(name) or name in known:
            return f"{name} is there already: write it without the +"
        return "" if _NAME.match(key) else f"{brief(name)!r} is no name of a key: letters, digits, _ and -"
    if name in known or (name.startswith(CONFIG) and key in known and key not in SETTINGS):
        return ""
    close = difflib.get_close_matches(name[:MAX_WORD], known, 1)
    meant = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
    return f"there is no {brief(name)}{meant} (+{brief(name)} makes a new key of the nodes' config)"


def _wrong_value(name: str, value: Any, known: Mapping[str, Any]) -> str:
    """What is wrong with a value, or nothing."""
    if is_setting(name):
        problem = what_is_wrong(Rounds, {name: value})
        return f"{name} {problem}" if problem else ""
    if not is_plain(value):
        return f"{name} must be text, a finite number, true, false, null, or a list or mapping of them"
    if len(written(value)) > MAX_VALUE:
        return f"{name} is too long: a value has at most {MAX_VALUE:,} characters, as each node is told it each round"
    old = known.get(name)
    old = old[0] if isinstance(old, Several) else old
    for kinds, what in (((bool,), "true or false"), ((int, float), "a number"), ((str,), "text")):
        was = isinstance(old, kinds) and (bool in kinds or not isinstance(old, bool))
        if was and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            return f"{name} is {what} ({written(old)}), and {written(value)} is none"
    return ""


def _value_end(text: str, at: int) -> int:
    """Where the value ends that begins at a place: at a space, or at the end of its brackets or quotes."""
    opened: list[str] = []
    quote, escaped = "", False
    for place in range(at, len(text)):
        sign = text[place]
        if quote:
            quote = "" if sign == quote and not escaped else quote
            escaped = sign == "\\" and quote == '"' and not escaped
        elif sign in "'\"" and (place == at or opened):
            quote = sign
        elif sign in "[{":
            opened.append(sign)
        elif sign in "]}" and opened:
            opened.pop()
        elif sign.isspace() and not opened:
            return place
    return len(text)


def _error(text: str, position: int, message: str) -> SelectionError:
    return SelectionError(f"set, position {position + 1}: {message}", query=text, position=position)
