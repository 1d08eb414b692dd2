"""Templates for tests.  What nodes do is told to them through their config.

Each worker process imports this: nothing that nodes do without is imported here.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import red_tui as red
from red_tui.runtime import batch


class Counting(red.FederatedNode):
    """Adds 1 to the parameters; remembers how many rounds it saw."""

    rounds = 0

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros(8, np.float32)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        self.rounds += 1
        return red.FitResult({name: value + 1 for name, value in parameters.items()}, 10, {"loss": 1.0 / self.rounds})

    def evaluate(self, parameters: dict[str, Any], config: Any) -> red.EvaluateResult:
        return red.EvaluateResult(float(parameters["w"].mean()), 5, {"accuracy": 0.5})

    def get_state(self) -> int:
        return self.rounds

    def set_state(self, state: int) -> None:
        self.rounds = state

    def seen(self) -> int:
        return self.rounds

    def pid(self) -> int:
        return os.getpid()

    def gpus(self) -> list[Any]:
        import ray

        return list(ray.get_gpu_ids())

    def visible_gpus(self) -> list[str]:
        """What a library of GPUs finds in this process."""
        return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "nothing is set").split(",") if name]

    def host(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())


class Weighted(Counting):
    """Returns its own number as parameters, with that number as examples."""

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        number = int(self.node_id.rpartition("_")[2]) + 1
        made = {name: np.full_like(value, number) for name, value in parameters.items()}
        return red.FitResult(made, number, {"loss": float(number)})

    def evaluate(self, parameters: dict[str, Any], config: Any) -> red.EvaluateResult:
        number = int(self.node_id.rpartition("_")[2]) + 1
        return red.EvaluateResult(float(number), number, {"accuracy": number / 10})


class Troubled(Counting):
    """Misbehaves as the config's `trouble` says, if it is the node that `who` names; or as `troubles` says of it."""

    def build(self, **kwargs: Any) -> None:
        if self._is_it("build"):
            raise OSError("no data for this node")
        if self._is_it("slow-build"):
            wait_for(Path(self.config.get("gate")))

    def fit(self, parameters: dict[str, Any], config: Any) -> Any:
        if self._is_it("fit"):
            raise ValueError("gradient exploded")
        if self._is_it("exit"):
            os._exit(7)
        if self._is_it("nan"):
            return red.FitResult({name: value * np.nan for name, value in parameters.items()}, 1)
        if self._is_it("shape"):
            return red.FitResult({name: np.zeros(3) for name in parameters}, 1)
        if self._is_it("none"):
            return None
        if self._is_it("hang"):
            wait_for(Path(self.config.get("gate")))
        return super().fit(parameters, config)

    def evaluate(self, parameters: dict[str, Any], config: Any) -> red.EvaluateResult:
        if self._is_it("evaluate"):
            raise KeyError("label")
        return super().evaluate(parameters, config)

    def _is_it(self, trouble: str) -> bool:
        troubles = self.config.get("troubles", {self.config.get("who"): self.config.get("trouble")})
        return bool(troubles.get(self.node_id) == trouble)


class Shared(Counting):
    """What it has in common is built once a process."""

    built = 0

    @classmethod
    def build_shared(cls, config: Any) -> dict[str, int]:
        cls.built += 1
        return {"built": cls.built, "pid": os.getpid()}

    def look(self) -> dict[str, int]:
        return dict(self.shared)


class Unbuildable(Counting):
    """Its constructor raises."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        raise RuntimeError("this constructor is broken")


@red.remote(num_cpus=0.25, max_concurrency=4)
class Small(Counting):
    """Asks less than its bundle has."""


def wait_for(path: Path) -> None:
    """Wait until a test opens the gate (bounded, should the test die)."""
    deadline = time.monotonic() + 150
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


class Dreamer(Counting):
    """Waits in `fit` for its gate, if it is the one, and says how many work at a time in this process.

    Nodes that are `together` wait in `fit` until so many of their process have been at work at a time.
    """

    at_work = 0
    most = 0
    counting = threading.Lock()

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        cls = type(self)
        with cls.counting:
            cls.at_work += 1
            cls.most = max(cls.most, cls.at_work)
        try:
            deadline = time.monotonic() + 150
            while cls.most < self.config.get("together", 0) and time.monotonic() < deadline:
                time.sleep(0.001)
            if self.node_id in self.config.get("who", "").split(","):
                if self.config.get("marks"):
                    Path(self.config.get("marks"), self.node_id).touch()
                wait_for(Path(self.config.get("gate")))
            elif self.config.get("pause"):
                time.sleep(self.config.get("pause"))
            return super().fit(parameters, config)
        finally:
            with cls.counting:
                cls.at_work -= 1

    def most_at_a_time(self) -> int:
        return type(self).most


class Skewed(red.FederatedNode):
    """Deterministic updates that differ by node, with fractions and different weights."""

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros((3, 40), np.float32), "d": np.zeros(5), "n": np.asarray(0)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        index = self.config.node_index
        rng = np.random.default_rng([index, config["round"]])
        made = {
            "w": (parameters["w"] * 0.5 + rng.normal(size=(3, 40))).astype(np.float32),
            "d": parameters["d"] + rng.normal(size=5),
            "n": parameters["n"] + 2,
        }
        return red.FitResult(made, 1 + index % 7, {"loss": float(index)})


class Told(Counting):
    """Says what it is told in a round: in the round's keys, in its own config, and what its config was in `build`."""

    def build(self, **kwargs: Any) -> None:
        self.at_first = float(self.config.get("learning_rate"))

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        gate = self.config.get("gate")
        if gate and config["round"] == 1:
            Path(gate, self.node_id).touch()
            wait_for(Path(gate, "open"))
        told = {
            "told": float(config.get("learning_rate", -1)),
            "own": float(self.config.get("learning_rate")),
            "at_first": self.at_first,
            "momentum": float(self.config.get("momentum", 0)),
        }
        return red.FitResult(parameters, 1, told)


class Diarist(red.FederatedNode):
    """Adds 1, and writes down of each round its number, what it was told with it, and what it started from."""

    def initial_parameters(self) -> dict[str, Any]:
        return {"w": np.zeros(3, np.float32)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        diary = self.__dict__.setdefault("diary", [])
        diary.append((config["round"], config.get("rate"), float(parameters["w"][0])))
        if self.node_id == self.config.get("who") and config["round"] == self.config.get("raises"):
            raise ValueError("gradient exploded")
        return red.FitResult({"w": parameters["w"] + 1}, 1, {"loss": 0.5})

    def pages(self) -> list[tuple[int, Any, float]]:
        return list(self.__dict__.get("diary", []))

    def pid(self) -> int:
        return os.getpid()


class UnhurriedDiarist(Diarist):
    """Its bundle's process gives one record for all of its nodes, however slow the machine is."""

    def build(self, **kwargs: Any) -> None:
        batch.RECORD_SECONDS = 60.0
