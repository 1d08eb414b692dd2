"""Numbers and arrays that templates give: taken alike whichever library made them, or refused with what is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from red_tui.checks import shown
from red_tui.nodes.extension_types import EXTENSION_TYPES, is_extension

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

NUMBERS = "fciub"
"""Kinds of numpy types that can be averaged."""

MOST_EXAMPLES = 2**53
"""Max examples of one node; float64 counts no further, and sums of updates in float32 stay finite up to here."""

MOST_WHOLE = 2**53
"""Whole numbers up to here are the same in float64, in which updates are averaged."""

LARGEST = 1e150
"""Max size of a parameter: its square is finite, and so is every sum that is made of such numbers."""

LARGEST_FLOAT32 = 1e34
"""The same for float32, times the number of examples: sums of a few updates are made in float32."""

_KINDS = {"O": "Python objects", "S": "bytes", "U": "text", "T": "text", "M": "dates", "m": "durations", "V": "records"}


def as_number(value: Any, what: str) -> float:
    """One number as a float: a Python or numpy number, or an array or tensor of one element.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is masked, or too large for a float.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise ValueError(f"{what} is masked: it has no value")
    if not isinstance(value, (Real, np.number, np.bool_)):
        value = _item_of(value, what)
    if isinstance(value, np.complexfloating):
        raise TypeError(f"{what} must be a real number, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{what} is too large for a float: {shown(value)}") from None


def _item_of(value: Any, what: str) -> Any:
    item = getattr(value, "item", None)
    if not callable(item):
        raise TypeError(f"{what} must be a number, not {'None' if value is None else type(value).__name__}")
    try:
        single = item()
    except Exception as error:
        raise TypeError(f"{what} must be one number, not {_shape_of(value)}") from error
    if not isinstance(single, (Real, np.number, np.bool_)):
        raise TypeError(f"{what} must be a number, not {type(value).__name__} of {type(single).__name__}")
    return single


def _shape_of(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}" + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


def check_weight(num_examples: Any) -> float:
    """Return a number of examples as a float.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is negative, not finite, or more than float64 counts.
    """
    weight = as_number(num_examples, "num_examples")
    if not 0 <= weight < math.inf:
        raise ValueError(f"num_examples must be a finite number that is not negative, not {shown(num_examples)}")
    if weight > MOST_EXAMPLES:
        raise ValueError(f"num_examples must be at most 2**53 (9e15), not {weight:g}: nobody else's work would count")
    return weight


def trouble_of(array: Any, weight: float | None = None) -> str:
    """Why an array cannot be averaged, or nothing.

    Most arrays are passed by their dot product with themselves: it reads the numbers once and is finite only if they
    are, and small enough.

    Args:
        array: An array, or a number of numpy.
        weight: The number of examples behind it, if it is an update.
    """
    dtype = array.dtype
    if dtype is FLOAT32 or dtype is FLOAT64:
        flat = array if array.ndim == 1 else array.ravel("K")
        if math.isfinite(np.vdot(flat, flat)):
            return ""
    elif dtype.kind in "iu":
        return _trouble_of_whole(array) if dtype.itemsize == 8 else ""
    elif not is_inexact(dtype):
        return ""
    if not all_finite(array):
        return "holds NaN or infinity"
    largest = _largest(array)
    summed_in_float32 = weight is not None and (dtype.itemsize == 4 or is_extension(dtype))
    if largest > LARGEST or (summed_in_float32 and largest * max(1.0, weight or 0.0) > LARGEST_FLOAT32):
        return f"holds numbers up to {largest:.2g}, which are too large to be averaged"
    return ""


def _trouble_of_whole(array: Any) -> str:
    if array.ndim == 0:
        fine = -MOST_WHOLE <= int(array) <= MOST_WHOLE
    else:
        fine = not array.size or (int(array.max()) <= MOST_WHOLE and int(array.min()) >= -MOST_WHOLE)
    return "" if fine else "holds whole numbers beyond 2**53, which an average would change: keep them elsewhere"


def _largest(array: Any) -> float:
    if array.size == 0:
        return 0.0
    parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
    return max(float(np.abs(part).max()) for part in parts)


def check_array(value: Any, name: str, whose: str, weight: float | None = None) -> np.ndarray[Any, np.dtype[Any]]:
    """Return a parameter as an array; a number of numpy becomes one without dimensions.

    Raises:
        TypeError: If it is no array of numbers.
        ValueError: If it cannot be averaged.
    """
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(
            f"{whose}: {name!r} must be a numpy array under a string, not {_shape_of(value)}{advice_for(value)}"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{whose}: {name!r} is a masked array, and its masked numbers would count: give its .filled(0)")
    dtype = value.dtype
    if dtype.kind not in NUMBERS and not is_extension(dtype):
        raise TypeError(f"{whose}: {name!r} holds {_kind_of(dtype)}, not numbers: {_remedy_for(value)}")
    if dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise TypeError(f"{whose}: {name!r} is {dtype}, and updates are averaged in float64: give it as that")
    trouble = trouble_of(value, weight)
    if trouble:
        raise ValueError(f"{whose}: {name!r} {trouble}")
    return np.asarray(value) if isinstance(value, np.generic) else value


def is_inexact(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of a type are floating-point numbers: those of numpy, real or complex, bfloat16 and float8."""
    return dtype.kind in "fc" or is_extension(dtype)


def fits_type(dtype: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Whether numbers of a type can stand where others are wanted: no fractions for whole numbers, no text."""
    if dtype.kind not in NUMBERS and not is_extension(dtype):
        return False
    if is_extension(wanted) or is_extension(dtype):
        return dtype.kind != "c" and (is_inexact(wanted) or not is_inexact(dtype))
    return np.can_cast(dtype, wanted, "same_kind")


def _kind_of(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "V" and dtype.fields is None:
        return f"numbers of the type {dtype.name}" if not dtype.name.startswith("void") else "raw bytes"
    return _KINDS.get(dtype.kind, str(dtype))


def _remedy_for(array: Any) -> str:
    """What to do with an array that holds no numbers that can be averaged."""
    if array.dtype.kind == "V" and array.dtype.fields is None:
        return "give it .astype(np.float32), or as one of " + ", ".join(EXTENSION_TYPES)
    if array.dtype.kind == "V":
        return "give each of its fields under a name of its own"
    if array.dtype.kind == "O" and array.size:
        inner = array.flat[0]
        if isinstance(inner, (np.ndarray, list, tuple)):
            return "rows of different lengths make no array, give each under a name of its own"
        return f"its first is {_shape_of(inner)}{advice_for(inner)}"
    return "give np.asarray(…, dtype=np.float32), or keep it out of the parameters"


_CALLS = {
    "jax": "np.asarray(value)", "jaxlib": "np.asarray(value)", "tensorflow": "value.numpy()", "cupy": "value.get()",
    "mxnet": "value.asnumpy()", "pandas": "value.to_numpy()", "polars": "value.to_numpy()",
    "scipy": "value.toarray()", "mlx": "np.asarray(value)",
}  # fmt: skip
"""What makes an array of a library's own values, by the first word of their class's module."""

_TORCH_BITS = {
    "torch.bfloat16": ("uint16", "bfloat16"),
    "torch.float8_e4m3fn": ("uint8", "float8_e4m3fn"),
    "torch.float8_e5m2": ("uint8", "float8_e5m2"),
}


_WHOLE_STATE = ", or red_tui.torch.state_dict_to_parameters on the model or its whole state dict"


def advice_for(value: Any) -> str:
    """What to call to get an array of what was given in its place, after a colon; no library is imported for it."""
    home = type(value).__module__.partition(".")[0]
    if home == "torch":
        if hasattr(value, "state_dict"):
            return ": give red_tui.torch.state_dict_to_parameters(value)"
        bits = _TORCH_BITS.get(str(getattr(value, "dtype", "")))
        if bits:
            return f": call .detach().cpu().view(torch.{bits[0]}).numpy().view(ml_dtypes.{bits[1]}) on it{_WHOLE_STATE}"
        return f": call .detach().cpu().numpy() on it{_WHOLE_STATE}"
    if home in _CALLS:
        return f": call {_CALLS[home]}"
    if isinstance(value, Mapping):
        return ": flatten nested parameters, as red_tui.jax.tree_to_parameters does ({'dense/kernel': array})"
    if isinstance(value, (list, tuple, Real)) and not isinstance(value, str):
        return ": call np.asarray(value)"
    if hasattr(value, "__array__"):
        return ": call np.asarray(value)"
    return ""


def all_finite(array: Any) -> bool:
    """Whether no number of an array is NaN or infinite.

    The dot product with itself reads the numbers once, makes no temporary and, as `vdot`, warns of nothing;
    only where it is not finite is each number looked at.
    """
    kind = array.dtype
    if kind is FLOAT32 or kind is FLOAT64:
        flat = array if array.ndim == 1 else array.ravel("K")
        if math.isfinite(np.vdot(flat, flat)):
            return True
    elif not is_inexact(kind):
        return True
    return bool(np.logical_and.reduce(np.isfinite(array), axis=None))
