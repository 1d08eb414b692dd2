"""A federation at once: a million nodes exist instantly; processes appear with the first round."""

import numpy as np

import red_tui as red


class Client(red.FederatedNode):
    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        return red.FitResult({"w": parameters["w"] + 1}, num_examples=1)


config = red.FederationConfig(federation_id="at-once")
settings = {"fraction": 0.0001}
with red.StarFederatedLearningSchema(
    Client, ["train"] * 1_000_000, config, isolation="bundle", settings=settings
) as fed:
    assert fed.num_nodes == 1_000_000 and not fed.select("-state:virtual")
    result = fed.run_round()
    print(f"round {result.number}: {len(result.participants)} of {fed.num_nodes} nodes took part")
    assert len(result.participants) == 100
