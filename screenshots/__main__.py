"""`python -m screenshots`: pictures of the real console on a real federation, in `screenshots/*.svg`.

The console runs headless with its real link on a local Ray of its own; keys are pressed, conditions are
waited for, and each picture is exported from what the screen shows then.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TIMEOUT = 90.0


def main() -> None:
    home = tempfile.mkdtemp(prefix="red-shots-")
    os.environ.update({"RED_HOME": home, "LOGNAME": "op", "LANG": "C.UTF-8", "TEXTUAL_ANIMATIONS": "none"})
    os.environ.pop("RAY_ADDRESS", None)
    from red_tui.supervisor.local_cluster import stop_cluster

    try:
        asyncio.run(pictures(Path(home)))
    finally:
        stop_cluster()
        shutil.rmtree(home, ignore_errors=True)


async def until(pilot: Any, condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {TIMEOUT:g} s: {what}")
        await pilot.pause(0.05)
    await pilot.pause(0.6)


def save(app: Any, name: str) -> None:
    svg = app.export_screenshot(title="red-console")
    (HERE / f"{name}.svg").write_text(svg, encoding="utf-8")
    print(f"screenshots/{name}.svg")


async def pictures(home: Path) -> None:
    layout = home / "digits.yaml"
    from red_tui.layout import resolve

    # A node that is killed for the picture stays failed in it.
    layout.write_text(resolve("digits").read_text().replace("policy: rebuild", "policy: leave"))
    await crowd()
    await gossip()
    await wide(layout)
    await replay()
    await narrow()


async def crowd() -> None:
    """Ten thousand nodes in hosts, after some rounds with a hundred of them each."""
    from red_tui.console.app import RedConsole
    from red_tui.console.config.options import ConsoleOptions

    app = RedConsole(ConsoleOptions(layout="crowd", cpus=8, remember=False, ascii=False))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: counts(app).get("virtual", 0) > 10_000 and app.controller is not None, "the crowd")
        await pilot.press("colon", *"run 30", "enter")
        await until(pilot, lambda: len(app.connection.mirror.rounds) >= 30, "thirty rounds are done")
        await until(pilot, lambda: not app.footer.message, "the end of the run has been told")
        save(app, "crowd")
        await pilot.press("2")
        await pilot.pause(0.8)
        save(app, "crowd-rounds")
        await app.link.call("down", {}, timeout=60)


async def gossip() -> None:
    """Twelve nodes that mix their models with four neighbours each."""
    from red_tui.console.app import RedConsole
    from red_tui.console.config.options import ConsoleOptions

    app = RedConsole(ConsoleOptions(layout="gossip", cpus=8, remember=False, ascii=False))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: counts(app).get("virtual", 0) == 13 and app.controller is not None, "the peers")
        await pilot.press("colon", *"run 5", "enter")
        await until(pilot, lambda: len(app.connection.mirror.rounds) >= 5, "five rounds are done")
        await pilot.press("4")
        await until(pilot, lambda: app.controller.views.current.graph is not None, "the graph is told")
        await pilot.press("right", "down")
        await pilot.pause(0.8)
        save(app, "topology")
        await app.link.call("down", {}, timeout=60)


async def wide(layout: Path) -> None:
    from red_tui.console.app import RedConsole
    from red_tui.console.config.options import ConsoleOptions

    app = RedConsole(ConsoleOptions(layout=str(layout), cpus=8, remember=False, ascii=False))
    async with app.run_test(size=(120, 36)) as pilot:
        mirror = app.connection
        await until(
            pilot, lambda: app.controller is not None and counts(app).get("virtual") == 9, "the federation is there"
        )
        save(app, "first")
        await pilot.press("W")
        await pilot.pause(1.5)
        save(app, "planner")
        await pilot.press("escape", "w")
        await until(pilot, lambda: counts(app).get("ready") == 8, "the wave is built")
        await pilot.press("colon", *"run 20", "enter")
        await until(pilot, lambda: len(mirror.mirror.rounds) >= 20, "twenty rounds are done")
        row = mirror.mirror.table.row_of("client_2")
        asked = {"verb": "detail", "args": {"id": "client_2"}, "command_id": "shot"}
        detail = await app.link.call("command", asked, timeout=10)
        os.kill(int(detail["pid"]), signal.SIGKILL)
        await until(pilot, lambda: str(mirror.mirror.table.state_of(row)) == "failed", "the death is seen")
        await pilot.press("slash", *"state:failed", "enter")
        await pilot.pause(0.5)
        await pilot.press("escape")
        await pilot.pause(0.8)
        save(app, "grid")
        for key, name in (("2", "rounds"), ("3", "placement"), ("6", "nodes"), ("5", "events")):
            await pilot.press(key)
            await pilot.pause(0.8)
            save(app, name)
        await pilot.press("1", "question_mark")
        await pilot.pause(0.5)
        save(app, "help")
        await pilot.press("escape", "x")
        await pilot.pause(0.5)
        save(app, "question")
        await pilot.press("escape")


async def replay() -> None:
    """What happened so far, at the end of a round, from the journal alone."""
    from red_tui.console.app import RedConsole
    from red_tui.console.config.options import ConsoleOptions
    from red_tui.replay.timeline import journal_path

    journal = str(journal_path("digits"))
    app = RedConsole(ConsoleOptions(replay=journal, at="round 12", read_only=True, ascii=False, remember=False))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(
            pilot, lambda: app.controller is not None and len(app.connection.mirror.rounds) == 12, "the twelfth round"
        )
        await pilot.press("2")
        await until(pilot, lambda: "median" in app.detail.text, "it is told how the nodes did")
        save(app, "replay")


async def narrow() -> None:
    from red_tui.console.app import RedConsole
    from red_tui.console.config.options import ConsoleOptions
    from red_tui.supervisor.local_cluster import stop_cluster

    app = RedConsole(ConsoleOptions(federation="digits", remember=False, ascii=True))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: counts(app).get("ready", 0) >= 8, "attached")
        save(app, "narrow-ascii")
        await asyncio.get_running_loop().run_in_executor(None, stop_cluster)
        await until(pilot, lambda: app.connection.phase.name == "LOST", "the cluster is lost")
        await until(pilot, lambda: "the link" not in app.banner.text, "another link has looked for the cluster")
        save(app, "disconnected")


def counts(app: Any) -> dict[str, int]:
    mirror = app.connection.mirror
    return {str(state): count for state, count in mirror.table.counts().items()} if mirror is not None else {}


if __name__ == "__main__":
    main()
