"""Waves: nodes built together."""

from __future__ import annotations

import numpy as np

from red_tui import checks
from red_tui.nodes.table import IntArray


def split_waves(rows: IntArray, *, count: int | None = None, size: int | None = None) -> list[IntArray]:
    """Split rows in order into `count` waves whose sizes differ by one at most, or into waves of `size`.

    Every row is in exactly one wave; empty waves are left away.

    Raises:
        ValueError: Unless exactly one of `count` and `size` is given and it is at least 1.
    """
    if (count is None) == (size is None):
        raise ValueError("say either how many waves (count=3) or how large they are (size=4)")
    number: int = checks.whole(count, "count", least=1) if count is not None else checks.whole(size, "size", least=1)
    if count is not None:
        parts = np.array_split(rows, count)
    else:
        parts = np.array_split(rows, np.arange(number, len(rows), number))
    return [part for part in parts if len(part)]
