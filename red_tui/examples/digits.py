"""Handwritten digits over clients that do not see the same digits: the default federation, on real data.

1,797 images of 8 by 8 pixels lie beside this module (`DIGITS.md` says where they come from).  A fifth is
held out for judging; the rest is dealt out to the clients, by default unevenly: each digit's images go
to the clients in proportions drawn from a Dirichlet distribution.  The model is a perceptron with one
hidden layer, written in numpy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.config import FederationConfig
from red_tui.nodes.template import EvaluateResult, FederatedNode, FitResult, Parameters

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]

PIXELS, CLASSES = 64, 10
BRIGHTEST = 16
HIDDEN = 32
HELD_OUT = 0.2
HELD_OUT_SEED = 1998
LEARNING_RATE, LOCAL_EPOCHS, BATCH_SIZE = 0.3, 4, 32
ALPHA = 0.5
SMALLEST_PART = 4
"""With more nodes than this allows, several nodes get the same part."""

_FILE = Path(__file__).with_name("digits.npz")


# -- data ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Images as rows of 64 numbers from 0 to 1 (float32), labels from 0 to 9; nothing of it can be written to."""

    train_images: FloatArray
    train_labels: IntArray
    test_images: FloatArray
    test_labels: IntArray


@functools.lru_cache(maxsize=1)
def load_digits() -> Digits:
    """The images, 80 % of them for training and a fixed 20 % held out."""
    with np.load(_FILE) as stored:
        images = stored["images"].reshape(-1, PIXELS).astype(np.float32) / np.float32(BRIGHTEST)
        labels = stored["labels"].astype(np.int64)
    order = np.random.default_rng(HELD_OUT_SEED).permutation(len(labels))
    held_out = round(len(labels) * HELD_OUT)
    test, train = np.sort(order[:held_out]), np.sort(order[held_out:])
    arrays = images[train], labels[train], images[test], labels[test]
    for array in arrays:
        array.flags.writeable = False
    return Digits(*arrays)


def dirichlet_partition(labels: npt.ArrayLike, num_parts: int, alpha: float, seed: int) -> list[IntArray]:
    """Deal examples out so that parts differ in their labels.

    The images of each label are shared out in proportions drawn from a symmetric Dirichlet distribution
    (Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", 2019).  Every index is in exactly one part, and no part is empty.

    Args:
        labels: One label per example.
        num_parts: Number of parts.
        alpha: Concentration: near 0 a part sees few labels, large all of them alike.
        seed: Same seed, same parts.

    Raises:
        ValueError: If there are fewer examples than parts, or `alpha` is not a finite number above 0.
    """
    labels = np.asarray(labels)
    _check_parts(len(labels), num_parts)
    if not (math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha must be a finite number above 0, not {alpha}")
    rng = np.random.default_rng(seed)
    owners = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        proportions = np.nan_to_num(rng.dirichlet(np.full(num_parts, alpha)))
        if not proportions.sum() > 0:  # an alpha so small that every draw underflowed
            proportions[rng.integers(num_parts)] = 1.0
        cuts = np.rint(np.cumsum(proportions / proportions.sum())[:-1] * len(members)).astype(np.int64)
        for part, indices in enumerate(np.split(members, cuts)):
            owners[indices] = part
    sizes = np.bincount(owners, minlength=num_parts)
    for empty in np.flatnonzero(sizes == 0):
        largest = int(sizes.argmax())
        owners[np.flatnonzero(owners == largest)[0]] = empty
        sizes[largest] -= 1
        sizes[empty] += 1
    return [np.flatnonzero(owners == part) for part in range(num_parts)]


def iid_partition(num_examples: int, num_parts: int, seed: int) -> list[IntArray]:
    """Deal examples out evenly and at random; every index is in exactly one part.

    Raises:
        ValueError: If there are fewer examples than parts.
    """
    _check_parts(num_examples, num_parts)
    order = np.random.default_rng(seed).permutation(num_examples)
    return [np.sort(part) for part in np.array_split(order, num_parts)]


@functools.lru_cache(maxsize=8)
def partition(kind: str, num_parts: int, alpha: float, seed: int) -> tuple[IntArray, ...]:
    """The parts of the training images (`dirichlet`, `iid`), or of those `held out`; dealt once a process."""
    digits = load_digits()
    if kind == "dirichlet":
        return tuple(dirichlet_partition(digits.train_labels, num_parts, alpha, seed))
    return tuple(iid_partition(len(digits.test_labels if kind == "held out" else digits.train_labels), num_parts, seed))


def _check_parts(num_examples: int, num_parts: int) -> None:
    if not 1 <= num_parts <= num_examples:
        raise ValueError(f"{num_examples} examples cannot be dealt out into {num_parts} parts without an empty one")


# -- model ---------------------------------------------------------------------------------------


def initial_parameters(seed: int = 0, hidden: int = HIDDEN) -> Parameters:
    """Random weights (Glorot and Bengio, AISTATS 2010) and zero biases, in float32."""
    rng = np.random.default_rng(seed)

    def weights(inputs: int, outputs: int) -> FloatArray:
        limit = math.sqrt(6 / (inputs + outputs))
        return rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)

    return {
        "hidden/weights": weights(PIXELS, hidden),
        "hidden/biases": np.zeros(hidden, dtype=np.float32),
        "output/weights": weights(hidden, CLASSES),
        "output/biases": np.zeros(CLASSES, dtype=np.float32),
    }


def log_probabilities(parameters: Parameters, images: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logarithms of the probabilities of the ten digits, one row per image, and the hidden layer's activations."""
    activations = np.tanh(images @ parameters["hidden/weights"] + parameters["hidden/biases"])
    scores = activations @ parameters["output/weights"] + parameters["output/biases"]
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), activations


def loss_and_gradients(parameters: Parameters, images: FloatArray, labels: IntArray) -> tuple[float, Parameters]:
    """Mean cross-entropy and its gradient by every parameter."""
    logs, activations = log_probabilities(parameters, images)
    rows = np.arange(len(labels))
    loss = -float(logs[rows, labels].mean())
    by_scores = np.exp(logs)
    by_scores[rows, labels] -= 1
    by_scores /= len(labels)
    by_sums = (by_scores @ parameters["output/weights"].T) * (1 - activations**2)
    return loss, {
        "hidden/weights": images.T @ by_sums,
        "hidden/biases": by_sums.sum(axis=0),
        "output/weights": activations.T @ by_scores,
        "output/biases": by_scores.sum(axis=0),
    }


def predict(parameters: Parameters, images: FloatArray) -> IntArray:
    """The most probable digit of each image."""
    return np.asarray(log_probabilities(parameters, images)[0].argmax(axis=1))


def judge(parameters: Parameters, images: FloatArray, labels: IntArray) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    logs, _ = log_probabilities(parameters, images)
    loss = -float(logs[np.arange(len(labels)), labels].mean())
    return loss, float((logs.argmax(axis=1) == labels).mean())


def descend(
    parameters: Parameters,
    images: FloatArray,
    labels: IntArray,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    rng: np.random.Generator,
) -> Parameters:
    """Stochastic gradient descent over shuffled minibatches; `parameters` stay as they are."""
    new = {name: array.copy() for name, array in parameters.items()}
    for _ in range(epochs):
        order = rng.permutation(len(labels))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            _, gradients = loss_and_gradients(new, images[batch], labels[batch])
            for name, gradient in gradients.items():
                new[name] -= (learning_rate * gradient).astype(new[name].dtype)
    return new


def centralised(
    epochs: int = 80,
    *,
    seed: int = 0,
    learning_rate: float = LEARNING_RATE,
    batch_size: int = BATCH_SIZE,
) -> tuple[Parameters, EvaluateResult]:
    """The yardstick: the same model trained on all training images in one place, judged on those held out."""
    digits = load_digits()
    parameters = descend(
        initial_parameters(seed),
        digits.train_images,
        digits.train_labels,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        rng=np.random.default_rng(seed),
    )
    loss, accuracy = judge(parameters, digits.test_images, digits.test_labels)
    return parameters, EvaluateResult(loss, len(digits.test_labels), {"accuracy": accuracy})


# -- node ----------------------------------------------------------------------------------------


class DigitsClient(FederatedNode):
    """A client that holds some of the training images and judges on some of those held out.

    Config keys: `partition` (`dirichlet` or `iid`), `alpha`, `seed`, `learning_rate`, `local_epochs`,
    `batch_size`.  Which part of the images it holds follows from its position among the clients
    (`node_index` of `num_nodes`, which the federation says); `part` and `num_parts` say otherwise.
    `eval_parts` is how many nodes share the held-out images between them, by default `num_parts`.
    """

    shared: Digits

    @classmethod
    def build_shared(cls, config: FederationConfig) -> Digits:
        """The images, loaded once per process."""
        return load_digits()

    def build(self, **kwargs: Any) -> None:
        """Take this node's part of the images.

        Raises:
            ValueError: If a config key has a value that makes no sense.
        """
        digits = self.shared if self.shared is not None else load_digits()
        self.seed = self._whole("seed", 0, least=0)
        self.index = self._whole("node_index", 0, least=0)
        part = self._whole("part", self.index, least=0)
        num_parts = self._whole("num_parts", self._whole("num_nodes", part + 1))
        self._how_to_learn()
        mine = self._parts(num_parts)
        eval_parts = min(self._whole("eval_parts", num_parts), len(digits.test_labels))
        held_out = partition("held out", eval_parts, 0.0, self.seed)
        self.train_part, self.test_part = mine[part % len(mine)], held_out[part % len(held_out)]
        self.rounds = 0
        self.log.info("%d images to learn from, %d to judge on", len(self.train_part), len(self.test_part))

    @property
    def images(self) -> FloatArray:
        """The images that it learns from: what a node has of its own is only their indices."""
        return load_digits().train_images[self.train_part]

    @property
    def labels(self) -> IntArray:
        """Their labels."""
        return load_digits().train_labels[self.train_part]

    @property
    def test_images(self) -> FloatArray:
        """The held-out images that it judges on."""
        return load_digits().test_images[self.test_part]

    @property
    def test_labels(self) -> IntArray:
        """Their labels."""
        return load_digits().test_labels[self.test_part]

    def initial_parameters(self) -> Parameters:
        """Random weights from the config's `seed`: every node gives the same."""
        return initial_parameters(self.seed)

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Descend on this node's images; the same round and seed give the same update."""
        images, labels = self.images, self.labels
        learning_rate, epochs, batch_size = self._how_to_learn()
        new = descend(
            parameters,
            images,
            labels,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            rng=np.random.default_rng((self.seed, self.index, int(config.get("round", 0)))),
        )
        loss, accuracy = judge(new, images, labels)
        self.rounds += 1
        return FitResult(new, len(labels), {"loss": loss, "accuracy": accuracy})

    def evaluate(self, parameters: Parameters, config: Mapping[str, Any]) -> EvaluateResult:
        """Judge on this node's share of the held-out images."""
        loss, accuracy = judge(parameters, self.test_images, self.test_labels)
        return EvaluateResult(loss, len(self.test_part), {"accuracy": accuracy})

    def get_state(self) -> dict[str, int]:
        """In how many rounds it took part."""
        return {"rounds": self.rounds}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Go on counting."""
        self.rounds = int(state["rounds"])

    def _how_to_learn(self) -> tuple[float, int, int]:
        """Learning rate, epochs and batch size: read again in each round, as they may be changed between rounds."""
        return (
            self._number("learning_rate", LEARNING_RATE),
            self._whole("local_epochs", LOCAL_EPOCHS),
            self._whole("batch_size", BATCH_SIZE),
        )

    def _parts(self, num_parts: int) -> tuple[IntArray, ...]:
        num_parts = min(num_parts, len(load_digits().train_labels) // SMALLEST_PART)
        kind = self.config.get("partition", "dirichlet")
        if kind not in ("iid", "dirichlet"):
            raise ValueError(f"config.partition is {kind!r}; write dirichlet or iid")
        return partition(kind, num_parts, self._number("alpha", ALPHA) if kind == "dirichlet" else 0.0, self.seed)

    def _whole(self, key: str, default: int, least: int = 1) -> int:
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"config.{key} must be a whole number of at least {least}, not {value!r}")
        return value

    def _number(self, key: str, default: float) -> float:
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
            raise ValueError(f"config.{key} must be a finite number above 0, not {value!r}")
        return float(value)
