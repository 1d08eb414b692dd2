"""A round as a row of the journal and as a line for people."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

from red_tui.aggregation.answers import Answers
from red_tui.errors import RedError
from red_tui.federation.ground import NAMED_IDS
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.table import IntArray, row_ranges
from red_tui.rounds.history import NodeNames, RoundResult
from red_tui.rounds.node_statistics import spread_of

NAMED_FAILURES = 64
"""Nodes whose failure a round's row tells by name."""

MOST_WORDS = 1000
"""Letters of a cause that it keeps."""


def rows_of(result: RoundResult) -> IntArray | None:
    """Rows of a round's participants; None where only names are known."""
    return result.participants.rows if isinstance(result.participants, NodeNames) else None


def finished_wire(result: RoundResult) -> dict[str, Any]:
    """A finished round as the journal keeps it: with how its nodes did, and which they were."""
    wire = {**result.to_wire(), "failures": named_failures(result.failures), "spread": dict(result.spread)}
    if result.left_out:
        wire["left_out"] = named_failures(result.left_out)
    wire["rows"] = row_ranges(rows) if (rows := rows_of(result)) is not None else []
    if len(result.participants) <= NAMED_IDS:
        wire["ids"] = list(result.participants)
    return wire


def named_failures(failures: Mapping[str, str]) -> dict[str, str]:
    """Why the first failed nodes failed, by id: with all of ten thousand a row of the journal would be megabytes.

    How many failed for which cause is in the round's `spread`, and how many in all in `failed`.
    """
    return {node_id: why[:MOST_WORDS] for node_id, why in islice(failures.items(), NAMED_FAILURES)}


def failed_wire(number: int, seconds: float, error: Exception) -> dict[str, Any]:
    """A failed round as a row of the history."""
    failures = error.fields.get("failed", {}) if isinstance(error, RedError) else {}
    ended = time.time()
    left_out = error.fields.get("left_out", {}) if isinstance(error, RedError) else {}
    result = RoundResult(number, math.nan, {}, {}, (), failures, seconds, ended, left_out=left_out)
    spread = spread_of(Answers(), Answers(), failures, lambda rows: (), left_out)
    named = {"left_out": named_failures(left_out)} if left_out else {}
    return {**result.to_wire(), **named, "state": "failed", "spread": spread}


def summary(result: RoundResult) -> str:
    """A round in a line."""
    parts = []
    if result.evaluated:
        parts.append(f"loss {result.loss:.4g}")
    parts += [f"{name} {value:.4g}" for name, value in result.metrics.items()]
    if not result.evaluated and "loss" in result.train_metrics:
        parts.append(f"train loss {result.train_metrics['loss']:.4g}")
    parts.append(f"{len(result.participants)} results in {result.seconds:.2f} s")
    if result.failures:
        node_id, why = next(iter(result.failures.items()))
        parts.append(f"{result.failed} failed ({node_id}: {first_sentence(why, 80)})")
    if result.left_out:
        node_id, why = next(iter(result.left_out.items()))
        parts.append(f"{result.num_left_out} left out ({node_id}: {first_sentence(why, 80)})")
    return "  ".join(parts)
