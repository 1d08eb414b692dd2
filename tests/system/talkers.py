"""A template whose nodes talk."""

from __future__ import annotations

from typing import Any

import red_tui as red


class Talker(red.FederatedNode):
    def train(self, what: str = "echo", **arguments: Any) -> Any:
        return getattr(self, what)(**arguments)

    def count(self) -> int:
        """How many neighbours there are."""
        return len(self.neighbors)

    def echo(self) -> list[str]:
        """Hand what comes on to the neighbours, until STOP."""
        heard = []
        while True:
            message = self.receive(timeout=150)
            assert message is not None
            heard.append(f"{message.header} from {message.sender}")
            if message.header == "STOP":
                return heard
            if message.sender == "supervisor":
                self.send(message.header, message.body)

    def publish(self, value: float) -> list[str]:
        self.update_version({"w": value})
        return self.echo()

    def fall(self) -> None:
        raise ValueError("diverged")

    def test(self, phase: str, **arguments: Any) -> tuple[float, float]:
        return float(self.config.get("node_index")), 1.0
