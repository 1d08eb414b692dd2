"""What a federation and its nodes are told: an id and whatever further keys the user writes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import types
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from red_tui.checks import shown
from red_tui.nodes.ids import check_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Self


OLD_NAME = "FEDERATION_ID"
CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, classmethod, staticmethod, type)


class FederationConfig(BaseModel):
    """`federation_id` (also `FEDERATION_ID`) and further keys, which are kept and reach every node.

    Further keys read as attributes (`config.learning_rate`) or with `config.get("learning_rate", 0.1)`.  A value is on
    the nodes what it is here: dataclasses, models of pydantic, enums, paths, sets and arrays keep their types.

    Raises:
        pydantic.ValidationError: If `federation_id` cannot name actors, or the id is given twice and differs.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    federation_id: str = Field(default="federation", validation_alias=AliasChoices("federation_id", OLD_NAME))
    _rounds_seed: int = PrivateAttr(default=0)
    """The seed of the federation's rounds, on its nodes."""

    if TYPE_CHECKING:
        # Further keys are anybody's: type checkers accept them all.

        def __init__(self, *, federation_id: str = "federation", **keys: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    @model_validator(mode="before")
    @classmethod
    def _given_once(cls, keys: Any) -> Any:
        return _one_id(keys) if isinstance(keys, Mapping) else keys

    @field_validator("federation_id")
    @classmethod
    def _names_actors(cls, value: str) -> str:
        return check_id(value, "federation id")

    @classmethod
    def of(cls, given: Any) -> FederationConfig:
        """A config from one, from a dict, or from any object with an attribute `FEDERATION_ID`; None: the usual one.

        Of an object, all public attributes that hold data become keys; of a module those in capitals.

        Raises:
            TypeError: If it is none of these.
            ValueError: If the id cannot name actors.
        """
        if given is None:
            return cls()
        if isinstance(given, FederationConfig):
            return given.updated()
        if isinstance(given, Mapping):
            for key in given:
                if not isinstance(key, str):
                    raise TypeError(f"config: the key {shown(key)} must be text")
            return cls(**given).updated()
        if any(isinstance(getattr(given, name, None), str) for name in ("federation_id", OLD_NAME)):
            return cls(**_attributes(given)).updated()
        raise TypeError(
            "config must be a red.FederationConfig, a dict, or an object with an attribute FEDERATION_ID, not"
            f" {shown(given)}"
        )

    @property
    def FEDERATION_ID(self) -> str:
        """The federation's id under its old name."""
        return self.federation_id

    def get(self, key: str, default: Any = None) -> Any:
        """Give the value of a key.

        Args:
            key: Its name.
            default: What is given where there is no such key.

        Returns:
            The value.
        """
        return self._keys().get("federation_id" if key == OLD_NAME else key, default)

    def as_dict(self) -> dict[str, Any]:
        """All keys; lists and dicts are copies, other values the objects themselves."""
        return {key: _copied(value) for key, value in self._keys().items()}

    def updated(self, **keys: Any) -> Self:
        """A copy with some keys replaced or added."""
        if OLD_NAME in keys:
            keys = _one_id(keys)
            keys["federation_id"] = keys.pop(OLD_NAME, keys.get("federation_id"))
        if "federation_id" in keys:
            check_id(keys["federation_id"], "federation id")
        return self.model_copy(update={**self.as_dict(), **keys})

    def without(self, names: Iterable[str]) -> Self:
        """A copy that lacks some keys."""
        made = self.updated()
        for name in names:
            (made.__pydantic_extra__ or {}).pop(name, None)
        return made

    def _keys(self) -> dict[str, Any]:
        return {**self.__dict__, **(self.__pydantic_extra__ or {})}


def seeded(config: FederationConfig, seed: int) -> FederationConfig:
    """A copy that knows the seed of the federation's rounds."""
    made = config.updated()
    made._rounds_seed = seed
    return made


def seed_of(config: FederationConfig) -> Any:
    """What random numbers of a node depend on: its key `seed`, else the seed of the federation's rounds."""
    return config.get("seed", config._rounds_seed)


def round_bits(seed: Any, node_id: str, round_number: int) -> int:
    """128 bits that depend on a seed, a node and a round only: what all random numbers of a node are drawn from."""
    digest = hashlib.blake2b(f"{seed}/{node_id}/{round_number}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def round_seed(seed: Any, node_id: str, round_number: int) -> int:
    """The seed of a node's random numbers in a round: it depends on these three only, and not on who ran before.

    It is cut from the bits that `FederatedNode.rng` draws from, for generators that take fewer.

    Args:
        seed: The federation's.
        node_id: Id of the node.
        round_number: The round.

    Returns:
        From 0 to 2^63 - 1.
    """
    return round_bits(seed, node_id, round_number) % 2**63


class HasFederationId(Protocol):
    """Any object that names its federation."""

    @property
    def FEDERATION_ID(self) -> str:
        """The federation's id."""


ConfigSource = FederationConfig | Mapping[str, Any] | HasFederationId
"""What a config is made of."""


def _one_id(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keys with the federation's id under one of its two names."""
    if not (OLD_NAME in keys and "federation_id" in keys):
        return dict(keys)
    if keys[OLD_NAME] != keys["federation_id"]:
        raise ValueError(
            f"federation_id is {shown(keys['federation_id'])} and {OLD_NAME} is {shown(keys[OLD_NAME])}: both name the"
            " federation, give one"
        )
    return {key: value for key, value in keys.items() if key != OLD_NAME}


def _attributes(given: Any) -> dict[str, Any]:
    """The public attributes of an object that hold data."""
    if isinstance(given, BaseModel):
        return {**given.__dict__, **(given.__pydantic_extra__ or {})}
    if dataclasses.is_dataclass(given):
        return {one.name: getattr(given, one.name) for one in dataclasses.fields(given)} | _class_data(given)
    return _class_data(given)


def _class_data(given: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in dir(given):
        if name.startswith("_") or (isinstance(given, types.ModuleType) and not name.isupper()):
            continue
        if isinstance(inspect.getattr_static(given, name), CODE):
            continue
        with contextlib.suppress(AttributeError):
            found[name] = getattr(given, name)
    return found


def _copied(value: Any) -> Any:
    """A value whose lists and dicts are copies."""
    if type(value) is list:
        return [_copied(item) for item in value]
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return value
