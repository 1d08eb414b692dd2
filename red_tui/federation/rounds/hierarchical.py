"""Rounds in a hierarchy: each group's updates are added up by its aggregator, level by level, up to the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np

from red_tui.aggregation.answers import Contribution, in_order
from red_tui.aggregation.server import rows_of
from red_tui.federation.lifecycle.bundle_nodes import is_death
from red_tui.federation.lifecycle.lifecycle import Lifecycle
from red_tui.federation.lifecycle.node_set import handle_of
from red_tui.federation.rounds.bundle_phase import cause_of, forgive, set_idle
from red_tui.federation.state import FederationState
from red_tui.messaging import Topology
from red_tui.nodes.failures import Cause
from red_tui.nodes.hierarchy import AGGREGATOR_ROLE
from red_tui.nodes.states import BUILDABLE, NodeState
from red_tui.nodes.table import IntArray
from red_tui.rounds.loop import Turn
from red_tui.rounds.ray_calls import answer_of

Turns = Callable[[IntArray, float], AsyncIterator[Turn]]


class HierarchicalAggregation:
    """Who adds whose updates up.

    Here are rows and references; updates go from the nodes to their aggregator, and means from there upwards,
    through the object store.
    """

    def __init__(self, lifecycle: Lifecycle, turns: Turns) -> None:
        self._lifecycle, self._turns = lifecycle, turns
        self._state = lifecycle.state
        self._known: tuple[Topology, IntArray] | None = None

    @property
    def rows(self) -> IntArray:
        """Rows of the aggregators."""
        table = self._state.table
        return np.flatnonzero(table.with_role(AGGREGATOR_ROLE) & table.present())

    def parents(self) -> IntArray:
        """Row of the aggregator (or of the server) above each row; -1 for none."""
        topology = self._state.topology.current()
        if self._known is None or self._known[0] is not topology:
            row_of = self._state.table.row_of
            parents = np.full(len(self._state.table), -1, dtype=np.int64)
            above: dict[str, int] = {}
            for node_id, parent in topology.parents.items():
                row = row_of(node_id)
                if parent not in above:
                    found = row_of(parent)
                    above[parent] = -1 if found is None else found
                if row is not None:
                    parents[row] = above[parent]
            self._known = topology, parents
        return self._known[1]

    def groups_of(self, rows: IntArray) -> IntArray:
        """The aggregator of each of some nodes."""
        return np.asarray(self.parents()[rows])

    async def prepare(self, rows: IntArray) -> None:
        """Start the aggregators of some nodes together with these, where there are places for all of them.

        Where there are not, they take their turn when the clients have worked.
        """
        lifecycle, state = self._lifecycle, self._state
        hosts_all = state.hosting.isolation == "bundle" and state.hosting.capacity is None
        if hosts_all or state.num_clients < len(lifecycle.pool):
            inner = aggregators_above(state, rows)
            await lifecycle.replace_needed(inner, None)
            missing = inner[state.table.in_states(BUILDABLE)[inner]]
            if len(missing):
                await lifecycle.ensure_pool()
                await lifecycle.build(lifecycle.plan(missing), wait=False)

    async def aggregate_groups(
        self, number: int, contributions: Sequence[Contribution], timeout: float
    ) -> tuple[list[Contribution], dict[int, str]]:
        """Means of the groups below the server, and why the nodes of others do not count.

        A group counts once, with the one mean that its aggregator gave, or not at all.
        """
        parents, server = self.parents(), self._state.server_row
        gathered: dict[int, list[Contribution]] = {}
        for part in contributions:
            gathered.setdefault(int(parents[int(part.rows[0])]), []).append(part)
        lost: dict[int, str] = {}
        hierarchy = self._state.topology.current().rule.hierarchy
        assert hierarchy is not None
        ids = self._state.table.ids
        depths = {row: hierarchy.depth(ids[row]) for row in self.rows.tolist()}
        for depth in range(max(depths.values(), default=0), 0, -1):
            level = np.asarray([row for row in gathered if depths.get(row) == depth], dtype=np.int64)
            for row, found in (await self._level(number, level, gathered, timeout)).items():
                parts = gathered.pop(row)
                if isinstance(found, str):
                    text = f"its aggregator {ids[row]} {found}"
                    lost.update(dict.fromkeys(rows_of(parts).tolist(), text))
                    self._state.record(
                        "round", "warn", ids[row], f"its group does not count in round {number}: {found}"
                    )
                else:
                    gathered.setdefault(int(parents[row]), []).append(found)
        made = in_order(gathered.pop(server, []))
        for parts in gathered.values():
            lost.update(dict.fromkeys(rows_of(parts).tolist(), "no aggregator stands above it any more"))
        return made, lost

    async def _level(
        self, number: int, rows: IntArray, gathered: dict[int, list[Contribution]], timeout: float
    ) -> dict[int, Contribution | str]:
        """What the aggregators of one level make of their groups: a mean, or why there is none."""
        found: dict[int, Contribution | str] = {}
        todo, tries = rows, 0
        while len(todo):
            again: list[int] = []
            tries += 1
            await self._lifecycle.replace_needed(todo, timeout)
            async for turn in self._turns(todo, timeout):
                for row, why in turn.missing.items():
                    found[row] = f"could not be built: {why}"
                asked = [(row, self._ask(number, row, in_order(gathered[row]))) for row in turn.rows.tolist()]
                answers = await asyncio.gather(*(answer for _, answer in asked))
                set_idle(self._lifecycle, turn.rows)
                for (row, _), (made, why, died) in zip(asked, answers, strict=True):
                    found[row] = made if made is not None else why
                    if died:
                        again.append(row)
            todo = self._lifecycle.decide_needed(np.asarray(again, dtype=np.int64), tries).rows
        return found

    async def _ask(self, number: int, row: int, parts: Sequence[Contribution]) -> tuple[Contribution | None, str, bool]:
        """One aggregator adds its group up; its contribution, or why there is none, and whether its process died."""
        state, deadline = self._state, self._state.settings.deadline
        handle = handle_of(state, row)
        if handle is None:
            return None, "has no process any more", True
        state.set_state(row, NodeState.BUSY)
        process, host = state.processes.get(row), state.bundle_actors.get(state.table.value("bundle", row))
        told = [(part.kind, list(part.weights)) for part in parts]
        mean, reported = handle.red_add_up.options(num_returns=2).remote(
            number, told, *(part.reference for part in parts)
        )
        try:
            report = await answer_of(reported, deadline)
        except TimeoutError:
            return None, f"did not add its group up within {deadline:g} s", False
        except Exception as error:
            cause, dead = cause_of(state, row, error), is_death(error)
            if dead and process is not None:
                self._lifecycle.process_failed(row, process, cause)
            elif dead and host is not None:
                self._lifecycle.bundle_actor_died(host, cause)
            return (
                None,
                f"died: {cause.text}" if dead else f"could not add its group up: {cause.text}",
                dead or cause.unsure,
            )
        if "error" in report:
            cause = Cause(f"{report['where']} raised {report['error']}", report["traceback"])
            forgive(self._lifecycle, "add_up", {row: cause})
            return None, f"could not add its group up: {cause.text}", False
        asked = min(part.place[0] for part in parts)
        return Contribution("mean", mean, rows_of(parts), [float(report["total"])], asked), "", False


def aggregators_above(state: FederationState, rows: IntArray) -> IntArray:
    """Rows of the aggregators between some nodes and the server; none in other shapes."""
    if state.topology.rule.hierarchy is None:
        return np.empty(0, dtype=np.int64)
    parents = state.topology.current().parents
    found: dict[str, None] = {}
    for node_id in state.table.ids.take(rows):
        above = parents.get(node_id)
        while above is not None and above in parents and above not in found:
            found[above] = None
            above = parents.get(above)
    known = [row for row in map(state.table.row_of, found) if row is not None]
    return np.asarray(sorted(known), dtype=np.int64)
