"""Discovery: any process of the cluster finds a node by FEDERATION/NODE."""

import ray

import red_tui as red


class Client(red.FederatedNode):
    def greet(self) -> str:
        return f"I am {self.node_id}"


@ray.remote(num_cpus=0.1)
def ask(name: str) -> str:
    return ray.get(ray.get_actor(name, namespace="red").greet.remote(), timeout=60)


with red.StarFederatedLearningSchema(Client, ["train"], {"federation_id": "found"}) as fed:
    fed.build()
    answer = ray.get(ask.remote("found/client_0"), timeout=60)
    print(answer)
    assert answer == "I am client_0"
