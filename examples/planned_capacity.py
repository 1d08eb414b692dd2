"""Planned capacity: a placement group for two nodes at a time; a federation of three takes turns in it."""

import numpy as np
import ray

import red_tui as red


class Client(red.FederatedNode):
    def build(self, **kwargs: object) -> None:
        self.rounds = 0

    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        self.rounds += 1
        return red.FitResult({"w": np.full(2, float(self.rounds))}, num_examples=1)

    def get_state(self) -> int:
        return self.rounds

    def set_state(self, state: int) -> None:
        self.rounds = state


group = red.get_resources_split(num_nodes=2, num_cpus=2)
config = red.FederationConfig(federation_id="turns")
with red.StarFederatedLearningSchema(Client, ["train"] * 3, config, resources=group) as fed:
    print(fed.plan_round())  # in how many turns, and how many processes that starts
    fed.run(2)
    assert all(len(result.participants) == 3 for result in fed.history)
    assert sum(node.built for node in fed.nodes) <= 2
    assert (fed.parameters()["w"] == 2).all(), "each node's state came back with it"
ray.util.remove_placement_group(group)
