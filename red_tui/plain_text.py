"""Text that comes from nodes, made plain: nothing in it that a terminal would act upon."""

from __future__ import annotations

import unicodedata

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, formats (bidi overrides and isolates, zero-width signs), surrogates, unassigned, line separators."""

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


def _plain_sign(sign: str) -> str:
    if sign in "\t\n\r\v\f":
        return " "
    category = unicodedata.category(sign)
    if category in _UNSAFE_CATEGORIES:
        return REPLACEMENT
    if category == "Zs":
        return " "
    return sign
