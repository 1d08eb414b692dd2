"""The verb that takes a federation up again after its supervisor's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from red_tui.federation.changing import Changing
from red_tui.federation.recovery import Found, Joined, Past, adopt, remember, rows_of_ranges, take_parameters
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
            had = remember(lifecycle, past)
            found = await adopt(lifecycle, past, had, actors)
            if past.damage:
                state.trouble("journal damage", past.damage)
                state.record("federation", "error", "journal", past.damage)
            reference, holder = await take_parameters(lifecycle, runner.completed, found, bool(past.damage))
            completed = runner.completed
            runner.take_over(completed, reference, holder)
            if runner.gossips and reference is not None:
                found.models, found.from_mean = await runner.gossip.take_over(completed)
            state.record("federation", "warn", state.fed_id, f"taken up again after round {completed}: {found}")
            if past.interrupted is not None and past.interrupted > completed:
                text = "interrupted by the end of the supervisor: it does not count"
                state.record("round", "warn", f"round {past.interrupted}", text, data={"stopped": past.interrupted})
            if past.run is not None and past.run[0] > completed:
                among = None if past.among is None else rows_of_ranges(past.among)
                runner.start(past.run[0] - completed, past.run[1], resumed=True, among=among)
            return found

        return self._engine.wait(take_up())

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
