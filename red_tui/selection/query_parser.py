"""From text to a query: recursive descent in which every refusal knows its place."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np

from red_tui.errors import SelectionError
from red_tui.nodes.states import Roles
from red_tui.nodes.table import NodeTable
from red_tui.plain_text import MAX_WORD, brief
from red_tui.selection.expressions import (
    FIELDS,
    NONE,
    REAL_FIELDS,
    SIGNS,
    STATE_WORDS,
    WHOLE_FIELDS,
    WITH_NONE,
    Comparison,
    Expression,
    Query,
    Range,
    Term,
    Value,
    all_of,
    either_of,
    negate,
)
from red_tui.selection.globs import NO_ID, has_wildcard, match_ids

WORD_END = re.compile(r"[\s()]")
MAX_DEPTH = 40
MAX_LENGTH = 100_000
"""Characters of a query."""
MAX_CONDITIONS = 200
"""Values of a query that are compared with every node; whole ids are looked up, and may be more."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_RANGE = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)\Z", re.ASCII)
_KEYWORDS = ("or", "and", "not")


def parse(text: str) -> Query:
    """Read a query.

    Raises:
        SelectionError: With `query`, `position` and what would be allowed there.
    """
    return _Parser(text).query()


class _Parser:
    """Recursive descent over the text; every refusal knows its place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._depth = 0
        self._conditions = 0

    def query(self) -> Query:
        """The whole text."""
        if len(self.text) > MAX_LENGTH:
            self._refuse(MAX_LENGTH, f"a query has at most {MAX_LENGTH:,} characters, and this one {len(self.text):,}")
        self._skip_space()
        if self.at == len(self.text):
            return Query()
        root = self._either()
        if self.at < len(self.text):
            self._refuse(self.at, "this ) closes nothing; take it out or open it with ( before")
        return Query(root)

    def _either(self) -> Expression:
        items = [self._all()]
        while self._keyword() == "or":
            self._take_word()
            items.append(self._all())
        return either_of(items)

    def _all(self) -> Expression:
        items: list[Expression] = []
        while True:
            self._skip_space()
            keyword = self._keyword()
            if keyword == "and" and items:
                self._take_word()
                items.append(self._one())
            elif self._ends() or keyword == "or":
                break
            else:
                items.append(self._one())
        if not items:
            self._missing()
        return all_of(items)

    def _one(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(self.at, f"more than {MAX_DEPTH} parentheses or negations inside each other; write it flatter")
        item = self._read_one()
        self._depth -= 1
        return item

    def _read_one(self) -> Expression:
        self._skip_space()
        if self._ends() or self._keyword() in ("or", "and"):
            self._missing()
        if self._keyword() == "not":
            self._take_word()
            return negate(self._one())
        sign = self.text[self.at]
        if sign in "-!":
            self.at += 1
            if self._ends() or self.text[self.at].isspace():
                self._refuse(self.at - 1, f"nothing follows {sign}; write the term right after it, such as -role:eval")
            return negate(self._one())
        if sign == "(":
            opened = self.at
            self.at += 1
            inside = self._either()
            if self.at == len(self.text):
                self._refuse(opened, "this ( is never closed; add a )")
            self.at += 1
            return inside
        return self._term()

    def _term(self) -> Term:
        start, word = self.at, self._take_word()
        field, colon, rest = word.partition(":")
        if not colon:
            return Term("", tuple(self._id_value(at, value) for at, value in self._values(start, word, "")))
        if field not in FIELDS:
            self._refuse(
                start, f"there is no field {brief(field)!r}{_did_you_mean(field, FIELDS)}; fields: {', '.join(FIELDS)}"
            )
        read = {"id": self._id_value, "role": self._role_value, "state": self._state_value}.get(field)
        values: list[Value] = []
        for at, value in self._values(start + len(field) + 1, rest, field):
            values.append(read(at, value) if read else self._number_value(field, at, value))
        return Term(field, tuple(values))

    def _values(self, start: int, text: str, field: str) -> Iterator[tuple[int, str]]:
        """Each value between commas, with its place."""
        for value in text.split(","):
            if not value:
                after = f"{field}:" if start == 0 or self.text[start - 1] == ":" else "the comma"
                self._refuse(start, f"a value is missing after {after}; {_examples(field)}")
            if field != "id" or has_wildcard(value):
                self._conditions += 1
            if self._conditions > MAX_CONDITIONS:
                self._refuse(
                    start, f"a query has at most {MAX_CONDITIONS} conditions beside whole ids (id:a,b,c); write a glob"
                )
            yield start, value
            start += len(value) + 1

    def _id_value(self, at: int, value: str) -> str:
        bad = NO_ID.search(value)
        if bad:
            self._refuse(
                at + bad.start(),
                f"{bad.group()!r} cannot be part of an id: use A-Z a-z 0-9 . _ - and * ? [abc] for globs",
            )
        return value

    def _role_value(self, at: int, value: str) -> str:
        try:
            return str(Roles(value))
        except ValueError as error:
            self._refuse(at, brief(str(error), 300))

    def _state_value(self, at: int, value: str) -> str:
        if value not in STATE_WORDS:
            meant = _did_you_mean(value, STATE_WORDS)
            self._refuse(at, f"there is no state {brief(value)!r}{meant}; states: {', '.join(STATE_WORDS)}")
        return value

    def _number_value(self, field: str, at: int, value: str) -> Value:
        if value == NONE and field in WITH_NONE:
            return NONE
        between = _RANGE.match(value)
        if between:
            low, high = (self._number(field, at, part) for part in between.groups())
            if low > high:
                turned = f"{between.group(2)}-{between.group(1)}"
                self._refuse(at, f"the range {brief(value)} runs backwards; write {brief(turned)}")
            return Range(low, high)
        sign = next((sign for sign in SIGNS if value.startswith(sign)), "")
        return Comparison(sign or "=", self._number(field, at + len(sign), value[len(sign) :]))

    def _number(self, field: str, at: int, text: str) -> float:
        number = float(text) if _NUMBER.match(text) else math.nan
        if not math.isfinite(number):
            self._refuse(at, f"{brief(text)!r} is not a number; {_examples(field)}")
        if field in WHOLE_FIELDS and number != int(number):
            self._refuse(at, f"{field} is a whole number, {brief(text)} is not one; {_examples(field)}")
        return number

    # -- characters ----------------------------------------------------------------------------------

    def _skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _ends(self) -> bool:
        return self.at >= len(self.text) or self.text[self.at] == ")"

    def _word_stop(self) -> int:
        found = WORD_END.search(self.text, self.at)
        return found.start() if found else len(self.text)

    def _keyword(self) -> str:
        word = self.text[self.at : self._word_stop()].lower()
        return word if word in _KEYWORDS else ""

    def _take_word(self) -> str:
        start, self.at = self.at, self._word_stop()
        return self.text[start : self.at]

    def _missing(self) -> NoReturn:
        self._refuse(self.at, "a term is missing here, such as role:train or client_1*")

    def _refuse(self, position: int, message: str) -> NoReturn:
        raise SelectionError(f"query, position {position}: {message}", query=self.text, position=position)


def _did_you_mean(word: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(word[:MAX_WORD].lower(), allowed, 1)
    return f", did you mean {close[0]}?" if close else ""


def _examples(field: str) -> str:
    if field == "role":
        return "such as role:train"
    if field == "state":
        return f"states: {', '.join(STATE_WORDS)}"
    if field in ("id", ""):
        return "such as id:client_1*"
    if field == "bundle":
        return "such as bundle:3, bundle:1-4, bundle:>2 or bundle:none"
    return f"such as {field}:3, {field}:1-4 or {field}:>=1" + (f", or {field}:none" if field in REAL_FIELDS else "")


COMPLETIONS = 20


def complete(text: str, cursor: int, table: NodeTable) -> list[str]:
    """Whole queries that `text` may become by completing the term that ends at `cursor`.

    Each starts with `text[:cursor]` and ends with `text[cursor:]`; at most `COMPLETIONS` ids are offered.
    """
    head, tail = text[:cursor], text[cursor:]
    start = max((found.end() for found in WORD_END.finditer(head)), default=0)
    fragment = head[start:].lstrip("-!")
    field, colon, values = fragment.partition(":")
    if not colon:
        found = [f"{name}:" for name in FIELDS if name.startswith(fragment)]
        if fragment:
            found += _some_ids(fragment, table)
        typed = fragment
    else:
        typed = values.rpartition(",")[2]
        found = [word for word in _values_of(field, typed, table) if word.startswith(typed)]
    kept = head[: len(head) - len(typed)]
    return [f"{kept}{word}{tail}" for word in found if word != typed]


def _values_of(field: str, typed: str, table: NodeTable) -> list[str]:
    if field == "state":
        return list(STATE_WORDS)
    if field == "role":
        words = {part for roles in table.roles for part in roles.parts}
        return [*sorted(words), *sorted({str(roles) for roles in table.roles} - words)]
    if field == "id":
        return _some_ids(typed, table)
    found = [NONE] if field in WITH_NONE else []
    if field == "bundle":
        used = np.unique(table.column("bundle"))
        found += [str(bundle) for bundle in used[used >= 0].tolist()]
    elif field in FIELDS:
        found += list(SIGNS)[:4]
    return found


def _some_ids(typed: str, table: NodeTable) -> list[str]:
    if has_wildcard(typed) or NO_ID.search(typed):
        return []
    rows = len(table)
    mask = match_ids(table.ids, f"{typed}*")[:rows] & table.present()[:rows]
    return [table.ids[row] for row in np.flatnonzero(mask)[:COMPLETIONS].tolist()]
