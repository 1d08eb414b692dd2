"""Faults: how each of them is done to a federation, and how it is undone."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import ray

from red_tui.supervisor.registry import supervisor_of
from tests.chaos import clock
from tests.chaos.scene import eventually
from tests.chaos.schedules import Fault, Step

if TYPE_CHECKING:
    from tests.chaos.play import Play

Mend = Callable[[], None]

FREEZE = float(os.environ.get("CHAOS_FREEZE", "1.0"))
"""Seconds that a frozen process stands still: `CHAOS_FREEZE=60 make chaos`."""

RAYLET_FREEZE = 0.3
"""Seconds for a raylet: one that stands still for longer is given up by its cluster, which is `host lost`."""

CLOCK_STEP = 3600.0
"""Seconds by which clocks step, ahead or back, and back again."""


@dataclass
class Strike:
    """A fault with the one who plays it: it comes to its moment, and waits there or does what it was told.

    Attributes:
        fault: What the schedule asks for.
        how: How it is done.
        step: When.
        actor: Node id, or `server`.
        act: What the actor is told to do.
        pid: Its process, once it has come to its moment.
    """

    fault: Fault
    how: Injector
    step: Step
    actor: str
    act: str
    pid: int = 0


@dataclass(frozen=True)
class Injector:
    """How a fault is done.

    Attributes:
        hit: Does it, while its actor is at its moment; gives what undoes it after the round.
        act: What the actor is told to do.
        takes_node: Whether its actor is its victim.
        lets_go: Whether the actor goes on as soon as all faults have struck.
        raises: Whether the actor fails and lives on.
        brief: Whether it is undone as soon as all faults have struck, if it is not the only one: the others cannot
            be got over before.
        confirm: Whether the fault has taken place, asked when the round is over.
    """

    hit: Callable[[Play, Strike], Mend | None]
    act: str = "wait"
    takes_node: bool = True
    lets_go: bool = True
    raises: bool = False
    brief: bool = False
    confirm: Callable[[Play, Strike], bool] = lambda play, strike: True


def process_ended(play: Play, strike: Strike) -> bool:
    """Whether the process in which the actor was has gone."""
    return not alive(strike.pid, play.stage.pids()[strike.pid])


def round_went_without(reason: str) -> Callable[[Play, Strike], bool]:
    """Whether the journal says that the round did without the actor, and why."""

    def told(play: Play, strike: Strike) -> bool:
        if len(strike.step.faults) > 1:
            # What else struck may have made it run the round again, and the actor had been told but once.
            return True
        rounds = [one for one in play.journal().rounds if one["number"] == strike.step.round]
        return all(reason in one["failures"].get(strike.actor, "") for one in rounds)

    return told


def alive(pid: int, born: float) -> bool:
    """Whether a process still is the one that was born then, and no zombie."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return abs(process.create_time() - born) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return False


def send(strike: Strike, pid: int, signal_number: int) -> bool:
    """Send a signal to a process; False if another fault of the same moment has ended it already.

    A host that is lost takes whoever waits on it along, and a server that is to be frozen may have been killed.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)
        return True
    assert len(strike.step.faults) > 1, f"the process of {strike.fault.kind} ({pid}) ended before anybody struck it"
    return False


def kill(play: Play, strike: Strike) -> None:
    """SIGKILL the process in which the actor waits."""
    assert strike.pid in play.stage.pids()
    send(strike, strike.pid, signal.SIGKILL)


def kill_server(play: Play, strike: Strike) -> None:
    """SIGKILL the server, wherever in the round it is."""
    if strike.actor != "server":
        strike.pid = int(play.ask(lambda client: client.node("server"))["pid"])
    kill(play, strike)


def nothing_more(play: Play, strike: Strike) -> None:
    """The actor does it to itself."""


def kill_supervisor(play: Play, strike: Strike) -> None:
    """SIGKILL the supervisor; Ray starts it anew."""
    strike.pid = play.supervisor()
    os.kill(strike.pid, signal.SIGKILL)


def end_supervisor(play: Play, strike: Strike) -> None:
    """End the supervisor for good: what is left is an orphan, and an operator adopts it."""
    strike.pid = play.supervisor()
    ray.kill(supervisor_of(play.federation.fed_id), no_restart=True)
    play.adopt()


def supervisor_replaced(play: Play, strike: Strike) -> bool:
    """Whether another process is the supervisor now."""
    return play.supervisor() != strike.pid and not alive(strike.pid, play.supervisors[strike.pid])


def lose_host(play: Play, strike: Strike) -> None:
    """SIGKILL the raylet of a host with all that runs there; another host joins the cluster."""
    play.scene.lose_host(strike.fault.victim)


def lose_cluster(play: Play, strike: Strike) -> None:
    """SIGKILL all hosts; on another cluster an operator goes on with what the federation's folder holds."""
    strike.pid = play.supervisor()
    play.scene.lose_all()
    play.adopt()


def fill_disk(play: Play, strike: Strike) -> Mend:
    """No file of the supervisor or of its checkpoints grows; at the end of the round the disk is free again."""
    processes = [psutil.Process(play.supervisor()), *checkpoint_processes()]
    _, hard = processes[0].rlimit(resource.RLIMIT_FSIZE)
    for process in processes:
        process.rlimit(resource.RLIMIT_FSIZE, (1, hard))

    def free() -> None:
        note = play.ask(lambda client: client.snapshot()).get("note", "")
        for process in processes:
            # One that saves checkpoints may have been replaced meanwhile.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert "cannot be written" in note, f"no standing warning while the disk is full: {note!r}"

    return free


def checkpoint_processes() -> list[psutil.Process]:
    """The process that saves checkpoints; none before the first is saved."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        environment = process.info["environ"] or {}
        mine = environment.get("TMPDIR") == os.environ["TMPDIR"]
        if mine and any("CheckpointWriter" in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


def kill_checkpoints(play: Play, strike: Strike) -> None:
    """SIGKILL the process that saves checkpoints."""
    for process in checkpoint_processes():
        process.kill()


def freeze(strike: Strike, pid: int, seconds: float) -> None:
    """Let a process stand still for a while, whatever else happens."""
    if not send(strike, pid, signal.SIGSTOP):
        return

    def thaw() -> None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    threading.Thread(target=thaw, name=f"thaws {pid}").start()


def freeze_actor(play: Play, strike: Strike) -> None:
    """The process in which the actor waits stands still for a while."""
    assert strike.pid in play.stage.pids()
    freeze(strike, strike.pid, FREEZE)


def freeze_server(play: Play, strike: Strike) -> None:
    """The server stands still for a while."""
    freeze(strike, int(play.ask(lambda client: client.node("server"))["pid"]), FREEZE)


def freeze_supervisor(play: Play, strike: Strike) -> None:
    """The supervisor stands still for a while."""
    freeze(strike, play.supervisor(), FREEZE)


def freeze_checkpoints(play: Play, strike: Strike) -> None:
    """The process that saves checkpoints stands still for a while."""
    for process in checkpoint_processes():
        freeze(strike, process.pid, FREEZE)


def freeze_raylet(play: Play, strike: Strike) -> None:
    """The raylet of a host stands still for a moment."""
    freeze(strike, play.scene.raylet(strike.fault.victim), RAYLET_FREEZE)


def step_clock(play: Play, strike: Strike) -> Mend:
    """Clocks of the cluster's processes are an hour ahead, or behind; after the round they are right again."""
    seconds = CLOCK_STEP if strike.fault.victim % 2 else -CLOCK_STEP
    clock.step(play.scene.folder, seconds)

    def differs() -> bool:
        return abs(play.ask(lambda client: client.snapshot())["time"] - time.time() - seconds) < CLOCK_STEP / 2

    eventually(differs, "the supervisor's clock has stepped")
    return lambda: clock.step(play.scene.folder, 0.0)


def silence_head(play: Play, strike: Strike) -> Mend:
    """The cluster's control service stands still until the round is over."""
    pid = play.scene.head_service()
    os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        # It may have been killed meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return go_on


def kill_head(play: Play, strike: Strike) -> None:
    """SIGKILL the cluster's control service; another comes up on its address, with what it had kept."""
    before = play.scene.head_service()
    play.scene.lose_head_service()
    eventually(lambda: play.scene.head_service() != before, "the head is back")


FAULTS: dict[str, Injector] = {
    "node killed": Injector(kill, confirm=process_ended),
    "node left": Injector(nothing_more, act="leave", confirm=process_ended),
    "node killed for its memory": Injector(nothing_more, act="fill and be killed", confirm=process_ended),
    "node out of memory": Injector(nothing_more, act="fill", raises=True, confirm=round_went_without("MemoryError")),
    "node hangs": Injector(nothing_more, lets_go=False, confirm=round_went_without("deadline")),
    "host killed": Injector(kill, confirm=process_ended),
    "host killed for its memory": Injector(nothing_more, act="fill and be killed", confirm=process_ended),
    "server killed": Injector(kill_server, takes_node=False, confirm=process_ended),
    "supervisor killed": Injector(kill_supervisor, takes_node=False, confirm=supervisor_replaced),
    "supervisor gone": Injector(end_supervisor, takes_node=False, confirm=supervisor_replaced),
    "host lost": Injector(lose_host, takes_node=False),
    "cluster lost": Injector(lose_cluster, takes_node=False, confirm=supervisor_replaced),
    "disk full": Injector(fill_disk, takes_node=False),
    "node frozen": Injector(freeze_actor),
    "host frozen": Injector(freeze_actor),
    "server frozen": Injector(freeze_server, takes_node=False),
    "supervisor frozen": Injector(freeze_supervisor, takes_node=False),
    "checkpoints frozen": Injector(freeze_checkpoints, takes_node=False),
    "checkpoints killed": Injector(kill_checkpoints, takes_node=False),
    "raylet frozen": Injector(freeze_raylet, takes_node=False),
    "clock steps": Injector(step_clock, takes_node=False),
    "head silent": Injector(silence_head, takes_node=False, brief=True),
    "head killed": Injector(kill_head, takes_node=False),
}
