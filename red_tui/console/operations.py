"""What actions do: questions first where something ends, then a command to the link, then a word about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from red_tui.console.crash_guard import LARGE
from red_tui.console.dialogs.dialogs import Ask, Choice, Form
from red_tui.console.dialogs.round_settings_form import NextRoundsForm
from red_tui.console.dialogs.wave_planner import Answer, Choices, WavePlanner, plan_lines, told_of
from red_tui.console.input.actions import key_name
from red_tui.console.input.command_line import read_run, running_words, told_run
from red_tui.console.text import plain, plural
from red_tui.console.widgets.lists import Line, wrap
from red_tui.errors import CommandRefused, RedError
from red_tui.nodes.states import BUILDABLE, NodeState

if TYPE_CHECKING:
    from red_tui.console.console_host import ConsoleHost, ControllerHost

Rows = npt.NDArray[np.integer[Any]]

MAX_NAMED = 12
_ENDABLE = frozenset({"pending", "starting", "ready", "busy", "failed"})


@dataclass(frozen=True)
class Targets:
    """What a command acts on.

    Attributes:
        ids: The ids.
        hidden: Those of them that the filter hides.
        query: The query that chose them, if one did.
        servers: How many of them are servers.
    """

    ids: Sequence[str]
    hidden: Sequence[str] = ()
    query: str | None = None
    servers: int = 0

    @property
    def told(self) -> str:
        """How many they are: a server is named beside the nodes, as everywhere."""
        nodes = plural(len(self.ids) - self.servers, "node")
        if not self.servers:
            return nodes
        servers = "the server" if self.servers == 1 else f"{self.servers} servers"
        return f"{nodes} and {servers}" if len(self.ids) > self.servers else servers


@dataclass(frozen=True)
class Chosen:
    """Rows of the table that are meant, before they are named.

    Attributes:
        rows: The rows.
        shown: Mask of the rows that the filter shows; None for all.
    """

    rows: Rows
    shown: npt.NDArray[np.bool_] | None = None


class OperationsHost(Protocol):
    """What operations need of the controller."""

    def targets(self) -> Chosen:
        """The marks, else the node under the cursor."""

    def marked_rows(self) -> Rows:
        """Rows of the marked nodes."""

    async def settled(self, ids: Sequence[str], pause: float) -> None:
        """Return when none of the nodes is on its way to a process, and a pause is over."""

    def open_command(self, text: str) -> None:
        """Open the command line with a text to complete."""


class Operations:
    """The writing actions, one method each, named after the action's id."""

    def __init__(self, console: ConsoleHost[ControllerHost], workplace: OperationsHost) -> None:
        self._console = console
        self._workplace = workplace
        self.waves_begun: tuple[int, int] | None = None
        self._wave_choices = Choices()

    async def run(self, action_id: str, args: Mapping[str, Any]) -> None:
        """Do an action; what goes wrong is said, never raised."""
        try:
            self._refuse_read_only(action_id)
            await getattr(self, f"do_{action_id}")(**args)
        except RedError as error:
            self._console.say(error.message.split("\n")[0], "error")

    async def do_build(self, query: str | None = None) -> None:
        """Build nodes."""
        targets = await self._targets(query, {str(state) for state in BUILDABLE}, "is virtual or released")
        await self._tell("build", self._addressed(targets))

    async def do_plan(self, query: str | None = None) -> None:
        """Show the plan of a build, then ask."""
        targets = await self._targets(query, {str(state) for state in BUILDABLE}, "is virtual or released")
        plan = await self._console.connection.command("plan", self._addressed(targets))
        placed, _ = told_of(plan)
        lines = plan_lines(plan, 70)
        choices = [Choice("cancel", "Cancel" if placed else "Close")]
        if placed:
            choices.append(Choice("build", f"Build {plural(placed, 'node')}"))
        answer = await self._console.ask(Ask("build plan", lines, choices, tall=len(lines) > 12))
        if answer == "build":
            named = [str(node) for node, _, _ in plan.get("placed") or ()]
            await self._tell("build", {"ids": named} if len(named) == placed else self._addressed(targets))

    async def do_waves(self) -> None:
        """Plan waves, then build one, or one after the other."""
        if self.waves_begun:
            total, done = self.waves_begun
            lines: list[Line] = [((f"Wave {done} of {total} is being built; what is built stays.", "text"),)]
            choices = [Choice("go", "Go on"), Choice("stop", "Build no further wave")]
            if await self._console.ask(Ask("waves", lines, choices)) == "stop":
                self.waves_begun = None
            return
        planner = WavePlanner(
            self._console.mirror, self._console.connection, self._workplace.marked_rows(), self._wave_choices
        )
        answer: Answer | None = await self._console.ask(planner)
        if not planner.error:
            self._wave_choices = planner.choices
        if answer is not None:
            await self._build_waves(answer)

    @property
    def waves_left(self) -> str:
        """Which waves this console has yet to build, which nobody does once it is left."""
        total, done = self.waves_begun or (0, 0)
        if done >= total:
            return ""
        which = f"wave {total}" if done + 1 == total else f"waves {done + 1} to {total}"
        return f"{which} of the {total} that were planned here will not be built"

    async def _build_waves(self, answer: Answer) -> None:
        """Build waves one after the other: the next begins once no node of the one before is on its way."""
        table = self._console.mirror.table
        waves = [await asyncio.to_thread(table.ids.take, rows) for rows in answer.waves]
        total = len(waves)
        try:
            for place, ids in enumerate(waves):
                self.waves_begun = (total, place + 1)
                result = await self._write("build", {"ids": ids})
                told = f"wave {place + 1} of {total}: " if total > 1 else ""
                self._console.say(told + plain(result.get("text") or "accepted"), "good")
                if place + 1 == total:
                    return
                await self._workplace.settled(ids, answer.choices.pause)
                if self.waves_begun is None:
                    self._console.say(f"stopped after wave {place + 1} of {total}")
                    return
        finally:
            self.waves_begun = None

    async def do_wave(self, size: int | None = None, query: str | None = None) -> None:
        """Build the next wave."""
        await self._tell("wave", {"size": size, "query": query})

    async def do_round(self) -> None:
        """Run one round."""
        await self._tell("round", {})

    async def do_run(self, rounds: int | None = None, until: str | None = None) -> None:
        """Run rounds; without a number a form asks how many, and until when."""
        if rounds is None:
            mirror = self._console.mirror
            head: list[Line] = [(("20    until accuracy>0.95    until 14:30    50 until loss<0.1 or +20m", "dim"),)]
            form = Form("run rounds", "", head, lambda text: told_run(text, mirror, time.time()))
            text = await self._console.ask(form)
            if text is None:
                return
            asked = read_run(text)
            rounds, until = asked["rounds"], asked["until"]
        await self._write("run", {"rounds": rounds, "until": until})
        stop = self._console.actions.keys.get("stop")
        how = f"; {key_name(stop[0])} stops after the round in hand" if stop else ""
        self._console.say(f"running {running_words(rounds, until, time.time())}{how}", "good")

    async def do_set(self, values: Mapping[str, Any] | None = None) -> None:
        """Change the next rounds; without values a form shows what there is."""
        if values is None:
            if not self._console.mirror.next_rounds.values:
                raise CommandRefused("this federation does not say what can be changed: its red-tui is older")
            values = await self._console.ask(NextRoundsForm(self._console.mirror))
        if values is not None and not values:
            self._console.say("nothing changes")
        elif values:
            await self._tell("set", {"values": values})

    async def do_train(self, server_args: Any = None, client_args: Any = None) -> None:
        """Begin a session."""
        await self._tell("train", {"server_args": server_args or {}, "client_args": client_args or {}})

    async def do_send(self, header: str | None = None, body: Any = None, to: str | None = None) -> None:
        """Send a message; without a header the command line asks for it."""
        if header is None:
            self._workplace.open_command("send ")
            return
        await self._tell("send", {"header": header, "body": body, "to": to})

    async def do_topology(self, name: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Set another topology; without one the command line asks for it."""
        if name is None:
            self._workplace.open_command("topology ")
            return
        await self._tell("topology", {"rule": {"name": name, **(options or {})}})

    async def _stop_session(self, nodes: int) -> None:
        """End the session, after a question: a node that does not hear is ended."""
        lines: list[Line] = [
            ((f"A session runs with {plural(nodes, 'node')}. STOP reaches each of them;", "text"),),
            (("one that does not come back from its train within 10 s is ended.", "text"),),
        ]
        answer = await self._console.ask(
            Ask("stop the session?", lines, [Choice("cancel", "Let it run"), Choice("stop", "Stop it", "failed")])
        )
        if answer == "stop":
            await self._tell("stop_session", {})

    async def do_stop(self, value: str | None = None) -> None:
        """Stop after the round, asked again, or with `now`, at once; or end a session."""
        talking = self._console.mirror.session
        if talking.running:
            await self._stop_session(talking.nodes)
            return
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
        targets = await self._targets(query, _ENDABLE, "holds a process")
        if self._console.mirror.federation.get("isolation") == "bundle":  # nodes of a bundle share one process
            ends = ("They leave their hosts", "It leaves its host")
        else:
            ends = ("Their processes end", "Its process ends")
        words = (f"{ends[0]}; their state is kept, and b builds them again.",
                 f"{ends[1]}; its state is kept, and b builds it again.")  # fmt: skip
        if await self._confirm("release", "Release", targets, words):
            await self._tell("release", {"ids": list(targets.ids)})

    async def do_remove(self, query: str | None = None) -> None:
        """Remove nodes, after a question."""
        targets = await self._targets(query, None, "is there")
        words = ("They are forgotten, with their state. This cannot be undone.",
                 "It is forgotten, with its state. This cannot be undone.")  # fmt: skip
        if await self._confirm("remove", "Remove", targets, words):
            await self._tell("remove", {"ids": list(targets.ids)})

    async def do_rebuild(self, query: str | None = None) -> None:
        """Rebuild failed nodes: the targets that failed, else all that failed."""
        try:
            ids: list[str] | None = list((await self._targets(query, {"failed"}, "has failed")).ids)
        except CommandRefused:
            if query is not None:
                raise
            ids = None
        await self._tell("rebuild", {"ids": ids})

    async def do_add(self, count: int | None = None, role: str | None = None) -> None:
        """Add virtual nodes; without arguments the command line asks for them."""
        if count is None or role is None:
            self._workplace.open_command("add ")
            return
        await self._tell("add", {"count": count, "role": role})

    # -- inside ----------------------------------------------------------------------------------

    def _refuse_read_only(self, what: str) -> None:
        """Refuse what writes; also where the question was asked before the console became read-only.

        Raises:
            CommandRefused: If this console is read-only.
        """
        actions = self._console.actions
        refused = actions.refused(what)
        if refused is None and actions.read_only and what not in actions:
            refused = f"this console is read-only: no {what}"
        if refused is not None:
            raise CommandRefused(refused)

    async def _write(self, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        self._refuse_read_only(verb)
        return await self._console.connection.command(verb, args)

    async def _tell(self, verb: str, args: Mapping[str, Any]) -> None:
        result = await self._write(verb, args)
        self._console.say(plain(result.get("text") or f"{verb}: accepted"), "good")

    def _addressed(self, targets: Targets) -> dict[str, Any]:
        return {"query": targets.query} if targets.query is not None else {"ids": list(targets.ids)}

    async def _targets(self, query: str | None, states: set[str] | frozenset[str] | None, words: str) -> Targets:
        """The nodes that a query, the marks or the cursor mean, as far as they are in one of `states`."""
        table = self._console.mirror.table
        chosen = self._workplace.targets()
        if query is not None:
            from red_tui.selection import parse

            parsed = parse(query)
            chosen = Chosen(np.flatnonzero(await asyncio.to_thread(parsed.mask, table)))
        rows = chosen.rows
        if states is not None:
            rows = rows[table.in_states([NodeState(state) for state in states])[rows]]
        if not len(rows):
            what = f"what {query!r} matches" if query is not None else "the targets"
            raise CommandRefused(f"none of {what} {words}")
        hidden = rows[~chosen.shown[rows]] if chosen.shown is not None else rows[:0]
        server = [code for code, roles in enumerate(table.roles) if str(roles) == "server"]
        servers = int(np.isin(table.column("role")[rows], server).sum())
        if len(rows) > LARGE:  # a million names take a second
            return Targets(await asyncio.to_thread(table.ids.take, rows), table.ids.take(hidden), query, servers)
        return Targets(table.ids.take(rows), table.ids.take(hidden), query, servers)

    async def _confirm(self, what: str, label: str, targets: Targets, words: tuple[str, str]) -> bool:
        count = len(targets.ids)
        federation = str(self._console.mirror.federation.get("id") or "")
        lines: list[Line] = [((f"{label} {targets.told} of {federation}:", "text"),), ()]
        lines += _named(targets.ids)
        if targets.hidden:
            lines += [(), ((f"The filter hides {len(targets.hidden):,} of them:", "pending"),)]
            lines += _named(targets.hidden, "pending")
        lines += [(), *(((row, "text"),) for row in wrap(words[count == 1], 70))]
        choices = [Choice("cancel", "Cancel"), Choice(what, f"{label} {targets.told}", "failed")]
        return bool(await self._console.ask(Ask(f"{what}?", lines, choices)) == what)


def _named(ids: Sequence[str], style: str = "key") -> list[Line]:
    shown = ", ".join(plain(node_id) for node_id in ids[:MAX_NAMED])
    more = f" and {len(ids) - MAX_NAMED:,} more" if len(ids) > MAX_NAMED else ""
    return [((f"  {row}", style),) for row in wrap(shown + more, 68)]
