"""Small pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; signs that would end a cell are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def sentence(text: str) -> str:
    """A text with a capital and a full stop, on one line."""
    text = " ".join(text.split())
    first = text[:1] if text.startswith("red-") else text[:1].upper()
    return first + text[1:] + ("" if text.endswith((".", "!", "?", ":")) else ".") if text else ""
