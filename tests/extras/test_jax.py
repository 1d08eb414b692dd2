"""Models of JAX as nodes: the numbers of a plain loop, and those of many nodes at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red
from red_tui.aggregation.weighted_sum import combine

jax = pytest.importorskip("jax", reason="JAX is not installed: `make test-extras` installs it", exc_type=ImportError)

import red_tui.jax as red_jax  # noqa: E402
from red_tui.jax.compiled_steps import COMPILED, ReadKeys, TracedConfig, steps_for  # noqa: E402
from red_tui.nodes.config import round_seed  # noqa: E402
from tests.extras import jax_nodes as nodes  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:os.fork")

LEARNING = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01}


@pytest.fixture(autouse=True)
def nothing_is_compiled() -> Iterator[None]:
    COMPILED.clear()
    yield
    COMPILED.clear()


def node(template: Any, name: str = "client_0", **config: Any) -> Any:
    return template(name, "train-eval", red.FederationConfig(**{"seed": 5, "batch_size": 8, **LEARNING, **config}))


def assert_same_bytes(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes(), name


def assert_close(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=tolerance, err_msg=name)


def batches(name: str, number: int, epochs: int = 1) -> Iterator[tuple[Any, Any, Any]]:
    """Images, labels and weights of each batch of 8: the last is filled up with the first of its epoch."""
    images, labels = nodes.examples_of(name)
    draws = node(nodes.Linear, name).rng(number)
    for _ in range(epochs):
        order = draws.permutation(len(labels))
        for begin in range(0, len(order), 8):
            chosen = order[begin : begin + 8]
            filled = np.r_[chosen, np.repeat(order[:1], 8 - len(chosen))]
            yield images[filled], labels[filled], (np.arange(8) < len(chosen)).astype(np.float32)


def same_step(template: Any, parameters: Any, name: str, number: int, epochs: int = 1, **config: Any) -> Any:
    """A loop over the step that a process compiles for its nodes."""
    one = node(template, name, **config)
    steps = steps_for(one)
    rates = {key: np.float32(value) for key, value in LEARNING.items()}
    seed = round_seed(5, name, number)
    learner = steps.begin(red_jax.parameters_to_tree(parameters, steps.form), rates)
    for place, (images, labels, weights) in enumerate(batches(name, number, epochs)):
        key = np.uint32(seed % 2**32), np.uint32(seed >> 32), np.uint32(place)
        learner, _ = steps.step(learner, (images, labels), weights, key, rates)
    return red_jax.tree_to_parameters(learner[0])


def plain_loop(parameters: Any, name: str, number: int, epochs: int = 1) -> dict[str, Any]:
    """What anybody would write with JAX alone: a smaller last batch, and the mean of what is there."""
    kernel, bias = parameters["dense/kernel"], parameters["dense/bias"]

    def loss(weights: Any, images: Any, labels: Any) -> Any:
        logs = jax.nn.log_softmax(images @ weights[0] + weights[1])
        return -logs[np.arange(len(labels)), labels].mean()

    weights, velocity = (kernel, bias), (np.zeros_like(kernel), np.zeros_like(bias))
    for images, labels, counted in batches(name, number, epochs):
        size = int(counted.sum())
        gradients = jax.grad(loss)(weights, images[:size], labels[:size])
        velocity = tuple(
            0.9 * old + slope + 0.01 * one for old, slope, one in zip(velocity, gradients, weights, strict=True)
        )
        weights = tuple(one - 0.1 * moved for one, moved in zip(weights, velocity, strict=True))
    return {"dense/bias": np.asarray(weights[1]), "dense/kernel": np.asarray(weights[0])}


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_round_of_a_node_is_a_loop_over_the_same_step_bit_for_bit_and_close_to_a_plain_one(epochs: int) -> None:
    one = node(nodes.Linear, local_epochs=epochs)
    start = one.initial_parameters()
    assert list(start) == ["dense/bias", "dense/kernel"], "JAX sorts the keys of dicts"
    result = one.fit(start, {"round": 4})
    assert_same_bytes(result.parameters, same_step(nodes.Linear, start, "client_0", 4, epochs))
    assert_close(result.parameters, plain_loop(start, "client_0", 4, epochs))
    assert result.num_examples == 30 and 0 < result.metrics["loss"] < 3
    assert_same_bytes(one.fit(start, {"round": 4}).parameters, result.parameters)


@pytest.mark.parametrize("template", [nodes.Linear, nodes.Dropped, nodes.WithAdam], ids=lambda one: one.__name__)
@pytest.mark.parametrize("count", [2, 5])
def test_many_nodes_at_once_learn_what_each_learns_alone(template: Any, count: int) -> None:
    """Of different numbers of examples, and so of batches; with random numbers of their own."""
    those = [node(template, f"client_{place}", local_epochs=2) for place in range(count)]
    those[1].train_data = lambda: tuple(array[:20] for array in nodes.examples_of("client_1"))
    start = those[0].initial_parameters()
    together = template.fit_together(those, start, {"round": 3})
    for one, result in zip(those, together, strict=True):
        alone = one.fit(start, {"round": 3})
        assert_close(result.parameters, alone.parameters)
        assert result.num_examples == alone.num_examples
        assert result.metrics["loss"] == pytest.approx(alone.metrics["loss"], abs=1e-5)
    assert len({result.parameters["dense/kernel"].tobytes() for result in together}) == count
    assert len(COMPILED[template]) == 1, "compiled once a process"


def test_nodes_with_data_of_another_shape_and_those_that_fail_are_left_to_themselves() -> None:
    those = [node(nodes.Linear, f"client_{place}") for place in range(4)]
    start = those[0].initial_parameters()
    those[1].train_data = lambda: 5
    images, labels = nodes.examples_of("client_2")
    those[2].train_data = lambda: (images.astype(np.float64), labels)
    together = nodes.Linear.fit_together(those, start, {"round": 1})
    assert [result is None for result in together] == [False, True, True, False]


def test_a_key_that_was_compiled_in_and_differs_is_compiled_again() -> None:
    one, other = node(nodes.Dropped, keep=1.0), node(nodes.Dropped, keep=0.25)
    start = one.initial_parameters()
    full = one.fit(start, {"round": 1}).parameters
    assert other.fit(start, {"round": 1}).parameters["dense/kernel"].tobytes() != full["dense/kernel"].tobytes()
    assert_close(full, plain_loop(start, "client_0", 1))
    assert_same_bytes(node(nodes.Dropped, keep=1.0, unread=3).fit(start, {"round": 1}).parameters, full)
    assert len(COMPILED[nodes.Dropped]) == 2, "keys that nobody reads do not matter"
    assert nodes.Dropped.fit_together([one, other], start, {"round": 1}) == [None, None]
    one.fit(start, {"round": 1})
    rate = node(nodes.Dropped, keep=1.0, learning_rate=0.3)
    assert rate.fit(start, {"round": 1}).parameters["dense/kernel"].tobytes() != full["dense/kernel"].tobytes()
    assert len(COMPILED[nodes.Dropped]) == 2, "rates are no constants"


@pytest.mark.parametrize("way", nodes.ReadsOtherwise.ways)
def test_a_key_is_compiled_in_however_it_is_read_and_also_where_it_is_not_there(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes.ReadsOtherwise, "way", way)
    start = node(nodes.Linear).initial_parameters()

    def learnt(**keys: Any) -> Any:
        one = node(nodes.ReadsOtherwise, **keys)
        return one.fit(start, {"round": 1}).parameters, one.evaluate(start, {"round": 1}).loss

    plain, loss = learnt()
    assert_same_bytes(plain, node(nodes.Linear).fit(start, {"round": 1}).parameters)
    scaled, scaled_loss = learnt(scale=3.0)
    assert scaled["dense/kernel"].tobytes() != plain["dense/kernel"].tobytes() and scaled_loss != loss
    assert_same_bytes(learnt()[0], plain)
    COMPILED.clear()
    assert_same_bytes(learnt(scale=3.0)[0], scaled)
    those = [node(nodes.ReadsOtherwise, f"client_{place}", scale=3.0 - place) for place in range(2)]
    assert nodes.ReadsOtherwise.fit_together(those, start, {"round": 1}) == [None, None]


def test_values_of_any_kind_are_compared() -> None:
    """Of what cannot be compared, functions are compiled anew; the node's own config always fits."""
    fresh = {
        "arrays": lambda: {"mask": np.arange(3), "more": [np.ones(2), float("nan")]},
        "on device": lambda: jax.numpy.arange(3),
        "object": lambda: np.asarray([object()]),
    }
    for kind, make in fresh.items():
        config = red.FederationConfig(kept=make())
        read = ReadKeys(config)
        TracedConfig(read).as_dict()
        assert read.fits(config), kind
        assert not read.fits(config.updated(kept=5)) and read.differing(config.updated(more=1)) == ["more"]
    read = ReadKeys(red.FederationConfig(kept={"mask": np.arange(3)}, keys="k", read="r", config="c"))
    traced = TracedConfig(read)
    assert (traced.keys, traced.read, traced.config, traced.kept["mask"].tolist()) == ("k", "r", "c", [0, 1, 2])
    assert set(read.read) == {"keys", "read", "config", "kept"}
    told = {"keys": "k", "read": "r", "config": "c"}
    assert read.fits(red.FederationConfig(kept={"mask": np.arange(3)}, **told))
    assert not read.fits(red.FederationConfig(kept={"mask": np.arange(3.0)}, **told))
    assert read.differing(red.FederationConfig()) == ["config", "kept", "keys", "read"]


def test_a_config_that_does_not_keep_its_values_is_told_and_not_waited_for() -> None:
    class Counting(red.FederationConfig):
        def get(self, key: str, default: Any = None) -> Any:
            return object() if key == "keep" else super().get(key, default)

    class Asks(nodes.Linear):
        def apply(self, parameters: Any, inputs: Any) -> Any:
            return super().apply(parameters, inputs) * (1.0 if self.config.get("keep") else 2.0)

    one = Asks("client_0", "train-eval", Counting(seed=5, batch_size=8))
    start = one.initial_parameters()
    for act in (one.fit, one.evaluate):
        with pytest.raises(
            red.RedError, match=r"node 'client_0': the config has other values of 'keep' than while Asks"
        ):
            act(start, {"round": 1})


def test_nodes_with_many_more_batches_do_not_fill_up_the_others() -> None:
    """Who has a hundred times the batches learns by itself: the others would be filled up to its length."""
    those = [node(nodes.Linear, f"client_{place}") for place in range(4)]
    images, labels = nodes.examples_of("client_3")
    those[3].train_data = lambda: (np.tile(images, (100, 1)), np.tile(labels, 100))
    start = those[0].initial_parameters()
    together = nodes.Linear.fit_together(those, start, {"round": 1})
    assert [result is None for result in together] == [False, False, False, True]
    for one, result in zip(those[:3], together[:3], strict=True):
        assert_close(result.parameters, one.fit(start, {"round": 1}).parameters)


def test_rows_of_nodes_that_learn_together_are_not_laid_out_twice() -> None:
    """Ten passes over the data of eight nodes take far less than ten copies of it: indices, and a row of batches."""
    those = [node(nodes.Linear, f"client_{place}", local_epochs=10) for place in range(8)]
    for place, one in enumerate(those):
        given = np.full((2000, 64), place, np.float32), np.arange(2000) % 10
        one.train_data = lambda given=given: given
    start = those[0].initial_parameters()
    nodes.Linear.fit_together(those, start, {"round": 1})
    size = sum(array.nbytes for one in those for array in one.train_data())
    tracemalloc.start()
    try:
        together = nodes.Linear.fit_together(those, start, {"round": 2})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(together) and most < 5 * size, f"{most:,} bytes, and the data are {size:,}"


def test_what_is_a_nodes_own_cannot_be_compiled_for_all() -> None:
    one = node(nodes.Nosy)
    with pytest.raises(AttributeError, match="node_id: apply, losses, metrics and optimizer are compiled once for all"):
        one.fit(one.initial_parameters(), {"round": 1})
    with pytest.raises(AttributeError, match="'Nosy' object has no attribute 'nothing'"):
        one.nothing  # noqa: B018


def test_steps_count_batches_and_go_round() -> None:
    one = node(nodes.Linear, local_steps=6)
    start = one.initial_parameters()
    all_three = node(nodes.Linear, local_epochs=2).fit(start, {"round": 1}).parameters
    six = one.fit(start, {"round": 1})
    assert six.num_examples == 30 and six.parameters["dense/kernel"].tobytes() != all_three["dense/kernel"].tobytes()
    assert_same_bytes(node(nodes.Linear, local_steps=8).fit(start, {"round": 1}).parameters, all_three)


def test_judging_counts_each_example_once() -> None:
    one = node(nodes.Linear, batch_size=7)
    start = one.initial_parameters()
    result = one.evaluate(start, {"round": 1})
    images, labels = nodes.examples_of("client_0")
    logs = np.asarray(jax.nn.log_softmax(images @ start["dense/kernel"] + start["dense/bias"]))
    assert result.loss == pytest.approx(-logs[np.arange(30), labels].mean(), rel=1e-5) and result.num_examples == 30
    assert result.metrics == {"accuracy": pytest.approx((logs.argmax(1) == labels).mean())}
    one.eval_data = lambda: None
    assert one.evaluate(start, {}) == red.EvaluateResult(0.0, 0, {})


def test_numbers_are_learnt_by_squares() -> None:
    images, _ = nodes.examples_of("client_0")
    one = node(nodes.Linear, batch_size=30, learning_rate=0.0)
    one.train_data = lambda: (images, np.ones((30, 10), np.float32))
    start = one.initial_parameters()
    outputs = images @ start["dense/kernel"] + start["dense/bias"]
    assert one.fit(start, {}).metrics["loss"] == pytest.approx(np.mean((outputs - 1) ** 2), rel=1e-5)


def test_trees_go_there_and_back() -> None:
    one = node(nodes.Halved)
    start = one.initial_parameters()
    assert list(start) == ["0", "1"] and start["0"].dtype.name == "bfloat16"
    learnt = one.fit(start, {"round": 1}).parameters
    assert learnt["0"].dtype.name == "bfloat16" and learnt["0"].any()
    mean = combine([start, learnt], [1.0, 1.0], {name: array.dtype for name, array in start.items()})
    one.fit(mean, {"round": 2})
    tree = {"a": [np.ones(2), {"b": np.zeros((), int)}], "c": (np.arange(3.0),)}
    parameters = red_jax.tree_to_parameters(tree)
    assert list(parameters) == ["a/0", "a/1/b", "c/0"]
    back = red_jax.parameters_to_tree(parameters, tree)
    assert back["c"][0].tolist() == [0, 1, 2] and isinstance(back["a"], list)
    assert list(red_jax.tree_to_parameters(np.ones(2))) == ["value"]
    with pytest.raises(red_jax.TreeError, match="two leaves of the tree are named 'a/b'"):
        red_jax.tree_to_parameters({"a": {"b": np.ones(1)}, "a/b": np.ones(1)})
    with pytest.raises(TypeError, match="'a' is str, no array"):
        red_jax.tree_to_parameters({"a": "text"})


def test_parameters_of_another_model_are_named() -> None:
    one = node(nodes.Linear)
    start = one.initial_parameters()
    with pytest.raises(red_jax.TreeError, match="not the parameters of the model: it lacks dense/bias; not of it: b"):
        one.fit({"dense/kernel": start["dense/kernel"], "b": start["dense/bias"]}, {})
    with pytest.raises(red_jax.TreeError, match=r"'dense/bias' has the shape \(2,\), and the model's is \(10,\)"):
        one.fit({**start, "dense/bias": np.zeros(2, np.float32)}, {})
    with pytest.raises(red_jax.TreeError, match="'dense/bias' is complex64, and the model's is float32"):
        one.fit({**start, "dense/bias": start["dense/bias"].astype(np.complex64)}, {})
    one.train_data = lambda: (np.empty((0, 64), np.float32), np.empty(0, int))
    with pytest.raises(red.RedError, match="'client_0' has no examples to train on"):
        one.fit(start, {})
    with pytest.raises(NotImplementedError, match="JaxNode needs a method model"):
        node(red_jax.JaxNode).initial_parameters()


# -- in a federation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_cpus() -> Iterator[None]:
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR", namespace="red")
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    ("template", "isolation"), [(nodes.Linear, "process"), (nodes.Linear, "bundle"), (nodes.OneByOne, "bundle")]
)
def test_a_federation_is_the_mean_of_plain_loops(template: Any, isolation: str, three_cpus: None) -> None:
    """Two rounds of three nodes, in a process each or in one bundle; between them all are released and rebuilt."""
    bundles = {"nodes_per_bundle": 3} if isolation == "bundle" else {}
    config = {"federation_id": f"jax-{isolation}-{template.__name__}", "seed": 5, "batch_size": 8, **LEARNING}
    count = 3 if isolation == "bundle" else 2
    with red.StarFederatedLearningSchema(
        template, ["train-eval"] * count, config, isolation=isolation, **bundles
    ) as federation:
        results = list(federation.run(1))
        federation.release(federation.nodes)
        results += federation.run(1)
        assert all(len(result.participants) == count and not result.failures for result in results)
        learnt = federation.parameters()
    expected = node(template).initial_parameters()
    for number in (1, 2):
        updates = [plain_loop(expected, f"client_{place}", number) for place in range(count)]
        sizes = [float(30 - place % 3) for place in range(count)]
        expected = combine(updates, sizes, {name: array.dtype for name, array in expected.items()})
    assert_close(learnt, expected)
    assert results[-1].metrics["accuracy"] > 0
