"""The one reader of YAML: plain data with the place of everything, in bounded time and memory.

Layouts, the console's config file and typed values all come through here.  Nothing is constructed from a tag.  Size,
depth, the number of values and what aliases grow to are bounded.  `12:30` is text, as in YAML 1.2: a long number in
base 60 took a minute.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from red_tui.plain_text import brief

TreePath = tuple[str | int, ...]

MAX_BYTES = 4_000_000
"""Bytes of a file."""
MAX_VALUES = 200_000
"""Values that one file may hold."""
MAX_ALIASED = 100_000
"""Values that aliases and merge keys may add to them."""
MAX_DEPTH = 60
"""Lists and mappings inside each other."""
MAX_NUMBER = 400
"""Characters of a number."""

_TOO_DEEP = f"lists and mappings are nested too deeply: more than {MAX_DEPTH} inside each other"
_TAG = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null", "timestamp", "merge")
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its events are used; the one in C is 20 times as fast."""
_NOT_PRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_DIGITS = "+-0123456789_."
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {
    spelling: value
    for value, words in ((True, ("yes", "true", "on")), (False, ("no", "false", "off")))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_INT = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*|0[0-7_]+)\Z", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?)\Z", re.ASCII
)
"""With `1e-3`, which YAML 1.1 reads as text and YAML 1.2, and everybody else, as a number."""
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?([Tt ].*)?\Z", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """What is wrong somewhere: where, what, and what may stand there instead."""

    line: int
    column: int
    path: TreePath
    text: str
    allowed: tuple[str, ...] | None = None
    word: str = ""


@dataclass
class YamlTree:
    """A file's data and where its values and keys stand (lines and columns from 1)."""

    data: Any = None
    values: dict[TreePath, tuple[int, int]] = field(default_factory=dict)
    keys: dict[TreePath, tuple[int, int]] = field(default_factory=dict)
    words: dict[TreePath, str] = field(default_factory=dict)
    """What plain scalars that are not read as text say literally: `on` for a true."""
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: TreePath, at_key: bool = False) -> tuple[int, int]:
        """The place of a value (or its key), or of the nearest thing around it that is written down."""
        if at_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))


class Unreadable(ValueError):
    """Text that cannot be used: line and column (from 1; None for the whole file) and what is wrong."""

    def __init__(self, line: int | None, column: int | None, text: str) -> None:
        super().__init__(text)
        self.line, self.column, self.text = line, column, text

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}, column {self.column}: {self.text}"


def read_file(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> str:
    """The text of a file.

    Raises:
        Unreadable: If there is none, it is no regular file (a pipe would be waited for), is too large or no UTF-8.
    """
    try:
        # Without O_NONBLOCK the open of a pipe waits for somebody who writes into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise Unreadable(
                    None, None, f"cannot be read (is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'})"
                )
            with open(descriptor, "rb", closefd=False) as file:
                raw = file.read(max_bytes + 1)
        finally:
            os.close(descriptor)
    except ValueError as error:
        raise error if isinstance(error, Unreadable) else Unreadable(None, None, "is no name of a file") from None
    except OSError as error:
        raise Unreadable(None, None, f"cannot be read ({(error.strerror or str(error)).lower()})") from None
    if len(raw) > max_bytes:
        raise Unreadable(None, None, f"is larger than {max_bytes / 1e6:g} MB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(None, None, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def load(text: str) -> Any:
    """Plain data of a text; None if it holds nothing.

    Raises:
        Unreadable: For the first thing that is wrong.
    """
    tree = read(text)
    if tree is None:
        return None
    for problem in tree.problems:
        raise Unreadable(problem.line, problem.column, problem.text)
    return tree.data


def read(text: str) -> YamlTree | None:
    """Read YAML; None if it holds nothing.

    Raises:
        Unreadable: If it is not YAML at all, or too much; what else is wrong stands in `problems`.
    """
    if len(text) > MAX_BYTES:
        raise Unreadable(1, 1, f"there are more than {MAX_BYTES:,} characters")
    text = text.removeprefix("\ufeff")
    bad = _NOT_PRINTABLE.search(text)
    if bad is not None:
        raise Unreadable(*_place_of(text, bad.start()), f"the character {bad.group()!r} is not allowed in YAML")
    composed = _Composer()
    try:
        root = composed.root(_events(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = brief(", ".join(part for part in (error.context, error.problem) if part), 300)
        place = _place_of(text, len(text)) if mark is None or mark.index >= len(text) else _at(mark)
        raise Unreadable(*place, f"not YAML: {said}") from None
    except (yaml.YAMLError, ValueError, UnicodeError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(1, 1, f"not YAML: {brief(str(error), 300)}") from None
    if root is None:
        return None
    tree = YamlTree()
    tree.data = _Reader(tree, composed.count + MAX_ALIASED).value(root, ())
    return tree


def _events(text: str) -> Iterator[yaml.Event]:
    loader = _PARSER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


def _at(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


class _Composer:
    """Nodes from events, within bounds."""

    def __init__(self) -> None:
        self.count = 0
        self._anchors: dict[str | None, yaml.Node] = {}

    def root(self, events: Iterator[yaml.Event]) -> yaml.Node | None:
        """The node of the one document."""
        root: yaml.Node | None = None
        opened: list[yaml.Node] = []
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                node = self._node(event)
                if opened:
                    opened[-1].value.append(node)
                elif root is None:
                    root = node
                if isinstance(event, yaml.CollectionStartEvent):
                    opened.append(node)
                    if len(opened) > MAX_DEPTH:
                        raise Unreadable(*_at(event.start_mark), _TOO_DEEP)
            elif isinstance(event, yaml.CollectionEndEvent):
                closed = opened.pop()
                if isinstance(closed, yaml.MappingNode):
                    closed.value = list(zip(closed.value[::2], closed.value[1::2], strict=True))
            elif isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise Unreadable(
                    *_at(event.start_mark), "another document begins here (---); a file holds a single document"
                )
        return root

    def _node(self, event: yaml.NodeEvent) -> yaml.Node:
        anchor, mark = event.anchor, cast(Any, event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            if anchor not in self._anchors:
                raise Unreadable(
                    *_at(event.start_mark),
                    f"not YAML: found undefined alias {brief(str(anchor))!r}: no &name stands before",
                )
            return self._anchors[anchor]
        self.count += 1
        if self.count > MAX_VALUES:
            raise Unreadable(*_at(event.start_mark), f"there are more than {MAX_VALUES:,} values; write fewer")
        node: yaml.Node
        if isinstance(event, yaml.ScalarEvent):
            tag = event.tag or (_resolved(event.value) if event.implicit[0] else "str")
            node = yaml.ScalarNode(_short(tag), event.value, mark, cast(Any, event.end_mark), event.style)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = yaml.SequenceNode(_short(event.tag or "seq"), [], mark)
        else:
            node = yaml.MappingNode(_short(getattr(event, "tag", None) or "map"), [], mark)
        if anchor is not None:
            if anchor in self._anchors:
                raise Unreadable(*_at(event.start_mark), f"not YAML: found duplicate anchor {brief(anchor)!r}")
            self._anchors[anchor] = node
        return node


def _short(tag: str) -> str:
    """A tag without its long prefix; one of a single sign is no tag at all."""
    return tag[len(_TAG) :] if tag.startswith(_TAG) else tag


def _resolved(text: str) -> str:
    """What a plain scalar is."""
    if text in _NULL:
        return "null"
    if text in _BOOL:
        return "bool"
    if text == "<<":
        return "merge"
    if len(text) > MAX_NUMBER:
        return "str" if text.strip(_DIGITS) else "int"  # refused where it is read
    if text[0] in "+-.0123456789":
        if _INT.match(text):
            return "int"
        if _FLOAT.match(text) or _NOT_FINITE.match(text):
            return "float"
        if _DATE.match(text):
            return "timestamp"
    return "str"


class _Reader:
    """Walks the nodes and notes places and problems.

    Args:
        tree: What is filled.
        limit: Values that it may hold once its aliases are written out.
    """

    def __init__(self, tree: YamlTree, limit: int) -> None:
        self._tree, self._limit = tree, limit
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node, path: TreePath) -> Any:
        """The plain data of a node."""
        place = _at(node.start_mark)
        self._tree.values[path] = place
        self._count_one(place)
        kind = node.tag
        if isinstance(node, yaml.ScalarNode):
            if kind == "!":
                return str(node.value)
            if kind in _SCALARS:
                return self._scalar(node, path, place)
        elif kind == "!" or kind == ("map" if isinstance(node, yaml.MappingNode) else "seq"):
            self._enter(node, place)
            if isinstance(node, yaml.MappingNode):
                found: Any = self._mapping(node, path)
            else:
                found = [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            self._open.discard(id(node))
            return found
        if kind in (*_SCALARS, "map", "seq"):
            self._problem(place, path, f"the tag !!{kind} does not fit what stands here; take the tag out")
        else:
            shown = brief(kind if kind.startswith("!") else f"!!{kind}")
            self._problem(
                place,
                path,
                f"the tag {shown} would construct an object; layouts hold plain data only, take the tag out",
            )
        return None

    def _count_one(self, place: tuple[int, int]) -> None:
        self._count += 1
        if self._count > self._limit:
            raise Unreadable(
                *place, f"its aliases (*name) grow to more than {MAX_ALIASED:,} further values; write fewer"
            )

    def _enter(self, node: yaml.Node, place: tuple[int, int]) -> None:
        if id(node) in self._open:
            raise Unreadable(*place, "an alias (*name) stands inside of what it names")
        self._open.add(id(node))
        if len(self._open) > MAX_DEPTH:
            raise Unreadable(*place, _TOO_DEEP)

    def _mapping(self, node: yaml.MappingNode, path: TreePath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            place = _at(key_node.start_mark)
            if key_node.tag == "merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in ("str", "!"):
                written = getattr(key_node, "value", "")
                said = (
                    f"{brief(written)} reads as {_kind(key_node.tag)}" if isinstance(written, str) else "it is not text"
                )
                name = brief(written) if isinstance(written, str) else ""
                self._problem(place, (*path, name), f"a key must be text, and {said}: put it in quotes")
                continue
            key = str(key_node.value)
            if key in first:
                said = f"the key {brief(key)} stands twice; the first is in line {first[key]}"
                self._problem(place, (*path, key), said)
                continue
            first[key] = place[0]
            self._tree.keys[(*path, key)] = place
            data[key] = self.value(value_node, (*path, key))
        for source in merged:
            self._merge(source, data, path)
        return data

    def _merge(self, source: yaml.Node, data: dict[str, Any], path: TreePath) -> None:
        """Add the keys of a mapping that are not there yet; its own go before those that it merges itself."""
        place = _at(source.start_mark)
        self._count_one(place)
        if not isinstance(source, yaml.MappingNode):
            self._problem(place, path, "<< takes a mapping (*name)")
            return
        self._enter(source, place)
        merged: list[yaml.Node] = []
        for key_node, value_node in source.value:
            self._count_one(place)
            if key_node.tag == "merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            elif isinstance(key_node, yaml.ScalarNode) and key_node.tag in ("str", "!"):
                key = str(key_node.value)
                if key not in data:
                    self._tree.keys[(*path, key)] = _at(key_node.start_mark)
                    data[key] = self.value(value_node, (*path, key))
        for further in merged:
            self._merge(further, data, path)
        self._open.discard(id(source))

    def _scalar(self, node: yaml.ScalarNode, path: TreePath, place: tuple[int, int]) -> Any:
        kind, text = node.tag, str(node.value)
        if kind in ("str", "timestamp", "merge"):
            return text
        self._tree.words[path] = text
        if kind == "null":
            return None
        if kind == "bool":
            if text not in _BOOL:
                self._problem(place, path, f"{brief(text)!r} is not true or false, as its tag !!bool says")
            return _BOOL.get(text, False)
        number = _number(kind, text)
        if number is None:
            self._problem(place, path, f"{brief(text)!r} is no number, as its tag !!{kind} says")
        elif not math.isfinite(number) or (isinstance(number, int) and abs(number) >= 2**63):
            self._problem(place, path, f"must be a finite number of 64 bits, not {brief(text, 40)}")
        else:
            return number
        return 1  # a stand-in: what is wrong is said once, here

    def _problem(self, place: tuple[int, int], path: TreePath, text: str) -> None:
        self._tree.problems.append(Problem(*place, path, text))


def _number(kind: str, text: str) -> int | float | None:
    """The number that a scalar says; None if it says none."""
    if len(text) > MAX_NUMBER:
        return math.inf if not text.strip(_DIGITS) else None
    digits = text.replace("_", "")
    if kind == "int":
        if not _INT.match(text):
            return None
        sign, digits = (-1 if digits[0] == "-" else 1), digits.lstrip("+-")
        base = 2 if digits[:2] == "0b" else 16 if digits[:2] == "0x" else 8 if digits[0] == "0" else 10
        digits = digits[2:] if base in (2, 16) else digits
        return sign * int(digits, base) if digits else None
    if _NOT_FINITE.match(text):
        return math.nan if "n" in text.lower().removesuffix("inf") else math.inf
    return float(digits) if _FLOAT.match(text) or (_INT.match(text) and digits.lstrip("+-").isdigit()) else None


def _kind(tag: str) -> str:
    names = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
    return names.get(tag, "something else")


def _place_of(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
