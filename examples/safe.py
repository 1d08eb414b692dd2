"""Safe: a build that fails is a value with its cause; the other nodes are built, and nothing is left half made."""

from typing import Any

import red_tui as red


class Client(red.FederatedNode):
    def build(self, **kwargs: Any) -> None:
        if self.node_id == "client_1":
            raise FileNotFoundError("no data for this node")


with red.StarFederatedLearningSchema(Client, ["train"] * 3, {"federation_id": "safe"}, isolation="bundle") as fed:
    report = fed.build()
    assert report.built == ("client_0", "client_2")
    print("client_1:", report.failed["client_1"].why)
    assert "no data for this node" in report.failed["client_1"].why
    assert "raise FileNotFoundError" in report.failed["client_1"].traceback
