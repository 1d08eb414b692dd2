"""Runs side by side: their curves, what differs in their layouts, and how far each came."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from red_tui.errors import RunError
from red_tui.layout import Layout
from red_tui.measure_names import lower_is_better
from red_tui.protocol.figures import is_better
from red_tui.rounds.history import History
from red_tui.run_catalog.curve_plot import Curve, draw
from red_tui.run_catalog.kept_run import Run
from red_tui.run_catalog.pages import page, svg, table, write_text
from red_tui.run_catalog.run_list import find

Floats = npt.NDArray[np.float64]
Axis = Literal["round", "seconds"]
AXES: tuple[Axis, ...] = ("round", "seconds")
TIMES = ("seconds", "participants", "failed", "examples")
"""Figures of every round that can be compared beside the loss and metrics."""

MOST = 50
"""Max runs in a comparison."""

Runs = Iterable["Run | str"]


@dataclass(frozen=True)
class Standing:
    """How far a run came by a measure.

    Attributes:
        run: The run.
        rounds: Its rounds.
        seconds: What they took together.
        best: Best value of the measure, NaN without one.
        best_round: The round of the best value, or None.
        last: Last value, NaN without one.
        to_target: Rounds and seconds until the target was reached, or None.
    """

    run: Run
    rounds: int
    seconds: float
    best: float
    best_round: int | None
    last: float
    to_target: tuple[int, float] | None


class RunComparison:
    """Some runs side by side; `print` shows it, a notebook draws it.

    Args:
        runs: The runs, in the order in which they are shown.
        metric: The measure: `loss`, a metric of the rounds, or `seconds`, `participants`, `failed`, `examples`.
        x: `round`, or `seconds` since the first round began, pauses between runs left out.
        last: Only that many of the last rounds of each run; None: all.
        smooth: Weight, from 0 to below 1, of what came before in an exponential mean over rounds; 0: values as they
            are.  The mean is divided by the sum of its weights, so that the first values are not drawn to zero.
        seeds: Runs whose layouts differ in `rounds.seed`, `config.seed` and the federation's id only become one curve:
            their mean, with the standard deviation
            (of a sample, over n - 1), at the rounds that all of them have.
        log: The axis of the measure is logarithmic; values that are not above zero are left out.
        target: Tell how many rounds and seconds it took to reach this value.

    Raises:
        RunError: If there are no runs or too many, a run cannot be read, no run has the measure, or an option cannot
            be what it is.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        metric: str = "loss",
        *,
        x: Axis = "round",
        last: int | None = None,
        smooth: float = 0.0,
        seeds: bool = False,
        log: bool = False,
        target: float | None = None,
    ) -> None:
        self.runs, self.metric, self.x, self.log, self.target = tuple(runs), metric, x, log, target
        self.smooth = smooth
        _check(self.runs, x, last, smooth, target)
        self._layouts = [run.layout for run in self.runs]
        histories = [run.history for run in self.runs]
        if all(len(history) == 0 for history in histories):
            raise RunError(f"no rounds: {_named(self.runs)} did not finish one")
        values = [_values(history, metric) for history in histories]
        if not any(np.isfinite(one).any() for one in values):
            known = sorted({name for history in histories for one in history for name in _names(one)})
            raise RunError(f"no run has the measure {metric!r}: there are {', '.join(known) or 'none'}")
        self.standings = tuple(map(self._standing, self.runs, histories, values))
        places = [_places(history, x) for history in histories]
        alone = [
            Curve(run.name, tuple(at[-last:] if last else at), tuple(one[-last:] if last else one))
            for run, at, one in zip(self.runs, places, map(self._smoothed, values), strict=True)
        ]
        self.curves = tuple(self._over_seeds(alone) if seeds else alone)

    def _smoothed(self, values: Floats) -> list[float]:
        if not self.smooth:
            return [float(value) for value in values]
        mean, weight, told = 0.0, 0.0, []
        for value in values.tolist():
            if math.isfinite(value):
                mean = self.smooth * mean + (1 - self.smooth) * value
                weight = self.smooth * weight + (1 - self.smooth)
            told.append(mean / weight if math.isfinite(value) else math.nan)
        return told

    def _over_seeds(self, curves: Sequence[Curve]) -> list[Curve]:
        groups: dict[str, list[int]] = {}
        for place, layout in enumerate(self._layouts):
            key = f"run {place}" if layout is None else _without_seed(layout)
            groups.setdefault(key, []).append(place)
        told = []
        for places in groups.values():
            if len(places) == 1:
                told.append(curves[places[0]])
                continue
            known = [dict(zip(curves[place].x, curves[place].y, strict=True)) for place in places]
            if self.x != "round":
                raise RunError("means over seeds are taken at equal rounds: use x='round'")
            common = sorted(set.intersection(*(set(one) for one in known)))
            rows = np.array([[one[at] for at in common] for one in known])
            name = f"{curves[places[0]].name} (mean of {len(places)})"
            spread = rows.std(axis=0, ddof=1)
            told.append(Curve(name, tuple(common), tuple(rows.mean(axis=0).tolist()), tuple(spread.tolist())))
        return told

    def _standing(self, run: Run, history: History, values: Floats) -> Standing:
        seconds = np.cumsum([result.seconds for result in history]) if len(history) else np.zeros(0)
        known = np.flatnonzero(np.isfinite(values))
        best: int | None = None
        reached: int | None = None
        low = lower_is_better(self.metric)
        for place in known.tolist():
            if best is None or is_better(self.metric, float(values[place]), float(values[best])):
                best = place
            good = self.target is not None and (values[place] <= self.target if low else values[place] >= self.target)
            reached = place if reached is None and good else reached
        return Standing(
            run,
            len(history),
            float(seconds[-1]) if len(seconds) else 0.0,
            math.nan if best is None else float(values[best]),
            None if best is None else history[best].number,
            float(values[known[-1]]) if len(known) else math.nan,
            None if reached is None else (history[reached].number, float(seconds[reached])),
        )

    # -- what differs ----------------------------------------------------------------------------

    @property
    def differences(self) -> dict[str, list[Any]]:
        """What differs in the layouts: by key such as `rounds.fraction`, a value a run (None where it has none)."""
        plain = [{} if layout is None else dict(_flat(layout.as_dict(), "")) for layout in self._layouts]
        keys = list(dict.fromkeys(key for one in plain for key in one if key != "title"))
        told = {key: [one.get(key) for one in plain] for key in keys}
        known = [place for place, layout in enumerate(self._layouts) if layout is not None]
        return {
            key: values
            for key, values in told.items()
            if len({json.dumps(values[place], sort_keys=True, default=str) for place in known}) > 1
        }

    # -- taking it away --------------------------------------------------------------------------

    def to_wire(self) -> dict[str, Any]:
        """Plain data for `--json`; what is no number is None."""
        return {
            "metric": self.metric,
            "x": self.x,
            "runs": [
                {
                    "id": one.run.id,
                    "name": one.run.name,
                    "rounds": one.rounds,
                    "seconds": one.seconds,
                    "best": _finite(one.best),
                    "best_round": one.best_round,
                    "last": _finite(one.last),
                    "to_target": None if one.to_target is None else list(one.to_target),
                }
                for one in self.standings
            ],
            "curves": [
                {
                    "name": curve.name,
                    "x": list(curve.x),
                    "y": list(map(_finite, curve.y)),
                    "deviation": None if curve.deviation is None else list(map(_finite, curve.deviation)),
                }
                for curve in self.curves
            ],
            "differences": self.differences,
        }

    def plot(self, width: int = 80, height: int = 16, *, ascii_only: bool = False) -> list[str]:
        """The curves as lines of text of at most `width` cells."""
        return draw(self.curves, width, height, x=self.x, y=self.metric, log=self.log, ascii_only=ascii_only)

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """How far each run came, as a table of text: names of the columns, and a row a run."""
        head = ["run", "rounds", "seconds", f"best {self.metric}", "in round", f"last {self.metric}"]
        if self.target is not None:
            head += [f"rounds to {self.target:g}", "seconds to it"]
        told = []
        for one in self.standings:
            row = [one.run.name, f"{one.rounds}", f"{one.seconds:.1f}", _shown(one.best)]
            row += ["-" if one.best_round is None else f"{one.best_round}", _shown(one.last)]
            if self.target is not None:
                row += ["-", "-"] if one.to_target is None else [f"{one.to_target[0]}", f"{one.to_target[1]:.1f}"]
            told.append(row)
        return head, told

    def difference_rows(self) -> tuple[list[str], list[list[str]]]:
        """What differs in the layouts, as a table of text: a row a key, a column a run."""
        return ["", *(run.name for run in self.runs)], [
            [key, *("-" if value is None else _text(value) for value in values)]
            for key, values in self.differences.items()
        ]

    def to_svg(self, path: str | Path) -> Path:
        """Write the curves as a picture for papers; gives its path.

        Raises:
            RunError: If it cannot be written.
        """
        return write_text(path, svg(self.curves, x=self.x, y=self.metric, log=self.log))

    def to_html(self, path: str | Path) -> Path:
        """Write a page that stands by itself: curves, how far each came, what differs; gives its path.

        Raises:
            RunError: If it cannot be written.
        """
        return write_text(path, page(f"{self.metric} of {len(self.runs)} runs", [self._repr_html_()]))

    def _repr_html_(self) -> str:
        parts = [svg(self.curves, x=self.x, y=self.metric, log=self.log), table(*self.rows())]
        head, rows = self.difference_rows()
        parts.append(table(head, rows) if rows else "<p>Their layouts do not differ.</p>")
        unknown = [run.name for run, layout in zip(self.runs, self._layouts, strict=True) if layout is None]
        if unknown:
            parts.append(f"<p>No layout is known of {html.escape(', '.join(unknown))}.</p>")
        return "".join(parts)

    def __str__(self) -> str:
        parts = ["\n".join(self.plot()), text_table(*self.rows())]
        head, rows = self.difference_rows()
        parts.append(text_table(head, rows) if rows else "their layouts do not differ")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return f"<RunComparison of {_named(self.runs)} by {self.metric}>"


def compare(runs: Runs, metric: str = "loss", **options: Any) -> RunComparison:
    """Compare runs: `red.compare(["digits", "digits@20260101T120000"], "accuracy", seeds=True)`.

    Args:
        runs: Runs, or what names them: ids, names, paths of journals or of their folders.
        metric: The measure that is compared.
        **options: As `RunComparison` takes them: `x`, `last`, `smooth`, `seeds`, `log`, `target`.

    Returns:
        The comparison: `print` shows it, `to_html`, `to_svg` and `to_wire` take it away.

    Raises:
        RunError: As `RunComparison` says, or if a run cannot be found.
    """
    if isinstance(runs, (str, Run)):
        raise RunError("several runs are compared: give a list of them")
    return RunComparison([find(run) if isinstance(run, str) else run for run in runs], metric, **options)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as lines of text; the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _check(runs: Sequence[Run], x: str, last: int | None, smooth: float, target: float | None) -> None:
    if not runs:
        raise RunError("no runs to compare: name some (see `red-console runs`)")
    if len(runs) > MOST:
        raise RunError(f"{len(runs)} runs are too many for one comparison: {MOST} at most")
    if len(set(runs)) < len(runs):
        twice = next(run for run in runs if runs.count(run) > 1)
        raise RunError(f"{twice.name} is named twice: name different runs")
    if x not in AXES:
        raise RunError(f"x is one of {', '.join(AXES)}, not {x!r}")
    if last is not None and (isinstance(last, bool) or not isinstance(last, int) or last < 1):
        raise RunError(f"last says how many of the last rounds are shown, from 1 on, not {last!r}")
    for name, value in (("smooth", smooth), ("target", target)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value):
            raise RunError(f"{name} is a number, not {value!r}")
    if not 0 <= smooth < 1:
        raise RunError(f"smooth is a weight from 0 to below 1, not {smooth!r}")


def _values(history: History, metric: str) -> Floats:
    def value(result: Any) -> float:
        if metric == "loss":
            found = result.loss if math.isfinite(result.loss) else result.train_loss
        elif metric in TIMES:
            found = getattr(result.summary, metric)
        else:
            found = result.metrics.get(metric, result.train_metrics.get(metric))
        return math.nan if found is None else float(found)

    return np.array([value(result) for result in history], dtype=np.float64)


def _names(result: Any) -> set[str]:
    return {"loss", *result.metrics, *result.train_metrics, *TIMES}


def _places(history: History, x: Axis) -> list[float]:
    if x == "round":
        return [float(result.number) for result in history]
    return np.cumsum([result.seconds for result in history]).tolist() if len(history) else []


def _without_seed(layout: Layout) -> str:
    """A layout without what differs between repetitions: its id and title, the seeds of rounds and of nodes."""
    plain = {**layout.as_dict(), "title": "", "federation": ""}
    plain["rounds"] = {**plain["rounds"], "seed": None}
    plain["config"] = {key: value for key, value in plain["config"].items() if key != "seed"}
    return json.dumps(plain, sort_keys=True, default=str)


def _flat(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from _flat(one, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        for place, one in enumerate(value):
            yield from _flat(one, f"{path}[{place}]")
    else:
        yield path, value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _named(runs: Sequence[Run]) -> str:
    names = [run.name for run in runs]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
