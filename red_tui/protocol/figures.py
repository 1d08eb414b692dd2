"""The figures that people read, each computed here and nowhere else: quantiles, causes, progress, pace, the best round.

Supervisor, journal, replay, command line and console take them from this module, so that they are the same everywhere.
The console draws its first frame without numpy: only what asks for a distribution imports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from red_tui.nodes.failures import first_sentence
from red_tui.protocol.snapshot import RECENT, BestRound, RoundProgress, RoundSummary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating[Any]]

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Parts of the nodes whose quantiles are told of each measure of a round."""

WORST = 0.1
"""Part of the nodes, the worst ones, whose mean is told of each measure that has a worse end."""

PACED = 10
"""Rounds that say how fast the next ones are."""

FIRST_NAMED = 3
"""Nodes that are named of those that have a cause in common."""

CAUSES = 6
"""Causes that are told one by one, the most frequent first; the others are counted together."""

_NEITHER = frozenset({"examples"})


# -- distributions ---------------------------------------------------------------------------------


def quantiles(values: Floats, shares: Sequence[float] = SHARES) -> list[float]:
    """Quantiles of at least one finite value, as `numpy.quantile` gives them: between neighbours by their distance.

    The median of an even count is the mean of the middle two.
    """
    import numpy as np

    known = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.quantile(known, shares)
        if not np.isfinite(found).all():
            # The distance of two neighbours may be more than a float holds; that of their halves is not.
            found = np.clip(2 * np.quantile(known / 2, shares), known.min(), known.max())
    return [float(value) for value in found]


def median(values: Floats) -> float:
    """The middle value, or the mean of the middle two; NaN for none."""
    return quantiles(values, (0.5,))[0] if len(values) else math.nan


def mean_and_deviation(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation of at least one finite value, all nodes alike (`numpy.mean`, `numpy.std`)."""
    import numpy as np

    known = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(known.mean()), float(known.std())
        if not (math.isfinite(mean) and math.isfinite(deviation)):
            scale = float(np.abs(known).max())
            mean, deviation = float((known / scale).mean()) * scale, float((known / scale).std()) * scale
    return mean, deviation


def worst_decile(name: str, values: Floats) -> float | None:
    """Mean over the tenth of the nodes (at least one) that did worst; None of what has no worse end."""
    if name in _NEITHER or not len(values):
        return None
    import numpy as np

    from red_tui.measure_names import lower_is_better

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = max(1, math.ceil(WORST * len(ordered) - 1e-9))
    return mean_and_deviation(ordered[-count:] if lower_is_better(name) else ordered[:count])[0]


# -- causes ----------------------------------------------------------------------------------------


def causes_of(failures: Mapping[str, str], limit: int = 160, most: int = CAUSES) -> list[list[Any]]:
    """Causes, the most frequent first: [cause, how many nodes, the first of them].

    The counts add up to all nodes: beyond `most` causes, the last entry counts the nodes that have others.

    Args:
        failures: Why nodes did not contribute, by id.
        limit: Letters of a cause.
        most: Causes that are told one by one.
    """
    found: dict[str, list[str]] = {}
    for node_id, why in failures.items():
        found.setdefault(first_sentence(why, limit), []).append(node_id)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    told = [[why, len(ids), ids[:FIRST_NAMED]] for why, ids in ordered[:most]]
    rest = [node_id for _, ids in ordered[most:] for node_id in ids]
    return [*told, [f"{len(ordered) - most} other causes", len(rest), rest[:FIRST_NAMED]]] if rest else told


def causes_text(failures: Mapping[str, str], most: int = 3) -> str:
    """The most frequent causes, each once, with how many nodes have it and who is the first of them."""
    told = causes_of(failures, 120, most)
    rest = told.pop() if len(told) > most else None
    shown = [f"{ids[0]}: {why}" if count == 1 else f"{count} nodes ({ids[0]}, …): {why}" for why, count, ids in told]
    more = "" if rest is None or str(rest[0]).startswith(f"{rest[1]} ") else f" ({rest[1]} nodes)"
    return "; ".join([*shown, f"and {rest[0]}{more}"] if rest else shown)


# -- what a round measured -------------------------------------------------------------------------


@dataclass(frozen=True)
class LatestMeasure:
    """A measure as it was last told.

    Attributes:
        value: Its value.
        round: Number of the round that told it.
    """

    value: float
    round: int


def latest(rounds: Iterable[RoundSummary], name: str) -> LatestMeasure | None:
    """The value of a measure in the last round that has it, and which round that was; None where none of late has.

    Args:
        rounds: Rounds that are over, the newest first.
        name: `loss`, or a metric.
    """
    for result in islice(rounds, RECENT):
        value = result.loss if name == "loss" else result.metrics.get(name)
        if value is not None and not math.isnan(value):
            return LatestMeasure(value, result.number)
    return None


def measured(loss: float | None, metrics: Mapping[str, Any], train_loss: float | None) -> list[tuple[str, float]]:
    """What a round measured, as every line tells it: its loss, that of training where nobody judged, its metrics."""
    found = []
    if _is_number(loss):
        found.append(("loss", loss))
    elif _is_number(train_loss):
        found.append(("train loss", train_loss))
    found += [(name, metrics[name]) for name in sorted(metrics) if _is_number(metrics[name])]
    return [(name, float(value)) for name, value in found if value is not None]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not math.isnan(value)


# -- how far a run is ------------------------------------------------------------------------------


def run_share(now: RoundProgress) -> float:
    """How far what is under way is, from 0 to 1: the run, where it is known which round is its last; else the round."""
    if not now.counted or now.target is None:
        return now.share
    first = min(now.first_round, now.number)
    return (now.number - first + min(now.share, 0.99)) / (now.target - first + 1)


def done_share(now: RoundProgress, number: int) -> float | None:
    """Which part of a run is done when a round is over; None where it is not known which round is its last."""
    if now.target is None or now.until is not None:
        return None
    first = min(now.first_round, number)
    return min(1.0, (number - first + 1) / max(1, now.target - first + 1))


def run_words(now: RoundProgress, number: int | None = None, up_to: str = "to") -> str:
    """A round and the last one of its run: `14/50`, `402 to 500` in a run that began later, `14` where there is none.

    Args:
        now: The run.
        number: The round; None: the one in hand.
        up_to: What stands between the rounds of a run that did not begin with round 1.
    """
    number = now.number if number is None else number
    if now.target is None or now.until is not None or now.target <= now.first_round:
        return str(number)
    # A run that begins later goes up to that round: `2/401` would be taken for the second of 401.
    return f"{number}/{now.target}" if now.first_round <= 1 else f"{number} {up_to} {now.target}"


def pace(rounds: Iterable[RoundSummary]) -> float | None:
    """Seconds from the end of one round to that of the next, of late: what lies between rounds counts too.

    Args:
        rounds: Rounds that are over, the newest first.
    """
    recent = [result for result in islice(rounds, PACED) if result.state == "done"]
    if not recent:
        return None
    gaps = [later.ended - earlier.ended for later, earlier in pairwise(recent)]
    # A pause between two runs is no part of a round.
    near = [gap for gap, result in zip(gaps, recent, strict=False) if 0 < gap <= 2 * result.seconds + 1]
    return sum(near) / len(near) if near else sum(result.seconds for result in recent) / len(recent)


def seconds_left(now: RoundProgress, rounds: Iterable[RoundSummary]) -> float | None:
    """How long the asked-for rounds still take if they go on like the last ones (the newest first)."""
    if not now.running or now.target is None:
        return None
    each = pace(rounds)
    return None if each is None else max(0.0, (now.target - now.number + 1 - now.share) * each)


# -- the best round --------------------------------------------------------------------------------


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether a value of a measure is better than another one."""
    from red_tui.measure_names import lower_is_better

    return value < than if lower_is_better(metric) else value > than


def better_of(best: BestRound | None, result: RoundSummary, metric: str = "loss") -> BestRound | None:
    """The best round after one more; the first of equal ones.  A judged loss counts before any loss of training."""
    name, value = metric, measure_of(result, metric)
    if metric == "loss" and (value is None or math.isnan(value)):
        name, value = "train loss", result.train_loss
    if result.state != "done" or value is None or not math.isfinite(value):
        return best
    if best is None or (best.metric, name) == ("train loss", "loss"):
        return BestRound(result.number, name, value)
    if best.metric != name or not is_better(name, value, best.value):
        return best
    return BestRound(result.number, name, value)


def best_of(rounds: Iterable[RoundSummary], metric: str = "loss") -> BestRound | None:
    """The best of some rounds by a measure; None where none has it."""
    best: BestRound | None = None
    for result in rounds:
        best = better_of(best, result, metric)
    return best


def measure_of(result: RoundSummary, metric: str) -> float | None:
    """A measure of a round: its loss, a metric of the evaluation, else one of `fit`; None where it has none."""
    if metric == "loss":
        return result.loss
    return result.metrics.get(metric, result.train_metrics.get(metric))


# -- tables ----------------------------------------------------------------------------------------


def history_table(rounds: Sequence[RoundSummary]) -> tuple[list[str], list[list[Any]]]:
    """Rounds as a table, as every file has it: names of the columns, and a row a round; None where there is nothing."""
    metrics = sorted({name for one in rounds for name in one.metrics})
    trained = sorted({name for one in rounds for name in one.train_metrics})
    head = ["round", "loss", *metrics, *(f"train_{name}" for name in trained)]
    head += ["participants", "failed", "num_examples", "seconds", "left_out", "evaluated", "ended"]
    rows: list[list[Any]] = []
    for one in rounds:
        measures = [one.loss, *(one.metrics.get(name) for name in metrics)]
        measures += [one.train_metrics.get(name) for name in trained]
        rows.append(
            [
                one.number,
                *(None if value is None or math.isnan(value) else value for value in measures),
                one.participants,
                one.failed,
                one.examples,
                one.seconds,
                one.left_out,
                one.evaluated,
                one.ended,
            ]
        )
    return head, rows


_SHOWN_SHARES = {"p10": 1, "median": 3, "p90": 5}


def spread_columns(spread: Mapping[str, Any]) -> dict[str, float]:
    """How the nodes of a round did, as columns: `loss_median`, `loss_worst`, … of each measure."""
    found: dict[str, float] = {}
    for name, told in (spread.get("measures") or {}).items():
        word = str(name).replace(" ", "_")
        found |= {f"{word}_{share}": float(told["quantiles"][place]) for share, place in _SHOWN_SHARES.items()}
        found |= {f"{word}_{key}": told[key] for key in ("mean", "deviation", "worst") if told.get(key) is not None}
    return found
