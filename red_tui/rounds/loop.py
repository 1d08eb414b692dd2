"""The round loop.  It reads like the algorithm; the federation's state is behind `RoundCluster`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from red_tui.aggregation.answers import Answers, Contribution, Phase, PhaseWork, weighted_mean_of, weighted_means
from red_tui.errors import RoundError
from red_tui.nodes.failures import cause_of_death
from red_tui.nodes.table import NO_ROWS, IntArray
from red_tui.protocol.figures import causes_text
from red_tui.rounds.history import NodeNames, RoundResult, node_statistics
from red_tui.rounds.ray_calls import answer_of
from red_tui.rounds.sampling import RoundSettings

NO_AGGREGATE = "the server could not aggregate"

CENTRAL = "central_"
"""Stands before the names of what the server's node found."""


class RoundCluster(Protocol):
    """What a round asks of the federation.  All methods run on the engine's thread."""

    async def choose(self, number: int, settings: RoundSettings) -> IntArray:
        """Rows of the nodes with role train that take part in a round."""

    async def judges(self) -> IntArray:
        """Rows of the nodes with role eval that should take part now."""

    def turns(self, rows: IntArray, timeout: float) -> AsyncIterator[Turn]:
        """All of `rows`, each once: ready in one turn, or missing from it with the reason."""

    async def ensure_server(self, timeout: float) -> Any:
        """Handle of the server node.  Raises RoundError if it cannot be had."""

    def work(
        self, phase: str, rows: IntArray, parameters: Any, config: Mapping[str, Any], server: Any = None
    ) -> PhaseWork:
        """Let ready nodes fit or evaluate, until the round's deadline.

        `server` is given where these are all nodes of a round: it may be called before they have answered.
        """

    def aggregate(
        self, number: int, server: Any, contributions: Sequence[Contribution], fitted: Answers, *, complete: bool
    ) -> tuple[Any, Any]:
        """References to the next global parameters and to the server's report.

        `complete` says that nobody failed: nothing but the server's word is still to come of the round.
        """

    def reported(self, report: Mapping[str, Any]) -> None:
        """Hear what the server reports of a round that it has aggregated."""

    def left_out(self, *chosen: IntArray) -> Mapping[str, str]:
        """Why nodes with a role in rounds, `chosen` aside, cannot be chosen for this one, by id."""

    def names(self, rows: IntArray) -> NodeNames:
        """Ids of rows."""

    def counted(self, answers: Answers) -> None:
        """Record the results that the new parameters stand on in the rows of their nodes."""

    @property
    def keys(self) -> Mapping[str, Any]:
        """Config keys that were changed for this round and those after it, and what the strategy tells the nodes."""

    def measured(self, fitted: Answers, judged: Answers) -> None:
        """What nodes took and reported in this round, for whoever keeps that once the round counts."""

    def progress(self, number: int, phase: str, done: int, total: int) -> None:
        """Show how far the round is."""

    def ask_evaluator(self, number: int, server: Any, parameters: Any, config: Mapping[str, Any]) -> Any:
        """Let the server's node judge parameters on data of its own; None where there is no evaluator."""

    async def evaluator_answer(self, number: int, asked: Any) -> Mapping[str, float]:
        """What it found, by name; nothing where there is no evaluator, or it failed."""

    def parameters(self) -> Any:
        """Reference to the global parameters, or None before the first round."""

    async def first_parameters(self, server: Any, rows: IntArray) -> Any:
        """Give the server its first parameters; returns their reference."""

    def take_parameters(self, number: int, reference: Any) -> None:
        """Keep the reference to new global parameters."""

    @property
    def is_hierarchical(self) -> bool:
        """Whether groups of nodes have aggregators between them and the server."""

    async def aggregate_groups(
        self, number: int, contributions: Sequence[Contribution]
    ) -> tuple[Sequence[Contribution], Mapping[int, str]]:
        """The means that the aggregators below the server made of their groups, and why other rows do not count."""

    @property
    def gossips(self) -> bool:
        """Whether nodes mix their models with their neighbours', instead of a server that aggregates."""

    async def mix(
        self, number: int, server: Any, contributions: Sequence[Contribution], rows: IntArray
    ) -> tuple[Any, Mapping[str, float], Mapping[int, str]]:
        """Gossip: the mean of all models, what was measured of them, and why some rows could not mix."""


@dataclass(frozen=True)
class Turn:
    """Nodes that are ready together, and why others that wanted to be are not."""

    rows: IntArray
    missing: Mapping[int, str]


async def run_round(number: int, cluster: RoundCluster, settings: RoundSettings) -> RoundResult:
    """One round of federated learning: choose, build, fit, aggregate, evaluate.

    Parameters travel as references from server to nodes and back; what comes here are columns of figures.

    Raises:
        RoundError: If nobody can take part, too few answer, or the server fails; the global
            parameters are then what they were.
    """
    started = time.perf_counter()

    # 1. Choose among the nodes that train and should take part.
    chosen = await cluster.choose(number, settings)
    left_out = cluster.left_out(chosen)
    if len(chosen) == 0:
        shown = f" ({len(left_out)} left out: {causes_text(left_out)})" if left_out else ""
        raise RoundError(
            f"round {number}: no node can take part: none has the role train, or should_participate refused all, or"
            f" they failed; add nodes or rebuild failed ones{shown}",
            round_number=number,
            failed={},
            left_out=left_out,
        )

    # 2. Build the server, and those of the chosen that have no process; where there are fewer places than
    #    nodes they take turns.
    # 3. Every chosen node improves the parameters on its own data.
    cluster.progress(number, "build", 0, len(chosen))
    server = await cluster.ensure_server(settings.build_timeout)
    parameters = cluster.parameters()
    config = {"round": number, **cluster.keys}
    fit, unbuilt = Phase(len(chosen)), 0
    async for turn in cluster.turns(chosen, settings.build_timeout):
        fit.failures.update(turn.missing)
        unbuilt += len(turn.missing)
        _require(number, len(chosen) - unbuilt, settings, "could be built", fit, cluster)
        if parameters is None and len(turn.rows):
            parameters = await cluster.first_parameters(server, turn.rows)
        if len(turn.rows):
            all_at_once = len(turn.rows) + unbuilt == len(chosen) and not fit.contributions
            work = cluster.work("fit", turn.rows, parameters, config, server if all_at_once else None)
            await _follow(number, "fit", cluster, work, fit)
    fitted = fit.counted()
    _require(number, len(fitted.rows), settings, "returned a result", fit, cluster)

    # 4. The server makes the next global parameters of their updates; or neighbours mix their models, and
    #    the server only measures the result.
    measured: Mapping[str, float] = {}
    if cluster.gossips:
        cluster.progress(number, "mix", 0, 1)
        made, measured, unmixed = await cluster.mix(number, server, fit.contributions, fitted.rows)
        fit.failures.update(unmixed)
        figures = _figures(fitted, fit, cluster)
    else:
        cluster.progress(number, "aggregate", 0, 1)
        contributions: Sequence[Contribution] = fit.contributions
        if cluster.is_hierarchical:
            contributions, lost = await cluster.aggregate_groups(number, contributions)
            fit.failures.update(lost)
            fitted = fit.counted()
            _require(number, len(fitted.rows), settings, "were added up", fit, cluster)
        complete = not fit.failures
        made, reported = cluster.aggregate(number, server, contributions, fitted, complete=complete)
        # What the nodes reported is looked at while the server looks at what they made.
        figures = _figures(fitted, fit, cluster)
        report = await checked(reported, number, NO_AGGREGATE, settings.deadline, made)
        if report.get("declined"):
            made, reported = cluster.aggregate(number, server, contributions, fitted, complete=complete)
            report = await checked(reported, number, NO_AGGREGATE, settings.deadline, made)
        cluster.reported(report)
    cluster.take_parameters(number, made)
    cluster.counted(fitted)

    # 5. Nodes with the role eval judge them, and the server's node does where it has data for that.
    judged = Phase(0)
    asked = None
    if settings.evaluates(number):
        asked = cluster.ask_evaluator(number, server, made, config)
        judges = await cluster.judges()
        left_out = {**cluster.left_out(chosen, judges), **left_out}
        judged = Phase(len(judges))
        async for turn in cluster.turns(judges, settings.build_timeout):
            judged.failures.update(turn.missing)
            if len(turn.rows):
                await _follow(number, "evaluate", cluster, cluster.work("evaluate", turn.rows, made, config), judged)

    # 6. The result.
    if judged.total or left_out:
        figures.update(_judged(fitted, fit, judged, cluster, left_out))
    central = await cluster.evaluator_answer(number, asked)
    if central:
        figures.update(with_central(figures, central))
    figures["metrics"] = {**figures["metrics"], **measured}
    cluster.measured(fitted, judged.counted())
    return RoundResult(
        number=number, seconds=time.perf_counter() - started, ended=time.time(), left_out=left_out, **figures
    )


def _figures(fitted: Answers, fit: Phase, cluster: RoundCluster) -> dict[str, Any]:
    """What a round's result says of its nodes, unless somebody judges them."""
    return {
        "train_metrics": weighted_means(fitted),
        "participants": cluster.names(fitted.rows),
        "num_examples": float(fitted.weights.sum()),
        **_judged(fitted, fit, Phase(0), cluster),
    }


def _judged(
    fitted: Answers, fit: Phase, judged: Phase, cluster: RoundCluster, left_out: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What of it an evaluation tells or changes."""
    judgements = judged.counted()
    failures = _named({**judged.failures, **fit.failures}, cluster)
    return {
        "loss": weighted_mean_of(judgements.losses, judgements.weights),
        "metrics": weighted_means(judgements),
        "failures": failures,
        "evaluated": len(judgements.rows),
        "spread": node_statistics(fitted, judgements, failures, cluster.names, left_out),
    }


def with_central(figures: Mapping[str, Any], central: Mapping[str, float]) -> dict[str, Any]:
    """Loss and metrics with what the server's node found: as `central_…`, and plainly where no node judged."""
    named = {f"{CENTRAL}{name}": value for name, value in central.items()}
    if figures["evaluated"]:
        return {"metrics": {**figures["metrics"], **named}}
    plain = {name: value for name, value in central.items() if name != "loss"}
    return {"loss": central.get("loss", figures["loss"]), "metrics": {**plain, **named}}


def call_server(
    number: int, server: Any, contributions: Sequence[Contribution], fitted: Answers, returns: int = 2
) -> tuple[Any, ...]:
    """Let the server aggregate: references to the next global parameters, to its report, and to what goes with them.

    The last where the server gives `returns=3`.
    """
    # Where hosts have added up, nobody asks what each node reported.
    summed = any(part.kind in ("mean", "term") for part in contributions)
    return tuple(
        server.red_aggregate.options(num_returns=returns).remote(
            number,
            [(part.kind, NO_ROWS if summed else part.rows, part.weights) for part in contributions],
            (NO_ROWS, {}) if summed else (fitted.rows, fitted.metrics),
            *(part.reference for part in contributions),
        )
    )


async def _follow(number: int, phase: str, cluster: RoundCluster, work: PhaseWork, result: Phase) -> None:
    """Add the answers of nodes that work to `result` as they come."""
    cluster.progress(number, phase, result.done, result.total)
    try:
        while (answers := await work.next()) is not None:
            result.take(answers)
            cluster.progress(number, phase, result.done, result.total)
    finally:
        work.close()


def _named(failures: Mapping[int, str], cluster: RoundCluster) -> dict[str, str]:
    if not failures:
        return {}
    rows = np.fromiter(failures, dtype=np.int64, count=len(failures))
    return dict(zip(cluster.names(rows), failures.values(), strict=True))


def _require(number: int, have: int, settings: RoundSettings, what: str, phase: Phase, cluster: RoundCluster) -> None:
    needed = settings.needed(phase.total)
    if have >= needed:
        return
    failures = _named(phase.failures, cluster)
    shown = causes_text(failures)
    raise RoundError(
        f"round {number}: {have} of at least {needed} nodes {what}; the parameters stay as they were ({shown})",
        round_number=number,
        failed=failures,
    )


async def checked(
    reference: Any, number: int, what: str, deadline: float | None, made: Any = None
) -> Mapping[str, Any]:
    """The report of a server call, which makes `made` too.

    Raises:
        RoundError: If it failed or did not come within `deadline` seconds.
    """
    try:
        report: Mapping[str, Any] = await answer_of(reference, deadline, () if made is None else (made,))
    except TimeoutError:
        reason = f"no answer within {deadline:g} s"
    except Exception as error:
        reason = cause_of_death(error).text
    else:
        if "error" not in report:
            return report
        reason = f"{report['where']} raised {report['error']}" if report.get("where") else report["error"]
    raise RoundError(f"round {number}: {what}: {reason}", round_number=number, failed={"server": reason})
