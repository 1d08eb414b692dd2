"""Examples of any form as arrays: what models that learn from whole arrays are given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from red_tui.data.data_files import DataError


def as_arrays(given: Any, whose: str = "the data") -> tuple[Any, ...]:
    """Arrays of one length; the last of several are the targets.

    Args:
        given: An array, a tuple of arrays or tensors, arrays by name, or a data set that gives an example at a time.
        whose: For messages.

    Returns:
        Arrays of numpy; sparse matrices stay what they are.

    Raises:
        DataError: If they are nothing of that, or differ in length.
    """
    if isinstance(given, Mapping):
        given = tuple(given.values())
    if hasattr(given, "shape"):
        given = (given,)
    if isinstance(given, (tuple, list)) and given and all(hasattr(one, "shape") for one in given):
        arrays = tuple(one if hasattr(one, "tocsr") else np.asarray(one) for one in given)
    elif hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, (str, bytes)):
        arrays = _stacked([given[place] for place in range(len(given))])
    else:
        raise DataError(
            f"{whose} are {type(given).__name__}: give a tuple of arrays (the last are the targets), arrays by name, or"
            " a data set that gives an example at a time",
            source="",
        )
    lengths = {array.shape[0] if array.shape else 0 for array in arrays}
    if len(lengths) > 1:
        raise DataError(f"{whose}: the arrays have different lengths: {sorted(lengths)}", source="")
    return arrays


def _stacked(examples: list[Any]) -> tuple[Any, ...]:
    if examples and isinstance(examples[0], (tuple, list)):
        return tuple(np.stack([np.asarray(one) for one in column]) for column in zip(*examples, strict=True))
    return (np.stack([np.asarray(one) for one in examples]),) if examples else (np.empty(0),)


def as_table(arrays: tuple[Any, ...]) -> Any:
    """Arrays side by side as a table: a row for each example, what it has of dimensions in one."""
    if len(arrays) == 1 and hasattr(arrays[0], "tocsr"):
        return arrays[0]
    flat = [array.reshape(len(array), math.prod(array.shape[1:])) for array in arrays]
    return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
