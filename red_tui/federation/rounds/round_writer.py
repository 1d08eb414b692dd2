"""Rounds on their way to the disk: written beside the next round, and counted in order once they are there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from red_tui.federation.reports import CheckpointStore, NodeStates
from red_tui.federation.state import FederationState
from red_tui.nodes.failures import first_sentence
from red_tui.protocol.events import TRACE
from red_tui.rounds.history import RoundResult

GRACE = 0.25
"""Seconds that a round waits for its own checkpoint before the next one begins beside it: most are written by then."""

SPAWN = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


@dataclass
class FinishedRound:
    """A round that is over, and counts when it is on disk.

    Attributes:
        result: What came of it.
        parameters: Reference to its parameters.
        groups: By group a reference to further arrays of the checkpoint.
        extra: Further plain data of the checkpoint.
        states: Gives what nodes keep, where checkpoints hold that.
        digests: Gives what its record says of its bytes, where no checkpoint tells that.
        told: The same, if the server told it with the round.
    """

    result: RoundResult
    parameters: Any
    groups: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    states: Callable[[], Coroutine[Any, Any, NodeStates]] | None = None
    digests: Callable[[], Coroutine[Any, Any, Mapping[str, str]]] | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    saving: asyncio.Task[dict[str, Any]] | None = None

    @property
    def number(self) -> int:
        """Its number."""
        return self.result.number


class RoundWriter:
    """Writes finished rounds one after another, each as long as it takes.

    At most one round is being written while the next one runs; a second that is finished waits, and the federation
    says so as long as its rounds outrun the disk.

    Args:
        state: The federation's state.
        spawn: Runs a coroutine in the background.
        count: Is told of each round that is on disk, or that cannot be written, in order.
        stopped: Whether the run was told to stop now: what is finished is brought to the disk all the same.
    """

    def __init__(
        self,
        state: FederationState,
        spawn: SPAWN,
        count: Callable[[RoundResult], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._state, self._spawn, self._count, self._stopped = state, spawn, count, stopped
        self.pending: FinishedRound | None = None
        self.written = False
        """Whether a checkpoint has been written since this process began."""

    @property
    def sound(self) -> bool:
        """Whether the last checkpoint was written: a round may then begin before the one in hand is on disk.

        The first one of a process waits for the process that writes, which has to start: no disk is slow for that.
        """
        return self.written and "checkpoint" not in self._state.troubles

    async def put(self, finished: FinishedRound, *, beside: bool) -> None:
        """Begin to write a round, after the one before it.

        Args:
            finished: The round.
            beside: Whether the next round may begin before this one is on disk.
        """
        await self._wait_for_disk()
        await self.settle()
        keeper = self._state.keeper
        if keeper is None:
            try:
                told = {} if finished.digests is None else await finished.digests()
            except asyncio.CancelledError:
                self._count(finished.result)  # it is over, and nothing else is waited for
                raise
            self._count(replace(finished.result, digests=told))
            return
        values = finished.result.measures
        finished.saving = self._spawn(_save(keeper, finished, values))
        self.pending = finished
        if beside and self.sound:
            await asyncio.wait([finished.saving], timeout=GRACE)
        if not beside or not self.sound or finished.saving.done():
            await self.settle()

    async def _wait_for_disk(self) -> None:
        """A round is finished, and the one before it may not be on disk yet: it is said that rounds wait for that."""
        pending = self.pending
        if pending is None or pending.saving is None:
            return
        if pending.saving.done():
            self._state.trouble("disk", "")
            return
        text = (
            "rounds outrun the disk: each waits until the one before it is written; a faster disk, a smaller model or"
            " rounds.checkpoints: 0 (nothing is kept then) helps"
        )
        self._state.trouble("disk", text)

    async def settle(self) -> None:
        """Return when all that is finished is on disk, or cannot be written, and counts."""
        finished = self.pending
        if finished is None or finished.saving is None:
            return
        while not finished.saving.done():
            try:
                await asyncio.wait([finished.saving])
            except asyncio.CancelledError:
                if not self._stopped():
                    raise
        if self.pending is finished:
            self.pending = None
            told = self._note(finished.result, finished.saving) or dict(finished.told)
            self._count(replace(finished.result, digests=told))

    def _note(self, result: RoundResult, saving: asyncio.Task[dict[str, Any]]) -> dict[str, str]:
        """Tell the journal of a checkpoint, or why there is none; gives the digests of what was written."""
        error = None if saving.cancelled() else saving.exception()
        if error is not None or saving.cancelled():
            why = first_sentence(str(error)) if error is not None else "the federation ends"
            self._state.trouble("checkpoint", f"the parameters cannot be saved: {why}")
            return {}
        self._state.trouble("checkpoint", "")
        self.written = True
        wire = saving.result()
        self._state.record("round", TRACE, f"round {result.number}", "saved", data={"checkpoint": wire})
        self._say_if_no_best(wire, result)
        self._state.trouble("node states in checkpoints", wire.get("unkept", ""))
        return {"parameters": wire["digest"], "state": wire.get("state", "")} if "digest" in wire else {}

    def _say_if_no_best(self, wire: Mapping[str, Any], result: RoundResult) -> None:
        """Tell that the best round cannot be kept, as nobody reports what it is chosen by."""
        keeper, text = self._state.keeper, ""
        if keeper is not None and keeper.measure and "best" not in wire:
            if not result.evaluated and self._state.settings.evaluate_every:
                return  # it may come with an evaluation
            known = sorted(name for name, value in result.measures.items() if math.isfinite(value))
            told = f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}" if known else "no round is measured"
            text = f"no best round is kept: nobody reports what rounds.keep asks for ({keeper.measure}); {told}"
        self._state.trouble("keep", text)


async def _save(keeper: CheckpointStore, finished: FinishedRound, values: Mapping[str, float]) -> dict[str, Any]:
    """Save a round; what nodes keep is left out where it cannot be had, and `unkept` says why."""
    given = finished.number, finished.parameters, finished.groups, values, finished.extra
    if finished.states is None:
        return await keeper.save(*given)
    try:
        return await keeper.save(*given, states=await finished.states())
    except Exception as error:
        wire = await keeper.save(*given)
        why = first_sentence(str(error), 300)
        return {**wire, "unkept": f"what nodes keep is not in the checkpoint of round {finished.number}: {why}"}
