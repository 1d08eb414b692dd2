"""What a server keeps beside the parameters: undone with a round that does not count, and carried to another server."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle

import red_tui as red
from red_tui.aggregation import server as server_module
from red_tui.aggregation.server import NOT_PLAIN, FederatedServer, carries_state, keeps_its_own, strategy_at
from red_tui.aggregation.server_state import ServerState, unkept_of_server
from red_tui.aggregation.strategies import CLASSES, Array, FedAdam, FedAvgM, Strategy, make_strategy
from red_tui.aggregation.weighted_sum import PartialMean
from red_tui.checkpoints.checkpoint_file import read_notes
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.checkpoints.plain_state import plain_arrays
from red_tui.federation.rounds.runner import unkept_text
from red_tui.federation.run_folder.checkpoint_keeper import CheckpointWriter
from red_tui.runtime.node_actor import actor_class
from red_tui.runtime.node_runtime import NodeRuntime

KEEPING = ["fedavgm", "fedadagrad", "fedadam", "fedyogi"]


class OwnMomentum(Strategy):
    """Momentum that changes its arrays in place."""

    additive = True

    def __init__(self, momentum: float = 0.5) -> None:
        self.momentum = momentum
        self.velocity: dict[str, Array] = {}
        self.steps = np.zeros((), dtype=np.int64)

    def step(self, current: Any, mean: Any) -> Any:
        self.steps += 1
        for name, value in mean.items():
            kept = self.velocity.setdefault(name, np.zeros_like(value, dtype=np.float64))
            kept *= self.momentum
            kept += value - current[name]
        return {name: current[name] + self.velocity[name] / float(self.steps) for name in mean}

    def state_dict(self) -> dict[str, Array]:
        return {"steps": self.steps, **{f"velocity.{name}": value for name, value in self.velocity.items()}}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        self.steps = state["steps"]
        self.velocity = {name.partition(".")[2]: value for name, value in state.items() if name != "steps"}


class Forgetful(OwnMomentum):
    """The same, of a class that does not say what it keeps."""

    state_dict = Strategy.state_dict
    load_state_dict = Strategy.load_state_dict


class SamplingServer(FederatedServer):
    """Draws noise, and keeps how often it aggregated and where its generator stands."""

    def build(self, **kwargs: Any) -> None:
        super().build(**kwargs)
        self.generator, self.counted = np.random.default_rng(7), [0]

    def aggregate(self, round_number: int, current: Any, updates: Any, num_examples: Any, metrics: Any) -> Any:
        self.counted[0] += 1
        made = super().aggregate(round_number, current, updates, num_examples, metrics)
        noise = {name: self.counted[0] * self.generator.normal(size=np.shape(value)) for name, value in current.items()}
        return {name: (value + noise[name]).astype(value.dtype) for name, value in made.items()}

    def get_state(self) -> Any:
        return {"generator": self.generator, "counted": self.counted}

    def set_state(self, state: Any) -> None:
        self.generator, self.counted = state["generator"], state["counted"]


class SilentServer(SamplingServer):
    """The same, and does not say what it keeps."""

    get_state = FederatedServer.get_state
    set_state = FederatedServer.set_state


def server_with(strategy: Any, kind: type[FederatedServer] = FederatedServer) -> FederatedServer:
    server = kind.__new__(kind)
    choice = red.RoundSettings(strategy=strategy).choice
    server.config = red.FederationConfig(federation_id="f", strategy=choice)
    server.build()
    return server


def model() -> dict[str, Any]:
    return {"w": np.zeros(3), "b": np.asarray(0.5), "n": np.asarray([4, 2])}


def updates_of(number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(number)
    return [{"w": rng.normal(size=3), "b": np.asarray(rng.normal()), "n": rng.integers(0, 9, 2)} for _ in range(4)]


def aggregate(server: FederatedServer, number: int, updates: Sequence[dict[str, Any]] | None = None) -> Any:
    updates = updates_of(number) if updates is None else updates
    parts = [("block", np.arange(len(updates)), [1.0, 2.0, 3.0, 0.0][: len(updates)])]
    return server.red_aggregate(number, parts, (np.arange(len(updates)), {}), list(updates))


def travelled(value: Any) -> Any:
    """As it comes out of the object store: arrays cannot be changed."""
    made = cloudpickle.loads(cloudpickle.dumps(value))
    arrays = [*made.arrays.values()] if isinstance(made, ServerState) else [*made.values()]
    for array in arrays:
        array.setflags(write=False)
    return made


def undisturbed(strategy: Any, kind: type[FederatedServer] = FederatedServer, rounds: int = 8) -> list[Any]:
    server = server_with(strategy, kind)
    server.red_set_parameters(model())
    return [aggregate(server, number)[0] for number in range(1, rounds + 1)]


def assert_same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype and value.tobytes() == other[name].tobytes(), name


CASES: list[tuple[Any, type[FederatedServer]]] = [
    *((name, FederatedServer) for name in sorted(CLASSES)),
    (OwnMomentum(0.7), FederatedServer),
    ("fedadam", SamplingServer),
    ("fedavg", SamplingServer),
]
each_case = pytest.mark.parametrize(("strategy", "kind"), CASES)


@each_case
def test_a_round_that_is_tried_again_is_as_if_it_had_been_tried_once(
    strategy: Any, kind: type[FederatedServer]
) -> None:
    server, expected = server_with(strategy, kind), undisturbed(strategy, kind)
    server.red_set_parameters(model())
    for number, right in enumerate(expected, start=1):
        for spoilt in range(3):
            aggregate(server, number, updates_of(100 + spoilt))
        assert_same(aggregate(server, number)[0], right)


@each_case
def test_a_round_that_the_supervisor_takes_back_is_taken_back_in_the_strategy_too(
    strategy: Any, kind: type[FederatedServer]
) -> None:
    server, expected = server_with(strategy, kind), undisturbed(strategy, kind)
    before, _, *states = server.red_set_parameters(model())
    for number, right in enumerate(expected, start=1):
        aggregate(server, number, updates_of(100))
        server.red_set_parameters(travelled(before), number - 1, *map(travelled, states))
        before, report, *states = aggregate(server, number)
        assert "error" not in report
        assert_same(before, right)


@each_case
def test_a_server_that_is_built_again_goes_on_as_the_one_before(strategy: Any, kind: type[FederatedServer]) -> None:
    server, expected = server_with(strategy, kind), undisturbed(strategy, kind)
    made, _, *states = server.red_set_parameters(model())
    for number, right in enumerate(expected, start=1):
        assert len(states) == carries_state(kind, strategy_at(server))
        server = server_with(strategy, kind)
        server.red_set_parameters(travelled(made), number - 1, *map(travelled, states))
        made, _, *states = aggregate(server, number)
        assert_same(made, right)


@each_case
def test_a_supervisor_that_comes_after_gets_the_state_of_the_round_that_counts(
    strategy: Any, kind: type[FederatedServer]
) -> None:
    server, expected = server_with(strategy, kind), undisturbed(strategy, kind)
    server.red_set_parameters(model())
    for number in range(1, 4):
        aggregate(server, number)
    aggregate(server, 4, updates_of(100))  # aggregated, and lost in its evaluation
    held, report, *states = server.red_holding(3)
    assert report == {"round": 3}
    assert_same(held, expected[2])
    other = server_with(strategy, kind)
    other.red_set_parameters(travelled(held), 3, *map(travelled, states))
    assert_same(aggregate(other, 4)[0], expected[3])
    assert_same(aggregate(server, 4)[0], expected[3])


@each_case
def test_a_step_that_fails_leaves_no_trace(strategy: Any, kind: type[FederatedServer]) -> None:
    server, expected = server_with(strategy, kind), undisturbed(strategy, kind)
    server.red_set_parameters(model())
    for number, right in enumerate(expected, start=1):
        for spoilt in (np.nan, np.inf):
            updates = [{**update, "w": update["w"] * spoilt} for update in updates_of(number)]
            with np.errstate(all="ignore"):
                made, report, *_ = aggregate(server, number, updates)
            assert made is None and report["error"]
        aggregate(server, number, updates_of(100))  # a try that does not count, then one that fails
        made, report, *_ = aggregate(server, number, [])
        assert made is None and report["error"]
        assert_same(aggregate(server, number)[0], right)


@pytest.mark.parametrize("name", KEEPING)
def test_rounds_that_were_aggregated_ahead_are_undone_in_the_strategy_too(name: str) -> None:
    def mean(number: int) -> PartialMean:
        return PartialMean({key: np.asarray(value, np.float64) for key, value in updates_of(number)[0].items()}, 2.0)

    def plain(server: FederatedServer, number: int) -> Any:
        return server.red_aggregate(number, [("mean", np.arange(0), ())], (np.arange(0), {}), mean(number))[0]

    server, other = server_with(name), server_with(name)
    server.red_set_parameters(model())
    other.red_set_parameters(model())
    for number in range(1, 7):
        _, report, state = server.red_aggregate_ahead(number, mean(100 + number))
        assert report.keys() <= {"digests"} and state is not None
        right = plain(other, number)
        assert_same(plain(server, number), right)
        assert server.red_aggregate_ahead(number, mean(9))[1:] == ({"declined": True}, None)
        held, _, _ = server.red_holding(number)
        assert_same(held, right)


def test_the_figures_of_the_retried_round_are_the_right_ones() -> None:
    """w starts at 0 and each round's mean is w + 1: momentum 0.9 gives 1, 2.9, 5.61 (fedavgm)."""

    def run(name: str, retried: Sequence[int]) -> list[float]:
        server = server_with(name)
        server.red_set_parameters({"w": np.zeros(1)})
        values = []
        for number in (1, 2, 3):
            for _ in range(1 + (number in retried)):
                start = 0.0 if not values else values[-1]
                made = server.red_aggregate(
                    number, [("update", np.asarray([0]), [1.0])], (np.asarray([0]), {}), {"w": np.asarray([start + 1])}
                )[0]
            values.append(float(made["w"][0]))
        return values

    assert run("fedavgm", ()) == pytest.approx([1.0, 2.9, 5.61])
    for name in KEEPING:
        assert run(name, (1, 2, 3)) == run(name, ())


# -- what cannot be gone on with ------------------------------------------------------------------


def without(state: dict[str, Any], end: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not key.endswith(f".{end}")}


def renamed(state: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {key.replace(old, new): value for key, value in state.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: without(state, "second.w"), "not whole.*second.w is missing"),
        (lambda state: without(state, "w"), "another model.*keeps nothing of 'w'"),
        (lambda state: {**state, **renamed(state, ".w", ".x")}, "another model.*'x'.*no parameter"),
        (lambda state: {key: np.resize(value, 7) for key, value in state.items()}, r"another model.*\(7,\)"),
        (lambda state: renamed(state, "fedadam", "fedyogi"), "another strategy's"),
        (lambda state: renamed(state, "first", "velocity"), "another strategy's"),
        (lambda state: {key: value.astype(np.float32) for key, value in state.items()}, "float32: moments are float64"),
        (lambda state: {key: value * np.nan for key, value in state.items()}, "holds NaN"),
    ],
)
def test_a_state_that_is_not_this_ones_is_refused_and_nothing_is_lost(change: Any, said: str) -> None:
    server, expected = server_with("fedadam"), undisturbed("fedadam")
    made, _, state = server.red_set_parameters(model())
    for number in (1, 2, 3):
        made, _, state = aggregate(server, number)
    given = ServerState("fedadam", change(dict(state.arrays)))
    refused, report, none = server.red_set_parameters(made, 3, given)
    assert refused is None and none is None and report["where"] == "load_state_dict"
    assert re.search(said, report["error"]), report["error"]
    assert_same(aggregate(server, 4)[0], expected[3])


def test_the_state_of_another_strategy_is_refused_by_its_name() -> None:
    server, other = server_with("fedadam"), server_with("fedyogi")
    server.red_set_parameters(model())
    other.red_set_parameters(model())
    made, _, state = aggregate(other, 1)
    assert (
        "the state is that of strategy fedyogi, and this is fedadam"
        in server.red_set_parameters(made, 1, state)[1]["error"]
    )
    with pytest.raises(ValueError, match=r"'fedyogi.first.b' is another strategy's: FedAdam keeps fedadam.first.NAME"):
        FedAdam().load_state_dict(dict(sorted(state.arrays.items())))
    with pytest.raises(ValueError, match="FedAvg keeps no state, and was given one"):
        make_strategy("fedavg").load_state_dict(state.arrays)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_a_strategy_keeps_can_be_named_written_and_taken_back(name: str) -> None:
    strategy = make_strategy(name)
    assert strategy.state_dict() == {}
    current = model()
    for number in range(1, 4):
        current = strategy.aggregate(current, updates_of(number), [1, 2, 3, 0])
    state = strategy.state_dict()
    assert bool(state) == (name in KEEPING)
    assert all(type(value) is np.ndarray and value.dtype == np.float64 for value in state.values())
    other = make_strategy(name)
    other.load_state_dict(travelled(state))
    other.check_model(current)
    for number in range(4, 7):
        left, right = (one.aggregate(current, updates_of(number), [1, 2, 3, 0]) for one in (strategy, other))
        assert_same(left, right)
        current = left
    other.load_state_dict({})
    assert other.state_dict() == {}


def test_a_state_of_complex_parameters_is_complex() -> None:
    strategy, current = FedAvgM(), {"z": np.zeros(2, np.complex64)}
    strategy.step(current, {"z": np.asarray([1 + 2j, 3], np.complex64)})
    assert {key: value.dtype for key, value in strategy.state_dict().items()} == {"fedavgm.velocity.z": np.complex128}
    strategy.load_state_dict(strategy.state_dict())


# -- classes of one's own --------------------------------------------------------------------------


def test_a_strategy_that_does_not_say_what_it_keeps_is_told_of_and_undone_where_it_lives() -> None:
    server, expected = server_with(Forgetful), undisturbed(OwnMomentum)
    server.red_set_parameters(model())
    made, report = aggregate(server, 1)
    assert report["unkept"] == {"strategy": ["steps", "velocity"]}
    assert_same(made, expected[0])
    aggregate(server, 2, updates_of(100))
    assert_same(aggregate(server, 2)[0], expected[1])
    server.red_set_parameters(made, 1)
    assert_same(aggregate(server, 2)[0], expected[1])


def test_a_server_that_does_not_say_what_it_keeps_is_told_of() -> None:
    server = server_with("fedadam", SilentServer)
    server.red_set_parameters(model())
    assert aggregate(server, 1)[1]["unkept"] == {"server": ["counted", "generator"]}
    quiet = server_with("fedadam", SamplingServer)
    quiet.red_set_parameters(model())
    assert not any("unkept" in aggregate(quiet, number)[1] for number in (1, 2, 3, 4, 5))
    assert keeps_its_own(SamplingServer) and not keeps_its_own(SilentServer)


class Halfway(FederatedServer):
    """Keeps nothing."""

    def aggregate(self, round_number: int, current: Any, updates: Any, num_examples: Any, metrics: Any) -> Any:
        return {name: (current[name] + np.mean([update[name] for update in updates], axis=0)) / 2 for name in current}


def as_in_its_process(kind: type[FederatedServer]) -> type[FederatedServer]:
    """The class around a template, whose methods stand in it wrapped."""
    return actor_class(kind).__ray_metadata__.modified_class  # type: ignore[no-any-return]


def test_in_its_process_a_server_is_the_same() -> None:
    assert keeps_its_own(as_in_its_process(SamplingServer))
    assert not any(keeps_its_own(as_in_its_process(kind)) for kind in (FederatedServer, SilentServer, Halfway))
    server = server_with("fedadam", as_in_its_process(SilentServer))
    server.red_set_parameters(model())
    assert aggregate(server, 1)[1]["unkept"] == {"server": ["counted", "generator"]}
    other = server_with("fedadam", as_in_its_process(SamplingServer))
    made, _, *states = other.red_set_parameters(model())
    for number, right in enumerate(undisturbed("fedadam", SamplingServer), start=1):
        other = server_with("fedadam", as_in_its_process(SamplingServer))
        other.red_set_parameters(made, number - 1, *states)
        made, _, *states = aggregate(other, number)
        assert_same(made, right)


def test_nothing_is_told_of_what_changes_nothing() -> None:
    kinds = [("fedadam", FederatedServer), (OwnMomentum, FederatedServer), ("fedavg", Halfway)]
    for strategy, kind in [*kinds, *((one, as_in_its_process(kind)) for one, kind in kinds)]:
        server = server_with(strategy, kind)
        server.red_set_parameters(model())
        assert not any("unkept" in aggregate(server, number)[1] for number in (1, 2))


def test_the_first_state_of_a_server_that_has_none_yet_is_none() -> None:
    class Late(FederatedServer):
        def aggregate(self, round_number: int, current: Any, *given: Any) -> Any:
            self.seen = round_number
            return current

        def get_state(self) -> Any:
            return self.seen

        def set_state(self, state: Any) -> None:
            self.seen = state

    server = server_with("fedavg", Late)
    assert server.red_set_parameters(model())[1] == {"size": 48}
    assert aggregate(server, 1)[1].keys() == {"digests"}
    assert aggregate(server, 2)[1].keys() == {"digests"} and server.seen == 2  # type: ignore[attr-defined]
    server.red_holding(1)
    assert server.seen == 1  # type: ignore[attr-defined]


class Remembering(Halfway):
    """Keeps what it is told to."""

    kept: Any = None

    def get_state(self) -> Any:
        return self.kept

    def set_state(self, state: Any) -> None:
        self.kept = state


def test_what_a_server_keeps_goes_through_a_checkpoint_as_plain_data() -> None:
    server = server_with("fedavg", Remembering)
    server.red_set_parameters(model())
    server.kept = {"seen": [1, (2, b"x")], "sums": np.arange(3.0)}
    _, report, state = aggregate(server, 1)
    groups = state.to_groups()
    assert report.keys() <= {"digests"} and set(groups) == {"strategy", "server"}
    again = server_with("fedavg", Remembering)
    again.red_set_parameters(model(), 1, ServerState.from_groups("fedavg", {**groups}))
    assert again.kept["seen"] == [1, (2, b"x")] and again.kept["sums"].tolist() == [0, 1, 2]


def test_what_is_no_plain_data_is_in_no_checkpoint_and_told_of_once() -> None:
    server = server_with("fedavg", Remembering)
    server.red_set_parameters(model())
    server.kept = {"seen": {1, 2}}
    _, report, state = aggregate(server, 1)
    assert report["unkept"] == {NOT_PLAIN: ["set at ['seen']"]} and set(state.to_groups()) == {"strategy"}
    assert aggregate(server, 2)[1].keys() == {"digests"}
    assert "in no checkpoint, as it holds set at ['seen']: give plain data" in unkept_text(
        NOT_PLAIN, ["set at ['seen']"]
    )


def test_a_state_that_nobody_else_can_have_fails_the_round_and_says_so() -> None:
    class Locked(Halfway):
        def get_state(self) -> Any:
            return threading.Lock()

    class Broken(OwnMomentum):
        def state_dict(self) -> Any:
            return {"velocity": "fast"}

    server = server_with("fedavg", Locked)
    server.red_set_parameters(model())
    made, report, _ = aggregate(server, 1)
    assert made is None and report["where"] == "get_state" and "what no other process can have" in report["error"]
    server = server_with(Broken)
    made, report, _ = server.red_set_parameters(model())
    made, report, _ = aggregate(server, 1)
    assert made is None and "state_dict gave 'velocity' as str: give a numpy array" in report["error"]


class Nothing(Strategy):
    """Writes neither."""


class OnlyAggregates(Strategy):
    additive = True

    def aggregate(self, current: Any, updates: Any, weights: Any) -> Any:
        return current


class HalfWritten(OnlyAggregates):
    additive = False

    def state_dict(self) -> Any:
        return {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Nothing, "Nothing writes neither step nor aggregate"),
        (OnlyAggregates(), "says additive = True, so it gets the mean of the updates: write step"),
        (HalfWritten, "writes state_dict and no load_state_dict: write both"),
        ("tests.unit.test_server_state:Absent", "cannot be imported: AttributeError"),
        ("tests.unit.test_server_state:Halfway", "is no class that derives from red.Strategy"),
        ({"name": OwnMomentum, "speed": 3}, "cannot be made with speed: TypeError"),
        (3, "a class of your own that derives from red.Strategy, not 3"),
    ],
)
def test_strategies_of_ones_own_that_cannot_be_are_refused(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        red.RoundSettings(strategy=given)


OWN = "tests.unit.test_server_state:OwnMomentum"


@pytest.mark.parametrize(
    ("given", "momentum"),
    [
        (OwnMomentum, 0.5),
        (OwnMomentum(0.25), 0.25),
        ({"name": OwnMomentum, "momentum": 0.75}, 0.75),
        (OWN, 0.5),
        ({"name": OWN, "momentum": 0.1}, 0.1),
    ],
)
def test_a_strategy_of_ones_own_is_a_class_an_object_or_a_name(given: Any, momentum: float) -> None:
    choice = cloudpickle.loads(cloudpickle.dumps(red.RoundSettings(strategy=given).choice))
    assert choice["name"] == OWN
    server = server_with(choice)
    assert isinstance(strategy_at(server), OwnMomentum) and strategy_at(server).momentum == momentum
    assert red.RoundSettings(strategy=choice).choice == choice
    assert red.RoundSettings(strategy=CLASSES["fedadam"]).choice == {"name": "fedadam"}  # type: ignore[arg-type]


def test_an_object_that_is_given_as_a_strategy_is_not_changed_by_the_federation() -> None:
    given = OwnMomentum()
    server = server_with(given)
    server.red_set_parameters(model())
    aggregate(server, 1)
    assert given.velocity == {} and int(given.steps) == 0


def test_what_the_package_adds_to_a_server_in_its_process_is_no_attribute_of_ones_own() -> None:
    class Own(FederatedServer):
        def aggregate(self, *given: Any) -> Any:
            self.seen = given
            return super().aggregate(*given)

    for template, watched in ((FederatedServer, False), (Own, True)):
        node = type("Node", (NodeRuntime, template), {"red_status": NodeRuntime.red_status})
        assert (unkept_of_server(node.__new__(node), FederatedServer) is not None) is watched


# -- a whole run -----------------------------------------------------------------------------------


def saved_and_loaded(folder: Path, number: int, parameters: Any, state: ServerState | None) -> tuple[Any, Any]:
    """What a checkpoint makes of a round, written and read as the process beside a supervisor does."""
    writer = CheckpointWriter(Checkpoints(folder, keep=2, federation="f", layout="digest"))
    written = writer.save(number, parameters, ("server",), None, None, None, state)
    assert "error" not in written
    loaded, groups, found, _, report = CheckpointWriter(Checkpoints(folder, federation="f")).load(number)
    assert report["round"] == number and groups == {} and (found is None) == (state is None)
    if state is not None:
        assert found.strategy == state.strategy and (found.own is None) == (state.own is None)
        assert_same(found.arrays, state.arrays)
    return loaded, found


@each_case
def test_a_run_that_was_broken_in_every_way_equals_one_that_was_not(
    strategy: Any, kind: type[FederatedServer], tmp_path: Path
) -> None:
    """The server is lost after round 3, the supervisor in the evaluation of round 5; round 7 is stopped; and after
    round 9 the federation is adopted from its files."""
    expected = undisturbed(strategy, kind, rounds=12)
    server = server_with(strategy, kind)
    made, _, *states = server.red_set_parameters(model())
    for number in range(1, 13):
        if number == 4:
            server = server_with(strategy, kind)
            assert "error" not in server.red_set_parameters(travelled(made), 3, *map(travelled, states))[1]
        if number == 5:
            aggregate(server, number)  # the next supervisor hears of it from nobody
            made, report, *states = server.red_holding(4)
            assert report == {"round": 4}
        if number == 7:
            aggregate(server, number, updates_of(100))
            server.red_set_parameters(travelled(made), 6, *map(travelled, states))
        if number == 10:
            loaded, found = saved_and_loaded(tmp_path, 9, made, states[0] if states else None)
            server = server_with(strategy, kind)
            assert "error" not in server.red_set_parameters(loaded, 9, found)[1]
        made, report, *states = aggregate(server, number)
        assert "error" not in report
        assert_same(made, expected[number - 1])


def test_a_checkpoint_without_a_state_gives_none(tmp_path: Path) -> None:
    loaded, found = saved_and_loaded(tmp_path, 3, model(), None)
    assert found is None
    assert_same(loaded, model())


def test_what_thousands_of_nodes_keep_takes_a_few_arrays_of_a_checkpoint(tmp_path: Path) -> None:
    states = [{"w": np.full(3, number, np.float32), "seen": np.int64(number)} for number in range(3000)]
    ids = [f"client_{number}" for number in range(3000)]
    nodes = ids, [(0, place) for place in range(3000)]
    writer = CheckpointWriter(Checkpoints(tmp_path, federation="f"))
    written = writer.save(1, model(), (), None, None, nodes, states)
    assert "error" not in written and "unkept" not in written
    assert len(read_notes(tmp_path / "round-000001.safetensors").places) < 10
    *_, found, report = writer.load(1)
    assert report["nodes"] == ids and len(found) == 3000
    assert all(one["w"].tolist() == [number] * 3 and one["seen"] == number for number, one in enumerate(found))


def test_what_nodes_keep_is_read_from_files_that_hold_each_array_for_itself(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, federation="f")
    checkpoints.save(1, model(), groups={"nodes": plain_arrays({"a": {"w": np.arange(3)}, "b": [1, "x"]})})
    *_, found, report = CheckpointWriter(checkpoints).load(1)
    assert report["nodes"] == ["a", "b"] and found[0]["w"].tolist() == [0, 1, 2] and found[1] == [1, "x"]


class Unreadable:
    """It can be sent, and nobody can read it."""

    def __reduce__(self) -> Any:
        return _unreadable, ()


def _unreadable() -> Any:
    raise OSError("nobody can read it")


def test_a_round_that_is_aggregated_does_not_fail_for_its_digest() -> None:
    server = server_with("fedavg", Remembering)
    server.red_set_parameters(model())
    server.kept = Unreadable()
    made, report, state = aggregate(server, 1)
    assert made is not None and "error" not in report and server.red_holding(1)[1] == {"round": 1}
    assert report["unkept"] == {NOT_PLAIN: ["OSError: nobody can read it"]} and set(state.to_groups()) == {"strategy"}
    assert "digests" in aggregate(server, 2)[1]


@pytest.mark.parametrize("what", ["arrays of the strategy", "a state of its own"])
def test_digests_of_much_are_asked_for_and_not_told_with_the_round(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "DIGESTED_AT_ONCE", 100)
    if what == "arrays of the strategy":
        server = server_with("fedadam")
    else:
        server = server_with("fedavg", Remembering)
        server.kept = np.zeros(100)
    server.red_set_parameters(model())
    report = aggregate(server, 1)[1]
    assert "digests" not in report and set(server.red_digests(1)) == {"parameters", "state"}
    monkeypatch.setattr(server_module, "DIGESTED_AT_ONCE", 10_000)
    assert aggregate(server, 2)[1]["digests"] == server.red_digests(2)


def test_a_truncated_checkpoint_is_passed_over_with_its_state(tmp_path: Path) -> None:
    server = server_with("fedadam")
    made, _, state = server.red_set_parameters(model())
    kept: dict[int, ServerState] = {}
    writer = CheckpointWriter(Checkpoints(tmp_path, federation="f"))
    for number in (1, 2, 3):
        made, _, state = aggregate(server, number)
        kept[number] = state
        writer.save(number, made, ("server",), None, None, None, state)
    whole = (tmp_path / "round-000003.safetensors").read_bytes()
    for cut in (len(whole) // 2, len(whole) - 8):
        (tmp_path / "round-000003.safetensors").write_bytes(whole[:cut])
        _, _, found, _, report = writer.load(3)
        assert report["round"] == 2 and list(report["refused"]) == ["round-000003.safetensors"]
        assert_same(found.arrays, kept[2].arrays)


class Told(OwnMomentum):
    """Tells the nodes how many steps it has made."""

    def configure(self, round_number: int) -> dict[str, Any]:
        return {"steps": self.steps[()], "plan": [round_number, {"half": 0.5}]}


def test_a_strategy_tells_the_nodes_what_its_steps_have_left_and_a_round_that_is_tried_again_hears_the_same() -> None:
    server = server_with(Told)
    server.red_set_parameters(model())
    assert server.red_configure(1) == {"config": {"steps": 0, "plan": [1, {"half": 0.5}]}}
    aggregate(server, 1)
    assert server.red_configure(1)["config"]["steps"] == 0, "the round did not count"
    aggregate(server, 1)
    assert server.red_configure(2)["config"] == {"steps": 1, "plan": [2, {"half": 0.5}]}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"round": 3}, "configure gave 'round', which is the number of the round"),
        ([1], r"configure must give a dict with text for names, not \[1\]"),
        ({"w": np.zeros(2)}, "configure gave 'w' as ndarray: give numbers, text, and lists and dicts of them"),
    ],
)
def test_what_no_node_can_be_told_is_said_by_name(given: Any, why: str) -> None:
    class Wrong(OwnMomentum):
        def configure(self, round_number: int) -> Any:
            return given

    server = server_with(Wrong)
    server.red_set_parameters(model())
    report = server.red_configure(1)
    assert report["where"] == "configure" and re.search(why, report["error"])
