"""What actions do: questions first where something ends, then a command to the link, then a word about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from red_tui.console.dialogs import Ask, Choice
from red_tui.console.lines import Line, labelled, wrap
from red_tui.console.text import plain, plural
from red_tui.errors import CommandRefused, RedError
from red_tui.nodes.states import BUILDABLE, NodeState

if TYPE_CHECKING:
    from textual.screen import ModalScreen

    from red_tui.console.mirror import FederationMirror
    from red_tui.console.session import Session

MAX_NAMED = 12
_ENDABLE = frozenset({"pending", "starting", "ready", "busy", "failed"})


@dataclass(frozen=True)
class Targets:
    """What a command acts on, by id.

    Attributes:
        ids: The ids.
        hidden: Those of them that the filter hides.
        query: The query that chose them, if one did.
    """

    ids: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    query: str | None = None


class Console(Protocol):
    """What operations need of the app."""

    session: Session

    @property
    def mirror(self) -> FederationMirror:
        """The data."""

    def say(self, text: str, level: str = "info") -> None:
        """A word in the last line."""

    async def ask(self, dialog: ModalScreen[Any]) -> Any:
        """Show a dialog and await its answer."""

    def marked_or_current(self) -> Targets:
        """The marks, else the node under the cursor."""

    def open_command(self, text: str) -> None:
        """Open the command line with a text to complete."""


class Operations:
    """The writing actions, one method each, named after the action's id."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def run(self, action_id: str, args: Mapping[str, Any]) -> None:
        """Do an action; what goes wrong is said, never raised."""
        try:
            await getattr(self, f"do_{action_id}")(**args)
        except RedError as error:
            self._console.say(error.message.split("\n")[0], "error")

    async def do_build(self, query: str | None = None) -> None:
        """Build nodes."""
        targets = self._targets(query, {str(state) for state in BUILDABLE}, "is virtual or released")
        await self._tell("build", self._addressed(targets))

    async def do_plan(self, query: str | None = None) -> None:
        """Show the plan of a build, then ask."""
        targets = self._targets(query, {str(state) for state in BUILDABLE}, "is virtual or released")
        plan = await self._console.session.command("plan", self._addressed(targets))
        placed, left_out = plan.get("placed") or [], plan.get("left_out") or []
        lines: list[Line] = [((row, "text"),) for row in wrap(plain(plan.get("text") or ""), 70)]
        if placed:
            lines += [(), (("node", "dim"), (" " * 22, "dim"), ("bundle  host", "dim"))]
            lines += [
                ((plain(node)[:24].ljust(24), "ready"), (f"{bundle:>8}  ", "text"), (plain(host), "dim"))
                for node, bundle, host in placed[:500]
            ]
            if len(placed) > 500:
                lines.append(((f"and {len(placed) - 500:,} more", "dim"),))
        if left_out:
            lines += [(), ((f"{plural(len(left_out), 'node')} left out", "pending"),)]
            for node, why in left_out[:200]:
                lines += labelled(plain(node)[:24], plain(why), 70, label_width=26)
        choices = [Choice("cancel", "Cancel" if placed else "Close")]
        if placed:
            choices.append(Choice("build", f"Build {plural(len(placed), 'node')}"))
        answer = await self._console.ask(Ask("build plan", lines, choices, tall=len(lines) > 12))
        if answer == "build":
            await self._tell("build", {"ids": [str(node) for node, _, _ in placed]})

    async def do_wave(self, size: int | None = None, query: str | None = None) -> None:
        """Build the next wave."""
        await self._tell("wave", {"size": size, "query": query})

    async def do_round(self) -> None:
        """Run one round."""
        await self._tell("round", {})

    async def do_run(self, rounds: int | None = None, until: str | None = None) -> None:
        """Run rounds; without a number the command line asks for it."""
        if rounds is None:
            self._console.open_command("run ")
            return
        await self._tell("run", {"rounds": rounds, "until": until})

    async def do_stop(self, value: str | None = None) -> None:
        """Stop after the round; asked again, or with `now`, at once."""
        now = self._console.mirror.round
        if value != "now" and not now.stopping:
            await self._tell("stop", {"now": False})
            return
        lines: list[Line] = [
            ((f"Round {now.number} is in phase {now.phase}, {now.done} of {now.of} done.", "text"),),
            (("Its results are thrown away; the nodes stay built.", "text"),),
        ]
        answer = await self._console.ask(
            Ask("stop now?", lines, [Choice("cancel", "Let it finish"), Choice("stop", "Stop now", "failed")])
        )
        if answer == "stop":
            await self._tell("stop", {"now": True})

    async def do_release(self, query: str | None = None) -> None:
        """Release nodes, after a question."""
        targets = self._targets(query, _ENDABLE, "holds a process")
        words = ("Their processes end; their state is kept, and b builds them again.",
                 "Its process ends; its state is kept, and b builds it again.")  # fmt: skip
        if await self._confirm("release", "Release", targets, words):
            await self._tell("release", {"ids": list(targets.ids)})

    async def do_remove(self, query: str | None = None) -> None:
        """Remove nodes, after a question."""
        targets = self._targets(query, None, "is there")
        words = ("They are forgotten, with their state. This cannot be undone.",
                 "It is forgotten, with its state. This cannot be undone.")  # fmt: skip
        if await self._confirm("remove", "Remove", targets, words):
            await self._tell("remove", {"ids": list(targets.ids)})

    async def do_rebuild(self, query: str | None = None) -> None:
        """Rebuild failed nodes: the targets that failed, else all that failed."""
        try:
            ids: list[str] | None = list(self._targets(query, {"failed"}, "has failed").ids)
        except CommandRefused:
            if query is not None:
                raise
            ids = None
        await self._tell("rebuild", {"ids": ids})

    async def do_add(self, count: int | None = None, role: str | None = None) -> None:
        """Add virtual nodes; without arguments the command line asks for them."""
        if count is None or role is None:
            self._console.open_command("add ")
            return
        await self._tell("add", {"count": count, "role": role})

    # -- inside ----------------------------------------------------------------------------------

    async def _tell(self, verb: str, args: Mapping[str, Any]) -> None:
        result = await self._console.session.command(verb, args)
        self._console.say(plain(result.get("text") or f"{verb}: accepted"), "good")

    def _addressed(self, targets: Targets) -> dict[str, Any]:
        return {"query": targets.query} if targets.query is not None else {"ids": list(targets.ids)}

    def _targets(self, query: str | None, states: set[str] | frozenset[str] | None, words: str) -> Targets:
        """The nodes that a query, the marks or the cursor mean, as far as they are in one of `states`."""
        mirror = self._console.mirror
        table = mirror.table
        if query is not None:
            from red_tui.selection import parse

            mask: npt.NDArray[np.bool_] = parse(query).mask(table) & table.present()
            targets = Targets(tuple(table.ids[int(row)] for row in np.flatnonzero(mask)), (), query)
        else:
            targets = self._console.marked_or_current()
        if states is None:
            kept = targets.ids
        else:
            wanted = {NodeState(state) for state in states}
            kept = tuple(
                node_id
                for node_id in targets.ids
                if (row := table.row_of(node_id)) is not None and table.state_of(row) in wanted
            )
        if not kept:
            what = f"what {query!r} matches" if query is not None else "the targets"
            raise CommandRefused(f"none of {what} {words}")
        hidden = set(targets.hidden)
        return Targets(kept, tuple(node_id for node_id in kept if node_id in hidden), targets.query)

    async def _confirm(self, what: str, label: str, targets: Targets, words: tuple[str, str]) -> bool:
        count = len(targets.ids)
        federation = str(self._console.mirror.federation.get("id") or "")
        lines: list[Line] = [((f"{label} {plural(count, 'node')} of {federation}:", "text"),), ()]
        lines += _named(targets.ids)
        if targets.hidden:
            lines += [(), ((f"The filter hides {len(targets.hidden):,} of them:", "pending"),)]
            lines += _named(targets.hidden, "pending")
        lines += [(), *(((row, "text"),) for row in wrap(words[count == 1], 70))]
        choices = [Choice("cancel", "Cancel"), Choice(what, f"{label} {plural(count, 'node')}", "failed")]
        return bool(await self._console.ask(Ask(f"{what}?", lines, choices)) == what)


def _named(ids: Sequence[str], style: str = "key") -> list[Line]:
    shown = ", ".join(plain(node_id) for node_id in ids[:MAX_NAMED])
    more = f" and {len(ids) - MAX_NAMED:,} more" if len(ids) > MAX_NAMED else ""
    return [((f"  {row}", style),) for row in wrap(shown + more, 68)]
