"""A layout's text as a tree, its title, and how places in it are called."""

from __future__ import annotations

import re
from typing import Any

import yaml

from red_tui import safe_yaml
from red_tui.layout.rules import Refused
from red_tui.safe_yaml import Problem, TreePath, Unreadable, YamlTree

_COMMENT = re.compile(r"#+\s*(.*\S)")
_EDITOR_LINE = "yaml-language-server:"


def read(text: str) -> YamlTree:
    """Read a layout's YAML.

    Raises:
        Unreadable: If it is not YAML at all, or empty; what else is wrong stands in `problems`.
    """
    tree = safe_yaml.read(text)
    if tree is None:
        raise Unreadable(1, 1, "the file is empty; a layout needs federation, template and nodes")
    return tree


def first_comment(text: str) -> str:
    """The first comment line that stands before everything else, without its sign; or an empty text."""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            break
        found = _COMMENT.match(stripped)
        if found and not found.group(1).startswith(_EDITOR_LINE):
            return found.group(1)
    return ""


def refused_at(tree: YamlTree, path: TreePath, refused: Refused) -> Problem:
    """A broken rule as a problem with a place."""
    where = (*path, *refused.path)
    return Problem(
        *tree.place(where, refused.at_key),
        where,
        refused.text,
        tuple(refused.allowed) if refused.allowed is not None else None,
        refused.word,
    )


def path_text(path: TreePath) -> str:
    """`nodes[1].role`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def kind_of(value: Any) -> str:
    """What a value is, in a user's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"


_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
"""Line breaks of YAML that a reader folds unless they are escaped."""


class _Dumper(yaml.SafeDumper):
    """Quotes texts that look like `1e-3`, which this package reads as numbers, and escapes odd line breaks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if _BREAKS.search(value) else None)


_Dumper.add_representer(str, _text)

_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z", re.ASCII),
    list("-+.0123456789"),
)


def written(data: dict[str, Any]) -> str:
    """A layout's data as a file that reads back as an equal layout; its title becomes the first comment line."""
    title = data["title"]
    data = {key: value for key, value in data.items() if key != "title"}
    head = f"# {title}\n"
    if first_comment(head) != title:
        head, data = "", {"title": title, **data}
    return head + yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
