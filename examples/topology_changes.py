"""Topology changes: neighbours change while the nodes run, and the nodes see the new ones."""

import time
from typing import Any

import red_tui as red


class Watcher(red.FederatedNode):
    def train(self, **args: Any) -> list[int]:
        seen = [len(self.neighbors)]
        self.update_version(seen)
        while (message := self.receive(timeout=0.05)) is None or message.header != "STOP":
            if len(self.neighbors) != seen[-1]:
                seen.append(len(self.neighbors))
                self.update_version(seen)
        return seen


def saw(fed: red.FederatedBase, node: str) -> list[int]:
    return fed.pull_version(node, timeout=60) or []


with red.RingFederatedLearningSchema(Watcher, ["train"] * 5, {"federation_id": "watch"}, isolation="bundle") as fed:
    assert fed.topology.neighbors("client_0") == ("client_1", "client_4")
    fed.train(blocking=False)
    assert saw(fed, "client_0") == [2]
    fed.set_topology("mesh")
    while saw(fed, "client_0")[-1:] != [4]:
        time.sleep(0.05)
    print("client_0 saw", saw(fed, "client_0"), "neighbours")
    fed.stop()
