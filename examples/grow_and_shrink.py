"""Grow and shrink: nodes join and leave a running federation; the bundle of one that left is free for others."""

import numpy as np

import red_tui as red


class Client(red.FederatedNode):
    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        return red.FitResult(parameters, num_examples=1)


with red.StarFederatedLearningSchema(Client, ["train"] * 3, {"federation_id": "growth"}, isolation="bundle") as fed:
    fed.run_round()
    added = fed.add_nodes(count=2, role="train")
    assert added.ids == ["client_3", "client_4"]
    assert fed.remove_nodes(["client_0"]).done == ("client_0",)  # would let a round that it is in end first
    result = fed.run_round()
    print("took part:", *result.participants)
    assert set(result.participants) == {"client_1", "client_2", "client_3", "client_4"}
