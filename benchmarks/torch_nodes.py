"""TorchNode against a bare loop of PyTorch on as many processes: examples a second of one local epoch."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import ray
import torch
from torch import nn

import red_tui as red
from benchmarks.measuring import alternate, cluster
from red_tui.torch import TorchNode, state_dict_to_parameters

NODES, HOSTS, EXAMPLES, BATCH, TIMES = 100, 2, 50, 10, 5
RATE = 0.05
GOAL = 0.95


def mlp() -> nn.Module:
    """200,000 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 240), nn.ReLU(), nn.Linear(240, 48), nn.ReLU(), nn.Linear(48, 10))


def cnn() -> nn.Module:
    """100,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1568, 60),
        nn.ReLU(),
        nn.Linear(60, 10),
    )


MODELS = {"mlp": mlp, "cnn": cnn}


def all_examples() -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (NODES * EXAMPLES,), generator=made)
    return torch.randn(NODES * EXAMPLES, 1, 28, 28, generator=made) + labels[:, None, None, None] / 10, labels


def model_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[kind]()


class Client(TorchNode):
    """Learns from its fifty examples."""

    @classmethod
    def build_shared(cls, config: red.FederationConfig) -> Any:
        return all_examples()

    def model(self) -> nn.Module:
        return MODELS[self.config.kind]()

    def train_data(self) -> Any:
        place = self.config.node_index * EXAMPLES
        inputs, labels = self.shared
        return inputs[place : place + EXAMPLES], labels[place : place + EXAMPLES]


@ray.remote
class BareLoop:
    """What one would write by hand: one model, one optimiser, a sum."""

    def __init__(self, kind: str) -> None:
        torch.set_num_threads(1)
        self.model = model_of(kind)
        self.inputs, self.labels = all_examples()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE)

    def round(self, parameters: dict[str, Any], first: int, last: int) -> dict[str, Any]:
        """The sum of what some nodes learnt."""
        given = {name: torch.tensor(value) for name, value in parameters.items()}
        total = {name: torch.zeros_like(value) for name, value in given.items()}
        loss_of = nn.functional.cross_entropy
        for node in range(first, last):
            self.model.load_state_dict(given)
            self.model.train()
            order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(node)) + node * EXAMPLES
            for start in range(0, EXAMPLES, BATCH):
                chosen = order[start : start + BATCH]
                self.optimizer.zero_grad()
                loss_of(self.model(self.inputs[chosen]), self.labels[chosen]).backward()
                self.optimizer.step()
            with torch.no_grad():
                for name, value in self.model.state_dict().items():
                    total[name].add_(value, alpha=EXAMPLES)
        return {name: value.numpy() for name, value in total.items()}


def compared(kind: str, rounds: int) -> dict[str, Any]:
    start = state_dict_to_parameters(model_of(kind), copy=True)
    config = {"federation_id": f"torch-{kind}", "kind": kind, "batch_size": BATCH, "learning_rate": RATE}
    federation = red.StarFederatedLearningSchema(
        Client,
        ["train"] * NODES,
        config,
        isolation="bundle",
        resources=red.get_resources_split(HOSTS, 1),
        initial_parameters=start,
        settings={"evaluate_every": 0},
    )
    actors = [BareLoop.options(num_cpus=1).remote(kind) for _ in range(HOSTS)]
    share = NODES // HOSTS

    def ours() -> float:
        began = time.perf_counter()
        federation.run(rounds)
        return rounds * NODES * EXAMPLES / (time.perf_counter() - began)

    def bare() -> float:
        current, began = start, time.perf_counter()
        for _ in range(rounds):
            given = ray.put(current)
            calls = [actor.round.remote(given, at * share, (at + 1) * share) for at, actor in enumerate(actors)]
            sums = ray.get(calls)
            current = {name: sum(each[name] for each in sums) / (NODES * EXAMPLES) for name in start}
        return rounds * NODES * EXAMPLES / (time.perf_counter() - began)

    with federation:
        mine, theirs = alternate(ours, bare, TIMES)
        assert not federation.history[-1].failed
    for actor in actors:
        ray.kill(actor)
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    found = float(np.median(ratios))
    size = sum(value.size for value in start.values())
    return {
        "what": f"TorchNode, {kind} of {size:,} parameters : a bare loop, examples/s",
        "figure": f"{found:.2f} × ({np.median(mine):,.0f} : {np.median(theirs):,.0f})",
        "goal": f"≥ {GOAL:g} ×",
        "reached": found >= GOAL,
        "ratio": found,
        "ours": mine,
        "baseline": theirs,
    }


def run() -> list[dict[str, Any]]:
    with cluster(2 * HOSTS + 1):
        return [compared("mlp", 3), compared("cnn", 2)]
