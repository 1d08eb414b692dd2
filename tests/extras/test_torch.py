"""Models of PyTorch as nodes: the same numbers as a plain loop, bit for bit, whatever the model holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red
from red_tui.aggregation.weighted_sum import combine

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: `make test-extras` installs it", exc_type=ImportError
)

import red_tui.data  # noqa: E402
import red_tui.torch as red_torch  # noqa: E402
from tests.extras import torch_nodes as nodes  # noqa: E402

WrongModel = red_torch.state_dict.StateDictError


@pytest.fixture(autouse=True)
def no_model_is_left() -> Iterator[None]:
    red_torch.torch_node.MODELS.clear()
    yield
    red_torch.torch_node.MODELS.clear()


def node(template: Any, name: str = "client_0", **config: Any) -> Any:
    return template(name, "train-eval", red.FederationConfig(**{"seed": 5, "batch_size": 8, **config}))


def plain_loop(parameters: Any, name: str, number: int, epochs: int = 1) -> dict[str, Any]:
    """What anybody would write with torch alone."""
    torch.manual_seed(0)
    model = nodes.Net()
    model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in parameters.items()})
    seed = red_torch.round_seed(5, name, number)
    torch.manual_seed(seed)
    images, labels = nodes.examples_of(name)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images, labels),
        batch_size=8,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model.train()
    for _ in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return {key: value.detach().numpy().copy() for key, value in model.state_dict().items()}


def assert_same_bytes(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes(), name


LEARNING = {"learning_rate": 0.05, "momentum": 0.9}


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_round_of_a_node_is_the_plain_loop_bit_for_bit(epochs: int) -> None:
    one = node(nodes.NetClient, local_epochs=epochs, **LEARNING)
    start = one.initial_parameters()
    result = one.fit(start, {"round": 4})
    assert_same_bytes(result.parameters, plain_loop(start, "client_0", 4, epochs))
    assert result.num_examples == 30 and 0 < result.metrics["loss"] < 5
    assert (
        int(result.parameters["norm.num_batches_tracked"]) == 4 * epochs
        and start["norm.num_batches_tracked"].shape == ()
    )


def test_what_a_node_does_depends_on_nobody_who_ran_before() -> None:
    one, other = (node(nodes.NetClient, name, **LEARNING) for name in ("client_0", "client_1"))
    start = one.initial_parameters()
    alone = one.fit(start, {"round": 2})
    other.fit(start, {"round": 2})
    torch.rand(100)
    assert_same_bytes(one.fit(start, {"round": 2}).parameters, alone.parameters)
    assert one.fit(start, {"round": 3}).parameters["out.weight"].tobytes() != alone.parameters["out.weight"].tobytes()
    assert len(red_torch.torch_node.MODELS[nodes.NetClient]) == 1, "one model a process"
    kept = {name: array.copy() for name, array in alone.parameters.items()}
    other.fit(start, {"round": 9})
    assert_same_bytes(alone.parameters, kept)


def test_initial_parameters_are_the_same_from_each_node_at_any_time() -> None:
    one, other = (node(nodes.NetClient, name, **LEARNING) for name in ("client_0", "client_1"))
    first = one.initial_parameters()
    one.fit(first, {"round": 1})
    assert_same_bytes(other.initial_parameters(), first)


def test_steps_count_batches_and_go_round() -> None:
    one = node(nodes.NetClient, local_steps=6, **LEARNING)
    result = one.fit(one.initial_parameters(), {"round": 1})
    assert int(result.parameters["norm.num_batches_tracked"]) == 6 and result.num_examples == 30


def test_judging_counts_each_example_once() -> None:
    one = node(nodes.NetClient, batch_size=7)
    start = one.initial_parameters()
    result = one.evaluate(start, {"round": 1})
    model = nodes.Net()
    red_torch.load_parameters_into(model, start)
    model.eval()
    images, labels = nodes.examples_of("client_0")
    with torch.no_grad():
        outputs = model(images)
        loss = float(torch.nn.functional.cross_entropy(outputs, labels))
        accuracy = float((outputs.argmax(1) == labels).float().mean())
    assert result.loss == pytest.approx(loss, rel=1e-6) and result.num_examples == 30
    assert result.metrics == {"accuracy": pytest.approx(accuracy)}
    assert node(nodes.Linear).evaluate(node(nodes.Linear).initial_parameters(), {}) == red.EvaluateResult(0.0, 0, {})


def test_frozen_tied_and_bfloat16_parameters() -> None:
    one = node(nodes.MixedClient)
    start = one.initial_parameters()
    assert list(start) == ["frozen.weight", "embed.weight", "last.weight", "last.bias"], "a tied weight is there once"
    assert start["last.weight"].dtype.name == "bfloat16"
    result = one.fit(start, {"round": 1})
    assert result.parameters["frozen.weight"].tobytes() == start["frozen.weight"].tobytes()
    assert result.parameters["embed.weight"].tobytes() != start["embed.weight"].tobytes()
    mean = combine([start, result.parameters], [1.0, 1.0], {name: array.dtype for name, array in start.items()})
    one.fit(mean, {"round": 2})

    class Light(nodes.MixedClient):
        send_frozen = False

    assert "frozen.weight" not in node(Light).initial_parameters()
    assert "frozen.weight" not in node(Light).fit(node(Light).initial_parameters(), {"round": 1}).parameters


def test_several_optimisers_clipping_a_schedule_and_reduced_precision() -> None:
    one = node(nodes.ScheduledClient, clip_gradient=1e-3, local_epochs=2)
    start = one.initial_parameters()
    moved = one.fit(start, {"round": 1}).parameters
    norm = np.sqrt(sum(float(((moved[name] - start[name]) ** 2).sum()) for name in ("weight", "bias")))
    # 4 batches at a rate of 1 and 4 at a tenth, gradients of a norm of at most 0.001; the bias learns twice as fast.
    assert 0 < norm <= 2 * 4.4e-3
    half = node(nodes.Linear, precision="bfloat16").fit(start, {"round": 1}).parameters
    assert half["weight"].dtype == np.float32 and half["weight"].tobytes() != start["weight"].tobytes()


def test_data_of_many_kinds() -> None:
    images, labels = nodes.examples_of("client_0")
    start = node(nodes.Linear).initial_parameters()
    expected = node(nodes.Linear).fit(start, {"round": 1}).parameters
    frozen_arrays = images.numpy(), labels.numpy()
    for array in frozen_arrays:
        array.flags.writeable = False
    for given in (
        frozen_arrays,
        {"x": images.numpy(), "label": labels.numpy()},
        torch.utils.data.TensorDataset(images, labels),
        red.data.Examples([(images[at], labels[at]) for at in range(30)], np.arange(30)),
    ):
        one = node(nodes.Linear)
        one.train_data = lambda given=given: given
        assert_same_bytes(one.fit(start, {"round": 1}).parameters, expected)
    batches = [(images[at : at + 8], labels[at : at + 8]) for at in range(0, 30, 8)]
    one = node(nodes.Linear)
    one.train_data = lambda: batches
    assert one.fit(start, {"round": 1}).num_examples == 30


# -- what goes wrong -----------------------------------------------------------------------------


def test_parameters_of_another_model_are_named() -> None:
    one = node(nodes.Linear)
    start = one.initial_parameters()
    with pytest.raises(WrongModel, match=r"not the parameters of Linear: it lacks bias; not of it: b"):
        one.fit({"weight": start["weight"], "b": start["bias"]}, {})
    with pytest.raises(WrongModel, match=r"'weight' has the shape \(2,\), and the model's is \(3, 16\)"):
        one.fit({**start, "weight": np.zeros(2, np.float32)}, {})
    with pytest.raises(WrongModel, match="'bias' is complex64, and the model's is float32"):
        one.fit({**start, "bias": start["bias"].astype(np.complex64)}, {})


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"learning_rate": "fast"}, "learning_rate must be a finite number of at least 0, not 'fast'"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"local_steps": 2.5}, "local_steps must be a whole number of at least 1, not 2.5"),
        ({"precision": "int8"}, "precision must be bfloat16 or float16, not 'int8'"),
    ],
)
def test_keys_that_make_no_sense_say_so(config: dict[str, Any], says: str) -> None:
    one = node(nodes.Linear, **config)
    with pytest.raises(ValueError, match=says):
        one.fit(one.initial_parameters(), {"round": 1})


def test_data_that_are_none_say_so() -> None:
    one = node(nodes.Linear)
    start = one.initial_parameters()
    one.train_data = lambda: 5
    with pytest.raises(TypeError, match="'client_0': its data are int: give a torch data set"):
        one.fit(start, {})
    one.train_data = lambda: []
    with pytest.raises(red.RedError, match="'client_0' has no examples to train on"):
        one.fit(start, {})
    with pytest.raises(NotImplementedError, match="TorchNode needs a method model"):
        node(red_torch.TorchNode).initial_parameters()


def test_a_state_dict_goes_there_and_back() -> None:
    model = nodes.Net()
    shared = red_torch.state_dict_to_parameters(model)
    with torch.no_grad():
        model.out.bias.add_(1)
    assert shared["out.bias"].tobytes() == model.out.bias.detach().numpy().tobytes(), "no copy"
    copied = red_torch.state_dict_to_parameters(model.state_dict(), copy=True)
    other = nodes.Net()
    other.load_state_dict(red_torch.parameters_to_state_dict(copied))
    assert_same_bytes(red_torch.state_dict_to_parameters(other), copied)
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        tensor = torch.arange(6.0).reshape(2, 3).to(dtype)
        array = red_torch.state_dict_to_parameters({"w": tensor})["w"]
        assert array.astype(np.float32).tolist() == [[0, 1, 2], [3, 4, 5]]
        back = red_torch.parameters_to_state_dict({"w": array})["w"]
        assert back.dtype == dtype and back.float().tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(TypeError, match="'w' is ndarray, no tensor"):
        red_torch.state_dict_to_parameters({"w": np.zeros(2)})


# -- in a federation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_cpus() -> Iterator[None]:
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR", namespace="red")
    yield
    ray.shutdown()


@pytest.mark.parametrize("isolation", ["process", "bundle"])
def test_a_federation_is_the_mean_of_plain_loops(isolation: str, three_cpus: None) -> None:
    """Two rounds of two nodes; in a process each, and both in one bundle."""
    bundles = {"nodes_per_bundle": 2} if isolation == "bundle" else {}
    with red.StarFederatedLearningSchema(
        nodes.NetClient,
        ["train-eval"] * 2,
        {"federation_id": f"torch-{isolation}", "seed": 5, "batch_size": 8, **LEARNING},
        isolation=isolation,
        **bundles,
    ) as federation:
        results = federation.run(2)
        assert all(len(result.participants) == 2 and not result.failures for result in results)
        learnt = federation.parameters()
    expected = node(nodes.NetClient, **LEARNING).initial_parameters()
    for number in (1, 2):
        updates = [plain_loop(expected, f"client_{place}", number) for place in range(2)]
        expected = combine(updates, [30.0, 30.0], {name: array.dtype for name, array in expected.items()})
    for name, array in expected.items():
        np.testing.assert_allclose(learnt[name], array, rtol=1e-6, atol=1e-7, err_msg=name)
    assert results[-1].metrics["accuracy"] > 0


# -- the short ways ------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("size", [1, 10, 23])
def test_batches_of_tensors_are_those_of_a_loader_pass_after_pass(size: int, shuffle: bool) -> None:
    tensors = torch.arange(size * 3.0).reshape(size, 3), torch.arange(size)
    own = red_torch.torch_node.TensorBatches(tensors, 5, 7, shuffle)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*tensors), 5, shuffle=shuffle, generator=torch.Generator().manual_seed(7)
    )
    for _ in range(3):
        ours, theirs = list(own), list(loader)
        assert len(ours) == len(theirs) == -(-size // 5)
        for mine, other in zip(ours, theirs, strict=True):
            assert type(mine) is type(other) and all(map(torch.equal, mine, other))


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"maximize": True}, {"lr": torch.tensor(0.1)}]
)
def test_plain_sgd_is_sgd_bit_for_bit(options: dict[str, Any]) -> None:
    models = []
    for kind in (red_torch.torch_node.PlainSGD, torch.optim.SGD):
        torch.manual_seed(3)
        model = nodes.Net()
        # One that is never used has no gradient.
        unused = torch.nn.Parameter(torch.ones(2))
        optimizer = kind([*model.parameters(), unused], **{"lr": 0.1, **options})
        for step in range(4):
            optimizer.zero_grad(set_to_none=step != 2)
            model(torch.randn(8, 16)).square().mean().backward()
            optimizer.step()
        assert torch.equal(unused, torch.ones(2))
        models.append(red_torch.state_dict_to_parameters(model))
    assert_same_bytes(*models)


def test_plain_sgd_calls_hooks_and_closures_and_takes_sparse_gradients() -> None:
    embed = torch.nn.Embedding(5, 2, sparse=True)
    before, heard = embed.weight.detach().clone(), []
    optimizer = red_torch.torch_node.PlainSGD(embed.parameters(), lr=0.5)
    embed(torch.tensor([1, 1, 3])).sum().backward()
    optimizer.step()
    moved = torch.tensor([0.0, 1.0, 0.0, 0.5, 0.0])[:, None].expand(5, 2)
    assert torch.equal(embed.weight.detach(), before - moved)
    assert float(optimizer.step(lambda: torch.tensor(4.0))) == 4.0
    optimizer.register_step_pre_hook(lambda *given: heard.append("before"))
    optimizer.register_step_post_hook(lambda *given: heard.append("after"))
    optimizer.step()
    assert heard == ["before", "after"]


def test_a_schedule_moves_the_rate_of_descent() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = red_torch.torch_node.PlainSGD([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()
        schedule.step()
    assert weight.item() == -1.75


def test_a_node_learns_from_a_stream_as_from_its_batches() -> None:
    inputs, labels = nodes.examples_of("client_0")

    class Stream:
        """As Ray Data gives batches."""

        def iter_batches(self, batch_size: int, batch_format: str) -> Iterator[Any]:
            assert batch_format == "numpy"
            for start in range(0, 30, batch_size):
                chosen = slice(start, start + batch_size)
                yield {"x": inputs[chosen].numpy(), "label": labels[chosen].numpy()}

    class Streamed(nodes.Linear):
        def train_data(self) -> Any:
            return red_tui.data.RayPart(Stream())

    class Listed(nodes.Linear):
        def train_data(self) -> Any:
            return [(inputs[start : start + 8], labels[start : start + 8]) for start in range(0, 30, 8)]

    start = node(nodes.Linear).initial_parameters()
    streamed, listed = (node(kind, local_epochs=2).fit(start, {"round": 1}) for kind in (Streamed, Listed))
    assert_same_bytes(streamed.parameters, listed.parameters)
    assert streamed.num_examples == listed.num_examples == 30


def test_numbers_of_the_host_are_those_of_a_seed_also_without_the_other_generators() -> None:
    red_torch.torch_node.seed_all(11, torch.device("cpu"))
    mine = torch.randn(4)
    torch.manual_seed(11)
    assert torch.equal(mine, torch.randn(4))
