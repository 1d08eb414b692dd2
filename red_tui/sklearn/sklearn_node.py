"""A node that trains an estimator of scikit-learn: from an estimator and a data set to a federation in ten lines."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import is_classifier, is_clusterer, is_regressor
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from red_tui.data.columns import as_arrays, as_table
from red_tui.data.source import opened_data
from red_tui.errors import RedError
from red_tui.nodes.config import round_seed, seed_of
from red_tui.nodes.learning_keys import BATCH_SIZE, LOCAL_EPOCHS, number_of, steps_of, whole_of
from red_tui.nodes.template import EvaluateResult, FederatedNode, FitResult, Parameters
from red_tui.sklearn.learnt_arrays import EstimatorError, estimator_to_parameters, learnt_of, load_parameters_into

SEEDS = 2**32
"""numpy's older generators, which scikit-learn draws from, take no larger seed."""

BARELY = 1e-300
"""A learning rate with which nothing moves."""

_RATES = ("eta0", "learning_rate_init")
_RULES = {"eta0": {"learning_rate": "constant"}}


class SklearnNode(FederatedNode):
    """A node that trains and judges an estimator of scikit-learn.  Write `model`; override what differs.

    Estimators with `partial_fit` (`SGDClassifier`, `SGDRegressor`, `Perceptron`, `MLPClassifier`, `MLPRegressor`,
    `MiniBatchKMeans`…) learn in batches for the epochs or steps that the config says.  Others with `coef_` and
    `intercept_` (`LogisticRegression`, `LinearRegression`, `Ridge`, `Lasso`…) are fitted to the node's data in each
    round, from the round's parameters where they have `warm_start`; an example of weight 0 stands in for each class
    that the node has not.  Of any other, say in `learnt` which attributes hold what it learns.

    Keys of the config, each of which may be changed between rounds:
        learning_rate: A constant one in place of the estimator's own rule.
        weight_decay, momentum: The `alpha` of an estimator that learns in batches, and its `momentum`.
        batch_size: Examples a call of `partial_fit`; 32.
        local_epochs: Passes over the data in a round, 1; `max_iter` of an estimator without `partial_fit`.
        local_steps: Batches in a round, in place of `local_epochs`.
        seed: Of the initial parameters and of all random numbers; else that of the rounds.

    Attributes:
        learnt: The attributes of the estimator that travel: numbers, arrays or lists of arrays; those of its kind
            where nothing is said.
    """

    learnt: ClassVar[tuple[str, ...]] = ()

    # -- what a template says ----------------------------------------------------------------------

    def model(self) -> Any:
        """Make the estimator, unfitted, with its options."""
        raise NotImplementedError(f"{type(self).__name__} needs a method model(self) that gives its estimator")

    def train_data(self) -> Any:
        """Give what this node learns from: a tuple of inputs and targets, arrays by name, or a data set.

        Left as it is, it is `self.data`, this node's part of the data set that the layout names.
        """
        return self.data

    def eval_data(self) -> Any:
        """Give what this node judges on, as `train_data` does; None: it does not judge, and counts nothing."""
        return None

    def classes(self) -> Any:
        """Give all labels that any node of the federation has; for classifiers.

        Left as it is, they are the labels of the whole data set that the layout names.

        Raises:
            EstimatorError: If no layout names one.
        """
        if not isinstance(self.config.get("data"), Mapping):
            raise EstimatorError(
                f"{type(self).__name__} learns classes, and one node does not know those of the others: write"
                " classes(self), such as return range(10)",
                names=[],
            )
        return np.unique(as_arrays(opened_data(self.config))[-1])

    def loss(self, estimator: Any, inputs: Any, targets: Any) -> float:
        """The mean loss of examples.

        Args:
            estimator: With the parameters to judge.
            inputs: A row for each example.
            targets: What belongs to them; None where the data have none.

        Returns:
            The logarithmic loss of a classifier that tells probabilities, else its share of errors; of others the mean
            squared error, of clusters the mean squared distance to the centre.
        """
        if is_classifier(estimator):
            if hasattr(estimator, "predict_proba"):
                return float(log_loss(targets, estimator.predict_proba(inputs), labels=estimator.classes_))
            return float(np.mean(estimator.predict(inputs) != targets))
        if is_clusterer(estimator):
            return float(-estimator.score(inputs) / inputs.shape[0])
        if is_regressor(estimator):
            return float(np.mean((np.asarray(estimator.predict(inputs)) - targets) ** 2))
        raise EstimatorError(
            f"{type(estimator).__name__} is no classifier, regressor or clusterer: write loss(self, estimator, inputs,"
            " targets)",
            names=[],
        )

    def metrics(self, estimator: Any, inputs: Any, targets: Any) -> Mapping[str, float]:
        """Figures of examples when the node judges; the usual one is the `accuracy` of a classifier."""
        return {"accuracy": float(np.mean(estimator.predict(inputs) == targets))} if is_classifier(estimator) else {}

    def parameters_of(self, estimator: Any) -> Parameters:
        """Give what an estimator has learnt, as arrays by name; copies."""
        return estimator_to_parameters(estimator, self.learnt)

    def load_parameters(self, estimator: Any, parameters: Parameters) -> None:
        """Write what `parameters_of` gave into an estimator that has been fitted once."""
        load_parameters_into(estimator, parameters, self.learnt)

    # -- what the federation calls -----------------------------------------------------------------

    def initial_parameters(self) -> Parameters:
        """Zeros; random weights from the config's `seed` of a perceptron with hidden layers.

        Centres of clusters are chosen from the data of the node that is asked (k-means++).
        """
        inputs, targets = self._examples(self.train_data())
        estimator = self._prepared(inputs, targets)
        if hasattr(estimator, "cluster_centers_") and not self.learnt:
            centres, _ = kmeans_plusplus(inputs, len(estimator.cluster_centers_), random_state=self._seed)
            estimator.cluster_centers_[...] = centres
        return self.parameters_of(estimator)

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Train the estimator on this node's data.

        Returns:
            What it has learnt, the number of examples, and the mean loss over them afterwards as `loss`.

        Raises:
            EstimatorError: If the parameters are not the estimator's.
        """
        number = int(config.get("round", 0))
        inputs, targets = self._examples(self.train_data())
        if not inputs.shape[0]:
            raise RedError(f"node {self.node_id!r} has no examples to train on: train_data gave nothing")
        estimator = self._prepared(inputs, targets)
        self.load_parameters(estimator, parameters)
        self._configure(estimator, number)
        with warnings.catch_warnings():
            # A round is meant to end before an estimator has converged.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if hasattr(estimator, "partial_fit"):
                for chosen in self._batches(inputs.shape[0], number):
                    _learn(estimator, inputs[chosen], None if targets is None else targets[chosen])
            else:
                _fit_whole(estimator, inputs, targets)
        loss = self.loss(estimator, inputs, targets)
        return FitResult(self.parameters_of(estimator), inputs.shape[0], {"loss": loss})

    def evaluate(self, parameters: Parameters, config: Mapping[str, Any]) -> EvaluateResult:
        """Judge the parameters on `eval_data`.

        Returns:
            Mean loss and metrics over the examples; without data nothing, with the weight 0.

        Raises:
            EstimatorError: If the parameters are not the estimator's.
        """
        given = self.eval_data()
        if given is None:
            return EvaluateResult(0.0, 0, {})
        inputs, targets = self._examples(given)
        if not inputs.shape[0]:
            return EvaluateResult(0.0, 0, {})
        estimator = self._prepared(inputs, targets)
        self.load_parameters(estimator, parameters)
        loss, metrics = self.loss(estimator, inputs, targets), self.metrics(estimator, inputs, targets)
        return EvaluateResult(loss, inputs.shape[0], {name: float(value) for name, value in metrics.items()})

    # -- estimators --------------------------------------------------------------------------------

    @property
    def _seed(self) -> int:
        return int(seed_of(self.config)) % SEEDS

    def _examples(self, given: Any) -> tuple[Any, Any]:
        """Inputs as a table, and targets if there are any."""
        arrays = as_arrays(given, f"node {self.node_id!r}: its data")
        return (as_table(arrays), None) if len(arrays) == 1 else (as_table(arrays[:-1]), arrays[-1])

    def _prepared(self, inputs: Any, targets: Any) -> Any:
        """An estimator of this node's own that has been fitted once, as it is before it has learnt anything.

        What it takes to make one is done once in a process for each kind of estimator and data.
        """
        estimator = self.model()
        outputs = () if targets is None or is_classifier(estimator) else targets.shape[1:]
        options = tuple(sorted((name, repr(value)) for name, value in estimator.get_params().items()))
        key = (type(self), type(estimator), options, inputs.shape[1], str(inputs.dtype), outputs, self._seed)
        with _LOCK:
            fitted = PREPARED.get(key)
        if fitted is None:
            fitted = self._fitted_to_nothing(estimator, inputs, outputs, targets is not None)
            with _LOCK:
                PREPARED[key] = fitted
        vars(estimator).update(copy.deepcopy(fitted))
        return estimator

    def _fitted_to_nothing(
        self, estimator: Any, inputs: Any, outputs: tuple[int, ...], has_targets: bool
    ) -> dict[str, Any]:
        """The attributes that fitting gives an estimator, as they are before it has learnt anything."""
        options = estimator.get_params()
        if options.get("average"):
            raise EstimatorError(
                f"{type(estimator).__name__}(average={options['average']!r}) keeps two sets of coefficients, and one"
                " travels: leave average out",
                names=["average"],
            )
        trial = type(estimator)(**options)
        if "random_state" in options:
            trial.set_params(random_state=self._seed)
        if "learning_rate_init" in options:
            trial.set_params(learning_rate_init=BARELY)
        before = set(vars(trial))
        classes = np.asarray(list(self.classes())) if is_classifier(estimator) else None
        rows = max(2, len(classes) if classes is not None else 0, options.get("n_clusters") or 0)
        shown = np.random.default_rng(0).normal(size=(rows, inputs.shape[1])).astype(inputs.dtype)
        targets = classes if classes is not None else np.zeros((rows, *outputs)) if has_targets else None
        if classes is not None:
            targets = np.resize(classes, rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if hasattr(trial, "partial_fit"):
                _learn(trial, shown, targets, classes)
            else:
                trial.fit(shown, targets)
        self._forget(trial)
        return {name: value for name, value in vars(trial).items() if name not in before and name != "_optimizer"}

    def _forget(self, trial: Any) -> None:
        """Undo what the made-up examples have taught."""
        names = self.learnt or learnt_of(trial)
        if "coefs_" not in names:
            for name in names:
                value = getattr(trial, name)
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, np.ndarray):
                        one[...] = 0
                    else:
                        setattr(trial, name, type(one)(0))
        for name, value in (("t_", 0 if "coefs_" in names else 1.0), ("n_iter_", 0), ("_n_since_last_reassign", 0)):
            if hasattr(trial, name):
                setattr(trial, name, value)

    def _configure(self, estimator: Any, number: int) -> None:
        """What the config and the round say, as options of the estimator."""
        options = estimator.get_params()
        state = np.random.RandomState(round_seed(seed_of(self.config), self.node_id, number) % SEEDS)
        if "random_state" in options:
            estimator.random_state = state
        if hasattr(estimator, "_random_state"):
            estimator._random_state = state
        rate = next((name for name in _RATES if name in options), None)
        if rate and self.config.get("learning_rate") is not None:
            # Not every estimator with such a rate has a rule for it: that of a Perceptron is constant.
            rules = {name: value for name, value in _RULES.get(rate, {}).items() if name in options}
            estimator.set_params(**{rate: number_of(self.config, "learning_rate", 0.0)}, **rules)
        in_batches = hasattr(estimator, "partial_fit")
        for key, option in (("weight_decay", "alpha"), ("momentum", "momentum")):
            if in_batches and option in options and self.config.get(key) is not None:
                estimator.set_params(**{option: number_of(self.config, key, 0.0)})
        if not in_batches:
            if "warm_start" in options:
                estimator.warm_start = True
            if "max_iter" in options and self.config.get("local_epochs") is not None:
                estimator.max_iter = whole_of(self.config, "local_epochs", LOCAL_EPOCHS)

    def _batches(self, count: int, number: int) -> Iterator[Any]:
        """Which examples each batch of a round holds: shuffled in each epoch by this node's random numbers."""
        size, epochs = whole_of(self.config, "batch_size", BATCH_SIZE), whole_of(self.config, "local_epochs", 1)
        limit, rng = steps_of(self.config), self.rng(number)
        done = epoch = 0
        while epoch < epochs if limit is None else done < limit:
            order = rng.permutation(count)
            for begin in range(0, count, size):
                yield order[begin : begin + size]
                done += 1
                if done == limit:
                    return
            epoch += 1


def _learn(estimator: Any, inputs: Any, targets: Any, classes: Any = None) -> None:
    if targets is None or is_clusterer(estimator):
        estimator.partial_fit(inputs)
    elif classes is not None:
        estimator.partial_fit(inputs, targets, classes=classes)
    else:
        estimator.partial_fit(inputs, targets)


def _fit_whole(estimator: Any, inputs: Any, targets: Any) -> None:
    """Fit to all examples; one of weight 0 stands in for each class that is not among them."""
    missing = np.setdiff1d(estimator.classes_, targets) if is_classifier(estimator) else ()
    if not len(missing):
        estimator.fit(inputs, targets) if targets is not None else estimator.fit(inputs)
        return
    stand_ins = np.zeros((len(missing), inputs.shape[1]), dtype=inputs.dtype)
    stacked = _rows_below(inputs, stand_ins)
    weights = np.concatenate([np.ones(inputs.shape[0]), np.zeros(len(missing))])
    estimator.fit(stacked, np.concatenate([targets, missing]), sample_weight=weights)


def _rows_below(inputs: Any, more: Any) -> Any:
    if hasattr(inputs, "tocsr"):
        from scipy.sparse import csr_matrix, vstack

        return vstack([inputs, csr_matrix(more)]).tocsr()
    return np.concatenate([inputs, more])


PREPARED: dict[tuple[Any, ...], dict[str, Any]] = {}
_LOCK = threading.Lock()
