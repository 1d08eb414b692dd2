"""Pay for use: what released nodes had is available to the cluster again, in Ray's own accounting."""

import time

import ray

import red_tui as red


class Client(red.FederatedNode):
    pass


def free(bundle: int) -> float:
    """CPUs of a bundle that Ray counts as available."""
    return float(ray.available_resources().get(f"CPU_group_{bundle}_{group.id.hex()}", 0.0))


group = red.get_resources_split(num_nodes=2, num_cpus=1)
with red.StarFederatedLearningSchema(Client, ["train"] * 2, {"federation_id": "pay"}, resources=group) as fed:
    fed.build()
    while free(1):  # Ray tells of what is taken a moment later
        time.sleep(0.01)
    fed.release("id:client_0")
    while not free(1):
        time.sleep(0.01)
    print("bundle 1 has", free(1), "CPUs free again; bundle 2 has", free(2))
    assert not free(2)
ray.util.remove_placement_group(group)
