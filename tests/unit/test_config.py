"""A config says the same here and on the nodes, or is refused by its key."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import pickle
import threading
import types
from typing import Any

import numpy as np
import pydantic
import pytest

import red_tui as red


@dataclasses.dataclass
class Data:
    rate: float
    layers: list[int]


class Model(pydantic.BaseModel):
    rate: float
    path: pathlib.Path


class Kind(enum.Enum):
    FAST = "fast"


class Plain:
    def __init__(self) -> None:
        self.x = 3

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.x == self.x

    __hash__ = object.__hash__


class Client(red.FederatedNode):
    """Does nothing."""


VALUES: dict[str, Any] = {
    "data": Data(0.1, [1, 2]),
    "model": Model(rate=0.1, path=pathlib.Path("/tmp")),
    "kind": Kind.FAST,
    "path": pathlib.Path("/tmp"),
    "set": {1, 2},
    "tuple": (1, (2, 3)),
    "complex": 1j,
    "bytes": b"x",
    "own": Plain(),
    "list": [1, {"a": [2]}],
    "scalar": np.float32(0.1),
}


def federation(config: Any) -> red.FederatedBase:
    return red.StarFederatedLearningSchema(Client, ["train"] * 2, config)


@pytest.mark.parametrize("key", VALUES)
def test_a_value_is_on_the_nodes_what_it_is_here(key: str) -> None:
    value = VALUES[key]
    with federation(red.FederationConfig(federation_id="f", **{key: value})) as fed:
        assert fed["client_1"].config.get("node_index") == 1
        for config in (fed["client_0"].config, pickle.loads(pickle.dumps(fed["client_0"].config))):
            assert getattr(config, key) == config.get(key) == config.as_dict()[key] == value
            assert type(getattr(config, key)) is type(value)


def test_an_array_keeps_its_type_and_does_not_confuse_changes_of_rounds() -> None:
    with federation({"weights": np.arange(3), "rate": 0.1}) as fed:
        assert fed["client_0"].config.weights.tolist() == [0, 1, 2]
        assert [change.new for change in fed.set_round(rate=0.2)] == [0.2]
        assert fed.set_round(weights=[1, 2])[0].new == [1, 2]


class Typed(red.FederationConfig):
    """A config of one's own."""

    rate: float = 0.1

    @property
    def twice(self) -> float:
        return 2 * self.rate


def test_a_config_class_of_ones_own_stays_itself() -> None:
    with federation(Typed(federation_id="f", rate=0.3, more=1)) as fed:
        config = fed["client_1"].config
        assert isinstance(config, Typed)
        assert (config.twice, config.more, config.node_index, config.federation_id) == (0.6, 1, 1, "f")


@pytest.mark.parametrize("bad", [threading.Lock(), (one for one in [1]), [1, {"deep": threading.Lock()}]])
def test_what_cannot_travel_is_refused_by_its_key(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"config: 'bad' cannot travel to the nodes"):
        federation({"fine": 1, "bad": bad})


def test_functions_of_a_script_travel() -> None:
    federation({"activation": lambda x: x + 1}).close()


def test_lists_of_a_config_are_its_own() -> None:
    layers = [1, 2]
    with federation({"layers": layers}) as fed:
        layers.append(3)
        fed["client_0"].config.layers.append(4)
        assert fed["client_0"].config.layers == [1, 2]


def test_any_object_with_a_federation_id_is_a_config() -> None:
    class Constants:
        FEDERATION_ID = "old"
        LEARNING_RATE = 0.1

        def method(self) -> None: ...

    module = types.ModuleType("config")
    vars(module).update(FEDERATION_ID="old", LEARNING_RATE=0.1, np=np, helper=len)
    given = [Constants, Constants(), module, types.SimpleNamespace(FEDERATION_ID="old", LEARNING_RATE=0.1)]
    for one in given:
        with federation(one) as fed:
            config = fed["client_0"].config
            assert (fed.fed_id, config.FEDERATION_ID, config.LEARNING_RATE) == ("old", "old", 0.1)
            assert set(config.as_dict()) == {"federation_id", "LEARNING_RATE", "num_nodes", "node_index", "strategy"}


@pytest.mark.parametrize("wrong", [3, "fed", [1], object(), {1: 2}])
def test_what_is_no_config_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="config"):
        federation(wrong)
