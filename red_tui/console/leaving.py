"""Leaving: what is asked about an embedded cluster, and the last word on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from red_tui.console.dialogs import Ask, Choice
from red_tui.console.lines import Line, wrap
from red_tui.console.session import Phase
from red_tui.console.text import plain
from red_tui.errors import CommandRefused, RedError

if TYPE_CHECKING:
    from red_tui.console.app import RedConsole

ASK_SECONDS = 1.0
LEAVE_SECONDS, STOP_SECONDS = 2.0, 60.0


async def leave(app: RedConsole, embedded: bool) -> str | None:
    """Leave the federation, after a question where there is one to ask.

    Returns:
        The last word for the terminal; None if the operator stays.
    """
    waves = app.desk.operations.waves_left if app.desk is not None else ""
    answer = {"keep": "keep", "stop": "stop"}.get(app.options.leave_cluster, "keep")
    embedded = embedded and app.session.phase in (Phase.LIVE, Phase.LOST)
    if embedded and app.options.leave_cluster == "asks" and not app.actions.read_only:
        answer = await app.ask(await _question(app, waves)) or "stay"
    if answer == "stay":
        return None
    stop = answer == "stop"
    if stop and app.actions.read_only:  # it may have become so while the question stood there
        app.say("this console is read-only: it stops no cluster", "error")
        return None
    if stop:
        app.say("stopping the cluster…")
        app.session.leaving = True
    if not app.session.opened:
        return ""
    told: Any = None
    try:
        told = await app.session.ask("leave", timeout=STOP_SECONDS if stop else LEAVE_SECONDS, stop_cluster=stop)
    except CommandRefused as error:
        app.session.leaving = False
        app.say(error.message, "error")
        return None
    except RedError:
        pass  # a link that does not answer keeps nobody here
    if stop:
        text = plain(told.get("text") or "") if isinstance(told, dict) else "`red-console down --all` makes sure of it"
        return f"the cluster is stopped{'; ' if text else ''}{text}"
    name = "" if app.actions.replay else _name(app)
    if not name or app.options.address is not None:
        return waves
    return f"{name} goes on; `red-console {name}` opens it again{'; ' if waves else ''}{waves}"


def _name(app: RedConsole) -> str:
    mirror = app.session.mirror
    return str(mirror.federation.get("id") or "") if mirror is not None else ""


async def _question(app: RedConsole, waves: str) -> Ask:
    name = _name(app) or "the federation"
    ends = ", ".join(await _ends(app)) or f"{name}, and whatever else runs in it"
    texts = (
        ("The cluster on this machine was started by red-console.", "text"),
        (f"Left running, {name} goes on, and red-console finds it again.", "text"),
        (f"Stopped, it ends with {ends}.", "pending"),
        *([(f"Either way {waves}.", "pending")] if waves else []),
    )
    lines: list[Line] = [((row, style),) for text, style in texts for row in wrap(text, 70)]
    choices = [
        Choice("keep", "Leave it running"),
        Choice("stop", "Stop the cluster", "failed"),
        Choice("stay", "Stay here"),
    ]
    return Ask("leave", lines, choices, hint="tab chooses, enter answers, esc stays")


async def _ends(app: RedConsole) -> list[str]:
    """The federations that would end with the cluster, with their processes."""
    if app.session.phase is not Phase.LIVE:
        return []
    try:
        answer = await app.session.ask("federations", timeout=ASK_SECONDS)
        rows = [(plain(row["id"]), len(row.get("alive") or ())) for row in answer["federations"]]
    except (RedError, KeyError, TypeError):
        return []
    return [f"{name} ({count:,} {'process' if count == 1 else 'processes'})" for name, count in rows]
