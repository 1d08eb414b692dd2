"""What a query says, and which rows it holds for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.states import STATES, NodeState
from red_tui.nodes.table import BoolArray, NodeTable
from red_tui.selection.globs import has_wildcard, match_rows

STATE_WORDS = tuple(state.value for state in STATES if state is not NodeState.REMOVED)
WHOLE_FIELDS = ("bundle", "rounds", "rebuilds", "group")
REAL_FIELDS = ("loss", "seconds")
FIELDS = ("role", "state", "bundle", "id", "rounds", "rebuilds", "loss", "seconds", "group")
"""What may stand before a colon."""

NONE = "none"
WITH_NONE = ("bundle", *REAL_FIELDS)
"""Fields in which a node may have no value: `bundle:none`."""

SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Comparison:
    """A number and how a value must compare with it (`>`, `>=`, `<`, `<=`, `=`)."""

    sign: str
    number: float

    def holds(self, column: npt.NDArray[Any]) -> BoolArray:
        """Mask of the values that compare so; NaN never does."""
        return np.asarray(SIGNS[self.sign](column, _as(column, self.number)))

    def __str__(self) -> str:
        return ("" if self.sign == "=" else self.sign) + _number_text(self.number)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float

    def holds(self, column: npt.NDArray[Any]) -> BoolArray:
        """Mask of the values in the range."""
        return np.asarray((column >= _as(column, self.low)) & (column <= _as(column, self.high)))

    def __str__(self) -> str:
        return f"{Decimal(_number_text(self.low)):f}-{Decimal(_number_text(self.high)):f}"


Value = str | Comparison | Range

Rows = slice | npt.NDArray[np.integer[Any]]
"""Which rows are asked about: a slice from the first one, or some."""


@dataclass(frozen=True)
class Term:
    """`field:value,value`; without a field a bare word."""

    field: str
    values: tuple[Value, ...]

    def mask(self, table: NodeTable, rows: Rows) -> BoolArray:
        """Mask of the rows for which one of the values holds."""
        if self.field != "id":
            return _any(_value_mask(self.field, value, table, rows) for value in self.values)
        names = [value for value in map(str, self.values) if not has_wildcard(value)]
        globs = [value for value in map(str, self.values) if has_wildcard(value)]
        masks = (match_rows(table.ids, glob, rows) for glob in globs)
        return _any(chain([_named(table, names, rows)] if names else [], masks))

    def __str__(self) -> str:
        values = ",".join(str(value) for value in self.values)
        return f"{self.field}:{values}" if self.field else values


@dataclass(frozen=True)
class Not:
    """The opposite."""

    item: Term | All | Either

    def mask(self, table: NodeTable, rows: Rows) -> BoolArray:
        """Mask of the rows for which the item does not hold."""
        return np.logical_not(self.item.mask(table, rows))

    def __str__(self) -> str:
        return f"-{self.item}" if isinstance(self.item, Term) else f"-({self.item})"


@dataclass(frozen=True)
class All:
    """All of the items hold."""

    items: tuple[Term | Not | Either, ...]

    def mask(self, table: NodeTable, rows: Rows) -> BoolArray:
        """Mask of the rows for which every item holds."""
        first, *others = self.items
        mask = first.mask(table, rows)
        for item in others:
            mask = mask & item.mask(table, rows)
        return mask

    def __str__(self) -> str:
        return " ".join(f"({item})" if isinstance(item, Either) else str(item) for item in self.items)


@dataclass(frozen=True)
class Either:
    """One of the items holds."""

    items: tuple[Term | Not | All, ...]

    def mask(self, table: NodeTable, rows: Rows) -> BoolArray:
        """Mask of the rows for which some item holds."""
        return _any(item.mask(table, rows) for item in self.items)

    def __str__(self) -> str:
        return " or ".join(str(item) for item in self.items)


Expression = Term | Not | All | Either


@dataclass(frozen=True)
class Query:
    """What `parse` read; two queries that say the same words in another spacing are equal."""

    root: Expression | None = None

    def mask(self, table: NodeTable) -> BoolArray:
        """One boolean per row of `table`: whether the query holds.  Rows of removed nodes never match."""
        return self.holds(table, slice(0, len(table)))

    def holds(self, table: NodeTable, rows: Rows) -> BoolArray:
        """The same for some rows; it costs their number, not the table's."""
        present = np.asarray(table.column("state")[rows] != NodeState.REMOVED.code)
        return present if self.root is None else present & self.root.mask(table, rows)

    def format(self) -> str:
        """The query as text that `parse` reads back as an equal query."""
        return "" if self.root is None else str(self.root)

    def __str__(self) -> str:
        return self.format()


def negate(item: Expression) -> Expression:
    """The opposite; the opposite of an opposite is the thing itself."""
    return item.item if isinstance(item, Not) else Not(item)


def all_of(items: Sequence[Expression]) -> Expression:
    """All of `items`, nested ones taken out of their parentheses."""
    flat: list[Any] = []
    for item in items:
        flat.extend(item.items if isinstance(item, All) else [item])
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def either_of(items: Sequence[Expression]) -> Expression:
    """One of `items`, nested ones taken out of their parentheses."""
    flat: list[Any] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Either) else [item])
    return flat[0] if len(flat) == 1 else Either(tuple(flat))


def _any(masks: Iterable[BoolArray]) -> BoolArray:
    """Where one of the masks holds; two of them are in memory at a time."""
    found: BoolArray | None = None
    for mask in masks:
        found = mask if found is None else found | mask
    assert found is not None, "a term has a value"
    return found


def _named(table: NodeTable, names: Sequence[str], rows: Rows) -> BoolArray:
    """Which rows have one of some whole ids: each id is looked up."""
    found = [row for name in dict.fromkeys(names) for row in table.ids.rows_of(name)]
    if not isinstance(rows, slice):
        return np.isin(rows, found)
    mask = np.zeros(len(table.ids), dtype=bool)
    mask[found] = True
    return mask[rows]


def _value_mask(field: str, value: Value, table: NodeTable, rows: Rows) -> BoolArray:
    if field == "":
        word = str(value)
        return match_rows(table.ids, word if has_wildcard(word) else f"*{word}*", rows)
    if field == "role":
        wanted = [str(value) in roles for roles in table.roles]
        return np.asarray(np.array(wanted or [False])[table.column("role")[rows]])
    column = table.column("state" if field == "state" else field)[rows]
    if field == "state":
        return np.asarray(column == NodeState(str(value)).code)
    if isinstance(value, str):
        return np.asarray(column < 0 if field == "bundle" else np.isnan(column))
    mask = value.holds(column)
    return mask & (column >= 0) if field == "bundle" else mask


def _as(column: npt.NDArray[Any], number: float) -> Any:
    """`number` as the column holds numbers, so that `loss:0.1` finds the float32 next to 0.1."""
    if column.dtype.kind != "f":
        return number
    with np.errstate(over="ignore"):
        return column.dtype.type(number)


def _number_text(number: float) -> str:
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)
