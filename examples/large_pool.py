"""A large pool, a few active: of 100 virtual nodes a criterion picks 4; only these are built and hold resources."""

import ray

import red_tui as red


class Client(red.FederatedNode):
    pass


group = red.get_resources_split(num_nodes=4, num_cpus=2)
config = red.FederationConfig(federation_id="pool")
with red.StarFederatedLearningSchema(Client, ["train"] * 100, config, resources=group, isolation="bundle") as fed:
    chosen = fed.select(lambda node: int(node.id.rpartition("_")[2]) % 25 == 0)
    print(fed.build(chosen))
    assert len(fed.select("state:ready")) == 4 and len(fed.select("state:virtual")) == 96
    assert sorted(node.bundle_idx for node in chosen) == [1, 2, 3, 4]
ray.util.remove_placement_group(group)
