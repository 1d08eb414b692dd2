"""Ray's reasons for the end of an actor, in an operator's words."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """Why a node failed: one line for a row, the traceback for its detail."""

    text: str
    traceback: str = ""
    died: bool = False
    """Whether the process is gone (a `fit` that raised leaves it alive)."""


_SPACES = re.compile(r"\s+")


def cause_of_death(error: BaseException) -> Cause:
    """What the failure of a call to an actor says about its process."""
    text = str(error)
    low = text.lower()
    if "creation task" in low or "constructor" in low or "__init__" in low:
        raised = [line for line in text.strip().splitlines() if line.strip()]
        return Cause(f"its constructor raised: {raised[-1].strip() if raised else text}", text, died=True)
    # Ray lists the OOM killer among the guesses for every sudden end: only its own memory monitor is sure.
    if "running low on memory" in low or "outofmemory" in type(error).__name__.lower():
        return Cause(f"out of memory: {first_sentence(_memory(text))}", text, died=True)
    if "node_died" in low or "node died" in low or "its node has died" in low or "the node it was on" in low:
        return Cause("host lost: the machine that ran it left the cluster", text, died=True)
    if "ray.kill" in low or "intended_system_exit" in low or "intended_user_exit" in low:
        return Cause("the process was ended on purpose (ray.kill or exit)", text, died=True)
    if "owner has died" in low or "owner died" in low:
        return Cause("the process that owned it is gone", text, died=True)
    if "connection error code 2" in low or "sigkill" in low or "unexpectedly" in low:
        return Cause(
            "the process ended without a word: killed by a signal (SIGKILL, the kernel out of memory) or crashed",
            text,
            died=True,
        )
    return Cause(first_sentence(text), text, died=True)


def first_sentence(text: str, limit: int = 200) -> str:
    """The beginning of a text as one line of at most `limit` characters."""
    flat = _SPACES.sub(" ", text).strip()
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _memory(text: str) -> str:
    """The sentence of Ray's memory monitor that has the figures."""
    return next((line for line in text.splitlines() if "memory" in line.lower()), text)
