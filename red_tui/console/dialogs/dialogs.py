"""Questions and texts that stand over the console."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from red_tui.console.config.themes import COUNT_ORDER, Glyphs
from red_tui.console.crash_guard import CrashGuard
from red_tui.console.input.actions import ACTIONS, SCOPES, key_name
from red_tui.console.text import clip, duration, plain, plural
from red_tui.console.widgets.lists import Line, Lines, set_border, wrap
from red_tui.errors import RedError

if TYPE_CHECKING:
    from red_tui.console.console_host import ConsoleHost, ControllerHost
    from red_tui.console.widgets.node_list import ListView


Result = TypeVar("Result")


@dataclass(frozen=True)
class Choice:
    """One answer to a question."""

    key: str
    label: str
    style: str = "text"


class Dialog(CrashGuard, ModalScreen[Result]):
    """A frame with a title and lines; j/k and the paging keys scroll it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-15)", show=False),
        Binding("pagedown,space", "scroll(15)", show=False),
        Binding("home", "scroll(-1000000)", show=False),
        Binding("end", "scroll(1000000)", show=False),
        Binding("escape", "cancel", show=False),
        Binding("ctrl+c", "cancel", show=False),
    ]
    AUTO_FOCUS = ""

    def __init__(self, title: str, lines: Sequence[Line], hint: str = "", tall: bool = False) -> None:
        super().__init__()
        self._title_text, self._hint, self._tall = title, hint, tall
        self.body = Lines(lines, classes="body")
        self.frame = Vertical(classes="dialog tall" if tall else "dialog")

    def compose(self) -> ComposeResult:
        """The frame, the lines, and what subclasses add."""
        with self.frame:
            yield self.body
            yield from self.compose_more()
        self.set_title(self._title_text)

    def compose_more(self) -> ComposeResult:
        """Widgets below the lines."""
        return iter(())

    def set_title(self, title: str) -> None:
        """Write title and hint into the frame."""
        hint = [(self._hint, "$red-dim")] if self._hint else None
        set_border(self.frame, [(title, "$red-bright")], hint)

    def action_scroll(self, lines: int) -> None:
        """Scroll the lines."""
        self.body.scroll_by(lines)

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class Ask(Dialog[str]):
    """A question with a few answers; the first one has the focus, and escape gives it too."""

    # No letters: what was typed for something else before the question stood there must not choose an answer.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,shift+tab", "choose(-1)", show=False),
        Binding("right,tab", "choose(1)", show=False),
        Binding("enter", "answer", show=False),
    ]

    def __init__(
        self,
        title: str,
        lines: Sequence[Line],
        choices: Sequence[Choice],
        tall: bool = False,
        focused: int = 0,
        hint: str = "tab chooses, enter answers, esc cancels",
    ) -> None:
        super().__init__(title, lines, hint, tall)
        self._choices = choices
        self.focused_choice = focused
        self.answers = Lines(classes="choices")

    def compose_more(self) -> ComposeResult:
        """The answers."""
        self._draw()
        yield self.answers

    def action_choose(self, step: int) -> None:
        """The next answer gets the focus."""
        self.focused_choice = (self.focused_choice + step) % len(self._choices)
        self._draw()

    def action_answer(self) -> None:
        """Give the answer that has the focus."""
        self.dismiss(self._choices[self.focused_choice].key)

    def _draw(self) -> None:
        parts: list[tuple[str, str]] = []
        for place, choice in enumerate(self._choices):
            chosen = place == self.focused_choice
            parts.append(
                (f"[ {choice.label} ]" if chosen else f"  {choice.label}  ", "key" if chosen else choice.style)
            )
            parts.append(("  ", "text"))
        self.answers.show([tuple(parts)])


class Reader(Dialog[None]):
    """A text to read; `refill` makes its lines again for another width."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,enter,question_mark", "cancel", show=False),
        Binding("y", "copy", show=False),
    ]

    def __init__(self, title: str, make_lines: Callable[[int], Sequence[Line]], hint: str = "esc closes") -> None:
        super().__init__(title, (), hint, tall=True)
        self._make_lines = make_lines

    def refill(self) -> None:
        """Draw the lines for the present width."""
        self.body.show(self._make_lines(max(20, self.body.size.width - 1)))

    def on_mount(self) -> None:
        """Draw once the width is known."""
        self.call_after_refresh(self.refill)

    def on_resize(self) -> None:
        """Wrap again."""
        self.call_after_refresh(self.refill)

    def action_copy(self) -> None:
        """Copy the text."""
        from red_tui.console.export import copy_text

        self.set_title(f"{self._title_text} · {copy_text(self.app, self.body.text)}")


@dataclass(frozen=True)
class Entry:
    """One line of a list to choose from."""

    value: Any
    line: Line
    words: str


class ChooseFrom(Dialog[Any], inherit_bindings=False):
    """A list; typing narrows it, enter chooses."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("pageup", "move(-10)", show=False, priority=True),
        Binding("pagedown", "move(10)", show=False, priority=True),
        Binding("enter", "answer", show=False, priority=True),
        Binding("escape", "cancel", show=False),
        Binding("ctrl+c", "cancel", show=False),
    ]

    def __init__(
        self,
        title: str,
        entries: Sequence[Entry],
        hint: str = "type to narrow, enter chooses",
        otherwise: Callable[[Sequence[str]], Sequence[Line]] = lambda words: (),
    ) -> None:
        super().__init__(title, (), hint)
        self._otherwise = otherwise
        self._entries = list(entries)
        self._typed = ""
        self._place = 0
        self._draw()

    def on_key(self, event: events.Key) -> None:
        """Narrow the list by what is typed."""
        if event.key == "backspace":
            self._typed = self._typed[:-1]
        elif event.character and event.is_printable:
            self._typed += event.character
        else:
            return
        event.stop()
        event.prevent_default()
        self._place = 0
        self._draw()
        self.set_title(f"{self._title_text}: {self._typed}" if self._typed else self._title_text)

    def action_move(self, step: int) -> None:
        """Another entry is selected."""
        found = self._found()
        self._place = min(max(0, self._place + step), max(0, len(found) - 1))
        self._draw()
        self.body.reveal(self._place)

    def action_answer(self) -> None:
        """Choose the selected entry."""
        found = self._found()
        if found:
            self.dismiss(found[self._place].value)

    def _found(self) -> list[Entry]:
        typed = self._typed.lower().split()
        return [entry for entry in self._entries if all(word in entry.words.lower() for word in typed)]

    def _draw(self) -> None:
        found = self._found()
        lines = [entry.line for entry in found]
        if not found:  # what is said instead, of the words that were typed
            lines = [*self._otherwise(self._typed.lower().split())] or [(("nothing matches", "dim"),)]
        self.body.show(lines, self._place if found else None)


WIDTH = 66


class EditedLine:
    """A text with a cursor in it.

    Args:
        text: What it begins with; the cursor stands at its end.
    """

    def __init__(self, text: str = "") -> None:
        self.text, self.cursor = text, len(text)

    def take(self, event: events.Key) -> bool:
        """Edit by a key; whether it was one that edits."""
        text, at = self.text, self.cursor
        steps = {"left": at - 1, "right": at + 1, "home": 0, "end": len(text)}
        if event.key in steps:
            self.cursor = min(max(0, steps[event.key]), len(text))
        elif event.key == "backspace":
            self.text, self.cursor = text[: max(0, at - 1)] + text[at:], max(0, at - 1)
        elif event.key == "delete":
            self.text = text[:at] + text[at + 1 :]
        elif event.key == "ctrl+u":
            self.text, self.cursor = text[at:], 0
        elif event.character and event.is_printable:
            self.insert(event.character)
        else:
            return False
        return True

    def insert(self, text: str) -> None:
        """Put a text where the cursor is."""
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)

    def shown(self, width: int) -> tuple[Line, int]:
        """The line in at most `width` cells, and its cursor; and how many of its signs stand before what is shown."""
        start = max(0, self.cursor - width + 1)
        seen, at = self.text[start : start + width], self.cursor - start
        return ((seen[:at], "key"), ("|", "busy"), (seen[at:], "key")), start


class Form(Dialog[str], inherit_bindings=False):
    """One line of text; enter gives it, if `meaning` finds nothing wrong with it.

    Args:
        title: Of the frame.
        text: What it begins with.
        head: Lines above the text.
        meaning: What a text means, in lines; it raises with a `position` what is wrong with it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", show=False),
        Binding("ctrl+c", "cancel", show=False),
    ]

    def __init__(self, title: str, text: str, head: Sequence[Line], meaning: Callable[[str], Sequence[str]]) -> None:
        super().__init__(title, (), "enter does it, esc cancels")
        self._head, self._meaning = head, meaning
        self.line = EditedLine(text)
        self._draw()

    def on_key(self, event: events.Key) -> None:
        """Edit the line."""
        if event.key == "enter":
            self._answer()
        elif not self.line.take(event):
            return
        event.stop()
        event.prevent_default()
        self._draw()

    def on_paste(self, event: events.Paste) -> None:
        """Take the first line of what is pasted."""
        event.stop()
        self.line.insert(plain(event.text.split("\n")[0]))
        self._draw()

    def _answer(self) -> None:
        try:
            self._meaning(self.line.text)
        except RedError:
            return
        self.dismiss(self.line.text.strip())

    def _draw(self) -> None:
        shown, start = self.line.shown(WIDTH)
        text, at = self.line.text, self.line.cursor - start
        lines: list[Line] = [*self._head, (), (("> ", "dim"), *shown)]
        try:
            told = self._meaning(text)
        except RedError as error:
            position = getattr(error, "position", None)
            message = error.message.partition(": ")[2] if position is not None else error.message
            if position is not None and text.strip():
                place = max(0, int(position) - start)
                lines.append(((" " * (2 + place + (place >= at)) + "^", "failed"),))
            lines += [((row, "failed" if text.strip() else "dim"),) for row in wrap(plain(message), WIDTH)]
        else:
            lines += [((row, "text"),) for row_text in told for row in wrap(plain(row_text), WIDTH)]
        self.body.show(lines)


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
