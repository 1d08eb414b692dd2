"""Templates of `test_messages`: workers import this without the tests."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

import red_tui as red


class Talker(red.FederatedNode):
    """Does what `what` says."""

    def train(self, what: str = "wait", **arguments: Any) -> Any:
        return getattr(self, what)(**arguments)

    def wait(self) -> list[Any]:
        """Read until STOP."""
        heard: list[Any] = []
        while (message := self.receive(timeout=150)) is not None and message.header != "STOP":
            heard.append((message.header, message.sender, message.body))
        return heard

    def wrong(self) -> dict[str, str]:
        """All that is refused, and then what is not."""
        tries: dict[str, tuple[Any, ...]] = {
            "no header": (None, 1, "client_1"),
            "blank header": (" ", 1, "client_1"),
            "header of the end": ("STOP", 1, "client_1"),
            "nobody": ("x", 1, "nobody"),
            "no neighbour": ("x", 1, "client_2"),
            "one of two": ("x", 1, ["client_1", "client_2"]),
            "itself": ("x", 1, self.node_id),
            "lock": ("x", threading.Lock(), "client_1"),
            "to all": ("x", [threading.Lock()], None),
        }
        whys = {}
        for name, (header, body, to) in tries.items():
            try:
                self.send(header, body, to)
            except red.MessageError as error:
                whys[name] = error.message
        for number in range(3):
            self.send("right", number, "client_1")
        return whys

    def tell(self, count: int, size: int) -> tuple[str, ...]:
        """Send to all neighbours that are built, and read as much of each."""
        body, expected = np.zeros(size), 0
        for _ in range(count):
            expected += self.send("n", body)
        for _ in range(expected):
            assert self.receive(timeout=150) is not None
        return self.neighbors
