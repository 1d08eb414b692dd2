"""Two federations: in one placement group through `bundle_offset`, they do not touch each other."""

import numpy as np
import ray

import red_tui as red


class Client(red.FederatedNode):
    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(2)}

    def fit(self, parameters: red.Parameters, config: dict) -> red.FitResult:
        return red.FitResult({"w": parameters["w"] + 1}, num_examples=1)


def star(name: str, **options: object) -> red.FederatedBase:
    return red.StarFederatedLearningSchema(Client, ["train"] * 2, {"federation_id": name}, resources=group, **options)


group = ray.util.placement_group([{"CPU": 0.3}] * 6)
ray.get(group.ready(), timeout=60)
with star("one") as first, star("two", bundle_offset=3) as second:
    first.run(2)
    second.run(1)
    assert [node.bundle_idx for node in first.nodes] == [1, 2]
    assert [node.bundle_idx for node in second.nodes] == [4, 5]
    first.close()
    assert second.run_round().number == 2
    print("one has closed; two is in round", len(second.history))
ray.util.remove_placement_group(group)
