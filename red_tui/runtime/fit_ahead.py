"""Nodes of a host that fit together: what each of them gives lies ready when its turn comes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.nodes.template import FederatedNode, FitResult, Parameters

AHEAD_BYTES = 256_000_000
"""Approximate max bytes of updates that lie ready."""


class FitAhead:
    """Calls `fit_together` for a node whose turn it is and those that come after it.

    Args:
        nodes: (row, node) in the order in which they work; None for a node that the host does not have.
        parameters: What all of them start from.
        config: The round's keys.
    """

    def __init__(
        self, nodes: Sequence[tuple[int, FederatedNode | None]], parameters: Parameters, config: Mapping[str, Any]
    ) -> None:
        self._nodes, self._parameters, self._config = nodes, parameters, config
        self._places = {row: place for place, (row, _) in enumerate(nodes)}
        self._shares: dict[int, float] = {}
        for _, node in nodes:
            _forget(node)
        self._at_a_time = max(1, AHEAD_BYTES // max(1, sum(array.nbytes for array in parameters.values())))

    @classmethod
    def where_asked_for(
        cls, nodes: Sequence[tuple[int, FederatedNode | None]], parameters: Parameters, config: Mapping[str, Any]
    ) -> FitAhead | None:
        """One, if a template among the nodes says how several fit together."""
        kinds = {type(node) for _, node in nodes if node is not None}
        return cls(nodes, parameters, config) if any(map(_fits_together, kinds)) else None

    def prepare(self, row: int) -> float:
        """Let a node find its result when its `fit` is called.

        Returns:
            Seconds that its share of the common work took.
        """
        share = self._shares.pop(row, None)
        if share is not None:
            return share
        place = self._places[row]
        kind: Any = type(self._nodes[place][1])
        count = min(_fits_together(kind), self._at_a_time)
        if count < 2:
            return 0.0
        those = [
            (other, node)
            for other, node in self._nodes[place : place + count]
            if node is not None and type(node) is kind
        ]
        if len(those) < 2:
            return 0.0
        began = time.perf_counter()
        given = kind.fit_together([node for _, node in those], dict(self._parameters), dict(self._config))
        share = (time.perf_counter() - began) / len(those)
        for (other, node), result in zip(those, given, strict=True):
            self._shares[other] = share
            if result is not None:
                _give(node, result)
        return self._shares.pop(row)


def _fits_together(kind: type) -> int:
    """How many nodes of a class fit together; 1 where the class has a `fit` that `fit_together` knows nothing of."""
    most = int(getattr(kind, "fits_together", 1))
    if most < 2:
        return 1
    fit = next(one for one in kind.__mro__ if "fit" in vars(one))
    return most if "fit_together" in vars(fit) else 1


class _Ready:
    """Stands for the node's `fit` and gives the result that lies ready, once."""

    def __init__(self, node: Any, result: FitResult) -> None:
        self._node, self._result = node, result

    def __call__(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        del vars(self._node)["fit"]
        return self._result


def _give(node: Any, result: FitResult) -> None:
    """The next call of the node's `fit` gives the result."""
    vars(node)["fit"] = _Ready(node, result)


def _forget(node: Any) -> None:
    """A result of a round that was stopped before the node's turn came is not one of this round."""
    if node is not None and isinstance(vars(node).get("fit"), _Ready):
        del vars(node)["fit"]
