"""Nodes of a host that fit together: what each of them gives lies ready when its turn comes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.nodes.template import FederatedNode, FitResult, Parameters

AHEAD_BYTES = 256_000_000
"""Approximate max bytes of updates that lie ready."""


class FitAhead:
    """Calls `fit_together` for a node whose turn it is and those that come after it, in one phase of a round.

    What lies ready ends with the phase: a node whose turn did not come gives it in no later round.

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
        self._ready: dict[int, tuple[FitResult | None, float]] = {}
        self._at_a_time = max(1, AHEAD_BYTES // max(1, sum(array.nbytes for array in parameters.values())))

    @classmethod
    def where_asked_for(
        cls, nodes: Sequence[tuple[int, FederatedNode | None]], parameters: Parameters, config: Mapping[str, Any]
    ) -> FitAhead | None:
        """One, if a template among the nodes says how several fit together."""
        kinds = {type(node) for _, node in nodes if node is not None}
        return cls(nodes, parameters, config) if any(map(_fits_together, kinds)) else None

    def take(self, row: int) -> tuple[FitResult | None, float]:
        """What a node whose turn it is has given together with others.

        Returns:
            The result, and the seconds that its share of the common work took; None and 0 where its `fit` is to be
            called.

        Raises:
            Exception: What `fit_together` raised; the others of the group are tried again.
        """
        if row not in self._ready:
            self._fit_those_from(self._places[row])
        return self._ready.pop(row, (None, 0.0))

    def _fit_those_from(self, place: int) -> None:
        kind: Any = type(self._nodes[place][1])
        count = min(_fits_together(kind), self._at_a_time)
        those = [
            (row, node)
            for row, node in self._nodes[place : place + count]
            if node is not None and type(node) is kind and row not in self._ready
        ]
        if count < 2 or len(those) < 2:
            return
        began = time.perf_counter()
        given = kind.fit_together([node for _, node in those], dict(self._parameters), dict(self._config))
        share = (time.perf_counter() - began) / len(those)
        self._ready.update({row: (result, share) for (row, _), result in zip(those, given, strict=True)})


def _fits_together(kind: type) -> int:
    """How many nodes of a class fit together; 1 where the class has a `fit` that `fit_together` knows nothing of."""
    most = int(getattr(kind, "fits_together", 1))
    if most < 2:
        return 1
    fit = next(one for one in kind.__mro__ if "fit" in vars(one))
    return most if "fit_together" in vars(fit) else 1
