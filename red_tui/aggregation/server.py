"""The server node of a star: it holds the global parameters and aggregates references to updates."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.aggregation.evaluator import CentralEvaluator
from red_tui.aggregation.exact_sum import ExactMean, ExactSum
from red_tui.aggregation.server_state import (
    HeldRound,
    ServerState,
    UnkeptAttributes,
    go_back,
    load,
    own_state,
    snapshot,
    unkept_of_server,
    unkept_of_strategy,
)
from red_tui.aggregation.strategies import Strategy, aggregated, configuration_of, keeps_state, make_strategy
from red_tui.aggregation.weighted_sum import PartialMean, WeightedSum, combine, consensus_distance
from red_tui.checkpoints.checkpoint_file import PARAMETERS, round_digests
from red_tui.nodes.table import NO_ROWS, IntArray
from red_tui.nodes.template import FederatedNode, Parameters, check_parameters
from red_tui.nodes.user_code import MethodError, called, check_fork, failure_report

Models = tuple[int, dict[int, Parameters]]
"""A round, and the models of the nodes after its gossip, by row."""


NOT_PLAIN = "server's state"
"""What the report of a round calls a state that no checkpoint can hold."""

DIGESTED_AT_ONCE = 1 << 20
"""Bytes of parameters, and of what goes with them, up to which a server tells their digests with the round."""

HOLDING_WAITS = 3.0
"""Seconds that `red_holding` waits for a call that is at work."""


class FederatedServer(FederatedNode):
    """Aggregates.  Derive from it and override `aggregate` to do it your way.

    What a class of your own keeps between rounds belongs into `get_state` and `set_state`: it then goes to a server
    that is rebuilt and into each checkpoint, and is undone with a round that does not count.  The strategy's state
    goes there by itself.
    """

    parameters: Parameters | None = None
    _strategy: Strategy
    _strategy_name = "fedavg"
    _vault: dict[int, Any]
    _lock: threading.RLock
    """Held while anything of a round changes: a call that was made ahead may come while another is at work."""
    _round = 0
    _now: HeldRound | None = None
    """What there was when the last call had ended, whatever is at work since."""
    _before: HeldRound | None = None
    """What there was before the last round."""
    _first: HeldRound | None = None
    """What there was before the first round."""
    _models: tuple[Models, ...] = ()
    _carries = False
    _plain_looked = False
    _watched: tuple[tuple[str, UnkeptAttributes], ...] = ()
    _evaluator: CentralEvaluator | None = None

    def build(self, **kwargs: Any) -> None:
        """Make the strategy that the federation's config names."""
        self._vault, self._lock = {}, threading.RLock()
        choice = self.config.get("strategy") or {"name": "fedavg"}
        self._strategy, self._strategy_name = strategy_of(choice), choice["name"]
        self._carries = carries_state(type(self), self._strategy)
        watched: list[tuple[str, UnkeptAttributes | None]] = [("strategy", unkept_of_strategy(self._strategy))]
        if not keeps_its_own(type(self)):
            watched.append(("server", unkept_of_server(self, FederatedServer)))
        self._watched = tuple((whose, attributes) for whose, attributes in watched if attributes is not None)

    def get_state(self) -> Any:
        """Give what survives release and rebuild: the state of the strategy.

        Override it, with `set_state`, to keep what a class of your own has; the strategy's state is kept beside it.

        Returns:
            Anything that can be pickled goes to a server that is rebuilt.  Checkpoints hold plain data only (numbers,
            text, bytes, arrays, and lists, tuples and dicts of them), since nothing of a file is unpickled: an event
            says so where it is something else.  None keeps nothing.
        """
        if not keeps_state(self._strategy):
            return None
        return {"strategy": self._strategy_name, "state": dict(self._strategy.state_dict())}

    def set_state(self, state: Any) -> None:
        """Take back what `get_state` gave: of a server that was released, or after a round to which one goes back.

        Args:
            state: What `get_state` returned; never None.
        """
        if isinstance(state, Mapping) and state.get("strategy") == self._strategy_name:
            self._strategy.load_state_dict({name: np.array(value) for name, value in state["state"].items()})

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
        return aggregated(self._strategy, current, updates, num_examples, metrics)

    def red_set_parameters(
        self, parameters: Parameters, round_number: int = 0, state: ServerState | None = None
    ) -> tuple[Any, ...]:
        """Take over the parameters of a round, and what goes with them.

        Gives the parameters back for the object store, a report, and what goes with them if something does.

        Args:
            parameters: Arrays by name.
            round_number: The round after which they are.
            state: What goes with them; None: what there was then, if that is held here, else that before any round.
        """
        with self._lock:
            try:
                checked = check_parameters(parameters, "initial parameters")
                before = self._hold()
            except BaseException as error:
                return self._answer(None, failure_report(error, "initial_parameters"))
            self._first = self._first or before
            try:
                if self._before is not None and self._before.round == round_number:
                    self._undo()
                elif state is None and (self._round != round_number or self.parameters is None):
                    self._return_to(self._first)
                self.parameters, self._round, self._before = checked, round_number, None
                if state is not None:
                    # A server with an aggregate of its own may let the strategy step on a part of the model.
                    whole = inspect.unwrap(type(self).aggregate) is FederatedServer.aggregate
                    load(self._strategy, self._strategy_name, state, checked if whole else None)
                    self._take_own(state)
                self._now = self._hold()
            except BaseException as error:
                report = failure_report(error, "initial_parameters")
                self._return_to(before)
                return self._answer(None, report)
        size = sum(np.asarray(value).nbytes for value in parameters.values())
        return self._answer(self.parameters, {"size": size}, self._now)

    def red_configure(self, round_number: int) -> dict[str, Any]:
        """What the strategy tells the nodes of a round (`config`), or a report with an error.

        Args:
            round_number: The round; a try of it that did not count is undone before.
        """
        with self._lock:
            try:
                if self._round == round_number and self._before is not None:
                    self._undo()
                return {"config": called("configure", configuration_of, self._strategy, round_number)}
            except BaseException as error:
                return failure_report(error, "configure")

    def red_aggregate(
        self,
        round_number: int,
        parts: Sequence[tuple[str, IntArray, Sequence[float]]],
        metrics: tuple[IntArray, Mapping[str, Any]],
        *payloads: Any,
    ) -> tuple[Any, ...]:
        """Aggregate what Ray has fetched for this call; gives the new parameters, a report, and what goes with them.

        The last only if something does: `carries_state` says so on both sides.

        Args:
            round_number: The round.
            parts: For each payload its kind (see `Contribution`), rows and weights; no rows where hosts have added up.
            metrics: The rows that count, and what they reported, in columns; nothing where hosts have added up.
            *payloads: Updates, blocks of updates, or means of hosts.
        """
        with self._lock:
            try:
                if self._round == round_number and self._before is not None:
                    # Aggregated ahead, or in a try that did not count.
                    self._undo()
                before = self._hold()
            except BaseException as error:
                return self._answer(None, failure_report(error, "aggregate"))
            try:
                for _, attributes in self._watched:
                    attributes.before()
                assert self.parameters is not None
                mean: Parameters | None = None
                if any(kind in ("mean", "term") for kind, *_ in parts):
                    mean = check_parameters(mean_of(parts, payloads, self.parameters), "the mean of the updates")
                    made = self._strategy.step(self.parameters, mean)
                else:
                    made = self._of_each(round_number, parts, metrics, payloads)
                check_fork()
                self.parameters = made if made is mean else check_parameters(made, "the aggregate")
                self._round, self._models = round_number, ()
                self._now = self._hold(stepped=True)
            except BaseException as error:
                report = failure_report(error, "aggregate")
                try:
                    self._return_to(before)
                except BaseException as second:
                    report = failure_report(second, "aggregate")
                return self._answer(None, report)
            self._before = before
            unkept = {whose: names for whose, attributes in self._watched if (names := attributes.after())}
            if self._now.state is not None and not self._plain_looked:
                # Once: a class's state is of one shape.
                self._plain_looked = True
                if self._now.state.not_plain:
                    unkept[NOT_PLAIN] = [self._now.state.not_plain]
            told: dict[str, Any] = {"unkept": unkept} if unkept else {}
            return self._answer(self.parameters, {**told, **_digests_at_once(self._now)}, self._now)

    def red_judge(
        self, round_number: int, token: str, evaluator: Any, parameters: Parameters, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Judge parameters centrally; see `CentralEvaluator.judge`.

        `evaluator` is `module:name`, or a list of one reference: to an object that is fetched once.
        """
        if self._evaluator is None:
            self._evaluator = CentralEvaluator()

        def fetch() -> Any:
            if isinstance(evaluator, str):
                return evaluator
            import ray

            return ray.get(evaluator[0])

        return self._evaluator.judge(round_number, token, fetch, parameters, config)

    def red_aggregate_ahead(self, round_number: int, *means: Any) -> tuple[Any, ...]:
        """Aggregate what hosts were going to give when this was asked; `declined` in the report where it cannot be.

        Its result counts only if the caller finds that these are the results of the round.
        """
        with self._lock:
            if self._round >= round_number or not all(isinstance(mean, (PartialMean, ExactMean)) for mean in means):
                # Late, or some host gave nothing (in time).
                return self._answer(None, {"declined": True})
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
        with self._lock:
            return self._consensus(round_number, places, blocks)

    def _consensus(
        self, round_number: int, places: Mapping[int, tuple[int, int | None]], blocks: Sequence[Any]
    ) -> tuple[Parameters | None, dict[str, Any]]:
        try:
            if self._round == round_number and self._before is not None:
                # In a try that did not count.
                self._undo()
            models = [blocks[block] if place is None else blocks[block][place] for block, place in places.values()]
            types = {name: np.asarray(value).dtype for name, value in models[0].items()}
            mean = check_parameters(combine(models, [1.0] * len(models), types), "the mean of the models")
            distance = consensus_distance(models, mean)
            before = self._hold()
            self.parameters, self._round, self._before = mean, round_number, before
            self._now = self._hold()
            self._models = (*self._models[-1:], (round_number, dict(zip(places, models, strict=True))))
        except Exception as error:
            return None, failure_report(error, "consensus")
        return self.parameters, {"consensus_distance": distance}

    def red_digests(self, round_number: int) -> dict[str, str]:
        """What a round's record says of its bytes (see `round_digests`); nothing where the round is not held here."""
        for held in (self._now, self._before):
            if held is not None and held.round == round_number and held.parameters is not None:
                return _digests_of(held)
        return {}

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

    def red_forget(self, rows: Sequence[int]) -> None:
        """States of these nodes are kept elsewhere."""
        for row in rows:
            self._vault.pop(row, None)

    def red_kept(self) -> tuple[list[int], list[Any]]:
        """Rows of the states that are kept, and the states."""
        return list(self._vault), list(self._vault.values())

    def red_holding(self, round_number: int) -> tuple[Any, ...]:
        """The parameters after a round, and what goes with them, for a supervisor that lost its references to them.

        Those of the last two rounds are held.  A round that was aggregated and did not count is undone: at once, or,
        where a call of the supervisor that ended is still at work, when that round is aggregated again.
        """
        if self._lock.acquire(timeout=HOLDING_WAITS):
            try:
                if self._round != round_number and self._before is not None and self._before.round == round_number:
                    self._undo()
            except BaseException as error:
                return self._answer(None, failure_report(error, "aggregate"))
            finally:
                self._lock.release()
        for held in (self._now, self._before):
            if held is not None and held.round == round_number and held.parameters is not None:
                return self._answer(held.parameters, {"round": round_number}, held)
        held_round = self._now.round if self._now is not None else 0
        return self._answer(None, {"error": f"it holds the parameters of round {held_round}, not of {round_number}"})

    def _answer(
        self, parameters: Parameters | None, report: dict[str, Any], held: HeldRound | None = None
    ) -> tuple[Any, ...]:
        """What a call gives: parameters, report, and what goes with the parameters if something ever does."""
        if not self._carries:
            return parameters, report
        return parameters, report, None if held is None or parameters is None else held.state

    def _hold(self, *, stepped: bool = False) -> HeldRound:
        """All that there is now.

        Before its first step a class of one's own may have nothing yet that it could give; after one (`stepped`) it
        is an error that it gives nothing.
        """
        own = self if keeps_its_own(type(self)) else None
        try:
            taken = snapshot(self._strategy, self._strategy_name, own)
        except MethodError:
            if stepped:
                raise
            taken = snapshot(self._strategy, self._strategy_name, None)
        return HeldRound(self._round, self.parameters, *taken)

    def _return_to(self, held: HeldRound) -> None:
        """Make all be as it was."""
        self._round, self.parameters = held.round, held.parameters
        go_back(self._strategy, held.remembered)
        if held.state is not None:
            self._take_own(held.state)

    def _take_own(self, state: ServerState) -> None:
        if state.own is not None and keeps_its_own(type(self)):
            called("set_state", self.set_state, own_state(state))

    def _undo(self) -> None:
        """Go back to what was before the last round, which was aggregated and did not count."""
        assert self._before is not None
        self._return_to(self._before)
        self._now, self._before = self._before, None
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


def strategy_at(server: FederatedServer) -> Strategy:
    """The strategy with which a server aggregates; the attribute is left to classes that derive from it."""
    return server._strategy


def strategy_of(choice: Mapping[str, Any]) -> Strategy:
    """The strategy of a choice as the settings of rounds hold it.

    Raises:
        ValueError: If there is none of its name, or it does not take its options.
    """
    return make_strategy(choice["name"], {key: value for key, value in choice.items() if key != "name"}, choice)


def carries_state(server: type, strategy: Strategy) -> bool:
    """Whether something goes along with a server's parameters: its strategy's state, or what its class keeps."""
    return keeps_state(strategy) or keeps_its_own(server)


def keeps_its_own(server: type) -> bool:
    """Whether a server class of one's own writes `get_state`."""
    written = inspect.unwrap(getattr(server, "get_state", FederatedServer.get_state))
    return written not in (FederatedServer.get_state, FederatedNode.get_state)


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
    dtypes = {name: np.asarray(value).dtype for name, value in like.items()}
    exact = exact_sum_of([(kind, weights) for kind, _, weights in parts], payloads)
    if exact is not None:
        return combine([exact.mean()], [1.0 if exact.total > 0 else 0.0], dtypes)
    own, means, totals = WeightedSum(), [], []
    for (kind, _, weights), payload in zip(parts, payloads, strict=True):
        if kind == "mean":
            means.append(payload.mean)
            totals.append(payload.total)
            continue
        for update, weight in zip(payload if kind == "block" else [payload], weights, strict=True):
            own.add(update, float(weight))
    return combine([*means, own.mean()], [*totals, own.total], dtypes)


def exact_sum_of(parts: Sequence[tuple[str, Sequence[float]]], payloads: Sequence[Any]) -> ExactSum | None:
    """The exact sum of what was given, if it is wanted: some of it is an `ExactMean` or a `term`."""
    if not any(kind == "term" for kind, _ in parts) and not any(isinstance(one, ExactMean) for one in payloads):
        return None
    whole = ExactSum()
    for (kind, weights), payload in zip(parts, payloads, strict=True):
        if isinstance(payload, ExactMean):
            whole.merge(payload)
        elif kind == "mean":
            # Somebody has made it of a group's mean: it stands for that many examples.
            whole.add(payload.mean, payload.total)
        else:
            for update, weight in zip(payload if kind == "block" else [payload], weights, strict=True):
                whole.add(update, float(weight))
    return whole


def _digests_of(held: HeldRound) -> dict[str, str]:
    assert held.parameters is not None
    groups = {} if held.state is None else held.state.to_groups()
    return round_digests({PARAMETERS: held.parameters, **groups})


def _digests_at_once(held: HeldRound) -> dict[str, Any]:
    """`digests` for a report, where that takes no time to speak of."""
    try:
        size = sum(np.asarray(value).nbytes for value in (held.parameters or {}).values())
        if held.state is not None:
            size += held.state.nbytes
        return {"digests": _digests_of(held)} if size <= DIGESTED_AT_ONCE else {}
    except Exception:
        return {}  # what has no plain bytes: a checkpoint refuses it, and says so; the round has been aggregated


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
    ) -> tuple[PartialMean | ExactMean | None, dict[str, Any]]:
        """One mean of all that the group gave (stays in the object store), and a report with the examples behind it.

        Args:
            round_number: The round.
            parts: For each payload its kind (see `Contribution`) and weights.
            *payloads: Updates, or means of hosts and of aggregators further down.
        """
        try:
            exact = exact_sum_of(parts, payloads)
            if exact is not None and type(self).passes_on is FederatedAggregator.passes_on:
                given = exact.given()
                return given, {"total": given.total}
            mean, total = partial_mean(parts, payloads) if exact is None else PartialMean(exact.mean(), exact.total)
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
