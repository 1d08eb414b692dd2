"""Light template: heavy work is in `build`; a node is `starting` while it runs, and its log shows how far it is."""

import tempfile
import time
from pathlib import Path
from typing import Any

import red_tui as red


class Client(red.FederatedNode):
    def build(self, **kwargs: Any) -> None:
        self.log.info("loading")
        while not Path(self.config.get("data")).exists():  # stands for work that takes long
            time.sleep(0.01)
        self.log.info("loaded")


data = Path(tempfile.mkdtemp()) / "data"
config = red.FederationConfig(federation_id="light", data=str(data))
with red.StarFederatedLearningSchema(Client, ["train"], config) as fed:
    report = fed.build(wait=False)
    assert report.waiting == ("client_0",)
    while fed["client_0"].state == "pending":  # Ray starts the process
        time.sleep(0.01)
    print("client_0 is", fed["client_0"].state)
    assert fed["client_0"].state == "starting"
    data.touch()
    fed["client_0"].wait_ready(timeout=60)
    print("client_0 is", fed["client_0"].state)
