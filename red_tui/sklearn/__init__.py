"""Models of scikit-learn as nodes of a federation; needs the extra `red-tui[sklearn]`."""

from __future__ import annotations

from red_tui.sklearn.learnt_arrays import EstimatorError, estimator_to_parameters, load_parameters_into
from red_tui.sklearn.sklearn_node import SklearnNode

__all__ = ["EstimatorError", "SklearnNode", "estimator_to_parameters", "load_parameters_into"]
