"""The round loop.  It reads like the algorithm; the federation's state is behind `RoundCluster`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from red_tui.errors import RoundError
from red_tui.nodes.causes import Cause, cause_of_death, first_sentence
from red_tui.nodes.table import IntArray
from red_tui.rounds.completions import Completions, answer_of
from red_tui.rounds.history import RoundResult
from red_tui.rounds.sampling import RoundSettings, choose


class RoundCluster(Protocol):
    """What a round asks of the federation.  All methods run on the engine's thread."""

    def eligible(self, role: str) -> IntArray:
        """Rows with a role whose node should take part now."""

    def turns(self, rows: IntArray, timeout: float) -> AsyncIterator[Turn]:
        """All of `rows`, each once: ready in one turn, or missing from it with the reason."""

    async def ensure_server(self, timeout: float) -> Any:
        """Handle of the server node.  Raises RoundError if it cannot be had."""

    def handle(self, row: int) -> Any:
        """Handle of a ready node."""

    def fit(self, row: int, parameters: Any, config: Mapping[str, Any]) -> tuple[Any, Any]:
        """Submit a node's fit; gives the references of its update and of its report."""

    def node_id(self, row: int) -> str:
        """Id of a row."""

    def set_busy(self, rows: IntArray) -> None:
        """Mark nodes at work."""

    def set_idle(self, rows: IntArray) -> None:
        """Mark nodes ready again, unless they have failed meanwhile."""

    def counted(self, row: int, report: Mapping[str, Any]) -> None:
        """Record a node's result in its row."""

    def node_failed(self, row: int, cause: Cause) -> None:
        """A node raised, or died."""

    def progress(self, number: int, phase: str, done: int, total: int) -> None:
        """Show how far the round is."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> Any:
        """Go on with something in the background."""

    def parameters(self) -> Any:
        """Reference to the global parameters, or None before the first round."""

    async def first_parameters(self, server: Any, rows: IntArray) -> Any:
        """Give the server its first parameters; returns their reference."""

    def take_parameters(self, number: int, reference: Any) -> None:
        """Keep the reference to new global parameters."""


@dataclass(frozen=True)
class Turn:
    """Nodes that are ready together, and why others that wanted to be are not."""

    rows: IntArray
    missing: Mapping[int, str]


@dataclass
class Phase:
    """What came back from one phase of a round, of how many."""

    total: int
    reports: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


async def run_round(number: int, cluster: RoundCluster, settings: RoundSettings) -> RoundResult:
    """One round of federated learning: choose, build, fit, aggregate, evaluate.

    Parameters travel as references from server to nodes and back; what comes here are reports.

    Raises:
        RoundError: If nobody can take part, too few answer, or the server fails; the global
            parameters are then what they were.
    """
    started = time.perf_counter()
    failures: dict[str, str] = {}

    # 1. Choose among the nodes that train and should take part.
    chosen = choose(cluster.eligible("train"), settings.fraction, settings.seed, number)
    if len(chosen) == 0:
        raise RoundError(
            f"round {number}: no node can take part: none has the role train, or should_participate refused all;"
            " add nodes or rebuild failed ones",
            round_number=number,
            failed={},
        )

    # 2. Build the server, and those of the chosen that have no process; where there are fewer bundles than
    #    nodes they take turns.
    # 3. Every chosen node improves the parameters on its own data.
    cluster.progress(number, "build", 0, len(chosen))
    server = await cluster.ensure_server(settings.build_timeout)
    parameters = cluster.parameters()
    config = {"round": number}
    updates: dict[int, Any] = {}
    fitted = Phase(len(chosen))
    async for turn in cluster.turns(chosen, settings.build_timeout):
        failures.update({cluster.node_id(row): why for row, why in turn.missing.items()})
        possible = len(chosen) - len(failures)
        _require(number, possible, settings.needed(len(chosen)), "could be built", failures)
        if parameters is None and len(turn.rows):
            parameters = await cluster.first_parameters(server, turn.rows)
        calls = {}
        for row in turn.rows.tolist():
            updates[row], calls[row] = cluster.fit(row, parameters, config)
        await _gather(number, "fit", calls, cluster, settings.deadline, fitted)
        failures.update({cluster.node_id(row): why for row, why in fitted.failures.items()})
    rows = sorted(fitted.reports)
    _require(number, len(rows), settings.needed(len(chosen)), "returned a result", failures)

    # 4. The server makes the next global parameters of their updates.
    cluster.progress(number, "aggregate", 0, 1)
    weights = [float(fitted.reports[row]["num_examples"]) for row in rows]
    metrics = [dict(fitted.reports[row]["metrics"]) for row in rows]
    made, reported = server.red_aggregate.options(num_returns=2).remote(
        number, weights, metrics, *(updates[row] for row in rows)
    )
    await checked(reported, number, "the server could not aggregate", settings.deadline)
    cluster.take_parameters(number, made)
    for row in rows:
        cluster.counted(row, fitted.reports[row])

    # 5. Nodes with the role eval judge them.
    judges = cluster.eligible("eval")
    judged = Phase(len(judges))
    if settings.evaluate_every and number % settings.evaluate_every == 0:
        async for turn in cluster.turns(judges, settings.build_timeout):
            calls = {row: cluster.handle(row).red_evaluate.remote(made, config) for row in turn.rows.tolist()}
            await _gather(number, "evaluate", calls, cluster, settings.deadline, judged)
            judged.failures.update(turn.missing)
        for row, why in judged.failures.items():
            failures.setdefault(cluster.node_id(row), why)

    # 6. The result.
    judgements = list(judged.reports.values())
    return RoundResult(
        number=number,
        loss=weighted(judgements, lambda report: report["loss"]),
        metrics=weighted_metrics(judgements),
        train_metrics=weighted_metrics([fitted.reports[row] for row in rows]),
        participants=tuple(cluster.node_id(row) for row in rows),
        failures=failures,
        seconds=time.perf_counter() - started,
        ended=time.time(),
        num_examples=sum(weights),
        evaluated=len(judgements),
    )


def _require(number: int, have: int, needed: int, what: str, failures: Mapping[str, str]) -> None:
    if have >= needed:
        return
    shown = "; ".join(f"{node_id}: {first_sentence(why, 120)}" for node_id, why in list(failures.items())[:3])
    raise RoundError(
        f"round {number}: {have} of at least {needed} nodes {what}; the parameters stay as they were ({shown})",
        round_number=number,
        failed=dict(failures),
    )


async def checked(reference: Any, number: int, what: str, deadline: float | None) -> Mapping[str, Any]:
    """The report of a server call.

    Raises:
        RoundError: If it failed or did not come within `deadline` seconds.
    """
    try:
        report: Mapping[str, Any] = await answer_of(reference, deadline)
    except TimeoutError:
        reason = f"no answer within {deadline:g} s"
    except Exception as error:
        reason = cause_of_death(error).text
    else:
        if "error" not in report:
            return report
        reason = report["error"]
    raise RoundError(f"round {number}: {what}: {reason}", round_number=number, failed={"server": reason})


async def _gather(
    number: int, phase: str, calls: Mapping[int, Any], cluster: RoundCluster, deadline: float | None, result: Phase
) -> None:
    """Wait for the reports of one call a node, at most `deadline` seconds, and add them to `result`."""
    completions = Completions()
    cluster.set_busy(np.fromiter(calls, dtype=np.intp, count=len(calls)))
    cluster.progress(number, phase, len(result.reports), result.total)
    for row, reference in calls.items():
        completions.add(row, reference)
    until = None if deadline is None else asyncio.get_running_loop().time() + deadline
    try:
        while (message := await completions.next(until)) is not None:
            row, report, error = message
            why = _settle(row, report, error, phase, cluster)
            if why:
                result.failures[row] = why
            else:
                result.reports[row] = report
            cluster.progress(number, phase, len(result.reports) + len(result.failures), result.total)
    finally:
        # Past the deadline, or stopped: who is still at work is heard of when it answers.
        if completions.waiting:
            cluster.spawn(_late(completions, phase, cluster))
    for row in completions.waiting:
        result.failures[row] = f"no result within the deadline of {deadline:g} s"


def _settle(
    row: int, report: Mapping[str, Any] | None, error: BaseException | None, phase: str, cluster: RoundCluster
) -> str:
    """Note one answer in the node's row; returns why it does not count, or nothing."""
    if error is not None:
        cause = cause_of_death(error)
        cluster.node_failed(row, cause)
        return cause.text
    assert report is not None
    if "error" in report:
        cluster.node_failed(row, Cause(f"{phase} raised {report['error']}", report["traceback"]))
        return f"{phase} raised {report['error']}"
    cluster.set_idle(np.asarray([row], dtype=np.intp))
    return ""


async def _late(completions: Completions, phase: str, cluster: RoundCluster) -> None:
    """Nodes whose results no longer count are busy until they answer."""
    while (message := await completions.next()) is not None:
        _settle(message[0], message[1], message[2], phase, cluster)


def weighted(reports: Sequence[Mapping[str, Any]], value: Any) -> float:
    """Mean of a value over reports, weighted by their numbers of examples; NaN for none."""
    total = sum(report["num_examples"] for report in reports)
    if total <= 0:
        return math.nan
    return float(sum(value(report) * report["num_examples"] for report in reports) / total)


def weighted_metrics(reports: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each metric's weighted mean over the reports that have it."""
    names = sorted({name for report in reports for name in report["metrics"]})
    means = {}
    for name in names:
        having = [report for report in reports if name in report["metrics"]]
        means[name] = weighted(having, lambda report, name=name: report["metrics"][name])
    return means
