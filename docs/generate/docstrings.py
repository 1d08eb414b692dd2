"""Google docstrings as Markdown."""

from __future__ import annotations

import inspect
import re

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Examples", "Note")
_ENTRY = re.compile(r"(\*{0,2}[\w.]+(?: \([^)]*\))?): (.*)", re.DOTALL)


def as_markdown(docstring: str | None) -> str:
    """The prose as it stands, and each section as a list."""
    told, section, lines = [], "", list[str]()
    for line in [*inspect.cleandoc(docstring or "").splitlines(), "Note:"]:
        head = line.removesuffix(":")
        if line.endswith(":") and head in SECTIONS:
            if any(lines):
                told.append(_section(section, lines))
            section, lines = head, []
        else:
            lines.append(line)
    return "\n\n".join(told)


def first_sentence(docstring: str | None) -> str:
    """What a table says of a name."""
    paragraph = " ".join(inspect.cleandoc(docstring or "").partition("\n\n")[0].split())
    found = re.match(r".*?\.(?=\s|$)", paragraph)
    return found.group() if found else paragraph


def _section(name: str, lines: list[str]) -> str:
    text = inspect.cleandoc("\n".join(lines) if not name else "\n" + "\n".join(lines))
    if not name:
        return text
    if name in ("Example", "Examples"):
        return f"```text\n{text}\n```"
    items: list[str] = []
    for line in text.splitlines():
        if line and not line[0].isspace():
            items.append(line)
        elif line:
            items[-1] += " " + line.strip()
    shown = []
    for item in items if name in ("Args", "Attributes", "Raises") else [" ".join(items)]:
        entry = _ENTRY.fullmatch(item) if name in ("Args", "Attributes", "Raises") else None
        shown.append(f"- `{entry.group(1)}`: {entry.group(2)}" if entry else f"- {item}")
    return f"**{name}**\n\n" + "\n".join(shown)
