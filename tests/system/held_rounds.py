"""A federation whose rounds go on by themselves and can be held in the middle of one."""

from __future__ import annotations

from pathlib import Path

import red_tui
from tests.system.support import Home, eventually, write_layout

HELD = """\
import time
from pathlib import Path

import numpy as np
import red_tui as red


class Held(red.FederatedNode):
    def initial_parameters(self):
        return {"w": np.zeros(3)}

    def fit(self, parameters, config):
        hold = Path(self.config.get("hold"))
        until = time.monotonic() + 120
        while hold.exists() and time.monotonic() < until:
            hold.with_name("held").touch()
            time.sleep(0.02)
        time.sleep(0.1)  # what learning takes: rounds that pass in no time are thousands by the end of a test
        return red.FitResult({"w": parameters["w"] + 1.0}, 1)

    def evaluate(self, parameters, config):
        return red.EvaluateResult(1.0 / (1.0 + float(parameters["w"][0])), 1, {})
"""


class Rounds:
    """A federation whose rounds can be held in the middle."""

    def __init__(self, home: Home, folder: Path, fed_id: str) -> None:
        self._hold = folder / "hold"
        path = write_layout(
            folder / "layout.yaml",
            fed_id,
            template="held_nodes:Held",
            more=[("{local_epochs: 1}", f"{{hold: {self._hold}}}")],
        )
        path.with_name("held_nodes.py").write_text(HELD)
        up = home.red("up", str(path))  # not from here: this process did not bring the module along when it connected
        assert up.code == 0, up.err
        self.client = red_tui.attach(fed_id, connected=True)
        self.client.build()

    def hold(self) -> int:
        """Hold the round that runs, or the next one; gives how many are done."""
        self._hold.with_name("held").unlink(missing_ok=True)
        self._hold.touch()
        eventually(self._hold.with_name("held").exists, "a node is in the middle of a round")
        assert self.client.running
        return self.done

    def go_on(self) -> None:
        """Let rounds end again."""
        self._hold.unlink()

    @property
    def done(self) -> int:
        return int(self.client.status()["round"])

    def numbers(self) -> list[int]:
        return [one.number for one in self.client.history]
