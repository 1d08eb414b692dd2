"""Which federation to attach to, or which layout to launch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from red_tui.console.dialogs import ChooseFrom, Entry
from red_tui.console.glyphs import Glyphs
from red_tui.console.lines import Line
from red_tui.console.text import clip, duration, plain, plural


def choose(choices: Mapping[str, Any], glyphs: Glyphs, read_only: bool = False) -> ChooseFrom:
    """A list of the federations that run and of the layouts there are; it answers with arguments of `open`.

    Args:
        choices: What the link found.
        glyphs: The signs.
        read_only: Whether nothing may be launched.
    """
    entries: list[Entry] = []
    for told in choices.get("federations") or ():
        name = plain(told.get("id") or "")
        orphan = bool(told.get("orphan"))
        style = "pending" if orphan else "ready"
        age = told.get("age_s")
        facts = [
            plain(told.get("state") or ""),
            plural(int(told.get("nodes") or 0), "node"),
            f"round {told.get('round') or 0}",
            f"{duration(float(age))} old" if age is not None else "",
            "orphan: no supervisor answers" if orphan else "",
        ]
        words = "  ".join(fact for fact in facts if fact)
        line: Line = (
            (f" {glyphs.of('pending' if orphan else 'ready')} ", style),
            (f"{clip(name, 24):<25}", "key"),
            (words, "text"),
        )
        entries.append(Entry({"federation": str(told.get("id"))}, line, f"{name} attach federation {words}"))
    for told in () if read_only else choices.get("layouts") or ():
        path, title = plain(told.get("path") or ""), plain(told.get("title") or "")
        name = path.rsplit("/", 1)[-1]
        line = ((" + ", "busy"), (f"{clip(name, 24):<25}", "text"), (title, "dim"))
        entries.append(Entry({"layout": str(told.get("path"))}, line, f"{path} {title} launch layout"))
    title = "attach to a federation" if read_only else "attach to a federation, or launch a layout"
    if not entries:
        title = "no federation runs here, and a read-only console launches none"
    return ChooseFrom(title, entries, "enter chooses, esc leaves")
