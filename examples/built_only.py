"""Built only: messages go to built nodes; a virtual receiver is a clear error, not a hang."""

from typing import Any

import red_tui as red


class Talker(red.FederatedNode):
    def train(self, **args: Any) -> str:
        try:
            self.send("hello", to="client_2")
        except red.MessageError as error:
            return str(error)
        return "sent"


class Two(red.MeshFederatedLearningSchema):
    """Only the first two nodes take part, so the third is never built."""

    def should_participate(self, node: red.VirtualNode) -> bool:
        return node.id != "client_2"


with Two(Talker, ["train"] * 3, {"federation_id": "built"}, isolation="bundle") as fed:
    result = fed.train(blocking=True)
    print(result.results["client_0"])
    assert "client_2" in result.results["client_0"] and not fed["client_2"].built
