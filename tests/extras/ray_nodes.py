"""Nodes that read their part of a data set of Ray Data, and sources that give one."""

from __future__ import annotations

from typing import Any

import numpy as np

import red_tui as red

ROWS = 60
OWNERS = 6


def columns() -> dict[str, Any]:
    """What the data sets hold: a row for each number below `ROWS`."""
    rows = np.arange(ROWS)
    return {
        "id": rows * 7 % ROWS,
        "x": np.stack([rows, rows * 2.0], axis=1),
        "label": rows % 4,
        "writer": np.asarray([f"writer {row % OWNERS}" for row in rows]),
    }


def rows() -> Any:
    """A data set in four blocks."""
    import ray.data

    return ray.data.from_items(
        [dict(zip(columns(), values, strict=True)) for values in zip(*columns().values(), strict=True)],
        override_num_blocks=4,
    )


def by_writer() -> Any:
    """The same, dealt out by owner."""
    from red_tui import data

    return data.from_ray(rows(), data.NaturalId(column="writer"))


class Reader(red.FederatedNode):
    """Tells what it read: as an update, one in the places of its rows."""

    def initial_parameters(self) -> dict[str, Any]:
        return {"seen": np.zeros(ROWS), "writers": np.zeros(OWNERS)}

    def fit(self, parameters: dict[str, Any], config: Any) -> red.FitResult:
        seen, writers, most = np.zeros(ROWS), np.zeros(OWNERS), 0
        for batch in self.data.iter_batches(batch_size=8):
            most = max(most, len(batch["id"]))
            seen[batch["id"]] += 1
            writers[[int(writer.split()[1]) for writer in batch["writer"]]] = 1
            assert batch["x"].shape == (len(batch["id"]), 2)
        return red.FitResult({"seen": seen, "writers": writers}, 1, {"most": float(most), "writers": writers.sum()})
