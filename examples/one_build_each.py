"""One build each: building what is built is refused with where it stands; two callers at once give one actor."""

import threading

import ray

import red_tui as red


class Client(red.FederatedNode):
    pass


config = red.FederationConfig(federation_id="once")
group = red.get_resources_split(num_nodes=2, num_cpus=1)
node = red.VirtualNode(Client, "client_1", "train", config)
refused: list[str] = []


def build() -> None:
    try:
        node.build(1, group)
    except red.RedError as error:
        refused.append(error.message)


callers = [threading.Thread(target=build) for _ in range(2)]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
node.wait_ready(timeout=60)
print("refused:", *refused)
assert len(refused) == 1 and "bundle 1" in refused[0]

node.release()
ray.util.remove_placement_group(group)
