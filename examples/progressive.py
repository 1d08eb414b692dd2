"""Progressive: three waves over ten nodes, 4 + 3 + 3, and a round after each wave with the nodes built so far."""

import numpy as np

import red_tui as red


class Client(red.FederatedNode):
    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        return red.FitResult({"w": parameters["w"] + 1}, num_examples=1)


with red.StarFederatedLearningSchema(Client, ["train"] * 10, {"federation_id": "waves"}, isolation="bundle") as fed:
    sizes = []
    for wave in fed.waves(count=3):
        sizes.append(len(fed.build(wave).built))
        result = fed.run_round(nodes="state:ready")
        print(f"wave of {sizes[-1]}: {len(result.participants)} nodes trained")
        assert len(result.participants) == sum(sizes)
    assert sizes == [4, 3, 3]
