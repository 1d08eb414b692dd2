"""Templates of `test_talk`: workers import this without the tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import ray

import red_tui as red


def reach(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Talker(red.FederatedNode):
    """Does what `what` says."""

    def train(self, what: str = "wait", **arguments: Any) -> Any:
        return getattr(self, what)(**arguments)

    def wait(self) -> list[str]:
        """Read until STOP."""
        heard: list[str] = []
        while (message := self.receive(timeout=150)) is not None and message.header != "STOP":
            heard.append(message.header)
        return heard

    def nothing(self) -> None:
        """Come back at once."""

    def flood(self, count: int) -> None:
        for number in range(count):
            self.send("n", number, self.neighbors[0])

    def late(self, count: int) -> list[int]:
        """Read what is left when all has come."""
        reach(lambda: self.red_talk.mailbox.received == count)
        read = []
        while (message := self.receive(block=False)) is not None:
            read.append(message.body)
        return read

    def hold(self, gate: str) -> None:
        """Read nothing until the gate is open."""
        reach(lambda: os.path.exists(gate))

    def dies(self, count: int) -> None:
        """End the process when so many messages wait."""
        reach(lambda: len(self.red_talk.mailbox) >= count)
        os.kill(os.getpid(), signal.SIGKILL)

    def insist(self, count: int) -> str:
        """Send a few messages, and then on until an error says why not."""
        other = self.neighbors[0]
        for number in range(count):
            self.send("n", number, other)
        while True:
            try:
                self.send("more", None, other)
            except red.MessageError as error:
                return error.message
            time.sleep(0.01)

    def ask(self) -> Any:
        """What the directory says, asked by a node."""
        version, ways = ray.get(self.red_talk.directory.ways.remote(self.node_id), timeout=90)
        return version == self.red_talk.version, {name: type(way).__name__ for name, way in ways.items()}

    def ping(self) -> int:
        """Send one message for each word of the supervisor's, as soon as the neighbour can be reached; until STOP."""
        count = 0
        while (message := self.receive(timeout=150)) is not None and message.header != "STOP":
            reach(lambda body=message.body: self._reached(body))
            count += 1
        return count

    def _reached(self, body: Any) -> bool:
        try:
            self.send("ping", body, self.neighbors[0])
        except red.MessageError:
            return False  # it has no process yet, as far as is known here
        return True

    def echo(self) -> int:
        """Answer until STOP; gives how many it answered."""
        count = 0
        while (message := self.receive(timeout=150)) is not None and message.header != "STOP":
            count += 1
            if message.sender != "supervisor":
                self.update_version(count)
            else:
                self.send("ping", message.body)
        return count


class Mean(red.FederatedNode):
    """Adds 1, for gossip."""

    def initial_parameters(self) -> dict[str, Any]:
        import numpy as np

        return {"w": np.zeros(2)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        return red.FitResult({name: value + 1 for name, value in parameters.items()}, 1)
