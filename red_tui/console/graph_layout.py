"""Where the nodes of a small graph stand on a canvas of cells."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]

ASPECT = 2.5
"""Cells beside each other that look, and have to be kept apart, like one above the other."""

_LEVELLED = frozenset({"tree", "hierarchical"})
_ORDERED = frozenset({"ring", "line"})
_SAMPLES = 1440


def places_of(rule: str, count: int, pairs: Ints, width: int, height: int, label: int) -> Ints | None:
    """Cells (x, y) of the nodes; None if they find no room.

    Args:
        rule: Name of the topology's rule.
        count: Nodes; the first of a star or a hierarchy is the server.
        pairs: Edges as pairs of places.
        width: Cells across.
        height: Lines.
        label: Cells that a name takes beside its node, kept free where there is room.
    """
    if count == 0 or width < 8 or height < 3:
        return None
    found: Ints | None = None
    if rule == "grid":
        found = _lattice(count, math.ceil(math.sqrt(count)), width, height, label)
    elif rule in _LEVELLED:
        found = _levels(count, pairs, width, height)
    else:
        for beside in (label + 2, 1):
            found = _round(count, rule == "star", width, height, beside)
            if found is not None:
                break
    if found is None and rule not in _LEVELLED:
        across = max(1, min((width + 2) // 4, math.ceil(math.sqrt(count * width / ASPECT / height))))
        found = _lattice(count, across, width, height, 0, snake=rule in _ORDERED)
    return found


def _round(count: int, star: bool, width: int, height: int, beside: int) -> Ints | None:
    """On an ellipse, evenly as the eye sees it; the server of a star in the middle."""
    across, down = (width - 1) / 2 - beside, (height - 1) / 2
    ends = count - star
    if across < 3:
        return None
    if count == 1:
        return np.array([[width // 2, height // 2]])
    angles = np.linspace(0, 2 * math.pi, _SAMPLES + 1)
    x, y = across * np.sin(angles), -down * np.cos(angles)
    passed = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x) / ASPECT, np.diff(y)))])
    at = np.interp(np.arange(ends) * passed[-1] / max(1, ends), passed, np.arange(_SAMPLES + 1))
    chosen = np.rint(at).astype(np.int64)
    middle = [(width - 1) / 2, (height - 1) / 2]
    cells = np.rint(np.stack([x[chosen], y[chosen]], axis=1) + middle).astype(np.int64)
    if star:
        cells = np.concatenate([np.array([[width // 2, height // 2]]), cells])
    return cells if _apart(cells) else None


def _lattice(count: int, across: int, width: int, height: int, label: int, snake: bool = False) -> Ints | None:
    """In lines and columns; as a snake where neighbours follow each other."""
    lines = -(-count // across)
    wide = (width - 2 - label) / (across - 1) if across > 1 else 0.0
    tall = (height - 1) / (lines - 1) if lines > 1 else 0.0
    if (across > 1 and wide < 3) or (lines > 1 and tall < 2):
        return None
    wide, tall = min(wide, 18.0), min(tall, 6.0)
    place = np.arange(count)
    row, column = place // across, place % across
    if snake:
        column = np.where(row % 2 == 1, across - 1 - column, column)
    left = (width - label - (across - 1) * wide) / 2
    top = (height - 1 - (lines - 1) * tall) / 2
    return np.rint(np.stack([left + column * wide, top + row * tall], axis=1)).astype(np.int64)


def _levels(count: int, pairs: Ints, width: int, height: int) -> Ints | None:
    """By distance from the first node, each level from left to right."""
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for one, other in pairs.tolist():
        neighbours[one].append(other)
        neighbours[other].append(one)
    level = [-1] * count
    for root in range(count):
        if level[root] >= 0:
            continue
        level[root], queue = 0, [root]
        for one in queue:
            for other in neighbours[one]:
                if level[other] < 0:
                    level[other] = level[one] + 1
                    queue.append(other)
    depth = max(level) + 1
    if depth > 1 and (height - 1) / (depth - 1) < 2:
        return None
    cells = np.zeros((count, 2), dtype=np.int64)
    for number in range(depth):
        mine = [place for place in range(count) if level[place] == number]
        if width / len(mine) < 3:
            return None
        for index, place in enumerate(mine):
            y = number * min(6.0, (height - 1) / max(1, depth - 1))
            cells[place] = (int((index + 0.5) * width / len(mine)), round(y))
    return cells


def _apart(cells: Ints) -> bool:
    """Whether no two nodes stand in one cell, or beside each other."""
    order = np.lexsort((cells[:, 0], cells[:, 1]))
    step = np.diff(cells[order], axis=0)
    return not bool(np.any((step[:, 1] == 0) & (step[:, 0] < 2)))
