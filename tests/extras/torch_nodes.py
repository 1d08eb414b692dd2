"""Small models of PyTorch, and nodes that train them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from red_tui.torch import TorchNode


def examples_of(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Thirty examples of three kinds, a node's own."""
    made = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    labels = torch.randint(0, 3, (30,), generator=made)
    return torch.randn(30, 16, generator=made) + labels[:, None], labels


class Net(nn.Module):
    """With buffers (a counter without dimensions among them) and random numbers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm = nn.Linear(16, 8), nn.BatchNorm1d(8)
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(torch.relu(self.norm(self.hidden(inputs)))))


class Mixed(nn.Module):
    """A weight that is not trained, one under two names, and some in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.embed = nn.Linear(16, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.frozen.requires_grad_(False)
        self.again = nn.Linear(8, 8, bias=False)
        self.again.weight = self.embed.weight
        self.last = nn.Linear(8, 3).to(torch.bfloat16)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.again(self.embed(self.frozen(inputs))).to(torch.bfloat16)).float()


class NetClient(TorchNode):
    def model(self) -> nn.Module:
        return Net()

    def train_data(self) -> Any:
        return examples_of(self.node_id)

    def eval_data(self) -> Any:
        return examples_of(self.node_id)


class MixedClient(NetClient):
    def model(self) -> nn.Module:
        return Mixed()


class Linear(NetClient):
    def model(self) -> nn.Module:
        return nn.Linear(16, 3)

    def eval_data(self) -> Any:
        return None


class ScheduledClient(Linear):
    """Two optimisers and a rate that falls after each epoch."""

    def optimizer(self, model: nn.Module, config: Mapping[str, Any]) -> Any:
        return [torch.optim.SGD([model.weight], lr=1.0), torch.optim.SGD([model.bias], lr=2.0)]

    def scheduler(self, optimizer: Any, config: Mapping[str, Any]) -> Any:
        inner = [torch.optim.lr_scheduler.StepLR(each, 1, 0.1) for each in optimizer]

        class Both:
            def step(self) -> None:
                for each in inner:
                    each.step()

        return Both()
