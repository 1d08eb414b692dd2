"""Text that comes from nodes, made plain: nothing in it that a terminal would act upon."""

from __future__ import annotations

import re
import unicodedata

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, formats (bidi overrides and isolates, zero-width signs), surrogates, unassigned, line separators."""

MAX_MARKS = 4
"""Accents and the like upon one letter: hundreds of them would be drawn over the lines above and below."""

_VARIATION = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""They change how wide the sign before them is, on some terminals."""

_UNSURE_WIDTH = re.compile(
    "[\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\u115f-\u11ff\u3164\ud7b0-\ud7ff\uffa0\U0001171e]"
)
"""Halves of flags, colours of skin, parts of syllables, blank letters: terminals do not agree how wide they are."""

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
    signs: list[str] = []
    marks = MAX_MARKS  # a mark without a letter before it would go to whatever stands to its left on the screen
    for sign in raw:
        sign = _plain_sign(sign)
        marks = marks + 1 if _is_mark(sign) else 0
        if marks <= MAX_MARKS:
            signs.append(sign)
        elif not signs:
            signs.append(REPLACEMENT)
    return "".join(signs)


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
    if _VARIATION.match(sign):
        return ""
    category = unicodedata.category(sign)
    if category in _UNSAFE_CATEGORIES or category in ("Mc", "Me") or _UNSURE_WIDTH.match(sign):
        return REPLACEMENT
    if category == "Zs":
        return " "
    return sign


def _is_mark(sign: str) -> bool:
    """Whether a sign takes no cell of its own but stands upon the one before it."""
    return sign == "" or (not sign.isascii() and unicodedata.category(sign) == "Mn")
