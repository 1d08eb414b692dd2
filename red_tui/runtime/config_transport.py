"""Whether what a script puts into a config can travel to the nodes."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from red_tui.nodes.config import FederationConfig

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})


def check_travels(config: FederationConfig | Mapping[str, Any], what: str = "config") -> None:
    """Raise ValueError for the first key of a config whose value cannot be pickled."""
    keys = config.as_dict() if isinstance(config, FederationConfig) else config
    for key, value in keys.items():
        if trouble := _trouble(value):
            raise ValueError(
                f"{what}: {key!r} cannot travel to the nodes ({trouble}): pass plain data, or what it is made from and"
                " make it in build"
            )


def _trouble(value: Any) -> str:
    """Why a value cannot travel; empty if it can."""
    if _is_plain(value):
        return ""
    with contextlib.suppress(Exception):
        pickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda buffer: None).dump(value)
        return ""
    # Functions and classes of a script are beyond pickle, and within the reach of Ray's own.
    from ray import cloudpickle

    try:
        cloudpickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda buffer: None).dump(value)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return ""


def _is_plain(value: Any, depth: int = 20) -> bool:
    """Whether a value needs no trial; one that is nested deeply is tried."""
    kind = type(value)
    if depth and kind in (list, tuple, set, frozenset):
        return all(_is_plain(item, depth - 1) for item in value)
    if depth and kind is dict:
        return all(_is_plain(key) and _is_plain(item, depth - 1) for key, item in value.items())
    # Objects of Ray (references, actors, groups) are Ray's own business.
    return kind in PLAIN or (kind is np.ndarray and value.dtype.kind != "O") or kind.__module__.startswith("ray.")


class _Nowhere:
    """A file that forgets what is written to it: data sets are not copied."""

    def write(self, data: Any) -> int:
        return len(data)
