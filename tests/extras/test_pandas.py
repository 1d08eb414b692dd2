"""Histories as frames of pandas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from red_tui.errors import RedError
from red_tui.rounds.history import History, RoundResult

pandas = pytest.importorskip("pandas", reason="pandas is not installed: `make test-extras` installs it")


def history(of_nodes: Any = None) -> History:
    names = ("a", "b")
    return History(
        (
            RoundResult(1, 0.5, {"accuracy": 0.25}, {"loss": 0.75}, names, {}, 0.1, 10.0, 20.0, 2),
            RoundResult(2, math.nan, {}, {"loss": 0.5}, names, {"c": "late"}, 0.2, 11.0, 20.0, 0),
            RoundResult(4, 0.25, {"accuracy": 0.5}, {"loss": 0.25}, names, {}, 0.3, 12.0, 20.0, 2),
        ),
        of_nodes,
    )


def test_rounds_are_rows_and_what_a_round_does_not_have_is_nan() -> None:
    frame = history().to_pandas()
    head, rows = history().columns()
    assert frame.index.name == "round" and list(frame.index) == [1, 2, 4]
    assert list(frame.columns) == head[1:]
    assert frame["loss"].tolist()[::2] == [0.5, 0.25] and math.isnan(frame["loss"][2])
    assert frame["accuracy"].isna().tolist() == [False, True, False]
    assert frame["train_loss"].tolist() == [0.75, 0.5, 0.25] and frame["train_loss"].dtype == float
    assert frame["failed"].tolist() == [0, 1, 0]
    assert frame["accuracy"].idxmax() == 4
    assert len(rows) == len(frame)


def test_an_empty_history_is_an_empty_frame() -> None:
    frame = History().to_pandas()
    assert len(frame) == 0 and frame.index.name == "round"


def test_nodes_are_rows_of_their_rounds() -> None:
    def of_nodes(number: int) -> Mapping[str, Mapping[str, float]]:
        told = {"a": {"examples": 10.0, "train_loss": number / 10}}
        return told if number == 2 else {**told, "b": {"examples": 20.0, "train_loss": 0.5, "loss": 0.25}}

    frame = history(of_nodes).to_pandas(nodes=True)
    assert frame.index.names == ["round", "node"]
    assert list(frame.index) == [(1, "a"), (1, "b"), (2, "a"), (4, "a"), (4, "b")]
    assert frame.loc[(4, "a"), "train_loss"] == 0.4 and math.isnan(frame.loc[(2, "a"), "loss"])
    assert frame.loc[4, "examples"].sum() == 30.0
    assert frame.xs("b", level="node")["loss"].tolist() == [0.25, 0.25]


def test_figures_of_nodes_that_are_not_kept_are_refused_with_what_to_do() -> None:
    with pytest.raises(RedError, match="node_history=True"):
        history().to_pandas(nodes=True)
    assert len(History((), lambda number: {}).to_pandas(nodes=True)) == 0
