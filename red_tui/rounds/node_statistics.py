"""How the nodes of a round did, in a few numbers: the same size for ten nodes and for ten thousand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.aggregation.answers import Answers, Floats
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.table import IntArray

MEASURES = 8
"""Measures of a round whose distribution is kept."""

BINS = 16
EXTREMES = 3
"""Nodes that are named at each end."""

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
CAUSES = 6
"""Causes of failures that are told, the most frequent first."""

NAME_KEPT = 40


def node_statistics(
    fitted: Answers,
    judged: Answers,
    failures: Mapping[str, str],
    names: Callable[[IntArray], Sequence[str]],
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Distributions of what nodes took and reported, who stands at their ends, and why nodes failed.

    Args:
        fitted: What counted of `fit`.
        judged: What counted of `evaluate`.
        failures: Why nodes did not contribute, by id.
        names: Ids of rows, which are given in order.
        left_out: Why nodes could not be chosen, by id.

    Returns:
        `measures`: by name `count`, `quantiles` (of `QUANTILES`), `bins` (counts over the range), and `low` and
        `high` with [id, value] of the nodes at the ends, the outermost first.  `failed`: [cause, count, ids]; so is
        `left_out`, which is there if somebody was.
    """
    columns = dict(list(_columns(fitted, judged))[:MEASURES])
    found = {name: told for name, (rows, values) in columns.items() if (told := _measured(rows, values))}
    at_ends = np.unique(np.asarray([row for one in found.values() for row, _ in one["low"] + one["high"]], np.int64))
    ids = dict(zip(at_ends.tolist(), names(at_ends), strict=True)) if len(at_ends) else {}
    for one in found.values():
        for end in ("low", "high"):
            one[end] = [[ids[row], value] for row, value in one[end]]
    told = {"measures": found, "failed": _causes(failures)}
    return {**told, "left_out": _causes(left_out)} if left_out else told


def _columns(fitted: Answers, judged: Answers) -> Sequence[tuple[str, tuple[IntArray, Floats]]]:
    """What is measured, by name: what an operator looks for first stands first."""
    found: list[tuple[str, tuple[IntArray, Floats]]] = [("seconds", (fitted.rows, fitted.seconds))]
    if len(judged.losses):
        found.append(("loss", (judged.rows, judged.losses)))
    ordered = sorted(fitted.metrics, key=lambda name: (name != "loss", name))
    trained = [(f"train {name}"[:NAME_KEPT], (fitted.rows, fitted.metrics[name])) for name in ordered]
    examples = ("examples", (fitted.rows, fitted.weights))
    told = [(name[:NAME_KEPT], (judged.rows, judged.metrics[name])) for name in sorted(judged.metrics)]
    return [*found, *trained[:1], *told[:3], examples, *trained[1:], *told[3:]]


def _measured(rows: IntArray, values: Floats) -> dict[str, Any] | None:
    if len(rows) != len(values) or not len(rows):
        return None
    finite = np.isfinite(values)
    if not finite.all():
        rows, values = rows[finite], values[finite]
        if not len(rows):
            return None
    order = np.argsort(values, kind="stable")
    ordered: npt.NDArray[np.float64] = values[order].astype(np.float64)
    last = len(ordered) - 1
    low, high = float(ordered[0]), float(ordered[-1])
    half = high / 2 - low / 2  # halves: the whole span may be more than a float holds
    bins = [len(ordered)]
    if half > 0:
        places = np.minimum(((ordered / 2 - low / 2) / half * BINS).astype(np.int64), BINS - 1)
        bins = np.bincount(places, minlength=BINS).tolist()
    ends = min(EXTREMES, len(ordered))
    return {
        "count": len(ordered),
        "quantiles": [float(ordered[round(share * last)]) for share in QUANTILES],
        "bins": bins,
        "low": [(int(rows[place]), float(values[place])) for place in order[:ends]],
        "high": [(int(rows[place]), float(values[place])) for place in order[::-1][:ends]],
    }


def _causes(failures: Mapping[str, str]) -> list[list[Any]]:
    """Causes of failures, the most frequent first: [cause, how many nodes, the first of them]."""
    found: dict[str, list[str]] = {}
    for node_id, why in failures.items():
        found.setdefault(first_sentence(why, 160), []).append(node_id)
    told = sorted(found.items(), key=lambda item: -len(item[1]))
    return [[why, len(ids), ids[:EXTREMES]] for why, ids in told[:CAUSES]]
