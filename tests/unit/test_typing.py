"""A stranger's script passes a strict type checker, and mistakes in it do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

import red_tui as red


@red.remote(num_cpus=0.5)
class Client(red.FederatedNode):
    def build(self, **kwargs: Any) -> None:
        self.rate: float = self.config.learning_rate

    def initial_parameters(self) -> red.Parameters:
        return {"w": np.zeros(3)}

    def fit(self, parameters: red.Parameters, config: Mapping[str, Any]) -> red.FitResult:
        return red.FitResult({name: value + 1 for name, value in parameters.items()}, 10, {"loss": 0.5})

    def evaluate(self, parameters: red.Parameters, config: Mapping[str, Any]) -> red.EvaluateResult:
        return red.EvaluateResult(0.5, 10)


class Mine(red.StarFederatedLearningSchema):
    extra = 3

    def should_participate(self, node: red.VirtualNode) -> bool:
        return "train" in node.role


class Typed(red.FederationConfig):
    rate: float = 0.1


config = red.FederationConfig(federation_id="a", lr=3)
old = red.FederationConfig(FEDERATION_ID="a", learning_rate=0.1)
rate: float = config.lr + Typed(federation_id="a", rate=0.2).updated(rate=0.3).rate
log = logging.getLogger("me")
node = red.VirtualNode(Client, id="client_1", role="train-eval", config=config.updated(lr=4), log=log)
settings = red.RoundSettings(strategy="median", fraction=0.5)

with Mine(Client, ["train"] * 4, config, log, settings=settings, failure="rebuild") as fed:
    reveal_type(fed)
    extra: int = fed.extra
    for wave in fed.waves(2):
        report = fed.build(wave)
        result = fed.run_round(nodes=wave)
        print(report.built, report.already, result.loss, [one.id for one in wave])
    history = fed.run(3, until="loss<0.1")
    print(history.loss, fed.parameters()["w"], fed["client_0"].handle, fed.select(lambda one: one.built))

with red.KConnectedFederatedLearningSchema(Client, ["train"] * 4, {"lr": 1}, k=2) as connected:
    reveal_type(connected)
    connected.set_topology("ring")
with red.StarFederatedLearningSchema(Client, ["train"], {"lr": 1}, strategy=red.strategies.Median()) as star:
    reveal_type(star)
made: red.FederatedBase = red.Federation.from_layout("digits")
client: red.Client = red.launch("layouts/digits.yaml")
losses = client.run(3, nodes=["client_0"]).loss
strategy: red.Strategy = red.strategies.FedAvg()
"""

MISTAKES = [
    'fed.run("3")',
    "fed.run_rounds(3)",
    'red.RoundSettings(fraction="half")',
    "fed.build(timeout='soon')",
    "red.StarFederatedLearningSchema(Client, 3)",
    "red.FederationConfig(federation_id=3)",
]


def mypy(folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", "stranger.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=170,
    )
    return done.stdout.splitlines()


def test_a_stranger_s_script_is_typed_and_its_mistakes_are_found(tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(SCRIPT)
    told = mypy(tmp_path)
    assert [line for line in told if "error" in line] == []
    revealed = [found[1] for line in told if (found := re.search(r'Revealed type is "[\w.]*?(\w+)"', line))]
    assert revealed == ["Mine", "KConnectedFederatedLearningSchema", "StarFederatedLearningSchema"]

    (tmp_path / "stranger.py").write_text("\n".join([SCRIPT, *MISTAKES]))
    first = SCRIPT.count("\n") + 2
    lines = {int(line.split(":")[1]) for line in mypy(tmp_path) if ": error:" in line}
    assert lines == set(range(first, first + len(MISTAKES)))
