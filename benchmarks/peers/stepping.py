"""A node that takes the SGD step of `task` through the one model of its host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import red_tui as red
from benchmarks.peers.task import BATCH, LEARNING_RATE, Linear, batch


class Model:
    """What the nodes of a host have in common: the model and the batch.

    The model stays at what the round started from, so it takes the parameters over once a round, and
    each node's step is written into the memory of its own gradient: no copy in, no optimizer, no copy out.
    """

    def __init__(self, size: int) -> None:
        torch.set_num_threads(1)
        self.layer = Linear(size)
        self.batch = batch(size)
        self.named = dict(self.layer.named_parameters())
        # Views: writing to them writes to the model.
        self.arrays = {name: value.detach().numpy() for name, value in self.named.items()}
        self.taken: dict[str, Any] = {}

    def take(self, parameters: Mapping[str, Any]) -> None:
        for name, array in self.arrays.items():
            if self.taken.get(name) is not parameters[name]:
                np.copyto(array, parameters[name])
                self.taken[name] = parameters[name]

    def step(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters after one step of SGD from `parameters`."""
        self.take(parameters)
        gradients = torch.autograd.grad(self.layer.loss(*self.batch), tuple(self.named.values()))
        stepped = {}
        with torch.no_grad():
            for (name, value), gradient in zip(self.named.items(), gradients, strict=True):
                stepped[name] = torch.add(value, gradient, alpha=-LEARNING_RATE, out=gradient).numpy()
        return stepped


class Steps(red.FederatedNode):
    """One SGD step on one batch; a node keeps nothing of its own."""

    @staticmethod
    def start(size: int) -> dict[str, Any]:
        return {name: value.detach().numpy().copy() for name, value in Linear(size).named_parameters()}

    @classmethod
    def build_shared(cls, config: red.FederationConfig) -> Model:
        return Model(config.get("size"))

    def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.FitResult:
        return red.FitResult(self.shared.step(parameters), BATCH)
