"""Between estimators of scikit-learn and parameters: the attributes that an estimator has learnt, as arrays by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.errors import RedError
from red_tui.nodes.arrays import fits_type
from red_tui.nodes.template import Parameters

LEARNT = (
    ("coef_", "intercept_", "t_"),
    ("coef_", "intercept_"),
    ("coefs_", "intercepts_"),
    ("cluster_centers_", "_counts"),
)
"""What kinds of estimators learn: stochastic gradient descent with its count of steps, other linear models, perceptrons
with hidden layers, and mini-batch k-means."""


class EstimatorError(RedError, ValueError):
    """An estimator cannot be a node's model, or these are not its parameters.  Fields: names."""


def learnt_of(estimator: Any) -> tuple[str, ...]:
    """The attributes that an estimator learns, by its kind; nothing if it is of none that is known."""
    return next((names for names in LEARNT if all(hasattr(estimator, name) for name in names)), ())


def estimator_to_parameters(estimator: Any, learnt: Sequence[str] = ()) -> Parameters:
    """Parameters from an estimator.

    Args:
        estimator: One that has been fitted.
        learnt: Its attributes: numbers, arrays, or lists of arrays.  Without any those of its kind: `coef_`,
            `intercept_` and `t_`, `coefs_` and `intercepts_`, or `cluster_centers_` and its counts.

    Returns:
        Copies of the arrays by the names of the attributes; those of a list as `coefs_.0`, `coefs_.1`…

    Raises:
        EstimatorError: If it has no such attribute.
    """
    parameters = {}
    for name in learnt or learnt_of(estimator) or _unknown(estimator):
        if not hasattr(estimator, name):
            raise EstimatorError(f"{type(estimator).__name__} has no {name}: is it fitted?", names=[name])
        value = getattr(estimator, name)
        for place, one in enumerate(value) if isinstance(value, list) else [(None, value)]:
            parameters[name if place is None else f"{name}.{place}"] = np.array(one)
    return parameters


def load_parameters_into(estimator: Any, parameters: Mapping[str, Any], learnt: Sequence[str] = ()) -> None:
    """Write parameters into an estimator that has been fitted once, in place.

    Args:
        estimator: The estimator.
        parameters: Arrays by name, as `estimator_to_parameters` gives them.
        learnt: Its attributes, as there.

    Raises:
        EstimatorError: If names, shapes or kinds of type are not the estimator's.
    """
    own = estimator_to_parameters(estimator, learnt)
    missing, unknown = own.keys() - parameters.keys(), parameters.keys() - own.keys()
    if missing or unknown:
        told = [
            f"{what} {', '.join(sorted(names))}"
            for what, names in (("it lacks", missing), ("not of it:", unknown))
            if names
        ]
        raise EstimatorError(
            f"these are not the parameters of {type(estimator).__name__}: {'; '.join(told)}",
            names=sorted(missing | unknown),
        )
    for name, value in parameters.items():
        _write(estimator, name, np.asarray(value), own[name])


def _write(estimator: Any, name: str, value: Any, own: Any) -> None:
    if value.shape != own.shape:
        raise EstimatorError(f"{name!r} has the shape {value.shape}, and the estimator's is {own.shape}", names=[name])
    if value.dtype != own.dtype and not fits_type(value.dtype, own.dtype):
        raise EstimatorError(f"{name!r} is {value.dtype}, and the estimator's is {own.dtype}", names=[name])
    attribute, _, place = name.partition(".")
    target = getattr(estimator, attribute)
    target = target[int(place)] if place else target
    if isinstance(target, np.ndarray):
        target[...] = value
    else:
        setattr(estimator, attribute, type(target)(value))


def _unknown(estimator: Any) -> tuple[str, ...]:
    raise EstimatorError(
        f"what {type(estimator).__name__} learns is not known here: name its attributes in the template, such as"
        " learnt = ('theta_', 'var_')",
        names=[],
    )
