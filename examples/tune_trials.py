"""Tune: each trial of a search is a federation in the trial's own placement group (needs red-tui[tune])."""

import numpy as np
from ray import tune

import red_tui as red


class Client(red.FederatedNode):
    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        step = self.config.get("learning_rate")
        return red.FitResult({"w": parameters["w"] + step * (1 - parameters["w"])}, num_examples=1)

    def evaluate(self, parameters: red.Parameters, config: dict) -> red.EvaluateResult:
        return red.EvaluateResult(float(((1 - parameters["w"]) ** 2).mean()), num_examples=1)


def trial(config: dict) -> dict:
    told = {"federation_id": "trial", "learning_rate": config["learning_rate"]}
    with red.StarFederatedLearningSchema(Client, ["train-eval"] * 2, told, is_tune=True, isolation="bundle") as fed:
        return {"loss": fed.run(2).loss[-1]}


resources = red.get_resources_split(num_nodes=2, num_cpus=1, is_tune=True)
tuner = tune.Tuner(
    tune.with_resources(trial, resources),
    param_space={"learning_rate": tune.grid_search([0.1, 0.9])},
    tune_config=tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=1),
)
best = tuner.fit().get_best_result()
print("the best learning rate is", best.config["learning_rate"])
assert best.config["learning_rate"] == 0.9
