"""The server node of a star: it holds the global parameters and aggregates references to updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.nodes.runtime import failure_report
from red_tui.nodes.template import FederatedNode, Parameters, check_parameters
from red_tui.rounds.strategies import Strategy, make_strategy


class FederatedServer(FederatedNode):
    """Aggregates.  Derive from it and override `aggregate` to do it your way."""

    parameters: Parameters | None = None
    _strategy: Strategy

    def build(self, **kwargs: Any) -> None:
        """Make the strategy that the federation's config names."""
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
        """The next global parameters; the arguments are in the order of the nodes' rows."""
        return self._strategy.aggregate(current, updates, num_examples)

    def red_set_parameters(self, parameters: Parameters) -> tuple[Parameters | None, dict[str, Any]]:
        """Take over parameters; gives them back for the object store, and a report."""
        try:
            self.parameters = check_parameters(parameters, "initial parameters")
        except Exception as error:
            return None, failure_report(error, "initial_parameters")
        return self.parameters, {"size": sum(np.asarray(value).nbytes for value in parameters.values())}

    def red_aggregate(
        self, round_number: int, num_examples: list[float], metrics: list[dict[str, float]], *updates: Parameters
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """Aggregate the updates that Ray has fetched for this call; gives the new parameters and a report."""
        try:
            assert self.parameters is not None
            made = self.aggregate(round_number, self.parameters, updates, num_examples, metrics)
            self.parameters = check_parameters(made, "the aggregate")
        except Exception as error:
            return None, failure_report(error, "aggregate")
        return self.parameters, {}
