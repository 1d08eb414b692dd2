"""Rows of a data set of Ray Data without a key or an owner, without Ray."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from red_tui.data import DataError
from red_tui.data.ray_parts import RowsOf


@pytest.mark.parametrize(
    ("column", "count"),
    [
        (np.asarray([1, None, None], dtype=object), 2),
        (np.asarray([1.0, np.nan, 3.0]), 1),
        (np.asarray(["a", "b", None], dtype=object), 1),
        (np.asarray([Decimal(1), Decimal("NaN"), np.float32("nan")], dtype=object), 2),
        (np.asarray(["2026-01-01", "NaT", "2026-01-02"], dtype="datetime64[D]"), 1),
    ],
    ids=["whole numbers", "numbers", "text", "decimals", "times"],
)
def test_a_block_with_rows_that_nobody_could_be_given_is_refused(column: Any, count: int) -> None:
    with pytest.raises(DataError, match=f"column 'owner' has no value in {count} of 3 rows"):
        RowsOf("owner", column[:1])({"owner": column})


@pytest.mark.parametrize(
    "column",
    [np.arange(3), np.arange(3.0), np.asarray(["a", "b", "c"], dtype=object), np.asarray([True, False, True])],
    ids=["whole numbers", "numbers", "text", "truth"],
)
def test_rows_of_full_blocks_are_picked_out(column: Any) -> None:
    picked = RowsOf("owner", np.asarray([str(column[1])]) if column.dtype == object else column[1:2])
    assert picked({"owner": column, "x": np.arange(3)})["x"].tolist() == [1]
