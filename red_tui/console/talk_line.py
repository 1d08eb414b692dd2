"""What is typed for sessions and topologies: `train lr: 0.1`, `send lr 0.1 to role:train`, `topology ring`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from red_tui import safe_yaml
from red_tui.errors import CommandRefused
from red_tui.plain_text import brief

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
