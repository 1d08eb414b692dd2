"""The work that pfl-research and our nodes do alike: one SGD step of a linear layer on one tiny batch."""

from __future__ import annotations

import torch

BATCH, LEARNING_RATE = 4, 0.1
SIDES = {992: (31, 31), 1_001_000: (1000, 1000)}
"""Inputs and outputs of the layer, by its number of parameters (bias included)."""


class Linear(torch.nn.Linear):
    """A linear layer that starts from the same values in every process."""

    def __init__(self, size: int) -> None:
        torch.manual_seed(0)
        super().__init__(*SIDES[size])

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mse_loss(self(inputs), targets)

    def checksum(self) -> float:
        return float(sum(parameter.detach().double().square().sum() for parameter in self.parameters()))


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, outputs = SIDES[size]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, inputs, generator=generator), torch.randn(BATCH, outputs, generator=generator)
