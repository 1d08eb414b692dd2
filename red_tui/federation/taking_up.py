"""The verb that takes a federation up again after its supervisor's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.aggregation.strategies import remembers
from red_tui.federation.changing import Changing
from red_tui.federation.elastic import Elastic
from red_tui.federation.lifecycle import Lifecycle
from red_tui.federation.recovery import Found, Joined, Past, adopt, remember, rows_of_ranges, take_parameters
from red_tui.federation.runner import RoundRunner
from red_tui.federation.state import FederationState
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import IntArray


class TakingUp(Changing):
    """A federation that can be taken up again."""

    def take_up(self, past: Past, groups: Sequence[Any], actors: Mapping[str, Any]) -> Found:
        """Go on where a federation of the same parts ended: its table, rounds and parameters, and what lives of it.

        Args:
            past: What its journal says.
            groups: Its placement groups, in order; none if they are gone.
            actors: Handles of its named actors by the name after `FED/`, the supervisor's excepted.
        """
        for joined in past.joined:
            self._join(joined, past.states)
        if groups:
            self._state.pool = self._pool_maker().existing(groups)
        lifecycle, runner = self._ready()

        async def take_up() -> Found:
            state = self._state
            had = remember(state, past)
            found = await adopt(lifecycle, past, had, actors)
            completed = await _take_over_rounds(lifecycle, runner, past, found)
            state.record("federation", "warn", state.fed_id, f"taken up again after round {completed}: {found}")
            _tell_interrupted(state, past, "the supervisor")
            if past.run is not None and past.run[0] > completed:
                among = None if past.among is None else rows_of_ranges(past.among)
                runner.start(past.run[0] - completed, past.run[1], resumed=True, among=among)
            return found

        return self._engine.wait(take_up())

    def resume(self, past: Past) -> None:
        """Go on where a federation of the same parts ended that has no processes any more.

        Table and history are taken over at once; the parameters are loaded at the first verb that needs Ray.
        """
        for joined in past.joined:
            self._join(joined, past.states)

        async def take_over() -> None:
            remember(self._state, past)
            self._state.set_round(number=self._state.completed)

        self._engine.wait(take_over())
        self._past = past

    def _ready(self) -> tuple[Elastic, RoundRunner]:
        lifecycle, runner = super()._ready()
        with self._resuming:
            past, self._past = self._past, None
            if past is not None:
                self._engine.wait(self._load_past(lifecycle, runner, past))
        return lifecycle, runner

    async def _load_past(self, lifecycle: Elastic, runner: RoundRunner, past: Past) -> None:
        found = Found()
        completed = await _take_over_rounds(lifecycle, runner, past, found)
        source = f": parameters from {found.parameters_from}" if found.parameters_from else ""
        self._state.record("federation", "info", self.fed_id, f"resumed after round {completed}{source}")
        _tell_interrupted(self._state, past, "the script")

    def _join(self, joined: Joined, states: IntArray) -> None:
        """Append the rows of nodes that joined; nobody is in those of whom it is not known who they were."""
        table, removed = self.table, NodeState.REMOVED
        # An id may have come back after its node had left.
        table.set(np.flatnonzero(states[: len(table)] == removed.code), state=removed)
        template, lost = joined.template or self._spec.groups[-1].template, joined.lost
        try:
            rows = self._append(joined.ids, joined.role, template, {})
        except ValueError as error:
            self._state.log.error("nodes that joined are left out: %s", error)
            rows = self._append(PatternIds("lost_", "", len(table), len(joined.ids)), "train", template, {})
            lost = True
        if lost:
            states[rows.start : rows.stop] = removed.code


async def _take_over_rounds(lifecycle: Lifecycle, runner: RoundRunner, past: Past, found: Found) -> int:
    """Go on with the parameters of the last finished round; gives its number."""
    state = lifecycle.state
    if past.damage:
        state.trouble("journal damage", past.damage)
        state.record("federation", "error", "journal", past.damage)
    reference, holder = await take_parameters(lifecycle, runner.completed, found, bool(past.damage))
    completed = runner.completed
    runner.take_over(completed, reference, holder)
    name = str(state.settings.choice["name"])
    if reference is not None and holder is None and remembers(name):
        text = f"strategy {name} begins without what it remembered of earlier rounds: checkpoints hold parameters only"
        state.record("federation", "warn", state.fed_id, text)
    if runner.gossips and reference is not None:
        found.models, found.from_mean = await runner.gossip.take_over(completed)
    return completed


def _tell_interrupted(state: FederationState, past: Past, ended: str) -> None:
    """Note that a round had begun that does not count."""
    if past.interrupted is not None and past.interrupted > state.completed:
        text = f"interrupted by the end of {ended}: it does not count"
        state.record("round", "warn", f"round {past.interrupted}", text, data={"stopped": past.interrupted})
