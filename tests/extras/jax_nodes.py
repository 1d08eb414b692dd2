"""Small models of JAX on the digits, and nodes that train them."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from red_tui.examples.digits import load_digits
from red_tui.jax import JaxNode
from red_tui.nodes.config import seed_of


def examples_of(name: str) -> tuple[Any, Any]:
    """Images of digits, a node's own: nodes have different numbers of them."""
    digits = load_digits()
    place = int(name.rpartition("_")[2])
    begin = 30 * place
    return digits.train_images[begin : begin + 30 - place % 3], digits.train_labels[begin : begin + 30 - place % 3]


class Linear(JaxNode):
    def model(self, key: Any) -> Any:
        return {"dense": {"kernel": 0.1 * jax.random.normal(key, (64, 10)), "bias": jnp.zeros(10)}}

    def apply(self, parameters: Any, inputs: Any) -> Any:
        return inputs @ parameters["dense"]["kernel"] + parameters["dense"]["bias"]

    def train_data(self) -> Any:
        return examples_of(self.node_id)

    def eval_data(self) -> Any:
        return examples_of(self.node_id)


class OneByOne(Linear):
    fits_together = 1


class Dropped(Linear):
    """Draws random numbers, and reads a key of the config of its own."""

    def losses(self, parameters: Any, batch: Any, key: Any, *, training: bool = True) -> Any:
        images, labels = batch
        if training:
            images = images * jax.random.bernoulli(key, self.config.get("keep", 0.5), images.shape)
        return super().losses(parameters, (images, labels), key)


class ReadsOtherwise(Linear):
    """Scales its outputs by a key of the config, which it reads in one of many ways."""

    way: ClassVar[str] = "get"
    ways: ClassVar[dict[str, Any]] = {
        "as_dict": lambda config: config.as_dict().get("scale", 1.0),
        "model_dump": lambda config: config.model_dump().get("scale", 1.0),
        "updated": lambda config: config.updated(other=1).get("scale", 1.0),
        "iterate": lambda config: dict(config).get("scale", 1.0),
        "vars": lambda config: vars(config.model_copy()) and config.model_extra.get("scale", 1.0),
        "in": lambda config: config.scale if "scale" in config.as_dict() else 1.0,
        "deepcopy": lambda config: copy.deepcopy(config).get("scale", 1.0),
        "copy": lambda config: copy.copy(config).get("scale", 1.0),
        "getattr": lambda config: getattr(config, "scale", 1.0),
        "hasattr": lambda config: config.scale if hasattr(config, "scale") else 1.0,
        "get": lambda config: config.get("scale", 1.0),
        "method": lambda config: (config.get, config.FEDERATION_ID, config.federation_id) and config.get("scale", 1.0),
        "seed": lambda config: seed_of(config) * 0 + config.get("scale", 1.0),
    }

    def apply(self, parameters: Any, inputs: Any) -> Any:
        return super().apply(parameters, inputs) * self.ways[self.way](self.config)


class Nosy(Linear):
    """Reads what is a node's own where all nodes are meant."""

    def apply(self, parameters: Any, inputs: Any) -> Any:
        return super().apply(parameters, inputs) * len(self.node_id)


class Halved(Linear):
    """Parameters in bfloat16, in a list."""

    def model(self, key: Any) -> Any:
        return [jnp.zeros((64, 10), jnp.bfloat16), jnp.zeros(10)]

    def apply(self, parameters: Any, inputs: Any) -> Any:
        return inputs @ parameters[0].astype(jnp.float32) + parameters[1]


class Adam:
    """As optax has it: state and updates."""

    def __init__(self, rate: Any) -> None:
        self.rate = rate

    def init(self, tree: Any) -> Any:
        zeros = jax.tree_util.tree_map(jnp.zeros_like, tree)
        return zeros, zeros, jnp.zeros((), jnp.int32)

    def update(self, gradients: Any, state: Any, tree: Any) -> tuple[Any, Any]:
        first, second, count = state
        mapped = jax.tree_util.tree_map
        first = mapped(lambda kept, slope: 0.9 * kept + 0.1 * slope, first, gradients)
        second = mapped(lambda kept, slope: 0.999 * kept + 0.001 * slope**2, second, gradients)
        count = count + 1
        moved = mapped(
            lambda one, two: (
                -self.rate * (one / (1 - 0.9**count)) / (jnp.sqrt(two / (1 - 0.999**count)) + 1e-8)
            ),
            first, second,
        )  # fmt: skip
        return moved, (first, second, count)


class WithAdam(Linear):
    def optimizer(self, rates: Any) -> Any:
        return Adam(rates["learning_rate"])
