"""Low-rank adapters of a frozen transformer, learnt together (`layouts/lora.yaml`).

The transformer reads an image of 8 by 8 pixels as a sequence of eight rows.  It stands in for one that was trained
before: its weights are drawn from the config's seed, the same in each process, and never change.  What is learnt, and
all that travels, are adapters of its linear layers (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
2021) and the last layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from red_tui.examples.digits import load_digits
from red_tui.torch import TorchNode

ROWS, PIXELS, CLASSES = 8, 8, 10
WIDTH, HEADS, LAYERS = 64, 4, 2
RANK, SCALE = 4, 2.0


def examples() -> tuple[Any, Any]:
    """The training images as sequences of rows, and their labels: the source of the layout's data."""
    digits = load_digits()
    return digits.train_images.reshape(-1, ROWS, PIXELS), digits.train_labels


class LowRank(nn.Module):
    """A frozen linear layer, and two narrow ones beside it that learn what is to be added."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, inputs) / rank)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The base's outputs, and the adapter's."""
        return self.base(inputs) + SCALE * (inputs @ self.down.T) @ self.up.T


class Block(nn.Module):
    """Attention, then two layers for each position, each with what came in added (Vaswani et al., 2017)."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.before, self.between = (nn.LayerNorm(WIDTH, elementwise_affine=False) for _ in range(2))
        self.mix, self.out = LowRank(WIDTH, 3 * WIDTH, rank), LowRank(WIDTH, WIDTH, rank)
        self.wide, self.narrow = LowRank(WIDTH, 2 * WIDTH, rank), LowRank(2 * WIDTH, WIDTH, rank)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """A sequence of the same shape."""
        count, length, _ = inputs.shape
        mixed = self.mix(self.before(inputs)).reshape(count, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(mixed[0], mixed[1], mixed[2])
        inputs = inputs + self.out(attended.transpose(1, 2).reshape(count, length, WIDTH))
        return inputs + self.narrow(torch.relu(self.wide(self.between(inputs))))


class AdaptedTransformer(nn.Module):
    """Rows of an image to digits."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rows = nn.Linear(PIXELS, WIDTH).requires_grad_(False)
        self.places = nn.Parameter(torch.randn(ROWS, WIDTH), requires_grad=False)
        self.blocks = nn.Sequential(*(Block(rank) for _ in range(LAYERS)))
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """A score for each digit."""
        return self.last(self.blocks(self.rows(images) + self.places).mean(dim=1))


class LoraClient(TorchNode):
    """Adapts the transformer to its part of the images; `rank` of the config says how wide adapters are."""

    send_frozen = False

    def model(self) -> nn.Module:
        """The transformer: once a process, whose base is drawn from the config's seed."""
        return AdaptedTransformer(int(self.config.get("rank", RANK)))

    def optimizer(self, model: nn.Module, config: Any) -> Any:
        """Adam on the adapters and the last layer."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=float(self.config.get("learning_rate", 0.01)))

    def eval_data(self) -> Any:
        """The images that nobody learns from."""
        digits = load_digits()
        return digits.test_images.reshape(-1, ROWS, PIXELS), digits.test_labels
