"""What a server has after a round: parameters, and what its strategy and its own class keep for the next one."""

from __future__ import annotations

import inspect
import pickle
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.aggregation.strategies import Strategy, keeps_state, writes_state
from red_tui.checkpoints.plain_state import from_plain_arrays, plain_arrays
from red_tui.nodes.extension_types import is_extension
from red_tui.nodes.template import FederatedNode, Parameters
from red_tui.nodes.user_code import called, error_text, is_framework

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ServerState:
    """What goes with the parameters of a round: to a server that is rebuilt, and into checkpoints.

    Attributes:
        strategy: Name of the strategy.
        arrays: What its `state_dict` gave.
        own: What `get_state` of a server class of one's own gave: pickled, as it goes from process to process; as
            `plain_arrays` gives it, where it was read from a checkpoint; None: it keeps nothing.
    """

    strategy: str
    arrays: Mapping[str, Array]
    own: bytes | Mapping[str, Array] | None = None

    def to_groups(self) -> dict[str, dict[str, Array]]:
        """As groups of arrays for a checkpoint: `strategy`, and `server` where a class of one's own keeps something."""
        groups = {"strategy": dict(self.arrays)}
        if self.own is not None and not self.not_plain:
            groups["server"] = plain_arrays(own_state(self))
        return groups

    @property
    def nbytes(self) -> int:
        """Bytes of all that it holds."""
        own = self.own or b""
        arrays = [*self.arrays.values(), *(() if isinstance(own, bytes) else own.values())]
        return sum(np.asarray(array).nbytes for array in arrays) + (len(own) if isinstance(own, bytes) else 0)

    @property
    def not_plain(self) -> str:
        """What of `own` no checkpoint holds, since nothing of a file is unpickled; empty where it is plain data."""
        try:
            plain_arrays(own_state(self))
        except TypeError as error:
            return str(error)
        except Exception as error:
            return error_text(error)  # an object of its own that cannot be unpickled
        return ""

    @classmethod
    def from_groups(cls, strategy: str, groups: dict[str, dict[str, Array]]) -> ServerState:
        """What `to_groups` gave; it is taken out of the groups."""
        return cls(strategy, groups.pop("strategy", {}), groups.pop("server", None))


@dataclass(frozen=True)
class HeldRound:
    """What a server had after a round, with all that it takes to go back there.

    Attributes:
        round: The round.
        parameters: The parameters after it.
        remembered: What the strategy remembered.
        state: What goes with the parameters, or None where nothing does.
    """

    round: int
    parameters: Parameters | None
    remembered: Mapping[str, Any]
    state: ServerState | None


def snapshot(strategy: Strategy, name: str, own: FederatedNode | None) -> tuple[dict[str, Any], ServerState | None]:
    """What a strategy remembers, and what goes with the parameters; steps that come change neither.

    Args:
        strategy: The strategy.
        name: Its name.
        own: The server, if its class keeps something; else None.

    Raises:
        MethodError: If `state_dict` or `get_state` raised, or gave what cannot be kept.
    """
    arrays = called("state_dict", _arrays_of, strategy) if keeps_state(strategy) else {}
    remembered = dict(arrays) if writes_state(strategy) else strategy.remember()
    if not arrays and own is None and not keeps_state(strategy):
        return remembered, None
    packed = None if own is None else called("get_state", _packed_state, own)
    return remembered, ServerState(name, arrays, packed)


def _arrays_of(strategy: Strategy) -> dict[str, Array]:
    """What `state_dict` gives; of a class of one's own, copies: it may change its arrays in place."""
    given: Any = strategy.state_dict()
    if not isinstance(given, Mapping):
        raise TypeError(f"state_dict must give a dict of numpy arrays by name, not {type(given).__name__}")
    own, arrays = writes_state(strategy), {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"state_dict gave {name!r} as a name: names are text")
        array = np.array(value) if own else np.asarray(value)
        if not (array.dtype.kind in "biufc" or is_extension(array.dtype)):
            raise TypeError(f"state_dict gave {name!r} as {type(value).__name__}: give a numpy array of numbers")
        arrays[name] = array
    return arrays


def _packed_state(server: FederatedNode) -> bytes | None:
    from ray import cloudpickle

    state = server.get_state()
    try:
        return None if state is None else cloudpickle.dumps(state, protocol=5)
    except Exception as error:
        raise TypeError(f"get_state gave what no other process can have: {error_text(error)}") from error


def go_back(strategy: Strategy, remembered: Mapping[str, Any]) -> None:
    """Let a strategy remember what it did, as often as one likes.

    Raises:
        MethodError: If it raised.
    """
    if writes_state(strategy):
        called("load_state_dict", strategy.load_state_dict, _copies(remembered))
    else:
        strategy.go_back(dict(remembered))


def load(strategy: Strategy, name: str, state: ServerState, parameters: Parameters | None) -> None:
    """Let a strategy go on from a state that belongs to parameters (None: it may be of a part of them).

    Raises:
        MethodError: If it is the state of another strategy or another model, or not whole: the strategy remembers what
            it did before then.
    """
    before = strategy.remember()
    try:
        called("load_state_dict", _loaded, strategy, name, state, parameters)
    except BaseException:
        go_back(strategy, before)
        raise


def _loaded(strategy: Strategy, name: str, state: ServerState, parameters: Parameters | None) -> None:
    if state.strategy != name:
        raise ValueError(f"the state is that of strategy {state.strategy}, and this is {name}")
    strategy.load_state_dict(_copies(state.arrays) if writes_state(strategy) else state.arrays)
    if parameters is not None:
        strategy.check_model(parameters)


def _copies(arrays: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays that may be changed in place: those that come from the object store cannot."""
    return {name: np.array(value) for name, value in arrays.items()}


def own_state(state: ServerState) -> Any:
    """What `get_state` of the server gave; None for nothing.

    Raises:
        ValueError: If a checkpoint holds something else in its place.
    """
    if isinstance(state.own, bytes):
        return pickle.loads(state.own)
    return None if state.own is None else from_plain_arrays(state.own)


# -- what is not kept ------------------------------------------------------------------------------

WATCHED_STEPS = 3
"""A class of one's own is watched for attributes that change for this many steps."""

_LARGE = 64_000_000
_MANY = 1000
_DEPTH = 4


class UnkeptAttributes:
    """Finds attributes of a strategy or server class of one's own that steps change and that no state keeps.

    Args:
        thing: The strategy or the server.
        names: The attributes to look at; None: all.
    """

    def __init__(self, thing: Any, names: frozenset[str] | None = None) -> None:
        self._thing, self._names = thing, names
        self._steps = 0
        self._marks: dict[str, Any] = {}

    def before(self) -> None:
        """A step begins."""
        self._marks = self._marked() if self._steps < WATCHED_STEPS else {}

    def after(self) -> list[str]:
        """A step has been made: names of the attributes that it changed."""
        if self._steps >= WATCHED_STEPS:
            return []
        self._steps += 1
        now = self._marked()
        return sorted(name for name in now if self._marks.get(name, _nothing) != now[name])

    def _marked(self) -> dict[str, Any]:
        found = vars(self._thing)
        names = found.keys() if self._names is None else found.keys() & self._names
        return {name: _mark(found[name], _DEPTH) for name in names}


_nothing = object()


def _mark(value: Any, depth: int) -> Any:
    """Something that is equal for two values that are, as far as one can tell at little cost."""
    kind = type(value)
    if kind is np.ndarray and not value.dtype.hasobject:
        if value.nbytes > _LARGE:
            return id(value)
        return value.shape, str(value.dtype), zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    if isinstance(value, (bool, int, float, complex, str, bytes, np.generic, type(None))):
        return kind, repr(value)
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if depth and isinstance(value, (dict, list, tuple, set, frozenset, deque)) and len(value) <= _MANY:
        items = value.items() if isinstance(value, dict) else value
        return kind, [_mark(item, depth - 1) for item in items]
    # Tensors of torch count the changes in place.
    return id(value), getattr(value, "_version", None)


def unkept_of_strategy(strategy: Strategy) -> UnkeptAttributes | None:
    """Watches a strategy whose class does not say what it keeps; None for those that do."""
    if writes_state(strategy) or type(strategy).__module__ == Strategy.__module__:
        return None
    moments = {f"_{moment}" for moment in getattr(strategy, "_moments", ())}
    return UnkeptAttributes(strategy, _AllBut(moments) if moments else None)


class _AllBut(frozenset[str]):
    """All names but these."""

    def __rand__(self, names: Any) -> set[str]:
        return set(names) - self


def unkept_of_server(server: FederatedNode, base: type) -> UnkeptAttributes | None:
    """Watches the attributes that a server class of one's own names."""
    names: set[str] = set()
    for kind in type(server).__mro__:
        if kind in base.__mro__:
            continue
        for member in vars(kind).values():
            code = getattr(inspect.unwrap(member), "__code__", None) if callable(member) else None
            # The class that runs in an actor derives from this package's own classes too: these keep what they change.
            if code is not None and not is_framework(code.co_filename):
                names.update(_names_in(code))
    names -= {"parameters", "config", "log", "shared"}
    return UnkeptAttributes(server, frozenset(names)) if names else None


def _names_in(code: Any) -> Iterator[str]:
    if code is not None:
        yield from code.co_names
        for inner in code.co_consts:
            if hasattr(inner, "co_names"):
                yield from _names_in(inner)
