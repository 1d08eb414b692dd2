"""A small graph drawn with characters: edges out of dots, nodes as the signs of their states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.console.graph_layout import places_of
from red_tui.console.lines import Line
from red_tui.console.text import clip

Ints = npt.NDArray[np.integer[Any]]
Dots = npt.NDArray[np.bool_]

_BRAILLE = 0x2800
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
NAME = 12
"""Cells of a node's name."""

CELLS_PER_EDGE = (9, 22)
"""Where there are fewer cells for each edge, only those of the node under the cursor are drawn; for ASCII, which is
coarser, more of them."""


class Drawing:
    """Nodes at their places, and the edges between them.

    Args:
        rule: Name of the topology's rule.
        names: Plain names of the nodes; the first of a star is the server's.
        pairs: Edges as pairs of places in `names`.
        width: Cells across.
        height: Lines.
        ascii_only: Whether dots are ASCII signs.
    """

    def __init__(
        self, rule: str, names: Sequence[str], pairs: Ints, width: int, height: int, ascii_only: bool = False
    ) -> None:
        self.names = names
        self.pairs = pairs
        self._width, self._height, self._ascii = width, height, ascii_only
        label = min(NAME, max(map(len, names), default=0))
        found = places_of(rule, len(names), pairs, width, height, label)
        self.fits = found is not None
        self.cells: Ints = found if found is not None else np.empty((0, 2), dtype=np.int64)
        self.dense = len(pairs) * CELLS_PER_EDGE[ascii_only] > width * height
        self._labels = self._place_labels() if self.fits else {}
        self._faint: Dots | None = None

    # -- finding ---------------------------------------------------------------------------------

    def towards(self, place: int, way: str) -> int:
        """The node that lies next in a direction (`left`, `right`, `up`, `down`); the same one if there is none."""
        step = (self.cells - self.cells[place]).astype(np.float64)
        step[:, 1] *= 2.0  # a cell is about twice as high as it is wide
        axis, sign = (0 if way in ("left", "right") else 1), (1 if way in ("right", "down") else -1)
        along, across = step[:, axis] * sign, np.abs(step[:, 1 - axis])
        cost = np.where(along > 0, along + 2.0 * across, np.inf)
        best = int(np.argmin(cost))
        return best if np.isfinite(cost[best]) else place

    def at(self, x: int, y: int) -> int | None:
        """The node at a cell, or beside it."""
        if not len(self.cells):
            return None
        distance = np.abs(self.cells - [x, y]).sum(axis=1)
        best = int(np.argmin(distance))
        return best if distance[best] <= 1 else None

    # -- drawing ---------------------------------------------------------------------------------

    def lines(
        self, signs: Sequence[str], styles: Sequence[str], cursor: int | None, near: frozenset[int]
    ) -> list[Line]:
        """The lines of the canvas.

        Args:
            signs: The nodes' signs.
            styles: And their styles.
            cursor: Place of the node whose edges stand out.
            near: Places of its neighbours.
        """
        if self._faint is None:
            self._faint = self._dots([] if self.dense else self.pairs.tolist(), gaps=True)
        strong = self._dots([] if cursor is None else [(cursor, other) for other in sorted(near)])
        text, style = self._cells(self._faint, strong)
        for x, y in self.cells.tolist():
            for free in (x - 1, x + 1):  # a node stands out from the edges that end in it
                if 0 <= free < self._width:
                    text[y][free], style[y][free] = " ", "text"
        for place, (x, y, name) in self._labels.items():
            how = "title" if place == cursor or place in near else "dim"
            for offset, sign in enumerate(f" {name} ", -1):
                if 0 <= x + offset < self._width:
                    text[y][x + offset], style[y][x + offset] = sign, how
        for place, (x, y) in enumerate(self.cells.tolist()):
            text[y][x], style[y][x] = signs[place], styles[place]
        return [_runs(row, how) for row, how in zip(text, style, strict=True)]

    def _place_labels(self) -> dict[int, tuple[int, int, str]]:
        """Where names find room beside their nodes."""
        taken: Dots = np.zeros((self._height, self._width), dtype=bool)
        for x, y in self.cells.tolist():
            taken[y, max(0, x - 1) : x + 2] = True
        found = {}
        for place, (x, y) in enumerate(self.cells.tolist()):
            name = clip(self.names[place], NAME, "~" if self._ascii else "…")
            right, left = x + 2, x - 1 - len(name)
            for begin in (right, left) if x >= (self._width - 1) // 2 else (left, right):
                inside = begin >= 0 and begin + len(name) <= self._width
                if inside and not taken[y, begin : begin + len(name)].any():
                    taken[y, max(0, begin - 1) : begin + len(name) + 1] = True
                    found[place] = (begin, y, name)
                    break
        return found

    def _dots(self, pairs: Sequence[Any], gaps: bool = False) -> Dots:
        """Dots of lines between nodes; with gaps they are fainter, also without colour."""
        wide, tall = (1, 1) if self._ascii else (2, 4)
        dots: Dots = np.zeros((self._height * tall, self._width * wide), dtype=bool)
        ends = self.cells * [wide, tall] + [wide // 2, tall // 2]
        for one, other in pairs:
            (x1, y1), (x2, y2) = ends[one], ends[other]
            count = int(max(abs(x2 - x1), abs(y2 - y1))) + 1
            along = np.linspace(0.0, 1.0, count)[:: 3 if gaps and not self._ascii else 1]
            dots[np.rint(y1 + (y2 - y1) * along).astype(int), np.rint(x1 + (x2 - x1) * along).astype(int)] = True
        return dots

    def _cells(self, faint: Dots, strong: Dots) -> tuple[list[list[str]], list[list[str]]]:
        if self._ascii:
            text = [["*" if s else ":" if f else " " for f, s in zip(*rows, strict=True)]
                    for rows in zip(faint.tolist(), strong.tolist(), strict=True)]  # fmt: skip
            lit = strong
        else:
            shape = (self._height, 4, self._width, 2)
            lit = np.asarray(strong.reshape(shape).any(axis=(1, 3)))
            shown = np.where(lit[:, None, :, None], strong.reshape(shape), faint.reshape(shape))
            codes = (shown * _BITS[None, :, None, :]).sum(axis=(1, 3))
            text = [[chr(_BRAILLE + code) if code else " " for code in row] for row in codes.tolist()]
        return text, [["busy" if one else "virtual" for one in row] for row in lit.tolist()]


def _runs(text: Sequence[str], styles: Sequence[str]) -> Line:
    """Cells as runs of equal style."""
    runs: list[tuple[str, str]] = []
    for sign, style in zip(text, styles, strict=True):
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + sign, style)
        else:
            runs.append((sign, style))
    return tuple(runs)
