"""Handwritten digits with scikit-learn: a linear model that descends in batches (`layouts/digits-sklearn.yaml`)."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import SGDClassifier

from red_tui.examples.digits import load_digits
from red_tui.sklearn import SklearnNode


def examples() -> tuple[Any, Any]:
    """The training images as rows of 64 numbers, and their labels: the source of the layout's data."""
    digits = load_digits()
    return digits.train_images, digits.train_labels


class SklearnDigits(SklearnNode):
    """Learns from its part of the images, and judges on those held out; `alpha` of the config regularises."""

    def model(self) -> Any:
        """A logistic regression by stochastic gradient descent."""
        return SGDClassifier(loss="log_loss", alpha=self.config.get("alpha", 1e-4))

    def eval_data(self) -> Any:
        """The images that nobody learns from."""
        digits = load_digits()
        return digits.test_images, digits.test_labels
