"""Numbers and arrays of templates: taken alike from every library, refused in words, never changed silently."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import red_tui as red
from red_tui.aggregation.answers import weighted_mean_of
from red_tui.aggregation.server import FederatedServer
from red_tui.aggregation.strategies import make_strategy, weighted_mean
from red_tui.federation.argument_checks import first_parameters
from red_tui.nodes.arrays import as_number, check_weight, trouble_of
from red_tui.nodes.extension_types import EXTENSION_TYPES
from red_tui.nodes.template import check_parameters
from red_tui.runtime.batch import Order
from red_tui.runtime.bundle_actor import BundleActor
from red_tui.runtime.node_runtime import NodeRuntime, check_evaluate, check_fit, numbers
from tests.unit.steppers import Told, batch

LARGE = 100_000
"""Numbers of a model that is too large to be stacked."""


class Tensor:
    """Looks as a tensor does: an `item` and a shape."""

    def __init__(self, *values: float) -> None:
        self.values, self.shape = values, (len(values),)

    def item(self) -> float:
        (value,) = self.values
        return value


@pytest.mark.parametrize(
    "half",
    [
        0.5,
        np.float32(0.5),
        np.float64(0.5),
        np.array(0.5),
        np.array([0.5]),
        np.array([[0.5]]),
        Tensor(0.5),
        Fraction(1, 2),
    ],
)
def test_a_number_is_taken_alike_whichever_library_made_it(half: Any) -> None:
    judged = check_evaluate(red.EvaluateResult(half, half, {"accuracy": half}))
    assert (judged.loss, judged.num_examples) == (0.5, 0.5) and type(judged.loss) is type(judged.num_examples) is float
    assert numbers({"accuracy": half}) == {"accuracy": 0.5}
    model = {"w": np.zeros(2)}
    fitted = check_fit(red.FitResult(model, half, {}), model)
    assert fitted.num_examples == 0.5 and type(fitted.num_examples) is float


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "must be a number, not None"),
        ("0.5", "must be a number, not str"),
        ([0.5], "must be a number, not list"),
        (np.array([0.5, 1]), "must be one number, not ndarray of shape (2,)"),
        (Tensor(1, 2), "must be one number, not Tensor of shape (2,)"),
        (np.array("a"), "must be a number, not ndarray of str"),
        (1j, "must be a number, not complex"),
        (np.complex64(1j), "must be a real number"),
        (np.ma.masked, "is masked: it has no value"),
        (np.ma.array([1.0], mask=[True]), "is masked: it has no value"),
        (10**400, "is too large for a float"),
    ],
)
def test_what_is_no_number_is_refused_in_words(value: Any, told: str) -> None:
    for read in (
        lambda: as_number(value, "it"),
        lambda: check_evaluate(red.EvaluateResult(value, 1)),
        lambda: check_evaluate(red.EvaluateResult(1.0, value)),
        lambda: numbers({"m": value}),
        lambda: check_weight(value),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            read()
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.array(["a"]), "'w' holds text, not numbers"),
        (np.array([b"a"]), "'w' holds bytes, not numbers"),
        (np.array([None]), "'w' holds Python objects, not numbers"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "'w' holds dates, not numbers"),
        (np.zeros(1, dtype=[("a", float)]), "'w' holds records, not numbers"),
        (np.ma.array([1.0, 2.0], mask=[True, False]), "'w' is a masked array"),
        (np.array([2**53 + 1]), "'w' holds whole numbers beyond 2**53"),
        (np.array(-(2**60)), "'w' holds whole numbers beyond 2**53"),
        (np.array([2**63], np.uint64), "'w' holds whole numbers beyond 2**53"),
        (np.zeros(1, np.longdouble), "and updates are averaged in float64"),
        (np.array([np.nan]), "'w' holds NaN or infinity"),
        (np.array([1.7e308]), "'w' holds numbers up to 1.7e+308, which are too large to be averaged"),
        (np.array([1.7e308j]), "'w' holds numbers up to 1.7e+308, which are too large"),
        ([1.0], "'w' must be a numpy array under a string, not list: call np.asarray(value)"),
    ],
)
def test_arrays_that_an_average_would_change_are_refused_in_words(array: Any, told: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        check_parameters({"w": array}, "it")
    assert told in str(caught.value)
    model = {"w": np.zeros(np.shape(array))}
    with pytest.raises((TypeError, ValueError)) as caught:
        check_fit(red.FitResult({"w": array}, 1), model)
    assert told in str(caught.value)
    if isinstance(array, np.ndarray):
        with pytest.raises((TypeError, ValueError)):
            first_parameters({"w": array})


@pytest.mark.parametrize(
    "array",
    [
        np.array([2**53, -(2**53)]),
        np.array(7),
        np.array([True]),
        np.zeros(0, np.int64),
        np.zeros((2, 0)),
        np.zeros(2, np.float16),
        np.full(2, 3e38, np.float32),
        np.full(3, 1e150),
    ],
)
def test_arrays_that_can_be_averaged_are_taken(array: Any) -> None:
    assert trouble_of(array) == "" and check_parameters({"w": array}, "it")["w"] is array


def test_numbers_of_numpy_are_arrays_without_dimensions() -> None:
    made = check_parameters({"w": np.float32(2), "n": np.zeros(2)}, "it")
    assert type(made["w"]) is np.ndarray and made["w"].shape == () and made["w"].dtype == np.float32


@pytest.mark.parametrize(
    "strategy",
    ["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "median", "trimmed-mean", {"name": "krum", "keep": 2}],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_parameters_without_dimensions_stay_arrays_in_every_strategy(strategy: Any, kind: type) -> None:
    told = {"name": strategy} if isinstance(strategy, str) else dict(strategy)
    made = make_strategy(told.pop("name"), told)
    start = {"w": np.array(1, kind), "v": np.zeros(2, kind)}
    updates = [{"w": np.array(number, kind), "v": np.full(2, number, kind)} for number in (1, 2, 3)]
    for _ in range(2):
        start = made.aggregate(start, updates, [1.0, 1.0, 1.0])
        for name, shape in (("w", ()), ("v", (2,))):
            assert type(start[name]) is np.ndarray and start[name].shape == shape and start[name].dtype == kind


# -- one node's absurd numbers -----------------------------------------------------------------------------


class Absurd(red.FederatedNode):
    """Node 1 gives what its class says, the others 1 of 1 example."""

    given: Any = None
    examples: Any = 1

    def fit(self, parameters: dict[str, Any], config: Mapping[str, Any]) -> red.FitResult:
        if self.config.node_index == 1:
            given = parameters["w"] + 1 if self.given is None else np.full_like(parameters["w"], self.given)
            return red.FitResult({"w": given}, self.examples)
        return red.FitResult({"w": parameters["w"] + 1}, 1)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("size", [4, LARGE])
@pytest.mark.parametrize(
    ("kind", "given", "examples", "told"),
    [
        (np.float64, 1.7e308, 1, "holds numbers up to 1.7e+308, which are too large to be averaged"),
        (np.float64, -1e160, 1, "holds numbers up to 1e+160"),
        (np.float32, None, 1e308, "num_examples must be at most 2**53 (9e15), not 1e+308"),
        (np.float64, None, np.array(1e300), "num_examples must be at most 2**53"),
        (np.float32, None, -1, "num_examples must be a finite number that is not negative"),
    ],
)
def test_absurd_numbers_of_one_node_are_named_and_the_round_goes_on(
    kind: type, given: Any, examples: Any, told: str, size: int, each: bool
) -> None:
    template = type("Given", (Absurd,), {"given": given, "examples": examples})
    model = {"w": np.zeros(size, kind)}
    host = BundleActor()
    list(host.build(batch(range(3), template), {}))
    read = Told().read(host.work(Order("t", "fit", np.arange(3), {"round": 1}, each), model))
    assert sorted(read.rows) == [0, 2], "in one record or, on a busy machine, in several"
    (failure,) = [failure for record in read.records for failure in record["failed"]]
    assert (failure[0], failure[2]) == (1, "fit") and told in failure[1]
    for mean, total in read.means:
        assert total == 2 and mean["w"].tolist() == [1.0] * size
    node = type("Node", (NodeRuntime, template), {})("n1", "train", red.FederationConfig(node_index=1))
    assert told in node.red_fit(model, {"round": 1})[1]["error"], "the same in a process of its own"


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0**53, 1e-3), (1.0, 2.0**53)])
def test_large_numbers_of_float32_never_make_a_sum_that_is_not_finite(weights: tuple[float, float]) -> None:
    """A process's updates are added up in float32: what passes the check of its node leaves no infinity there."""
    server = FederatedServer.__new__(FederatedServer)
    server.config = red.FederationConfig(federation_id="f")
    server.build()
    model = {"w": np.zeros(LARGE, np.float32)}
    server.red_set_parameters(model)
    for value in (1e15, 1e19, 1e30, 3e38):
        updates, given = [], []
        for number in range(100):
            weight = weights[number % 2]
            try:
                made = check_fit(red.FitResult({"w": np.full(LARGE, value, np.float32)}, weight), model)
            except ValueError as error:
                assert "too large to be averaged" in str(error)
                continue
            updates.append(made.parameters)
            given.append(made.num_examples)
        if updates:
            parts = [("update", np.asarray([row]), [weight]) for row, weight in enumerate(given)]
            mean, report = server.red_aggregate(1, parts, (np.arange(len(given)), {}), *updates)
            assert report.keys() <= {"digests"} and mean is not None
            np.testing.assert_allclose(mean["w"][:3], np.float32(value), rtol=1e-5)


def test_a_mean_of_large_losses_is_finite() -> None:
    losses = np.asarray([1.7e308, 1.7e308, 1.0])
    assert weighted_mean_of(losses, np.asarray([10.0, 10.0, 20.0])) == pytest.approx(0.85e308)


def test_a_step_that_failed_leaves_no_momentum() -> None:
    server = FederatedServer.__new__(FederatedServer)
    server.config = red.FederationConfig(federation_id="f", strategy={"name": "fedavgm", "learning_rate": 1e300})
    server.build()
    server.red_set_parameters({"w": np.zeros(2)})

    def aggregate(value: float) -> Any:
        parts = [("update", np.asarray([0]), [1.0])]
        return server.red_aggregate(1, parts, (np.asarray([0]), {}), {"w": np.full(2, value)})

    made, report, _ = aggregate(1e100)
    assert made is None and "the aggregate: 'w' holds NaN or infinity" in report["error"]
    made, report, _ = aggregate(1e-300)
    assert report.keys() <= {"digests"} and made["w"].tolist() == pytest.approx([1.0, 1.0]), (
        "as if the step before had not been"
    )


# -- types of ml_dtypes, and what other libraries give -----------------------------------------------


@pytest.mark.parametrize("name", EXTENSION_TYPES)
def test_updates_in_bfloat16_and_float8_are_averaged_and_keep_their_type(name: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, name))
    model = {"w": np.zeros(3, kind), "b": np.array(0.5, kind)}
    values = [np.array([1.0, 2.0, -4.0]), np.array([2.0, 4.0, 8.0]), np.array([4.0, 0.5, 1.0])]
    updates = [
        check_fit(red.FitResult({"w": value.astype(kind), "b": np.array(1.0, kind)}, weight), model).parameters
        for value, weight in zip(values, (1, 2, 5), strict=True)
    ]
    mean = weighted_mean(updates, [1, 2, 5])
    assert mean["w"].dtype == mean["b"].dtype == kind and mean["b"].shape == ()
    wanted = sum(weight * value for weight, value in zip((1, 2, 5), values, strict=True)) / 8
    np.testing.assert_array_equal(mean["w"], wanted.astype(kind))
    assert mean["b"] == 1.0
    check_fit(red.FitResult({"w": np.ones(3, np.float32), "b": np.array(2)}, 1), model)
    with pytest.raises(ValueError, match="'w' holds NaN or infinity"):
        check_fit(red.FitResult({"w": np.full(3, np.nan, kind), "b": model["b"]}, 1), model)


def test_a_mean_of_many_bfloat16_updates_is_that_of_their_numbers_not_of_their_rounding() -> None:
    rng = np.random.default_rng(3)
    updates = [{"w": rng.normal(1.0, 0.1, 50).astype(ml_dtypes.bfloat16)} for _ in range(1000)]
    exact = np.mean([update["w"].astype(np.float64) for update in updates], axis=0)
    np.testing.assert_array_equal(weighted_mean(updates, [1.0] * 1000)["w"], exact.astype(ml_dtypes.bfloat16))


def test_a_type_that_the_model_cannot_hold_is_named_with_what_to_call() -> None:
    cases = [
        (
            np.ones(1, np.complex64),
            np.zeros(1, np.float32),
            r"'w' as complex64, and the model's is float32",
        ),
        (np.ones(1), np.zeros(1, np.int64), r"as float64, and the model's is int64.*\.astype\(np.int64\)"),
        (np.ones(1, ml_dtypes.bfloat16), np.zeros(1, np.int8), r"as bfloat16, and the model's is int8"),
        (np.ones(1, np.complex64), np.zeros(1, ml_dtypes.bfloat16), r"\.astype\(ml_dtypes.bfloat16\)"),
    ]
    for given, model, told in cases:
        with pytest.raises(TypeError, match=told):
            check_fit(red.FitResult({"w": given}, 1), {"w": model})


def of(module: str, name: str, **attributes: Any) -> Any:
    """A value as a library would give it: only the name of its class's module is looked at."""
    return type(name, (), {"__module__": module, **attributes})()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            of("torch", "Tensor", shape=(2,), dtype="torch.float32"),
            r"not Tensor of shape (2,): call .detach().cpu().numpy()",
        ),
        (
            of("torch", "Tensor", shape=(2,), dtype="torch.bfloat16"),
            "call .detach().cpu().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)",
        ),
        (
            of("torch.nn.parameter", "Parameter", shape=(2,)),
            "not Parameter of shape (2,): call .detach().cpu().numpy()",
        ),
        (of("jaxlib._jax", "ArrayImpl", shape=(2,)), "not ArrayImpl of shape (2,): call np.asarray(value)"),
        (of("tensorflow.python", "EagerTensor"), "not EagerTensor: call value.numpy()"),
        (of("pandas.core.frame", "DataFrame"), "call value.to_numpy()"),
        (of("torch", "Tensor", shape=(2,)), "red_tui.torch.state_dict_to_parameters on the model or its whole state"),
        ({"kernel": np.zeros(2)}, "not dict: flatten nested parameters, as red_tui.jax.tree_to_parameters does"),
        ([1.0, 2.0], "not list: call np.asarray(value)"),
        (1.5, "not float: call np.asarray(value)"),
        (None, "not NoneType"),
        (np.array(["o"]), "holds text, not numbers: give np.asarray(…, dtype=np.float32)"),
        (np.array([np.zeros(1), np.zeros(2)], dtype=object), "rows of different lengths make no array"),
        (np.array([of("torch", "Tensor")], dtype=object), "its first is Tensor: call .detach().cpu().numpy()"),
        (np.zeros(1, ml_dtypes.int4), "holds numbers of the type int4, not numbers: give it .astype(np.float32)"),
    ],
)
def test_what_other_libraries_give_is_answered_with_the_call_that_makes_an_array(value: Any, told: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_fit(red.FitResult({"w": value}, 1), {"w": np.zeros(2)})
    assert "'w'" in str(caught.value) and told in str(caught.value)


def test_parameters_without_names_are_answered_with_how_to_name_them() -> None:
    module = of("torch.nn.modules.linear", "Linear", state_dict=dict)
    for given, told in (
        (
            module,
            "not Linear: give red_tui.torch.state_dict_to_parameters(value)",
        ),
        ([np.zeros(1)], 'not list: give {f"layer{i}": array for i, array in enumerate(value)}'),
        (np.zeros(1), 'not ndarray: give {"w": value}'),
    ):
        with pytest.raises(TypeError) as caught:
            check_fit(red.FitResult(given, 1), {"w": np.zeros(1)})
        assert told in str(caught.value)


def test_initial_parameters_may_be_lists_and_say_what_to_call_where_they_cannot_be_read() -> None:
    assert first_parameters({"w": [1.0, 2.0]})["w"].tolist() == [1.0, 2.0]

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    with pytest.raises(TypeError, match=r"'w' must be a numpy array.*call \.detach\(\)\.cpu\(\)\.numpy\(\)"):
        first_parameters({"w": of("torch", "Tensor", __array__=refuse)})
