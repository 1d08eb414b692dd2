"""Text that comes from nodes, made plain: nothing in it that a terminal would act upon."""

from __future__ import annotations

import unicodedata

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, formats (bidi overrides and isolates, zero-width signs), surrogates, unassigned, line separators."""

MAX_WORD = 64
"""Characters of a word that is compared with known ones: the work of `difflib` grows with both."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def plain(text: object, limit: int = 100_000) -> str:
    """`text` as one line without anything that a terminal or a bidi algorithm would act upon.

    Tabs and line ends become spaces, what else is unsafe becomes `U+FFFD`: visible, and one cell wide.
    """
    raw = text if isinstance(text, str) else str(text)
    if len(raw) > limit:
        raw = raw[: limit - 1] + "…"
    if raw.isascii() and raw.isprintable():
        return raw
    return "".join(_plain_sign(sign) for sign in raw)


def plain_lines(text: object, limit: int = 100_000) -> list[str]:
    """The lines of `text`, each `plain`."""
    raw = text if isinstance(text, str) else str(text)
    return [plain(line.expandtabs(4)) for line in raw[:limit].replace("\r\n", "\n").split("\n")]


def one_line(text: object, limit: int = 1000) -> str:
    """A value for the middle of a line: `plain`, cut, and runs of spaces become one, so that it cannot wrap at will."""
    return " ".join(plain(text, limit).split())


def indented_lines(text: object, limit: int = 100_000) -> list[str]:
    """The lines of a message, each `plain`, all but the first indented: none can pass for a message of its own."""
    first, *others = plain_lines(text, limit)
    return [first, *(f"    {line}" for line in others)]


def brief(text: str, limit: int = 80) -> str:
    """A text that a message quotes, cut to `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def pointed_at(text: str, position: int, width: int = 100) -> tuple[str, str]:
    """The part of a text around a place, and a line with a sign under that place."""
    start = max(0, min(position, len(text)) - width // 2)
    shown = plain(text[start : start + width])
    return shown, " " * (min(position, len(text)) - start) + "^"


def _plain_sign(sign: str) -> str:
    if sign in "\t\n\r\v\f":
        return " "
    category = unicodedata.category(sign)
    if category in _UNSAFE_CATEGORIES:
        return REPLACEMENT
    if category == "Zs":
        return " "
    return sign
