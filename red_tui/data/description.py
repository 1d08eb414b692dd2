"""Figures of how a rule deals out a data set: sizes, labels, and how far parts are from the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.data.label_groups import codes_of
from red_tui.data.partition import IntArray, Labels, Partition

SHOWN_PARTS = 20
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DataDescription:
    """How a data set is dealt out.

    Attributes:
        sizes: Examples of each part.
        labels: The labels, in ascending order; empty where only the number of examples is known.
        table: Examples by part and label, of shape (parts, labels).
        left_out: Examples that belong to no part.
        hellinger: Of each part the Hellinger distance of its labels to those of all examples, from 0 (alike) to 1.
        jensen_shannon: Of each part the Jensen-Shannon distance (the root of the divergence to base 2; Endres and
            Schindelin, 2003), from 0 to 1.  NaN, as the other, for a part without examples.
    """

    sizes: IntArray
    labels: tuple[Any, ...]
    table: IntArray
    left_out: int
    hellinger: FloatArray
    jensen_shannon: FloatArray

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        sizes = self.sizes
        left = f", {self.left_out:,} in none" if self.left_out else ""
        yield (
            f"{sizes.sum():,} examples in {len(sizes):,} parts of {sizes.min():,} to {sizes.max():,}"
            f" (median {np.median(sizes):,g}){left}"
        )
        if not self.labels:
            return
        far = np.isfinite(self.hellinger)
        if far.any():
            yield (
                f"labels of a part against all: Hellinger {self.hellinger[far].mean():.3f} (largest"
                f" {self.hellinger[far].max():.3f}), Jensen-Shannon {self.jensen_shannon[far].mean():.3f} (largest"
                f" {self.jensen_shannon[far].max():.3f})"
            )
        heads = [str(label) for label in self.labels]
        widths = [max(len(head), len(f"{self.table[:, place].max():,}")) for place, head in enumerate(heads)]
        number = max(4, len(f"{len(sizes) - 1:,}"))
        yield f"{'part':>{number}}  {'size':>8}  " + "  ".join(
            f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)
        )
        for part, row in enumerate(self.table[:SHOWN_PARTS]):
            counts = "  ".join(f"{count:>{width},}" for count, width in zip(row.tolist(), widths, strict=True))
            yield f"{part:>{number},}  {sizes[part]:>8,}  {counts}"
        if len(sizes) > SHOWN_PARTS:
            yield f"and {len(sizes) - SHOWN_PARTS:,} more parts"


def describe(partition: Partition, labels: Labels, num_parts: int) -> DataDescription:
    """Deal a data set out, and count.

    Args:
        partition: The rule.
        labels: See `Partition.indices`; given as columns, the labels are those of the rule's `by`, else of `label`.
        num_parts: Number of parts.

    Raises:
        PartitionError: If the data set cannot be dealt out so.
    """
    split = partition.split(labels, num_parts)
    column = _label_column(partition, labels)
    if column is None:
        codes, num_labels, names = np.zeros(split.num_examples, dtype=np.int64), 0, ()
    else:
        found, num_labels = codes_of(column)
        codes = found.astype(np.int64)
        names = tuple(np.unique(column).tolist())
    sizes = np.zeros(num_parts, dtype=np.int64)
    table = np.zeros((num_parts, num_labels), dtype=np.int64)
    taken = np.zeros(split.num_examples, dtype=bool)
    for part, indices in enumerate(split):
        sizes[part], taken[indices] = len(indices), True
        if num_labels:
            table[part] = np.bincount(codes[indices], minlength=num_labels)
    overall = np.bincount(codes, minlength=num_labels) if num_labels else np.zeros(0, dtype=np.int64)
    hellinger, jensen_shannon = distances(table, overall)
    return DataDescription(sizes, names, table, int((~taken).sum()), hellinger, jensen_shannon)


def distances(table: IntArray, overall: IntArray) -> tuple[FloatArray, FloatArray]:
    """Hellinger and Jensen-Shannon distances of each row of counts to `overall`; NaN for rows of nothing.

    Args:
        table: Counts, of shape (parts, labels).
        overall: Counts, of shape (labels,).
    """
    if not table.shape[1] or not overall.sum():
        nothing = np.full(len(table), np.nan)
        return nothing, nothing.copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = table / table.sum(axis=1, keepdims=True)
        whole = overall / overall.sum()
        hellinger = np.sqrt(np.clip(1.0 - np.sqrt(parts * whole).sum(axis=1), 0.0, None))
        middle = (parts + whole) / 2
        divergence = (_entropy_terms(parts, middle) + _entropy_terms(whole, middle)) / 2
    jensen_shannon = np.sqrt(np.clip(divergence, 0.0, 1.0))
    empty = table.sum(axis=1) == 0
    hellinger[empty] = jensen_shannon[empty] = np.nan
    return hellinger, jensen_shannon


def _entropy_terms(shares: FloatArray, middle: FloatArray) -> FloatArray:
    """Kullback-Leibler divergence in bits, row by row."""
    shares = np.broadcast_to(shares, middle.shape)
    terms: FloatArray = np.where(shares > 0, shares * np.log2(shares / middle), 0.0).sum(axis=-1)
    return terms


def _label_column(partition: Partition, labels: Labels) -> npt.NDArray[Any] | None:
    if isinstance(labels, (int, np.integer)):
        return None
    if isinstance(labels, dict):
        name = getattr(partition, "by", "label")
        return np.asarray(labels[name]) if name in labels else None
    return np.asarray(labels)
