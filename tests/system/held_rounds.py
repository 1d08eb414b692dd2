"""A federation whose rounds go on by themselves and can be held in the middle of one."""

from __future__ import annotations

from pathlib import Path

import red_tui
from tests.system.support import Home, eventually, write_layout

NODES = 2
"""Of the layout: both take part in each round."""

HELD = """\
import time
from pathlib import Path

import numpy as np
import red_tui as red


def is_held(hold, number):
    try:
        return number >= int(hold.read_text())
    except FileNotFoundError:
        return False


class Held(red.FederatedNode):
    def initial_parameters(self):
        return {"w": np.zeros(3)}

    def fit(self, parameters, config):
        hold = Path(self.config.get("hold"))
        until = time.monotonic() + 300
        while is_held(hold, config["round"]) and time.monotonic() < until:
            hold.with_name(f"held-{config['round']}-{self.node_id}").touch()
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
        """Hold a round with all its nodes in the middle of it; gives how many are done."""
        for old in self._held():
            old.unlink()
        self._hold_from(0)
        eventually(self._held, "a node is in the middle of a round")
        # The others of its round may have passed before: the next round has not begun while this one is held.
        number = int(self._held()[0].name.split("-")[1]) + 1
        self._hold_from(number)
        eventually(lambda: len(self._held(number)) == NODES, "all nodes are in the middle of the next round")
        assert self.client.running
        return self.done

    def _held(self, number: int | str = "*") -> list[Path]:
        return list(self._hold.parent.glob(f"held-{number}-*"))

    def _hold_from(self, number: int) -> None:
        """Nodes of this round and of later ones wait; the file is there whole at any time."""
        fresh = self._hold.with_name("hold.new")
        fresh.write_text(str(number))
        fresh.replace(self._hold)

    def go_on(self) -> None:
        """Let rounds end again."""
        self._hold.unlink()

    @property
    def done(self) -> int:
        return int(self.client.status()["round"])

    def numbers(self) -> list[int]:
        return [one.number for one in self.client.history]
