"""The default federation: its data, its model, and that it learns what it should."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.examples import digits as example
from red_tui.examples.digits import (
    DigitsClient,
    centralised,
    dirichlet_partition,
    iid_partition,
    initial_parameters,
    judge,
    load_digits,
    loss_and_gradients,
    predict,
)
from red_tui.layout import load
from red_tui.nodes.config import FederationConfig
from red_tui.nodes.template import FitResult, Parameters

LAYOUT = Path(__file__).parents[2] / "layouts" / "digits.yaml"
FILE = Path(example.__file__).with_name("digits.npz")


def client(role: str = "train", **config: Any) -> DigitsClient:
    node = DigitsClient("client_0", role, FederationConfig(**config))
    node.shared = DigitsClient.build_shared(node.config)
    node.build()
    return node


def federation(**changes: Any) -> list[DigitsClient]:
    """The nodes of layouts/digits.yaml, as the federation would make them."""
    layout = load(LAYOUT)
    nodes = []
    for segment, role, _, config in layout.node_groups():
        for _ in segment:
            place = {"node_index": len(nodes), "num_nodes": layout.num_nodes}
            nodes.append(client(role, **{**config, **place, **changes}))
    return nodes


def federated_averaging(nodes: list[DigitsClient], rounds: int) -> Parameters:
    parameters = nodes[0].initial_parameters()
    for number in range(1, rounds + 1):
        results = [node.fit(parameters, {"round": number}) for node in nodes]
        parameters = average(results)
    return parameters


def average(results: list[FitResult]) -> Parameters:
    total = sum(result.num_examples for result in results)
    return {
        name: np.sum([result.parameters[name] * (result.num_examples / total) for result in results], axis=0)
        for name in results[0].parameters
    }


# -- data ----------------------------------------------------------------------------------------


def test_the_file_is_the_one_that_its_description_names() -> None:
    named = re.findall(r"`([0-9a-f]{64})`", FILE.with_name("DIGITS.md").read_text())
    with np.load(FILE) as stored:
        sums = [hashlib.sha256(stored[name].tobytes()).hexdigest() for name in ("images", "labels")]
        assert stored["images"].shape == (1797, 8, 8)
        assert stored["images"].dtype == stored["labels"].dtype == np.uint8
        assert stored["images"].max() == 16
    assert [*sums, hashlib.sha256(FILE.read_bytes()).hexdigest()] == named[:3]


def test_a_fifth_is_held_out_and_nothing_is_in_both() -> None:
    digits = load_digits()
    assert (len(digits.train_labels), len(digits.test_labels)) == (1438, 359)
    with np.load(FILE) as stored:
        everything = sorted(image.tobytes() for image in stored["images"])
    images = np.concatenate([digits.train_images, digits.test_images])
    assert sorted(image.tobytes() for image in (images * 16).astype(np.uint8)) == everything
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert np.bincount(digits.test_labels).min() > 20


def test_the_data_cannot_be_written_to_by_a_node() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_digits().train_images[0, 0] = 1.0


labels_lists = st.lists(st.integers(0, 9), min_size=1, max_size=60)


@given(labels_lists, st.data(), st.floats(1e-9, 1e6), st.integers(0, 2**32))
def test_dirichlet_parts_hold_every_index_once_and_none_is_empty(
    labels: list[int], data: st.DataObject, alpha: float, seed: int
) -> None:
    num_parts = data.draw(st.integers(1, len(labels)))
    parts = dirichlet_partition(labels, num_parts, alpha, seed)
    assert len(parts) == num_parts
    assert min(len(part) for part in parts) >= 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    again = dirichlet_partition(labels, num_parts, alpha, seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


@given(st.integers(1, 200), st.data(), st.integers(0, 2**32))
def test_iid_parts_hold_every_index_once_and_are_equally_large(size: int, data: st.DataObject, seed: int) -> None:
    parts = iid_partition(size, data.draw(st.integers(1, size)), seed)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(size))


def test_small_alpha_gives_parts_that_differ_and_large_alpha_parts_alike() -> None:
    labels = load_digits().train_labels
    spread = {}
    for alpha in (0.1, 0.5, 1000.0):
        parts = dirichlet_partition(labels, 8, alpha, seed=7)
        shares = np.array([np.bincount(labels[part], minlength=10) / len(part) for part in parts])
        spread[alpha] = shares.std(axis=0).mean()
    assert spread[0.1] > spread[0.5] > 4 * spread[1000.0]


@pytest.mark.parametrize(("num_parts", "alpha"), [(0, 0.5), (4, 0.5), (2, 0.0), (2, -1.0), (2, np.nan), (2, np.inf)])
def test_partitions_that_cannot_be_are_refused(num_parts: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"cannot be dealt out|alpha must be"):
        dirichlet_partition([0, 1, 1], num_parts, alpha, 0)


# -- model ---------------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(3)
    parameters = {name: rng.normal(0, 0.3, array.shape) for name, array in initial_parameters(1, hidden=5).items()}
    images, labels = load_digits().train_images[:7].astype(np.float64), load_digits().train_labels[:7]
    _, gradients = loss_and_gradients(parameters, images, labels)
    step = 1e-5
    for name, array in parameters.items():
        for index in map(tuple, rng.integers(0, array.shape, size=(12, array.ndim)).tolist()):
            losses = []
            for sign in (1, -1):
                moved = {**parameters, name: array.copy()}
                moved[name][index] += sign * step
                losses.append(loss_and_gradients(moved, images, labels)[0])
            assert gradients[name][index] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_loss_stays_finite_where_scores_are_huge() -> None:
    parameters = {name: array * np.float32(1e5) for name, array in initial_parameters(0).items()}
    loss, gradients = loss_and_gradients(parameters, load_digits().train_images, load_digits().train_labels)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_predictions_are_what_the_accuracy_counts() -> None:
    digits, parameters = load_digits(), initial_parameters(0)
    _, accuracy = judge(parameters, digits.test_images, digits.test_labels)
    assert accuracy == (predict(parameters, digits.test_images) == digits.test_labels).mean()


def test_initial_parameters_follow_the_seed() -> None:
    one, same, other = initial_parameters(1), initial_parameters(1), initial_parameters(2)
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["hidden/weights"], other["hidden/weights"])
    assert {array.dtype for array in one.values()} == {np.dtype(np.float32)}


# -- node ----------------------------------------------------------------------------------------


def test_fit_is_the_same_for_the_same_seed_node_and_round() -> None:
    parameters = initial_parameters(7)

    def update(round_number: int, **config: Any) -> bytes:
        node = client(**{"seed": 7, "node_index": 1, "num_nodes": 8, "partition": "iid", "part": 1, **config})
        return node.fit(parameters, {"round": round_number}).parameters["hidden/weights"].tobytes()

    assert update(3) == update(3)
    assert len({update(3), update(4), update(3, node_index=2), update(3, seed=8)}) == 4


def test_fit_leaves_the_given_parameters_alone_and_reports_what_it_reached() -> None:
    node = client(node_index=0, num_nodes=8)
    parameters = node.initial_parameters()
    for array in parameters.values():
        array.flags.writeable = False  # as Ray's object store hands them out
    before, _ = judge(parameters, node.images, node.labels)
    result = node.fit(parameters, {"round": 1})
    assert result.num_examples == len(node.labels)
    loss, accuracy = judge(result.parameters, node.images, node.labels)
    assert dict(result.metrics) == {"loss": loss, "accuracy": accuracy}
    assert loss < before
    assert {name: (array.shape, array.dtype) for name, array in result.parameters.items()} == {
        name: (array.shape, array.dtype) for name, array in parameters.items()
    }


def test_clients_of_one_federation_share_the_training_images_out() -> None:
    nodes = [client(node_index=index, num_nodes=8) for index in range(8)]
    assert sum(len(node.labels) for node in nodes) == 1438
    assert sum(len(node.test_labels) for node in nodes) == 359
    seen = [image.tobytes() for node in nodes for image in node.images]
    assert sorted(seen) == sorted(image.tobytes() for image in load_digits().train_images)


def test_the_judges_of_the_layout_see_all_held_out_images_between_them() -> None:
    judges = [node for node in federation() if "eval" in node.role]
    assert [len(node.test_labels) for node in judges] == [180, 179]
    seen = sorted(image.tobytes() for node in judges for image in node.test_images)
    assert seen == sorted(image.tobytes() for image in load_digits().test_images)


def test_more_nodes_than_images_still_get_some() -> None:
    for index in (0, 1437, 99_999):
        node = client(node_index=index, num_nodes=100_000)
        assert len(node.labels) >= 1
        assert len(node.test_labels) >= 1


def test_a_node_alone_holds_everything() -> None:
    assert len(client().labels) == 1438


def test_state_survives_a_release() -> None:
    node = client(node_index=0, num_nodes=8)
    node.fit(node.initial_parameters(), {"round": 1})
    again = client(node_index=0, num_nodes=8)
    again.set_state(node.get_state())
    assert again.rounds == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("partition", "random"),
        ("alpha", 0),
        ("alpha", "a lot"),
        ("seed", -1),
        ("learning_rate", 0),
        ("learning_rate", True),
        ("local_epochs", 0),
        ("batch_size", 1.5),
        ("num_parts", 0),
        ("eval_parts", 0),
        ("part", -1),
    ],
)
def test_config_that_makes_no_sense_fails_the_build_by_name(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"config.{key}"):
        client(**{"num_nodes": 4, key: value})


# -- what it is for ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_twenty_rounds_of_eight_clients_come_close_to_centralised_training(seed: int) -> None:
    digits, layout = load_digits(), load(LAYOUT)
    parameters = federated_averaging(federation(seed=seed), rounds=20)
    _, accuracy = judge(parameters, digits.test_images, digits.test_labels)
    epochs = 20 * layout.config["local_epochs"]
    yardstick = centralised(epochs, seed=seed)[1]
    assert accuracy >= 0.95
    assert accuracy >= yardstick.metrics["accuracy"] - 0.03
    assert yardstick.metrics["accuracy"] >= 0.96


def test_what_the_judges_say_is_the_accuracy_on_all_held_out_images() -> None:
    nodes, digits = federation(), load_digits()
    parameters = federated_averaging(nodes, rounds=2)
    said = [node.evaluate(parameters, {}) for node in nodes if "eval" in node.role]
    total = sum(result.num_examples for result in said)
    loss, accuracy = judge(parameters, digits.test_images, digits.test_labels)
    assert sum(r.num_examples * r.metrics["accuracy"] for r in said) / total == pytest.approx(accuracy)
    assert sum(r.num_examples * r.loss for r in said) / total == pytest.approx(loss, rel=1e-5)
