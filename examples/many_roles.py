"""Many roles: a node has several, and is found by each; names that merely contain a role are not found."""

import red_tui as red


class Client(red.FederatedNode):
    pass


roles = ["train", "train-eval", "train-eval-test", "pretrain", "eval"]
fed = red.StarFederatedLearningSchema(Client, roles, {"federation_id": "roles"})
assert fed.select("role:train").ids == ["client_0", "client_1", "client_2"]
assert fed.select("role:eval").ids == ["client_1", "client_2", "client_4"]
assert fed.select("role:train role:test").ids == ["client_2"]
assert "train" in fed["client_1"].role and "train" not in fed["client_3"].role
print(*(f"{node.id}: {node.role}" for node in fed.select("role:train")), sep="\n")
fed.close()
