"""The next round, begun while the server is at the parameters of the round in hand.

Nodes in hosts that are done in milliseconds would else wait for the word of the server to come here and for the next
call to go out, which takes as long as their work does.  They are called with parameters that are still to be made:
Ray hands them over as soon as the server has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from red_tui.federation.rounds.phase import PhaseRunner
from red_tui.federation.state import FederationState
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray
from red_tui.rounds.ray_calls import discard


@dataclass(frozen=True)
class PrefetchedRound:
    """A round that nodes have begun, or begin as soon as its parameters are there.

    Attributes:
        number: Its number.
        rows: Who takes part.
        parameters: Reference to what they start from.
        work: Their work, which is held until the round is in hand.
        server: The server that makes its parameters.
        ahead: What the server makes of it as soon as it has it: parameters and report; or None.
    """

    number: int
    rows: IntArray
    parameters: Any
    work: PhaseRunner
    server: Any
    ahead: tuple[Any, Any] | None

    def forget(self) -> None:
        """Nobody asks for what the server makes of it."""
        if self.ahead is not None:
            discard(*reversed(self.ahead))


class RoundPrefetch:
    """Holds the round that was begun ahead, until it is in hand or does not count."""

    def __init__(self, state: FederationState) -> None:
        self._state = state
        self.begun: PrefetchedRound | None = None

    def may_begin(self, number: int) -> bool:
        """Whether nothing has to be seen to between a round and the next, as far as the state tells.

        A run that ends by what its rounds bring, terms or a topology that were changed, nodes that judge: these come
        before the next round.  And where a supervisor may have to be followed by another, the server must never be
        further than one round from what the journal says: it holds no more than two.
        """
        state = self._state
        status, terms, rule = state.round, state.terms, state.topology.rule
        if status.target is None or number >= status.target or status.until is not None or status.stopping:
            return False
        if state.detached or terms.now is not terms.next or not rule.served or rule.hierarchy is not None:
            return False
        return not (terms.now.settings.evaluates(number) and state.table.with_role("eval").any())

    def at_hand(self, rows: IntArray) -> bool:
        """Whether all of `rows` are ready, and in hosts."""
        state = self._state
        ready = state.table.in_states((NodeState.READY,))[rows]
        return len(rows) > 0 and bool(ready.all() and state.hosted(rows).all())

    async def rows_of(self, number: int) -> IntArray | None:
        """Rows of the nodes that have begun a round; None if none have, or if it does not count after all."""
        begun, rule = self.begun, self._state.topology.rule
        if begun is None:
            return None
        same = begun.number == number and begun.parameters is self._state.parameters
        if not same or not rule.served or rule.hierarchy is not None:
            await self.drop()
            return None
        return begun.rows

    def has(self, rows: IntArray) -> bool:
        """Whether these are the rows of the round that was begun: the same array."""
        return self.begun is not None and rows is self.begun.rows

    def take(self) -> PrefetchedRound | None:
        """What was begun is in hand, or does not count: it is not held here any more."""
        begun, self.begun = self.begun, None
        return begun

    async def drop(self) -> None:
        """What was begun does not count."""
        begun = self.take()
        if begun is not None:
            begun.forget()
            await begun.work.drop()
