"""From YAML text to plain data, with the place of everything and nothing ever constructed from a tag."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from red_tui.layout.rules import Refused

Path = tuple[str | int, ...]
MAX_VALUES = 1_000_000
"""Values that one file may hold once its aliases are written out."""

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge")}
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z", re.ASCII)
"""Numbers such as 1e-3, which YAML 1.1 reads as text and YAML 1.2, and everybody else, as a number."""
_COMMENT = re.compile(r"#+\s*(.*\S)")
_EDITOR_LINE = "yaml-language-server:"


@dataclass(frozen=True)
class Problem:
    """What is wrong somewhere: where, what, and what may stand there instead."""

    line: int
    column: int
    path: Path
    text: str
    allowed: tuple[str, ...] | None = None
    word: str = ""


@dataclass
class Tree:
    """A file's data and where its values and keys stand (lines and columns from 1)."""

    data: Any = None
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    words: dict[Path, str] = field(default_factory=dict)
    """What plain scalars that are not read as text say literally: `on` for a true."""
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, at_key: bool = False) -> tuple[int, int]:
        """The place of a value (or its key), or of the nearest thing around it that is written down."""
        if at_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))


def read(text: str) -> Tree:
    """Read YAML.

    Raises:
        Unreadable: If it is not YAML at all; what else is wrong stands in `problems`.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line, column = _place_of(text, int(error.position))
        raise Unreadable(line, column, f"the character {chr(error.character)!r} is not allowed in YAML") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise Unreadable(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, f"not YAML: {said}") from None
    except RecursionError:
        raise Unreadable(1, 1, "not a layout: lists and mappings are nested too deeply") from None
    tree = Tree()
    if root is None:
        raise Unreadable(1, 1, "the file is empty; a layout needs federation, template and nodes")
    try:
        tree.data = _Reader(tree).value(root, ())
    except RecursionError:
        raise Unreadable(1, 1, "not a layout: lists and mappings are nested too deeply") from None
    return tree


class Unreadable(Exception):
    """Not YAML: line and column (from 1) and what is wrong."""

    def __init__(self, line: int, column: int, text: str) -> None:
        super().__init__(text)
        self.line, self.column, self.text = line, column, text


class _Reader:
    """Walks the nodes and notes places and problems."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._open: list[yaml.Node] = []
        self._count = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        """The plain data of a node."""
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self._tree.values[path] = place
        self._count += 1
        if self._count > MAX_VALUES:
            raise Unreadable(*place, f"its aliases (*name) grow to more than {MAX_VALUES:,} values; write less of them")
        if any(node is other for other in self._open):
            raise Unreadable(*place, "an alias (*name) stands inside of what it names")
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace(_TAG, "!!")
            self._problem(
                place, path, f"the tag {tag} would construct an object; layouts hold plain data only, take the tag out"
            )
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path, place) if isinstance(node, yaml.ScalarNode) else None
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[tuple[yaml.Node, Path]] = []
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key_node.tag == f"{_TAG}merge":
                merged += [
                    (item, path)
                    for item in (value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node])
                ]
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                written = getattr(key_node, "value", "")
                said = f"{written} reads as {_kind(key_node.tag)}" if isinstance(written, str) else "it is not text"
                self._problem(place, (*path, str(written)), f"a key must be text, and {said}: put it in quotes")
                continue
            key = str(key_node.value)
            if key in first:
                self._problem(place, (*path, key), f"the key {key} stands twice; the first is in line {first[key]}")
                continue
            first[key] = place[0]
            self._tree.keys[(*path, key)] = place
            data[key] = self.value(value_node, (*path, key))
        for source, _ in merged:
            self._merge(source, data, path)
        return data

    def _merge(self, source: yaml.Node, data: dict[str, Any], path: Path) -> None:
        place = (source.start_mark.line + 1, source.start_mark.column + 1)
        if not isinstance(source, yaml.MappingNode):
            self._problem(place, path, "<< takes a mapping (*name)")
            return
        own = {key: self._tree.values[(*path, key)] for key in data}
        kept = self._tree.values[path]
        found = self.value(source, path)
        self._tree.values.update({path: kept, **{(*path, key): at for key, at in own.items()}})
        for key, value in (found or {}).items():
            data.setdefault(key, value)

    def _scalar(self, node: yaml.ScalarNode, path: Path, place: tuple[int, int]) -> Any:
        kind, text = node.tag.removeprefix(_TAG), str(node.value)
        if kind in ("str", "timestamp", "merge"):
            if kind == "str" and node.style is None and _EXPONENT.match(text):
                return self._number(text, path, place, float)
            return text
        self._tree.words[path] = text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("yes", "true", "on")
        constructor = yaml.SafeLoader("")
        if kind == "int":
            return self._number(text, path, place, lambda _: constructor.construct_yaml_int(node))
        return self._number(text, path, place, lambda _: constructor.construct_yaml_float(node))

    def _number(self, text: str, path: Path, place: tuple[int, int], convert: Any) -> Any:
        self._tree.words[path] = text
        try:
            number = convert(text)
        except (ValueError, OverflowError):
            number = math.nan
        if isinstance(number, int) and abs(number) >= 2**63:
            number = math.inf
        if isinstance(number, float) and not math.isfinite(number):
            shown = text if len(text) <= 40 else f"{text[:37]}..."
            self._problem(place, path, f"must be a finite number of 64 bits, not {shown}")
        return number

    def _problem(self, place: tuple[int, int], path: Path, text: str) -> None:
        self._tree.problems.append(Problem(*place, path, text))


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


def refused_at(tree: Tree, path: Path, refused: Refused) -> Problem:
    """A broken rule as a problem with a place."""
    where = (*path, *refused.path)
    return Problem(
        *tree.place(where, refused.at_key),
        where,
        refused.text,
        tuple(refused.allowed) if refused.allowed is not None else None,
        refused.word,
    )


def path_text(path: Path) -> str:
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


def _kind(tag: str) -> str:
    names = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
    return names.get(tag.removeprefix(_TAG), "something else")


def _place_of(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
