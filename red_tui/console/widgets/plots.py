"""Small plots out of characters: the course of a measure, and how a measure is distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.console.text import ASCII_BLOCKS, BLOCKS, number

Floats = npt.NDArray[np.floating[Any]]

_BRAILLE = 0x2800
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
LABEL = 8
"""Cells of the labels at the left."""


def course(values: Sequence[float | None], width: int, height: int, ascii_only: bool = False) -> list[str]:
    """The course of values from left to right as `height` lines of at most `width` cells, labels included.

    More values than there are dots are told by their range within each dot's share.
    """
    known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    finite = known[np.isfinite(known)]
    wide = max(1, width - LABEL - 1)
    if not len(finite):
        return [" " * (LABEL + 1 + wide)] * height
    low, high = float(finite.min()), float(finite.max())
    labels = [""] * height
    dots = height if ascii_only else 4 * height
    # What never changes is one line, and its label stands beside it.
    labels[0 if high > low else height - 1 - (dots - 1) // 2 * height // dots] = _label(high)
    if height > 1 and high > low:
        labels[-1] = _label(low)
    rows = _ascii(known, low, high, wide, height) if ascii_only else _braille(known, low, high, wide, height)
    edge = "|" if ascii_only else "│"
    return [f"{label:>{LABEL}}{edge}{row}" for label, row in zip(labels, rows, strict=True)]


def _label(value: float) -> str:
    """A value in the cells of a label."""
    text = number(value)
    return text if len(text) <= LABEL else number(value, 1)


def _braille(known: Floats, low: float, high: float, width: int, height: int) -> list[str]:
    dots = _dots(known, low, high, 2 * width, 4 * height)
    cells = dots.reshape(height, 4, width, 2)
    codes = (cells * _DOTS[None, :, None, :]).sum(axis=(1, 3)) + _BRAILLE
    # Some fonts draw the empty pattern as circles.
    return ["".join(map(chr, row)).replace(chr(_BRAILLE), " ") for row in codes.tolist()]


def _ascii(known: Floats, low: float, high: float, width: int, height: int) -> list[str]:
    dots = _dots(known, low, high, width, height)
    return ["".join("*" if dot else " " for dot in row) for row in dots.tolist()]


def _dots(known: Floats, low: float, high: float, width: int, height: int) -> npt.NDArray[np.bool_]:
    """Which dots are set, the top line first."""
    bottom, top = _ranges(known, width)
    if high > low:
        with np.errstate(over="ignore", invalid="ignore"):
            half = high / 2 - low / 2  # halves, as the whole span may be more than a float holds
            bottom, top = (np.rint((end / 2 - low / 2) / half * (height - 1)) for end in (bottom, top))
    else:
        bottom = top = np.where(np.isnan(bottom), np.nan, (height - 1) // 2)
    # Each dot reaches to its neighbour, so that a steep course is one line.
    before = np.concatenate([[np.nan], top[:-1]]), np.concatenate([[np.nan], bottom[:-1]])
    reach_up, reach_down = np.fmin(bottom, before[0] + 1), np.fmax(top, before[1] - 1)
    bottom, top = np.where(np.isnan(bottom), np.nan, reach_up), np.where(np.isnan(top), np.nan, reach_down)
    level = np.arange(height - 1, -1, -1)[:, None]
    return np.asarray((level >= bottom) & (level <= top))


def _ranges(known: Floats, width: int) -> tuple[Floats, Floats]:
    """Lowest and highest value at each of `width` places; NaN where there is none."""
    count = len(known)
    if count >= width:
        starts = np.arange(width) * count // width
        return np.fmin.reduceat(known, starts), np.fmax.reduceat(known, starts)
    places = np.rint(np.arange(count) * (width - 1) / max(1, count - 1)).astype(np.int64)
    have = np.isfinite(known)
    line = np.interp(np.arange(width), places[have], known[have], left=np.nan, right=np.nan)
    return line, line


def bars(counts: npt.NDArray[np.integer[Any]], wide: int, height: int, ascii_only: bool = False) -> list[str]:
    """Counts as bars of `wide` cells each, in `height` lines; what is not 0 is seen."""
    signs = ASCII_BLOCKS if ascii_only else BLOCKS
    if not counts.any():
        return [" " * wide * len(counts)] * height
    eighths = np.where(counts > 0, np.maximum(1, np.rint(counts / counts.max() * height * 8)), 0).astype(int)
    rows = []
    for line in range(height - 1, -1, -1):
        here = np.clip(eighths - 8 * line, 0, 8)
        rows.append("".join((" " if eighth == 0 else signs[eighth - 1]) * wide for eighth in here.tolist()))
    return rows
