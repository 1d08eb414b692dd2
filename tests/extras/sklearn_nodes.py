"""Estimators of scikit-learn on the digits, and nodes that train them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import linear_model
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

from red_tui.examples.digits import load_digits
from red_tui.sklearn import SklearnNode


def examples_of(name: str) -> tuple[Any, Any]:
    """Sixty images of digits, a node's own."""
    digits = load_digits()
    begin = 60 * int(name.rpartition("_")[2])
    return digits.train_images[begin : begin + 60], digits.train_labels[begin : begin + 60]


class DigitsNode(SklearnNode):
    def train_data(self) -> Any:
        return examples_of(self.node_id)

    def eval_data(self) -> Any:
        return examples_of(self.node_id)

    def classes(self) -> Any:
        return range(10)


class Descent(DigitsNode):
    def model(self) -> Any:
        return SGDClassifier(loss="log_loss", alpha=1e-3)


class Perceptron(DigitsNode):
    def model(self) -> Any:
        return MLPClassifier(hidden_layer_sizes=(16,), solver="sgd")


class RosenblattsPerceptron(DigitsNode):
    """The one of `sklearn.linear_model`: it has a rate, and no rule for it."""

    def model(self) -> Any:
        return linear_model.Perceptron(penalty="l2")


class Adam(DigitsNode):
    def model(self) -> Any:
        return MLPClassifier(hidden_layer_sizes=(16,))


class Logistic(DigitsNode):
    def model(self) -> Any:
        return LogisticRegression(max_iter=5)


class Bayes(DigitsNode):
    learnt = ("theta_", "var_", "class_count_")

    def model(self) -> Any:
        return GaussianNB(var_smoothing=1e-2)


class Clusters(DigitsNode):
    def model(self) -> Any:
        return MiniBatchKMeans(10, n_init=1)


class Brightness(DigitsNode):
    """Learns a number: how bright the first half of an image is, from all of it."""

    def train_data(self) -> Any:
        images, _ = examples_of(self.node_id)
        return images.astype(np.float64), images[:, :32].sum(axis=1).astype(np.float64)

    eval_data = train_data


class LeastSquares(Brightness):
    def model(self) -> Any:
        return LinearRegression()


class Ridged(Brightness):
    def model(self) -> Any:
        return Ridge(0.5)


class Lassoed(Brightness):
    def model(self) -> Any:
        return Lasso(0.01, max_iter=3)


class DescentOfNumbers(Brightness):
    def model(self) -> Any:
        return SGDRegressor(eta0=1e-3)


class PerceptronOfNumbers(Brightness):
    def model(self) -> Any:
        return MLPRegressor(hidden_layer_sizes=(8,))
