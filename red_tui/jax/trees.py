"""Between pytrees of JAX and parameters: the leaves as arrays by name, where they hang as the name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from red_tui.errors import RedError
from red_tui.nodes.arrays import fits_type
from red_tui.nodes.template import Parameters

ALONE = "value"
"""The name of a tree that is one leaf."""

NAMED = 5


class TreeError(RedError, ValueError):
    """Parameters and a tree do not belong together, or a tree cannot be parameters.  Fields: names."""


def tree_to_parameters(tree: Any) -> Parameters:
    """Parameters from a tree: nested dicts, lists, tuples, named tuples and registered classes of arrays.

    Args:
        tree: The tree.

    Returns:
        Its leaves by the keys that lead to them, joined by slashes (`dense/kernel`), in the order of JAX; they cannot
        be written to and share memory with leaves on the CPU.  bfloat16 and float8 are arrays of the types of
        `ml_dtypes`.

    Raises:
        TreeError: If two leaves have one name (`{"a/b": …}` beside `{"a": {"b": …}}`).
        TypeError: If a leaf is no array and no number.
    """
    parameters: Parameters = {}
    for name, leaf in _named(tree):
        if name in parameters:
            raise TreeError(f"two leaves of the tree are named {name!r}: use no slashes in keys", names=[name])
        if not isinstance(leaf, (np.ndarray, np.generic, jax.Array, int, float, complex)):
            raise TypeError(f"{name!r} is {type(leaf).__name__}, no array: the leaves of a tree are its parameters")
        parameters[name] = np.asarray(leaf)
    return parameters


def parameters_to_tree(parameters: Mapping[str, Any], like: Any) -> Any:
    """A tree from parameters.

    Args:
        parameters: Arrays by name.
        like: A tree of the form that is wanted, such as the model's first; its leaves have at least shape and dtype.

    Returns:
        A tree of that form, with the arrays as leaves; they are not copied where they have the leaf's type.

    Raises:
        TreeError: If names, shapes or kinds of type are not those of `like`.
    """
    leaves = dict(_named(like))
    missing, unknown = ([one for one in a if one not in b] for a, b in ((leaves, parameters), (parameters, leaves)))
    if missing or unknown:
        told = [f"{what} {_some(names)}" for what, names in (("it lacks", missing), ("not of it:", unknown)) if names]
        raise TreeError(f"these are not the parameters of the model: {'; '.join(told)}", names=[*missing, *unknown])
    made = []
    for name, leaf in leaves.items():
        array, wanted = np.asarray(parameters[name]), np.dtype(getattr(leaf, "dtype", np.asarray(leaf).dtype))
        if array.shape != np.shape(leaf):
            raise TreeError(f"{name!r} has the shape {array.shape}, and the model's is {np.shape(leaf)}", names=[name])
        if array.dtype != wanted and not fits_type(array.dtype, wanted):
            raise TreeError(f"{name!r} is {array.dtype}, and the model's is {wanted}", names=[name])
        made.append(array.astype(wanted, copy=False))
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), made)


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="/") or ALONE, leaf) for path, leaf in leaves]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
