"""Curves out of characters: several in one frame, told apart without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SIGNS = "●×+◆▲○■*"
ASCII_SIGNS = "*x+o#@%&"
LABEL = 9
"""Cells of the labels at the left."""

EARLY = 0.1
"""Share of the first values that may lie outside the frame, where the others would be flat otherwise."""

FLATTENED = 4.0
"""How many times larger the range must be with those than without them."""


@dataclass(frozen=True)
class Curve:
    """One curve.

    Attributes:
        name: What the legend says.
        x: Where the values are, ascending.
        y: The values; NaN where there is none.
        deviation: Standard deviation at each value, or None.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    deviation: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Frame:
    """What a picture of curves shows of them.

    Attributes:
        left: Lowest x.
        right: Highest x.
        low: Lowest value, as its logarithm (base 10) on a logarithmic axis.
        high: Highest value, likewise.
        log: Whether the axis is logarithmic.
        outside: Number of values above or below the frame.
    """

    left: float
    right: float
    low: float
    high: float
    log: bool
    outside: int

    def level(self, values: Sequence[float]) -> Floats:
        """Values on the frame's axis; NaN for what has no place on it."""
        known = np.asarray(values, dtype=np.float64)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                known = np.where(known > 0, np.log10(known), np.nan)
        return known


def frame_of(curves: Sequence[Curve], log: bool = False) -> Frame:
    """The frame in which curves are seen best: the first rounds do not flatten the others."""
    whole = Frame(0.0, 0.0, 0.0, 0.0, log, 0)
    places = [at for curve in curves for at in curve.x]
    levels = [whole.level(curve.y) for curve in curves]
    finite = np.concatenate([one[np.isfinite(one)] for one in levels]) if levels else np.zeros(0)
    if not len(finite) or not places:
        return Frame(0.0, 1.0, 0.0, 1.0, log, 0)
    known = [one[np.isfinite(one)] for one in levels]
    low, high = float(finite.min()), float(finite.max())
    for first in range(1, max(math.ceil(EARLY * len(one)) for one in known) + 1):
        later = np.concatenate([one[min(first, math.ceil(EARLY * len(one))) :] for one in known])
        close = float(np.ptp(later)) if len(later) > 1 else 0.0
        if close > 0 and high - low > FLATTENED * close:
            low, high = float(later.min()) - 0.05 * close, float(later.max()) + 0.05 * close
            break
    outside = int(((finite < low) | (finite > high)).sum())
    return Frame(min(places), max(places), low, high, log, outside)


def draw(
    curves: Sequence[Curve],
    width: int,
    height: int,
    *,
    x: str = "round",
    y: str = "loss",
    log: bool = False,
    ascii_only: bool = False,
) -> list[str]:
    """Curves in a frame with axes and a legend, as lines of at most `width` cells.

    Args:
        curves: The curves; each keeps its sign by its place.
        width: Cells of a line.
        height: Lines of the frame itself; axis and legend come below it.
        x: Name of the axis to the right.
        y: Name of the measure.
        log: Logarithmic axis of the measure.
        ascii_only: Nothing but ASCII.
    """
    signs = ASCII_SIGNS if ascii_only else SIGNS
    wide, high = max(8, width - LABEL - 1), max(3, height)
    frame = frame_of(curves, log)
    cells = np.full((high, wide), -1, dtype=np.int64)
    for place, curve in enumerate(curves):
        _put(cells, frame, curve, place)
    lines = []
    for row in range(high):
        level = frame.high - (frame.high - frame.low) * row / (high - 1)
        shown = (0, high // 2, high - 1) if frame.high > frame.low else (high - 1 - round(0.5 * (high - 1)),)
        label = _label(10**level if log else level) if row in shown else ""
        text = "".join(_cell(int(place), signs) for place in cells[row])
        lines.append(f"{label:>{LABEL}}{'|' if ascii_only else '│'}{text}".rstrip())
    first, last = _label(frame.left), _label(frame.right)
    lines.append(" " * LABEL + ("+" + "-" * wide if ascii_only else "└" + "─" * wide))
    lines.append(" " * (LABEL + 1) + first + x.center(max(0, wide - len(first) - len(last))) + last)
    notes = [y, "logarithmic"] if log else [y]
    if frame.outside:
        notes.append(f"{frame.outside} values lie outside")
    lines.append(" " * (LABEL + 1) + ", ".join(notes)[:wide])
    for place, curve in enumerate(curves):
        room = width - LABEL - 3
        cut = "..." if ascii_only else "…"
        name = curve.name if len(curve.name) <= room else curve.name[: room - len(cut)] + cut
        lines.append(" " * (LABEL + 1) + _cell(place, signs) + " " + name)
    return lines


def _put(cells: npt.NDArray[np.int64], frame: Frame, curve: Curve, place: int) -> None:
    """Put one curve into the cells: in each column the range of its values, joined to the column before."""
    high, wide = cells.shape
    levels = frame.level(curve.y)
    span, rise = frame.right - frame.left, frame.high - frame.low
    before: tuple[int, int] | None = None
    columns: dict[int, list[int]] = {}
    for at, level in zip(curve.x, levels.tolist(), strict=True):
        if math.isfinite(level):
            column = round((at - frame.left) / span * (wide - 1)) if span else 0
            share = (level - frame.low) / rise if rise else 0.5
            row = high - 1 - round(min(1.0, max(0.0, share)) * (high - 1))
            columns.setdefault(column, []).append(row)
    for column, rows in sorted(columns.items()):
        top, bottom = min(rows), max(rows)
        if before is not None and before[0] == column - 1:
            # A steep course is one line.
            top, bottom = (min(top, before[1] + 1), bottom) if before[1] < top else (top, max(bottom, before[1] - 1))
        cells[top : bottom + 1, column] = place
        before = column, rows[-1]


def _cell(place: int, signs: str) -> str:
    if place < 0:
        return " "
    return signs[place % len(signs)]


def _label(value: float) -> str:
    text = f"{value:.4g}"
    return text if len(text) <= LABEL else f"{value:.1e}"
