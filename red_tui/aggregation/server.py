"""The server node of a star: it holds the global parameters and aggregates references to updates."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.aggregation.strategies import Strategy, make_strategy
from red_tui.aggregation.weighted_sum import PartialMean, WeightedSum, combine, consensus_distance
from red_tui.nodes.table import NO_ROWS, IntArray
from red_tui.nodes.template import FederatedNode, Parameters, check_parameters
from red_tui.nodes.user_code import called, check_fork, failure_report

Models = tuple[int, dict[int, Parameters]]
"""A round, and the models of the nodes after its gossip, by row."""


class FederatedServer(FederatedNode):
    """Aggregates.  Derive from it and override `aggregate` to do it your way."""

    parameters: Parameters | None = None
    _strategy: Strategy
    _vault: dict[int, Any]
    _round = 0
    _before: tuple[int, Parameters | None] = (0, None)
    _models: tuple[Models, ...] = ()

    def build(self, **kwargs: Any) -> None:
        """Make the strategy that the federation's config names."""
        self._vault = {}
        strategy = self.config.get("strategy") or {"name": "fedavg"}
        options = {key: value for key, value in strategy.items() if key != "name"}
        self._strategy = make_strategy(strategy["name"], options)

    def aggregate(
        self,
        round_number: int,
        current: Parameters,
        updates: Sequence[Parameters],
        num_examples: Sequence[float],
        metrics: Sequence[Mapping[str, float]],
    ) -> Parameters:
        """Make the next global parameters.  Override it to do it your way; every update then travels to the server.

        All sequences are in the order of the nodes' rows.

        Args:
            round_number: 1 for the first round.
            current: The present parameters, arrays by name.
            updates: What each `fit` returned: the same names and shapes as `current`.
            num_examples: The number of examples behind each update.
            metrics: What each `fit` reported, numbers by name.

        Returns:
            Arrays by name, with the names, shapes and types of `current`.

        Raises:
            Exception: Whatever it raises fails the round; parameters stay as they were.
        """
        return self._strategy.aggregate(current, updates, num_examples)

    def red_set_parameters(
        self, parameters: Parameters, round_number: int = 0
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """Take over the parameters of a round; gives them back for the object store, and a report."""
        try:
            self.parameters, self._round = check_parameters(parameters, "initial parameters"), round_number
        except Exception as error:
            return None, failure_report(error, "initial_parameters")
        return self.parameters, {"size": sum(np.asarray(value).nbytes for value in parameters.values())}

    def red_aggregate(
        self,
        round_number: int,
        parts: Sequence[tuple[str, IntArray, Sequence[float]]],
        metrics: tuple[IntArray, Mapping[str, Any]],
        *payloads: Any,
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """Aggregate what Ray has fetched for this call; gives the new parameters and a report.

        Args:
            round_number: The round.
            parts: For each payload its kind (see `Contribution`), rows and weights; no rows where hosts have added up.
            metrics: The rows that count, and what they reported, in columns; nothing where hosts have added up.
            *payloads: Updates, blocks of updates, or `PartialMean`s.
        """
        remembered = self._strategy.remember()
        try:
            if self._round == round_number and self._before[1] is not None:
                # Aggregated ahead, or in a try that did not count.
                self._undo()
            assert self.parameters is not None
            mean: Parameters | None = None
            if any(kind == "mean" for kind, *_ in parts):
                mean = check_parameters(mean_of(parts, payloads, self.parameters), "the mean of the updates")
                made = self._strategy.step(self.parameters, mean)
            else:
                made = self._of_each(round_number, parts, metrics, payloads)
            check_fork()
            before, self._models = (self._round, self.parameters), ()
            self.parameters = made if made is mean else check_parameters(made, "the aggregate")
            self._round = round_number
            self._before = before
        except BaseException as error:
            self._strategy.go_back(remembered)
            return None, failure_report(error, "aggregate")
        return self.parameters, {}

    def red_aggregate_ahead(self, round_number: int, *means: Any) -> tuple[Parameters | None, dict[str, Any]]:
        """Aggregate what hosts were going to give when this was asked; `declined` in the report where it cannot be.

        Its result counts only if the caller finds that these are the results of the round.
        """
        if self._round >= round_number or not all(isinstance(mean, PartialMean) for mean in means):
            # Late, or some host gave nothing (in time).
            return None, {"declined": True}
        return self.red_aggregate(round_number, [("mean", NO_ROWS, ())] * len(means), (NO_ROWS, {}), *means)

    def red_consensus(
        self, round_number: int, places: Mapping[int, tuple[int, int | None]], *blocks: Any
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """The mean of all nodes' models after a round's gossip, and how far they are from it (report).

        It measures and keeps the mean; the nodes go on from their own models.  Those are held as they lie in the
        object store, which takes no further memory: they outlive the supervisor here.

        Args:
            round_number: The round.
            places: By row where a model lies: the number of its block, and its place there (None: it is the block).
            *blocks: Models, or lists of models.
        """
        try:
            if self._round == round_number and self._before[1] is not None:
                # In a try that did not count.
                self._undo()
            models = [blocks[block] if place is None else blocks[block][place] for block, place in places.values()]
            types = {name: np.asarray(value).dtype for name, value in models[0].items()}
            mean = check_parameters(combine(models, [1.0] * len(models), types), "the mean of the models")
            distance = consensus_distance(models, mean)
            before = (self._round, self.parameters)
            self.parameters, self._round, self._before = mean, round_number, before
            self._models = (*self._models[-1:], (round_number, dict(zip(places, models, strict=True))))
        except Exception as error:
            return None, failure_report(error, "consensus")
        return self.parameters, {"consensus_distance": distance}

    def red_counted(self, round_number: int) -> None:
        """A round counts: nobody goes back to the models of earlier ones."""
        self._models = tuple(held for held in self._models if held[0] >= round_number)

    def red_modelled(self, round_number: int) -> list[int]:
        """Rows whose models after a round are held here, for a supervisor that lost its references to them."""
        return next((list(models) for number, models in self._models if number == round_number), [])

    def red_models(self, round_number: int, rows: Sequence[int], apart: bool) -> Any:
        """The models of some rows after a round: a list, or as many returns (`apart`)."""
        held = dict(self._models)[round_number]
        models = [held[row] for row in rows]
        return models[0] if apart and len(models) == 1 else models

    def red_keep(self, rows: Sequence[int], places: Sequence[tuple[int, int | None]], *blocks: Any) -> int:
        """Keep states of nodes that have no process: they outlive the supervisor here.

        Args:
            rows: Their rows.
            places: For each the number of its block, and its place there (None: the block is the state).
            *blocks: The states, as Ray has fetched them.
        """
        for row, (block, index) in zip(rows, places, strict=True):
            self._vault[row] = blocks[block] if index is None else blocks[block][index]
        return len(self._vault)

    def red_kept(self) -> tuple[list[int], list[Any]]:
        """Rows of the states that are kept, and the states."""
        return list(self._vault), list(self._vault.values())

    def red_holding(self, round_number: int) -> tuple[Parameters | None, dict[str, Any]]:
        """The parameters after a round, for a supervisor that lost its reference to them; the last two are held.

        A round that was aggregated and did not count is undone.
        """
        if self._round != round_number and self._before[0] == round_number:
            self._undo()
        if self._round != round_number or self.parameters is None:
            return None, {"error": f"it holds the parameters of round {self._round}, not of {round_number}"}
        return self.parameters, {"round": self._round}

    def _undo(self) -> None:
        """Go back to what was before the last round, which was aggregated and did not count."""
        self._round, self.parameters = self._before
        self._models = tuple(held for held in self._models if held[0] <= self._round)

    def _of_each(
        self, round_number: int, parts: Any, metrics: tuple[IntArray, Mapping[str, Any]], payloads: Sequence[Any]
    ) -> Parameters:
        updates: dict[int, tuple[Parameters, float]] = {}
        for (kind, rows, weights), payload in zip(parts, payloads, strict=True):
            for row, update, weight in zip(
                rows.tolist(), [payload] if kind == "update" else payload, weights, strict=True
            ):
                updates[row] = (update, float(weight))
        rows, columns = metrics
        counted = [row for row in rows.tolist() if row in updates]
        reported = [
            {name: float(column[place]) for name, column in columns.items() if not np.isnan(column[place])}
            for place, row in enumerate(rows.tolist())
            if row in updates
        ]
        assert self.parameters is not None
        return self.aggregate(
            round_number,
            self.parameters,
            [updates[row][0] for row in counted],
            [updates[row][1] for row in counted],
            reported,
        )


def needs_each(server: type, strategy: Strategy) -> bool:
    """Whether a server wants every update, or the weighted mean will do."""
    return not strategy.additive or getattr(server, "aggregate", None) is not FederatedServer.aggregate


def overrides_strategy(server: type[FederatedServer]) -> bool:
    """Whether a server aggregates by itself and no method of its own calls the base class or reads the strategy."""
    if server.aggregate is FederatedServer.aggregate:
        return False
    own = server.__mro__[: server.__mro__.index(FederatedServer)]
    members = [inspect.unwrap(member) for kind in own for member in vars(kind).values() if callable(member)]
    return not any(_mentions(getattr(member, "__code__", None)) for member in members)


def _mentions(code: Any) -> bool:
    """Whether a function, or one inside it, may reach the strategy."""
    if code is None:
        return False
    if {"super", "_strategy", "FederatedServer", "getattr"} & {*code.co_names, *code.co_freevars}:
        return True
    return any(_mentions(inner) for inner in code.co_consts if hasattr(inner, "co_names"))


def mean_of(
    parts: Sequence[tuple[str, IntArray, Sequence[float]]], payloads: Sequence[Any], like: Parameters
) -> Parameters:
    """The weighted mean over all updates, from updates and from means of hosts, in the types of `like`.

    Raises:
        ValueError: If there is nothing to average.
    """
    own, means, totals = WeightedSum(), [], []
    for (kind, _, weights), payload in zip(parts, payloads, strict=True):
        if kind == "mean":
            means.append(payload.mean)
            totals.append(payload.total)
            continue
        for update, weight in zip([payload] if kind == "update" else payload, weights, strict=True):
            own.add(update, float(weight))
    return combine(
        [*means, own.mean()], [*totals, own.total], {name: np.asarray(value).dtype for name, value in like.items()}
    )


class FederatedAggregator(FederatedNode):
    """Adds up.  Derive from it to do something to a group's mean (`passes_on`), or to `train` in sessions."""

    def passes_on(self, round_number: int, mean: Parameters, num_examples: float) -> Parameters:
        """Give what goes up in place of the group's mean: noise may be added to it, say, or it may be clipped.

        Args:
            round_number: The round.
            mean: The mean of the group's updates, weighted by their numbers of examples; float32 or float64.
            num_examples: How many examples stand behind it.

        Returns:
            Arrays by name, with the names and shapes of `mean`.
        """
        return mean

    def red_add_up(
        self, round_number: int, parts: Sequence[tuple[str, Sequence[float]]], *payloads: Any
    ) -> tuple[PartialMean | None, dict[str, Any]]:
        """One mean of all that the group gave (stays in the object store), and a report with the examples behind it.

        Args:
            round_number: The round.
            parts: For each payload its kind (see `Contribution`) and weights.
            *payloads: Updates, or means of hosts and of aggregators further down.
        """
        try:
            mean, total = partial_mean(parts, payloads)
            if total > 0:
                mean = called("passes_on", self._passed_on, round_number, mean, total)
        except BaseException as error:
            return None, failure_report(error, "add_up")
        check_fork()
        return PartialMean(mean, total), {"total": total}

    def _passed_on(self, round_number: int, mean: Parameters, total: float) -> Parameters:
        given = check_parameters(self.passes_on(round_number, mean, total), "what passes_on gave")
        _same_shapes(given, mean)
        return given


def partial_mean(parts: Sequence[tuple[str, Sequence[float]]], payloads: Sequence[Any]) -> PartialMean:
    """The weighted mean of updates and of means, and the sum of the weights; {} and 0.0 where nobody has examples.

    It stays in float32 where the updates are float32 or float16, else in float64: whole numbers are rounded by the
    server at the end, and not on each level.
    """
    own, means, totals = WeightedSum(), [], []
    for (kind, weights), payload in zip(parts, payloads, strict=True):
        if kind == "mean":
            means.append(payload.mean)
            totals.append(payload.total)
            continue
        for update, weight in zip([payload] if kind == "update" else payload, weights, strict=True):
            own.add(update, float(weight))
    if own.total > 0:
        means.append(own.mean())
        totals.append(own.total)
    having = [(mean, total) for mean, total in zip(means, totals, strict=True) if total > 0]
    if not having:
        return PartialMean({}, 0.0)
    if len(having) == 1:
        return PartialMean(*having[0])
    types = {name: np.asarray(value).dtype for name, value in having[0][0].items()}
    return PartialMean(
        combine([mean for mean, _ in having], [total for _, total in having], types),
        float(sum(total for _, total in having)),
    )


def _same_shapes(given: Parameters, mean: Parameters) -> None:
    """Raise ValueError unless `given` can stand in the place of `mean`."""
    if given.keys() != mean.keys() or any(np.shape(given[name]) != np.shape(mean[name]) for name in mean):
        raise ValueError("passes_on gave other parameters than it was given: keep their names and shapes")


def rows_of(parts: Sequence[Any]) -> IntArray:
    """Rows of all contributions together."""
    return np.concatenate([np.asarray(part.rows) for part in parts])
