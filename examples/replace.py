"""Replace: a node whose process died is rebuilt under its name, in its bundle, with its last state."""

import time
from typing import Any

import numpy as np
import ray

import red_tui as red


class Client(red.FederatedNode):
    def build(self, **kwargs: Any) -> None:
        self.rounds = 0

    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        self.rounds += 1
        return red.FitResult(parameters, num_examples=1)

    def seen(self) -> int:
        return self.rounds

    def get_state(self) -> int:
        return self.rounds

    def set_state(self, state: int) -> None:
        self.rounds = state


with red.StarFederatedLearningSchema(Client, ["train"] * 2, {"federation_id": "replace"}) as fed:
    fed.run(2)
    ray.kill(fed["client_1"].handle)
    while fed["client_1"].state != "failed":  # its death is noticed within milliseconds
        time.sleep(0.01)
    print("client_1 failed:", fed["client_1"].last_error)
    assert fed.rebuild().built == ("client_1",)
    assert ray.get(fed["client_1"].handle.seen.remote(), timeout=60) == 2
    assert len(fed.run_round().participants) == 2
