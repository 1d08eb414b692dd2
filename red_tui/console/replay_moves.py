"""Moves a replay: what its actions ask of the link, and how a link that comes again finds where it stood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from red_tui.console.text import duration
from red_tui.errors import RedError

if TYPE_CHECKING:
    from red_tui.console.console_host import ConsoleHost, ControllerHost
    from red_tui.protocol.snapshot import TimeLine


GOING = "going there"


def move(app: ConsoleHost[ControllerHost], action_id: str, args: Mapping[str, Any]) -> None:
    """Do an action of a replay; what goes wrong is said.  What needs an argument and has none is typed."""
    if action_id in ("at", "speed") and not args and app.controller is not None:
        app.controller.open_command(f"{action_id} ")
    else:
        app.run_worker(_ask(app, action_id, args), name=action_id, group="replay")


async def _ask(app: ConsoleHost[ControllerHost], action_id: str, args: Mapping[str, Any]) -> None:
    try:
        told = await app.connection.command("replay", {"act": action_id, **args})
    except RedError as error:
        app.say(error.message.split("\n")[0], "error")
        return
    if told.get("text"):
        app.say(str(told["text"]))
    elif app.footer.message.startswith(GOING):
        app.say("")  # it is there


def progress_words(push: Mapping[str, Any]) -> str:
    """How far a long way is, and how long it still takes."""
    done, of, left = int(push.get("done") or 0), int(push.get("of") or 0), float(push.get("left") or 0.0)
    return f"{GOING}: {done:,} of {of:,} events, {duration(max(1, round(left)))} left"


def standing(line: TimeLine) -> dict[str, Any]:
    """Arguments of the link's `open` that bring another link where this one stood."""
    moment = {"end": "end", "following": "end"}.get(line.state) or (f"event {line.event}" if line.event else "begin")
    speed = "max" if line.speed is None else f"{line.speed:g}"
    return {"at": moment, "speed": speed, "playing": line.state != "paused", "idle": line.idle or 0.0}
