"""How the nodes of a round did, as lines: a bar for each part of the range, its middle and its ends, and names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from red_tui.console.lines import Line, wrap
from red_tui.console.plots import bars
from red_tui.console.text import number, plural
from red_tui.protocol.snapshot import Measured, Spread

_HIGH_FIRST = {"seconds": "slowest", "loss": "worst", "train loss": "worst"}
"""Measures of which the highest are what somebody looks for, and what they are called."""


def spread_lines(spread: Spread, width: int, ascii_only: bool) -> list[Line]:
    """Distributions, the nodes at their ends, and causes of failures, in lines of `width` cells."""
    lines: list[Line] = []
    for what, causes in (("failed", spread.failed), ("left out", spread.left_out)):
        if causes:
            lines += [(), ((f"{plural(sum(count for _, count, _ in causes), 'node')} {what}", "failed"),)]
        for why, count, ids in causes:
            names = ", ".join(ids) + (f" and {count - len(ids):,} more" if count > len(ids) else "")
            lines += [((f" {row}", "text"),) for row in wrap(f"{names}: {why}", width - 1)]
    for measured in spread.measures:
        lines += _measure_lines(measured, width, ascii_only)
    return lines


def _measure_lines(measured: Measured, width: int, ascii_only: bool) -> list[Line]:
    name, (low, tenth, first, middle, third, ninth, high) = measured.name, measured.quantiles
    head: Line = ((name, "title"), (f"  of {plural(measured.count, 'node')}", "dim"))
    if high <= low:
        return [(), (*head, (f"  all {number(low)}", "text"))]
    wide = max(1, min(3, (width - 2) // len(measured.bins)))
    drawn = [((f" {row}", "busy"),) for row in bars(np.asarray(measured.bins), wide, 2, ascii_only)]
    left, right = number(low), number(high)
    scale = f" {left}{right:>{max(1, wide * len(measured.bins) - len(left))}}"
    told = f"median {number(middle)}, half {number(first)} to {number(third)}, 80 % {number(tenth)} to {number(ninth)}"
    word = _HIGH_FIRST.get(name)
    ends = [f"{word or 'highest'} {_named(measured.high)}"]
    if word is None:
        ends.insert(0, f"lowest {_named(measured.low)}")
    return [
        (),
        head,
        *drawn,
        ((scale, "dim"),),
        *(((f" {row}", "text"),) for text in (told, *ends) for row in wrap(text, width - 1)),
    ]


def _named(nodes: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{node} {number(value)}" for node, value in nodes)
