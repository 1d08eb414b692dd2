"""Every argument that is wrong is refused with a sentence that says what is allowed.  Nothing here needs Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import red_tui as red
from red_tui.aggregation.strategies import Strategy

OURS = (red.RedError, ValueError, TypeError)


class Client(red.FederatedNode):
    """Does nothing."""


class Group:
    """Looks like a placement group of Ray."""

    bundle_specs = ({"CPU": 1.0},) * 5


class Mine(Strategy):
    """A strategy of one's own."""


class Remote:
    """Looks like what `@ray.remote` makes."""

    def remote(self) -> None: ...


def star(roles: Any = ("train", "train"), template: Any = Client, **arguments: Any) -> red.FederatedBase:
    return red.StarFederatedLearningSchema(template, roles, **arguments)


@pytest.fixture(scope="module")
def fed() -> Iterator[red.FederatedBase]:
    with star(resources=Group()) as federation:
        yield federation


SETTINGS = [
    ({"fraction": 2}, "fraction must be a number above 0 and at most 1, not 2"),
    ({"fraction": 0}, "fraction must be a number above 0"),
    ({"fraction": -1}, "fraction must be a number above 0"),
    ({"fraction": math.nan}, "fraction must be a number above 0 and at most 1, not nan"),
    ({"fraction": True}, "not True"),
    ({"fraction": "half"}, "not 'half'"),
    ({"deadline": 0}, "deadline must be a number of seconds above 0, or None (no limit), not 0"),
    ({"deadline": math.inf}, "or None (no limit), not inf"),
    ({"deadline": "60"}, "deadline must be a number of seconds"),
    ({"min_results": 0}, "min_results must be a whole number at least 1, not 0"),
    ({"min_results": 1.5}, "min_results must be a part of the chosen nodes (a float above 0 and at most 1.0"),
    ({"min_results": math.nan}, "a whole number of them (3), not nan"),
    ({"seed": -1}, "seed must be a whole number at least 0, not -1"),
    ({"seed": 1.5}, "seed must be a whole number"),
    ({"evaluate_every": -1}, "evaluate_every must be a whole number at least 0"),
    ({"evaluate_every": 1.0}, "evaluate_every must be a whole number"),
    ({"build_timeout": -1}, "build_timeout must be a number of seconds above 0, not -1"),
    ({"strategy": "fedvag"}, "there is no strategy 'fedvag': use fedadagrad, fedadam, fedavg"),
    ({"strategy": "fedvag"}, "did you mean 'fedavg'?"),
    ({"strategy": 3}, 'strategy must be a name such as "median"'),
    ({"strategy": int}, "strategy must be a name"),
    ({"strategy": Mine()}, "Mine writes neither step nor aggregate"),
    ({"strategy": {}}, "strategy must be a name"),
    ({"strategy": {"name": ["median"]}}, "there is no strategy ['median']"),
    ({"strategy": {"name": "krum", "keep": "all"}}, "byzantine and keep must be whole numbers"),
    ({"strategy": {"name": "fedavg", "momentum": 1}}, "does not take these options"),
]


@pytest.mark.parametrize(("values", "told"), SETTINGS)
def test_settings_of_rounds_that_cannot_be_are_refused_with_what_is_allowed(values: Any, told: str) -> None:
    for make in (lambda: red.RoundSettings(**values), lambda: star(settings=values)):
        with pytest.raises(ValueError) as caught:
            make()
        assert told in str(caught.value)


CONSTRUCTOR = [
    ({"settings": 3}, 'settings must be a dict such as {"fraction": 0.5} or RoundSettings(fraction=0.5), not 3'),
    ({"settings": {"fractoin": 1}}, "settings: there is no 'fractoin': use strategy, fraction"),
    ({"strategy": 3}, "strategy must be a name"),
    ({"strategy": Mine()}, "Mine writes neither step nor aggregate"),
    ({"failure": "retry"}, "failure must be 'rebuild' or 'leave', not 'retry'"),
    ({"failure": 3}, 'failure must be "rebuild", {"policy": "rebuild", "max_rebuilds": 3} or a FailurePolicy, not 3'),
    ({"failure": {"max_rebuilds": -1}}, "failure: max_rebuilds must be a whole number at least 0, not -1"),
    ({"failure": {"policy": "rebuild", "retries": 3}}, "failure: there is no 'retries'"),
    ({"isolation": "thread"}, "isolation must be 'process' or 'bundle', not 'thread'"),
    ({"isolation": 3}, "isolation must be 'process' or 'bundle', not 3"),
    ({"isolation": "bundle", "nodes_per_bundle": 0}, "nodes_per_bundle must be a whole number at least 1"),
    ({"isolation": "bundle", "concurrency": 0}, "concurrency must be a whole number at least 1, not 0"),
    ({"isolation": "bundle", "concurrency": 1.5}, "concurrency must be a whole number"),
    ({"resources": 2}, "resources must be 'uniform' or 'random', or a placement group"),
    ({"resources": "even"}, "resources must be 'uniform' or 'random', or a placement group"),
    ({"resources": "weighted"}, "needs one weight a node"),
    ({"resources": Group(), "bundle_offset": -1}, "bundle_offset must be a whole number at least 0"),
    ({"resources": Group(), "bundle_offset": "1"}, "bundle_offset must be a whole number"),
    ({"is_tune": "yes"}, "is_tune must be True or False, not 'yes'"),
    ({"roles": "train"}, "roles is a list with one entry a node, not the text 'train'"),
    ({"roles": [3]}, "roles must be a list with the role of each node"),
    ({"roles": [3]}, "entry 0 is 3"),
    ({"roles": 8}, "roles must be a list"),
    ({"roles": []}, "roles is empty"),
    ({"roles": ["train", "train eval"]}, "'train eval' is not a role"),
    ({"ids": "ab"}, "ids must be a list"),
    ({"ids": ["a", 2]}, "entry 1 is 2"),
    ({"ids": ["a"]}, "1 ids and 2 roles"),
    ({"ids": ["a", "topology"]}, "reserved names"),
    ({"log": "file.log"}, "log must be a logging.Logger or None, not 'file.log'"),
    ({"initial_parameters": [1]}, "initial_parameters must be a dict of arrays by name"),
    ({"initial_parameters": {"w": [math.nan]}}, "initial_parameters: 'w' holds NaN or infinity"),
    ({"mailbox": 5}, "mailbox must be a dict"),
    ({"mailbox": {"size": 5}}, "mailbox: 'size' is no key"),
    ({"template": Client(node_id="a", role="b", config=red.FederationConfig())}, "must be a class that derives"),
    ({"template": Remote()}, "take @ray.remote off it"),
    ({"server_template": Client}, "server_template must derive from red_tui.FederatedServer"),
    ({"config": 3}, "config must be a red.FederationConfig, a dict"),
    ({"config": {"federation_id": "a b"}}, "cannot be a federation id"),
]


@pytest.mark.parametrize(("arguments", "told"), CONSTRUCTOR)
def test_constructor_arguments_that_cannot_be_are_refused_with_what_is_allowed(arguments: Any, told: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        star(**arguments)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"failure": "rebuild"},
        {"failure": {"policy": "rebuild", "backoff": 0}},
        {"failure": red.FailurePolicy("leave")},
        {"settings": {"fraction": np.float32(0.5), "seed": np.int64(3), "min_results": np.int64(2)}},
        {"config": {"federation_id": "a", "lr": 3}},
        {"roles": ("train", "eval")},
        {"roles": iter(["train"])},
        {"roles": np.asarray(["train", "eval"])},
        {"initial_parameters": {"w": [1.0, 2.0]}},
        {"mailbox": {"capacity": 3}},
    ],
)
def test_natural_spellings_are_taken(arguments: Any) -> None:
    star(**arguments).close()


Verb = Callable[[Any], Any]
VERBS: list[tuple[str, Verb, str]] = [
    ("run", lambda fed: fed.run(1.5), "rounds must be a whole number at least 1, not 1.5"),
    ("run", lambda fed: fed.run(0), "rounds must be a whole number at least 1, not 0"),
    ("run", lambda fed: fed.run(True), "rounds must be a whole number at least 1, not True"),
    ("run", lambda fed: fed.run(until=5), "until must be a condition such as 'accuracy>0.95'"),
    ("run", lambda fed: fed.run(nodes=5), "nodes are named by a query, an id"),
    ("run", lambda fed: fed.run(nodes=[]), "names nobody"),
    ("start_run", lambda fed: fed.start_run("3"), "rounds must be a whole number"),
    ("build", lambda fed: fed.build(timeout=-1), "timeout must be a number of seconds at least 0, or None (no limit)"),
    ("build", lambda fed: fed.build(timeout=math.nan), "not nan"),
    ("build", lambda fed: fed.build(timeout="soon"), "not 'soon'"),
    ("build", lambda fed: fed.build(wait="no"), "wait must be True or False"),
    ("build", lambda fed: fed.build(3), "nodes are named by a query, an id"),
    ("plan", lambda fed: fed.plan(most=3), "a plan has no limit 'most': use only_bundle, available, skip_large"),
    ("plan", lambda fed: fed.plan(only_bundle="a"), "only_bundle must be a whole number"),
    ("build_within", lambda fed: fed.build_within(None, 3), 'available must be a dict such as {"CPU": 2}, not 3'),
    ("build_within", lambda fed: fed.build_within(None, {"CPU": "all"}), "available: CPU must be a number"),
    ("release", lambda fed: fed.release(3), "nodes are named by"),
    ("release", lambda fed: fed.release(b"ab"), "nodes are named by"),
    ("rebuild", lambda fed: fed.rebuild(timeout="x"), "timeout must be a number"),
    ("add_nodes", lambda fed: fed.add_nodes(0), "count must be a whole number at least 1, not 0"),
    ("add_nodes", lambda fed: fed.add_nodes(2, ids=["a"]), "count is 2 and there are 1 ids"),
    ("add_nodes", lambda fed: fed.add_nodes(ids=[]), "ids is empty"),
    ("add_nodes", lambda fed: fed.add_nodes(ids="ab"), "ids must be a list"),
    ("add_nodes", lambda fed: fed.add_nodes(role=3), "role must be text, not 3"),
    ("add_nodes", lambda fed: fed.add_nodes(template=3), "must be a class that derives"),
    ("remove_nodes", lambda fed: fed.remove_nodes(None, timeout=-1), "timeout must be a number of seconds"),
    ("add_bundles", lambda fed: fed.add_bundles(0, {"CPU": 1}), "count must be a whole number at least 1"),
    ("add_bundles", lambda fed: fed.add_bundles(1, {"CPU": -1}), "resources: CPU must be a number at least 0"),
    ("add_bundles", lambda fed: fed.add_bundles(1, "CPU"), "resources must be a dict"),
    ("move", lambda fed: fed.move(None, "1"), "bundle_idx must be a whole number"),
    ("stop", lambda fed: fed.stop(now=1), "now must be True or False"),
    ("set_round", lambda fed: fed.set_round(3), "changes must be a dict"),
    ("set_round", lambda fed: fed.set_round({"fraction": 0.5}, fraction=0.7), "give it once"),
    ("set_round", lambda fed: fed.set_round({"+lr": 0.5, "config.lr": 0.7, "lr": 3}), "lr"),
    ("set_round", lambda fed: fed.set_round(fraction=2), "fraction must be at most 1, not 2"),
    ("set_topology", lambda fed: fed.set_topology(3), "a topology is a name, a TopologyRule"),
    ("train", lambda fed: fed.train(server_args=3), "server_args must be a dict"),
    ("train", lambda fed: fed.train(blocking=3), "blocking must be True or False"),
    ("test", lambda fed: fed.test(phase=3), "phase must be text"),
    ("stop_session", lambda fed: fed.stop_session(timeout="x"), "timeout must be a number"),
    ("pull_version", lambda fed: fed.pull_version("server", timeout=-1), "timeout must be a number"),
    ("parameters", lambda fed: fed.parameters(timeout=math.inf), "timeout must be a number"),
    ("waves", lambda fed: fed.waves(0), "count must be a whole number at least 1, not 0"),
    ("waves", lambda fed: fed.waves(size=1.5), "size must be a whole number at least 1"),
    ("waves", lambda fed: fed.waves(), "say either how many waves"),
    ("waves", lambda fed: fed.waves(2, 2), "say either how many waves"),
    ("train_wave", lambda fed: fed.train_wave(-1, 2), "the number of a wave must be a whole number"),
    ("train_wave", lambda fed: fed.train_wave(0, 0), "count must be a whole number at least 1"),
    ("train_wave", lambda fed: fed.train_wave(0), "none has been built"),
    ("select", lambda fed: fed.select(3), "nodes are named by"),
    ("select", lambda fed: fed.select([3]), "3 is no node of federation"),
    ("send", lambda fed: fed.send(3), "header"),
    ("explain", lambda fed: fed.explain("nobody"), "nobody"),
]


@pytest.mark.parametrize(("verb", "call", "told"), VERBS)
def test_arguments_of_verbs_that_cannot_be_are_refused_with_what_is_allowed(
    fed: red.FederatedBase, verb: str, call: Verb, told: str
) -> None:
    before = len(fed), fed.round_settings
    with pytest.raises((red.RedError, ValueError, TypeError)) as caught:
        call(fed)
    assert told in str(caught.value)
    assert (len(fed), fed.round_settings) == before


def test_a_config_key_may_have_the_name_of_an_argument() -> None:
    with star(config={"changes": 1}, resources=Group()) as federation:
        assert [change.new for change in federation.set_round(changes=2)] == [2]


def test_what_belongs_to_another_federation_is_refused(fed: red.FederatedBase) -> None:
    with star(config={"federation_id": "other"}, resources=Group()) as other:
        with pytest.raises(red.CommandRefused, match="the selection is another federation's"):
            fed.release(other.nodes)
        with pytest.raises(red.CommandRefused, match="the plan is another federation's"):
            fed.build(other.plan())


SPLITS: list[tuple[dict[str, Any], str]] = [
    ({"num_nodes": 0}, "num_nodes must be a whole number at least 1, not 0"),
    ({"num_nodes": "8"}, "num_nodes must be a whole number"),
    ({"num_cpus": 0}, "num_cpus must be a number above 0, or None (all of the cluster), not 0"),
    ({"num_cpus": math.nan}, "num_cpus must be a number"),
    ({"num_gpus": -1}, "num_gpus must be a number at least 0"),
    ({"split_strategy": "even"}, "split_strategy must be 'uniform', 'random' or 'weighted', not 'even'"),
    ({"placement_strategy": "pack"}, "placement_strategy must be 'PACK'"),
    ({"seed": "x"}, "seed must be a whole number"),
    ({"is_tune": 1}, "is_tune must be True or False"),
    ({"timeout": 0}, "timeout must be a number of seconds above 0"),
    ({"weights": [1, 1]}, "weights are for split_strategy='weighted'"),
    ({"split_strategy": "weighted"}, "needs 2 positive weights"),
    ({"split_strategy": "weighted", "weights": [1]}, "needs 2 positive weights"),
    ({"split_strategy": "weighted", "weights": [1, 0]}, "weights[1] must be a number above 0"),
    ({"split_strategy": "weighted", "weights": [1, "a"]}, "weights[1] must be a number"),
    ({"resources": {"CPU": 3}}, "CPU is said by num_cpus"),
    ({"resources": {"disk": -1}}, "resources: disk must be a number above 0"),
    ({"resources": 3}, "resources must be a dict"),
]


@pytest.mark.parametrize(("arguments", "told"), SPLITS)
def test_arguments_of_a_split_are_refused_before_anything_is_reserved(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(red.PlacementError) as caught:
        red.get_resources_split(**{"num_nodes": 2, "num_cpus": 2, **arguments})
    assert told in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    *("roles", "ids", "isolation", "nodes_per_bundle", "concurrency", "resources", "bundle_offset", "is_tune"),
    *(
        "strategy",
        "initial_parameters",
        "settings",
        "failure",
        "mailbox",
        "config",
        "log",
        "server_template",
        "template",
    ),
)
PARTS: dict[Any, tuple[str, ...]] = {
    red.RoundSettings: tuple(red.RoundSettings().__dict__),
    red.FailurePolicy: ("policy", "max_rebuilds", "backoff"),
    red.MailboxRule: ("capacity", "policy", "timeout"),
    red.FederationConfig: ("federation_id", "FEDERATION_ID", "lr"),
}


def is_ours(error: BaseException) -> bool:
    """Whether an error is one that this package raises on purpose: raised here, not by something it calls."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    assert trace is not None
    raised = trace.tb_frame.f_code.co_filename
    return "red_tui" in raised or "pydantic" in raised


@given(st.sampled_from(NAMES), JSON)
@settings(max_examples=300, deadline=None)
def test_any_value_of_a_constructor_argument_works_or_is_refused_in_our_words(name: str, value: Any) -> None:
    try:
        star(**{name: value}).close()
    except OURS as error:
        assert is_ours(error), repr(error)


@given(st.sampled_from([(kind, name) for kind, names in PARTS.items() for name in names]), JSON)
@settings(max_examples=300, deadline=None)
def test_any_value_of_a_part_works_or_is_refused_in_our_words(part: tuple[Any, str], value: Any) -> None:
    kind, name = part
    try:
        kind(**{name: value})
    except OURS as error:
        assert is_ours(error), repr(error)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: red.launch(5), "a layout is named by the path of its file"),
        (lambda: red.launch("digits", resume="yes"), "resume must be True or False"),
        (lambda: red.launch("digits", 5), "address must be text, not 5"),
        (lambda: red.launch("digits", cpus=0), "cpus must be a whole number at least 1, or None"),
        (lambda: red.launch("digits", cpus=1.5), "cpus must be a whole number"),
        (lambda: red.launch("digits", working_dir="/no/such/place"), "is no folder"),
        (lambda: red.launch("digits", namespace=5), "namespace must be text"),
        (lambda: red.attach(5), "5 cannot be a federation id"),
        (lambda: red.adopt(5), "5 cannot be a federation id"),
        (lambda: red.federations(5), "address must be text, not 5"),
        (lambda: red.Federation.from_layout(5), "a layout is named by the path of its file"),
        (lambda: red.Federation.from_layout("digits", working_dir=5), "working_dir must be"),
        (lambda: red.remote(num_cpus=-1)(Client), "num_cpus must be a number at least 0"),
        (lambda: red.remote(max_concurrency="2")(Client), "max_concurrency must be a whole number"),
        (lambda: red.remote(resources={"GPU": 1})(Client), "GPU is said by num_gpus"),
        (lambda: red.remote(3), "@red.remote is for classes"),
        (lambda: red.TopologyRule("tree", branching="x"), "branching must be a whole number"),
        (lambda: red.TopologyRule("small-world", k=2, rewire="x"), "rewire must be a number"),
        (lambda: red.TopologyRule("k-connected", k=2, seed=-1), "seed must be a whole number"),
        (lambda: red.TopologyRule("custom", adjacency=5), "adjacency must be"),
        (lambda: red.TopologyRule("hierarchical", levels=5), "levels"),
        (lambda: red.TopologyRule("hierarchical", groups=5), "groups"),
        (lambda: red.KConnectedFederatedLearningSchema(Client, ["train"] * 4, k="2"), "k must be a whole number"),
        (lambda: red.CustomFederatedLearningSchema(Client, ["train"] * 2, adjacency=[[0, 1], 3]), "adjacency must be"),
        (lambda: red.CustomFederatedLearningSchema(Client, ["train"] * 2, graph=3), "graph must be"),
        (lambda: red.VirtualNode(Client, 3, "train"), "3 cannot be a node id"),
        (lambda: red.VirtualNode(Client, "a", 3), "role must be text, not 3"),
        (lambda: red.VirtualNode(3, "a", "train"), "must be a class that derives from FederatedNode"),
        (lambda: red.VirtualNode(Client, "a", "train", log=3), "log must be a logging.Logger or None"),
        (lambda: red.VirtualNode(Client, "a", "train").build(1, 3), "placement_group must be a placement group"),
        (lambda: red.VirtualNode(Client, "a", "train").build("1", Group()), "bundle_idx must be a whole number"),
        (lambda: red.VirtualNode(Client, "a", "train").wait_ready("x"), "timeout must be a number"),
    ],
)
def test_other_public_names_refuse_what_cannot_be(call: Callable[[], Any], told: str) -> None:
    with pytest.raises(OURS) as caught:
        call()
    assert told in str(caught.value)


CLIENT: list[tuple[Callable[[red.Client], Any], str]] = [
    (lambda client: client.run("x"), "rounds must be a whole number at least 1, not 'x'"),
    (lambda client: client.run(0), "rounds must be a whole number at least 1, not 0"),
    (lambda client: client.run(until=5), "until must be a condition such as 'accuracy>0.95'"),
    (lambda client: client.run(nodes=5), "nodes are named by a query or by a list of ids, not by 5"),
    (lambda client: client.start_run(1.5), "rounds must be a whole number"),
    (lambda client: client.build([3]), "each id must be text, not 3"),
    (lambda client: client.build(timeout="x"), "timeout must be a number of seconds"),
    (lambda client: client.build_within(None, 3), "available must be a dict"),
    (lambda client: client.add_nodes(0), "count must be a whole number at least 1"),
    (lambda client: client.add_nodes(role=3), "role must be text"),
    (lambda client: client.add_bundles(1, 5), "resources must be a dict"),
    (lambda client: client.move("a", "b"), "bundle_idx must be a whole number"),
    (lambda client: client.release(5), "nodes are named by a query"),
    (lambda client: client.set_round({"lr": 1}, lr=2), "give it once"),
    (lambda client: client.set_round(5), "changes must be a dict"),
    (lambda client: client.stop(now=3), "now must be True or False"),
]


@pytest.mark.parametrize(("call", "told"), CLIENT)
def test_a_client_refuses_before_it_asks_the_supervisor(call: Callable[[red.Client], Any], told: str) -> None:
    with pytest.raises(red.CommandRefused) as caught:
        call(red.Client(None, "f"))
    assert told in str(caught.value)
