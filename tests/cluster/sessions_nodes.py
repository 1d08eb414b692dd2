"""Templates of `test_sessions`: workers import this without the tests."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np

import red_tui as red


class Talker(red.FederatedNode):
    """Does what `what` says."""

    def train(self, what: str = "wait", **arguments: Any) -> Any:
        return getattr(self, what)(**arguments)

    def wait(self) -> list[str]:
        """Read until STOP."""
        heard = []
        while True:
            message = self.receive(timeout=150)
            assert message is not None
            heard.append(f"{message.header} from {message.sender}")
            if message.header == "STOP":
                return heard

    def token(self, rounds: int) -> int:
        """Hand a token on round a ring; gives how often it was seen."""
        place, count = int(self.node_id.rpartition("_")[2]), self.config.get("num_nodes")
        following, seen = f"client_{(place + 1) % count}", 0
        if place == 0:
            self.send("token", 1, following)
        while True:
            message = self.receive(timeout=150)
            assert message is not None, "the token is lost"
            assert message.header in ("token", "end")
            if message.header == "end":
                if place < count - 1:
                    self.send("end", message.body, following)
                return seen
            seen += 1
            assert message.body == (seen - 1) * count + place + (count if place == 0 else 0)
            if place == 0 and seen == rounds:
                self.send("end", message.body, following)
                return seen
            self.send("token", message.body + 1, following)

    def mortal(self, rounds: int, dies: str) -> int:
        """Hand a token on; one node's process ends once, when what it sent has arrived."""
        place, count = int(self.node_id.rpartition("_")[2]), self.config.get("num_nodes")
        following, last, born = f"client_{(place + 1) % count}", 0, not os.path.exists(dies)
        if place == 0:
            self.send("token", 1, following)
        while True:
            message = self.receive(timeout=150)
            assert message is not None, "the token is lost"
            if message.header == "end":
                if place < count - 1:
                    self.send("end", message.body, following)
                return last
            assert message.body > last and message.body % count == place
            assert message.body == last + count or not last
            last = message.body
            if place == 0 and last == rounds * count:
                self.send("end", last, following)
                return last
            self.send("token", last + 1, following)
            if place == count - 2 and born and last > rounds * count // 2:
                self.red_talk.settle()
                open(dies, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)

    def publish(self, size: int) -> float:
        """Send an array to all neighbours and add up theirs."""
        self.send("array", np.full(size, float(self.config.get("node_index"))))
        total = 0.0
        for _ in self.neighbors:
            message = self.receive(timeout=150)
            assert message is not None and message.body.shape == (size,)
            total += float(message.body[0])
        return total

    def flood(self, count: int) -> list[int]:
        """One sends more than a mailbox holds; the other begins to read late."""
        other = self.neighbors[0]
        if self.node_id == "client_0":
            for number in range(count):
                self.send("n", number, other)
            return []
        read = []
        while len(read) < count:
            message = self.receive(timeout=150)
            assert message is not None
            read.append(message.body)
        return read

    def wrong(self, header: Any, to: Any = None, body: str = "plain") -> None:
        """Send what cannot be sent."""
        self.send(header, {"plain": 1, "lock": threading.Lock()}[body], to)

    def raises(self) -> None:
        raise ValueError("diverged")

    def nothing(self) -> None:
        """Come back at once."""

    def deaf(self) -> None:
        threading.Event().wait()

    def versions(self) -> None:
        self.update_version({"w": np.ones(3)})
        self.wait()

    def seen(self) -> Any:
        """Who the neighbours are once the topology has changed."""
        while True:
            message = self.receive(timeout=150)
            assert message is not None
            if message.header == "look":
                return list(self.neighbors)

    def test(self, phase: str, **arguments: Any) -> tuple[float, float]:
        return float(self.config.get("node_index")), 1.0 + arguments.get("more", 0)
