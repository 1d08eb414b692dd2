"""Lazy actors: a virtual node costs nothing until it is built, and is then a named actor in its bundle."""

import ray

import red_tui as red


class Client(red.FederatedNode):
    def where(self) -> str:
        return ray.get_runtime_context().get_actor_name()


config = red.FederationConfig(federation_id="lazy")
nodes = [red.VirtualNode(Client, f"client_{number}", "train", config) for number in range(1000)]
assert not any(node.built for node in nodes) and nodes[0].handle is None  # no Ray was needed so far

group = red.get_resources_split(num_nodes=2, num_cpus=1)
first = nodes[0].build(1, group).wait_ready(timeout=60)
print(ray.get(first.handle.where.remote(), timeout=60), "is built in bundle", first.bundle_idx)
assert first.built and sum(node.built for node in nodes) == 1

first.release()
ray.util.remove_placement_group(group)
