"""Conditional: a schema decides before each round who takes part; only eligible nodes are built."""

import numpy as np

import red_tui as red


class Client(red.FederatedNode):
    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        return red.FitResult({"w": parameters["w"] + 1}, num_examples=1)


class Shifts(red.StarFederatedLearningSchema):
    """Nodes with an even number work in odd rounds, the others in even ones."""

    def should_participate(self, node: red.VirtualNode) -> bool:
        return int(node.id.rpartition("_")[2]) % 2 == len(self.history) % 2


with Shifts(Client, ["train"] * 4, {"federation_id": "shifts"}, isolation="bundle") as fed:
    assert fed.run_round().participants == ("client_0", "client_2")
    assert not fed["client_1"].built
    assert fed.run_round().participants == ("client_1", "client_3")
    print(*(f"round {result.number}: {', '.join(result.participants)}" for result in fed.history), sep="\n")
