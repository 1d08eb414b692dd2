"""The next rounds as a form: each value in a field of its own, errors under the field, and what would change below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType

from red_tui.console.dialogs.dialogs import Dialog, EditedLine
from red_tui.console.text import clip, plain
from red_tui.console.widgets.lists import Line, wrap
from red_tui.errors import CommandRefused, SelectionError

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import FederationMirror
    from red_tui.layout.round_settings import Change

WIDTH = 70
ANEW = "+ new key"

_MEANINGS = {
    "fraction": "share of the eligible nodes that take part in a round: above 0, at most 1",
    "deadline": "seconds after which a round goes on with the results that it has",
    "min_results": "results that a round needs: a fraction (0.5) or a number of nodes (3)",
    "evaluate_every": "the parameters are judged after every so many rounds; 0: never",
    "exact": "true: updates are added up without an error, alike in both isolations and any number of bundles",
    ANEW: "a key that nodes do not have yet, and its value: momentum 0.9",
}
_KEY = "a key of the nodes' config: all are told it in fit; what a node took from it when it was built, it keeps"


class NextRoundsForm(Dialog[dict[str, Any]], inherit_bindings=False):
    """Fields for all that can be changed; enter gives new values by name.

    Args:
        mirror: Where the present values are.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,shift+tab", "field(-1)", show=False),
        Binding("down,tab", "field(1)", show=False),
        Binding("pageup", "field(-8)", show=False),
        Binding("pagedown", "field(8)", show=False),
        Binding("enter", "answer", show=False),
        Binding("escape", "cancel", show=False),
        Binding("ctrl+c", "cancel", show=False),
    ]

    def __init__(self, mirror: FederationMirror) -> None:
        from red_tui.layout.round_settings import written

        super().__init__("next rounds", (), "arrows and typing change, ctrl+u empties, enter sets, esc cancels")
        self._known = mirror.next_rounds.known
        self._later = mirror.next_rounds.later
        self._in_hand, self._next = mirror.round.running, mirror.round.number + 1
        self._before = {name: plain(written(value)) for name, value in self._known.items()}
        self.fields = {name: EditedLine(text) for name, text in self._before.items()}
        self.fields[ANEW] = EditedLine()
        self.field = 0
        self._draw()

    @property
    def name_here(self) -> str:
        """The field that is edited."""
        return list(self.fields)[self.field]

    def on_key(self, event: events.Key) -> None:
        """Edit the field."""
        if self.fields[self.name_here].take(event):
            event.stop()
            event.prevent_default()
            self._draw()

    def on_paste(self, event: events.Paste) -> None:
        """Take the first line of what is pasted."""
        event.stop()
        self.fields[self.name_here].insert(plain(event.text.split("\n")[0]))
        self._draw()

    def action_field(self, step: int) -> None:
        """Another field."""
        place = self.field + step
        last = len(self.fields) - 1
        self.field = place % (last + 1) if abs(step) == 1 else min(max(0, place), last)
        self._draw()

    def action_answer(self) -> None:
        """Give what changes, if nothing is wrong; else go to the field that is."""
        changes, wrong = self._read()
        if wrong:
            self.field = list(self.fields).index(next(iter(wrong)))
            self._draw()
        else:
            self.dismiss({f"+{name}" if change.fresh else name: change.new for name, change in changes.items()})

    def _read(self) -> tuple[dict[str, Change], dict[str, str]]:
        """What changes, and what is wrong, by field."""
        from red_tui.layout.round_settings import checked, read_changes, value_of

        changes: dict[str, Change] = {}
        wrong: dict[str, str] = {}
        for name, line in self.fields.items():
            text = line.text.strip()
            try:
                if name == ANEW:
                    asked = f"+{text.removeprefix('+')}" if text else ""
                    changes.update(checked(read_changes(asked, self._known), self._known))
                elif not text:
                    wrong[name] = f"a value stands here; it was {self._before[name]}"
                elif text != self._before[name]:
                    changes.update(checked({name: value_of(text)}, self._known))
            except SelectionError as error:
                wrong[name] = error.message.partition(": ")[2]
            except CommandRefused as error:
                wrong[name] = error.message
        return changes, wrong

    def _draw(self) -> None:
        changes, wrong = self._read()
        here = self.name_here
        wide = min(24, max(map(len, self.fields)))
        more = f"; round {self._next - 1} ends as it began" if self._in_hand else ""
        lines: list[Line] = [((f"What is set here holds from round {self._next} on{more}.", "dim"),)]
        shown = 0
        for name, line in self.fields.items():
            title = {next(iter(self.fields)): "how rounds are run", self._first_key(): "what nodes are told"}.get(name)
            if title:
                lines += [(), ((title, "title"),)]
            text: Line = line.shown(WIDTH - wide - 4)[0] if name == here else ((clip(line.text, 42), "text"),)
            beside = ""
            if name in self._before and line.text.strip() != self._before[name]:
                beside = f"   was {clip(self._before[name], 20)}"
            elif name in self._later:
                beside = f"   from round {self._next} on"
            label = ("> " if name == here else "  ") + clip(plain(name), wide).ljust(wide) + "  "
            lines.append(((label, "key" if name == here else "dim"), *text, (beside, "pending")))
            shown = len(lines) if name == here else shown
            if name in wrong:
                lines += [
                    ((f"{' ' * (wide + 4)}{row}", "failed"),) for row in wrap(plain(wrong[name]), WIDTH - wide - 4)
                ]
        lines += [(), *(((row, "dim"),) for row in wrap(_MEANINGS.get(here, _KEY), WIDTH))]
        told = "; ".join(plain(str(change)) for change in changes.values())
        lines += [((row, "busy"),) for row in wrap(told, WIDTH)] if told else [(("nothing changes yet", "dim"),)]
        self.body.show(lines)
        if self.body.size.height:  # not before it is laid out
            self.body.reveal(shown - 1 if self.field else 0)

    def _first_key(self) -> str:
        from red_tui.layout.round_settings import is_setting

        return next(name for name in self.fields if not is_setting(name))


def set_words(rest: str, known: Mapping[str, Any]) -> Sequence[str]:
    """What the last word of a `set` command could become: a name, or the present value of the name before it."""
    from red_tui.layout.round_settings import read_changes, written

    head, _, last = rest.rpartition(" ")
    try:
        before = read_changes(head, known)
    except SelectionError:
        name = head.split()[-1] if head.split() else ""
        text = written(known[name]) if name in known else ""
        return [text] if text.startswith(last) and text != last and " " not in text else []
    return [name for name in known if name.startswith(last) and name != last and name not in before]


def set_arguments(text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `set` command.

    Raises:
        SelectionError: If it cannot be read; `position` says where in the whole line.
    """
    from red_tui.layout.round_settings import read_changes

    try:
        changes = read_changes(text, known)
    except SelectionError as error:
        position = int(getattr(error, "position", 0)) + len("set ")
        message = error.message.partition(": ")[2]
        raise SelectionError(f"query, position {position}: {message}", query=text, position=position) from None
    return {"values": changes} if changes else {}
