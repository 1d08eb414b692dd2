"""Estimators of scikit-learn as nodes: the same numbers as a plain loop, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red
from red_tui.aggregation.weighted_sum import combine

sklearn = pytest.importorskip(
    "sklearn", reason="scikit-learn is not installed: `make test-extras` installs it", exc_type=ImportError
)

import red_tui.sklearn as red_sklearn  # noqa: E402
from red_tui.nodes.config import round_seed  # noqa: E402
from red_tui.sklearn.sklearn_node import PREPARED  # noqa: E402
from tests.extras import sklearn_nodes as nodes  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IN_BATCHES = [nodes.Descent, nodes.Perceptron, nodes.Adam, nodes.DescentOfNumbers, nodes.PerceptronOfNumbers]
WHOLE = [nodes.Logistic, nodes.LeastSquares, nodes.Ridged, nodes.Lassoed]


@pytest.fixture(autouse=True)
def nothing_is_prepared() -> Iterator[None]:
    PREPARED.clear()
    yield
    PREPARED.clear()


def node(template: Any, name: str = "client_0", **config: Any) -> Any:
    return template(name, "train-eval", red.FederationConfig(**{"seed": 5, "batch_size": 8, **config}))


def assert_same_bytes(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes(), name


def batches(name: str, number: int, epochs: int = 1, size: int = 8, count: int = 60) -> Iterator[Any]:
    draws = node(nodes.Descent, name).rng(number)
    for _ in range(epochs):
        order = draws.permutation(count)
        yield from (order[begin : begin + size] for begin in range(0, count, size))


def state_of(name: str, number: int) -> np.random.RandomState:
    return np.random.RandomState(round_seed(5, name, number) % 2**32)


# -- the same as a plain loop --------------------------------------------------------------------


def test_rounds_of_a_node_are_the_plain_loop_bit_for_bit_from_its_very_beginning() -> None:
    """An estimator that nobody has touched, and `partial_fit` over and over: nothing of ours but the random numbers."""
    one = node(nodes.Descent, local_epochs=2)
    parameters, plain = one.initial_parameters(), one.model()
    images, labels = nodes.examples_of("client_0")
    for number in (1, 2, 3):
        result = one.fit(parameters, {"round": number})
        plain.set_params(random_state=state_of("client_0", number))
        for chosen in batches("client_0", number, epochs=2):
            plain.partial_fit(images[chosen], labels[chosen], classes=range(10))
        parameters = result.parameters
        assert parameters["coef_"].tobytes() == plain.coef_.tobytes()
        assert parameters["intercept_"].tobytes() == plain.intercept_.tobytes()
        assert float(parameters["t_"]) == plain.t_ == 1 + 120 * number
    assert result.num_examples == 60
    judged = one.evaluate(parameters, {})
    assert judged.metrics == {"accuracy": plain.score(images, labels)} and judged.num_examples == 60
    assert judged.loss == sklearn.metrics.log_loss(labels, plain.predict_proba(images), labels=range(10))
    assert result.metrics["loss"] == judged.loss


def plain_loop(template: Any, parameters: Any, name: str, number: int) -> dict[str, Any]:
    """What anybody would write with scikit-learn alone, once an estimator has been fitted to anything."""
    one = node(template, name)
    inputs, targets = one.train_data()
    plain = one.model()
    if hasattr(plain, "random_state"):
        plain.set_params(random_state=state_of(name, number))
    classes = {"classes": range(10)} if sklearn.base.is_classifier(plain) else {}
    plain.partial_fit(inputs[:10], targets[:10], **classes)
    red_sklearn.load_parameters_into(plain, parameters)
    for volatile in [key for key in vars(plain) if key == "_" + "optimizer"]:
        delattr(plain, volatile)
    if hasattr(plain, "random_state"):
        plain.set_params(random_state=state_of(name, number))
    for chosen in batches(name, number):
        plain.partial_fit(inputs[chosen], targets[chosen])
    return red_sklearn.estimator_to_parameters(plain)


@pytest.mark.parametrize("template", IN_BATCHES, ids=lambda one: one.__name__)
def test_what_learns_in_batches_is_the_plain_loop_bit_for_bit(template: Any) -> None:
    one = node(template)
    start = one.initial_parameters()
    first = one.fit(start, {"round": 1}).parameters
    assert_same_bytes(first, plain_loop(template, start, "client_0", 1))
    assert_same_bytes(one.fit(first, {"round": 2}).parameters, plain_loop(template, first, "client_0", 2))


@pytest.mark.parametrize("template", WHOLE, ids=lambda one: one.__name__)
def test_what_is_fitted_whole_is_a_plain_fit_bit_for_bit(template: Any) -> None:
    one = node(template)
    start = one.initial_parameters()
    assert not any(array.any() for array in start.values()), "zeros"
    inputs, targets = one.train_data()
    plain = one.model()
    warm = {"warm_start": True} if "warm_start" in plain.get_params() else {}
    plain.set_params(**warm)
    for number in (1, 2):
        start = one.fit(start, {"round": number}).parameters
        plain.fit(inputs, targets)
        assert start["coef_"].tobytes() == plain.coef_.tobytes()
        assert start["intercept_"].tobytes() == np.asarray(plain.intercept_).tobytes()


def test_iterations_of_a_solver_are_local_epochs() -> None:
    one, other = node(nodes.Logistic), node(nodes.Logistic, local_epochs=1)
    start = one.initial_parameters()
    plain = one.model().set_params(max_iter=1).fit(*nodes.examples_of("client_0"))
    assert other.fit(start, {}).parameters["coef_"].tobytes() == plain.coef_.tobytes()
    assert one.fit(start, {}).parameters["coef_"].tobytes() != plain.coef_.tobytes()


def test_a_node_without_some_of_the_classes_learns_the_others() -> None:
    """As scikit-learn does with examples of weight 0: the shape of the coefficients is the federation's."""
    images, labels = nodes.examples_of("client_0")
    few = images[labels < 3], labels[labels < 3]
    for template in (nodes.Logistic, nodes.Descent, nodes.Adam):
        one = node(template)
        one.train_data = lambda: few
        result = one.fit(one.initial_parameters(), {"round": 1})
        assert result.num_examples == len(few[1])
        learnt = one.evaluate(result.parameters, {"round": 1})
        assert learnt.num_examples == 60 and 0 < learnt.metrics["accuracy"] < 0.5
    one = node(nodes.Logistic)
    one.train_data = lambda: few
    plain = one.model().set_params(warm_start=True)
    stacked = np.concatenate([few[0], np.zeros((7, 64), np.float32)])
    weights = [1.0] * len(few[1]) + [0.0] * 7
    plain.fit(stacked, np.concatenate([few[1], np.arange(3, 10)]), sample_weight=weights)
    assert one.fit(one.initial_parameters(), {}).parameters["coef_"].tobytes() == plain.coef_.tobytes()
    one.train_data = lambda: (images[labels == 4], labels[labels == 4])
    assert one.fit(one.initial_parameters(), {}).num_examples == np.sum(labels == 4), "a single class"


def test_clusters_begin_among_the_images_and_move_as_in_a_plain_loop() -> None:
    one = node(nodes.Clusters, batch_size=20)
    start = one.initial_parameters()
    images, _ = nodes.examples_of("client_0")
    assert start["cluster_centers_"].shape == (10, 64) and not start["_counts"].any()
    assert all((images == centre).all(axis=1).any() for centre in start["cluster_centers_"])
    plain = one.model().set_params(random_state=state_of("client_0", 1), init=start["cluster_centers_"])
    for chosen in batches("client_0", 1, size=20):
        plain.partial_fit(images[chosen])
    learnt = one.fit(start, {"round": 1})
    assert learnt.parameters["cluster_centers_"].tobytes() == plain.cluster_centers_.tobytes()
    counts = red_sklearn.estimator_to_parameters(plain)["_counts"]
    assert learnt.parameters["_counts"].tolist() == counts.tolist() and counts.sum() >= 60
    assert (
        learnt.metrics["loss"]
        < one.evaluate(start, {}).loss
        == pytest.approx(
            np.mean(np.square(images[:, None] - start["cluster_centers_"]).sum(axis=2).min(axis=1)), rel=1e-5
        )
    )


def test_an_estimator_of_any_other_kind_says_what_it_learns() -> None:
    one = node(nodes.Bayes, batch_size=60)
    start = one.initial_parameters()
    images, labels = nodes.examples_of("client_0")
    plain = one.model().partial_fit(images, labels, classes=range(10))
    learnt = one.fit(start, {"round": 1}).parameters
    for name in ("theta_", "var_", "class_count_"):
        np.testing.assert_allclose(learnt[name], getattr(plain, name), rtol=1e-5, atol=1e-7)

    class Unknown(nodes.Bayes):
        learnt = ()

    with pytest.raises(red_sklearn.EstimatorError, match=r"what GaussianNB learns is not known here: name its"):
        node(Unknown).initial_parameters()


def test_what_a_node_does_depends_on_nobody_who_ran_before() -> None:
    one, other = (node(nodes.Perceptron, name) for name in ("client_0", "client_1"))
    start = one.initial_parameters()
    assert_same_bytes(other.initial_parameters(), start)
    alone = one.fit(start, {"round": 2})
    other.fit(start, {"round": 2})
    np.random.rand(100)
    assert_same_bytes(one.fit(start, {"round": 2}).parameters, alone.parameters)
    assert len(PREPARED) == 1, "made ready once a process"


def test_keys_of_the_config_become_options_of_the_estimator() -> None:
    one = node(nodes.Descent, learning_rate=0.25, weight_decay=0.0, batch_size=60, local_steps=3)
    start = one.initial_parameters()
    images, labels = nodes.examples_of("client_0")
    plain = one.model().set_params(learning_rate="constant", eta0=0.25, alpha=0.0, random_state=state_of("client_0", 1))
    for chosen in batches("client_0", 1, epochs=3, size=60):
        plain.partial_fit(images[chosen], labels[chosen], classes=range(10))
    assert one.fit(start, {"round": 1}).parameters["coef_"].tobytes() == plain.coef_.tobytes()


def test_a_rate_without_a_rule_of_its_own_is_set() -> None:
    one = node(nodes.RosenblattsPerceptron, learning_rate=0.25, weight_decay=0.001)
    start = one.initial_parameters()
    images, labels = nodes.examples_of("client_0")
    plain = one.model().set_params(eta0=0.25, alpha=0.001, random_state=state_of("client_0", 1))
    for chosen in batches("client_0", 1):
        plain.partial_fit(images[chosen], labels[chosen], classes=range(10))
    result = one.fit(start, {"round": 1})
    assert result.parameters["coef_"].tobytes() == plain.coef_.tobytes() and plain.coef_.any()
    assert result.metrics["loss"] == np.mean(plain.predict(images) != labels)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"learning_rate": "fast"}, "learning_rate must be a finite number of at least 0, not 'fast'"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"local_steps": 2.5}, "local_steps must be a whole number of at least 1, not 2.5"),
    ],
)
def test_keys_that_make_no_sense_say_so(config: dict[str, Any], says: str) -> None:
    one = node(nodes.Descent, **config)
    with pytest.raises(ValueError, match=says):
        one.fit(one.initial_parameters(), {"round": 1})


def test_data_of_many_kinds() -> None:
    images, labels = nodes.examples_of("client_0")
    start = node(nodes.Descent).initial_parameters()
    expected = node(nodes.Descent).fit(start, {"round": 1}).parameters
    for given in (
        {"image": images, "label": labels},
        {"left": images[:, :32], "right": images[:, 32:], "label": labels},
        (images.reshape(-1, 8, 8), labels),
        red.data.Examples([(images[at], labels[at]) for at in range(60)], np.arange(60)),
    ):
        one = node(nodes.Descent)
        one.train_data = lambda given=given: given
        assert_same_bytes(one.fit(start, {"round": 1}).parameters, expected)
    from scipy.sparse import csr_matrix

    one, sparse = node(nodes.Descent), csr_matrix(images)
    one.train_data = lambda: (sparse, labels)
    plain = one.model().set_params(random_state=state_of("client_0", 1))
    for chosen in batches("client_0", 1):
        plain.partial_fit(sparse[chosen], labels[chosen], classes=range(10))
    assert one.fit(start, {"round": 1}).parameters["coef_"].tobytes() == plain.coef_.tobytes()


# -- what goes wrong -----------------------------------------------------------------------------


def test_what_cannot_be_a_model_says_so() -> None:
    start = node(nodes.Descent).initial_parameters()
    one = node(nodes.Descent)
    with pytest.raises(red_sklearn.EstimatorError, match="not the parameters of SGDClassifier: it lacks t_; not of"):
        one.fit({"coef_": start["coef_"], "intercept_": start["intercept_"], "t": start["t_"]}, {})
    with pytest.raises(red_sklearn.EstimatorError, match=r"'coef_' has the shape \(2,\), and the estimator's is \(10"):
        one.fit({**start, "coef_": np.zeros(2)}, {})
    with pytest.raises(red_sklearn.EstimatorError, match="'coef_' is complex128, and the estimator's is float32"):
        one.fit({**start, "coef_": start["coef_"].astype(complex)}, {})
    with pytest.raises(NotImplementedError, match="DigitsNode needs a method model"):
        node(nodes.DigitsNode).initial_parameters()

    class NoClasses(nodes.Descent):
        classes = red_sklearn.SklearnNode.classes

    with pytest.raises(red_sklearn.EstimatorError, match=r"write classes\(self\), such as return range\(10\)"):
        node(NoClasses).initial_parameters()

    class Averaged(nodes.Descent):
        def model(self) -> Any:
            return sklearn.linear_model.SGDClassifier(average=True)

    with pytest.raises(red_sklearn.EstimatorError, match=r"SGDClassifier\(average=True\) keeps two sets"):
        node(Averaged).initial_parameters()
    one.train_data = lambda: 5
    with pytest.raises(red.RedError, match="node 'client_0': its data are int: give a tuple of arrays"):
        one.fit(start, {})
    one.train_data = lambda: (np.empty((0, 64), np.float32), np.empty(0, int))
    with pytest.raises(red.RedError, match="'client_0' has no examples to train on"):
        one.fit(start, {})


# -- in a federation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_cpus() -> Iterator[None]:
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR", namespace="red")
    yield
    ray.shutdown()


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_a_federation_is_the_mean_of_plain_loops(isolation: str, three_cpus: None) -> None:
    """Two rounds of two nodes, in a process each and both in one bundle; between them all are released and rebuilt."""
    bundles = {"nodes_per_bundle": 2} if isolation == "bundle" else {}
    with red.StarFederatedLearningSchema(
        nodes.Perceptron,
        ["train-eval"] * 2,
        {"federation_id": f"sklearn-{isolation}", "seed": 5, "batch_size": 8},
        isolation=isolation,
        **bundles,
    ) as federation:
        results = list(federation.run(1))
        federation.release(federation.nodes)
        results += federation.run(1)
        assert all(len(result.participants) == 2 and not result.failures for result in results)
        learnt = federation.parameters()
    expected = node(nodes.Perceptron).initial_parameters()
    for number in (1, 2):
        updates = [plain_loop(nodes.Perceptron, expected, f"client_{place}", number) for place in range(2)]
        expected = combine(updates, [60.0, 60.0], {name: array.dtype for name, array in expected.items()})
    for name, array in expected.items():
        np.testing.assert_allclose(learnt[name], array, rtol=1e-6, atol=1e-7, err_msg=name)
    assert results[-1].metrics["accuracy"] > 0


def test_nodes_take_turns_and_learn_the_digits(three_cpus: None) -> None:
    config = {
        "federation_id": "sklearn-turns",
        "data": {"source": "tests.extras.test_sklearn:digits", "partition": {"name": "dirichlet", "alpha": 0.5}},
        "seed": 5,
        "batch_size": 8,
    }

    class Client(red_sklearn.SklearnNode):
        def model(self) -> Any:
            return sklearn.linear_model.SGDClassifier(loss="log_loss", alpha=1e-4)

        def eval_data(self) -> Any:
            return self.data

    with red.StarFederatedLearningSchema(
        Client, ["train-eval"] * 12, config, isolation="bundle", nodes_per_bundle=3
    ) as federation:
        federation.run(5)
        assert not any(result.failures for result in federation.history)
        assert federation.history[-1].metrics["accuracy"] > 0.85


def digits() -> tuple[Any, Any]:
    loaded = nodes.load_digits()
    return loaded.train_images, loaded.train_labels
