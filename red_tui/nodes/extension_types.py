"""bfloat16 and float8: the types of `ml_dtypes`, by name, on machines that have it and on those that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

EXTENSION_TYPES = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
"""Names of the extension types that parameters may have, and their bytes a number."""


def is_extension(dtype: np.dtype[Any]) -> bool:
    """Whether a type is one of `EXTENSION_TYPES`."""
    return dtype.kind in "Vf" and dtype.name in EXTENSION_TYPES


def extension_type(name: str) -> np.dtype[Any]:
    """The numpy type of that name.

    Raises:
        ModuleNotFoundError: If `ml_dtypes`, which defines it, is not installed.
    """
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def widened(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of an extension type as float32, which has all its numbers; any other array as it is."""
    return array.astype(np.float32) if is_extension(array.dtype) else array


def from_bits(bits: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
    """The numbers behind the bits of an extension type, as float32; it needs no `ml_dtypes`.

    Args:
        bits: uint16 (bfloat16) or uint8 (float8), any shape.
        name: Name of the extension type.
    """
    numbers: npt.NDArray[np.float32]
    numbers = (bits.astype(np.uint32) << 16).view(np.float32) if name == "bfloat16" else _table(name)[bits]
    return numbers


def _table(name: str) -> npt.NDArray[np.float32]:
    """All 256 numbers of a float8 type.

    OFP8 (Micikevicius et al. 2022, table 1): E4M3 has no infinity, and NaN where exponent and mantissa are all ones;
    E5M2 is as IEEE 754 has it.
    """
    exponent_bits, mantissa_bits, bias = (4, 3, 7) if name == "float8_e4m3fn" else (5, 2, 15)
    codes = np.arange(256)
    mantissa = (codes & (2**mantissa_bits - 1)) / 2**mantissa_bits
    exponent = (codes >> mantissa_bits) & (2**exponent_bits - 1)
    normal = (1.0 + mantissa) * 2.0 ** (exponent - float(bias))
    values = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), normal)
    if name == "float8_e4m3fn":
        values[(codes & 0x7F) == 0x7F] = np.nan
    else:
        last = exponent == 2**exponent_bits - 1
        values[last] = np.where(mantissa[last] == 0, np.inf, np.nan)
    table: npt.NDArray[np.float32] = (np.where(codes < 128, 1.0, -1.0) * values).astype(np.float32)
    return table
