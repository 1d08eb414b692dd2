"""Results of rounds: plain results and their history."""

from __future__ import annotations

import csv
import importlib
import json
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.aggregation.answers import Answers, Floats
from red_tui.errors import RedError
from red_tui.nodes.ids import IdSpace
from red_tui.nodes.table import IntArray, row_ranges
from red_tui.protocol.figures import (
    best_of,
    causes_of,
    history_table,
    mean_and_deviation,
    quantiles,
    spread_columns,
    worst_decile,
)
from red_tui.protocol.snapshot import BestRound, RoundSummary

MEASURES = 8
"""Measures of a round whose distribution is kept."""

BINS = 16
EXTREMES = 3
"""Nodes that are named at each end."""

NAME_KEPT = 40

NodeRows = dict[str, dict[str, float]]
"""Figures of nodes in a round, by id and by name."""


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
        `measures`: by name `count`, `quantiles` (those of `numpy.quantile` at `figures.SHARES`), `mean`, `deviation`
        (all nodes alike), `worst` (mean over the tenth of the nodes that did worst, where there is a worse end),
        `bins` (counts over the range), and `low` and `high` with [id, value] of the nodes at the ends, the outermost
        first.  `failed`: [cause, count, ids]; so is `left_out`, which is there if somebody was.
    """
    columns = dict(list(_columns(fitted, judged))[:MEASURES])
    found = {name: told for name, (rows, values) in columns.items() if (told := _measured(name, rows, values))}
    at_ends = np.unique(np.asarray([row for one in found.values() for row, _ in one["low"] + one["high"]], np.int64))
    ids = dict(zip(at_ends.tolist(), names(at_ends), strict=True)) if len(at_ends) else {}
    for one in found.values():
        for end in ("low", "high"):
            one[end] = [[ids[row], value] for row, value in one[end]]
    told = {"measures": found, "failed": causes_of(failures)}
    return {**told, "left_out": causes_of(left_out)} if left_out else told


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


def _measured(name: str, rows: IntArray, values: Floats) -> dict[str, Any] | None:
    if len(rows) != len(values) or not len(rows):
        return None
    finite = np.isfinite(values)
    if not finite.all():
        rows, values = rows[finite], values[finite]
        if not len(rows):
            return None
    order = np.argsort(values, kind="stable")
    ordered: npt.NDArray[np.float64] = values[order].astype(np.float64)
    low, high = float(ordered[0]), float(ordered[-1])
    half = high / 2 - low / 2  # halves: the whole span may be more than a float holds
    bins = [len(ordered)]
    if half > 0:
        places = np.minimum(((ordered / 2 - low / 2) / half * BINS).astype(np.int64), BINS - 1)
        bins = np.bincount(places, minlength=BINS).tolist()
    ends = min(EXTREMES, len(ordered))
    mean, deviation = mean_and_deviation(ordered)
    return {
        "count": len(ordered),
        "quantiles": quantiles(ordered),
        "mean": mean,
        "deviation": deviation,
        "worst": worst_decile(name, ordered),
        "bins": bins,
        "low": [(int(rows[place]), float(values[place])) for place in order[:ends]],
        "high": [(int(rows[place]), float(values[place])) for place in order[::-1][:ends]],
    }


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
        spread: How nodes did: `measures` by name (`count`, `quantiles`, `mean`, `deviation`, `worst`, …), and causes of
            failures in `failed`.  That of older rounds is read from the journal.
        digests: SHA-256 of the round's bytes: `parameters`, and `state` for what the server keeps for the next round
            (empty where it keeps nothing). Empty where they are not known.
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
    digests: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_left_out(self) -> int:
        """How many nodes with a role in rounds could not be chosen."""
        return len(self.left_out) + self.unnamed_left_out

    @property
    def failed(self) -> int:
        """How many of the chosen nodes did not contribute."""
        return len(self.failures) + self.unnamed_failures

    @property
    def measures(self) -> dict[str, float]:
        """What nodes and server reported, by name: what checkpoints keep of it."""
        return {**self.train_metrics, **self.metrics, "loss": self.loss}

    @property
    def values(self) -> dict[str, float]:
        """Its measures by name, as conditions to run until ask for them; of equal names, what was judged counts.

        `loss` and metrics, those of `fit` as `train_…` too, `seconds`, `participants`, `failed`, and how the nodes did:
        `accuracy_worst`, `loss_p90`, `seconds_median` and so on, as the columns of `History.columns` are named.
        """
        counts = {"seconds": self.seconds, "participants": float(len(self.participants)), "failed": float(self.failed)}
        trained = {f"train_{name}": value for name, value in self.train_metrics.items()}
        measured = {**counts, **spread_columns(self.spread), **trained, **self.train_metrics, **self.metrics}
        # Where nobody judged there is no loss: a loss of training is none of judging.
        return {**{name: value for name, value in measured.items() if name != "loss"}, **self._judged_loss}

    @property
    def _judged_loss(self) -> dict[str, float]:
        return {} if math.isnan(self.loss) else {"loss": self.loss}

    @property
    def summary(self) -> RoundSummary:
        """It without single nodes, as screens have it."""
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
        )

    def to_wire(self) -> dict[str, Any]:
        """Plain data without the ids (a round may have thousands)."""
        return self.summary.to_wire()

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
            digests=dict(data.get("digests") or {}),
        )


def _import_pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise RedError(
            "to_pandas needs pandas, which cannot be imported here"
            f" ({error}): install it with `pip install pandas`, or use to_csv, to_json or metric"
        ) from error


@dataclass(frozen=True)
class History(Sequence[RoundResult]):
    """The finished rounds of a federation, oldest first: a sequence of `RoundResult`.

    Attributes:
        rounds: The rounds.
        of_nodes: Reads the figures of every node in a round by its number, where they are kept; see `nodes`.
    """

    rounds: Sequence[RoundResult] = field(default=())
    of_nodes: Callable[[int], NodeRows] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rounds)

    def __getitem__(self, index: Any) -> Any:
        return self.rounds[index]

    def __iter__(self) -> Iterator[RoundResult]:
        return iter(self.rounds)

    def of_number(self, number: int) -> RoundResult | None:
        """Give the round of a number, or None where it is not here."""
        place = bisect_left(self.rounds, number, key=lambda result: result.number)
        found = self.rounds[place] if place < len(self.rounds) else None
        return found if found is not None and found.number == number else None

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

    def best(self, metric: str = "loss") -> BestRound | None:
        """Give the best round: that of the lowest loss, or of the highest or lowest value of a metric.

        Args:
            metric: `loss` (that of training where nobody judged), or a metric. Whether low values are good is told by
                its name: they are for losses, errors, times and distances.

        Returns:
            Number, metric and value; the first of equal ones. None if no round has that metric.
        """
        return best_of((result.summary for result in self.rounds), metric)

    # -- taking it away --------------------------------------------------------------------------

    def columns(self, *, spread: bool = False) -> tuple[list[str], list[list[Any]]]:
        """Give a table of all figures: one row a round, the same that every export has.

        Args:
            spread: Also how each measure was spread over the nodes: `loss_median`, `loss_p10`, `loss_p90`,
                `loss_mean`, `loss_deviation`, `loss_worst` (the mean of the worst tenth), and so on.

        Returns:
            Names of the columns, and rows of numbers; None where a round does not have one.
        """
        head, rows = history_table([result.summary for result in self.rounds])
        if spread:
            told = [spread_columns(result.spread) for result in self.rounds]
            names = list(dict.fromkeys(name for one in told for name in one))
            rows = [[*row, *(one.get(name) for name in names)] for row, one in zip(rows, told, strict=True)]
            head = [*head, *names]
        return head, rows

    def nodes(self, number: int) -> dict[str, dict[str, float]]:
        """Give the figures of every node in a round, where they are kept (`node_history=True` in the settings).

        Args:
            number: The round.

        Returns:
            By id of the node: `examples`, `seconds`, what `fit` reported as `train_…`; and where it judged `loss`,
            `eval_examples`, `eval_seconds` and its metrics.

        Raises:
            RedError: If they are not kept, or not of that round; the message says what to do.
        """
        if self.of_nodes is None:
            raise RedError(
                "the figures of single nodes are not kept: set node_history=True in the settings of the rounds, or"
                " `rounds: {node_history: true}` in the layout"
            )
        return self.of_nodes(number)

    def to_pandas(self, *, spread: bool = False, nodes: bool = False) -> Any:
        """Give a `pandas.DataFrame`; needs pandas.

        Args:
            spread: Further columns; see `columns`.
            nodes: One row for each node of each round instead, with the columns that `nodes` tells.

        Returns:
            The frame, indexed by `round` (and `node`); NaN where there is no number.

        Raises:
            RedError: If pandas is not installed, or figures of nodes are asked for that are not kept.
        """
        pandas = _import_pandas()
        if nodes:
            rows = [
                {"round": result.number, "node": name, **figures}
                for result in self.rounds
                for name, figures in self.nodes(result.number).items()
            ]
            return pandas.DataFrame(rows, columns=None if rows else ["round", "node"]).set_index(["round", "node"])
        head, table = self.columns(spread=spread)
        return pandas.DataFrame(table, columns=head).set_index("round")

    def to_csv(self, path: str | Path, *, spread: bool = False) -> Path:
        """Write one line a round; metrics become columns, those of `fit` prefixed `train_`.

        Args:
            path: The file; what it holds is replaced.
            spread: Further columns; see `columns`.

        Returns:
            Its path.

        Raises:
            OSError: If it cannot be written.
        """
        target = Path(path)
        head, rows = self.columns(spread=spread)
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows([["" if value is None else value for value in row] for row in rows])
        return target

    def to_json(self, path: str | Path | None = None) -> str:
        """Give all rounds as JSON, each with all that is known of it; write it to a file too, if one is named.

        What is no finite number is null. Beside the figures of `columns` a round has `failures` and `left_out`
        (causes by node) and `spread` (how its nodes did).

        Args:
            path: The file; what it holds is replaced.

        Returns:
            The text: an object with `rounds` and `best`.

        Raises:
            OSError: If it cannot be written.
        """
        best = self.best()
        told = {
            "rounds": [
                {
                    **result.to_wire(),
                    "failures": dict(result.failures),
                    "left_out": dict(result.left_out),
                    "spread": dict(result.spread),
                }
                for result in self.rounds
            ],
            "best": None if best is None else best.to_wire(),
        }
        text = json.dumps(told, allow_nan=False, ensure_ascii=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def _repr_html_(self) -> str:
        """A table for notebooks: the best round, and the first and last ones where there are many."""
        head, rows = self.columns()
        best = self.best()
        told = f"{len(rows)} round{'s' * (len(rows) != 1)}"
        if best is not None:
            told += f", best {escape(str(best))}"
        shown: list[list[Any] | None] = [*rows]
        if len(rows) > 2 * SHOWN_ENDS + 1:
            shown = [*rows[:SHOWN_ENDS], None, *rows[-SHOWN_ENDS:]]
        lines = ["".join(f"<th>{escape(name)}</th>" for name in head)]
        for row in shown:
            cells = ["…"] * len(head) if row is None else [_shown_cell(value) for value in row]
            bold = row is not None and best is not None and row[0] == best.round
            style = ' style="font-weight:bold"' if bold else ""
            lines.append("".join(f'<td align="right"{style}>{escape(cell)}</td>' for cell in cells))
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<p>{told}</p><table>{table}</table>"

    def __repr__(self) -> str:
        best = self.best()
        return f"<History: {len(self.rounds)} rounds{f', best {best}' if best is not None else ''}>"


SHOWN_ENDS = 10
"""Rounds at each end that a notebook shows of a long history."""


def _shown_cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
