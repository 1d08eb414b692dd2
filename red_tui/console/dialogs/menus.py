"""Help and palette, made from the list of actions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from red_tui.console.config.themes import COUNT_ORDER
from red_tui.console.dialogs.dialogs import ChooseFrom, Entry, Reader
from red_tui.console.input.actions import ACTIONS, SCOPES, key_name
from red_tui.console.widgets.lists import Line, wrap

if TYPE_CHECKING:
    from red_tui.console.console_host import ConsoleHost, ControllerHost
    from red_tui.console.widgets.node_list import ListView


WORDS = {
    "virtual": "a node that exists on paper: an id and roles; it costs nothing until it is built",
    "build": "give a node a process, in a bundle; release gives the process back and keeps the node's state",
    "bundle": "a share of a host's CPUs and GPUs that Ray has reserved; bundle 0 is the coordinator's and the server's",
    "pool": "nodes without a place, and the bundles that they may take",
    "wave": "nodes that are built together: as many as there are places",
    "round": "nodes learn from their data, the server puts together what they learnt, some nodes judge it",
}
"""What an operator may not know, in the help."""


def help_screen(app: ConsoleHost[ControllerHost]) -> Reader:
    """What each key does, with the signs of the states."""

    def make(width: int) -> list[Line]:
        ascii_only = app.glyphs.ascii_only
        lines: list[Line] = [(("states", "title"),)]
        signs = [((f"  {app.glyphs.of(name)} {name:<9}", name)) for name in COUNT_ORDER]
        beside_each_other = max(1, width // 13)
        lines += [tuple(signs[place : place + beside_each_other]) for place in range(0, len(signs), beside_each_other)]
        actions = sorted(app.actions.actions, key=lambda action: SCOPES.index(action.scope))
        for scope, group in groupby(actions, key=lambda action: action.scope):
            lines += [(), ((scope, "title"),)]
            for action in group:
                keys = " ".join(key_name(key, ascii_only) for key in app.actions.keys[action.id])
                usage = f":{action.usage}" if action.usage else ""
                rows = wrap(action.help, max(20, width - 15 - (38 if width >= 96 else 0)))
                beside = usage if width >= 96 else ""
                lines.append(((f"  {keys:<12} ", "key"), (rows[0].ljust(width - 51), "text"), (beside, "dim")))
                lines += [((" " * 15, "dim"), (row, "text")) for row in rows[1:]]
                if usage and not beside:
                    lines.append(((" " * 15, "dim"), (usage, "dim")))
        if app.actions.read_only:
            hidden = ", ".join(action.label for action in ACTIONS if action.writes)
            mode = "replay" if app.actions.replay else "read-only"
            lines += [(), *(((row, "warn"),) for row in wrap(f"{mode}: {hidden} are not bound", width))]
        lines += [(), (("words", "title"),)]
        for word, meaning in WORDS.items():
            rows = wrap(meaning, max(20, width - 16))
            lines += [((f"  {word if not place else '':<12} ", "key"), (row, "text")) for place, row in enumerate(rows)]
        lines += [(), (("queries", "title"),)]
        lines += [
            ((f"  {query:<28}", "key"), (words, "text"))
            for query, words in (
                ("role:train state:failed", "both must hold"),
                ("id:client_1*,judge_?", "one of several values"),
                ("bundle:1-4 -state:ready", "a range; not"),
                ("loss:>0.5", "a comparison"),
            )
        ]
        return lines

    return Reader("help", make, "j k scroll, esc closes")


def line_screen(view: ListView) -> Reader:
    """All that a list tells of its selected line."""
    told = view.beside(100)

    def make(width: int) -> list[Line]:
        found = view.beside(width)
        return found[1] if found is not None else []

    return Reader(told[0] if told is not None else "", make, "j k scroll, y copies, esc closes")


def palette_screen(app: ConsoleHost[ControllerHost]) -> ChooseFrom:
    """All that is possible now."""
    entries = []
    for action in app.actions.possible(app.situation()):
        if action.scope == "move" or action.id == "palette":
            continue
        keys = " ".join(key_name(key, app.glyphs.ascii_only) for key in app.actions.keys[action.id])
        keys = keys or f":{action.id}"  # it has no key, but a command
        line = ((f" {keys:<14}", "key"), (f"{action.label:<12}", "text"), (f" {action.help}", "dim"))
        entries.append(Entry(action.id, line, f"{action.id} {action.label} {action.help}"))
    return ChooseFrom("possible now", entries, otherwise=partial(_impossible, app))


def _impossible(app: ConsoleHost[ControllerHost], words: Sequence[str]) -> list[Line]:
    """Why what was typed is not among the possible."""
    now, lines = app.situation(), list[Line]()
    for action in app.actions.actions:
        told = f"{action.id} {action.label}".lower()
        reason = action.possible(now)
        if reason is not None and words and all(word in told for word in words):
            lines.append(((f" {action.label:<12} ", "text"), (f"not now: {reason}", "pending")))
    return lines


def filters_screen(app: ConsoleHost[ControllerHost]) -> ChooseFrom:
    """The saved filters."""
    filters = app.controller.memory.filters if app.controller is not None else {}
    entries = [
        Entry(query, ((f" {name:<20}", "key"), (query, "text")), f"{name} {query}")
        for name, query in sorted(filters.items())
    ]
    return ChooseFrom("saved filters" if entries else "no filter is saved: :keep NAME saves one", entries)
