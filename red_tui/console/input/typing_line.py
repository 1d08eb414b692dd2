"""What is typed: a filter that acts while it is typed, or a command."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from red_tui.console.config.session_state import ConsoleMemory, Screens
from red_tui.console.input.command_line import complete, parse
from red_tui.console.widgets.prompt import Prompt
from red_tui.errors import CommandRefused, SelectionError

if TYPE_CHECKING:
    from red_tui.console.console_host import ConsoleHost, ControllerHost

Completer = Callable[[str], Sequence[str]]

_HINTS = {
    "events": "failed client_033   words that an event holds   enter keeps, esc clears",
    "filter": "role:train state:failed id:client_1*   tab completes, enter keeps, esc clears",
    "replay": "at 14:30   at round 12   at event 345   at +90s   speed 20x   tab completes, up recalls",
    "command": "build role:train   wave 3   run 20 until +20m   add 5 train   tab completes, up recalls",
}


class TypingHost(Screens, Protocol):
    """What typing acts on."""

    memory: ConsoleMemory


class TypingLine:
    """Opens the prompt and acts on what is typed there.

    Args:
        app: The app.
        controller: Whose filter is typed.
    """

    def __init__(self, app: ConsoleHost[ControllerHost], controller: TypingHost) -> None:
        self._app = app
        self._controller = controller
        self.prompt = Prompt(id="prompt")
        self._refused: tuple[str, str] | None = None
        app.screen.mount(self.prompt, before=app.footer)

    @property
    def open(self) -> bool:
        """Whether somebody is typing."""
        return self.prompt.shown

    def open_filter(self, query: str) -> None:
        """Type a filter."""
        self._open("filter", "/", query, self._queries)

    def open_events(self, words: str) -> None:
        """Type words that events must hold."""
        self._open("events", "/", words, None)

    def open_command(self, text: str) -> None:
        """Type a command."""
        self._open("command", ":", text, self._commands)

    def changed(self, kind: str, text: str) -> None:
        """Filter by what is typed so far; an error is told at its place and changes nothing."""
        if not self.prompt.shown or text != self.prompt.line.value:
            return  # told too late: the line is another by now
        if self._refused == (kind, text.strip()):
            return  # what is wrong with it is said already
        self._refused = None
        if kind == "events":
            self._controller.views.get("events").filter(text.strip())
            return
        if kind != "filter":
            hint = _HINTS["replay" if self._app.actions.replay else kind]
            self._app.footer.say(hint if not text else self._candidates(text))
            return
        try:
            self._controller.set_filter(text.strip())
        except SelectionError as error:
            offered = "" if text[-1:] in " (,-!" else self._offered(text)
            if offered:
                self._app.footer.say(offered)  # a word that may yet become one is no error
            else:
                self._tell_error(error)
        else:
            self._app.footer.say("" if text.strip() else _HINTS["filter"])

    def arranged(self) -> None:
        """Tell how many nodes the filter that is being typed shows."""
        arrangement = self._controller.grid.arrangement
        typed = self.prompt.shown and self.prompt.kind == "filter" and self.prompt.line.value.strip()
        if typed and arrangement is not None:
            self._app.footer.say("   ".join(filter(None, [f"{arrangement.total:,} shown", self._offered(typed)])))

    def _offered(self, text: str) -> str:
        """What tab would complete the filter to."""
        words = [candidate.rpartition(" ")[2] for candidate in self._queries(text)[:5]]
        return f"tab: {'  '.join(words)}" if words else ""

    def submitted(self, kind: str, text: str) -> None:
        """Keep the filter, or run the command."""
        self._refused = (kind, text)
        if kind == "events":
            self._close(text)
            self._app.footer.say("")
            return
        if kind == "filter":
            try:
                self._controller.set_filter(text)
            except SelectionError as error:
                self._tell_error(error)
                return
            self._close(text)
            self._app.footer.say("")
            self._controller.memory.keep(self._controller)
            return
        if not text:
            self._close(text)
            self._app.footer.say("")
            return
        try:
            command = parse(text, self._app.actions, self._known, self._controller.memory.resolve)
            action = self._app.actions.get(command.action)
            reason = self._impossible(command.action, bool(command.args.get("query") or command.args.get("node")))
            if action is None or reason is not None:
                raise CommandRefused(reason or f"{command.action} is not bound")
        except SelectionError as error:
            self._tell_error(error)
            return
        except CommandRefused as error:
            self._app.footer.say(error.message, "error")
            return
        self._close(text)
        self._app.footer.say("")
        self._app.do(command.action, command.args)

    def cancelled(self, kind: str) -> None:
        """Escape: a filter is cleared, a command forgotten."""
        if kind == "filter":
            self._controller.set_filter("")
            self._controller.memory.keep(self._controller)
        elif kind == "events":
            self._controller.views.get("events").filter("")
        self._app.footer.say("")
        self._app.screen.set_focus(None)

    # -- inside ----------------------------------------------------------------------------------

    def _open(self, kind: str, sign: str, text: str, completer: Completer | None) -> None:
        self._refused = None
        self._app.footer.say(_HINTS[kind])
        self.prompt.open(kind, sign, text, completer or _nothing)

    def _close(self, text: str) -> None:
        self.prompt.remember(text)
        self.prompt.close()
        self._app.screen.set_focus(None)

    def _impossible(self, action_id: str, by_query: bool) -> str | None:
        action = self._app.actions.get(action_id)
        if action is None:
            return None
        if by_query:
            live = self._app.actions.get("add") or self._app.actions.get("filter")
            return live.possible(self._app.situation()) if live is not None else None
        return action.possible(self._app.situation())

    def _tell_error(self, error: SelectionError) -> None:
        """The message, with a caret under the place if it fits beside it."""
        position = int(getattr(error, "position", 0) or 0)
        message = re.sub(r"^query, position \d+: ", "", error.message.split("\n")[0])
        if position + 45 < self._app.size.width:
            self._app.footer.say(" " * (position + 1) + f"^ {message}", "error")
        else:
            self._app.footer.say(f"at {position + 1}: {message}", "error")

    def _candidates(self, text: str) -> str:
        found = self._commands(text)[:6]
        last = [candidate.rpartition(" ")[2] for candidate in found]
        action = self._app.actions.get(text.split()[0]) if text.split() else None
        usage = action.usage if action is not None and action.usage else ""
        return "   ".join(part for part in (usage, "  ".join(last)) if part) or " "

    @property
    def _known(self) -> Mapping[str, Any]:
        """What `set` can change."""
        return self._app.mirror.next_rounds.known

    def _queries(self, text: str) -> Sequence[str]:
        from red_tui.selection import complete as complete_query

        if text.startswith("@"):
            return [f"@{name}" for name in sorted(self._controller.memory.filters) if f"@{name}".startswith(text)]
        return complete_query(text, len(text), self._app.mirror.table)

    def _commands(self, text: str) -> Sequence[str]:
        roles = [str(role) for role in self._app.mirror.table.roles if str(role) != "server"]
        themes = sorted(self._app.available_themes)
        return complete(text, self._app.actions, roles, self._queries, themes, self._known)


def _nothing(text: str) -> Sequence[str]:
    return ()
