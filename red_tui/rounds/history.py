"""Results of rounds: plain results and their history."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.aggregation.answers import Answers, Floats
from red_tui.nodes.failures import first_sentence
from red_tui.nodes.ids import IdSpace
from red_tui.nodes.table import IntArray, row_ranges
from red_tui.protocol.snapshot import RoundSummary

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


class NodeNames(Sequence[str]):
    """Ids of nodes by row.  Rows in a row are kept as ranges: a round over ten thousand nodes costs a few bytes."""

    __slots__ = ("_ids", "_length", "_rows")

    def __init__(self, ids: IdSpace, rows: IntArray) -> None:
        ranges = row_ranges(rows)
        self._ids, self._length = ids, len(rows)
        self._rows: Any = ranges if len(ranges) < len(rows) // 4 + 1 else np.asarray(rows, dtype=np.int32)

    @property
    def rows(self) -> IntArray:
        """The rows."""
        if isinstance(self._rows, list):
            parts = [np.arange(first, stop) for first, stop in self._rows]
            return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return np.asarray(self._rows, dtype=np.int64)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids.take(self.rows))

    def __getitem__(self, index: Any) -> Any:
        rows = self.rows[index]
        return tuple(self._ids.take(rows)) if isinstance(index, slice) else self._ids[int(rows)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self._length)

    def __repr__(self) -> str:
        shown = ", ".join(self[:3])
        return f"<{self._length} nodes: {shown}{', …' if self._length > 3 else ''}>"


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One finished round.

    Attributes:
        number: 1 for the first round.
        loss: Federated evaluation loss, weighted by examples; NaN where nobody evaluated.
        metrics: Weighted means of the evaluation's metrics.
        train_metrics: Weighted means of what `fit` reported.
        participants: Ids of the nodes whose updates were aggregated.
        failures: Why each other chosen node did not contribute, by id.
        seconds: Wall time of the round.
        ended: Wall-clock second at its end.
        num_examples: Sum of examples over the aggregated updates.
        evaluated: Number of nodes whose evaluation counted.
        unnamed_failures: How many further nodes did not contribute, where a row of the journal names the first only.
        left_out: Why nodes that have a role in rounds could not be chosen, by id: those that failed or are still at
            work. It is empty when every node had its chance.
        unnamed_left_out: How many further nodes were left out, where a row of the journal names the first only.
        spread: How nodes did, as `rounds.spread.spread_of` tells it; only the last rounds keep it.
    """

    number: int
    loss: float
    metrics: Mapping[str, float]
    train_metrics: Mapping[str, float]
    participants: Sequence[str]
    failures: Mapping[str, str]
    seconds: float
    ended: float
    num_examples: float = 0.0
    evaluated: int = 0
    unnamed_failures: int = field(default=0, compare=False)
    spread: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict)
    unnamed_left_out: int = field(default=0, compare=False)

    @property
    def num_left_out(self) -> int:
        """How many nodes with a role in rounds could not be chosen."""
        return len(self.left_out) + self.unnamed_left_out

    @property
    def failed(self) -> int:
        """How many of the chosen nodes did not contribute."""
        return len(self.failures) + self.unnamed_failures

    @property
    def values(self) -> dict[str, float]:
        """Its measures by name, as conditions to run until ask for them."""
        return {**self.train_metrics, **self.metrics, "loss": self.loss}

    def to_wire(self) -> dict[str, Any]:
        """Plain data without the ids (a round may have thousands)."""
        return RoundSummary(
            number=self.number,
            state="done",
            loss=self.loss,
            metrics=self.metrics,
            train_loss=self.train_metrics.get("loss"),
            seconds=self.seconds,
            participants=len(self.participants),
            failed=self.failed,
            ended=self.ended,
            evaluated=self.evaluated,
            examples=self.num_examples,
            left_out=self.num_left_out,
            train_metrics=self.train_metrics,
        ).to_wire()

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RoundResult:
        """A result of another process; ids were not sent, numbers stand in."""
        nan = math.nan
        return cls(
            number=int(data["number"]),
            loss=nan if data["loss"] is None else float(data["loss"]),
            metrics={name: nan if value is None else value for name, value in data["metrics"].items()},
            train_metrics={k: nan if value is None else value for k, value in data["train_metrics"].items()},
            participants=tuple(data.get("ids") or ("",) * int(data["participants"])),
            failures=dict(data.get("failures") or {}),
            seconds=float(data["seconds"]),
            ended=float(data["ended"]),
            num_examples=float(data.get("num_examples", 0.0)),
            evaluated=int(data.get("evaluated", 0)),
            unnamed_failures=max(0, int(data.get("failed", 0)) - len(data.get("failures") or {})),
            spread=dict(data.get("spread") or {}),
            left_out=dict(data.get("left_out") or {}),
            unnamed_left_out=max(0, int(data.get("num_left_out") or 0) - len(data.get("left_out") or {})),
        )


@dataclass(frozen=True)
class History(Sequence[RoundResult]):
    """The finished rounds of a federation, oldest first: a sequence of `RoundResult`.

    Attributes:
        rounds: The rounds.
    """

    rounds: tuple[RoundResult, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.rounds)

    def __getitem__(self, index: Any) -> Any:
        return self.rounds[index]

    def __iter__(self) -> Iterator[RoundResult]:
        return iter(self.rounds)

    @property
    def loss(self) -> list[float]:
        """Evaluation loss of each round; NaN where nobody evaluated."""
        return [result.loss for result in self.rounds]

    def metric(self, name: str) -> list[float]:
        """Give one metric of each round; of `fit`'s where the evaluation has none of that name.

        Args:
            name: Name of the metric, such as `accuracy`.

        Returns:
            One number a round; NaN where a round has none.

        Raises:
            KeyError: If no round has it; the message lists those there are.
        """
        known = {key for result in self.rounds for key in (*result.metrics, *result.train_metrics)}
        if name not in known:
            raise KeyError(f"no round has a metric {name!r}: there are {', '.join(sorted(known)) or 'none'}")
        return [result.metrics.get(name, result.train_metrics.get(name, math.nan)) for result in self.rounds]

    def to_csv(self, path: str | Path) -> Path:
        """Write one line a round; metrics become columns, those of `fit` prefixed `train_`.

        Args:
            path: The file; what it holds is replaced.

        Returns:
            Its path.

        Raises:
            OSError: If it cannot be written.
        """
        metrics = sorted({key for result in self.rounds for key in result.metrics})
        trained = sorted({key for result in self.rounds for key in result.train_metrics})
        head = ["round", "loss", *metrics, *(f"train_{name}" for name in trained)]
        head += ["participants", "failed", "num_examples", "seconds", "left_out"]
        target = Path(path)
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            for result in self.rounds:
                row: list[Any] = [result.number, result.loss]
                row += [result.metrics.get(name, "") for name in metrics]
                row += [result.train_metrics.get(name, "") for name in trained]
                row += [
                    len(result.participants),
                    result.failed,
                    result.num_examples,
                    result.seconds,
                    result.num_left_out,
                ]
                writer.writerow(row)
        return target
