"""Checks of single arguments: each returns the value, or says what is allowed."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

Refusal = Callable[[str], Exception]
"""Makes the exception of a refusal from its text."""

MAX_SHOWN = 80
"""Characters of a value that a refusal shows."""


def shown(value: Any) -> str:
    """A value for a refusal: its `repr`, cut; its type where it has none."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def number(
    value: Any,
    what: str,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    unit: str = "",
    none: str = "",
    refusal: Refusal = ValueError,
) -> Any:
    """Return a finite number within bounds.

    Args:
        value: What was given; numbers of numpy become Python's.
        what: Name of the argument.
        above: Bound that is not allowed itself.
        least: Smallest value that is allowed.
        most: Largest value that is allowed.
        unit: Such as `seconds`.
        none: What None means, if None is allowed.
        refusal: Type of the exception.
    """
    if value is None and none:
        return None
    allowed = isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value)
    if (
        not allowed
        or (above is not None and not value > above)
        or (least is not None and not value >= least)
        or (most is not None and not value <= most)
    ):
        raise refusal(_must_be(what, "a number" + (f" of {unit}" if unit else ""), above, least, most, none, value))
    return value if isinstance(value, (int, float)) else float(value)


def whole(
    value: Any,
    what: str,
    *,
    least: int | None = None,
    most: int | None = None,
    none: str = "",
    refusal: Refusal = ValueError,
) -> Any:
    """Return a whole number within bounds; see `number`."""
    if value is None and none:
        return None
    if (
        not isinstance(value, Integral)
        or isinstance(value, bool)
        or (least is not None and int(value) < least)
        or (most is not None and int(value) > most)
    ):
        raise refusal(_must_be(what, "a whole number", None, least, most, none, value))
    return int(value)


_UNITS = {"": 1, "B": 1, **{f"{unit}B": 1000 ** (place + 1) for place, unit in enumerate("KMGT")}}
_UNITS |= {f"{unit}IB": 1024 ** (place + 1) for place, unit in enumerate("KMGT")}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*\Z")


def size(value: Any, what: str, *, none: str = "", refusal: Refusal = ValueError) -> Any:
    """Return a number of bytes: of a whole number, or of a text such as `1GB`, `500 MB` or `2GiB`.

    Args:
        value: What was given.
        what: Name of the argument.
        none: What None means, if None is allowed.
        refusal: Type of the exception.
    """
    if value is None and none:
        return None
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return int(value)
    found = _SIZE.match(value) if isinstance(value, str) else None
    if found is None or found.group(2).upper() not in _UNITS or len(found.group(1)) > 18:
        absent = f", or None ({none})" if none else ""
        raise refusal(f'{what} must be a size such as "1GB", "500MB" or 0{absent}, not {shown(value)}')
    return round(float(found.group(1)) * _UNITS[found.group(2).upper()])


def size_written(count: int) -> str:
    """A number of bytes as `size` reads it, exactly: with the largest unit that divides it."""
    unit = next(unit for unit in ("TB", "GB", "MB", "KB", "") if count % _UNITS[unit] == 0 and (count or not unit))
    return f"{count // _UNITS[unit]}{unit}"


def size_text(count: int) -> str:
    """A number of bytes for people, such as `1.2 GB`."""
    amount, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.3g} {unit}"


def flag(value: Any, what: str, *, refusal: Refusal = ValueError) -> bool:
    """Return True or False."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise refusal(f"{what} must be True or False, not {shown(value)}")
    return bool(value)


def one_of(value: Any, what: str, allowed: Collection[str], *, refusal: Refusal = ValueError) -> str:
    """Return one of some words."""
    if not isinstance(value, str) or value not in allowed:
        near = difflib.get_close_matches(value, allowed, 1) if isinstance(value, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise refusal(f"{what} must be {alternatives(allowed)}, not {shown(value)}{hint}")
    return value


def text(value: Any, what: str, *, refusal: Refusal = ValueError) -> str:
    """Return text."""
    if not isinstance(value, str):
        raise refusal(f"{what} must be text, not {shown(value)}")
    return value


def mapping(
    value: Any, what: str, example: str, *, keys: Iterable[str] | None = None, refusal: Refusal = ValueError
) -> dict[str, Any]:
    """Return a dict whose keys are text, and among `keys` if these are given."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise refusal(f"{what} must be a dict such as {example}, not {shown(value)}")
    known = None if keys is None else list(keys)
    for key in value:
        if known is not None and key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise refusal(f"{what}: there is no {key!r}: use {', '.join(known)}{hint}")
    return dict(value)


def alternatives(words: Iterable[Any]) -> str:
    """`'a', 'b' or 'c'`."""
    *first, last = map(repr, words)
    return f"{', '.join(first)} or {last}" if first else last


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _must_be(
    what: str, kind: str, above: float | None, least: float | None, most: float | None, none: str, value: Any
) -> str:
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("above", above), ("at least", least), ("at most", most))
        if bound is not None
    ]
    where = f" {' and '.join(bounds)}" if bounds else ""
    return f"{what} must be {kind}{where}{f', or None ({none})' if none else ''}, not {shown(value)}"
