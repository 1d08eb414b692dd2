"""Plain data and arrays as arrays by name, for checkpoints: nothing of them is unpickled when they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.extension_types import is_extension

Arrays = Mapping[str, npt.NDArray[Any]]

TREE = "tree"
PLACES = "places"
JOINED = "all_"
BIT_GENERATORS = ("PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937")
MAX_DEPTH = 50


def plain_arrays(value: Any) -> dict[str, npt.NDArray[Any]]:
    """Arrays from which `from_plain_arrays` makes an equal value.

    Args:
        value: None, bool, int, float, str, bytes, arrays, numbers and generators of numpy, and lists, tuples and
            dicts of them; keys are texts or whole numbers.

    Returns:
        `tree`, the structure as JSON in bytes, and the arrays under `0`, `1` and so on.

    Raises:
        TypeError: If something else is in it; the message says where.
    """
    arrays: list[npt.NDArray[Any]] = []
    tree = _packed(value, arrays, "", 0)
    told = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    return {TREE: told, **{str(place): array for place, array in enumerate(arrays)}}


def from_plain_arrays(arrays: Arrays) -> Any:
    """The value of which `plain_arrays` made these.

    Raises:
        ValueError: If they are not such arrays.
    """
    try:
        return _unpacked(json.loads(arrays[TREE].tobytes()), arrays)
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"this is no state that was kept: {type(error).__name__}: {error}") from error


def joined_arrays(value: Any) -> dict[str, npt.NDArray[Any]]:
    """As `plain_arrays`, in a few arrays however many the value holds: a file names each array that is in it.

    Returns:
        `tree`; by type the numbers of all arrays one after another, such as `all_float32`; and `places`, as JSON in
        bytes, with the type, the first number and the shape of each.

    Raises:
        TypeError: As `plain_arrays`.
    """
    single = plain_arrays(value)
    made = {TREE: single.pop(TREE)}
    places: list[list[Any]] = []
    ends: dict[str, int] = {}
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    for array in single.values():
        name = array.dtype.name
        first = ends.get(name, 0)
        places.append([name, first, list(array.shape)])
        parts.setdefault(name, []).append(array.reshape(-1))
        ends[name] = first + array.size
    made[PLACES] = np.frombuffer(json.dumps(places, separators=(",", ":")).encode(), dtype=np.uint8)
    return {**made, **{f"{JOINED}{name}": np.concatenate(arrays) for name, arrays in parts.items()}}


def from_joined_arrays(arrays: Arrays) -> Any:
    """The value of which `joined_arrays`, or `plain_arrays`, made these.

    Raises:
        ValueError: If they are not such arrays.
    """
    if PLACES not in arrays:
        return from_plain_arrays(arrays)
    single = {TREE: arrays[TREE]} if TREE in arrays else {}
    try:
        for place, (name, first, shape) in enumerate(json.loads(arrays[PLACES].tobytes())):
            stop = first + math.prod(shape)
            single[str(place)] = arrays[f"{JOINED}{name}"][first:stop].reshape(shape)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"this is no state that was kept: {type(error).__name__}: {error}") from error
    return from_plain_arrays(single)


def _packed(value: Any, arrays: list[npt.NDArray[Any]], place: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise TypeError(f"it is nested deeper than {MAX_DEPTH} levels{_at(place)}")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" and not is_extension(array.dtype):
            raise TypeError(f"an array of {array.dtype}{_at(place)}")
        arrays.append(array)
        return {"array": len(arrays) - 1, "number": isinstance(value, np.generic)}
    if type(value) is bytes:
        arrays.append(np.frombuffer(value, dtype=np.uint8))
        return {"bytes": len(arrays) - 1}
    if type(value) is np.random.Generator and type(value.bit_generator).__name__ in BIT_GENERATORS:
        # Where its random numbers are.
        return {"generator": _packed(dict(value.bit_generator.state), arrays, place, depth + 1)}
    if type(value) in (list, tuple):
        items = [_packed(item, arrays, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
        return {type(value).__name__: items}
    if isinstance(value, dict) and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _packed(item, arrays, f"{place}[{key!r}]", depth + 1)] for key, item in value.items()]}
    raise TypeError(f"{type(value).__name__}{_at(place)}")


def _at(place: str) -> str:
    return f" at {place}" if place else ""


def _unpacked(tree: Any, arrays: Arrays) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        array = arrays[str(tree["array"])]
        return array[()] if tree["number"] else array
    if "bytes" in tree:
        return arrays[str(tree["bytes"])].tobytes()
    if "generator" in tree:
        return _generator(_unpacked(tree["generator"], arrays))
    if "dict" in tree:
        return {key: _unpacked(item, arrays) for key, item in tree["dict"]}
    kind, items = next(iter(tree.items()))
    return {"list": list, "tuple": tuple}[kind](_unpacked(item, arrays) for item in items)


def _generator(state: Any) -> np.random.Generator:
    name = state["bit_generator"]
    if name not in BIT_GENERATORS:
        raise ValueError(f"there is no bit generator {name!r}")
    made: Any = getattr(np.random, name)()
    made.state = state
    return np.random.Generator(made)
