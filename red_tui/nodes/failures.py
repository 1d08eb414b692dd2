"""Ray's reasons for the end of an actor, in an operator's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cause:
    """Why a node failed: one line for a row, the traceback for its detail."""

    text: str
    traceback: str = ""
    died: bool = False
    """Whether the process is gone (a `fit` that raised leaves it alive)."""
    unsure: bool = False
    """Whether Ray only lost the connection: ask the actor again, and it says what became of it."""


_SPACES = re.compile(r"\s+")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MEMORY = re.compile(r"(\d[\d.]*) ?GB(?: used)? / (\d[\d.]*) ?GB")
_MEMORY_HOST = re.compile(r"Memory on the node \(IP: ([^,)]+)")
_MEMORY_OWN = re.compile(r"actual memory used=(\d[\d.]*) ?GB")
_HOST = re.compile(r"(?:^|\n)\s*ip: (\S+)|Node IP: ([^,\s]+)")
_NODE_REASON = re.compile(r"node was terminated (?:un)?expectedly: ([^\n]+)")
_NAME_TAKEN = re.compile(r"The name (\S+) \(namespace=[^)]*\) is already taken")
_UNAVAILABLE = re.compile(r"RPC error: (.+?) rpc_code")
_NOT_SCHEDULABLE = re.compile(r"is not schedulable: (.*)", re.DOTALL)

TEXT_PART = 8_000
"""Characters from the beginning, and as many from the end, that are kept of an error's text."""

_CONTAINED = "red_tui.nodes.user_code.ContainedError: "

HOST_LOST = "host lost"
ENDED = "the process ended without a word"


def cause_of_death(error: BaseException) -> Cause:
    """What the failure of a call to an actor says about its process."""
    text = _COLOUR.sub("", _whole(error)).replace(_CONTAINED, "")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    low = text.lower()
    for applies, tell in _REASONS:
        if applies(kinds, low):
            return Cause(tell(text), text, died=not kinds & _ALIVE, unsure="ActorUnavailableError" in kinds)
    return Cause(first_sentence(text or type(error).__name__), text, died=not kinds & _ALIVE)


def _whole(error: BaseException) -> str:
    """The text of an error: of one that is very long the beginning and the end, which say where and what."""
    text = str(error)
    if len(text) <= 2 * TEXT_PART:
        return text
    return f"{text[:TEXT_PART]}\n… (cut: {len(text):,} characters in all)\n{text[-TEXT_PART:]}"


def cause_of_exit(report: Mapping[str, Any]) -> Cause:
    """What an actor said of itself when somebody called `os._exit` in it; see `ExitWatch`."""
    return Cause(f"{report['where']} called os._exit({report['code']})", str(report["traceback"]), died=True)


def is_host_lost(cause: Cause) -> bool:
    """Whether a process died with its host."""
    return cause.died and cause.text.startswith(HOST_LOST)


def first_sentence(text: str, limit: int = 200) -> str:
    """The beginning of a text as one line of at most `limit` characters."""
    flat = _SPACES.sub(" ", text).strip()
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


# -- what Ray says, as sentences -------------------------------------------------------------------


def _constructor(text: str) -> str:
    return f"its constructor raised: {first_sentence(_raised(text), 400)}"


def _method(text: str) -> str:
    return f"raised {first_sentence(_raised(text), 400)}"


def _raised(text: str) -> str:
    """The exception at the end of a traceback: its type and all lines of its message."""
    lines = text.strip().splitlines()
    last_frame = max((number for number, line in enumerate(lines) if line.startswith(" ")), default=-1)
    return "\n".join(lines[last_frame + 1 :]) or lines[-1].strip()


def _memory(text: str) -> str:
    figures, host, own = _MEMORY.search(text), _MEMORY_HOST.search(text), _MEMORY_OWN.findall(text)
    if figures is None:
        return f"out of memory: {first_sentence(_line_with(text, 'memory'))}"
    where = f"host {host.group(1)}" if host else "its host"
    # Several processes may have been ended at once, and the text does not say which of them was this one.
    this = f", this process {own[0]} GB of it" if len(own) == 1 else ""
    return (
        f"out of memory: {where} had {figures.group(1)} of {figures.group(2)} GB in use{this};"
        " Ray ended it to protect the host"
    )


def _host_lost(text: str) -> str:
    host, reason = _HOST.search(text), _NODE_REASON.search(text)
    where = f"the machine that ran it ({host.group(1) or host.group(2)})" if host else "the machine that ran it"
    return f"{HOST_LOST}: {where} left the cluster" + (f" ({reason.group(1).strip()})" if reason else "")


def _sudden(text: str) -> str:
    when = " while it started" if "The actor never ran" in text else ""
    return f"{ENDED}{when}: killed by a signal (SIGKILL, the kernel out of memory) or crashed"


def _unavailable(text: str) -> str:
    found = _UNAVAILABLE.search(text)
    detail = first_sentence(found.group(1), 80) if found else "the connection broke"
    return f"its process does not answer ({detail}): it or its host has gone, or it is being restarted"


def _name_taken(text: str) -> str:
    found = _NAME_TAKEN.search(text)
    name = found.group(1) if found else "its name"
    return f"name taken: another actor is called {name}: end it, or use another federation or node id"


def _not_schedulable(text: str) -> str:
    found = _NOT_SCHEDULABLE.search(text)
    return f"cannot be placed: {first_sentence(found.group(1) if found else text)}"


def _environment(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return f"its runtime environment could not be set up: {first_sentence(' '.join(lines[1:]) or text, 400)}"


def _line_with(text: str, word: str) -> str:
    return next((line for line in text.splitlines() if word in line.lower()), text)


# -- which of them applies: the types that are sure first, then Ray's words ------------------------------

_ALIVE = {"RayTaskError", "GetTimeoutError", "TaskCancelledError", "PendingCallsLimitExceeded"}
"""Errors of a call that leave the actor's process alive."""


def _is(*names: str) -> Callable[[set[str], str], bool]:
    return lambda kinds, low: not kinds.isdisjoint(names)


def _says(*parts: str) -> Callable[[set[str], str], bool]:
    return lambda kinds, low: any(part in low for part in parts)


_REASONS: tuple[tuple[Callable[[set[str], str], bool], Callable[[str], str]], ...] = (
    # Ray lists its memory monitor among the guesses for every sudden end, and the monitor's report names the
    # constructors of what it ended: only the type and the report's own words are sure.
    (_is("OutOfMemoryError"), _memory),
    (_says("running low on memory", "node_out_of_memory"), _memory),
    (_is("ActorAlreadyExistsError"), _name_taken),
    (_says("raised in its creation task"), _constructor),
    (_is("RayTaskError"), _method),
    (_is("ActorUnavailableError"), _unavailable),
    (_is("NodeDiedError", "LocalRayletDiedError"), _host_lost),
    (_says("its node has died", "node_died", "node died"), _host_lost),
    (_is("ActorUnschedulableError", "TaskUnschedulableError"), _not_schedulable),
    (_is("RuntimeEnvSetupError"), _environment),
    (
        _is("ActorPlacementGroupRemoved", "TaskPlacementGroupRemoved"),
        lambda text: "its bundle was given back: the placement group was removed",
    ),
    (_says("placement group was removed"), lambda text: "its bundle was given back: the placement group was removed"),
    (
        _says("killed by `ray.kill`", "intended_system_exit", "intended_user_exit"),
        lambda text: "the process was ended on purpose (ray.kill or exit)",
    ),
    (_says("owner has died", "owner died"), lambda text: "the process that owned it is gone"),
    (_is("WorkerCrashedError"), _sudden),
    (_says("connection error code 2", "sigkill", "unexpectedly"), _sudden),
    (_is("GetTimeoutError"), lambda text: "it did not answer in time"),
)
