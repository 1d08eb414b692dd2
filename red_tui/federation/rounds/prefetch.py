"""The next round, begun while the server is at the parameters of the round in hand.

Nodes in hosts that are done in milliseconds would else wait for the word of the server to come here and for the next
call to go out, which takes as long as their work does.  They are called with parameters that are still to be made:
Ray hands them over as soon as the server has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from red_tui.aggregation.answers import Contribution
from red_tui.federation.rounds.phase import PhaseRunner
from red_tui.federation.state import FederationState
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray
from red_tui.rounds.ray_calls import discard


def discard_call(call: tuple[Any, ...]) -> None:
    """Nobody asks for what a call of the server gives: parameters, report, and what goes with the parameters."""
    parameters, report, *others = call
    discard(report, parameters, *others)


@dataclass(frozen=True)
class PrefetchedRound:
    """A round that nodes have begun, or begin as soon as its parameters are there.

    Attributes:
        number: Its number.
        rows: Who takes part.
        parameters: Reference to what they start from.
        work: Their work, which is held until the round is in hand.
        server: The server that makes its parameters.
        ahead: What the server makes of it as soon as it has it: parameters, report and what goes with them; or None.
    """

    number: int
    rows: IntArray
    parameters: Any
    work: PhaseRunner
    server: Any
    ahead: tuple[Any, ...] | None

    def forget(self) -> None:
        """Nobody asks for what the server makes of it."""
        if self.ahead is not None:
            discard_call(self.ahead)


class RoundPrefetch:
    """Does early what the round loop asks for later: the server's call, and the next round.

    The loop does not know of it: it asks for a round's nodes, for their work and for the server's answer, and gets what
    was begun, where that counts.

    Args:
        state: The federation's state.
        choose_idle: Rows that would take part in a round if it began now.
        make_work: The work of nodes in a round, held until the round is in hand: of rows, parameters and a number.
        memoryless: Whether a step of the strategy that does not count leaves no trace in the server.
        asks_nodes: Whether something is asked before a round (each node, whether it takes part; the strategy, what it
            tells the nodes): then no round begins ahead.
        returns: How many things a call of the server gives.
    """

    def __init__(
        self,
        state: FederationState,
        choose_idle: Callable[[int], IntArray],
        make_work: Callable[[IntArray, Any, int], PhaseRunner],
        *,
        memoryless: bool,
        asks_nodes: bool,
        returns: int = 2,
    ) -> None:
        self._state = state
        self._choose_idle, self._make_work = choose_idle, make_work
        self._memoryless, self._asks_nodes, self._returns = memoryless, asks_nodes, returns
        self.begun: PrefetchedRound | None = None
        self._call: tuple[Any, ...] | None = None
        """What the server makes of the round in hand: parameters, report and what goes with them."""
        self._promised: Sequence[Any] = ()
        """References to what it makes them of."""

    @property
    def _server_alone(self) -> bool:
        """Whether a server aggregates, and nobody between it and the nodes."""
        rule = self._state.topology.rule
        return rule.served and rule.hierarchy is None

    # -- the server's call -------------------------------------------------------------------------

    def call_server(self, number: int, server: Any, work: PhaseRunner) -> None:
        """Let the server aggregate what hosts are going to give as soon as they have.

        Nothing happens where it is not known yet where that will lie, where a step that does not count leaves a trace,
        and where there is more to be done with it first (gossip, aggregators on the way).
        """
        self._promised, self._call = work.promised, None
        begun = self.begun
        if begun is not None and work is begun.work:
            self.begun = None
            if begun.server is server:
                self._call = begun.ahead
                return
            # The server has been rebuilt since.
            begun.forget()
        self._call = self._called(number, server, work)

    def _called(self, number: int, server: Any, work: PhaseRunner) -> tuple[Any, ...] | None:
        if not work.promised or not self._memoryless or not self._server_alone:
            return None
        call = server.red_aggregate_ahead.options(num_returns=self._returns).remote(number, *work.promised)
        return tuple(call)

    def answer_of_server(
        self, number: int, server: Any, contributions: Sequence[Contribution], complete: bool
    ) -> tuple[Any, ...] | None:
        """The answer to an early call, if it counts: it was made of what the nodes gave.

        Where the round is complete, the nodes of the next one begin as soon as the server has made their parameters.
        """
        call, self._call = self._call, None
        if call is None:
            return None
        if {part.reference for part in contributions} != set(self._promised):
            discard_call(call)
            return None
        if complete:
            self._begin_next(number, server, call[0])
        return call

    # -- the next round ----------------------------------------------------------------------------

    def _begin_next(self, number: int, server: Any, parameters: Any) -> None:
        """Call the nodes of the next round with parameters that are still to be made."""
        if self._asks_nodes or not self.may_begin(number):
            return
        rows = self._choose_idle(number + 1)
        if self.at_hand(rows):
            work = self._make_work(rows, parameters, number + 1)
            ahead = self._called(number + 1, server, work)
            self.begun = PrefetchedRound(number + 1, rows, parameters, work, server, ahead)

    def may_begin(self, number: int) -> bool:
        """Whether nothing has to be seen to between a round and the next, as far as the state tells.

        A run that ends by what its rounds bring, terms or a topology that were changed, nodes that judge: these come
        before the next round.  And where a supervisor may have to be followed by another, the server must never be
        further than one round from what the journal says: it holds no more than two.
        """
        state = self._state
        status, terms = state.round, state.terms
        if status.target is None or number >= status.target or status.until is not None or status.stopping:
            return False
        if state.detached or state.keeps_node_states or terms.now is not terms.next or not self._server_alone:
            return False
        judged = state.evaluator is not None or bool(state.table.with_role("eval").any())
        return not (terms.now.settings.evaluates(number) and judged)

    def at_hand(self, rows: IntArray) -> bool:
        """Whether all of `rows` are ready, and in hosts."""
        state = self._state
        ready = state.table.in_states((NodeState.READY,))[rows]
        return len(rows) > 0 and bool(ready.all() and state.hosted(rows).all())

    async def rows_of(self, number: int) -> IntArray | None:
        """Rows of the nodes that have begun a round; None if none have, or if it does not count after all."""
        self._call = None
        begun = self.begun
        if begun is None:
            return None
        same = begun.number == number and begun.parameters is self._state.parameters
        if not same or not self._server_alone:
            await self.drop()
            return None
        return begun.rows

    def has(self, rows: IntArray) -> bool:
        """Whether these are the rows of the round that was begun: the same array."""
        return self.begun is not None and rows is self.begun.rows

    def started(self, rows: IntArray) -> PhaseRunner | None:
        """The work of these rows, if they have begun the round already: it is in hand from now on."""
        if self.begun is None or not self.has(rows):
            return None
        self.begun.work.start()
        return self.begun.work

    async def drop(self) -> None:
        """What was begun does not count."""
        begun, self.begun = self.begun, None
        if begun is not None:
            begun.forget()
            await begun.work.drop()
