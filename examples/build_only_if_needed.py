"""Build only if needed: a round builds the nodes whose roles it needs and that are not built yet, and no others."""

import os

import numpy as np
import ray

import red_tui as red


class Client(red.FederatedNode):
    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        return red.FitResult(parameters, num_examples=1)

    def evaluate(self, parameters: red.Parameters, config: dict) -> red.EvaluateResult:
        return red.EvaluateResult(0.0, num_examples=1)

    def pid(self) -> int:
        return os.getpid()


config = red.FederationConfig(federation_id="needed")
with red.StarFederatedLearningSchema(Client, ["train", "eval", "test"], config) as fed:
    fed.build("id:client_0")
    before = ray.get(fed["client_0"].handle.pid.remote(), timeout=60)
    fed.run_round()
    assert ray.get(fed["client_0"].handle.pid.remote(), timeout=60) == before, "it was not built again"
    assert fed["client_1"].built, "the role eval judges in rounds"
    assert fed["client_2"].state == "virtual", "the role test takes no part in rounds"
    print(*(f"{node.id} {node.role} is {node.state}" for node in fed.nodes), sep="\n")
