"""A template whose methods end as a test says: every method that a user writes, and every ending that there is."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import red_tui as red


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even this")


class NoText(Exception):
    def __str__(self) -> Any:
        return 7


class Custom(BaseException):
    pass


def exits() -> None:
    sys.exit(3)


def exits_in_a_fork() -> None:
    """The child exits with 3, the parent sees it and raises."""
    child = os.fork()
    if child == 0:
        sys.exit(3)
    _, status = os.waitpid(child, 0)
    raise RuntimeError(f"the child exited with {os.waitstatus_to_exitcode(status)}")


def recurses() -> None:
    recurses()


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def shouts() -> None:
    raise ValueError("x" * 10_000_000)


ENDINGS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "error": (raising(ValueError("no data")), "ValueError: no data"),
    "exit": (exits, "SystemExit: 3"),
    "exit with words": (raising(SystemExit("bad arguments")), "SystemExit: bad arguments"),
    "interrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "cancelled": (raising(asyncio.CancelledError()), "CancelledError"),
    "generator exit": (raising(GeneratorExit()), "GeneratorExit"),
    "stop iteration": (raising(StopIteration(1)), "StopIteration: 1"),
    "base exception": (raising(Custom("mine")), "Custom: mine"),
    "unprintable": (
        raising(Unprintable()),
        "Unprintable: (its message cannot be read: __str__ raised SystemExit)",
    ),
    "no text": (raising(NoText()), "NoText: (its message cannot be read: __str__ raised TypeError)"),
    "half a character": (raising(ValueError("\ud800")), "ValueError: \\ud800"),
    "too long": (shouts, "ValueError: " + "x" * 2000 + "… (cut: 10,000,000 characters in all)"),
    "recursion": (recurses, "RecursionError: maximum recursion depth exceeded"),
    "fork": (exits_in_a_fork, "RuntimeError: the child exited with 3"),
}
"""Name → what the method does, and what is told of it."""

FINE = "fine"


class Misbehaving(red.FederatedNode):
    """Ends as its config says: `method` in `round`, with the ending of its place among `endings`."""

    def end(self, method: str, round_number: int = 0) -> None:
        told = self.config.get("plan", {})
        if told.get(str(round_number)) == method or told.get("always") == method:
            name = self.config.get("endings")[self.config.node_index % len(self.config.get("endings"))]
            if name == "os._exit":
                os._exit(3)
            if name in ("killed", "terminated"):
                os.kill(os.getpid(), signal.SIGKILL if name == "killed" else signal.SIGTERM)
                threading.Event().wait(30)
            if name != FINE:
                ENDINGS[name][0]()

    def build(self, **kwargs: Any) -> None:
        self.round = 0
        self.end("build")

    def initial_parameters(self) -> dict[str, Any]:
        self.end("initial_parameters", 1)
        return {"w": np.zeros(4, np.float32)}

    def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.FitResult:
        self.round = config["round"]
        self.end("fit", self.round)
        return red.FitResult({"w": parameters["w"] + 1}, 1)

    def evaluate(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.EvaluateResult:
        self.end("evaluate", config["round"])
        return red.EvaluateResult(0.5, 1)

    def get_state(self) -> int:
        self.end("get_state", self.round)
        return self.round

    def set_state(self, state: int) -> None:
        self.end("set_state")

    def train(self, **train_args: Any) -> str:
        self.end("train")
        return "trained"

    def test(self, phase: str, **kwargs: Any) -> tuple[float, float]:
        self.end("test")
        return 1.0, 1.0


class SharedMisbehaving(Misbehaving):
    """What nodes share cannot be built."""

    @classmethod
    def build_shared(cls, config: Any) -> Any:
        sys.exit(3)
